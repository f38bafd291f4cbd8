use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::counter::Counter;
use crate::ring::RingCounters;
use crate::types::{ConnectFailure, EndReason, NamespacedName, Protocol, Refusal};

/// One sample: its labels in order, and its value.
type Sample = (Vec<(String, String)>, f64);

/// A page, read strictly: by family, the type and the samples by full name.
struct Page(BTreeMap<String, (String, Vec<(String, Sample)>)>);

impl Page {
    /// Refuses what Prometheus or promtool would: samples before their head, two heads, two equal
    /// series, wrong escapes, counters without `_total`.
    fn read(text: &str) -> Self {
        let mut families = BTreeMap::new();
        let mut family = String::new();
        let mut seen = BTreeSet::new();
        assert!(text.ends_with('\n'), "the last line is ended");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(help.ends_with('.'), "{line}");
                family = name.to_owned();
                assert!(families.insert(family.clone(), (String::new(), Vec::new())).is_none(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(kind == "counter", counts(name), "{line}");
                families.get_mut(name).unwrap().0 = kind.to_owned();
            } else {
                let (name, sample) = Self::read_sample(line);
                assert!(seen.insert((name.clone(), sample.0.clone())), "twice: {line}");
                let (kind, samples) = families.get_mut(&family).expect("a head before the samples");
                let endings: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(endings.iter().any(|e| name == format!("{family}{e}")), "{line}");
                samples.push((name, sample));
            }
        }
        let page = Self(families);
        page.check_histograms();
        page
    }

    fn read_sample(line: &str) -> (String, Sample) {
        let name_end = line.find(['{', ' ']).unwrap();
        let (name, mut rest) = line.split_at(name_end);
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        let mut labels = Vec::new();
        if rest.starts_with('{') {
            loop {
                let (label, tail) = rest[1..].split_once("=\"").unwrap();
                let (text, tail) = Self::read_label_value(tail);
                labels.push((label.to_owned(), text));
                rest = tail;
                match rest.as_bytes()[0] {
                    b',' => {}
                    b'}' => break,
                    other => panic!("{:?} in {line}", char::from(other)),
                }
            }
            rest = &rest[1..];
        }
        let value = rest.strip_prefix(' ').unwrap();
        (name.to_owned(), (labels, value.parse().unwrap()))
    }

    fn read_label_value(text: &str) -> (String, &str) {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((place, c)) = chars.next() {
            match c {
                '"' => return (value, &text[place + 1..]),
                '\\' => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("\\{other}"),
                }),
                other => value.push(other),
            }
        }
        panic!("no end: {text}");
    }

    /// Buckets grow, the last is +Inf and equals the count.
    fn check_histograms(&self) {
        for (family, (_, samples)) in self.0.iter().filter(|(_, (kind, _))| kind == "histogram") {
            let mut last = (f64::NEG_INFINITY, 0.0);
            for (name, (labels, value)) in samples {
                if name.ends_with("_bucket") {
                    let (le, bound) = labels.last().unwrap();
                    assert_eq!(le, "le");
                    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                    assert!(bound > last.0 && *value >= last.1, "{family} {labels:?}");
                    last = (bound, *value);
                } else if name.ends_with("_count") {
                    assert_eq!(last, (f64::INFINITY, *value), "{family}");
                    last = (f64::NEG_INFINITY, 0.0);
                }
            }
        }
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &Sample| {
            labels.iter().all(|(l, v)| sample.0.iter().any(|(label, value)| label == l && value == v))
        };
        let mut found = self.0.values().flat_map(|(_, samples)| samples).filter(|(n, s)| n == name && has(s));
        let first = found.next().map(|(_, sample)| sample.1);
        assert!(found.next().is_none(), "{name} {labels:?}: several series");
        first
    }
}

fn service_port(service: &str) -> ServicePortName {
    let service = NamespacedName::new("default", service);
    ServicePortName { service, port: "http".into(), protocol: Protocol::Tcp }
}

