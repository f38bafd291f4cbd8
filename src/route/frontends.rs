//! The addresses and ports that Services are reached by, and who gets one that several claim.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::k8s::model::{Node, Service, ServiceKind, ServicePort};
use crate::problem::{Problem, Reason};
use crate::route::permits::Permits;
use crate::route::port::PortSettings;
use crate::route::snapshot::{Frontend, FrontendKey, FrontendKind};
use crate::types::NamespacedName;

/// The addresses of the node that nodePorts are served on: `--nodeport-addresses`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every address in the families of the Service, by one wildcard socket.
    #[default]
    All,
    /// These only.
    Only(Vec<IpAddr>),
}

/// What of a Service is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// Where nodePorts are served.
    pub nodeport_addresses: NodePortAddresses,
    /// Whether clusterIPs are served too: `--cluster-ips`.
    pub cluster_ips: bool,
    /// Where pods have their addresses, besides what the Node says: `--cluster-cidr`.
    pub cluster_cidrs: Vec<IpNet>,
    /// Which addresses a Service may take.
    pub permits: Permits,
    /// For Services that say nothing of their own.
    pub defaults: PortSettings,
    /// Why pods do not see the addresses of clients; `None` where they do.
    pub not_transparent: Option<String>,
}

/// The frontends of one port of a Service, each once: where one address has two roles, the first of
/// nodePort, externalIP, clusterIP and load balancer address counts.
pub fn plan(
    service: &Service,
    port: &ServicePort,
    options: &CompileOptions,
) -> Vec<(FrontendKey, FrontendKind)> {
    let mut planned: Vec<(FrontendKey, FrontendKind)> = Vec::new();
    let mut add = |kind, address: Option<IpAddr>, port_number| {
        let key = FrontendKey { protocol: port.protocol, address, port: port_number };
        if planned.iter().all(|(other, _)| *other != key) {
            planned.push((key, kind));
        }
    };
    if let Some(node_port) = port.node_port {
        match &options.nodeport_addresses {
            NodePortAddresses::All => add(FrontendKind::NodePort, wildcard(service), node_port),
            NodePortAddresses::Only(addresses) => {
                let addresses = addresses.iter().filter(|a| service.is_in_family_of(**a));
                addresses.for_each(|a| add(FrontendKind::NodePort, Some(*a), node_port));
            }
        }
    }
    service.external_ips.iter().for_each(|ip| add(FrontendKind::ExternalIp, Some(*ip), port.port));
    if options.cluster_ips {
        service.cluster_ips.iter().for_each(|ip| add(FrontendKind::ClusterIp, Some(*ip), port.port));
    }
    if service.kind == ServiceKind::LoadBalancer {
        service.load_balancer_ips.iter().for_each(|ip| add(FrontendKind::LoadBalancer, Some(*ip), port.port));
    }
    planned
}

/// Every address in the families of a Service.
fn wildcard(service: &Service) -> Option<IpAddr> {
    const WILDCARDS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    match WILDCARDS.map(|family| service.is_in_family_of(family)) {
        [true, false] => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        [false, true] => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    }
}

/// The frontends of a [`plan`] that the Service may have, and a problem for each other one.
pub fn permitted(
    node: &Node,
    service: &Service,
    port_index: usize,
    planned: Vec<(FrontendKey, FrontendKind)>,
    options: &CompileOptions,
    problems: &mut Vec<Problem>,
) -> Vec<(FrontendKey, FrontendKind)> {
    let mut check =
        |(key, kind): &(FrontendKey, FrontendKind)| match options.permits.check(node, service, *kind, key) {
            Ok(()) => true,
            Err(refused) => {
                let problem = refused.problem(service, field(*kind, port_index), key);
                // The same externalIP for each of its ports.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
                false
            }
        };
    planned.into_iter().filter(&mut check).collect()
}

fn field(kind: FrontendKind, port_index: usize) -> String {
    match kind {
        FrontendKind::NodePort => format!("spec.ports[{port_index}].nodePort"),
        FrontendKind::ExternalIp => "spec.externalIPs".to_owned(),
        FrontendKind::ClusterIp => "spec.clusterIPs".to_owned(),
        FrontendKind::LoadBalancer => "status.loadBalancer.ingress".to_owned(),
    }
}

