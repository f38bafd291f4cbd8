//! What all objects have in common: name, namespace, labels, annotations
//! (apimachinery pkg/api/validation/objectmeta.go).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::field::FieldProblem;
use super::names::{self, Broken};
use crate::types::NamespacedName;

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Annotation of objects that come from a manifest file: its path and the line.
pub const FILE_ANNOTATION: &str = "ringport.io/file";

/// Namespace and name, whether valid or not; for objects without namespace it stays empty.
pub fn key(meta: &ObjectMeta, namespaced: bool) -> NamespacedName {
    let namespace = match meta.namespace.as_deref() {
        _ if !namespaced => "",
        None | Some("") => DEFAULT_NAMESPACE,
        Some(namespace) => namespace,
    };
    NamespacedName::new(namespace, meta.name.as_deref().unwrap_or_default())
}

/// Checks the metadata; `name_rule` is the rule for names of this kind.
pub fn validate(
    meta: &ObjectMeta,
    namespaced: bool,
    name_rule: fn(&str) -> Broken,
    problems: &mut Vec<FieldProblem>,
) {
    let key = key(meta, namespaced);
    if key.name.is_empty() {
        let mut problem = FieldProblem::required("metadata.name", "name or generateName is required");
        if meta.generate_name.is_some() {
            problem = problem.with_hint("generateName makes a new object at each reading: write a name");
        }
        problems.push(problem);
    } else {
        add(problems, "metadata.name", &key.name, name_rule(&key.name));
    }
    if namespaced {
        add(problems, "metadata.namespace", &key.namespace, names::dns_1123_label(&key.namespace));
    } else if meta.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty()) {
        problems.push(FieldProblem::forbidden("metadata.namespace", "not allowed on this type"));
    }
    labels(meta.labels.as_ref(), "metadata.labels", problems);
    for name in meta.annotations.iter().flat_map(BTreeMap::keys) {
        add(problems, "metadata.annotations", name, names::qualified_name(&name.to_lowercase()));
    }
}

/// Checks labels, or a selector.
pub fn labels(labels: Option<&BTreeMap<String, String>>, field: &str, problems: &mut Vec<FieldProblem>) {
    for (name, value) in labels.into_iter().flatten() {
        add(problems, field, name, names::qualified_name(name));
        add(problems, field, value, names::label_value(value));
    }
}

/// Adds the broken rules of one text.
pub fn add(problems: &mut Vec<FieldProblem>, field: &str, value: &str, broken: Broken) {
    problems.extend(broken.into_iter().map(|rule| FieldProblem::invalid(field, value, rule)));
}

/// `metadata.creationTimestamp` in seconds since 1970.
pub fn created(meta: &ObjectMeta) -> Option<u64> {
    u64::try_from(meta.creation_timestamp.as_ref()?.0.as_second()).ok()
}
