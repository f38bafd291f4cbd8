//! Which endpoints of a service port may be used: kube-proxy's rules, as one pure function.

use std::cmp::Ordering;
use std::net::SocketAddr;

use crate::k8s::model::{EndpointSlice, Node, ServicePort, SliceEndpoint, TrafficPolicy};
use crate::types::EndpointAddr;

/// One address of one service port, as an EndpointSlice has it.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    /// The pod's address and the port that the slice gives.
    pub addr: EndpointAddr,
    /// The rest of what the slice says.
    pub endpoint: &'a SliceEndpoint,
}

/// The parts of a Service that decide which lists of endpoints it needs.
#[derive(Clone, Copy, Debug)]
pub struct Policies {
    /// `spec.internalTrafficPolicy`
    pub internal: TrafficPolicy,
    /// `spec.externalTrafficPolicy`
    pub external: TrafficPolicy,
    /// The port has a nodePort, or the Service has externalIPs or load balancer addresses.
    pub externally_accessible: bool,
}

/// The answer of [`usable`], each list in the order of its input.
#[derive(Clone, Debug, Default)]
pub struct Usable<'a> {
    /// For traffic under policy Cluster.
    pub cluster: Vec<Joined<'a>>,
    /// For traffic under policy Local.
    pub local: Vec<Joined<'a>>,
}

impl Joined<'_> {
    /// Whether traffic may come to it somewhere: ready, or serving while it terminates.
    pub fn may_serve(&self) -> bool {
        self.endpoint.ready || self.endpoint.serving && self.endpoint.terminating
    }
}

/// The endpoints of one service port: the union of all slices of the Service, joined to the port by
/// (port name, protocol), sorted by address and port.
///
/// The port's number is the slice's, so it may differ between slices (a named targetPort that pods
/// define differently). Where two slices name the same address and port, the endpoint that is not
/// terminating counts (kubernetes pkg/proxy/endpointslicecache.go).
pub fn join<'a>(port: &ServicePort, slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Vec<Joined<'a>> {
    let mut joined: Vec<Joined<'a>> = Vec::new();
    for slice in slices {
        for slice_port in slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol) {
            joined.extend(slice.endpoints.iter().map(|endpoint| Joined {
                addr: EndpointAddr(SocketAddr::new(endpoint.address, slice_port.port)),
                endpoint,
            }));
        }
    }
    joined.sort_by(|a, b| match a.addr.cmp(&b.addr) {
        Ordering::Equal => a.endpoint.terminating.cmp(&b.endpoint.terminating),
        order => order,
    });
    joined.dedup_by_key(|j| j.addr);
    joined
}

/// Which of the endpoints of one address family are used: CategorizeEndpoints of kubernetes
/// pkg/proxy/topology.go.
///
/// - The Cluster list is needed unless only internal traffic under policy Local arrives. It is the
///   Ready endpoints, filtered by topology; where that leaves none, all that are serving and terminating.
/// - The Local list is needed where one of the policies in effect is Local. It is the Ready endpoints of
///   this node; where there are none, those of this node that are serving and terminating. Topology
///   never applies to it.
/// - Topology looks at Ready endpoints only. Where each has a node hint and one of them names this node:
///   those that do. Else, where each has a zone hint and one of them names this node's zone: those that
///   do. Else all.
/// - A policy for external traffic is in effect only where the port is externally accessible.
///
/// Kubernetes also tells "no endpoint at all" (reject) from "none that may be used here" (drop). A proxy
/// with sockets refuses in both cases, so that is not in the answer.
pub fn usable<'a>(endpoints: &[Joined<'a>], policies: Policies, node: &Node) -> Usable<'a> {
    let internal_local = policies.internal == TrafficPolicy::Local;
    let external_local = policies.externally_accessible && policies.external == TrafficPolicy::Local;
    let mut answer = Usable::default();
    if !internal_local || policies.externally_accessible {
        let ready: Vec<Joined<'a>> = endpoints.iter().copied().filter(is_ready).collect();
        answer.cluster = or_terminating(by_topology(ready, node), endpoints.iter());
    }
    if internal_local || external_local {
        let here = || endpoints.iter().filter(|e| is_local(e, node));
        answer.local = or_terminating(here().copied().filter(is_ready).collect(), here());
    }
    answer
}

/// `ready`, or where it is empty those of `all` that are serving and terminating.
fn or_terminating<'a: 'b, 'b>(
    ready: Vec<Joined<'a>>,
    all: impl Iterator<Item = &'b Joined<'a>>,
) -> Vec<Joined<'a>> {
    if ready.is_empty() {
        all.copied().filter(|e| e.endpoint.serving && e.endpoint.terminating).collect()
    } else {
        ready
    }
}

fn by_topology<'a>(mut ready: Vec<Joined<'a>>, node: &Node) -> Vec<Joined<'a>> {
    let on_node = |e: &Joined<'a>| e.endpoint.node_hints.contains(&node.name);
    if !node.name.is_empty()
        && ready.iter().all(|e| !e.endpoint.node_hints.is_empty())
        && ready.iter().any(on_node)
    {
        ready.retain(on_node);
        return ready;
    }
    if let Some(zone) = node.zone.as_ref().filter(|zone| !zone.is_empty()) {
        let in_zone = |e: &Joined<'a>| e.endpoint.zone_hints.contains(zone);
        if ready.iter().all(|e| !e.endpoint.zone_hints.is_empty()) && ready.iter().any(in_zone) {
            ready.retain(in_zone);
        }
    }
    ready
}

fn is_ready(e: &Joined<'_>) -> bool {
    e.endpoint.ready
}

fn is_local(e: &Joined<'_>, node: &Node) -> bool {
    !node.name.is_empty() && e.endpoint.node.as_ref() == Some(&node.name)
}

#[cfg(test)]
mod tests;
