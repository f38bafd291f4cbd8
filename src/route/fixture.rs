//! Small worlds for tests.

use std::net::IpAddr;
use std::sync::Arc;

use crate::k8s::model::{
    Algorithm, EndpointSlice, Node, Service, ServiceKind, ServicePort, SliceEndpoint, SlicePort, TargetPort,
    TrafficPolicy, World,
};
use crate::types::{NamespacedName, Protocol};

pub(crate) fn name(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// A NodePort Service with one TCP port 80.
pub(crate) fn service(service: &str, node_port: u16, age_rank: u64) -> Service {
    Service {
        key: name(service),
        uid: "".into(),
        trusted: true,
        age_rank,
        kind: ServiceKind::NodePort,
        ports: vec![port("", Protocol::Tcp, 80, Some(node_port))],
        selector: Default::default(),
        cluster_ips: Vec::new(),
        any_family: true,
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Arc::default(),
        source_ranges: Arc::default(),
        health_check_node_port: None,
        affinity: None,
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        publish_not_ready: false,
        algorithm: Algorithm::Random,
        max_connections: None,
        max_connections_per_client: None,
        idle_timeout: None,
        udp_timeout: None,
        udp_stream_timeout: None,
        proxy_protocol: None,
        accept_proxy_protocol: Arc::default(),
    }
}

pub(crate) fn port(port: &str, protocol: Protocol, number: u16, node_port: Option<u16>) -> ServicePort {
    ServicePort { name: port.into(), protocol, port: number, node_port, target: TargetPort::Number(8080) }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A ready endpoint on node "us".
pub(crate) fn ready(address: &str) -> SliceEndpoint {
    SliceEndpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("us".into()),
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
        pod: Some(format!("pod-{address}").into()),
    }
}

/// A slice of a Service with an unnamed TCP port 8080.
pub(crate) fn slice(service: &str, endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    EndpointSlice {
        key: name(&format!("{service}-slice")),
        service: name(service),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints,
    }
}

pub(crate) fn world() -> World {
    World { node: Arc::new(Node { name: "us".into(), ..Node::default() }), ..World::default() }
}

pub(crate) trait WorldExt {
    /// Adds or replaces a Service.
    fn with(self, service: Service) -> Self;
    /// Replaces a Service's slices by one with these ready addresses.
    fn with_pods(self, service: &str, addresses: &[&str]) -> Self;
    /// Replaces a Service's slices.
    fn with_slices(self, service: &str, slices: Vec<EndpointSlice>) -> Self;
    /// Removes a Service, and leaves its slices.
    fn without(self, service: &str) -> Self;
}

impl WorldExt for World {
    fn with(mut self, service: Service) -> Self {
        self.services.insert(service.key.clone(), Arc::new(service));
        self
    }

    fn with_pods(self, service: &str, addresses: &[&str]) -> Self {
        let endpoints = addresses.iter().map(|address| ready(address)).collect();
        self.with_slices(service, vec![slice(service, endpoints)])
    }

    fn with_slices(mut self, service: &str, slices: Vec<EndpointSlice>) -> Self {
        self.slices.insert(name(service), slices.into_iter().map(Arc::new).collect());
        self
    }

    fn without(mut self, service: &str) -> Self {
        self.services.remove(&name(service));
        self
    }
}
