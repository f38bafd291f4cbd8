//! The routing snapshot: all that the data plane knows, immutable, published as one value.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Millis;
use crate::metrics::counters::{EndpointStats, PortStats};
use crate::types::{ClientAddr, EndpointAddr, Protocol, ServicePortName};

/// Where clients connect to: one listening socket on every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// `None` is every address of the node, IPv4 and IPv6 on one dual-stack socket.
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

/// All routing state of one generation.
#[derive(Clone, Debug, Default)]
pub struct RoutingSnapshot {
    generation: u64,
    frontends: imbl::OrdMap<FrontendKey, Arc<Frontend>>,
}

impl RoutingSnapshot {
    /// A snapshot of these frontends. Generations grow by one with each published snapshot.
    pub fn new(generation: u64, frontends: imbl::OrdMap<FrontendKey, Arc<Frontend>>) -> Self {
        Self { generation, frontends }
    }

    /// Counts published snapshots; zero is the empty one before the first.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All frontends, by key. An untouched one is the same `Arc` in the next snapshot.
    pub fn frontends(&self) -> &imbl::OrdMap<FrontendKey, Arc<Frontend>> {
        &self.frontends
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
}

/// What all frontends of one service port share.
#[derive(Debug)]
pub struct PortRoute {
    /// Namespace, Service, port name, protocol.
    pub name: ServicePortName,
    /// Sessions at a time, all shards together.
    pub max_connections: Option<u32>,
    /// Sessions at a time of one client address.
    pub max_connections_per_client: Option<u32>,
    /// Overrides `--idle-timeout`; zero is never.
    pub idle_timeout: Option<Duration>,
    /// Its counters.
    pub stats: PortStats,
}

/// The endpoints that a frontend may use, and how one of them is picked.
#[derive(Debug)]
pub struct Targets {
    /// Sorted by address; the same endpoint is the same `Arc` in every snapshot that has it.
    pub endpoints: Box<[Arc<Endpoint>]>,
}

/// One pod address and port behind one service port.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: EndpointAddr,
    /// The pod's name where it is known.
    pub pod: Option<Arc<str>>,
    /// Its counters.
    pub stats: EndpointStats,
}

impl Targets {
    /// The endpoints to try for one new connection, the preferred one first, at most
    /// [`crate::limits::CONNECT_ATTEMPTS`]. Empty when there is none.
    ///
    /// `random` is a fresh random number.
    pub fn candidates(&self, _client: ClientAddr, _now: Millis, random: u64) -> Candidates<'_> {
        Candidates { targets: self, next: random as usize, left: self.endpoints.len() }
    }
}

/// See [`Targets::candidates`].
#[derive(Debug)]
pub struct Candidates<'a> {
    targets: &'a Targets,
    next: usize,
    left: usize,
}

impl Candidates<'_> {
    /// The next endpoint to try.
    pub fn next_endpoint(&mut self) -> Option<Arc<Endpoint>> {
        self.left = self.left.checked_sub(1)?;
        let endpoint = self.targets.endpoints.get(self.next % self.targets.endpoints.len())?;
        self.next = self.next.wrapping_add(1);
        Some(endpoint.clone())
    }

    /// The connection to `endpoint` is established: the affinity ledger notes it, and the endpoint
    /// counts as healthy.
    pub fn connected(&self, _endpoint: &Arc<Endpoint>, _now: Millis) {}

    /// The attempt to connect to `endpoint` failed; enough of them in a row eject it. Not to be called
    /// where this node was at fault.
    pub fn failed(&self, _endpoint: &Arc<Endpoint>, _now: Millis) {}
}

impl FrontendKey {
    /// The address to bind; the wildcard is the IPv6 one, for a dual-stack socket.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)), self.port)
    }
}
