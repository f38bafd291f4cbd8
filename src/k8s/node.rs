//! Nodes: a proxy wants the zone of its own, and whether traffic should come to it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;

use super::field::FieldProblem;
use super::model::Node;
use super::{ip, meta, names};
use crate::problem::Severity;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Validates a Node. Without an error among `problems` there is always one.
pub fn read(node: &v1::Node, problems: &mut Vec<FieldProblem>) -> Option<Node> {
    meta::validate(&node.metadata, false, names::dns_1123_subdomain, problems);
    for (index, text) in pod_cidrs(node).iter().enumerate().filter(|(_, text)| ip::cidr(text).is_none()) {
        problems.push(FieldProblem::invalid(format!("spec.podCIDRs[{index}]"), *text, ip::CIDR_RULE));
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return None;
    }
    Some(own(node))
}

fn own(node: &v1::Node) -> Node {
    let zone = node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE_LABEL));
    Node {
        name: meta::key(&node.metadata, false).name,
        zone: zone.filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into()),
        pod_cidrs: pod_cidrs(node).into_iter().filter_map(ip::cidr).collect(),
        addresses: addresses(node, &["InternalIP", "ExternalIP"]),
    }
}

/// `status.addresses` of these types.
fn addresses(node: &v1::Node, types: &[&str]) -> Vec<IpAddr> {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let wanted = all.iter().filter(|address| types.contains(&&*address.type_));
    wanted.filter_map(|address| ip::read(&address.address, "", &mut Vec::new())).collect()
}

/// `spec.podCIDRs`, or `spec.podCIDR` where only that is written.
fn pod_cidrs(node: &v1::Node) -> Vec<&str> {
    let Some(spec) = &node.spec else { return Vec::new() };
    match spec.pod_cidrs.as_deref() {
        Some(list) if !list.is_empty() => list.iter().map(String::as_str).collect(),
        _ => spec.pod_cidr.as_deref().filter(|text| !text.is_empty()).into_iter().collect(),
    }
}

/// The taint by which the cluster autoscaler says that a node will go: load balancers should send
/// nothing new (kubernetes pkg/proxy/healthcheck/proxy_health.go).
const TO_BE_DELETED_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveNode {
    /// What is compiled from it.
    pub node: Node,
    /// Whether load balancers should send traffic to it: the cluster autoscaler does not want it gone.
    pub eligible: bool,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// `status.addresses` of type InternalIP.
    pub internal_ips: Vec<IpAddr>,
}

/// Reads a Node that an API server has validated.
pub fn live(node: &v1::Node) -> LiveNode {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    LiveNode {
        node: own(node),
        eligible: taints.iter().all(|taint| taint.key != TO_BE_DELETED_TAINT),
        ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        internal_ips: addresses(node, &["InternalIP"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_node_has_zone_addresses_and_eligibility() {
        let node = |spec: &str, ready: &str| {
            live(&serde_json::from_str(&format!(
                r#"{{"metadata": {{"name": "n1", "labels": {{"topology.kubernetes.io/zone": "z"}}}}, "spec": {spec},
                  "status": {{"conditions": [{{"type": "Ready", "status": "{ready}"}}], "addresses": [
                    {{"type": "Hostname", "address": "n1"}}, {{"type": "InternalIP", "address": "192.0.2.7"}},
                    {{"type": "ExternalIP", "address": "192.0.2.8"}}, {{"type": "InternalIP", "address": "fd00::7"}}]}}}}"#
            )).unwrap())
        };
        let healthy =
            node(r#"{"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]}"#, "True");
        assert_eq!((&*healthy.node.name, healthy.node.zone.as_deref()), ("n1", Some("z")));
        let cidrs = |node: &LiveNode| node.node.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(cidrs(&healthy), ["10.244.1.0/24", "fd00:244:1::/64"]);
        assert_eq!(cidrs(&node(r#"{"podCIDR": "10.244.1.7/24"}"#, "True")), ["10.244.1.0/24"]);
        assert!(healthy.eligible && healthy.ready);
        let ips: Vec<String> = healthy.internal_ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["192.0.2.7", "fd00::7"]);
        let own: Vec<String> = healthy.node.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(own, ["192.0.2.7", "192.0.2.8", "fd00::7"]);
        let leaving = node(
            r#"{"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}"#,
            "Unknown",
        );
        assert!(!leaving.eligible && !leaving.ready);
    }
}
