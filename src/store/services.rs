//! Services in force: what each of them holds, and which of them wait for something that is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Store;
use crate::k8s::decode::{Kind, Object, ObjectId, Written};
use crate::k8s::field::FieldProblem;
use crate::k8s::model::Service;
use crate::k8s::service::{ClusterIps, Family, ServiceRequest};
use crate::problem::{Problem, Reason};
use crate::types::NamespacedName;

/// A Service that is in force.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) request: Arc<ServiceRequest>,
    pub(super) service: Arc<Service>,
    /// `spec.healthCheckNodePort`
    pub(super) health_check: Option<u16>,
}

impl Live {
    /// Those that its slices are made of.
    pub(super) fn families(&self) -> Vec<Family> {
        let addresses = self.service.cluster_ips.iter().map(|ip| Family::of(*ip));
        addresses.chain(self.request.headless.iter().copied()).collect()
    }
}

/// A Service with all that it would hold.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) service: Service,
    pub(super) health_check: Option<u16>,
}

impl Store {
    /// Allocates for changed Services and for those refused before, the oldest first.
    pub(super) fn update_services(
        &mut self,
        changed: Vec<NamespacedName>,
        dirty: &mut BTreeSet<NamespacedName>,
    ) {
        let mut pending: BTreeMap<u64, NamespacedName> = BTreeMap::new();
        let (of_api, changed): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|key| self.objects.is_of_api(&ObjectId { kind: Kind::Service, key: key.clone() }));
        // What a client was promised is not up for choice.
        for key in of_api {
            let Some(created) = self.request(&key).map(|(request, _)| request.created) else { continue };
            let rank = self.ranks.rank(&key, created);
            self.settle(rank, &key, &Avoid::default(), dirty);
        }
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
            Ok(planned) => {
                self.refused.remove(key);
                self.put_in_force(request, planned);
                dirty.insert(key.clone());
                true
            }
            Err(problems) => {
                let place = |problem: FieldProblem| Problem {
                    reason: Reason::FailedToAllocate,
                    ..written.problem(&problem.field.clone(), problem)
                };
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
    ) -> Result<Planned, Vec<FieldProblem>> {
        let live = self.live.get(&request.service.key);
        let previous = live.map(|live| &*live.service);
        let cluster_ips = self.addresses.plan(request, previous, &avoid.addresses);
        let node_ports = self.ports.plan(request, previous, &avoid.ports);
        let (cluster_ips, node_ports) = match (cluster_ips, node_ports) {
            (Ok(cluster_ips), Ok(node_ports)) => (cluster_ips, node_ports),
            (addresses, ports) => {
                return Err(addresses.err().into_iter().chain(ports.err()).flatten().collect());
            }
        };
        let before = live.and_then(|live| live.health_check);
        let health_check = self.ports.plan_health_check(request, &node_ports, before, &avoid.ports)?;
        let mut service = Service { age_rank: rank, cluster_ips, ..request.service.clone() };
        for (port, node_port) in service.ports.iter_mut().zip(node_ports) {
            port.node_port = node_port;
        }
        Ok(Planned { service, health_check })
    }

    /// What a request would get now. That of a new Service owns nothing yet, even if there is one of its name.
    pub(super) fn plan(&self, request: &ServiceRequest, is_new: bool) -> Result<Planned, Vec<FieldProblem>> {
        if !is_new {
            return self.allocate(request, 0, &Avoid::default());
        }
        let mut request = request.clone();
        let name = format!("a new {}", request.service.key.name);
        request.service.key.name = name.into();
        self.allocate(&request, 0, &Avoid::default())
    }

    fn put_in_force(&mut self, request: Arc<ServiceRequest>, planned: Planned) {
        let Planned { service, health_check } = planned;
        let key = service.key.clone();
        let same = self.live.remove(&key).map(|live| {
            self.ports.release(&live.service, live.health_check);
            self.addresses.release(&live.service);
            live.service
        });
        self.ports.hold(&service, health_check);
        self.addresses.hold(&service);
        let service = same.filter(|old| **old == service).unwrap_or_else(|| Arc::new(service));
        let proxied = !matches!(request.cluster_ips, ClusterIps::None);
        self.index.set_selector(&key, &service.selector);
        if !proxied {
            self.world.services.remove(&key);
        } else if self.world.services.get(&key).is_none_or(|old| !Arc::ptr_eq(old, &service)) {
            self.world.services.insert(key.clone(), Arc::clone(&service));
        }
        self.live.insert(key, Live { request, service, health_check });
    }

    fn withdraw(&mut self, key: &NamespacedName) {
        let Some(live) = self.live.remove(key) else { return };
        self.ports.release(&live.service, live.health_check);
        self.addresses.release(&live.service);
        self.index.set_selector(key, &BTreeMap::new());
        self.world.services.remove(key);
    }
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
