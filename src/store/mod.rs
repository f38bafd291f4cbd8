//! Stand-alone mode: what an API server with its controllers would do, in memory.
//!
//! Objects by file → the one that counts → nodePorts and clusterIPs → EndpointSlices → [`World`].
//! Every step looks only at what a change touches, and what it does not touch keeps its `Arc`.

mod addresses;
mod controller;
mod index;
mod objects;
mod ports;
pub mod registry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use self::addresses::Addresses;
use self::controller::Zones;
use self::index::Index;
use self::objects::Objects;
use self::ports::Ports;
use crate::k8s::decode::{Decoded, Kind, Object, ObjectId, Written};
use crate::k8s::field::FieldProblem;
use crate::k8s::model::{EndpointSlice, Node, Pod, Service, World};
use crate::k8s::service::{ClusterIps, ServiceRequest};
use crate::k8s::table;
use crate::problem::Problem;
use crate::types::NamespacedName;

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
}

/// A Service that is in force.
#[derive(Debug)]
struct Live {
    request: Arc<ServiceRequest>,
    service: Arc<Service>,
}

/// What has happened to a file.
#[derive(Debug)]
pub enum Change {
    /// It says this now.
    Replaced(Decoded),
    /// It is gone.
    Removed,
}

impl Store {
    /// An empty store.
    pub fn new(options: Options) -> Self {
        let node = Node { name: options.node_name, zone: None };
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
        }
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
        problems
    }

    /// Takes over what one file says now. See [`Store::apply`].
    pub fn replace_file(&mut self, file: &Arc<str>, decoded: Decoded) {
        self.apply(vec![(Arc::clone(file), Change::Replaced(decoded))]);
    }

    /// Takes over a set of changes at once, so that the numbers that one file asks for are not given
    /// away because another file was read first.
    pub fn apply(&mut self, changes: Vec<(Arc<str>, Change)>) {
        let mut changed = Vec::new();
        for (file, change) in changes {
            changed.extend(match change {
                Change::Replaced(decoded) => self.objects.replace(&file, decoded),
                Change::Removed => self.objects.remove(&file),
            });
        }
        let mut dirty = BTreeSet::new();
        let mut services = Vec::new();
        for id in changed {
            match id.kind {
                Kind::Service => services.push(id.key),
                Kind::Pod => self.update_pod(id, &mut dirty),
                Kind::EndpointSlice => self.update_slice(id, &mut dirty),
                Kind::Node => self.update_node(id, &mut dirty),
            }
        }
        self.update_services(services, &mut dirty);
        for service in &dirty {
            self.update_slices_of(service);
        }
    }

    // === Pods, slices, nodes ===

    fn update_pod(&mut self, id: ObjectId, dirty: &mut BTreeSet<NamespacedName>) {
        let new = match self.objects.get(&id).map(|written| &written.object) {
            Some(Object::Pod(pod)) => Some(Arc::clone(pod)),
            _ => None,
        };
        let old = match &new {
            Some(pod) => self.pods.insert(id.key.clone(), Arc::clone(pod)),
            None => self.pods.remove(&id.key),
        };
        let (old, new) = (old.as_ref().map(|pod| &pod.labels), new.as_ref().map(|pod| &pod.labels));
        if old != new {
            self.index.set_labels(&id.key, old, new);
        }
        for labels in old.into_iter().chain(new) {
            dirty.extend(self.index.services_selecting(&id.key.namespace, labels));
        }
    }

    fn update_slice(&mut self, id: ObjectId, dirty: &mut BTreeSet<NamespacedName>) {
        if let Some(owner) = self.slice_owners.remove(&id.key) {
            if let Some(slices) = self.written_slices.get_mut(&owner) {
                slices.remove(&id.key);
                if slices.is_empty() {
                    self.written_slices.remove(&owner);
                }
            }
            dirty.insert(owner);
        }
        if let Some(Object::EndpointSlice(slice)) = self.objects.get(&id).map(|written| &written.object) {
            let slices = self.written_slices.entry(slice.service.clone()).or_default();
            slices.insert(id.key.clone(), Arc::clone(slice));
            dirty.insert(slice.service.clone());
            self.slice_owners.insert(id.key, slice.service.clone());
        }
    }

    fn update_node(&mut self, id: ObjectId, dirty: &mut BTreeSet<NamespacedName>) {
        let zone = match self.objects.get(&id).map(|written| &written.object) {
            Some(Object::Node(node)) => node.zone.clone(),
            _ => None,
        };
        let name = id.key.name;
        if self.world.node.name == name && self.world.node.zone != zone {
            self.world.node = Arc::new(Node { name: Arc::clone(&name), zone: zone.clone() });
        }
        match zone {
            Some(zone) => self.zones.insert(name, zone),
            None => self.zones.remove(&name),
        };
        let hinted = self.live.iter().filter(|(_, live)| live.request.distribution.is_some());
        dirty.extend(hinted.map(|(key, _)| key.clone()));
    }

    // === Services ===

    /// Allocates for changed Services and for those refused before, the oldest first.
    fn update_services(&mut self, changed: Vec<NamespacedName>, dirty: &mut BTreeSet<NamespacedName>) {
        let mut pending: BTreeMap<u64, NamespacedName> = BTreeMap::new();
        for key in self.refused.keys().cloned().chain(changed).collect::<Vec<_>>() {
            match self.request(&key).map(|(request, _)| request.created) {
                Some(created) => {
                    pending.insert(self.ranks.rank(&key, created), key);
                }
                None => {
                    self.ranks.forget(&key);
                    self.refused.remove(&key);
                    self.withdraw(&key);
                    dirty.insert(key);
                }
            }
        }
        let requests = pending.values().filter_map(|key| self.request(key));
        let avoid = Avoid::of(requests.map(|(request, _)| request));
        // What one Service lets go another one may have asked for: again while that helps.
        while !pending.is_empty() {
            let before = pending.len();
            pending.retain(|rank, key| !self.settle(*rank, key, &avoid, dirty));
            if pending.len() == before {
                break;
            }
        }
    }

    /// Allocates for one Service; false where it is refused.
    fn settle(
        &mut self,
        rank: u64,
        key: &NamespacedName,
        avoid: &Avoid,
        dirty: &mut BTreeSet<NamespacedName>,
    ) -> bool {
        let Some((request, written)) = self.request(key) else { return true };
        let request = Arc::clone(request);
        match self.allocate(&request, rank, avoid) {
            Ok(service) => {
                self.refused.remove(key);
                self.put_in_force(request, service);
                dirty.insert(key.clone());
                true
            }
            Err(problems) => {
                let place = |problem: FieldProblem| written.problem(&problem.field.clone(), problem);
                let problems = problems.into_iter().map(place).collect();
                self.refused.insert(key.clone(), problems);
                false
            }
        }
    }

    fn request(&self, key: &NamespacedName) -> Option<(&Arc<ServiceRequest>, &Written)> {
        let written = self.objects.get(&ObjectId { kind: Kind::Service, key: key.clone() })?;
        match &written.object {
            Object::Service(request) => Some((request, written)),
            _ => None,
        }
    }

    /// The Service with everything that it asks for, unless something of that is taken.
    fn allocate(
        &self,
        request: &ServiceRequest,
        rank: u64,
        avoid: &Avoid,
    ) -> Result<Service, Vec<FieldProblem>> {
        let previous = self.live.get(&request.service.key).map(|live| &*live.service);
        let cluster_ips = self.addresses.plan(request, previous, &avoid.addresses);
        let node_ports = self.ports.plan(request, previous, &avoid.ports);
        let (cluster_ips, node_ports) = match (cluster_ips, node_ports) {
            (Ok(cluster_ips), Ok(node_ports)) => (cluster_ips, node_ports),
            (addresses, ports) => {
                return Err(addresses.err().into_iter().chain(ports.err()).flatten().collect());
            }
        };
        let mut service = Service { age_rank: rank, cluster_ips, ..request.service.clone() };
        for (port, node_port) in service.ports.iter_mut().zip(node_ports) {
            port.node_port = node_port;
        }
        Ok(service)
    }

    fn put_in_force(&mut self, request: Arc<ServiceRequest>, service: Service) {
        let key = service.key.clone();
        let same = self.live.remove(&key).map(|live| {
            self.ports.release(&live.service);
            self.addresses.release(&live.service);
            live.service
        });
        self.ports.hold(&service);
        self.addresses.hold(&service);
        let service = same.filter(|old| **old == service).unwrap_or_else(|| Arc::new(service));
        let proxied = !matches!(request.cluster_ips, ClusterIps::None);
        self.index.set_selector(&key, &service.selector);
        if !proxied {
            self.world.services.remove(&key);
        } else if self.world.services.get(&key).is_none_or(|old| !Arc::ptr_eq(old, &service)) {
            self.world.services.insert(key.clone(), Arc::clone(&service));
        }
        self.live.insert(key, Live { request, service });
    }

    fn withdraw(&mut self, key: &NamespacedName) {
        let Some(live) = self.live.remove(key) else { return };
        self.ports.release(&live.service);
        self.addresses.release(&live.service);
        self.index.set_selector(key, &BTreeMap::new());
        self.world.services.remove(key);
    }

    /// Makes the slices of one Service anew; those that come out the same stay the same.
    fn update_slices_of(&mut self, service: &NamespacedName) {
        let mut new: BTreeMap<NamespacedName, Arc<EndpointSlice>> =
            self.written_slices.get(service).cloned().unwrap_or_default();
        if let Some(live) = self.live.get(service) {
            let pods = self.pods_of(&live.service);
            let made = controller::slices(&live.service, live.request.distribution, &pods, &self.zones);
            new.extend(made.into_iter().map(|slice| (slice.key.clone(), Arc::new(slice))));
        }
        let old = self.world.slices.get(service);
        for kept in old.into_iter().flatten() {
            if let Some(slice) = new.get_mut(&kept.key).filter(|slice| *slice == kept) {
                *slice = Arc::clone(kept);
            }
        }
        if new.is_empty() {
            self.world.slices.remove(service);
        } else if !old.is_some_and(|old| old.len() == new.len() && old.iter().zip(new.values()).all(same)) {
            self.world.slices.insert(service.clone(), new.into_values().collect());
        }
    }

    /// The Pods that a Service selects, ordered by name.
    fn pods_of(&self, service: &Service) -> Vec<Arc<Pod>> {
        let names = self.index.pods_with(&service.key.namespace, &service.selector);
        let pods = names.iter().filter_map(|name| self.pods.get(name));
        pods.filter(|pod| index::matches(&service.selector, &pod.labels)).cloned().collect()
    }
}

