//! Pods: the defaults that one sees, and the rules that matter without a kubelet.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use serde_json::{Map, Value, json};

use super::{Draft, accept, typed};
use crate::k8s::decode::Object;
use crate::k8s::field::FieldProblem;
use crate::k8s::ip::Trust;
use crate::k8s::{meta, names, pod};
use crate::store::answer::Refusal;
use crate::store::registry::Document;

/// A Pod's next state. Nobody but its creator can say where it runs, so a status given with a new one counts.
pub(super) fn draft(mut object: Value, old: Option<&Document>) -> Result<Draft, Refusal> {
    set_defaults(&mut object, "Pending");
    let pod: v1::Pod = typed(object.clone())?;
    let mut problems = Vec::new();
    let read = pod::read(&pod, Trust::Api, &mut problems);
    if old.is_none() {
        validate_containers(&pod, &mut problems);
    }
    let warnings = accept(problems)?;
    Ok(Draft { object, typed: read.map(|pod| Object::Pod(Arc::new(pod))), warnings })
}

/// A Pod of a file: with an address and no phase it runs.
pub(in crate::store) fn of_file(mut object: Value) -> Value {
    let has_address = object.pointer("/status/podIP").or(object.pointer("/status/podIPs/0")).is_some();
    set_defaults(&mut object, if has_address { "Running" } else { "Pending" });
    object
}

fn validate_containers(pod: &v1::Pod, problems: &mut Vec<FieldProblem>) {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    if containers.is_empty() {
        problems.push(FieldProblem::required("spec.containers", ""));
    }
    for (index, container) in containers.iter().enumerate() {
        let field = format!("spec.containers[{index}]");
        if container.name.is_empty() {
            problems.push(FieldProblem::required(format!("{field}.name"), ""));
        } else {
            let broken = names::dns_1123_label(&container.name);
            meta::add(problems, &format!("{field}.name"), &container.name, broken);
        }
        if container.image.as_deref().is_none_or(str::is_empty) {
            problems.push(FieldProblem::required(format!("{field}.image"), ""));
        }
    }
}

fn set_defaults(object: &mut Value, phase: &str) {
    let Some(pod) = object.as_object_mut() else { return };
    if let Some(spec) = map(pod, "spec") {
        default(spec, "restartPolicy", "Always".into());
        default(spec, "dnsPolicy", "ClusterFirst".into());
        default(spec, "terminationGracePeriodSeconds", 30.into());
        for list in ["containers", "initContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let ports = container.get_mut("ports").and_then(Value::as_array_mut);
                for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
                    default(port, "protocol", "TCP".into());
                }
            }
        }
    }
    let Some(status) = map(pod, "status") else { return };
    default(status, "phase", phase.into());
    // One address and the list of them say the same.
    let first = status.get("podIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()).map(str::to_owned);
    let listed = status.get("podIPs").and_then(|ips| ips.pointer("/0/ip")).and_then(Value::as_str);
    match (first, listed.map(str::to_owned)) {
        (Some(ip), None) => status.insert("podIPs".into(), json!([{"ip": ip}])),
        (None, Some(ip)) => status.insert("podIP".into(), ip.into()),
        _ => None,
    };
}

fn map<'a>(object: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    let value = object.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

fn default(object: &mut Map<String, Value>, field: &str, value: Value) {
    let place = object.entry(field).or_insert(Value::Null);
    if place.is_null() || place.as_str() == Some("") {
        *place = value;
    }
}
