//! Events (core/v1): problems of objects, where `kubectl describe` finds them.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use serde_json::{Value, json};
use siphasher::sip::SipHasher13;

use super::resource::{RESOURCES, Resource};
use crate::problem::{Problem, Reason};
use crate::types::NamespacedName;

const COMPONENT: &str = "ringport";

/// What is told of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    /// The kind of the object.
    pub resource: Resource,
    /// Its name.
    pub key: NamespacedName,
    /// What kind of problem it has.
    pub reason: Reason,
    /// The problem.
    pub message: String,
}

/// What else an Event says.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The uid of the object: `kubectl describe` shows those of this one only. Empty where it is not known.
    pub uid: &'a str,
    /// The version of the object, where it is known.
    pub version: Option<&'a str>,
    /// The node of which it is told.
    pub node: &'a str,
    /// When it was first so, as the API writes it.
    pub first: &'a str,
    /// When it was last so.
    pub last: &'a str,
    /// How often it has come about.
    pub count: u64,
}

impl Told {
    /// What is told of a problem, if it is one of an object.
    pub fn of(problem: &Problem) -> Option<Self> {
        let (kind, name) = problem.object.as_deref()?.split_once(' ')?;
        let info = RESOURCES.iter().find(|info| info.kind == kind)?;
        let key = match name.split_once('/') {
            Some((namespace, name)) => NamespacedName::new(namespace, name),
            None => NamespacedName::new("", name),
        };
        let place = problem.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
        let field = problem.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let message = format!("{place}{field}{}{hint}", problem.message);
        Some(Self { resource: info.resource, key, reason: problem.reason, message })
    }

    /// The name of its Event: one for each object, node and text, so that the same one is not there twice.
    pub fn event_key(&self, uid: &str, node: &str) -> NamespacedName {
        let mut hasher = SipHasher13::new();
        (uid, node, self).hash(&mut hasher);
        let namespace: Arc<str> = match self.key.namespace.is_empty() {
            true => "default".into(),
            false => Arc::clone(&self.key.namespace),
        };
        let name = format!("{}.{:016x}", self.key.name, hasher.finish());
        NamespacedName { namespace, name: name.into() }
    }

    /// Its Event.
    pub fn event(&self, facts: &Facts<'_>) -> Value {
        let info = self.resource.info();
        let mut involved = serde_json::Map::new();
        let mut say = |field: &str, value: &str| {
            if !value.is_empty() {
                involved.insert(field.to_owned(), value.into());
            }
        };
        say("apiVersion", info.api_version());
        say("kind", info.kind);
        say("name", &self.key.name);
        say("namespace", &self.key.namespace);
        say("uid", facts.uid);
        say("resourceVersion", facts.version.unwrap_or_default());
        let key = self.event_key(facts.uid, facts.node);
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": &*key.name, "namespace": &*key.namespace},
            "involvedObject": involved,
            "reason": self.reason.as_str(), "message": self.message, "type": "Warning",
            "source": {"component": COMPONENT, "host": facts.node},
            "reportingComponent": COMPONENT, "reportingInstance": facts.node,
            "firstTimestamp": facts.first, "lastTimestamp": facts.last, "count": facts.count,
            "eventTime": null,
        })
    }
}
