//! Events: problems of objects, where `kubectl describe` finds them.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::registry::{Document, Owner};
use super::{Store, metadata, seconds_since_1970};
use crate::k8s::resource::{RESOURCES, Resource};
use crate::limits;
use crate::problem::{Problem, Reason};
use crate::types::NamespacedName;

const COMPONENT: &str = "ringport";

/// A problem that is on for longer is told again, so that its Event does not expire.
const AGAIN_SECONDS: u64 = 600;

/// Between two searches for Events that have expired.
const EXPIRY_SECONDS: u64 = 60;

/// What was told of which object: uid or name, reason, message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Told {
    resource: Resource,
    key: NamespacedName,
    reason: Reason,
    message: String,
}

impl Store {
    /// Makes Events of the problems that are there now: of those of an object, and of Services whose selector
    /// finds no endpoint. One that was there the last time is not counted again. Old Events expire; so call it at
    /// least every few minutes.
    pub fn report(&mut self, problems: &[Problem]) {
        if !self.shows {
            return;
        }
        let now = seconds_since_1970();
        let mut told: Vec<Told> = problems.iter().filter_map(told).collect();
        told.extend(self.without_endpoints());
        told.truncate(limits::EVENTS);
        for told in &told {
            let is_new = !self.reported.contains(told);
            self.tell(told, is_new, now);
        }
        self.reported = told.into_iter().collect::<HashSet<_>>();
        self.expire_events();
    }

    /// A later object of the same name is told anew.
    pub(super) fn forget_told(&mut self, resource: Resource, key: &NamespacedName) {
        self.reported.retain(|told| told.resource != resource || told.key != *key);
    }

    fn without_endpoints(&self) -> Vec<Told> {
        let selecting = self.world.services.iter().filter(|(_, service)| !service.selector.is_empty());
        let empty = selecting.filter(|(key, _)| {
            let slices = self.world.slices.get(*key).into_iter().flatten();
            !slices.flat_map(|slice| &slice.endpoints).any(|endpoint| endpoint.ready || endpoint.serving)
        });
        let told = empty.map(|(key, service)| {
            let labels: Vec<String> =
                service.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message =
                format!("no Pod with the labels {} is ready: connections are refused", labels.join(","));
            Told { resource: Resource::Services, key: key.clone(), reason: Reason::NoEndpoints, message }
        });
        told.collect()
    }

    fn tell(&mut self, told: &Told, is_new: bool, now: u64) {
        let object = self.registry.get(told.resource, &told.key).cloned();
        let uid = object.as_ref().map(|object| Arc::clone(&object.uid)).unwrap_or_default();
        let hash = super::hash(&(&uid, told));
        let namespace: Arc<str> = match told.key.namespace.is_empty() {
            true => "default".into(),
            false => Arc::clone(&told.key.namespace),
        };
        let name = format!("{}.{hash:016x}", told.key.name);
        let key = NamespacedName { namespace, name: name.into() };
        let before = self.registry.get(Resource::Events, &key).map(|event| event.value());
        let is_recent = |event: &Value| last_seconds(event).is_some_and(|last| last + AGAIN_SECONDS > now);
        if !is_new && before.as_ref().is_none_or(is_recent) {
            return;
        }
        let event = self.event(told, &key, object.as_deref(), before.as_ref(), now);
        self.show(Resource::Events, &key, Owner::Controller, event);
    }

    fn event(
        &self,
        told: &Told,
        key: &NamespacedName,
        object: Option<&Document>,
        before: Option<&Value>,
        now: u64,
    ) -> Value {
        let info = told.resource.info();
        let mut involved = json!({
            "apiVersion": info.api_version(), "kind": info.kind, "name": &*told.key.name,
        });
        if let Some(involved) = involved.as_object_mut() {
            if info.namespaced {
                involved.insert("namespace".into(), (*told.key.namespace).into());
            }
            if let Some(object) = object {
                involved.insert("uid".into(), (*object.uid).into());
                involved.insert("resourceVersion".into(), object.version.to_string().into());
            }
        }
        let old = |field: &str| before.and_then(|before| before.get(field));
        let first = old("firstTimestamp").cloned().unwrap_or_else(|| metadata::time(now).into());
        let count = old("count").and_then(Value::as_u64).unwrap_or(0) + 1;
        let node = &*self.world.node.name;
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": &*key.name, "namespace": &*key.namespace},
            "involvedObject": involved,
            "reason": told.reason.as_str(), "message": told.message, "type": "Warning",
            "source": {"component": COMPONENT, "host": node},
            "reportingComponent": COMPONENT, "reportingInstance": node,
            "firstTimestamp": first, "lastTimestamp": metadata::time(now), "count": count,
            "eventTime": null,
        })
    }

    /// Forgets Events that are old, and the oldest where there are too many.
    pub(super) fn expire_events(&mut self) {
        let now = seconds_since_1970();
        let many = self.registry.list(Resource::Events, None).nth(limits::EVENTS).is_some();
        if !many && self.expired_at + EXPIRY_SECONDS > now {
            return;
        }
        self.expired_at = now;
        let mut events: Vec<(u64, NamespacedName)> = Vec::new();
        for event in self.registry.list(Resource::Events, None) {
            events.push((last_seconds(&event.value()).unwrap_or(now), event.key.clone()));
        }
        events.sort();
        let too_many = events.len().saturating_sub(limits::EVENTS);
        for (index, (last, key)) in events.iter().enumerate() {
            if index < too_many || last + limits::EVENT_TIME.as_secs() <= now {
                self.registry.remove(Resource::Events, key);
            }
        }
    }
}

/// When it last happened, or else when it was made.
fn last_seconds(event: &Value) -> Option<u64> {
    let times = [
        event.pointer("/lastTimestamp"),
        event.pointer("/series/lastObservedTime"),
        event.pointer("/eventTime"),
        event.pointer("/metadata/creationTimestamp"),
    ];
    let text = times.into_iter().flatten().find_map(Value::as_str)?;
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_second()).ok()
}

/// The Event for a problem, if it is one of an object.
fn told(problem: &Problem) -> Option<Told> {
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
    Some(Told { resource: info.resource, key, reason: problem.reason, message })
}

#[cfg(test)]
mod tests;
