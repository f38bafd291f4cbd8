//! The annotations of ringport: what a Service may ask for beyond the Kubernetes API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::ServiceSpec;

use crate::k8s::field::{FieldProblem, nearest};
use crate::k8s::ip;
use crate::k8s::model::Algorithm;
use crate::types::ProxyVersion;

const PREFIX: &str = "ringport.io/";
const ALGORITHM: &str = "ringport.io/algorithm";
const MAX_CONNECTIONS: &str = "ringport.io/max-connections";
const MAX_CONNECTIONS_PER_CLIENT: &str = "ringport.io/max-connections-per-client";
const IDLE_TIMEOUT: &str = "ringport.io/idle-timeout";
const SOURCE_RANGES: &str = "ringport.io/source-ranges";
const UDP_TIMEOUT: &str = "ringport.io/udp-timeout";
const UDP_STREAM_TIMEOUT: &str = "ringport.io/udp-stream-timeout";
/// Written by ringport into what it shows of a file; it means nothing when it comes back.
const FILE: &str = super::super::meta::FILE_ANNOTATION;
const PROXY_PROTOCOL: &str = "ringport.io/proxy-protocol";
const ACCEPT_PROXY_PROTOCOL: &str = "ringport.io/accept-proxy-protocol";
const KNOWN: [&str; 9] = [
    ACCEPT_PROXY_PROTOCOL,
    ALGORITHM,
    IDLE_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_CLIENT,
    PROXY_PROTOCOL,
    SOURCE_RANGES,
    UDP_STREAM_TIMEOUT,
    UDP_TIMEOUT,
];

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("least-connections", Algorithm::LeastConnections),
    ("maglev", Algorithm::Maglev),
    ("random", Algorithm::Random),
    ("round-robin", Algorithm::RoundRobin),
];

/// What the annotations ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) algorithm: Algorithm,
    pub(super) max_connections: Option<u32>,
    pub(super) max_connections_per_client: Option<u32>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) proxy_protocol: Option<ProxyVersion>,
    pub(super) accept_proxy_protocol: Arc<[IpNet]>,
    pub(super) source_ranges: Arc<[IpNet]>,
    pub(super) udp_timeout: Option<Duration>,
    pub(super) udp_stream_timeout: Option<Duration>,
}

/// Reads the annotations of ringport among all of a Service.
pub(super) fn read(
    annotations: Option<&BTreeMap<String, String>>,
    problems: &mut Vec<FieldProblem>,
) -> Wishes {
    let mut wishes = Wishes::default();
    let ours = annotations.into_iter().flatten().filter(|(key, _)| key.starts_with(PREFIX));
    for (key, value) in ours {
        let field = format!("metadata.annotations[{key}]");
        let bad = match key.as_str() {
            ALGORITHM => set(&mut wishes.algorithm, algorithm(&field, value)),
            MAX_CONNECTIONS => set(&mut wishes.max_connections, limit(&field, value)),
            MAX_CONNECTIONS_PER_CLIENT => set(&mut wishes.max_connections_per_client, limit(&field, value)),
            FILE => None,
            IDLE_TIMEOUT => set(&mut wishes.idle_timeout, timeout(&field, value)),
            PROXY_PROTOCOL => set(&mut wishes.proxy_protocol, proxy_version(&field, value)),
            ACCEPT_PROXY_PROTOCOL => set(&mut wishes.accept_proxy_protocol, ranges(&field, value))
                .or_else(|| believes_everyone(&field, &wishes.accept_proxy_protocol)),
            SOURCE_RANGES => set(&mut wishes.source_ranges, ranges(&field, value)),
            UDP_TIMEOUT => set(&mut wishes.udp_timeout, some_time(&field, value)),
            UDP_STREAM_TIMEOUT => set(&mut wishes.udp_stream_timeout, some_time(&field, value)),
            unknown => Some(unknown_annotation(&field, unknown)),
        };
        problems.extend(bad);
    }
    wishes
}

fn set<T>(wish: &mut T, read: Result<T, FieldProblem>) -> Option<FieldProblem> {
    match read {
        Ok(value) => {
            *wish = value;
            None
        }
        Err(problem) => Some(problem),
    }
}

fn algorithm(field: &str, value: &str) -> Result<Algorithm, FieldProblem> {
    let known = ALGORITHMS.iter().find(|(name, _)| *name == value);
    let names = ALGORITHMS.map(|(name, _)| name);
    known.map(|(_, algorithm)| *algorithm).ok_or_else(|| FieldProblem::unsupported(field, value, &names))
}

fn limit(field: &str, value: &str) -> Result<Option<u32>, FieldProblem> {
    let rule = "must be a number between 1 and 4294967295";
    let number = value.parse().ok().filter(|&number: &u32| number > 0);
    number.map(Some).ok_or_else(|| FieldProblem::invalid(field, value, rule))
}

