//! v1 Endpoints that somebody wrote (pkg/apis/core/validation ValidateEndpoints).

use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::{Draft, accept, typed};
use crate::k8s::field::FieldProblem;
use crate::k8s::ip::{self, Trust};
use crate::k8s::{meta, names};
use crate::store::answer::Refusal;

const DEPRECATED: &str = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

pub(super) fn draft(mut object: Value) -> Result<Draft, Refusal> {
    set_defaults(&mut object);
    let endpoints: v1::Endpoints = typed(object.clone())?;
    let mut problems = Vec::new();
    meta::validate(&endpoints.metadata, true, names::dns_1123_subdomain, &mut problems);
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        validate_subset(subset, &format!("subsets[{index}]"), &mut problems);
    }
    let mut warnings = vec![DEPRECATED.to_owned()];
    warnings.extend(accept(problems)?);
    Ok(Draft { object, typed: None, warnings })
}

fn set_defaults(object: &mut Value) {
    let subsets = object.get_mut("subsets").and_then(Value::as_array_mut);
    for subset in subsets.into_iter().flatten() {
        let ports = subset.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.entry("protocol").or_insert_with(|| "TCP".into());
        }
    }
}

fn validate_subset(subset: &v1::EndpointSubset, field: &str, problems: &mut Vec<FieldProblem>) {
    let ready = subset.addresses.as_deref().unwrap_or_default();
    let unready = subset.not_ready_addresses.as_deref().unwrap_or_default();
    if ready.is_empty() && unready.is_empty() {
        problems.push(FieldProblem::required(field, "must specify `addresses` or `notReadyAddresses`"));
    }
    for (list, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
        for (index, address) in addresses.iter().enumerate() {
            let field = format!("{field}.{list}[{index}].ip");
            let special = ip::read(&address.ip, &field, problems).and_then(|ip| ip::special(ip, Trust::Api));
            problems.extend(special.map(|rule| FieldProblem::invalid(field, &address.ip, rule)));
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("{field}.ports[{index}]");
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            problems.push(FieldProblem::required(format!("{field}.name"), ""));
        } else if !name.is_empty() {
            meta::add(problems, &format!("{field}.name"), name, names::dns_1123_label(name));
        }
        if let Some(rule) = names::port_number(port.port) {
            problems.push(FieldProblem::invalid(format!("{field}.port"), port.port, rule));
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
        if !PROTOCOLS.contains(&protocol) {
            problems.push(FieldProblem::unsupported(format!("{field}.protocol"), protocol, &PROTOCOLS));
        }
    }
}
