//! EndpointSlices that someone wrote by hand, or a controller made
//! (pkg/apis/discovery/validation/validation.go, pkg/proxy/endpointslicecache.go).

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1;

use super::field::FieldProblem;
use super::ip::{self, Trust};
use super::model::{EndpointSlice, SliceEndpoint, SlicePort};
use super::service::protocol;
use super::{meta, names};
use crate::problem::Severity;
use crate::types::NamespacedName;

/// Label of a slice: the Service that it belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

/// Fills in what is left out (pkg/apis/discovery/v1/defaults.go).
pub fn set_defaults(slice: &mut serde_json::Value) {
    let ports = slice.get_mut("ports").and_then(serde_json::Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        port.entry("name").or_insert_with(|| "".into());
        port.entry("protocol").or_insert_with(|| "TCP".into());
    }
}

/// Validates a slice. Without an error among `problems` there is a slice, unless it is of no use to a
/// proxy: of a type other than IPv4 and IPv6, or of no Service.
pub fn read(
    slice: &v1::EndpointSlice,
    trust: Trust,
    problems: &mut Vec<FieldProblem>,
) -> Option<EndpointSlice> {
    const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
    meta::validate(&slice.metadata, true, names::dns_1123_subdomain, problems);
    match slice.address_type.as_str() {
        "" => problems.push(FieldProblem::required("addressType", "")),
        known if TYPES.contains(&known) => {}
        other => problems.push(FieldProblem::unsupported("addressType", other, &TYPES)),
    }
    let endpoints = endpoints(slice, trust, problems);
    let ports = ports(slice, problems);
    let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    if label.is_none_or(|name| name.is_empty()) {
        let warning =
            format!("without the label {SERVICE_NAME_LABEL} it belongs to no Service and is ignored");
        problems.push(FieldProblem::warning("metadata.labels", warning));
    }
    let errors = problems.iter().any(|problem| problem.severity == Severity::Error);
    if errors || slice.address_type == "FQDN" {
        return None;
    }
    let key = meta::key(&slice.metadata, true);
    let service = NamespacedName { namespace: Arc::clone(&key.namespace), name: label?.as_str().into() };
    (!service.name.is_empty()).then_some(EndpointSlice { key, service, ports, endpoints })
}

fn endpoints(
    slice: &v1::EndpointSlice,
    trust: Trust,
    problems: &mut Vec<FieldProblem>,
) -> Vec<SliceEndpoint> {
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    if endpoints.len() > MAX_ENDPOINTS {
        problems.push(FieldProblem::too_many("endpoints", endpoints.len(), MAX_ENDPOINTS));
    }
    let mut found = Vec::with_capacity(endpoints.len());
    for (index, endpoint) in endpoints.iter().enumerate() {
        let field = format!("endpoints[{index}]");
        let Some(address) = address(endpoint, slice, &field, trust, problems) else { continue };
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let hints = endpoint.hints.as_ref();
        let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
        let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
        found.push(SliceEndpoint {
            address,
            ready,
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
            terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
            node: endpoint.node_name.as_deref().map(Into::into),
            zone_hints: zones.iter().map(|zone| zone.name.as_str().into()).collect(),
            node_hints: nodes.iter().map(|node| node.name.as_str().into()).collect(),
            pod: target.and_then(|target| target.name.as_deref()).map(Into::into),
        });
    }
    found
}

/// Validates all addresses and returns the first, the only one that proxies use.
fn address(
    endpoint: &v1::Endpoint,
    slice: &v1::EndpointSlice,
    field: &str,
    trust: Trust,
    problems: &mut Vec<FieldProblem>,
) -> Option<std::net::IpAddr> {
    let field = format!("{field}.addresses");
    match endpoint.addresses.len() {
        0 => problems.push(FieldProblem::required(&field, "must contain at least 1 address")),
        count if count > MAX_ADDRESSES => problems.push(FieldProblem::too_many(&field, count, MAX_ADDRESSES)),
        _ => {}
    }
    if slice.address_type == "FQDN" {
        return None;
    }
    let mut first = None;
    for (index, text) in endpoint.addresses.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let Some(ip) = ip::read(text, &field, problems) else { continue };
        if slice.address_type == "IPv4" && !ip.is_ipv4() {
            problems.push(FieldProblem::invalid(&field, text, "must be an IPv4 address"));
        } else if slice.address_type == "IPv6" && !ip.is_ipv6() {
            problems.push(FieldProblem::invalid(&field, text, "must be an IPv6 address"));
        }
        problems.extend(ip::special(ip, trust).map(|rule| FieldProblem::invalid(&field, text, rule)));
        if index == 0 {
            first = Some(ip);
        }
    }
    first
}

