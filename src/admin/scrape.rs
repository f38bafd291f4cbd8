//! `/metrics`: the service ports and endpoints in force, or with sessions left, for the rows of the metrics.

use std::sync::Arc;

use super::state::{Seen, State};
use crate::metrics::{Endpoint, Port, Scrape, render};
use crate::route::snapshot::{Endpoint as Routed, PortState};

/// The page.
pub(super) fn page(state: &State) -> String {
    let ports = state.plane.snapshot.load().ports();
    let ports: Vec<(&Arc<PortState>, Vec<Arc<Routed>>)> =
        ports.values().map(|port| (port, port.endpoints())).collect();
    let ports: Vec<Port<'_>> = ports
        .iter()
        .map(|(port, endpoints)| Port {
            name: &port.name,
            stats: &port.stats,
            endpoints: endpoints.iter().map(|endpoint| scraped(endpoint)).collect(),
        })
        .collect();
    let process = state.process(Seen::now());
    render(&Scrape { process: &process, shards: &state.plane.stats, ports: &ports })
}

fn scraped(endpoint: &Routed) -> Endpoint<'_> {
    Endpoint { addr: endpoint.addr, pod: endpoint.pod.as_deref(), stats: &endpoint.stats }
}
