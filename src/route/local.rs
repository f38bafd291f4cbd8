//! What of a Service is on this node: for load balancers that ask before they send traffic.

use std::collections::BTreeSet;

use crate::k8s::model::{EndpointSlice, Node, Service};

/// The answer to a load balancer about one Service (kubernetes pkg/proxy/healthcheck/service_health.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`: where it asks.
    pub port: u16,
    /// Addresses of one family on this node with an endpoint that is ready; one that terminates does not count, though
    /// traffic may still go to it.
    pub local_endpoints: usize,
}

impl HealthCheck {
    /// That of a Service; `None` where load balancers do not ask about it.
    pub fn of<'a>(
        service: &Service,
        slices: impl Iterator<Item = &'a EndpointSlice>,
        node: &Node,
    ) -> Option<Self> {
        let port = service.health_check_node_port?;
        let here = slices
            .filter(|slice| !slice.ports.is_empty())
            .flat_map(|slice| &slice.endpoints)
            .filter(|e| e.ready && !node.name.is_empty() && e.node.as_ref() == Some(&node.name));
        let addresses: BTreeSet<_> = here.map(|endpoint| endpoint.address).collect();
        // Pods of a dual-stack Service have two; kube-proxy answers for one family.
        let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        Some(Self { port, local_endpoints: v4.max(addresses.len() - v4) })
    }
}
