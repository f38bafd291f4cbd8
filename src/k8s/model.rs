//! Kubernetes objects as a proxy understands them: parsed once, never half-valid.
//!
//! Everything that a data plane does not need is gone; what is here has been defaulted and validated
//! (kubernetes pkg/apis/core/v1/defaults.go, pkg/apis/core/validation).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::types::{NamespacedName, Protocol, ProxyVersion};

/// A Service, as far as a proxy honours it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: NamespacedName,
    /// `metadata.uid`; empty for one from a file.
    pub uid: Arc<str>,
    /// Whether it comes from whoever runs this process (a file), and may take any address; one from an API may not.
    pub trusted: bool,
    /// Precedence where two Services claim one address and port: the lower one is older and wins.
    pub age_rank: u64,
    /// `spec.type`
    pub kind: ServiceKind,
    /// `spec.ports`
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; empty selects nothing (its slices are made by hand).
    pub selector: BTreeMap<String, String>,
    /// `spec.clusterIPs` without `None`; a headless Service has none and is not proxied.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether it says nothing of families, as a file may: then it is served in both, whatever its clusterIPs are.
    pub any_family: bool,
    /// `spec.externalIPs`
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose ipMode is VIP.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, or its older annotation: who may connect to the load balancer addresses.
    /// Empty is everybody.
    pub load_balancer_source_ranges: Arc<[IpNet]>,
    /// Annotation `ringport.io/source-ranges`: who may connect to any address of the Service. Empty is everybody.
    pub source_ranges: Arc<[IpNet]>,
    /// `spec.healthCheckNodePort`, of a LoadBalancer with external policy Local.
    pub health_check_node_port: Option<u16>,
    /// `spec.sessionAffinity: ClientIP` and its timeout, 1 s to 86,400 s.
    pub affinity: Option<Duration>,
    /// `spec.externalTrafficPolicy`
    pub external_policy: TrafficPolicy,
    /// `spec.internalTrafficPolicy`
    pub internal_policy: TrafficPolicy,
    /// `spec.publishNotReadyAddresses`
    pub publish_not_ready: bool,
    /// Annotation `ringport.io/algorithm`, used where there is no affinity.
    pub algorithm: Algorithm,
    /// Annotation `ringport.io/max-connections`: sessions at a time of each service port.
    pub max_connections: Option<u32>,
    /// Annotation `ringport.io/max-connections-per-client`.
    pub max_connections_per_client: Option<u32>,
    /// Annotation `ringport.io/idle-timeout`: overrides the option; zero is never.
    pub idle_timeout: Option<Duration>,
    /// Annotation `ringport.io/udp-timeout`: of UDP flows that the pod has not answered.
    pub udp_timeout: Option<Duration>,
    /// Annotation `ringport.io/udp-stream-timeout`: of the others.
    pub udp_stream_timeout: Option<Duration>,
    /// Annotation `ringport.io/proxy-protocol`: the header that pods get.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Annotation `ringport.io/accept-proxy-protocol`: the peers that have to send one; empty is nobody.
    pub accept_proxy_protocol: Arc<[IpNet]>,
}

impl Service {
    /// Whether it is proxied in the family of an address: where it has a clusterIP, as with kube-proxy, which runs once
    /// for each family.
    pub fn is_in_family_of(&self, ip: IpAddr) -> bool {
        self.any_family || self.cluster_ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4())
    }
}

/// `spec.type`, of the kinds that are proxied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Reached by its clusterIP and externalIPs.
    ClusterIp,
    /// Also by a port on every node.
    NodePort,
    /// Also by addresses of an outside load balancer.
    LoadBalancer,
}

/// One of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`, empty where there is none.
    pub name: Arc<str>,
    /// `protocol`
    pub protocol: Protocol,
    /// `port`: on the clusterIP, the externalIPs and load balancer addresses.
    pub port: u16,
    /// `nodePort`, allocated where the type needs one.
    pub node_port: Option<u16>,
    /// `targetPort`
    pub target: TargetPort,
}

/// `spec.ports[].targetPort`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The same on every pod.
    Number(u16),
    /// The name of a container port, looked up per pod.
    Name(Arc<str>),
}

/// `spec.externalTrafficPolicy` and `spec.internalTrafficPolicy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any usable endpoint.
    #[default]
    Cluster,
    /// Only endpoints on this node.
    Local,
}

/// How an endpoint is chosen for a connection without affinity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Uniformly at random, as kube-proxy.
    #[default]
    Random,
    /// In turn.
    RoundRobin,
    /// The less loaded of two random ones.
    LeastConnections,
    /// By a consistent hash of the client's address.
    Maglev,
}

/// An EndpointSlice (discovery.k8s.io/v1) of addressType IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: NamespacedName,
    /// The Service it belongs to: label `kubernetes.io/service-name`, same namespace.
    pub service: NamespacedName,
    /// `ports`; those without a number are gone.
    pub ports: Vec<SlicePort>,
    /// `endpoints`
    pub endpoints: Vec<SliceEndpoint>,
}

/// One of an EndpointSlice's `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Matches `spec.ports[].name` of the Service.
    pub name: Arc<str>,
    /// Matches `spec.ports[].protocol`.
    pub protocol: Protocol,
    /// The pod's port.
    pub port: u16,
}

/// One of an EndpointSlice's `endpoints`: only `addresses[0]` counts, as for kube-proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// `addresses[0]`
    pub address: IpAddr,
    /// `conditions.ready`, true when absent.
    pub ready: bool,
    /// `conditions.serving`, true when absent.
    pub serving: bool,
    /// `conditions.terminating`, false when absent.
    pub terminating: bool,
    /// `nodeName`
    pub node: Option<Arc<str>>,
    /// `hints.forZones[].name`
    pub zone_hints: Vec<Arc<str>>,
    /// `hints.forNodes[].name`
    pub node_hints: Vec<Arc<str>>,
    /// `targetRef.name` where it is a Pod.
    pub pod: Option<Arc<str>>,
}

/// A Pod, as far as endpoints are made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: NamespacedName,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `status.podIPs`, at most one of each family.
    pub ips: Vec<IpAddr>,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// `status.phase` is `Succeeded` or `Failed`: it will never serve again.
    pub finished: bool,
    /// `spec.nodeName`
    pub node: Option<Arc<str>>,
    /// Container ports with a name, in the order in which a named `targetPort` looks them up:
    /// containers, then init containers that run on as sidecars.
    pub ports: Vec<PodPort>,
}

/// A named port of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// `name`
    pub name: Arc<str>,
    /// `protocol`
    pub protocol: Protocol,
    /// `containerPort`
    pub port: u16,
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`; empty where unknown: then no endpoint is local.
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// `spec.podCIDRs`: where its pods have their addresses, as far as the cluster hands them out by node.
    pub pod_cidrs: Vec<IpNet>,
    /// `status.addresses` that are addresses, internal and external: where others expect the node itself.
    pub addresses: Vec<IpAddr>,
}

/// Everything the data plane is compiled from. Untouched objects stay the same `Arc`, which is how
/// the compiler knows them.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Services by name.
    pub services: imbl::OrdMap<NamespacedName, Arc<Service>>,
    /// All slices of each Service, ordered by name.
    pub slices: imbl::OrdMap<NamespacedName, imbl::Vector<Arc<EndpointSlice>>>,
    /// This node.
    pub node: Arc<Node>,
}
