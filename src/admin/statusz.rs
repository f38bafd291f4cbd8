//! `/statusz`: everything that is served, on one page for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::state::{Seen, State, print_time};
use crate::clock::Millis;
use crate::config::print_duration;
use crate::limits;
use crate::metrics::counters::PortCounters;
use crate::route::snapshot::{Endpoint, Frontend, RoutingSnapshot};
use crate::types::{Label, ServicePortName};

/// The page.
pub(super) fn page(state: &State) -> String {
    let now = Seen::now();
    let mut page = String::new();
    write_process(&mut page, state, now);
    write_services(&mut page, &state.plane.snapshot.load(), now.at());
    write_problems(&mut page, state);
    page
}

/// Writing to a String never fails; this keeps the `let _ =` in one place.
macro_rules! put {
    ($page:expr, $($text:tt)*) => { let _ = writeln!($page, $($text)*); };
}

fn write_process(page: &mut String, state: &State, now: Seen) {
    let process = state.process(now);
    let up = print_duration(std::time::Duration::from_secs((now.unix - process.started).max(0.0) as u64));
    let condition = match (process.ready, process.draining) {
        (_, true) => "draining",
        (true, false) => "ready",
        (false, false) => "not ready",
    };
    put!(page, "ringport {}, {condition}, up {up}", env!("CARGO_PKG_VERSION"));
    put!(
        page,
        "snapshot {} of {}, applied by all shards: {}",
        process.generation,
        print_time(process.last_synced),
        process.generation_applied
    );
    for (number, shard) in state.plane.stats.iter().enumerate() {
        put!(
            page,
            "shard {number}: {} sessions, {} accepted, {} listeners ({} failed)",
            shard.active.get(),
            shard.accepted.get(),
            shard.listeners.get(),
            shard.listeners_failed.get()
        );
    }
    put!(page, "at most {} sessions, {} files", process.max_connections, process.open_files[1]);
}

fn write_services(page: &mut String, snapshot: &RoutingSnapshot, now: Millis) {
    let mut frontends: BTreeMap<&ServicePortName, Vec<&Frontend>> = BTreeMap::new();
    for frontend in snapshot.frontends().values() {
        frontends.entry(&frontend.port.name).or_default().push(frontend);
    }
    for (name, port) in snapshot.ports() {
        let sum = |read: fn(&PortCounters) -> u64| -> u64 { port.stats.iter().map(read).sum() };
        let refused = |counters: &PortCounters| -> u64 {
            Label::ALL.iter().map(|reason| counters.refused.of(*reason).get()).sum()
        };
        put!(page, "\n{name} {}", name.protocol);
        match frontends.get(&name) {
            None => {
                put!(page, "  no longer served; its last sessions are not over");
            }
            Some(frontends) => {
                for frontend in frontends {
                    put!(page, "  {} {}, {}", frontend.kind.as_str(), frontend.key, endpoints_of(frontend));
                }
            }
        }
        put!(
            page,
            "  {} sessions now, {} accepted, {} retried, {} refused",
            port.active(),
            sum(|c| c.accepted.get()),
            sum(|c| c.retried.get()),
            port.stats.iter().map(refused).sum::<u64>()
        );
        for endpoint in port.endpoints() {
            write_endpoint(page, &endpoint, now);
        }
    }
}

fn endpoints_of(frontend: &Frontend) -> String {
    match frontend.targets.endpoints.len() {
        0 => "no endpoint: refuses".to_owned(),
        1 => "1 endpoint".to_owned(),
        n => format!("{n} endpoints"),
    }
}

fn write_endpoint(page: &mut String, endpoint: &Endpoint, now: Millis) {
    let failed: u64 = endpoint
        .stats
        .iter()
        .map(|counters| Label::ALL.iter().map(|reason| counters.failed.of(*reason).get()).sum::<u64>())
        .sum();
    let connected: u64 = endpoint.stats.iter().map(|counters| counters.connected.get()).sum();
    put!(
        page,
        "    {:<24} {:<32} {} sessions, {connected} connected, {failed} failed{}",
        endpoint.addr.to_string(),
        endpoint.pod.as_deref().unwrap_or("-"),
        endpoint.active(),
        if endpoint.ejected(now) { ", ejected" } else { "" }
    );
}

fn write_problems(page: &mut String, state: &State) {
    let problems = state.problems();
    put!(page, "\nproblems in force: {}", problems.len());
    for problem in problems.iter().take(limits::STATUS_PROBLEMS) {
        put!(page, "  {problem}");
    }
    if problems.len() > limits::STATUS_PROBLEMS {
        put!(page, "  and {} more", problems.len() - limits::STATUS_PROBLEMS);
    }
}
