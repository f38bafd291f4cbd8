//! `/healthz`, `/livez` and `/readyz`: the first two as kube-proxy 1.36 answers them
//! (kubernetes pkg/proxy/healthcheck/proxy_health.go), the third as the API server does.

use std::cell::Cell;

use serde::Serialize;

use super::http::Answer;
use super::state::{Health, Seen, State, ViewStanding, print_time};

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
    answer(state.health(now), now, Some(state.node_eligible()), &state.healthz)
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
    let good = health.healthy && node_eligible.unwrap_or(true);
    let [ok, unavailable] = counts.get();
    counts.set(if good { [ok + 1, unavailable] } else { [ok, unavailable + 1] });
    let status = if good { 200 } else { 503 };
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
        body.push_str(&view(state));
        body.push_str(if ready { "readyz check passed\n" } else { "readyz check failed\n" });
    } else {
        body.push_str("ok");
    }
    Answer::text(if ready { 200 } else { 503 }, body)
}

/// How old what is known of a cluster is. It makes nothing unready: an old state is better than none.
fn view(state: &State) -> String {
    let line = |view: ViewStanding| {
        let age = match view.age {
            Some(age) => format!("heard {} s ago", age.as_secs()),
            None => "never heard".to_owned(),
        };
        let failing = view.failing.map(|why| format!("; {why}")).unwrap_or_default();
        let sign = if failing.is_empty() { '+' } else { '!' };
        format!("[{sign}]api-server-{} {age}{failing}\n", view.kind)
    };
    state.view().into_iter().map(line).collect()
}
