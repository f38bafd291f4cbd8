//! What a snapshot serves, in words.

use std::collections::BTreeMap;

use crate::route::snapshot::{Frontend, RoutingSnapshot};
use crate::types::{Protocol, ServicePortName};

/// One line for each service port: its frontends and how many endpoints stand behind them.
pub fn lines(snapshot: &RoutingSnapshot) -> Vec<String> {
    let mut ports: BTreeMap<&ServicePortName, Vec<&Frontend>> = BTreeMap::new();
    for frontend in snapshot.frontends().values().filter(|f| f.key.protocol != Protocol::Sctp) {
        ports.entry(&frontend.port.name).or_default().push(frontend);
    }
    ports.into_iter().map(|(name, frontends)| line(name, &frontends)).collect()
}

fn line(name: &ServicePortName, frontends: &[&Frontend]) -> String {
    let at: Vec<String> = frontends.iter().map(|f| format!("{} {}", f.kind.as_str(), f.key)).collect();
    let endpoints = frontends.iter().map(|f| f.targets.endpoints.len()).max().unwrap_or(0);
    let endpoints = match endpoints {
        0 => "no endpoint yet, so clients are refused".to_owned(),
        1 => "1 endpoint".to_owned(),
        n => format!("{n} endpoints"),
    };
    format!("{name} at {}: {endpoints}", at.join(", "))
}
