//! Stand-alone mode: what an API server with its controllers would do.
//!
//! Objects of files and of the API → the one that counts → nodePorts and clusterIPs → EndpointSlices →
//! [`World`] for the data plane, and a [`Document`] of each for whoever asks the API.
//! Every step looks only at what a change touches, and what it does not touch keeps its `Arc`.

mod addresses;
mod answer;
mod controller;
mod draft;
mod events;
mod files;
mod index;
mod metadata;
mod mirror;
mod objects;
mod persist;
mod ports;
mod ranks;
pub mod registry;
mod render;
mod restore;
mod services;
mod slices;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use self::addresses::Addresses;
use self::controller::Zones;
use self::index::Index;
use self::objects::Objects;
use self::persist::{Disk, Kept};
use self::ports::Ports;
use self::ranks::Ranks;
use self::registry::{Document, Event, Expired, Registry};
use self::services::Live;
use crate::k8s::event::Told;
use crate::k8s::model::{EndpointSlice, Node, Pod, World};
use crate::k8s::resource::Resource;
use crate::k8s::table;
use crate::problem::Problem;
use crate::types::NamespacedName;

pub use self::answer::{Accepted, Part, Preconditions, Refusal};
pub use self::files::Change;

/// What an administrator of the "cluster" decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--service-node-port-range`
    pub node_port_range: RangeInclusive<u16>,
    /// `--service-cluster-ip-range`; the other IP family has a fixed range.
    pub cluster_ip_range: IpNet,
    /// The name of this node.
    pub node_name: Arc<str>,
}

/// The objects in force.
#[derive(Debug)]
pub struct Store {
    objects: Objects,
    ports: Ports,
    addresses: Addresses,
    index: Index,
    live: BTreeMap<NamespacedName, Live>,
    /// Services that allocation refuses, and why. They are tried again at every change.
    refused: BTreeMap<NamespacedName, Vec<Problem>>,
    ranks: Ranks,
    pods: HashMap<NamespacedName, Arc<Pod>>,
    /// Slices written by hand, by Service and name.
    written_slices: BTreeMap<NamespacedName, BTreeMap<NamespacedName, Arc<EndpointSlice>>>,
    slice_owners: HashMap<NamespacedName, NamespacedName>,
    zones: Zones,
    world: World,
    /// What the API shows, unless nobody asks.
    registry: Registry,
    shows: bool,
    /// The slices in the registry that were made for each Service.
    shown_slices: HashMap<NamespacedName, Vec<NamespacedName>>,
    /// Where the API's objects outlive the process.
    disk: Option<Disk>,
    disk_problem: Option<Problem>,
    /// What was reported the last time.
    reported: HashSet<Told>,
    /// When Events were last searched for old ones, in seconds since 1970.
    expired_at: u64,
}

impl Store {
    /// An empty store in memory.
    pub fn new(options: Options) -> Self {
        let mut store = Self::for_files(options);
        store.shows = true;
        store.registry = Registry::starting_at(first_version());
        store.show_initial();
        store
    }

    /// A store that nobody asks for documents: only files come in, and only the [`World`] goes out.
    pub fn for_files(options: Options) -> Self {
        let node = Node { name: options.node_name, ..Node::default() };
        Self {
            objects: Objects::default(),
            ports: Ports::new(options.node_port_range),
            addresses: Addresses::new(options.cluster_ip_range),
            index: Index::default(),
            live: BTreeMap::new(),
            refused: BTreeMap::new(),
            ranks: Ranks::default(),
            pods: HashMap::new(),
            written_slices: BTreeMap::new(),
            slice_owners: HashMap::new(),
            zones: Zones::new(),
            world: World { node: Arc::new(node), ..World::default() },
            registry: Registry::default(),
            shows: false,
            shown_slices: HashMap::new(),
            disk: None,
            disk_problem: None,
            reported: HashSet::new(),
            expired_at: 0,
        }
    }

    /// A store whose objects of the API are kept in a state directory, if there is one, and are there again. One
    /// that cannot be used is left as it is.
    pub fn open(options: Options, state_dir: Option<&Path>) -> Result<Self, Problem> {
        match state_dir {
            None => Ok(Self::new(options)),
            Some(dir) => Disk::open(dir).map(|(disk, kept)| Self::with_disk(options, disk, kept)),
        }
    }

    fn with_disk(options: Options, disk: Disk, kept: Kept) -> Self {
        let mut store = Self::for_files(options);
        store.shows = true;
        store.registry = Registry::starting_at(kept.version.max(first_version()));
        store.disk = Some(disk);
        store.reserve(0);
        store.restore(kept.records);
        store.show_initial();
        store
    }

    /// Everything the data plane is compiled from.
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// The Services in force, by name, as rows of the table that kubectl prints.
    pub fn services(&self) -> Vec<table::Row<'_>> {
        let now = seconds_since_1970();
        self.live
            .iter()
            .map(|(key, live)| table::Row {
                service: &live.service,
                external_name: live.request.external_name.as_deref(),
                age: Duration::from_secs(now.saturating_sub(self.ranks.created(key))),
            })
            .collect()
    }

    /// Problems between objects: defined twice, ports and addresses that are taken.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.objects.problems();
        problems.extend(self.refused.values().flatten().cloned());
        problems.extend(self.disk_problem.clone());
        problems
    }

    // === What the API shows ===

    /// The version of the last change of anything: `metadata.resourceVersion` of a list.
    pub fn version(&self) -> u64 {
        self.registry.version()
    }

    /// One object.
    pub fn get(&self, resource: Resource, key: &NamespacedName) -> Option<Arc<Document>> {
        self.registry.get(resource, key).cloned()
    }

    /// All objects of a kind, in one namespace or in all, by namespace and name.
    pub fn list<'a>(
        &'a self,
        resource: Resource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Document>> {
        self.registry.list(resource, namespace)
    }

    /// What has happened to the objects of a kind after `version`, in order.
    pub fn events_since(&self, resource: Resource, version: u64) -> Result<Vec<Arc<Event>>, Expired> {
        self.registry.events_since(resource, version)
    }
}

/// Beyond all that an earlier life of the process has given if it made fewer than a thousand changes a
/// second: a watcher that comes back is told that its version is too old.
fn first_version() -> u64 {
    seconds_since_1970() << 10
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A hash that is the same in every process.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = SipHasher13::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Where the automatic choice of a number for this Service begins.
fn seed(key: &NamespacedName, port: &str) -> u64 {
    hash(&(&key.namespace, &key.name, port))
}

#[cfg(test)]
mod tests;
