//! Server-side apply: who owns which field, and what follows from that when somebody applies a configuration
//! (apimachinery pkg/util/managedfields, structured-merge-diff).
//!
//! - `set` sets of fields, and how `managedFields` writes them
//! - `typed` objects against the schema: their fields, merge, removal, comparison
//! - `managed` the entries of `metadata.managedFields`
//!
//! Of several rules these are the ones to know. A manager that applies owns exactly the fields of its last
//! configuration; who updates by other means owns what it has changed. To change a field that another one owns
//! is a conflict, unless it is changed to the value that it has (then both own it) or forced (then the other
//! one loses it). A field that a manager applied before and does not apply now is removed, unless another one
//! owns it too.

mod managed;
mod set;
mod typed;

use std::fmt;

use serde_json::{Map, Value};

use self::managed::{Entry, Managed, Operation};
use self::set::Set;
use crate::k8s::resource::Resource;

/// On whose behalf and when an object is changed.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// `fieldManager=` of the request, or what stands for it.
    pub name: &'a str,
    /// `status`, or empty.
    pub subresource: &'a str,
    /// The time as Kubernetes writes it: `2026-01-02T03:04:05Z`.
    pub now: &'a str,
}

/// Why a configuration is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409 Conflict: others own fields that it would change.
    #[error("{0}")]
    Conflicts(Conflicts),
    /// 400 BadRequest.
    #[error("{0}")]
    BadRequest(String),
}

/// Fields that others own, in the order in which they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

/// One field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl-client-side-apply" using v1`
    pub manager: String,
    /// `.spec.ports[port=80,protocol="TCP"].nodePort`
    pub field: String,
}

/// The manager of kubectl when it applies on the side of the server.
const KUBECTL: &str = "kubectl";
/// Where kubectl keeps what it applied on its own side.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Applies a configuration; gives the whole object with its `managedFields`. Nothing but that is different where
/// nothing changes. Without a live object it is a new one. `applied` has passed the type check.
pub fn apply(
    resource: Resource,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if applied.pointer("/metadata/managedFields").is_some() {
        let message = "metadata.managedFields must be nil";
        return Err(ApplyError::BadRequest(message.to_owned()));
    }
    let mut config = applied.clone();
    reset(resource, manager.subresource, &mut config);
    typed::check(resource, &config).map_err(|error| {
        ApplyError::BadRequest(format!(
            "failed to create typed patch object ({}): {error}",
            identity(resource, applied)
        ))
    })?;
    match apply_as(resource, live, &config, manager, force) {
        // Who applied with kubectl before the server could do it is the same one.
        Err(Refused { owned }) if manager.name == KUBECTL && !force => {
            let allowed = live.map(|live| last_applied(resource, live)).unwrap_or_default();
            let left = owned.into_iter().map(|(entry, set)| (entry, set.difference(&allowed)));
            let left: Vec<(String, Set)> = left.filter(|(_, set)| !set.is_empty()).collect();
            if left.is_empty() {
                return apply_as(resource, live, &config, manager, true).map_err(ApplyError::from);
            }
            Err(ApplyError::from(Refused { owned: left }))
        }
        result => result.map_err(ApplyError::from),
    }
}

/// Notes in `after` who has changed what, after a create (no `before`), an update or a patch of another kind.
/// What `after` has as `managedFields` is taken over as far as a client may do so.
pub fn track(resource: Resource, before: Option<&Value>, after: &mut Value, manager: &Manager<'_>) {
    let mut managed = Managed::of_update(before, after, manager.subresource);
    let old = before.map_or_else(|| Value::Object(Map::new()), without_managed_fields);
    let (old, new) = (skeleton(resource, old), skeleton(resource, without_managed_fields(after)));
    let mut change = typed::compare(resource, &old, &new);
    change.exclude(&reset_fields(resource, manager.subresource));
    let changed = change.modified.union(&change.added);
    for entry in &mut managed.entries {
        entry.fields = entry.fields.difference(&changed).difference(&change.removed);
    }
    managed.add_update(Entry::new(resource, manager, Operation::Update, strip(changed)));
    managed.write(after);
}

// === apply ===

/// What others own of what was to be changed, by the words for the manager.
struct Refused {
    owned: Vec<(String, Set)>,
}

