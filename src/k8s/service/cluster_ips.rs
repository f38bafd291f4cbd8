//! The rules for clusterIPs and IP families
//! (pkg/apis/core/validation ValidateServiceClusterIPsRelatedFields, pkg/registry/core/service/storage/alloc.go).

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::{ClusterIps, Family};
use crate::k8s::field::FieldProblem;
use crate::k8s::ip;

const FIELD: &str = "spec.clusterIPs";
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// What a valid, defaulted Service asks for.
pub(super) fn read(spec: &ServiceSpec) -> ClusterIps {
    if spec.type_.as_deref() == Some("ExternalName") || spec.cluster_ip.as_deref() == Some("None") {
        return ClusterIps::None;
    }
    let ips: Vec<IpAddr> = list(spec.cluster_ips.as_ref()).iter().flat_map(|text| quiet(text)).collect();
    let named = list(spec.ip_families.as_ref()).iter().map(|name| Family::named(name));
    let mut families: Vec<Family> = ips.iter().map(|ip| Family::of(*ip)).collect();
    families.extend(named.skip(families.len()));
    let both = match spec.ip_family_policy.as_deref() {
        Some("PreferDualStack" | "RequireDualStack") => true,
        _ => families.len() > 1,
    };
    ClusterIps::Wanted { ips, families, both }
}

/// The rules that can be checked without knowing which addresses are free.
pub(super) fn validate(spec: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    let ips = list(spec.cluster_ips.as_ref());
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    if first.is_empty() && !ips.is_empty() {
        let rule = "must be empty when `clusterIP` is not specified";
        problems.push(FieldProblem::invalid(FIELD, ips, rule));
    } else if ips.first().is_some_and(|ip| ip != first) {
        problems.push(FieldProblem::invalid(FIELD, ips, "first value must match `clusterIP`"));
    }
    validate_families(spec, problems);
    let Some(parsed) = validate_addresses(ips, problems) else { return };

    let families: HashSet<Family> = parsed.iter().map(|ip| Family::of(*ip)).collect();
    if families.len() < parsed.len().min(2) {
        let rule = "may specify no more than one IP for each IP family";
        problems.push(FieldProblem::invalid(FIELD, ips, rule));
    }
    for (index, (ip, name)) in parsed.iter().zip(list(spec.ip_families.as_ref())).enumerate() {
        let family = Family::named(name);
        if Family::of(*ip) != family && FAMILIES.contains(&name.as_str()) {
            let rule = format!(
                "expected an {} value as indicated by `ipFamilies[{index}]`",
                if family == Family::V4 { "IPv4" } else { "IPv6" }
            );
            let text = ips.get(index).map_or("", String::as_str);
            problems.push(FieldProblem::invalid(format!("{FIELD}[{index}]"), text, rule));
        }
    }
}

/// The addresses, unless one of them is none.
fn validate_addresses(ips: &[String], problems: &mut Vec<FieldProblem>) -> Option<Vec<IpAddr>> {
    let mut parsed = Some(Vec::new());
    for (index, text) in ips.iter().enumerate() {
        if index == 0 && text == "None" {
            if ips.len() > 1 {
                let rule = "'None' must be the first and only value";
                problems.push(FieldProblem::invalid(FIELD, ips, rule));
                parsed = None;
            }
            continue;
        }
        match ip::read(text, &format!("{FIELD}[{index}]"), problems) {
            Some(ip) => parsed.iter_mut().for_each(|list| list.push(ip)),
            None => parsed = None,
        }
    }
    if ips.len() > 2 {
        problems.push(FieldProblem::invalid(FIELD, ips, "may only hold up to 2 values"));
    }
    parsed
}

fn validate_families(spec: &ServiceSpec, problems: &mut Vec<FieldProblem>) {
    let mut seen = HashSet::new();
    let families = list(spec.ip_families.as_ref());
    for (index, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        if !FAMILIES.contains(&family.as_str()) {
            problems.push(FieldProblem::unsupported(&field, family, &FAMILIES));
        }
        if !seen.insert(family) {
            problems.push(FieldProblem::duplicate(field, family));
        }
    }
    let field = "spec.ipFamilyPolicy";
    match spec.ip_family_policy.as_deref() {
        None | Some("PreferDualStack" | "RequireDualStack") => {}
        Some(policy @ "SingleStack") => {
            for (list, what) in [(&spec.cluster_ips, "cluster IPs"), (&spec.ip_families, "IP families")] {
                if list.as_ref().is_some_and(|list| list.len() == 2) {
                    let rule = format!(
                        "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                    );
                    problems.push(FieldProblem::invalid(field, policy, rule));
                }
            }
        }
        Some(policy) => problems.push(FieldProblem::unsupported(field, policy, &POLICIES)),
    }
}

fn list(field: Option<&Vec<String>>) -> &[String] {
    field.map_or(&[], Vec::as_slice)
}

fn quiet(text: &str) -> Option<IpAddr> {
    ip::read(text, FIELD, &mut Vec::new())
}