/// A port without a number is of no use to a proxy, and valid.
fn ports(slice: &v1::EndpointSlice, problems: &mut Vec<FieldProblem>) -> Vec<SlicePort> {
    const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
    let ports = slice.ports.as_deref().unwrap_or_default();
    if ports.len() > MAX_PORTS {
        problems.push(FieldProblem::too_many("ports", ports.len(), MAX_PORTS));
    }
    let mut names_seen = HashSet::new();
    let mut found = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let field = format!("ports[{index}]");
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            meta::add(problems, &format!("{field}.name"), name, names::dns_1123_label(name));
        }
        if !names_seen.insert(name) {
            problems.push(FieldProblem::duplicate(format!("{field}.name"), name));
        }
        let Some(protocol) = protocol(port.protocol.as_deref()) else {
            let name = port.protocol.as_deref().unwrap_or_default();
            problems.push(FieldProblem::unsupported(format!("{field}.protocol"), name, &PROTOCOLS));
            continue;
        };
        let number = port.port.unwrap_or(0);
        match u16::try_from(number) {
            Ok(0) => {}
            Ok(port) => found.push(SlicePort { name: name.into(), protocol, port }),
            Err(_) => {
                let rule = "must be between 1 and 65535, inclusive";
                problems.push(FieldProblem::invalid(format!("{field}.port"), number, rule));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_read(rest: &str, trust: Trust) -> (Option<EndpointSlice>, Vec<String>) {
        let meta = format!(r#"{{"name": "web-1", "labels": {{"{SERVICE_NAME_LABEL}": "web"}}}}"#);
        let mut problems = Vec::new();
        let slice = serde_json::from_str(&format!(r#"{{"metadata": {meta}, {rest}}}"#));
        let slice = read(&slice.unwrap_or_else(|error| panic!("{rest}: {error}")), trust, &mut problems);
        (slice, problems.into_iter().map(|p| format!("{}: {}", p.field, p.message)).collect())
    }

    #[test]
    fn absent_conditions_mean_ready_and_serving() {
        let (slice, problems) = try_read(
            r#""addressType": "IPv4", "ports": [{"port": 80}, {"name": "none"}, {"name": "zero", "port": 0},
               {"name": "dns", "port": 53, "protocol": "UDP"}],
               "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.9"]},
                 {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true},
                  "nodeName": "n", "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]},
                  "targetRef": {"kind": "Pod", "name": "p"}}]"#,
            Trust::Api,
        );
        assert_eq!(problems, Vec::<String>::new());
        let slice = slice.unwrap();
        assert_eq!(slice.service.to_string(), "default/web");
        let ports: Vec<_> = slice.ports.iter().map(|p| (&*p.name, p.protocol.as_str(), p.port)).collect();
        assert_eq!(ports, [("", "TCP", 80), ("dns", "UDP", 53)]);
        let [first, second] = slice.endpoints.as_slice() else { panic!() };
        assert_eq!(first.address.to_string(), "10.0.0.1");
        assert!(first.ready && first.serving && !first.terminating && first.pod.is_none());
        assert!(!second.ready && second.serving && second.terminating);
        assert_eq!((second.node.as_deref(), second.pod.as_deref()), (Some("n"), Some("p")));
        assert_eq!((&*second.zone_hints[0], &*second.node_hints[0]), ("z", "n"));
    }

    #[test]
    fn bad_slices() {
        let many = vec![r#"{"addresses": ["10.0.0.1"]}"#; 1001].join(",");
        let many = format!(r#""addressType": "IPv4", "endpoints": [{many}]"#);
        let table = [
            (r#""addressType": """#, "addressType: Required value"),
            (
                r#""addressType": "IPv9""#,
                "addressType: Unsupported value: \"IPv9\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (
                r#""addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]"#,
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                r#""addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}]"#,
                "endpoints[0].addresses[0]: Invalid value: \"fd00::1\": must be an IPv4 address",
            ),
            (
                r#""addressType": "IPv6", "endpoints": [{"addresses": ["10.0.0.1"]}]"#,
                "endpoints[0].addresses[0]: Invalid value: \"10.0.0.1\": must be an IPv6 address",
            ),
            (
                r#""addressType": "IPv4", "endpoints": [{"addresses": []}]"#,
                "endpoints[0].addresses: Required value: must contain at least 1 address",
            ),
            (
                r#""addressType": "IPv4", "ports": [{"name": "a"}, {"name": "a"}]"#,
                "ports[1].name: Duplicate value: \"a\"",
            ),
            (
                r#""addressType": "IPv4", "ports": [{"name": "A"}]"#,
                "ports[0].name: Invalid value: \"A\": a lowercase",
            ),
            (
                r#""addressType": "IPv4", "ports": [{"port": 65536}]"#,
                "ports[0].port: Invalid value: 65536: must be between 1 and 65535, inclusive",
            ),
            (
                r#""addressType": "IPv4", "ports": [{"protocol": "X"}]"#,
                "ports[0].protocol: Unsupported value: \"X\": supported values",
            ),
            (&many, "endpoints: Too many: 1001: must have at most 1000 items"),
        ];
        for (rest, expected) in table {
            let (slice, problems) = try_read(rest, Trust::Api);
            assert_eq!(slice, None, "{expected}");
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{expected}: {problems:?}");
        }
        let loopback = r#""addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]"#;
        assert!(try_read(loopback, Trust::File).0.is_some());
    }

    #[test]
    fn slices_that_no_proxy_uses() {
        assert_eq!(
            try_read(r#""addressType": "FQDN", "endpoints": [{"addresses": ["a.b"]}]"#, Trust::Api),
            (None, vec![])
        );
        let mut problems = Vec::new();
        let orphan = serde_json::from_str(r#"{"metadata": {"name": "a"}, "addressType": "IPv4"}"#).unwrap();
        assert_eq!(read(&orphan, Trust::Api, &mut problems), None);
        assert_eq!((problems.len(), problems[0].severity), (1, Severity::Warning));
    }
}