fn apply_as(
    resource: Resource,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, Refused> {
    let mut managed = live.map(Managed::of).unwrap_or_default();
    let mut old = live.map_or_else(|| Value::Object(Map::new()), without_managed_fields);
    if manager.name == KUBECTL {
        keep_last_applied(&mut old, config);
    }
    let entry = Entry::new(resource, manager, Operation::Apply, typed::fields(resource, config));
    let last = managed.take(&entry);
    let mut new = typed::merge(resource, &old, config);
    if let Some(last) = &last {
        new = prune(resource, new, &managed, &entry, &last.fields);
    }
    let mut change = typed::compare(resource, &skeleton(resource, old), &skeleton(resource, new.clone()));
    change.exclude(&reset_fields(resource, manager.subresource));
    let changed = change.modified.union(&change.added);
    let owned = managed.entries.iter().map(|other| (other.told(), other.fields.intersection(&changed)));
    let owned: Vec<(String, Set)> = owned.filter(|(_, set)| !set.is_empty()).collect();
    if !force && !owned.is_empty() {
        return Err(Refused { owned });
    }
    for other in &mut managed.entries {
        other.fields = other.fields.difference(&changed).difference(&change.removed);
    }
    let entry = Entry { fields: strip(entry.fields), ..entry };
    let same = last.as_ref().is_some_and(|last| last.fields == entry.fields) && change.is_empty();
    managed.entries.push(match last {
        Some(last) if same => Entry { time: last.time, ..entry },
        _ => entry,
    });
    managed.write(&mut new);
    Ok(new)
}

/// Removes what was applied last time and is not now, and nobody else owns.
fn prune(resource: Resource, merged: Value, managed: &Managed, now: &Entry, last: &Set) -> Value {
    let last = last.with_named_fields();
    let fields = |value: &Value| typed::fields(resource, value).with_named_fields();
    let others = managed.entries.iter();
    let owned = others.fold(now.fields.clone(), |owned, entry| owned.union(&entry.fields));
    let owned = owned.with_named_fields();
    let all = fields(&merged);

    let pruned = typed::remove(resource, &merged, &last);
    let pruned = typed::remove(resource, &merged, &all.difference(&fields(&pruned).union(&owned)));
    let gone = all.difference(&fields(&pruned)).intersection(&last);
    typed::remove(resource, &merged, &gone)
}

/// The fields of the configuration that kubectl applied on its own side.
fn last_applied(resource: Resource, live: &Value) -> Set {
    let text = live.get("metadata").and_then(|metadata| metadata.get("annotations")?.get(LAST_APPLIED));
    let config = text.and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    config.map(|config| typed::fields(resource, &config)).unwrap_or_default()
}

/// An annotation of kubectl's own kind of apply stays up to date, so that one may go back to it.
fn keep_last_applied(live: &mut Value, config: &Value) {
    let annotation =
        live.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations")?.get_mut(LAST_APPLIED));
    if let Some(annotation) = annotation {
        *annotation = format!("{config}\n").into();
    }
}

// === what belongs to whom by itself ===

/// An object whose main parts are there even if they are empty, as they always are in Go.
fn skeleton(resource: Resource, mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        for part in typed::MAIN_PARTS {
            map.entry(part).or_insert_with(|| Value::Object(Map::new()));
        }
        if let (Resource::Services, Some(Value::Object(status))) = (resource, map.get_mut("status")) {
            status.entry("loadBalancer").or_insert_with(|| Value::Object(Map::new()));
        }
    }
    object
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// The parts that a request to this part of the object cannot change.
fn reset_parts(resource: Resource, subresource: &str) -> &'static [&'static str] {
    match (resource.info().status, subresource) {
        (true, "") => &["status"],
        (true, _) => &["spec"],
        (false, _) => &[],
    }
}

fn reset(resource: Resource, subresource: &str, config: &mut Value) {
    if let Some(config) = config.as_object_mut() {
        for part in reset_parts(resource, subresource) {
            config.remove(*part);
        }
    }
}

fn reset_fields(resource: Resource, subresource: &str) -> Vec<String> {
    reset_parts(resource, subresource).iter().map(|part| set::field(part)).collect()
}

/// Nobody owns the identity of an object, nor what the server writes of it, nor a whole main part.
fn strip(mut fields: Set) -> Set {
    const OF_METADATA: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    fields.remove(&set::field("apiVersion"));
    fields.remove(&set::field("kind"));
    for part in typed::MAIN_PARTS {
        fields.remove_within(&set::field(part), &[]);
    }
    fields.remove_within(&set::field("metadata"), &OF_METADATA.map(set::field));
    fields
}

/// `default/web; /v1, Kind=Service`
fn identity(resource: Resource, object: &Value) -> String {
    let info = resource.info();
    let text = |key: &str| object.pointer(key).and_then(Value::as_str).unwrap_or_default();
    let group = if info.group.is_empty() { "/v1".to_owned() } else { format!("{}/v1", info.group) };
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    format!("{namespace}/{name}; {group}, Kind={}", info.kind)
}

// === conflicts ===

impl From<Refused> for ApplyError {
    fn from(mut refused: Refused) -> Self {
        refused.owned.sort_by(|(a, _), (b, _)| a.cmp(b));
        let conflict = |(manager, set): (String, Set)| {
            let fields = set.paths();
            fields.into_iter().map(move |field| Conflict { manager: manager.clone(), field })
        };
        Self::Conflicts(Conflicts(refused.owned.into_iter().flat_map(conflict).collect()))
    }
}

/// As the API server says it, by manager.
impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = self.0.as_slice() {
            return write!(f, "Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.field);
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        let mut before = None;
        for conflict in &self.0 {
            if before != Some(&conflict.manager) {
                let end = if before.is_some() { "\n" } else { "" };
                write!(f, "{end}conflicts with {}:", conflict.manager)?;
            }
            before = Some(&conflict.manager);
            write!(f, "\n- {}", conflict.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
