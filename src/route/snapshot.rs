//! The routing snapshot: all that the data plane knows, immutable, published as one value.
//!
//! - R1 equal input makes an equal snapshot, whatever the order of changes that led to it, and an equal
//!   snapshot is not published.
//! - R2 what a change does not touch is the same `Arc` in the next snapshot.
//! - R3 the same address and port of the same pod behind the same service port is the same endpoint,
//!   with its counters and its health, in every snapshot.
//! - R4 an address and port belongs to one service port: that of the oldest Service that claims it. The
//!   others are told, and get it when it becomes free.
//! - R5 a service port without a usable endpoint keeps its frontends, which refuse.
//! - R6 an endpoint or a service port that left is listed until its last session is over.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

pub use crate::route::endpoint::Endpoint;
pub use crate::route::pick::{Affinity, Candidates, Picker, Targets};
pub use crate::route::port::{Admission, PortRoute, PortSettings, PortState};
use crate::route::sources::Sources;
use crate::types::{ClientAddr, EndpointAddr, Protocol, ServicePortName};

/// Where clients connect to: one listening socket on every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// `None` is every address of the node, IPv4 and IPv6 on one dual-stack socket; the unspecified address of a
    /// family is every address of that family.
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
}

/// What kind of address of a Service a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontendKind {
    /// `spec.ports[].nodePort` on addresses of the node.
    NodePort,
    /// `spec.externalIPs` and `spec.ports[].port`.
    ExternalIp,
    /// `spec.clusterIPs` and `spec.ports[].port`.
    ClusterIp,
    /// `status.loadBalancer.ingress[].ip` and `spec.ports[].port`.
    LoadBalancer,
}

impl FrontendKind {
    /// As the fields of a Service are named.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodePort => "nodePort",
            Self::ExternalIp => "externalIP",
            Self::ClusterIp => "clusterIP",
            Self::LoadBalancer => "loadBalancer",
        }
    }
}

/// All routing state of one generation.
#[derive(Clone, Debug, Default)]
pub struct RoutingSnapshot {
    generation: u64,
    frontends: imbl::OrdMap<FrontendKey, Arc<Frontend>>,
    departed: Arc<[Weak<PortState>]>,
}

impl RoutingSnapshot {
    /// A snapshot of these frontends. Generations grow by one with each published snapshot.
    pub fn new(generation: u64, frontends: imbl::OrdMap<FrontendKey, Arc<Frontend>>) -> Self {
        Self { generation, frontends, departed: Arc::default() }
    }

    /// Adds service ports that are no longer served but may still have sessions.
    #[must_use]
    pub fn with_departed(self, departed: Vec<Weak<PortState>>) -> Self {
        Self { departed: departed.into(), ..self }
    }

    /// Counts published snapshots; zero is the empty one before the first.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All frontends, by key. An untouched one is the same `Arc` in the next snapshot.
    pub fn frontends(&self) -> &imbl::OrdMap<FrontendKey, Arc<Frontend>> {
        &self.frontends
    }

    /// Every service port that is served or still has a session, with its counters and endpoints (R6).
    pub fn ports(&self) -> BTreeMap<ServicePortName, Arc<PortState>> {
        let served = self.frontends.values().map(|frontend| frontend.port.state.clone());
        let departed = self.departed.iter().filter_map(Weak::upgrade);
        // A port that is served wins over one of its name that left.
        departed.chain(served).map(|state| (state.name.clone(), state)).collect()
    }
}

/// One address and port with what stands behind it.
#[derive(Debug)]
pub struct Frontend {
    /// Where it listens.
    pub key: FrontendKey,
    /// What kind it is.
    pub kind: FrontendKind,
    /// The service port that it belongs to.
    pub port: Arc<PortRoute>,
    /// Where its connections go: the Cluster or the Local list of semantics §3a.
    pub targets: Arc<Targets>,
    /// Where those go that the node itself or one of its pods makes: under `externalTrafficPolicy: Local` the Cluster
    /// list, as with kube-proxy; else the same as `targets`.
    pub from_node: Arc<Targets>,
    /// Where pods have their addresses, as far as that is known.
    pub pods: Option<Arc<Sources>>,
    /// Whether the pods of `targets` are to see the addresses of clients: `externalTrafficPolicy: Local`.
    pub keeps_client: bool,
    /// Who may connect: whoever is in all of these; for most there are none.
    pub sources: Vec<Arc<Sources>>,
    /// For UDP: the endpoints that keep the flows they have, sorted: all that are serving, of any policy and
    /// topology, terminating ones too (semantics §3c). Empty for TCP, whose sessions end by themselves.
    pub serving: Arc<[EndpointAddr]>,
}

impl Frontend {
    /// Whether anybody can be served: a client, or the node and its pods.
    pub fn has_endpoints(&self) -> bool {
        [&self.targets, &self.from_node].iter().any(|list| !list.endpoints.is_empty())
    }

    /// The endpoints for a client. The node itself is known by its addresses, and found out about (`is_own`) only where
    /// that makes a difference; a pod is known by its address.
    pub fn targets_for(&self, client: ClientAddr, is_own: impl FnOnce(IpAddr) -> bool) -> &Targets {
        let ip = client.0.ip().to_canonical();
        let is_pod = || self.pods.as_ref().is_some_and(|pods| pods.contains(ip));
        let from_node =
            !Arc::ptr_eq(&self.targets, &self.from_node) && (ip.is_loopback() || is_pod() || is_own(ip));
        if from_node { &self.from_node } else { &self.targets }
    }

    /// Whether a client may connect. The node itself always may, by any of its addresses; whether that is who asks is
    /// found out (`is_own`) only for a client that would be refused.
    pub fn admits(&self, client: ClientAddr, is_own: impl FnOnce(IpAddr) -> bool) -> bool {
        let ip = client.0.ip();
        self.sources.iter().all(|sources| sources.contains(ip)) || ip.is_loopback() || is_own(ip)
    }
}

/// As in `TCP 10.0.0.1:80`, or `TCP *:30080` for every address.
impl fmt::Display for FrontendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{} {}", self.protocol, SocketAddr::new(address, self.port)),
            None => write!(f, "{} *:{}", self.protocol, self.port),
        }
    }
}

impl FrontendKey {
    /// Whether it is on every address of the node, or of a family.
    pub fn is_wildcard(&self) -> bool {
        self.address.is_none_or(|address| address.is_unspecified())
    }

    /// Whether an address, or wildcard, of the same port would have an address in common with it.
    pub fn overlaps(&self, other: Option<IpAddr>) -> bool {
        let (Some(mine), Some(other)) = (self.address, other) else { return true };
        let wildcard = mine.is_unspecified() || other.is_unspecified();
        mine == other || wildcard && mine.is_ipv4() == other.is_ipv4()
    }

    /// For logs; the dual-stack wildcard is the IPv6 one.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)), self.port)
    }
}
