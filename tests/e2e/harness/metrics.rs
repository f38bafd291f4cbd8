//! What `/metrics` says. The names stand here once.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::LazyLock;

use super::client::try_connect;

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads the text format of Prometheus.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a metric: {line}"))).collect())
    }

    /// The sum of all samples of this name that have these labels (`reason="no_endpoints"`).
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        assert!(documented().contains(name), "docs/metrics.md has no {name}");
        let has = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|label| sample.labels.contains(label))
        };
        self.0.iter().filter(has).map(|sample| sample.value as u64).sum()
    }

    /// The value of each sample of this name.
    pub(crate) fn each(&self, name: &str) -> Vec<u64> {
        self.0.iter().filter(|sample| sample.name == name).map(|sample| sample.value as u64).collect()
    }

    pub(crate) fn ended(&self, reason: &str) -> u64 {
        self.sum("ringport_sessions_ended_total", &[&format!("reason=\"{reason}\"")])
    }

    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.sum("ringport_connections_refused_total", &[&format!("reason=\"{reason}\"")])
    }

    pub(crate) fn retried(&self) -> u64 {
        self.sum("ringport_connections_retried_total", &[])
    }

    /// Attempts to connect to pods that were to see their client, by what they saw: `client` or `node`.
    pub(crate) fn seen(&self, what: &str) -> u64 {
        self.sum("ringport_client_address_total", &[&format!("seen=\"{what}\"")])
    }

    pub(crate) fn active(&self) -> u64 {
        self.sum("ringport_connections_active", &[])
    }

    pub(crate) fn spliced(&self) -> u64 {
        self.sum("ringport_bytes_spliced_total", &[])
    }

    /// The newest snapshot that all shards have applied.
    pub(crate) fn generation(&self) -> u64 {
        self.sum("ringport_snapshot_applied_generation", &[])
    }

    pub(crate) fn accepted_by_shard(&self) -> Vec<u64> {
        self.each("ringport_shard_connections_total")
    }

    pub(crate) fn connect_failed(&self, reason: &str) -> u64 {
        self.sum("ringport_endpoint_connect_failures_total", &[&format!("reason=\"{reason}\"")])
    }

    pub(crate) fn problems(&self) -> u64 {
        self.sum("ringport_problems", &["severity=\"error\""])
    }
}

/// Metrics that count nothing yet may be absent, so a name that is misspelt has to be found here.
fn documented() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap()
    });
    &PAGE
}

/// `name{labels} value`
fn sample(line: &str) -> Option<Sample> {
    let (key, value) = line.rsplit_once(' ')?;
    let (name, labels) = key.split_once('{').unwrap_or((key, ""));
    Some(Sample { name: name.into(), labels: labels.into(), value: value.parse().ok()? })
}

/// GET over HTTP/1.1: the status and the body.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = try_connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| io::Error::other(format!("not an answer: {text}")))
}
