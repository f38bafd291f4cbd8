//! Nodes: only their zones matter to a proxy.

use k8s_openapi::api::core::v1;

use super::field::FieldProblem;
use super::model::Node;
use super::{meta, names};
use crate::problem::Severity;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Validates a Node. Without an error among `problems` there is always one.
pub fn read(node: &v1::Node, problems: &mut Vec<FieldProblem>) -> Option<Node> {
    meta::validate(&node.metadata, false, names::dns_1123_subdomain, problems);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return None;
    }
    let zone = node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE_LABEL));
    Some(Node {
        name: meta::key(&node.metadata, false).name,
        zone: zone.filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into()),
    })
}
