//! Random changes over few names: whatever happens, the documents, the world, the events and the file say the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::persist::tests::{Faulty, open_with};
use super::super::persist::{Id, Record};
use super::super::registry::Owner;
use super::*;
use crate::k8s::decode::decode;
use crate::k8s::model::Service;
use crate::k8s::resource::RESOURCES;

/// So few numbers that they run out.
fn tight() -> Options {
    Options {
        node_port_range: 30000..=30006,
        cluster_ip_range: "10.96.0.0/28".parse().unwrap(),
        node_name: "here".into(),
    }
}

struct Run {
    random: fastrand::Rng,
    disk: Faulty,
    store: Store,
    /// What a watcher of each kind has seen.
    seen: BTreeMap<Resource, BTreeMap<NamespacedName, Arc<str>>>,
    version: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = Faulty::default();
        let store = open_with(tight(), &disk).unwrap();
        let (random, seen) = (fastrand::Rng::with_seed(seed), listed(&store));
        let version = store.version();
        Self { random, disk, store, seen, version }
    }

    fn step(&mut self) -> String {
        match self.random.u8(..13) {
            0..=2 => self.create(),
            3..=5 => self.update(),
            6..=7 => self.delete(),
            8..=10 => self.change_file(),
            11 => self.report(),
            _ => self.restart(),
        }
    }

    fn name(&mut self, kind: &str) -> NamespacedName {
        NamespacedName::new("default", format!("{kind}{}", self.random.u8(..4)))
    }

    fn object(&mut self) -> (Resource, NamespacedName, Value) {
        let (resource, kind) = self
            .random
            .choice([
                (Resource::Services, "s"),
                (Resource::Services, "s"),
                (Resource::Pods, "p"),
                (Resource::EndpointSlices, "e"),
                (Resource::Endpoints, "s"),
            ])
            .unwrap();
        let key = self.name(kind);
        let mut object = match resource {
            Resource::Services => self.service(),
            Resource::Pods => self.pod(),
            Resource::EndpointSlices => json!({
                "addressType": "IPv4", "ports": [{"port": 80}],
                "endpoints": [{"addresses": [format!("10.1.0.{}", self.random.u8(1..5))]}],
            }),
            _ => json!({"subsets": [{
                "addresses": [{"ip": format!("10.2.0.{}", self.random.u8(1..5))}], "ports": [{"port": 80}],
            }]}),
        };
        let labels = match resource {
            Resource::EndpointSlices => json!({"kubernetes.io/service-name": &*self.name("s").name}),
            Resource::Pods => json!({"app": self.random.choice(["a", "b"])}),
            _ => json!({"l": self.random.u8(..3).to_string()}),
        };
        object["metadata"] = json!({"name": &*key.name, "namespace": "default", "labels": labels});
        (resource, key, object)
    }

    fn service(&mut self) -> Value {
        let kind = self.random.choice(["ClusterIP", "NodePort", "NodePort", "LoadBalancer", "ExternalName"]);
        let kind = kind.unwrap();
        let mut spec = json!({"type": kind, "ports": [{"name": "a", "port": 80}]});
        if self.random.bool() {
            spec["ports"] = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
        }
        if self.random.u8(..3) == 0 && kind == "NodePort" {
            spec["ports"][0]["nodePort"] = self.random.u16(29999..30007).into();
        }
        if self.random.bool() && kind != "ExternalName" {
            spec["selector"] = json!({"app": self.random.choice(["a", "b"])});
        }
        match kind {
            "ExternalName" => spec["externalName"] = "example.com".into(),
            "LoadBalancer" => spec["externalTrafficPolicy"] = "Local".into(),
            "ClusterIP" if self.random.u8(..4) == 0 => spec["clusterIP"] = "None".into(),
            _ if self.random.u8(..4) == 0 => {
                spec["clusterIP"] = format!("10.96.0.{}", self.random.u8(..16)).into();
            }
            _ => {}
        }
        json!({"spec": spec})
    }

    fn pod(&mut self) -> Value {
        let ready = self.random.choice(["True", "False"]);
        json!({
            "spec": {"containers": [{"name": "c", "image": "i"}]},
            "status": {
                "podIP": format!("10.0.0.{}", self.random.u8(1..5)),
                "conditions": [{"type": "Ready", "status": ready}],
            },
        })
    }

    fn create(&mut self) -> String {
        let (resource, key, object) = self.object();
        let there = self.store.get(resource, &key);
        let dry_run = self.random.u8(..4) == 0;
        let (version, told) = (self.store.version(), format!("create {key} {dry_run} {object}"));
        match self.store.create(resource, object, dry_run) {
            Ok(accepted) => {
                assert!(there.is_none(), "{told}");
                let now = self.store.get(resource, &key);
                assert_eq!(now.map(|now| now.uid.clone()), (!dry_run).then(|| accepted.document.uid.clone()));
            }
            Err(refusal) => {
                assert!(there.is_none() || !matches!(refusal, Refusal::NotFound), "{told}: {refusal}");
                assert_eq!(self.store.version(), version, "{told}");
            }
        }
        told
    }

    fn update(&mut self) -> String {
        let (resource, key, mut object) = self.object();
        if self.random.bool()
            && let Some(old) = self.store.get(resource, &key)
        {
            // As kubectl edit does.
            let mut edited = old.value();
            edited["metadata"]["labels"]["l"] = object["metadata"]["labels"]["l"].clone();
            edited["spec"]["type"] = object["spec"]["type"].clone();
            object = edited;
        }
        let part = if self.random.u8(..4) == 0 { Part::Status } else { Part::Main };
        let dry_run = self.random.u8(..4) == 0;
        let (version, told) = (self.store.version(), format!("update {key} {part:?} {dry_run} {object}"));
        let before = self.store.get(resource, &key);
        let result = self.store.update(resource, &key, part, object, dry_run);
        if result.is_err() || dry_run {
            assert_eq!(self.store.version(), version, "{told}");
        } else {
            let before = before.unwrap_or_else(|| panic!("{told}"));
            assert_eq!(before.owner, Owner::Api, "{told}");
            let now = self.store.get(resource, &key).unwrap();
            assert_eq!(now.uid, before.uid, "{told}");
            assert_eq!(self.store.version() == version, now.version == before.version, "{told}");
        }
        told
    }

    fn delete(&mut self) -> String {
        let (resource, key, _) = self.object();
        let before = self.store.get(resource, &key);
        let told = format!("delete {resource:?} {key}");
        match self.store.delete(resource, &key, &Preconditions::default(), false) {
            Ok(last) => {
                assert_eq!(last.uid, before.unwrap().uid, "{told}");
                let now = self.store.get(resource, &key);
                assert!(now.is_none_or(|now| now.owner != Owner::Api && now.uid != last.uid), "{told}");
            }
            Err(_) => assert!(before.is_none_or(|before| before.owner != Owner::Api), "{told}"),
        }
        told
    }

    fn change_file(&mut self) -> String {
        let file: Arc<str> = format!("f{}", self.random.u8(..3)).into();
        let mut text = String::new();
        for _ in 0..self.random.u8(..4) {
            let (resource, _, mut object) = self.object();
            let info = resource.info();
            if resource != Resource::Endpoints {
                object["apiVersion"] = info.api_version().into();
                object["kind"] = info.kind.into();
                writeln!(text, "---\n{object}").unwrap();
            }
        }
        let change = match self.random.u8(..4) {
            0 => Change::Removed,
            _ => Change::Replaced(decode(&file, text.as_bytes(), Trust::File).unwrap()),
        };
        let gone = matches!(change, Change::Removed);
        let told = format!("{file}: removed {gone} {text}");
        self.store.apply(vec![(file, change)]);
        told
    }

    fn report(&mut self) -> String {
        let problems = self.store.problems();
        self.store.report(&problems);
        "report".to_owned()
    }

    /// Files are gone until they are read again; what the API was given is as it was.
    fn restart(&mut self) -> String {
        let of_api = |store: &Store| -> BTreeMap<Id, Arc<str>> {
            let all = RESOURCES.iter().flat_map(|info| store.list(info.resource, None));
            let given = all.filter(|d| d.owner == Owner::Api);
            given.map(|d| ((d.resource, d.key.clone()), d.json.clone())).collect()
        };
        let before = of_api(&self.store);
        let version = self.store.version();
        // The old process lets go of the file first.
        self.store = Store::for_files(tight());
        self.store = open_with(tight(), &self.disk).unwrap();
        assert_eq!(of_api(&self.store), before);
        assert!(self.store.version() >= version);
        for info in &RESOURCES {
            let events = self.store.events_since(info.resource, version);
            assert!(events.is_err() || self.store.version() == version, "a watcher has to list again");
        }
        self.seen = listed(&self.store);
        self.version = self.store.version();
        "restart".to_owned()
    }

    fn check(&mut self) {
        self.check_events();
        self.check_allocation();
        self.check_world();
    }

    /// What a watcher has seen is what a list says.
    fn check_events(&mut self) {
        let mut last = self.version;
        for info in &RESOURCES {
            let seen = self.seen.entry(info.resource).or_default();
            let mut previous = self.version;
            for event in self.store.events_since(info.resource, self.version).unwrap() {
                assert!(event.version > previous && event.object.version == event.version);
                previous = event.version;
                let key = event.object.key.clone();
                assert_eq!(
                    event.before.as_ref().map(|b| b.json.clone()),
                    seen.get(&key).cloned(),
                    "{event:?}"
                );
                match event.deleted {
                    true => seen.remove(&key),
                    false => seen.insert(key, event.object.json.clone()),
                };
            }
            last = last.max(previous);
        }
        assert_eq!(last, self.store.version());
        self.version = last;
        self.seen.retain(|_, seen| !seen.is_empty());
        assert_eq!(self.seen, listed(&self.store));
    }

    fn check_allocation(&self) {
        let (mut ports, mut ips) = (BTreeMap::new(), BTreeSet::new());
        for document in self.store.list(Resource::Services, None) {
            let spec = &document.value()["spec"];
            let listed = spec["ports"].as_array().unwrap().iter().map(|port| &port["nodePort"]);
            for number in listed.chain([&spec["healthCheckNodePort"]]).filter_map(Value::as_u64) {
                assert!((30000..=30006).contains(&number));
                let holder = ports.entry(number).or_insert_with(|| document.key.clone());
                assert_eq!(*holder, document.key, "{number}");
            }
            let wants = match spec["type"].as_str().unwrap() {
                "NodePort" | "LoadBalancer" => spec["ports"].as_array().unwrap().len(),
                _ => 0,
            };
            let has =
                spec["ports"].as_array().unwrap().iter().filter(|port| port["nodePort"].is_u64()).count();
            assert_eq!(has, wants, "{spec}");
            for ip in spec["clusterIPs"].as_array().into_iter().flatten().filter(|ip| *ip != "None") {
                assert!(ips.insert(ip.to_string()), "{ip}");
            }
        }
    }

    /// A store that is made anew of the documents gives the same world.
    fn check_world(&self) {
        let mut records: Vec<(Id, Record)> = Vec::new();
        for info in &RESOURCES {
            for document in self.store.list(info.resource, None).filter(|d| d.owner != Owner::Controller) {
                let id = (document.resource, document.key.clone());
                let rank = self.store.ranks.get(&document.key).unwrap_or(0);
                records.push((id, Record { rank, json: document.json.clone() }));
            }
        }
        let mut anew = Store::new(tight());
        anew.restore(records);
        assert_eq!(anew.problems(), []);
        let services = |store: &Store| -> Vec<Service> {
            // Files are trusted, what is restored is the API's.
            let plain = |service: &Arc<Service>| Service {
                uid: "".into(),
                trusted: false,
                any_family: false,
                ..(**service).clone()
            };
            store.world().services.values().map(plain).collect()
        };
        assert_eq!(services(&anew), services(&self.store));
        assert_eq!(anew.world().slices, self.store.world().slices);
        // And the same things made by controllers.
        for resource in [Resource::EndpointSlices, Resource::Endpoints] {
            let made = |store: &Store| -> Vec<(NamespacedName, Value)> {
                let made = store.list(resource, None).filter(|d| d.owner == Owner::Controller);
                made.map(|d| (d.key.clone(), stripped(d.value()))).collect()
            };
            assert_eq!(made(&anew), made(&self.store));
        }
    }
}

/// Without what differs from one making to the next.
fn stripped(mut object: Value) -> Value {
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object["metadata"]["ownerReferences"] = Value::Null;
    object
}

fn listed(store: &Store) -> BTreeMap<Resource, BTreeMap<NamespacedName, Arc<str>>> {
    let mut all: BTreeMap<Resource, BTreeMap<NamespacedName, Arc<str>>> = BTreeMap::new();
    for info in &RESOURCES {
        for document in store.list(info.resource, None) {
            all.entry(info.resource).or_default().insert(document.key.clone(), document.json.clone());
        }
    }
    all
}

#[test]
fn documents_world_events_and_file_agree_whatever_happens() {
    let first = match std::env::var("RINGPORT_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("RINGPORT_SEED={first}");
    for seed in first..first.saturating_add(24) {
        let mut run = Run::new(seed);
        let mut history = Vec::new();
        for _ in 0..60 {
            history.push(run.step());
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.check()));
            if checked.is_err() {
                panic!("RINGPORT_SEED={seed}, after:\n{}", history.join("\n"));
            }
        }
    }
}
