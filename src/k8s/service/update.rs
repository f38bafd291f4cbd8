//! What a Service keeps when it is updated, and what may not change
//! (pkg/registry/core/service/storage/storage.go patchAllocatedValues, strategy.go dropTypeDependentFields,
//! pkg/apis/core/validation ValidateServiceUpdate).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ServiceSpec;

use super::defaults::{externally_accessible, normalize_cluster_ips};
use crate::k8s::field::FieldProblem;

/// Takes over from the Service as it was what the new one leaves out, and drops what its new type cannot have.
pub fn carry_over(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if text(&new.cluster_ip).is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if list(&new.cluster_ips).is_empty() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        carry_node_ports(new, old);
    }
    if needs_health_check(old) && needs_health_check(new) && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
    follow_cluster_ip(new, old);
    drop_by_type(new, old);
    normalize_cluster_ips(new);
}

/// By port name, unless the number is given to another port.
fn carry_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let mut used: BTreeSet<i32> = node_ports(old).intersection(&node_ports(new)).copied().collect();
    let numbers: BTreeMap<&str, i32> =
        old.ports.iter().flatten().map(|port| (text(&port.name), port.node_port.unwrap_or(0))).collect();
    for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or(0) == 0) {
        let number = numbers.get(text(&port.name)).copied().unwrap_or(0);
        if number != 0 && used.insert(number) {
            port.node_port = Some(number);
        }
    }
}

/// One who changes only `clusterIP` means `clusterIPs`, too (NormalizeClusterIPs).
fn follow_cluster_ip(new: &mut ServiceSpec, old: &ServiceSpec) {
    let same_list = list(&new.cluster_ips) == list(&old.cluster_ips);
    if text(&new.cluster_ip) != text(&old.cluster_ip) && same_list && !list(&new.cluster_ips).is_empty() {
        let first = text(&new.cluster_ip);
        new.cluster_ips = (!first.is_empty()).then(|| vec![first.to_owned()]);
    }
}

/// Only what was set by itself and was not changed by the user.
fn drop_by_type(new: &mut ServiceSpec, old: &ServiceSpec) {
    let unchanged =
        text(&new.cluster_ip) == text(&old.cluster_ip) && list(&new.cluster_ips) == list(&old.cluster_ips);
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if unchanged {
            (new.cluster_ip, new.cluster_ips) = (None, None);
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if needs_node_ports(old) && !needs_node_ports(new) && node_ports(new).is_subset(&node_ports(old)) {
        new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    if is_balancer(old) && !is_balancer(new) {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if externally_accessible(old)
        && !externally_accessible(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
}

/// What may not change.
pub fn validate(new: &ServiceSpec, old: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    validate_cluster_ips(new, old, problems);
    if is_balancer(new) && is_balancer(old) && new.load_balancer_class != old.load_balancer_class {
        let field = "spec.loadBalancerClass";
        problems.push(FieldProblem::invalid(
            field,
            text(&new.load_balancer_class),
            "may not change once set",
        ));
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.health_check_node_port.unwrap_or(0) != old.health_check_node_port.unwrap_or(0)
    {
        problems.push(FieldProblem::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
}

fn validate_cluster_ips(new: &ServiceSpec, old: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    const FIXED: &str = "may not change once set";
    let headless = |spec: &ServiceSpec| text(&spec.cluster_ip) == "None";
    if !needs_cluster_ip(new) || !needs_cluster_ip(old) || headless(new) && headless(old) {
        return;
    }
    let (ips, before) = (list(&new.cluster_ips), list(&old.cluster_ips));
    let invalid = |index: usize, rule| FieldProblem::invalid(format!("spec.clusterIPs[{index}]"), ips, rule);
    if ips.is_empty() && !before.is_empty() {
        problems.push(invalid(0, "primary clusterIP can not be unset"));
    }
    for (index, (ip, was)) in ips.iter().zip(before).enumerate() {
        if ip != was && (index == 0 || ips.len() == before.len()) {
            problems.push(invalid(index, FIXED));
        }
    }
    if ips.len() == 1 && before.len() == 2 && text(&new.ip_family_policy) != "SingleStack" {
        let rule = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        problems.push(FieldProblem::invalid("spec.ipFamilyPolicy", text(&new.ip_family_policy), rule));
    }
    let (families, before) = (list(&new.ip_families), list(&old.ip_families));
    if let (Some(family), Some(was)) = (families.first(), before.first())
        && family != was
        && !headless(old)
    {
        problems.push(FieldProblem::invalid("spec.ipFamilies[0]", families, FIXED));
    }
}

/// Whether its type has clusterIPs, be it `None`.
pub fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(text(&spec.type_), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether its ports get nodePorts by themselves.
pub fn needs_node_ports(spec: &ServiceSpec) -> bool {
    text(&spec.type_) == "NodePort"
        || is_balancer(spec) && spec.allocate_load_balancer_node_ports != Some(false)
}

/// Whether it gets a healthCheckNodePort.
pub fn needs_health_check(spec: &ServiceSpec) -> bool {
    is_balancer(spec) && text(&spec.external_traffic_policy) == "Local"
}

fn is_balancer(spec: &ServiceSpec) -> bool {
    text(&spec.type_) == "LoadBalancer"
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    spec.ports.iter().flatten().filter_map(|port| port.node_port).filter(|&number| number != 0).collect()
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn list(field: &Option<Vec<String>>) -> &[String] {
    field.as_deref().unwrap_or_default()
}