/// One Service's wish for an address and port.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What it would be.
    pub frontend: Arc<Frontend>,
    /// [`Service::age_rank`]
    pub age_rank: u64,
    /// Place in `spec.ports`.
    pub port_index: usize,
}

impl Claim {
    /// Who goes first: the oldest Service, then by name, then by the order of its ports.
    fn precedence(&self) -> (u64, &NamespacedName, usize) {
        (self.age_rank, &self.frontend.port.name.service, self.port_index)
    }
}

/// All claims, and the frontends that follow from them (R4).
#[derive(Debug, Default)]
pub struct Claims {
    /// The claims of each key; the first has it.
    by_key: BTreeMap<FrontendKey, Vec<Claim>>,
    /// Keys with more than one claim.
    contested: BTreeSet<FrontendKey>,
    winners: imbl::OrdMap<FrontendKey, Arc<Frontend>>,
}

/// What [`Claims::settle`] has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Keys that were not served before.
    pub added: Vec<FrontendKey>,
    /// Keys that still are, in another way.
    pub updated: Vec<FrontendKey>,
    /// Keys that are not served any more.
    pub removed: Vec<FrontendKey>,
}

impl Settled {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.updated.is_empty() && self.removed.is_empty()
    }
}

impl Claims {
    /// Takes a Service's claim back.
    pub fn withdraw(&mut self, claim: &Claim) {
        if let Some(claims) = self.by_key.get_mut(&claim.frontend.key) {
            claims.retain(|other| !Arc::ptr_eq(&other.frontend, &claim.frontend));
        }
    }

    /// Adds a claim.
    pub fn claim(&mut self, claim: Claim) {
        let claims = self.by_key.entry(claim.frontend.key).or_default();
        let place = claims.partition_point(|other| other.precedence() <= claim.precedence());
        claims.insert(place, claim);
    }

    /// Decides these keys again, whose claims have changed.
    pub fn settle(&mut self, keys: &BTreeSet<FrontendKey>) -> Settled {
        let mut settled = Settled::default();
        for &key in keys {
            let claims = self.by_key.get(&key).map_or(&[][..], Vec::as_slice);
            if claims.len() > 1 {
                self.contested.insert(key);
            } else {
                self.contested.remove(&key);
            }
            let Some(first) = claims.first() else {
                self.by_key.remove(&key);
                if self.winners.remove(&key).is_some() {
                    settled.removed.push(key);
                }
                continue;
            };
            match self.winners.get(&key) {
                Some(winner) if Arc::ptr_eq(winner, &first.frontend) => continue,
                Some(_) => settled.updated.push(key),
                None => settled.added.push(key),
            }
            self.winners.insert(key, first.frontend.clone());
        }
        settled
    }

    /// Every frontend in force.
    pub fn winners(&self) -> &imbl::OrdMap<FrontendKey, Arc<Frontend>> {
        &self.winners
    }

    /// What every loser of a contest is told.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let contests = self.contested.iter().filter_map(|key| self.by_key.get(key));
        contests
            .filter_map(|claims| claims.split_first())
            .inspect(|(winner, losers)| debug_assert!(!losers.is_empty(), "{}", winner.frontend.key))
            .flat_map(|(winner, losers)| losers.iter().map(move |loser| lost(winner, loser)))
    }
}

fn lost(winner: &Claim, loser: &Claim) -> Problem {
    let (mine, other) = (&loser.frontend.port.name, &winner.frontend.port.name);
    let (why, hint) = if mine.service == other.service {
        ("another port of the same Service", "give each port of the Service its own number")
    } else if loser.age_rank == winner.age_rank {
        ("of the same age and earlier by name", "change one of the two Services")
    } else {
        ("which is older", "change one of the two Services; this one is served when the other gives it up")
    };
    Problem {
        reason: Reason::AddressContested,
        object: Some(format!("Service {}", mine.service)),
        field: Some(field(loser.frontend.kind, loser.port_index)),
        hint: Some(hint.to_owned()),
        ..Problem::error(format!("{} already belongs to Service {other}, {why}", loser.frontend.key))
    }
}