fn timeout(field: &str, value: &str) -> Result<Option<Duration>, FieldProblem> {
    let rule = "must be a time such as 30s, 5m or 1h, or 0 for never";
    duration(value).map(Some).ok_or_else(|| FieldProblem::invalid(field, value, rule))
}

fn proxy_version(field: &str, value: &str) -> Result<Option<ProxyVersion>, FieldProblem> {
    match value {
        "v1" => Ok(Some(ProxyVersion::V1)),
        "v2" => Ok(Some(ProxyVersion::V2)),
        _ => Err(FieldProblem::unsupported(field, value, &["v1", "v2"])),
    }
}

fn believes_everyone(field: &str, cidrs: &[IpNet]) -> Option<FieldProblem> {
    let all = cidrs.iter().find(|cidr| cidr.prefix_len() == 0)?;
    let problem = FieldProblem::warning(field, format!("with {all} every client may say that it is another"));
    Some(problem.with_hint("name only the proxies in front of this Service"))
}

/// Warnings where PROXY headers are asked for and a port is of datagrams: they stand before the first byte of a
/// connection, and datagrams have none.
pub(super) fn headers_of_datagrams(wishes: &Wishes, spec: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    let ports = spec.ports.iter().flatten();
    let udp = ports.filter(|port| port.protocol.as_deref() == Some("UDP"));
    let udp: Vec<String> = udp.map(|port| port.port.to_string()).collect();
    let asked = [
        (PROXY_PROTOCOL, wishes.proxy_protocol.is_some()),
        (ACCEPT_PROXY_PROTOCOL, !wishes.accept_proxy_protocol.is_empty()),
    ];
    for (key, _) in asked.iter().filter(|(_, asked)| *asked && !udp.is_empty()) {
        let text = format!("PROXY headers are for TCP only; UDP port {} goes without", udp.join(", "));
        let problem = FieldProblem::warning(format!("metadata.annotations[{key}]"), text);
        problems.push(problem.with_hint(
            "for UDP use externalTrafficPolicy: Local and --transparent, or give the UDP ports a Service of their own",
        ));
    }
}

/// CIDRs joined by commas; an address is the CIDR of itself.
fn ranges(field: &str, value: &str) -> Result<Arc<[IpNet]>, FieldProblem> {
    let rule = "must be CIDRs joined by commas, as in 192.0.2.0/24,2001:db8::/64";
    let one =
        |text: &str| ip::cidr(text).or_else(|| text.trim().parse::<std::net::IpAddr>().ok().map(IpNet::from));
    value.split(',').map(one).collect::<Option<_>>().ok_or_else(|| FieldProblem::invalid(field, value, rule))
}

/// A flow that never ends would keep its place for ever: a client cannot close it.
fn some_time(field: &str, value: &str) -> Result<Option<Duration>, FieldProblem> {
    let rule = "must be a time such as 500ms, 30s or 5m";
    let time = duration(value).filter(|time| !time.is_zero());
    time.map(Some).ok_or_else(|| FieldProblem::invalid(field, value, rule))
}

