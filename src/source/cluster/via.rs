//! A cluster seen from outside: pods cannot be reached, but node ports can. Each node that would answer
//! becomes an endpoint, with the Service's nodePort.

use std::net::IpAddr;

use crate::k8s::model::{EndpointSlice, Service, ServicePort, SliceEndpoint, SlicePort, TrafficPolicy};
use crate::k8s::node::LiveNode;
use crate::types::NamespacedName;

/// A Service as this process serves it.
pub(super) struct Made {
    pub(super) service: Service,
    pub(super) slices: Vec<EndpointSlice>,
}

/// Pure. A port without a nodePort, or without an endpoint behind it in the cluster, has no endpoint here, so
/// that clients are refused here and not there.
pub(super) fn node_ports(
    service: &Service,
    slices: &[&EndpointSlice],
    nodes: &[&LiveNode],
    serve_node_ports: bool,
) -> Made {
    let mut made = Service {
        // The nodes decide what is local to them; nothing is local to us.
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        ..service.clone()
    };
    if !serve_node_ports {
        made.ports.iter_mut().for_each(|port| port.node_port = None);
    }
    let mut made_slices = Vec::new();
    for port in &service.ports {
        let Some(number) = port.node_port else { continue };
        for v4 in [true, false] {
            let endpoints = endpoints(service, port, slices, nodes, v4);
            if !endpoints.is_empty() {
                made_slices.push(slice(service, port, number, v4, endpoints));
            }
        }
    }
    Made { service: made, slices: made_slices }
}

/// The nodes that would answer, by one address each.
fn endpoints(
    service: &Service,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    nodes: &[&LiveNode],
    v4: bool,
) -> Vec<SliceEndpoint> {
    if service.cluster_ips.iter().all(|ip| ip.is_ipv4() != v4) {
        return Vec::new();
    }
    let serves = |slice: &&&EndpointSlice| {
        slice.ports.iter().any(|p| p.name == port.name && p.protocol == port.protocol)
    };
    let behind: Vec<&SliceEndpoint> = slices
        .iter()
        .filter(serves)
        .flat_map(|slice| &slice.endpoints)
        .filter(|e| e.address.is_ipv4() == v4 && (e.ready || e.serving && e.terminating))
        .collect();
    let local = service.external_policy == TrafficPolicy::Local;
    let answers = |node: &&&LiveNode| {
        node.ready && behind.iter().any(|e| !local || e.node.as_ref() == Some(&node.node.name))
    };
    let address = |node: &&LiveNode| node.internal_ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
    let mut found: Vec<SliceEndpoint> =
        nodes.iter().filter(answers).filter_map(|node| Some(endpoint(address(node)?, node))).collect();
    found.sort_by_key(|endpoint| endpoint.address);
    found
}

fn endpoint(address: IpAddr, node: &LiveNode) -> SliceEndpoint {
    SliceEndpoint {
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node.node.name.clone()),
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
        pod: None,
    }
}

fn slice(
    service: &Service,
    port: &ServicePort,
    number: u16,
    v4: bool,
    endpoints: Vec<SliceEndpoint>,
) -> EndpointSlice {
    let name = format!("{}-{}-{number}-{}", service.key.name, port.protocol, if v4 { "v4" } else { "v6" });
    EndpointSlice {
        key: NamespacedName::new(service.key.namespace.clone(), name),
        service: service.key.clone(),
        ports: vec![SlicePort { name: port.name.clone(), protocol: port.protocol, port: number }],
        endpoints,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(policy: &str) -> Service {
        let text = format!(
            r#"{{"metadata": {{"name": "web", "namespace": "d"}}, "spec": {{"type": "NodePort", "clusterIP": "10.96.0.1",
              "externalIPs": ["1.2.3.110"], "externalTrafficPolicy": "{policy}",
              "ports": [{{"name": "http", "port": 80, "nodePort": 30008}}, {{"name": "bare", "port": 81}}]}}}}"#
        );
        crate::k8s::service::live(&serde_json::from_str(&text).unwrap(), &mut Vec::new()).service.unwrap()
    }

    fn slice_of(endpoints: &str) -> EndpointSlice {
        let text = format!(
            r#"{{"metadata": {{"name": "web-1", "namespace": "d", "labels": {{"kubernetes.io/service-name": "web"}}}},
              "addressType": "IPv4", "ports": [{{"name": "http", "port": 8080}}], "endpoints": [{endpoints}]}}"#
        );
        crate::k8s::slice::live(&serde_json::from_str(&text).unwrap(), &mut Vec::new()).unwrap()
    }

    fn node(name: &str, ready: bool, ips: &[&str]) -> LiveNode {
        LiveNode {
            node: crate::k8s::model::Node { name: name.into(), ..Default::default() },
            eligible: true,
            ready,
            internal_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn endpoints_of(policy: &str, endpoints: &str) -> Vec<String> {
        let nodes = [
            node("b", true, &["192.0.2.2", "fd00::2"]),
            node("a", true, &["192.0.2.1"]),
            node("down", false, &["192.0.2.9"]),
            node("bare", true, &[]),
        ];
        let nodes: Vec<&LiveNode> = nodes.iter().collect();
        let made = node_ports(&service(policy), &[&slice_of(endpoints)], &nodes, false);
        assert!(made.service.ports.iter().all(|port| port.node_port.is_none()));
        assert_eq!(made.service.external_policy, TrafficPolicy::Cluster);
        let of = |slice: &EndpointSlice| {
            slice
                .endpoints
                .iter()
                .map(|e| format!("{}:{}", e.address, slice.ports[0].port))
                .collect::<Vec<_>>()
        };
        made.slices.iter().flat_map(of).collect()
    }

    const ON_A: &str = r#"{"addresses": ["10.0.0.1"], "nodeName": "a"}"#;

    #[test]
    fn every_ready_node_answers_for_policy_cluster() {
        assert_eq!(endpoints_of("Cluster", ON_A), ["192.0.2.1:30008", "192.0.2.2:30008"]);
    }

    #[test]
    fn nodes_with_an_endpoint_answer_for_policy_local() {
        assert_eq!(endpoints_of("Local", ON_A), ["192.0.2.1:30008"]);
    }

    #[test]
    fn nothing_answers_where_nothing_is_behind() {
        assert_eq!(endpoints_of("Cluster", ""), Vec::<String>::new());
        let unready = r#"{"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": {"ready": false, "serving": false}}"#;
        assert_eq!(endpoints_of("Cluster", unready), Vec::<String>::new());
    }

    #[test]
    fn node_ports_are_kept_where_they_are_to_be_served_too() {
        let made = node_ports(&service("Cluster"), &[&slice_of(ON_A)], &[], true);
        assert_eq!(made.service.ports[0].node_port, Some(30008));
    }
}
