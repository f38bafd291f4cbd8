//! What is counted: counters that one shard writes and anyone reads, one row for each metric, and the
//! text that Prometheus reads.

use std::collections::BTreeMap;

pub mod counters;
mod docs;
mod exposition;
mod histogram;
mod table;

pub use docs::markdown;
pub use histogram::{Buckets, PROGRAMMING_BOUNDS, Which};
pub use table::{METRICS, Metric, Read};

use std::time::Duration;

use crate::metrics::counters::{EndpointCounters, PerShard, PortCounters, ShardCounters};
use crate::problem::{Reason, Severity};
use crate::types::{EndpointAddr, ServicePortName};
use exposition::Text;

/// Everything a scrape reads.
pub struct Scrape<'a> {
    /// What is known of the process as a whole.
    pub process: &'a Process,
    /// The counters of the shards.
    pub shards: &'a PerShard<ShardCounters>,
    /// The service ports in force, each once, in the order of their names.
    pub ports: &'a [Port<'a>],
}

/// A service port that is scraped.
pub struct Port<'a> {
    /// Its name.
    pub name: &'a ServicePortName,
    /// Its counters.
    pub stats: &'a PerShard<PortCounters>,
    /// Its endpoints, each once.
    pub endpoints: Vec<Endpoint<'a>>,
}

/// An endpoint that is scraped.
pub struct Endpoint<'a> {
    /// Where it is.
    pub addr: EndpointAddr,
    /// The pod's name, if known.
    pub pod: Option<&'a str>,
    /// Its counters.
    pub stats: &'a PerShard<EndpointCounters>,
}

/// How it stands with one kind of the objects of an API server.
#[derive(Clone, Debug)]
pub struct ViewStanding {
    /// As in `services`.
    pub kind: &'static str,
    /// Since the API server was last heard of it; `None` before the first list.
    pub age: Option<Duration>,
    /// Why it cannot be heard now.
    pub failing: Option<String>,
    /// Whole lists taken over.
    pub lists: u64,
    /// Watches begun.
    pub watches: u64,
    /// Requests and streams that failed.
    pub failures: u64,
    /// Changes that are not yet compiled.
    pub pending: u64,
}

/// What compilation has counted since the start, and what holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileCounts {
    /// Changes of Services.
    pub service_changes: u64,
    /// Services whose EndpointSlices changed.
    pub endpoint_changes: u64,
    /// Service ports that have endpoints, but under their policy Local none that may be used: of internal and of
    /// external traffic.
    pub no_local_endpoints: [u64; 2],
}

/// The state of the process as a whole. Times are seconds since 1970, zero for never.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// When it started.
    pub started: f64,
    /// The generation of the snapshot in force.
    pub generation: u64,
    /// The generation that all shards have applied.
    pub generation_applied: u64,
    /// Frontends in the snapshot.
    pub frontends: u64,
    /// When a change was last seen.
    pub last_queued: f64,
    /// When a snapshot was last published, and now.
    pub last_synced: f64,
    /// Now.
    pub now: f64,
    /// From a change to its publication.
    pub sync_seconds: Buckets,
    /// From a publication to the last shard that applied it.
    pub apply_seconds: Buckets,
    /// Problems in force, by severity and reason.
    pub problems: BTreeMap<(Severity, Reason), u64>,
    /// From the cause of a change of EndpointSlices to the last shard that applied it.
    pub programming_seconds: Buckets,
    /// What compilation has counted.
    pub compiled: CompileCounts,
    /// How it stands with the objects of an API server, by kind; nothing where there is none.
    pub view: Vec<ViewStanding>,
    /// Answers of the embedded API, by status code.
    pub api_answers: BTreeMap<u16, u64>,
    /// Files whose latest content could not be used.
    pub files_failing: u64,
    /// Whether the process is draining.
    pub draining: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// `--max-connections`, or what was planned.
    pub max_connections: u64,
    /// Answers of /healthz: 200 and 503.
    pub healthz: [u64; 2],
    /// Answers of /livez: 200 and 503.
    pub livez: [u64; 2],
    /// Lines of the access log that were written, and that could not be.
    pub access_log_lines: [u64; 2],
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Open files, and how many may be.
    pub open_files: [u64; 2],
}

/// A page in the Prometheus text format, version 0.0.4.
pub fn render(scrape: &Scrape<'_>) -> String {
    let mut text = Text::default();
    for metric in METRICS {
        text.metric(metric);
        match &metric.read {
            Read::Process(read) => read(scrape.process, &mut |labels, value| text.sample(labels, value)),
            Read::ProcessTime(read) => read(scrape.process).write(&mut text, &[]),
            Read::Shard(read) => {
                for (number, shard) in scrape.shards.iter().enumerate() {
                    text.sample(&[("shard", &number.to_string())], read(shard) as f64);
                }
            }
            Read::Port(read) => each_port(scrape, |labels, port| {
                read(port.stats, &mut |more, value| text.sample(&[labels, more].concat(), value as f64));
            }),
            Read::PortTime(read) => each_port(scrape, |labels, port| {
                if let Some(times) = histogram::merged(port.stats, *read) {
                    times.write(&mut text, labels);
                }
            }),
            Read::Endpoint(read) => each_port(scrape, |labels, port| {
                for endpoint in &port.endpoints {
                    let address = endpoint.addr.to_string();
                    let more = [("endpoint", address.as_str()), ("pod", endpoint.pod.unwrap_or_default())];
                    let labels = [labels, &more].concat();
                    read(endpoint.stats, &mut |more, value| {
                        text.sample(&[&labels, more].concat(), value as f64);
                    });
                }
            }),
        }
    }
    text.finish()
}

fn each_port<'a>(scrape: &Scrape<'a>, mut each: impl FnMut(&[(&'a str, &'a str)], &Port<'a>)) {
    for port in scrape.ports {
        let labels = [
            ("namespace", &*port.name.service.namespace),
            ("service", &*port.name.service.name),
            ("port", &*port.name.port),
            ("protocol", port.name.protocol.as_str()),
        ];
        each(&labels, port);
    }
}

#[cfg(test)]
mod tests;
