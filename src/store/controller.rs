//! The EndpointSlice controller: Pods that a Service selects become its slices
//! (staging/src/k8s.io/endpointslice reconciler.go, utils.go, trafficdist).

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::k8s::model::{EndpointSlice, Pod, Service, SliceEndpoint, SlicePort};
use crate::k8s::service::{Distribution, Family};
use crate::limits;
use crate::types::NamespacedName;

/// The zones of nodes by name.
pub(super) type Zones = BTreeMap<Arc<str>, Arc<str>>;

/// The slices of a Service over the Pods that it selects, which are ordered by name: one or more for
/// each IP family and each set of port numbers (named target ports may differ from pod to pod).
pub(super) fn slices(
    service: &Service,
    families: &[Family],
    distribution: Option<Distribution>,
    pods: &[Arc<Pod>],
    zones: &Zones,
) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for &family in families {
        let mut groups: BTreeMap<Vec<Option<u16>>, Vec<SliceEndpoint>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pod.finished) {
            let Some(address) = pod.ip(family) else { continue };
            let numbers: Vec<_> =
                service.ports.iter().map(|port| pod.resolve(&port.target, port.protocol)).collect();
            if numbers.iter().any(Option::is_some) {
                let endpoint = SliceEndpoint { address, ..endpoint(service, pod, distribution, zones) };
                groups.entry(numbers).or_default().push(endpoint);
            }
        }
        for (numbers, endpoints) in groups {
            for (part, endpoints) in endpoints.chunks(limits::ENDPOINTS_PER_SLICE).enumerate() {
                slices.push(EndpointSlice {
                    key: name(service, &(family, &numbers, part)),
                    service: service.key.clone(),
                    ports: ports(service, &numbers),
                    endpoints: endpoints.to_vec(),
                });
            }
        }
    }
    slices
}

/// A Pod as an endpoint, on its first address.
fn endpoint(
    service: &Service,
    pod: &Pod,
    distribution: Option<Distribution>,
    zones: &Zones,
) -> SliceEndpoint {
    let ready = service.publish_not_ready || pod.ready && !pod.terminating;
    // Hints are for ready endpoints only; the proxy looks at no others.
    let distribution = distribution.filter(|_| ready);
    let zone = pod.node.as_ref().and_then(|node| zones.get(node));
    let by_node = distribution == Some(Distribution::SameNode);
    SliceEndpoint {
        address: std::net::Ipv4Addr::UNSPECIFIED.into(),
        ready,
        serving: pod.ready,
        terminating: pod.terminating,
        node: pod.node.clone(),
        zone_hints: distribution.and(zone).cloned().into_iter().collect(),
        node_hints: pod.node.clone().filter(|_| by_node).into_iter().collect(),
        pod: Some(Arc::clone(&pod.key.name)),
    }
}

fn ports(service: &Service, numbers: &[Option<u16>]) -> Vec<SlicePort> {
    let resolved = service.ports.iter().zip(numbers);
    resolved
        .filter_map(|(port, number)| {
            Some(SlicePort { name: Arc::clone(&port.name), protocol: port.protocol, port: (*number)? })
        })
        .collect()
}

/// A name that stays the same for the same family, ports and part, whatever else comes and goes.
fn name(service: &Service, of: &impl Hash) -> NamespacedName {
    slice_name(&service.key, of)
}

/// The name of a Service's slice that was made of this.
pub(super) fn slice_name(service: &NamespacedName, of: &impl Hash) -> NamespacedName {
    let hash = super::hash(of) as u32;
    let name = format!("{}-{hash:08x}", service.name);
    NamespacedName { namespace: Arc::clone(&service.namespace), name: name.into() }
}

#[cfg(test)]
mod tests;
