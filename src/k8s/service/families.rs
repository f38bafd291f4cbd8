//! `spec.ipFamilies` and `spec.ipFamilyPolicy` where they are left out
//! (pkg/registry/core/service/storage/alloc.go initIPFamilyFields).

use k8s_openapi::api::core::v1::ServiceSpec;

use super::{Family, cluster_ips, update};
use crate::k8s::field::FieldProblem;
use crate::k8s::ip;
use crate::problem::Severity;

const SINGLE: &str = "SingleStack";

/// Fills them in, on a cluster that has both families; `primary` is the one that it prefers.
pub fn set(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, primary: Family) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    if !update::needs_cluster_ip(spec) {
        return problems;
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let bare = headless && spec.selector.as_ref().is_none_or(|selector| selector.is_empty());
    if spec.ip_family_policy.as_deref().is_none_or(str::is_empty) {
        let before = old.and_then(|old| old.ip_family_policy.clone());
        let default = if bare { "RequireDualStack" } else { SINGLE };
        spec.ip_family_policy = Some(before.unwrap_or_else(|| default.to_owned()));
    }
    let single = spec.ip_family_policy.as_deref() == Some(SINGLE);
    if let (true, Some(old)) = (single, old) {
        // Whoever asks for one family again, and nothing else, gives the second one back.
        if spec.cluster_ips == old.cluster_ips {
            spec.cluster_ips.iter_mut().for_each(|ips| ips.truncate(1));
        }
        if spec.ip_families == old.ip_families {
            spec.ip_families.iter_mut().for_each(|families| families.truncate(1));
        }
    }
    cluster_ips::validate(spec, &mut problems);
    problems.retain(|problem| problem.severity == Severity::Error);
    if !problems.is_empty() {
        return problems;
    }
    infer(spec, single, primary);
    problems
}

fn infer(spec: &mut ServiceSpec, single: bool, primary: Family) {
    let families = spec.ip_families.get_or_insert_default();
    for text in spec.cluster_ips.iter().flatten().skip(families.len()).filter(|text| *text != "None") {
        if let Some(ip) = ip::read(text, "", &mut Vec::new()) {
            families.push(Family::of(ip).as_str().to_owned());
        }
    }
    if families.is_empty() {
        families.push(primary.as_str().to_owned());
    }
    if let (false, [only]) = (single, families.as_slice()) {
        let other = Family::named(only).other();
        families.push(other.as_str().to_owned());
    }
}
