//! What the API server accepts with a `Warning:` header (pkg/api/service/warnings.go).

use k8s_openapi::api::core::v1::Service;

use crate::k8s::field::FieldProblem;
use crate::k8s::ip;

/// Annotation that `service.kubernetes.io/topology-mode` has replaced.
const OLD_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// The texts for a defaulted Service.
pub fn of(service: &Service) -> Vec<String> {
    let mut warnings = Vec::new();
    if service.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OLD_HINTS)) {
        let instead = "service.kubernetes.io/topology-mode";
        warnings.push(format!("annotation {OLD_HINTS} is deprecated, please use {instead} instead"));
    }
    let Some(spec) = &service.spec else { return warnings };
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let external_name = spec.type_.as_deref() == Some("ExternalName");
    let balancer_ip = spec.load_balancer_ip.iter().filter(|ip| !ip.is_empty());
    let external_ips = spec.external_ips.as_deref().unwrap_or_default();
    if headless {
        for (is_set, field) in [
            (balancer_ip.clone().next().is_some(), "loadBalancerIP"),
            (!external_ips.is_empty(), "externalIPs"),
            (spec.session_affinity.as_deref() == Some("ClientIP"), "SessionAffinity"),
        ] {
            if is_set {
                warnings.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    } else if !external_name {
        addresses("spec.clusterIPs", spec.cluster_ips.iter().flatten(), &mut warnings);
    }
    addresses("spec.externalIPs", external_ips, &mut warnings);
    if !external_ips.is_empty() && !headless && !external_name {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    if let Some(ip) = balancer_ip.clone().next() {
        address("spec.loadBalancerIP", ip, &mut warnings);
    }
    if external_name && !external_ips.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !external_name && spec.external_name.as_deref().is_some_and(|name| !name.is_empty()) {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        let text = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warnings.push(text.to_owned());
    }
    warnings
}

fn addresses<'a>(field: &str, ips: impl IntoIterator<Item = &'a String>, warnings: &mut Vec<String>) {
    for (index, text) in ips.into_iter().enumerate() {
        address(&format!("{field}[{index}]"), text, warnings);
    }
}

fn address(field: &str, text: &str, warnings: &mut Vec<String>) {
    let mut problems: Vec<FieldProblem> = Vec::new();
    if ip::read(text, field, &mut problems).is_some() {
        warnings.extend(problems.into_iter().map(|problem| format!("{field}: {}", problem.message)));
    }
}
