use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::store::Options;

struct Fixture {
    dir: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let options = Options {
            node_port_range: 30000..=32767,
            cluster_ip_range: "10.96.0.0/16".parse().unwrap(),
            node_name: "here".into(),
        };
        Self { dir: TempDir::new().unwrap(), store: Store::new(options) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn manifests(&self, names: &[&str]) -> Manifests {
        Manifests::new(names.iter().map(|name| Input::Path(self.path(name))).collect())
    }

    /// Reloads and returns the new problems, without the name of the directory.
    fn reload(&mut self, manifests: &mut Manifests) -> Vec<String> {
        let prefix = format!("{}/", self.dir.path().display());
        let problems = manifests.reload(&mut self.store);
        problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }

    /// The names of the Services in force.
    fn services(&self) -> Vec<String> {
        self.store.world().services.keys().map(|key| key.name.to_string()).collect()
    }
}

const NOTHING: [String; 0] = [];

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, ports: [{{port: 80}}]}}\n"
    )
}

#[test]
fn a_directory_is_read_by_extension_and_not_recursively() {
    let mut f = Fixture::new();
    for name in ["a.yaml", "b.yml", "d.txt", "e.yaml~", ".f.yml.swp"] {
        f.write(name, &service(&name.replace(['.', '~'], "")));
    }
    f.write("c.json", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {"ports": [{"port": 1}]}}"#);
    fs::create_dir(f.path("sub.yml")).unwrap();
    f.write("sub.yml/g.yml", &service("g"));
    let mut manifests = f.manifests(&["."]);
    assert_eq!(f.reload(&mut manifests), NOTHING);
    assert_eq!(f.services(), ["ayaml", "byml", "c"]);
}

#[test]
fn changed_added_and_removed_files_take_effect() {
    let mut f = Fixture::new();
    f.write("a.yml", &service("one"));
    let mut manifests = f.manifests(&["."]);
    f.reload(&mut manifests);
    let one = f.store.world().services;

    f.write("b.yml", &service("two"));
    assert_eq!(f.reload(&mut manifests), NOTHING);
    assert_eq!(f.services(), ["one", "two"]);
    let key = one.keys().next().unwrap();
    assert!(Arc::ptr_eq(&one[key], &f.store.world().services[key]), "the other file is left alone");

    f.write("b.yml", &service("new"));
    f.reload(&mut manifests);
    assert_eq!(f.services(), ["new", "one"]);

    f.remove("a.yml");
    assert_eq!(f.reload(&mut manifests), NOTHING);
    assert_eq!(f.services(), ["new"]);
}

#[test]
fn a_file_that_does_not_parse_keeps_its_objects_and_is_reported_once() {
    let mut f = Fixture::new();
    f.write("a.yml", &service("one"));
    let mut manifests = f.manifests(&["a.yml"]);
    f.reload(&mut manifests);
    f.write("a.yml", "a: [1\nb: 2\n");
    let problems = f.reload(&mut manifests);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("a.yml:2:") && problems[0].ends_with(" (what it held before stays in force)"),
        "{problems:?}"
    );
    assert_eq!(f.services(), ["one"]);
    assert_eq!(f.reload(&mut manifests), NOTHING);
    assert_eq!(manifests.problems().len(), 1);

    f.write("a.yml", &service("two"));
    assert_eq!(f.reload(&mut manifests), NOTHING);
    assert_eq!((f.services(), manifests.problems()), (vec!["two".to_owned()], vec![]));
}

#[test]
fn an_empty_file_is_one_that_is_about_to_be_written() {
    let mut f = Fixture::new();
    f.write("a.yml", &service("one"));
    let mut manifests = f.manifests(&["a.yml"]);
    f.reload(&mut manifests);
    f.write("a.yml", "");
    assert_eq!(
        f.reload(&mut manifests),
        ["a.yml: there are no objects in it (what it held before stays in force)"]
    );
    assert_eq!(f.services(), ["one"]);
}