#[test]
fn a_page_adds_up_what_the_shards_counted() {
    let shards = PerShard::<ShardCounters>::new(2);
    let port = PerShard::<PortCounters>::new(2);
    let unused = PerShard::<PortCounters>::new(2);
    let endpoint = PerShard::<EndpointCounters>::new(2);
    for shard in 0..2 {
        let port = port.of(shard);
        port.accepted.add(10);
        port.active.add(1);
        port.refused.of(Refusal::NoEndpoints).add(2);
        port.ended.of(EndReason::ClientReset).add(3);
        port.bytes.up.add(100);
        port.times.connected(700);
        port.times.connected(40_000_000);
        port.times.ended(2_000_000);
        endpoint.of(shard).failed.of(ConnectFailure::Timeout).add(4);
        shards.of(shard).accepted.add(shard as u64 + 5);
    }
    let names = [service_port("web"), service_port("quiet")];
    let endpoints = vec![Endpoint {
        addr: EndpointAddr("10.0.0.1:80".parse().unwrap()),
        pod: Some("a\"b\\c\nd"),
        stats: &endpoint,
    }];
    let ports = [
        Port { name: &names[0], stats: &port, endpoints },
        Port { name: &names[1], stats: &unused, endpoints: Vec::new() },
    ];
    let mut process =
        Process { generation: 7, healthz: [3, 1], last_synced: 100.0, now: 102.5, ..Process::default() };
    process.sync_seconds.record(0.003);
    let page = Page::read(&render(&Scrape { process: &process, shards: &shards, ports: &ports }));

    let web = [("namespace", "default"), ("service", "web"), ("port", "http"), ("protocol", "TCP")];
    let value = |name: &str, more: &[(&str, &str)]| page.value(name, &[&web, more].concat());
    assert_eq!(value("ringport_connections_total", &[]), Some(20.0));
    assert_eq!(value("ringport_connections_active", &[]), Some(2.0));
    assert_eq!(value("ringport_connections_refused_total", &[("reason", "no_endpoints")]), Some(4.0));
    assert_eq!(value("ringport_sessions_ended_total", &[("reason", "client_reset")]), Some(6.0));
    assert_eq!(value("ringport_bytes_total", &[("direction", "up")]), Some(200.0));
    let pod = [("endpoint", "10.0.0.1:80"), ("pod", "a\"b\\c\nd")];
    let timeouts = [&pod[..], &[("reason", "timeout")]].concat();
    assert_eq!(value("ringport_endpoint_connect_failures_total", &timeouts), Some(8.0));

    assert_eq!(value("ringport_connect_seconds_bucket", &[("le", "0.0005")]), Some(0.0));
    assert_eq!(value("ringport_connect_seconds_bucket", &[("le", "0.001")]), Some(2.0));
    assert_eq!(value("ringport_connect_seconds_bucket", &[("le", "10")]), Some(2.0));
    assert_eq!(value("ringport_connect_seconds_bucket", &[("le", "+Inf")]), Some(4.0));
    let sum = value("ringport_session_seconds_sum", &[]).unwrap();
    assert!((sum - 4.0).abs() < 0.4, "{sum}");

    let quiet = [("service", "quiet")];
    assert_eq!(page.value("ringport_connections_total", &quiet), Some(0.0));
    assert_eq!(page.value("ringport_connections_refused_total", &quiet), None);
    assert_eq!(page.value("ringport_connect_seconds_count", &quiet), None);

    assert_eq!(page.value("ringport_shard_connections_total", &[("shard", "1")]), Some(6.0));
    assert_eq!(page.value("ringport_snapshot_generation", &[]), Some(7.0));
    assert_eq!(page.value("ringport_snapshot_age_seconds", &[]), Some(2.5));
    assert_eq!(page.value("kubeproxy_proxy_healthz_total", &[("code", "503")]), Some(1.0));
    assert_eq!(
        page.value("kubeproxy_sync_proxy_rules_duration_seconds_bucket", &[("le", "0.002")]),
        Some(0.0)
    );
    assert_eq!(
        page.value("kubeproxy_sync_proxy_rules_duration_seconds_bucket", &[("le", "0.004")]),
        Some(1.0)
    );
}

/// Counters end in `_total`, and nothing else does but one name of kube-proxy's.
fn counts(name: &str) -> bool {
    name.ends_with("_total") && name != "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
}

#[test]
fn rows_are_named_and_labelled_as_they_are_written() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        assert!(names.insert(metric.name), "{}: twice", metric.name);
        assert_eq!(metric.kind == "counter", counts(metric.name), "{}", metric.name);
        assert!(["counter", "gauge", "histogram"].contains(&metric.kind), "{}", metric.name);
    }
    // The labels that a row declares are those that it writes.
    let port = PerShard::<PortCounters>::new(1);
    let endpoint = PerShard::<EndpointCounters>::new(1);
    port.of(0).accepted.add(1);
    port.of(0).datagrams.up.add(1);
    port.of(0).client_kept.add(1);
    endpoint.of(0).connected.add(1);
    for metric in METRICS {
        let mut written = BTreeSet::new();
        let mut note = |labels: &[(&str, &str)]| {
            written.insert(labels.iter().map(|(label, _)| (*label).to_owned()).collect::<Vec<_>>());
        };
        match metric.read {
            Read::Process(read) => read(
                &Process {
                    last_synced: 1.0,
                    view: vec![view()],
                    api_answers: [(200, 1)].into(),
                    ..Process::default()
                },
                &mut |labels, _| note(labels),
            ),
            Read::Port(read) => read(&port, &mut |labels, _| note(labels)),
            Read::Endpoint(read) => read(&endpoint, &mut |labels, _| note(labels)),
            Read::ProcessTime(_) | Read::PortTime(_) | Read::Shard(_) => note(&[]),
        }
        let declared = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(written, BTreeSet::from([declared]), "{}", metric.name);
    }
}

fn view() -> ViewStanding {
    let age = Some(Duration::from_secs(1));
    ViewStanding { kind: "services", age, failing: None, lists: 1, watches: 1, failures: 0, pending: 0 }
}

#[test]
fn every_counter_of_a_shard_has_a_metric() {
    // All fields are counters, but for the reference to the ring's.
    let bytes = size_of::<ShardCounters>() - size_of::<Arc<RingCounters>>() + size_of::<RingCounters>();
    let counters = bytes / size_of::<Counter>();
    let rows = METRICS.iter().filter(|metric| matches!(metric.read, Read::Shard(_))).count();
    assert_eq!(rows, counters, "a new counter needs a row in metrics/table.rs");
}
