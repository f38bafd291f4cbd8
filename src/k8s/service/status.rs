//! The rules for the status of a Service (pkg/apis/core/validation ValidateLoadBalancerStatus).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use crate::k8s::field::FieldProblem;
use crate::k8s::{meta, names};

/// What is wrong with it besides its addresses, which are checked with the Service.
pub fn validate(service: &Service, problems: &mut Vec<FieldProblem>) {
    const MODES: [&str; 2] = ["Proxy", "VIP"];
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    if !ingress.is_empty() && kind != Some("LoadBalancer") {
        let rule = "may only be used when `spec.type` is \"LoadBalancer\"";
        problems.push(FieldProblem::forbidden("status.loadBalancer.ingress", rule));
    }
    for (index, ingress) in ingress.iter().enumerate() {
        let field = |name| format!("status.loadBalancer.ingress[{index}].{name}");
        let has_ip = ingress.ip.as_deref().is_some_and(|ip| !ip.is_empty());
        match ingress.ip_mode.as_deref() {
            Some(_) if !has_ip => {
                let rule = "may not be specified when `ip` is not set";
                problems.push(FieldProblem::forbidden(field("ipMode"), rule));
            }
            Some(mode) if !MODES.contains(&mode) => {
                problems.push(FieldProblem::unsupported(field("ipMode"), mode, &MODES));
            }
            _ => {}
        }
        let Some(name) = ingress.hostname.as_deref().filter(|name| !name.is_empty()) else { continue };
        meta::add(problems, &field("hostname"), name, names::dns_1123_subdomain(name));
        if name.parse::<IpAddr>().is_ok() {
            let rule = "must be a DNS name, not an IP address";
            problems.push(FieldProblem::invalid(field("hostname"), name, rule));
        }
    }
}
