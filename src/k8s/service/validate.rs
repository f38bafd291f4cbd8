//! The rules for a Service after defaulting (pkg/apis/core/validation/validation.go validateService).

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{cluster_ips, defaults, source_ranges};
use crate::k8s::field::{FieldProblem, Value};
use crate::k8s::ip::{self, Trust};
use crate::k8s::{meta, names};

/// Headless: no virtual address, DNS answers with the pods.
const NONE: &str = "None";

/// Every broken rule of a defaulted Service.
pub fn validate(service: &Service, trust: Trust, problems: &mut Vec<FieldProblem>) {
    meta::validate(&service.metadata, true, names::dns_1035_label, problems);
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let ports = spec.ports.as_deref().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some(NONE);
    let kind = spec.type_.as_deref().unwrap_or_default();

    if ports.is_empty() && !headless && kind != "ExternalName" {
        problems.push(FieldProblem::required("spec.ports", ""));
    }
    validate_type(spec, kind, headless, problems);
    validate_ports(ports, kind, problems);
    meta::labels(spec.selector.as_ref(), "spec.selector", problems);
    validate_affinity(spec, problems);
    if kind != "ExternalName" {
        cluster_ips::validate(spec, problems);
    }
    validate_external_ips(spec, headless, trust, problems);
    validate_load_balancer(service, spec, kind, trust, problems);
    validate_policies(spec, problems);
}

fn validate_type(spec: &ServiceSpec, kind: &str, headless: bool, problems: &mut Vec<FieldProblem>) {
    const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    match kind {
        "NodePort" | "LoadBalancer" if headless => {
            let rule = format!("may not be set to 'None' for {kind} services");
            problems.push(FieldProblem::invalid("spec.clusterIPs[0]", NONE, rule));
        }
        "ExternalName" => validate_external_name(spec, problems),
        _ if TYPES.contains(&kind) => {}
        _ => problems.push(FieldProblem::unsupported("spec.type", kind, &TYPES)),
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    if kind != "ExternalName" && !name.is_empty() {
        let ignored = format!("spec.externalName is ignored when spec.type is not \"ExternalName\": {name}");
        problems.push(FieldProblem::warning("spec.externalName", ignored));
    }
}

fn validate_external_name(spec: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    let not_set = "may not be set for ExternalName services";
    if spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
        problems.push(FieldProblem::forbidden("spec.clusterIPs", not_set));
    }
    if spec.ip_families.as_ref().is_some_and(|families| !families.is_empty()) {
        problems.push(FieldProblem::forbidden("spec.ipFamilies", not_set));
    }
    if spec.ip_family_policy.is_some() {
        problems.push(FieldProblem::forbidden("spec.ipFamilyPolicy", not_set));
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    match name.strip_suffix('.').unwrap_or(name) {
        "" => problems.push(FieldProblem::required("spec.externalName", "")),
        domain => meta::add(problems, "spec.externalName", domain, names::dns_1123_subdomain(domain)),
    }
}

fn validate_ports(ports: &[ServicePort], kind: &str, problems: &mut Vec<FieldProblem>) {
    let mut seen_names = HashSet::new();
    let mut seen_ports = HashSet::new();
    let mut seen_node_ports = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        let name = port.name.as_deref().unwrap_or_default();
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            problems.push(FieldProblem::required(format!("{field}.name"), ""));
        } else if !name.is_empty() {
            meta::add(problems, &format!("{field}.name"), name, names::dns_1123_label(name));
            if !seen_names.insert(name) {
                problems.push(FieldProblem::duplicate(format!("{field}.name"), name));
            }
        }
        validate_port(port, &field, protocol, problems);

        let node_port = port.node_port.unwrap_or(0);
        if kind == "ClusterIP" && node_port != 0 {
            let rule = "may not be used when `type` is 'ClusterIP'";
            let problem = FieldProblem::forbidden(format!("{field}.nodePort"), rule);
            problems.push(problem.with_hint("write type: NodePort"));
        }
        if node_port != 0 && !seen_node_ports.insert((protocol, node_port)) {
            problems.push(FieldProblem::duplicate(format!("{field}.nodePort"), node_port));
        }
        if !seen_ports.insert((protocol, port.port)) {
            let hint = format!("port {}/{protocol} is there already", port.port);
            problems.push(FieldProblem::duplicate(field, go_dump(port.port, protocol)).with_hint(hint));
        }
    }
}

/// A port as the API server prints the key by which it has found it twice.
fn go_dump(port: i32, protocol: &str) -> Value {
    Value::verbatim(format!(
        "core.ServicePort{{Name:\"\", Protocol:{protocol:?}, AppProtocol:(*string)(nil), Port:{port}, \
         TargetPort:intstr.IntOrString{{Type:0, IntVal:0, StrVal:\"\"}}, NodePort:0}}"
    ))
}