#[test]
fn an_object_that_becomes_invalid_keeps_its_last_good_form() {
    let mut f = Fixture::new();
    f.write("a.yml", &(service("one") + "---\n" + &service("two")));
    let mut manifests = f.manifests(&["a.yml"]);
    f.reload(&mut manifests);
    f.write("a.yml", &(service("one").replace("NodePort", "Nodeport") + "---\n" + &service("three")));
    assert_eq!(
        f.reload(&mut manifests),
        [
            "a.yml:4:14: Service default/one: spec.type: Unsupported value: \"Nodeport\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\" (did you mean \"NodePort\"?)"
        ]
    );
    assert_eq!(f.services(), ["one", "three"]);
}

#[test]
fn a_path_that_does_not_exist_is_an_error_until_it_does() {
    let mut f = Fixture::new();
    let mut manifests = f.manifests(&["a.yml"]);
    assert_eq!(
        f.reload(&mut manifests),
        ["a.yml: the path does not exist (name a file or a directory with -f)"]
    );
    assert_eq!(f.reload(&mut manifests), NOTHING);
    f.write("a.yml", &service("one"));
    assert_eq!(f.reload(&mut manifests), NOTHING);
    assert_eq!((f.services(), manifests.problems()), (vec!["one".to_owned()], vec![]));
    f.remove("a.yml");
    assert_eq!(f.reload(&mut manifests).len(), 1);
    assert_eq!(f.services(), NOTHING);
}

#[test]
fn files_that_cannot_be_read() {
    let mut f = Fixture::new();
    f.write("latin.yml", "");
    fs::write(f.path("latin.yml"), b"# caf\xe9\n").unwrap();
    let big = File::create(f.path("big.yml")).unwrap();
    big.set_len(MANIFEST_BYTES + 1).unwrap();
    symlink("nowhere", f.path("dangling.yml")).unwrap();
    let mut manifests = f.manifests(&["."]);
    let prefix = "./";
    let problems: Vec<String> = f.reload(&mut manifests).iter().map(|p| p.replacen(prefix, "", 1)).collect();
    assert_eq!(
        problems,
        [
            "big.yml: is larger than 16 MiB",
            "dangling.yml: cannot be read: No such file or directory (os error 2)",
            "latin.yml:1: the text is not UTF-8 (save the file as UTF-8)",
        ]
    );
}

#[test]
fn problems_between_files_are_reported_once_and_go_away() {
    let mut f = Fixture::new();
    let fixed = |name| service(name).replace("port: 80", "port: 80, nodePort: 30080");
    f.write("a.yml", &fixed("one"));
    f.write("b.yml", &fixed("two"));
    let mut manifests = f.manifests(&["a.yml", "b.yml"]);
    assert_eq!(
        f.reload(&mut manifests),
        [
            "b.yml:4:53: Service default/two: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated (Service default/one has it)"
        ]
    );
    f.write("c.yml", "");
    assert_eq!(f.reload(&mut manifests), NOTHING);
    f.remove("a.yml");
    f.reload(&mut manifests);
    assert_eq!(f.services(), ["two"]);
}

#[test]
fn text_of_the_program_is_an_input_too() {
    let mut f = Fixture::new();
    let text = service("one") + "---\n" + &service("BAD");
    let mut manifests = Manifests::new(vec![Input::Text { name: "demo".into(), text }]);
    assert!(f.reload(&mut manifests)[0].starts_with("demo:8:18: Service default/BAD: metadata.name: "));
    assert_eq!(f.services(), ["one"]);
    assert_eq!(f.reload(&mut manifests), NOTHING);
    assert_eq!(f.services(), ["one"]);
}

#[test]
fn a_file_with_an_old_timestamp_is_read_only_when_it_changes() {
    let f = Fixture::new();
    f.write("a.yml", &service("one"));
    let path = f.path("a.yml");
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(&path).unwrap().set_modified(an_hour_ago).unwrap();
    let (mut file, source) = (Loaded::default(), Source::Path(path.clone()));
    assert!(file.read(&source).unwrap().is_some());
    assert_eq!(file.read(&source), Ok(None));
    f.write("a.yml", &service("two"));
    assert!(file.read(&source).unwrap().is_some());
    assert!(file.read(&source).unwrap().is_some(), "too young to be sure");
}

