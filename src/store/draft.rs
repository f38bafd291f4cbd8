//! From what a client sent to what is stored: defaults, rules, allocation; kind by kind.

mod endpoints;
mod pod;
mod service;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

use super::answer::{Part, Refusal};
use super::registry::Document;
use super::{Store, metadata};
use crate::k8s::decode::Object;
use crate::k8s::field::FieldProblem;
use crate::k8s::ip::Trust;
use crate::k8s::resource::Resource;
use crate::k8s::{meta, names, node, slice};
use crate::problem::Severity;

pub(super) use self::pod::of_file as pod_of_file;
pub(super) use self::service::fill;

/// An object that may be stored.
#[derive(Debug)]
pub(super) struct Draft {
    /// All of it.
    pub(super) object: Value,
    /// What the data plane sees of it.
    pub(super) typed: Option<Object>,
    /// Texts of `Warning:` headers.
    pub(super) warnings: Vec<String>,
}

impl Store {
    /// The next state of an object. Its metadata is complete; `old` is the object as it is.
    pub(super) fn draft(
        &self,
        resource: Resource,
        part: Part,
        mut object: Value,
        old: Option<&Document>,
    ) -> Result<Draft, Refusal> {
        let mut warnings = Vec::new();
        if let Some(old) = old {
            object = only(part, object, old.value(), &mut warnings);
        }
        let mut draft = match resource {
            Resource::Services => self.draft_service(part, object, old),
            Resource::Pods => pod::draft(object, old),
            Resource::EndpointSlices => draft_slice(object, old),
            Resource::Nodes => draft_node(object),
            Resource::Endpoints => endpoints::draft(object),
            Resource::Namespaces => draft_plain(namespace(object), false, names::dns_1123_label),
            Resource::Events => draft_plain(object, true, names::dns_1123_subdomain),
        }?;
        draft.warnings.extend(warnings);
        if let Some(object) = draft.object.as_object_mut() {
            let info = resource.info();
            object.insert("apiVersion".into(), info.api_version().into());
            object.insert("kind".into(), info.kind.into());
        }
        Ok(draft)
    }
}

/// Of an update only the part that it is for: the other one stays as it is.
fn only(part: Part, new: Value, old: Value, warnings: &mut Vec<String>) -> Value {
    let (mut result, other) = match part {
        Part::Main => (new, old),
        Part::Status => (old, new),
    };
    let status = other.get("status");
    if part == Part::Main && result.get("status").is_some_and(|new| Some(new) != status) {
        let text = "status is left as it is: change it with --subresource=status";
        warnings.push(text.to_owned());
    }
    if let Some(fields) = result.as_object_mut() {
        match status {
            Some(status) => fields.insert("status".into(), status.clone()),
            None => fields.remove("status"),
        };
    }
    if part == Part::Status
        && let (Some(managed), Some(metadata)) =
            (other.pointer("/metadata/managedFields"), result.get_mut("metadata"))
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.insert("managedFields".into(), managed.clone());
    }
    result
}

/// A namespace with what every one has.
pub(super) fn namespace(mut object: Value) -> Value {
    let name = metadata::text(&object, "name").to_owned();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), "v1".into());
        fields.insert("kind".into(), "Namespace".into());
        fields.insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
        fields.insert("status".into(), json!({"phase": "Active"}));
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            let labels = metadata.entry("labels").or_insert(Value::Null);
            if labels.is_null() {
                *labels = json!({});
            }
            if let Some(labels) = labels.as_object_mut() {
                labels.insert("kubernetes.io/metadata.name".into(), name.into());
            }
        }
    }
    object
}

fn draft_plain(
    object: Value,
    namespaced: bool,
    name_rule: fn(&str) -> names::Broken,
) -> Result<Draft, Refusal> {
    let mut problems = Vec::new();
    let metadata: ObjectMeta = typed(object.get("metadata").cloned().unwrap_or_default())?;
    meta::validate(&metadata, namespaced, name_rule, &mut problems);
    let warnings = accept(problems)?;
    Ok(Draft { object, typed: None, warnings })
}

fn draft_node(object: Value) -> Result<Draft, Refusal> {
    let mut problems = Vec::new();
    let node = node::read(&typed(object.clone())?, &mut problems);
    let warnings = accept(problems)?;
    Ok(Draft { object, typed: node.map(|node| Object::Node(Arc::new(node))), warnings })
}

fn draft_slice(mut object: Value, old: Option<&Document>) -> Result<Draft, Refusal> {
    slice::set_defaults(&mut object);
    let mut problems = Vec::new();
    let slice = slice::read(&typed(object.clone())?, Trust::Api, &mut problems);
    let kind = |object: &Value| object.get("addressType").and_then(Value::as_str).unwrap_or("").to_owned();
    let new = kind(&object);
    if old.is_some_and(|old| kind(&old.value()) != new) {
        problems.push(FieldProblem::invalid("addressType", &new, "field is immutable"));
    }
    let warnings = accept(problems)?;
    Ok(Draft { object, typed: slice.map(|slice| Object::EndpointSlice(Arc::new(slice))), warnings })
}

/// What the data plane sees of an object that was accepted before.
pub(super) fn accepted(resource: Resource, object: Value) -> Option<Object> {
    let problems = &mut Vec::new();
    match resource {
        Resource::Services => {
            let service = crate::k8s::service::request(&typed(object).ok()?, problems);
            Some(Object::Service(Arc::new(service)))
        }
        Resource::Pods => {
            let pod = crate::k8s::pod::read(&typed(object).ok()?, Trust::Api, problems);
            pod.map(|pod| Object::Pod(Arc::new(pod)))
        }
        Resource::EndpointSlices => {
            let slice = slice::read(&typed(object).ok()?, Trust::Api, problems);
            slice.map(|slice| Object::EndpointSlice(Arc::new(slice)))
        }
        Resource::Nodes => {
            let node = node::read(&typed(object).ok()?, problems);
            node.map(|node| Object::Node(Arc::new(node)))
        }
        Resource::Namespaces | Resource::Endpoints | Resource::Events => None,
    }
}

/// The object as the Kubernetes schema has it.
fn typed<T: DeserializeOwned>(object: Value) -> Result<T, Refusal> {
    serde_json::from_value(object).map_err(|error| Refusal::BadRequest(error.to_string()))
}

/// Warnings, unless there is an error among them.
fn accept(problems: Vec<FieldProblem>) -> Result<Vec<String>, Refusal> {
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    Ok(warnings.into_iter().map(|warning| format!("{}: {}", warning.field, warning.message)).collect())
}