fn same((old, new): (&Arc<EndpointSlice>, &Arc<EndpointSlice>)) -> bool {
    Arc::ptr_eq(old, new)
}

/// Numbers that the Services of one change ask for: the automatic choice leaves them alone.
#[derive(Default)]
struct Avoid {
    ports: BTreeSet<u16>,
    addresses: BTreeSet<std::net::IpAddr>,
}

impl Avoid {
    fn of<'a>(requests: impl Iterator<Item = &'a Arc<ServiceRequest>>) -> Self {
        let mut avoid = Self::default();
        for request in requests {
            avoid.ports.extend(request.node_ports.iter().filter_map(|port| u16::try_from(*port).ok()));
            if let ClusterIps::Wanted { ips, .. } = &request.cluster_ips {
                avoid.addresses.extend(ips);
            }
        }
        avoid
    }
}

/// The order of creation: by timestamp, or else by when an object was first seen. The lower one is older.
#[derive(Debug, Default)]
struct Ranks {
    by_key: HashMap<NamespacedName, u64>,
    last: u64,
}

/// Objects first seen in one second, in order.
const RANK_BITS: u32 = 20;

impl Ranks {
    fn rank(&mut self, key: &NamespacedName, created: Option<u64>) -> u64 {
        if let Some(rank) = self.by_key.get(key) {
            return *rank;
        }
        let seen = seconds_since_1970() << RANK_BITS;
        self.last = (self.last + 1).max(seen);
        let rank = match created {
            // Within one second of creation, the order in which they were seen.
            Some(seconds) => (seconds.min(1 << 40) << RANK_BITS) + self.last % (1 << RANK_BITS),
            None => self.last,
        };
        self.by_key.insert(key.clone(), rank);
        rank
    }

    fn created(&self, key: &NamespacedName) -> u64 {
        self.by_key.get(key).map_or(0, |rank| rank >> RANK_BITS)
    }

    fn forget(&mut self, key: &NamespacedName) {
        self.by_key.remove(key);
    }
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
