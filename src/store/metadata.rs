//! `metadata`: what the API server writes into it, and what an update may not change
//! (apiserver pkg/registry/rest create.go, update.go, meta.go).

use serde_json::{Map, Value};
use uuid::Uuid;

use super::answer::{Preconditions, Refusal};
use super::registry::Document;
use super::seconds_since_1970;
use crate::k8s::field::FieldProblem;
use crate::k8s::meta::DEFAULT_NAMESPACE;
use crate::k8s::resource::Resource;
use crate::types::NamespacedName;

/// Namespaces that every cluster has.
pub(super) const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Those that the API server lets nobody delete.
pub(super) const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// What a generated name may end with: no vowels, so that it says nothing.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const SUFFIX: usize = 5;
const MAX_GENERATED: usize = 63;

/// Namespace and name of an object, for kinds without namespace an empty one.
pub(super) fn key(resource: Resource, object: &Value) -> NamespacedName {
    let namespace = match text(object, "namespace") {
        _ if !resource.info().namespaced => "",
        "" => DEFAULT_NAMESPACE,
        namespace => namespace,
    };
    NamespacedName::new(namespace, text(object, "name"))
}

/// Makes the metadata of a new object; `is_taken` says which generated names will not do.
pub(super) fn begin(
    resource: Resource,
    object: &mut Value,
    is_taken: impl Fn(&NamespacedName) -> bool,
) -> Result<NamespacedName, Refusal> {
    if !matches!(text(object, "resourceVersion"), "" | "0") {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Refusal::BadRequest(message.to_owned()));
    }
    let base = text(object, "generateName").to_owned();
    let mut name = text(object, "name").to_owned();
    if name.is_empty() && !base.is_empty() {
        let namespace = key(resource, object).namespace;
        loop {
            name = generated(&base);
            if !is_taken(&NamespacedName::new(namespace.clone(), name.as_str())) {
                break;
            }
        }
    }
    let Some(fields) = fields(object) else { return Err(no_object()) };
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        fields.remove(field);
    }
    if !name.is_empty() {
        fields.insert("name".into(), name.into());
    }
    if resource.info().namespaced && fields.get("namespace").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        fields.insert("namespace".into(), DEFAULT_NAMESPACE.into());
    }
    fields.insert("uid".into(), new_uid().into());
    fields.insert("creationTimestamp".into(), now().into());
    fields.remove("generation");
    start_generation(resource, fields);
    Ok(key(resource, object))
}

/// Brings the metadata of a new state into line with the object as it is, after checking what the client knows
/// of it.
pub(super) fn advance(resource: Resource, object: &mut Value, old: &Document) -> Result<(), Refusal> {
    let before = old.value();
    let version = text(object, "resourceVersion").to_owned();
    match version.parse::<u64>() {
        Ok(0) => {}
        Ok(version) if version == old.version => {}
        Ok(_) => return Err(Refusal::Conflict(MODIFIED.to_owned())),
        Err(_) if version.is_empty() => {}
        Err(_) => {
            let problem = FieldProblem::invalid(
                "metadata.resourceVersion",
                &version,
                "must be specified for an update",
            );
            return Err(Refusal::Invalid(vec![problem]));
        }
    }
    let uid = text(object, "uid");
    if !uid.is_empty() && uid != &*old.uid {
        return Err(other_uid(uid, &old.uid));
    }
    let Some(fields) = fields(object) else { return Err(no_object()) };
    for field in ["uid", "creationTimestamp", "name", "namespace", "generateName", "generation"] {
        match before.get("metadata").and_then(|metadata| metadata.get(field)) {
            Some(value) => fields.insert(field.into(), value.clone()),
            None => fields.remove(field),
        };
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        fields.remove(field);
    }
    fields.insert("resourceVersion".into(), old.version.to_string().into());
    debug_assert_eq!(key(resource, object), old.key);
    Ok(())
}

fn no_object() -> Refusal {
    Refusal::BadRequest("the body is no object with metadata".to_owned())
}

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Whether a deletion may go on.
pub(super) fn check(if_: &Preconditions, old: &Document) -> Result<(), Refusal> {
    if let Some(uid) = if_.uid.as_deref().filter(|uid| *uid != &*old.uid) {
        return Err(other_uid(uid, &old.uid));
    }
    match if_.version {
        Some(version) if version != old.version => Err(Refusal::Conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            old.version
        ))),
        _ => Ok(()),
    }
}

fn other_uid(asked: &str, has: &str) -> Refusal {
    Refusal::Conflict(format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {has}"))
}

/// Makes the metadata of an object that comes from no client: a new one, or that of the object as it is.
pub(super) fn continue_from(resource: Resource, object: &mut Value, before: Option<&Value>) {
    let Some(fields) = fields(object) else { return };
    let old = before.and_then(|before| before.get("metadata"));
    let of_old = |field: &str| old.and_then(|old| old.get(field)).cloned();
    for (field, new) in [("uid", new_uid as fn() -> String), ("creationTimestamp", now)] {
        if fields.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            fields.insert(field.into(), of_old(field).unwrap_or_else(|| new().into()));
        }
    }
    fields.remove("selfLink");
    for field in ["resourceVersion", "generation"] {
        match of_old(field) {
            Some(value) => fields.insert(field.into(), value),
            None => fields.remove(field),
        };
    }
    if before.is_none() {
        start_generation(resource, fields);
    }
}

/// Pods and slices count the states of what their users decide.
fn start_generation(resource: Resource, fields: &mut Map<String, Value>) {
    if matches!(resource, Resource::Pods | Resource::EndpointSlices) {
        fields.insert("generation".into(), 1.into());
    }
}

/// See [`start_generation`].
pub(super) fn count_generation(resource: Resource, object: &mut Value) {
    if matches!(resource, Resource::Pods | Resource::EndpointSlices) {
        let Some(fields) = fields(object) else { return };
        let generation = fields.get("generation").and_then(Value::as_u64).unwrap_or(0);
        fields.insert("generation".into(), (generation + 1).into());
    }
}

/// A text of the metadata, empty where there is none.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Sets a text of the metadata, or takes it away where it is empty.
pub(super) fn set(object: &mut Value, field: &str, text: &str) {
    let Some(fields) = fields(object) else { return };
    if text.is_empty() {
        fields.remove(field);
    } else {
        fields.insert(field.into(), text.into());
    }
}

/// Adds an annotation.
pub(super) fn annotate(object: &mut Value, name: &str, text: &str) {
    let Some(fields) = fields(object) else { return };
    let annotations = fields.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(name.into(), text.into());
    }
}

/// The metadata, which is made where it is not there; none of what is no object.
fn fields(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert(Value::Null);
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

fn generated(base: &str) -> String {
    let mut end = base.len().min(MAX_GENERATED - SUFFIX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base.get(..end).unwrap_or_default().to_owned();
    for _ in 0..SUFFIX {
        name.push(fastrand::choice(ALPHABET).map_or('x', |&byte| byte.into()));
    }
    name
}

fn new_uid() -> String {
    Uuid::new_v4().to_string()
}

/// The time, to the second.
pub(super) fn now() -> String {
    time(seconds_since_1970())
}

/// A time as the API writes it.
pub(super) fn time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
