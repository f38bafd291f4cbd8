//! `/metrics`: the service ports and endpoints of the snapshot in force, for the rows of the metrics.

use std::collections::BTreeMap;

use super::state::{Seen, State};
use crate::metrics::{Endpoint, Port, Scrape, render};
use crate::route::snapshot::{Frontend, RoutingSnapshot};
use crate::types::{EndpointAddr, ServicePortName};

/// The page.
pub(super) fn page(state: &State) -> String {
    let snapshot = state.plane.snapshot.load();
    let ports: Vec<Port<'_>> = ports(&snapshot).into_values().collect();
    let process = state.process(Seen::now());
    render(&Scrape { process: &process, shards: &state.plane.stats, ports: &ports })
}

/// Every service port once, though it may have several frontends, with each endpoint of any of them.
fn ports(snapshot: &RoutingSnapshot) -> BTreeMap<&ServicePortName, Port<'_>> {
    let mut endpoints: BTreeMap<&ServicePortName, BTreeMap<EndpointAddr, Endpoint<'_>>> = BTreeMap::new();
    let mut ports = BTreeMap::new();
    for frontend in snapshot.frontends().values() {
        let name = &frontend.port.name;
        let port = || Port { name, stats: &frontend.port.stats, endpoints: Vec::new() };
        ports.entry(name).or_insert_with(port);
        endpoints.entry(name).or_default().extend(endpoints_of(frontend));
    }
    for (name, endpoints) in endpoints {
        if let Some(port) = ports.get_mut(name) {
            port.endpoints = endpoints.into_values().collect();
        }
    }
    ports
}

fn endpoints_of(frontend: &Frontend) -> impl Iterator<Item = (EndpointAddr, Endpoint<'_>)> {
    frontend.targets.endpoints.iter().map(|endpoint| {
        let of = Endpoint { addr: endpoint.addr, pod: endpoint.pod.as_deref(), stats: &endpoint.stats };
        (endpoint.addr, of)
    })
}
