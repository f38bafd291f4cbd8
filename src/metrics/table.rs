//! Every metric, one row each. kube-proxy's names where the meaning is the same.

use super::counters::{EndpointCounters, Labelled, PerShard, PortCounters, ShardCounters};
use super::histogram::{Buckets, CONNECT_BOUNDS, SESSION_BOUNDS, Which};
use super::{Process, ViewStanding};
use crate::counter::Counter;
use crate::problem::{Reason, Severity};
use crate::types::{Direction, DropReason, Label};

/// One metric.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it says, with its unit.
    pub help: &'static str,
    /// Labels besides those of what it is read from (see [`Read::labels`]).
    pub labels: &'static [&'static str],
    /// How it is read.
    pub read: Read,
}

/// Takes samples: labels and value.
type Out<'a, V> = &'a mut dyn FnMut(&[(&str, &str)], V);

/// How a metric is read.
pub enum Read {
    /// From the state of the process.
    Process(fn(&Process, Out<'_, f64>)),
    /// A histogram of the process.
    ProcessTime(fn(&Process) -> &Buckets),
    /// From each shard.
    Shard(fn(&ShardCounters) -> u64),
    /// From each service port.
    Port(fn(&PerShard<PortCounters>, Out<'_, u64>)),
    /// A histogram of each service port.
    PortTime(Which),
    /// From each endpoint.
    Endpoint(fn(&PerShard<EndpointCounters>, Out<'_, u64>)),
}

impl Read {
    /// The labels that say which shard, service port or endpoint it is.
    pub fn labels(&self) -> &'static [&'static str] {
        match self {
            Self::Process(_) | Self::ProcessTime(_) => &[],
            Self::Shard(_) => &["shard"],
            Self::Port(_) | Self::PortTime(_) => &["namespace", "service", "port", "protocol"],
            Self::Endpoint(_) => &["namespace", "service", "port", "protocol", "endpoint", "pod"],
        }
    }
}

/// The sum over all shards.
fn sum<T>(stats: &PerShard<T>, counter: impl Fn(&T) -> &Counter) -> u64 {
    stats.iter().map(|shard| counter(shard).get()).fold(0, u64::wrapping_add)
}

/// One sample for each value of a label. `used` says whether there was anything to count yet: thousands of
/// Services without traffic do not fill a scrape with zeros.
fn by<T, L: Label>(
    used: bool,
    stats: &PerShard<T>,
    counters: impl Fn(&T) -> &Labelled<L>,
    out: Out<'_, u64>,
) {
    for label in L::ALL.iter().filter(|_| used) {
        out(&[("reason", label.label())], sum(stats, |shard| counters(shard).of(*label)));
    }
}

fn accepted(port: &PerShard<PortCounters>) -> bool {
    sum(port, |c| &c.accepted) > 0
}

fn seen_datagrams(port: &PerShard<PortCounters>) -> bool {
    let dropped = |c: &PortCounters| DropReason::ALL.iter().any(|reason| c.dropped_up.of(*reason).get() > 0);
    sum(port, |c| &c.datagrams.up) > 0 || port.iter().any(dropped)
}

/// Samples for both directions, as seen from the pod.
fn directions(up: u64, down: u64, out: Out<'_, u64>) {
    out(&[("direction", "up")], up);
    out(&[("direction", "down")], down);
}

fn pending(process: &Process, kind: &str) -> f64 {
    process.view.iter().filter(|view| view.kind == kind).map(|view| view.pending as f64).sum()
}

/// One sample for each kind that is followed.
fn by_kind(process: &Process, count: fn(&ViewStanding) -> u64, out: Out<'_, f64>) {
    for view in &process.view {
        out(&[("kind", view.kind)], count(view) as f64);
    }
}

/// Samples for two codes of an answer.
fn codes(counts: [u64; 2], out: Out<'_, f64>) {
    for (code, count) in ["200", "503"].into_iter().zip(counts) {
        out(&[("code", code)], count as f64);
    }
}

/// All metrics, in the order of the page.
pub static METRICS: &[Metric] = &[
    Metric {
        name: "ringport_build_info",
        kind: "gauge",
        help: "Always 1; the label says which version this is.",
        labels: &["version"],
        read: Read::Process(|_, out| out(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)),
    },
    Metric {
        name: "ringport_ready",
        kind: "gauge",
        help: "1 when /readyz says ok.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], f64::from(u8::from(p.ready)))),
    },
    Metric {
        name: "ringport_draining",
        kind: "gauge",
        help: "1 when the process accepts nothing new and waits for its sessions to end.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], f64::from(u8::from(p.draining)))),
    },
    Metric {
        name: "ringport_snapshot_generation",
        kind: "gauge",
        help: "The routing snapshot in force: how many were published since the start.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.generation as f64)),
    },
    Metric {
        name: "ringport_snapshot_applied_generation",
        kind: "gauge",
        help: "The newest routing snapshot that every shard has applied.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.generation_applied as f64)),
    },
    Metric {
        name: "ringport_snapshot_age_seconds",
        kind: "gauge",
        help: "Seconds since the routing snapshot in force was published.",
        labels: &[],
        read: Read::Process(|p, out| {
            if p.last_synced > 0.0 {
                out(&[], (p.now - p.last_synced).max(0.0));
            }
        }),
    },
    Metric {
        name: "ringport_snapshot_apply_seconds",
        kind: "histogram",
        help: "Seconds from a change being read until the last shard had applied it: parse, compile, hold ports, publish, listen.",
        labels: &[],
        read: Read::ProcessTime(|p| &p.apply_seconds),
    },
    Metric {
        name: "ringport_frontends",
        kind: "gauge",
        help: "Addresses and ports that are served.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.frontends as f64)),
    },
    Metric {
        name: "ringport_problems",
        kind: "gauge",
        help: "Problems in force with what is to be served: error is not served, warning is doubtful.",
        labels: &["severity"],
        read: Read::Process(|p, out| {
            for (severity, label) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
                let of = p.problems.iter().filter(|((s, _), _)| *s == severity);
                out(&[("severity", label)], of.map(|(_, n)| *n).sum::<u64>() as f64);
            }
        }),
    },
    Metric {
        name: "ringport_problems_by_reason",
        kind: "gauge",
        help: "The same problems by what they are about, such as PortTaken or AddressContested; Other are mistakes in objects.",
        labels: &["reason"],
        read: Read::Process(|p, out| {
            for reason in Reason::ALL {
                let of = p.problems.iter().filter(|((_, r), _)| *r == reason);
                out(&[("reason", reason.as_str())], of.map(|(_, n)| *n).sum::<u64>() as f64);
            }
        }),
    },
    Metric {
        name: "ringport_files_failing",
        kind: "gauge",
        help: "Manifest files whose latest content cannot be used; their last good content is served.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.files_failing as f64)),
    },
    Metric {
        name: "ringport_max_connections",
        kind: "gauge",
        help: "Sessions at a time that are admitted, all shards together.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.max_connections as f64)),
    },
    Metric {
        name: "ringport_access_log_lines_total",
        kind: "counter",
        help: "Lines of the access log by what became of them. See also ringport_shard_access_log_dropped_total.",
        labels: &["result"],
        read: Read::Process(|p, out| {
            for (result, count) in ["written", "failed"].into_iter().zip(p.access_log_lines) {
                out(&[("result", result)], count as f64);
            }
        }),
    },
    // === As kube-proxy has them ===
    Metric {
        name: "kubeproxy_sync_proxy_rules_duration_seconds",
        kind: "histogram",
        help: "Seconds from a change until the snapshot made from it was published.",
        labels: &[],
        read: Read::ProcessTime(|p| &p.sync_seconds),
    },
    Metric {
        name: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        kind: "gauge",
        help: "When a change was last seen, in seconds since 1970.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.last_queued)),
    },
    Metric {
        name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        kind: "gauge",
        help: "When changes were last applied, in seconds since 1970.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.last_synced)),
    },
    Metric {
        name: "kubeproxy_sync_proxy_rules_service_changes_pending",
        kind: "gauge",
        help: "Changes of Services that were seen and are not yet compiled.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], pending(p, "services"))),
    },
    Metric {
        name: "kubeproxy_sync_proxy_rules_service_changes_total",
        kind: "counter",
        help: "Changes of Services that were compiled.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.compiled.service_changes as f64)),
    },
    Metric {
        name: "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        kind: "gauge",
        help: "Changes of EndpointSlices that were seen and are not yet compiled.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], pending(p, "endpointslices"))),
    },
    Metric {
        name: "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        kind: "counter",
        help: "Changes of the EndpointSlices of a Service that were compiled.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.compiled.endpoint_changes as f64)),
    },
    Metric {
        name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        kind: "gauge",
        help: "Service ports with policy Local that have endpoints, but none on this node.",
        labels: &["traffic_policy"],
        read: Read::Process(|p, out| {
            for (policy, count) in ["internal", "external"].into_iter().zip(p.compiled.no_local_endpoints) {
                out(&[("traffic_policy", policy)], count as f64);
            }
        }),
    },
    Metric {
        name: "kubeproxy_network_programming_duration_seconds",
        kind: "histogram",
        help: "Seconds from the change of a Pod or Service that an EndpointSlice tells of until all shards had applied it.",
        labels: &[],
        read: Read::ProcessTime(|p| &p.programming_seconds),
    },
    // === The API server of a cluster ===
    Metric {
        name: "ringport_view_age_seconds",
        kind: "gauge",
        help: "Seconds since the API server was last heard of objects of a kind. It grows while the server is silent.",
        labels: &["kind"],
        read: Read::Process(|p, out| {
            for view in &p.view {
                if let Some(age) = view.age {
                    out(&[("kind", view.kind)], age.as_secs_f64());
                }
            }
        }),
    },
    Metric {
        name: "ringport_view_lists_total",
        kind: "counter",
        help: "Whole lists of a kind that were taken over from the API server.",
        labels: &["kind"],
        read: Read::Process(|p, out| by_kind(p, |view| view.lists, out)),
    },
    Metric {
        name: "ringport_view_watches_total",
        kind: "counter",
        help: "Watches of a kind that were begun.",
        labels: &["kind"],
        read: Read::Process(|p, out| by_kind(p, |view| view.watches, out)),
    },
    Metric {
        name: "ringport_view_failures_total",
        kind: "counter",
        help: "Requests to the API server for a kind that failed, and streams that were dropped because nothing came.",
        labels: &["kind"],
        read: Read::Process(|p, out| by_kind(p, |view| view.failures, out)),
    },
    // === The API ===
    Metric {
        name: "ringport_api_answers_total",
        kind: "counter",
        help: "Answers of the API that were begun, by status code. 408, 413 and 429 are its limits: a body that is slow or large, too many watches.",
        labels: &["code"],
        read: Read::Process(|p, out| {
            for (code, count) in &p.api_answers {
                out(&[("code", &code.to_string())], *count as f64);
            }
        }),
    },
    // === The pages ===
    Metric {
        name: "kubeproxy_proxy_healthz_total",
        kind: "counter",
        help: "Answers of /healthz by code.",
        labels: &["code"],
        read: Read::Process(|p, out| codes(p.healthz, out)),
    },
    Metric {
        name: "kubeproxy_proxy_livez_total",
        kind: "counter",
        help: "Answers of /livez by code.",
        labels: &["code"],
        read: Read::Process(|p, out| codes(p.livez, out)),
    },
    // === Service ports ===
    Metric {
        name: "ringport_connections_total",
        kind: "counter",
        help: "Connections accepted, and UDP flows begun.",
        labels: &[],
        read: Read::Port(|port, out| out(&[], sum(port, |c| &c.accepted))),
    },
    Metric {
        name: "ringport_connections_active",
        kind: "gauge",
        help: "Connections accepted and not yet over.",
        labels: &[],
        read: Read::Port(|port, out| out(&[], sum(port, |c| &c.active))),
    },
    Metric {
        name: "ringport_connections_retried_total",
        kind: "counter",
        help: "Connections that needed more than one endpoint.",
        labels: &[],
        read: Read::Port(|port, out| out(&[], sum(port, |c| &c.retried))),
    },
    Metric {
        name: "ringport_client_address_total",
        kind: "counter",
        help: "Attempts to connect to a pod under externalTrafficPolicy: Local, by the address that the pod sees.",
        labels: &["seen"],
        read: Read::Port(|port, out| {
            let (client, node) = (sum(port, |c| &c.client_kept), sum(port, |c| &c.client_replaced));
            if client + node > 0 {
                out(&[("seen", "client")], client);
                out(&[("seen", "node")], node);
            }
        }),
    },
    Metric {
        name: "ringport_connections_refused_total",
        kind: "counter",
        help: "Connections that reached no pod, by reason. Appears with the first connection.",
        labels: &["reason"],
        read: Read::Port(|port, out| by(accepted(port), port, |c| &c.refused, out)),
    },
    Metric {
        name: "ringport_sessions_ended_total",
        kind: "counter",
        help: "Sessions over, by reason: who ended them, and how. Appears with the first connection.",
        labels: &["reason"],
        read: Read::Port(|port, out| by(accepted(port), port, |c| &c.ended, out)),
    },
    Metric {
        name: "ringport_bytes_total",
        kind: "counter",
        help: "Bytes delivered: up is to pods, down is to clients.",
        labels: &["direction"],
        read: Read::Port(|port, out| {
            directions(sum(port, |c| &c.bytes.up), sum(port, |c| &c.bytes.down), out);
        }),
    },
    Metric {
        name: "ringport_bytes_spliced_total",
        kind: "counter",
        help: "Of those, bytes that went through a pipe inside the kernel.",
        labels: &["direction"],
        read: Read::Port(|port, out| {
            directions(sum(port, |c| &c.bytes_spliced.up), sum(port, |c| &c.bytes_spliced.down), out);
        }),
    },
    Metric {
        name: "ringport_bytes_lost_total",
        kind: "counter",
        help: "Bytes accepted from one side that could not be delivered to the other.",
        labels: &["direction"],
        read: Read::Port(|port, out| {
            directions(sum(port, |c| &c.bytes_lost.up), sum(port, |c| &c.bytes_lost.down), out);
        }),
    },
    Metric {
        name: "ringport_datagrams_total",
        kind: "counter",
        help: "Datagrams delivered: up is to pods, down is to clients. For UDP ports.",
        labels: &["direction"],
        read: Read::Port(|port, out| {
            if seen_datagrams(port) {
                directions(sum(port, |c| &c.datagrams.up), sum(port, |c| &c.datagrams.down), out);
            }
        }),
    },
    Metric {
        name: "ringport_datagrams_dropped_total",
        kind: "counter",
        help: "Datagrams from clients (up) and pods (down) that were not delivered, by reason.",
        labels: &["direction", "reason"],
        read: Read::Port(|port, out| {
            for (direction, name) in [(Direction::Up, "up"), (Direction::Down, "down")] {
                for reason in DropReason::ALL.iter().filter(|_| seen_datagrams(port)) {
                    let count = sum(port, |c| c.dropped(direction).of(*reason));
                    out(&[("direction", name), ("reason", reason.label())], count);
                }
            }
        }),
    },
    Metric {
        name: "ringport_connect_seconds",
        kind: "histogram",
        help: "Seconds from accept to an established connection to a pod. Appears with the first session.",
        labels: &[],
        read: Read::PortTime((|times| &times.connect_micros, CONNECT_BOUNDS)),
    },
    Metric {
        name: "ringport_session_seconds",
        kind: "histogram",
        help: "Seconds from accept to the end of a session. Appears with the first session.",
        labels: &[],
        read: Read::PortTime((|times| &times.session_micros, SESSION_BOUNDS)),
    },
    // === Endpoints ===
    Metric {
        name: "ringport_endpoint_connections_total",
        kind: "counter",
        help: "Connections established to an endpoint.",
        labels: &[],
        read: Read::Endpoint(|endpoint, out| out(&[], sum(endpoint, |c| &c.connected))),
    },
    Metric {
        name: "ringport_endpoint_connections_active",
        kind: "gauge",
        help: "Connections to an endpoint that are not yet over.",
        labels: &[],
        read: Read::Endpoint(|endpoint, out| out(&[], sum(endpoint, |c| &c.active))),
    },
    Metric {
        name: "ringport_endpoint_connect_failures_total",
        kind: "counter",
        help: "Attempts to connect to an endpoint that failed, by reason. Appears with the first attempt.",
        labels: &["reason"],
        read: Read::Endpoint(|endpoint, out| {
            let failed = |c: &EndpointCounters| -> u64 {
                Label::ALL.iter().map(|reason| c.failed.of(*reason).get()).sum()
            };
            let used = endpoint.iter().any(|c| c.connected.get() > 0 || failed(c) > 0);
            by(used, endpoint, |c| &c.failed, out);
        }),
    },
    Metric {
        name: "ringport_endpoint_ejections_total",
        kind: "counter",
        help: "Times an endpoint was left out for a while because connections to it kept failing.",
        labels: &[],
        read: Read::Endpoint(|endpoint, out| out(&[], sum(endpoint, |c| &c.ejected))),
    },
    Metric {
        name: "ringport_endpoint_bytes_total",
        kind: "counter",
        help: "Bytes delivered to an endpoint (up) and from it (down).",
        labels: &["direction"],
        read: Read::Endpoint(|endpoint, out| {
            directions(sum(endpoint, |c| &c.bytes.up), sum(endpoint, |c| &c.bytes.down), out);
        }),
    },
    // === Shards ===
    Metric {
        name: "ringport_shard_connections_active",
        kind: "gauge",
        help: "Connections that a shard carries.",
        labels: &[],
        read: Read::Shard(|shard| shard.active.get()),
    },
    Metric {
        name: "ringport_shard_connections_total",
        kind: "counter",
        help: "Connections that a shard has accepted.",
        labels: &[],
        read: Read::Shard(|shard| shard.accepted.get()),
    },
    Metric {
        name: "ringport_shard_accept_errors_total",
        kind: "counter",
        help: "Accepts that failed: no descriptors, no memory, or a client that had left.",
        labels: &[],
        read: Read::Shard(|shard| shard.accept_errors.get()),
    },
    Metric {
        name: "ringport_shard_accept_backoffs_total",
        kind: "counter",
        help: "Times a listener refused what waited and paused, as the process was out of descriptors or memory.",
        labels: &[],
        read: Read::Shard(|shard| shard.accept_backoffs.get()),
    },
    Metric {
        name: "ringport_shard_connections_limited_total",
        kind: "counter",
        help: "Connections refused because a limit of the process was reached.",
        labels: &[],
        read: Read::Shard(|shard| shard.limited.get()),
    },
    Metric {
        name: "ringport_shard_ring_enters_total",
        kind: "counter",
        help: "Turns of the relay ring that entered the kernel.",
        labels: &[],
        read: Read::Shard(|shard| shard.ring.enters.get()),
    },
    Metric {
        name: "ringport_shard_ring_completions_total",
        kind: "counter",
        help: "Completions taken from the relay ring.",
        labels: &[],
        read: Read::Shard(|shard| shard.ring.completions.get()),
    },
    Metric {
        name: "ringport_shard_no_buffers_total",
        kind: "counter",
        help: "Receives that found no free buffer and were armed again.",
        labels: &[],
        read: Read::Shard(|shard| shard.ring.no_buffers.get()),
    },
    Metric {
        name: "ringport_shard_bytes_orphaned_total",
        kind: "counter",
        help: "Bytes received for sessions that were already over: lost, and in no session's account.",
        labels: &[],
        read: Read::Shard(|shard| shard.ring.bytes_orphaned.get()),
    },
    Metric {
        name: "ringport_shard_pipes",
        kind: "gauge",
        help: "Pipes open for splicing.",
        labels: &[],
        read: Read::Shard(|shard| shard.ring.pipes.get()),
    },
    Metric {
        name: "ringport_shard_pipes_refused_total",
        kind: "counter",
        help: "Transfers that were copied because no pipe was to be had.",
        labels: &[],
        read: Read::Shard(|shard| shard.pipes_refused.get()),
    },
    Metric {
        name: "ringport_shard_backlog_bytes",
        kind: "gauge",
        help: "Bytes of memory that wait for clients and pods that do not read.",
        labels: &[],
        read: Read::Shard(|shard| shard.backlog_bytes.get()),
    },
    Metric {
        name: "ringport_shard_backlog_used_up_total",
        kind: "counter",
        help: "Times these were as many as they may be, so that a shard received one buffer at a time for a while.",
        labels: &[],
        read: Read::Shard(|shard| shard.backlog_used_up.get()),
    },
    Metric {
        name: "ringport_shard_listeners",
        kind: "gauge",
        help: "Listening sockets open.",
        labels: &[],
        read: Read::Shard(|shard| shard.listeners.get()),
    },
    Metric {
        name: "ringport_shard_listeners_failed",
        kind: "gauge",
        help: "Listening sockets that could not be opened and are being retried.",
        labels: &[],
        read: Read::Shard(|shard| shard.listeners_failed.get()),
    },
    Metric {
        name: "ringport_shard_udp_sockets",
        kind: "gauge",
        help: "Sockets of UDP frontends open.",
        labels: &[],
        read: Read::Shard(|shard| shard.udp_sockets.get()),
    },
    Metric {
        name: "ringport_shard_udp_sockets_failed",
        kind: "gauge",
        help: "Sockets of UDP frontends that could not be opened and are being retried.",
        labels: &[],
        read: Read::Shard(|shard| shard.udp_sockets_failed.get()),
    },
    Metric {
        name: "ringport_shard_udp_flows",
        kind: "gauge",
        help: "UDP flows that a shard carries; they count among its connections.",
        labels: &[],
        read: Read::Shard(|shard| shard.udp_flows.get()),
    },
    Metric {
        name: "ringport_shard_access_log_dropped_total",
        kind: "counter",
        help: "Finished sessions for which the queue of the access log had no room.",
        labels: &[],
        read: Read::Shard(|shard| shard.access_log_dropped.get()),
    },
    // === The process, as every Prometheus client has it ===
    Metric {
        name: "process_cpu_seconds_total",
        kind: "counter",
        help: "Processor time used, in seconds.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.cpu_seconds)),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: "gauge",
        help: "Resident memory, in bytes.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.resident_bytes as f64)),
    },
    Metric {
        name: "process_open_fds",
        kind: "gauge",
        help: "Open files.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.open_files[0] as f64)),
    },
    Metric {
        name: "process_max_fds",
        kind: "gauge",
        help: "Files that may be open.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.open_files[1] as f64)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: "gauge",
        help: "When the process started, in seconds since 1970.",
        labels: &[],
        read: Read::Process(|p, out| out(&[], p.started)),
    },
];