// === watching ===

const DEADLINE: Duration = Duration::from_secs(10);

/// Watches and gives a receiver of the changes.
fn watch(manifests: &Manifests) -> (Watch, mpsc::Receiver<()>) {
    let (changed, changes) = mpsc::channel();
    let watch = manifests.watch(move || changed.send(()).unwrap_or_default()).unwrap();
    (watch, changes)
}

/// Reloads at each change until these Services are in force.
fn wait_for(f: &mut Fixture, manifests: &mut Manifests, changes: &mpsc::Receiver<()>, expected: &[&str]) {
    while f.services() != expected {
        changes.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{expected:?}: {error}"));
        f.reload(manifests);
    }
}

#[test]
fn changes_of_a_directory_are_noticed() {
    let mut f = Fixture::new();
    let mut manifests = f.manifests(&["."]);
    let (_watch, changes) = watch(&manifests);
    f.write("a.yml", &service("one"));
    wait_for(&mut f, &mut manifests, &changes, &["one"]);
    f.write("a.yml", &service("two"));
    wait_for(&mut f, &mut manifests, &changes, &["two"]);
    f.write("new", &service("three"));
    fs::rename(f.path("new"), f.path("a.yml")).unwrap();
    wait_for(&mut f, &mut manifests, &changes, &["three"]);
    f.remove("a.yml");
    wait_for(&mut f, &mut manifests, &changes, &[]);
}

#[test]
fn a_named_file_may_come_later_and_be_replaced_by_rename() {
    let mut f = Fixture::new();
    let mut manifests = f.manifests(&["a.yml"]);
    f.reload(&mut manifests);
    let (_watch, changes) = watch(&manifests);
    f.write("a.yml", &service("one"));
    wait_for(&mut f, &mut manifests, &changes, &["one"]);
    for name in ["two", "three"] {
        f.write("a.yml.new", &service(name));
        fs::rename(f.path("a.yml.new"), f.path("a.yml")).unwrap();
        wait_for(&mut f, &mut manifests, &changes, &[name]);
    }
}

#[test]
fn a_mounted_config_map_swaps_a_symlink() {
    let mut f = Fixture::new();
    for (version, name) in [("..v1", "one"), ("..v2", "two")] {
        fs::create_dir(f.path(version)).unwrap();
        f.write(&format!("{version}/a.yml"), &service(name));
    }
    symlink("..v1", f.path("..data")).unwrap();
    symlink("..data/a.yml", f.path("a.yml")).unwrap();
    for input in [".", "a.yml"] {
        let mut manifests = f.manifests(&[input]);
        f.reload(&mut manifests);
        let (_watch, changes) = watch(&manifests);
        let (from, to) = if input == "." { ("one", "..v2") } else { ("two", "..v1") };
        assert_eq!(f.services(), [from], "{input}");
        symlink(to, f.path("..data_tmp")).unwrap();
        fs::rename(f.path("..data_tmp"), f.path("..data")).unwrap();
        let expected = if to == "..v2" { "two" } else { "one" };
        wait_for(&mut f, &mut manifests, &changes, &[expected]);
        // The next input starts from nothing.
        let mut nothing = Manifests::new(vec![]);
        nothing.files = std::mem::take(&mut manifests.files);
        nothing.reload(&mut f.store);
    }
}

#[test]
fn the_target_of_a_symlink_is_watched() {
    let mut f = Fixture::new();
    fs::create_dir(f.path("real")).unwrap();
    f.write("real/b.yml", &service("one"));
    symlink("real/b.yml", f.path("a.yml")).unwrap();
    let mut manifests = f.manifests(&["a.yml"]);
    f.reload(&mut manifests);
    let (_watch, changes) = watch(&manifests);
    f.write("real/b.yml", &service("two"));
    wait_for(&mut f, &mut manifests, &changes, &["two"]);
}

#[test]
fn a_directory_that_does_not_exist_cannot_be_watched() {
    let f = Fixture::new();
    let problem = f.manifests(&["no/a.yml"]).watch(|| {}).unwrap_err();
    assert!(problem.to_string().contains("cannot be watched"), "{problem}");
}