/// `0`, or whole numbers with units: `90s`, `1h30m`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let number: u64 = digits.parse().ok()?;
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn unknown_annotation(field: &str, key: &str) -> FieldProblem {
    let problem = FieldProblem::warning(field, "ringport knows no such annotation and ignores it");
    match nearest(key, &KNOWN) {
        Some(known) => problem.with_hint(format!("did you mean {known}?")),
        None => problem.with_hint(format!("it knows {}", KNOWN.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Severity;

    fn parse(entries: &[(&str, &str)]) -> (Wishes, Vec<FieldProblem>) {
        let annotations =
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut problems = Vec::new();
        (read(Some(&annotations), &mut problems), problems)
    }

    #[test]
    fn good_values() {
        let (wishes, problems) = parse(&[
            (ALGORITHM, "maglev"),
            (MAX_CONNECTIONS, "100"),
            (MAX_CONNECTIONS_PER_CLIENT, "4294967295"),
            (IDLE_TIMEOUT, "5m"),
            (PROXY_PROTOCOL, "v2"),
            (ACCEPT_PROXY_PROTOCOL, "192.0.2.9/24, 2001:db8::/64,192.0.2.1"),
            (SOURCE_RANGES, "192.0.2.9/24, 2001:db8::/64,192.0.2.1"),
            (UDP_TIMEOUT, "500ms"),
            (UDP_STREAM_TIMEOUT, "5m"),
            ("other.io/algorithm", "whatever"),
        ]);
        assert_eq!(problems, []);
        assert_eq!(
            wishes,
            Wishes {
                algorithm: Algorithm::Maglev,
                max_connections: Some(100),
                max_connections_per_client: Some(u32::MAX),
                idle_timeout: Some(Duration::from_secs(300)),
                proxy_protocol: Some(ProxyVersion::V2),
                accept_proxy_protocol: ["192.0.2.0/24", "2001:db8::/64", "192.0.2.1/32"]
                    .map(|cidr| cidr.parse().unwrap())
                    .into(),
                source_ranges: ["192.0.2.0/24", "2001:db8::/64", "192.0.2.1/32"]
                    .map(|cidr| cidr.parse().unwrap())
                    .into(),
                udp_timeout: Some(Duration::from_millis(500)),
                udp_stream_timeout: Some(Duration::from_secs(300)),
            }
        );
    }

    #[test]
    fn durations() {
        let table = [
            ("0", Some(0)),
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("30 s", None),
            ("5d", None),
            ("99999999999999999999h", None),
            ("18446744073709551615h", None),
        ];
        for (text, expected) in table {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn bad_values_are_errors_and_unknown_names_are_warnings() {
        let (wishes, problems) = parse(&[
            (ALGORITHM, "least-conections"),
            (MAX_CONNECTIONS, "0"),
            (MAX_CONNECTIONS_PER_CLIENT, "many"),
            (IDLE_TIMEOUT, "30"),
            (PROXY_PROTOCOL, "2"),
            (ACCEPT_PROXY_PROTOCOL, "192.0.2.0/33"),
            (SOURCE_RANGES, "192.0.2.0/24,"),
            (UDP_TIMEOUT, "0"),
            ("ringport.io/idletimeout", "30s"),
        ]);
        assert_eq!(wishes, Wishes::default());
        let texts: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        assert_eq!(
            texts,
            [
                "metadata.annotations[ringport.io/accept-proxy-protocol]: Invalid value: \"192.0.2.0/33\": must be \
             CIDRs joined by commas, as in 192.0.2.0/24,2001:db8::/64",
                "metadata.annotations[ringport.io/algorithm]: Unsupported value: \"least-conections\": supported \
             values: \"least-connections\", \"maglev\", \"random\", \"round-robin\"",
                "metadata.annotations[ringport.io/idle-timeout]: Invalid value: \"30\": must be a time such as \
             30s, 5m or 1h, or 0 for never",
                "metadata.annotations[ringport.io/idletimeout]: ringport knows no such annotation and ignores it",
                "metadata.annotations[ringport.io/max-connections]: Invalid value: \"0\": must be a number \
             between 1 and 4294967295",
                "metadata.annotations[ringport.io/max-connections-per-client]: Invalid value: \"many\": must be \
             a number between 1 and 4294967295",
                "metadata.annotations[ringport.io/proxy-protocol]: Unsupported value: \"2\": supported values: \
             \"v1\", \"v2\"",
                "metadata.annotations[ringport.io/source-ranges]: Invalid value: \"192.0.2.0/24,\": must be \
             CIDRs joined by commas, as in 192.0.2.0/24,2001:db8::/64",
                "metadata.annotations[ringport.io/udp-timeout]: Invalid value: \"0\": must be a time such as \
             500ms, 30s or 5m",
            ]
        );
        assert_eq!(problems[3].severity, Severity::Warning);
        assert_eq!(problems[3].hint.as_deref(), Some("did you mean ringport.io/idle-timeout?"));
    }

    #[test]
    fn headers_for_datagrams_are_warned_of() {
        let warned = |key: &str, protocols: &[&str]| {
            let (wishes, mut problems) =
                parse(&[(key, if key == PROXY_PROTOCOL { "v2" } else { "192.0.2.1" })]);
            let port = |protocol: &&str| k8s_openapi::api::core::v1::ServicePort {
                port: 53,
                protocol: Some((*protocol).to_owned()),
                ..Default::default()
            };
            let ports = Some(protocols.iter().map(port).collect());
            headers_of_datagrams(&wishes, &ServiceSpec { ports, ..Default::default() }, &mut problems);
            assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{problems:?}");
            problems.into_iter().map(|p| format!("{}: {}", p.field, p.message)).collect::<Vec<_>>()
        };
        for key in [PROXY_PROTOCOL, ACCEPT_PROXY_PROTOCOL] {
            let said = format!(
                "metadata.annotations[{key}]: PROXY headers are for TCP only; UDP port 53 goes without"
            );
            let [warning] = &warned(key, &["TCP", "UDP"])[..] else { panic!("one warning") };
            assert!(warning.contains(&said), "{warning}");
            assert!(warned(key, &["TCP"]).is_empty());
        }
        assert!(warned(SOURCE_RANGES, &["UDP"]).is_empty());
    }

    #[test]
    fn trusting_everybody_is_taken_and_warned_of() {
        for value in ["0.0.0.0/0", "192.0.2.0/24,::/0", ""] {
            let (wishes, problems) = parse(&[(ACCEPT_PROXY_PROTOCOL, value)]);
            assert_eq!(problems.len(), 1, "{value}");
            assert_eq!(wishes.accept_proxy_protocol.is_empty(), value.is_empty());
            let wanted = if value.is_empty() { Severity::Error } else { Severity::Warning };
            assert_eq!(problems[0].severity, wanted, "{value}");
        }
    }
}
