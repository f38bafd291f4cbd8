use std::collections::BTreeMap;
use std::io::Error;
use std::sync::Mutex;

use redb::StorageBackend;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::store::write::tests::options;
use crate::store::{Options, Part, Preconditions, Refusal, Store};

/// A disk whose power may fail.
#[derive(Debug, Default)]
struct Platter {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Since the last sync.
    written: Vec<(usize, Vec<u8>)>,
    /// Operations until one fails.
    left: Option<u32>,
    /// Then all of them do.
    dead: bool,
}

#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Faulty(Arc<Mutex<Platter>>);

impl Faulty {
    fn operate<T>(&self, act: impl FnOnce(&mut Platter) -> T) -> Result<T, Error> {
        let mut platter = self.0.lock().unwrap();
        if platter.dead || platter.left == Some(0) {
            platter.left = None;
            return Err(Error::other("no power"));
        }
        platter.left = platter.left.map(|left| left - 1);
        Ok(act(&mut platter))
    }

    fn opener(&self) -> Open {
        let disk = self.clone();
        Box::new(move |_| Database::builder().create_with_backend(disk.clone()))
    }

    /// What the disk holds when the power is back: everything that was synced, and some of what was not.
    fn after_power_cut(&self, random: &mut fastrand::Rng) -> Self {
        let platter = self.0.lock().unwrap();
        let mut durable = platter.durable.clone();
        for (offset, bytes) in &platter.written {
            // A sector is written whole or not at all.
            for (sector, bytes) in bytes.chunks(512).enumerate() {
                let offset = offset + sector * 512;
                if random.bool() && offset + bytes.len() <= platter.now.len() {
                    durable.resize(durable.len().max(offset + bytes.len()), 0);
                    durable[offset..offset + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        let platter = Platter { now: durable.clone(), durable, ..Platter::default() };
        Self(Arc::new(Mutex::new(platter)))
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, Error> {
        self.operate(|platter| platter.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let offset = offset as usize;
        self.operate(|platter| out.copy_from_slice(&platter.now[offset..offset + out.len()]))
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        // The length is kept by a journal of the file system.
        self.operate(|platter| {
            platter.now.resize(len as usize, 0);
            platter.durable.resize(len as usize, 0);
        })
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.operate(|platter| {
            platter.durable = platter.now.clone();
            platter.written.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let offset = offset as usize;
        self.operate(|platter| {
            platter.now[offset..offset + data.len()].copy_from_slice(data);
            platter.written.push((offset, data.to_vec()));
        })
    }
}

pub(in crate::store) fn store_on(disk: &Faulty) -> Result<Store, Failure> {
    open_with(options(), disk)
}

pub(in crate::store) fn open_with(options: Options, disk: &Faulty) -> Result<Store, Failure> {
    let (disk, kept) = Disk::with(disk.opener())?;
    Ok(Store::with_disk(options, disk, kept))
}

fn service(name: &str, text: &str) -> Value {
    json!({
        "metadata": {"name": name, "annotations": {"text": text}},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    })
}

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// What a client may see: by name, the JSON of every Service.
fn shown(store: &Store) -> BTreeMap<String, String> {
    let services = store.list(Resource::Services, None);
    services.map(|document| (document.key.name.to_string(), document.json.to_string())).collect()
}

/// Some writes; after each that is acknowledged, what there is.
fn write_some(store: &mut Store, mut acknowledged: impl FnMut(&Store)) -> Result<(), Refusal> {
    let long = "x".repeat(9000);
    for (step, text) in ["a", &long, "b", "c", &long, "d"].into_iter().enumerate() {
        let name = ["one", "two", "three"][step % 3];
        if store.get(Resource::Services, &key(name)).is_some() {
            store.update(Resource::Services, &key(name), Part::Main, service(name, text), false)?;
        } else {
            store.create(Resource::Services, service(name, text), false)?;
        }
        acknowledged(store);
    }
    store.delete(Resource::Services, &key("two"), &Preconditions::default(), false)?;
    acknowledged(store);
    Ok(())
}

#[test]
fn a_power_cut_at_any_instant_loses_nothing_that_was_acknowledged() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cut = 0;
    loop {
        let disk = Faulty::default();
        let mut store = store_on(&disk).unwrap();
        disk.0.lock().unwrap().left = Some(cut);
        let (mut before, mut version) = (shown(&store), store.version());
        let mut finished = write_some(&mut store, |store| {
            (before, version) = (shown(store), store.version());
        });
        if let Err(refusal) = &finished {
            assert!(matches!(refusal, Refusal::Internal(_)), "{refusal}");
            assert_eq!(
                (shown(&store), store.version()),
                (before.clone(), version),
                "cut {cut}: nothing happened"
            );
        }
        disk.0.lock().unwrap().dead = true;
        let again =
            store_on(&disk.after_power_cut(&mut random)).unwrap_or_else(|e| panic!("cut {cut}: {e:?}"));
        let after = shown(&again);
        if after != before {
            // Only the write that was refused may have happened nevertheless.
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            let other = names.iter().filter(|name| before.get(**name) != after.get(**name)).count();
            assert!(finished.is_err() && other == 1, "cut {cut}: {before:?} became {after:?}");
        }
        assert!(again.version() >= version, "cut {cut}");
        let ports =
            |store: &Store| -> Vec<_> { store.world().services.values().map(|s| s.ports.clone()).collect() };
        assert_eq!(ports(&again).len(), after.len(), "cut {cut}");
        if std::mem::replace(&mut finished, Ok(())).is_ok() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 20, "{cut}");
}

#[test]
fn after_an_error_of_the_disk_the_next_write_works_and_the_file_says_the_same_as_the_memory() {
    for fault in 0..60 {
        let disk = Faulty::default();
        let mut store = store_on(&disk).unwrap();
        store.create(Resource::Services, service("one", "a"), false).unwrap();
        disk.0.lock().unwrap().left = Some(fault);
        let refused = write_some(&mut store, |_| {}).is_err();
        disk.0.lock().unwrap().left = None;
        store.create(Resource::Services, service("last", "z"), false).unwrap();
        let before = shown(&store);
        drop(store);
        assert_eq!(shown(&store_on(&disk).unwrap()), before, "fault {fault}, refused {refused}");
    }
}

fn open(dir: &Path) -> Result<Store, Problem> {
    Store::open(options(), Some(dir))
}

#[test]
fn everything_is_there_again_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("deep/state");
    let mut store = open(&state).unwrap();
    store.create(Resource::Namespaces, json!({"metadata": {"name": "shop"}}), false).unwrap();
    let mut first = service("web", "1");
    first["metadata"]["namespace"] = "shop".into();
    store.create(Resource::Services, first, false).unwrap();
    let pod = json!({
        "metadata": {"name": "a", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    store.create(Resource::Pods, pod, false).unwrap();
    let mut selecting = service("sel", "2");
    selecting["spec"]["selector"] = json!({"app": "web"});
    store.create(Resource::Services, selecting, false).unwrap();
    store.create(Resource::Services, service("gone", "3"), false).unwrap();
    store.delete(Resource::Services, &key("gone"), &Preconditions::default(), false).unwrap();
    let (version, world, before) = (store.version(), store.world(), shown(&store));
    drop(store);

    let store = open(&state).unwrap();
    assert!(store.version() > version, "{} > {version}", store.version());
    assert_eq!(shown(&store), before);
    assert_eq!(store.world().services, world.services);
    assert_eq!(store.world().slices, world.slices);
    assert!(store.get(Resource::Namespaces, &NamespacedName::new("", "shop")).is_some());
    assert!(store.events_since(Resource::Services, version).is_err(), "a watcher has to list again");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let mut store = open(&state).unwrap();
    for name in ["a", "b", "c"] {
        store.create(Resource::Services, service(name, &"x".repeat(3000)), false).unwrap();
    }
    let told = open(&state).unwrap_err().to_string();
    let expected = ": the state directory is in use by another process (stop the other ringport, or give this one a \
                    --state-dir of its own)";
    assert_eq!(told, format!("{}{expected}", state.display()));
    drop(store);

    let file = state.join(FILE);
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let at = whole.windows(100).position(|bytes| bytes == [b'x'; 100]).unwrap();
    damaged[at + 50] = b'y';
    for broken in [damaged, b"not a database at all".to_vec(), whole[..whole.len() / 2].to_vec()] {
        std::fs::write(&file, &broken).unwrap();
        let told = open(&state).unwrap_err().to_string();
        assert!(
            told.contains("is damaged: objects.redb: ") && told.contains("put a copy of it back"),
            "{told}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), broken, "nothing is overwritten");
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(shown(&open(&state).unwrap()).len(), 3);

    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let told = open(&blocked).unwrap_err().to_string();
    assert!(told.contains("the state directory cannot be made: "), "{told}");
}

#[test]
fn a_newer_format_is_refused() {
    let disk = Faulty::default();
    let database = disk.opener()(Time::First).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(NUMBERS).unwrap().insert("format", FORMAT + 1).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(matches!(store_on(&disk), Err(Failure::Newer(2))));
}
