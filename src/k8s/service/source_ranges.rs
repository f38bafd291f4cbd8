//! Who may connect: `spec.loadBalancerSourceRanges` and the annotation that was before it (pkg/apis/core/validation
//! ValidateLoadBalancerSourceRanges, pkg/api/service GetLoadBalancerSourceRanges).

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use crate::k8s::field::FieldProblem;
use crate::k8s::ip;

/// As the field, separated by commas; used where the field is empty.
const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const FIELD: &str = "spec.loadBalancerSourceRanges";

/// Every broken rule about them.
pub(super) fn validate(service: &Service, is_balancer: bool, problems: &mut Vec<FieldProblem>) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let (written, from_annotation) = written(service);
    let annotated = || format!("metadata.annotations[{ANNOTATION}]");
    // An annotation that is there but empty is misplaced, too.
    let present = !written.is_empty() || from_annotation;
    if present && !is_balancer {
        let field = if from_annotation { annotated() } else { FIELD.to_owned() };
        problems.push(FieldProblem::forbidden(field, ONLY));
    }
    for (index, text) in written.iter().enumerate() {
        if ip::cidr(text).is_none() {
            let field = if from_annotation { annotated() } else { format!("{FIELD}[{index}]") };
            problems.push(FieldProblem::invalid(field, *text, ip::CIDR_RULE));
        }
    }
}

/// Those that are valid.
pub(super) fn read(service: &Service) -> Arc<[IpNet]> {
    written(service).0.into_iter().filter_map(ip::cidr).collect()
}

/// What is written, and whether in the annotation.
fn written(service: &Service) -> (Vec<&str>, bool) {
    let ranges = service.spec.as_ref().and_then(|spec| spec.load_balancer_source_ranges.as_deref());
    if let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) {
        return (ranges.iter().map(String::as_str).collect(), false);
    }
    match service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION)) {
        Some(text) if text.trim().is_empty() => (Vec::new(), true),
        Some(text) => (text.split(',').map(str::trim).collect(), true),
        None => (Vec::new(), false),
    }
}