fn validate_port(port: &ServicePort, field: &str, protocol: &str, problems: &mut Vec<FieldProblem>) {
    if let Some(rule) = names::port_number(port.port) {
        problems.push(FieldProblem::invalid(format!("{field}.port"), port.port, rule));
    }
    const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
    if !PROTOCOLS.contains(&protocol) {
        problems.push(FieldProblem::unsupported(format!("{field}.protocol"), protocol, &PROTOCOLS));
    }
    let target = format!("{field}.targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) => {
            if let Some(rule) = names::port_number(*number) {
                problems.push(FieldProblem::invalid(target, *number, rule));
            }
        }
        Some(IntOrString::String(name)) => {
            let first = problems.len();
            meta::add(problems, &target, name, names::port_name(name));
            if let (Some(problem), Ok(number)) = (problems.get_mut(first), name.parse::<u16>()) {
                problem.hint = Some(format!("write the number without quotes, {number}"));
            }
        }
        None => {}
    }
    if let Some(name) = &port.app_protocol {
        meta::add(problems, &format!("{field}.appProtocol"), name, names::qualified_name(name));
    }
}

fn validate_affinity(spec: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    let config = spec.session_affinity_config.as_ref();
    let timeout = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    match (affinity, timeout) {
        ("ClientIP", Some(seconds)) if !(1..=86_400).contains(&seconds) => {
            let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            let rule = "must be greater than 0 and less than 86400";
            problems.push(FieldProblem::invalid(field, seconds, rule));
        }
        ("ClientIP" | "None", _) => {}
        _ => {
            problems.push(FieldProblem::unsupported("spec.sessionAffinity", affinity, &["ClientIP", "None"]))
        }
    }
}

fn validate_external_ips(spec: &ServiceSpec, headless: bool, trust: Trust, problems: &mut Vec<FieldProblem>) {
    let ips = spec.external_ips.as_deref().unwrap_or_default();
    for (index, text) in ips.iter().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        let special = ip::read(text, &field, problems).and_then(|ip| ip::special(ip, trust));
        problems.extend(special.map(|rule| FieldProblem::invalid(field, text, rule)));
    }
    if !ips.is_empty() && headless {
        let ignored = "spec.externalIPs is ignored when spec.clusterIP is \"None\"";
        problems.push(FieldProblem::warning("spec.externalIPs", ignored));
    }
    if !ips.is_empty() && spec.type_.as_deref() == Some("ExternalName") {
        let ignored = "spec.externalIPs is ignored when spec.type is \"ExternalName\"";
        problems.push(FieldProblem::warning("spec.externalIPs", ignored));
    }
    if headless && spec.session_affinity.as_deref() == Some("ClientIP") {
        let ignored = "spec.SessionAffinity is ignored for headless services";
        problems.push(FieldProblem::warning("spec.sessionAffinity", ignored));
    }
}

fn validate_load_balancer(
    service: &Service,
    spec: &ServiceSpec,
    kind: &str,
    trust: Trust,
    problems: &mut Vec<FieldProblem>,
) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let is_balancer = kind == "LoadBalancer";
    source_ranges::validate(service, is_balancer, problems);
    if spec.allocate_load_balancer_node_ports.is_some() && !is_balancer {
        problems.push(FieldProblem::forbidden("spec.allocateLoadBalancerNodePorts", ONLY));
    }
    match &spec.load_balancer_class {
        Some(_) if !is_balancer => problems.push(FieldProblem::forbidden("spec.loadBalancerClass", ONLY)),
        Some(class) => meta::add(problems, "spec.loadBalancerClass", class, names::qualified_name(class)),
        None => {}
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    for (index, ingress) in ingress.iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{index}].ip");
        let Some(text) = ingress.ip.as_deref().filter(|text| !text.is_empty()) else { continue };
        let special = ip::read(text, &field, problems).and_then(|ip| ip::special(ip, trust));
        problems.extend(special.map(|rule| FieldProblem::invalid(field, text, rule)));
    }
}

fn validate_policies(spec: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    const POLICIES: [&str; 2] = ["Cluster", "Local"];
    let external = spec.external_traffic_policy.as_deref().unwrap_or_default();
    if !defaults::externally_accessible(spec) {
        if !external.is_empty() {
            let rule = "may only be set for externally-accessible services";
            problems.push(FieldProblem::invalid("spec.externalTrafficPolicy", external, rule));
        }
    } else if !POLICIES.contains(&external) {
        problems.push(FieldProblem::unsupported("spec.externalTrafficPolicy", external, &POLICIES));
    }
    if let Some(internal) = spec.internal_traffic_policy.as_deref().filter(|p| !POLICIES.contains(p)) {
        problems.push(FieldProblem::unsupported("spec.internalTrafficPolicy", internal, &POLICIES));
    }

    let health_check = spec.health_check_node_port.unwrap_or(0);
    let checked = spec.type_.as_deref() == Some("LoadBalancer") && external == "Local";
    if health_check != 0 && !checked {
        let rule = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        problems.push(FieldProblem::invalid("spec.healthCheckNodePort", health_check, rule));
    } else if let (true, Some(rule)) = (health_check != 0, names::port_number(health_check)) {
        problems.push(FieldProblem::invalid("spec.healthCheckNodePort", health_check, rule));
    }

    const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    if let Some(value) = spec.traffic_distribution.as_deref().filter(|v| !DISTRIBUTIONS.contains(v)) {
        problems.push(FieldProblem::unsupported("spec.trafficDistribution", value, &DISTRIBUTIONS));
    }
}
