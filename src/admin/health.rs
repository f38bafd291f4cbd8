//! `/healthz`, `/livez` and `/readyz`: the first two as kube-proxy 1.36 answers them
//! (kubernetes pkg/proxy/healthcheck/proxy_health.go), the third as the API server does.

use std::cell::Cell;

use serde::Serialize;

use super::http::Answer;
use super::state::{Health, Seen, State, print_time};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: Families,
}

#[derive(Serialize)]
struct Families {
    #[serde(rename = "IPv4")]
    v4: Family,
    #[serde(rename = "IPv6")]
    v6: Family,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    last_updated: String,
    healthy: bool,
}

/// Whether a load balancer in front should send traffic to this node.
pub(super) fn healthz(state: &State) -> Answer {
    let now = Seen::now();
    // Nothing here can know of a deletion or taint of the Node, so it is eligible.
    answer(state.health(now), now, Some(true), &state.healthz)
}

/// Whether the process works.
pub(super) fn livez(state: &State) -> Answer {
    let now = Seen::now();
    answer(state.health(now), now, None, &state.livez)
}

fn answer(health: Health, now: Seen, node_eligible: Option<bool>, counts: &Cell<[u64; 2]>) -> Answer {
    let last_updated = print_time(health.last_updated);
    let family = Family { last_updated: last_updated.clone(), healthy: health.healthy };
    let page = Page {
        last_updated,
        current_time: now.to_string(),
        node_eligible,
        healthy: health.healthy,
        // One snapshot serves both families.
        status: Families { v4: family.clone(), v6: family },
    };
    let [ok, unavailable] = counts.get();
    counts.set(if health.healthy { [ok + 1, unavailable] } else { [ok, unavailable + 1] });
    let status = if health.healthy { 200 } else { 503 };
    Answer::new(status, "application/json", serde_json::to_string(&page).unwrap_or_default())
}

/// Whether clients should come: the first snapshot is applied by all shards, and the process is not draining.
pub(super) fn readyz(state: &State, verbose: bool) -> Answer {
    let ready = state.ready();
    let mut body = String::new();
    if verbose || !ready {
        for (name, holds) in state.checks() {
            body.push_str(&if holds { format!("[+]{name} ok\n") } else { format!("[-]{name} failed\n") });
        }
        body.push_str(if ready { "readyz check passed\n" } else { "readyz check failed\n" });
    } else {
        body.push_str("ok");
    }
    Answer::text(if ready { 200 } else { 503 }, body)
}
