//! Events: problems of objects, where `kubectl describe` finds them.

use std::collections::HashSet;

use serde_json::Value;

use super::registry::Owner;
use super::{Store, metadata, seconds_since_1970};
use crate::k8s::event::{Facts, Told};
use crate::k8s::resource::Resource;
use crate::limits;
use crate::problem::{Problem, Reason};
use crate::types::NamespacedName;

/// Between two searches for Events that have expired.
const EXPIRY_SECONDS: u64 = 60;

impl Store {
    /// Makes Events of the problems that are there now: of those of an object, and of Services whose selector
    /// finds no endpoint. One that was there the last time is not counted again. Old Events expire; so call it at
    /// least every few minutes.
    pub fn report(&mut self, problems: &[Problem]) {
        if !self.shows {
            return;
        }
        let now = seconds_since_1970();
        let mut told: Vec<Told> = problems.iter().filter_map(Told::of).collect();
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
        let uid = object.as_ref().map_or("", |object| &*object.uid);
        let version = object.as_ref().map(|object| object.version.to_string());
        let node = &*self.world.node.name;
        let key = told.event_key(uid, node);
        let before = self.registry.get(Resource::Events, &key).map(|event| event.value());
        let is_recent = |event: &Value| {
            last_seconds(event).is_some_and(|last| last + limits::EVENT_AGAIN.as_secs() > now)
        };
        if !is_new && before.as_ref().is_none_or(is_recent) {
            return;
        }
        let old = |field: &str| before.as_ref().and_then(|before| before.get(field));
        let last = metadata::time(now);
        let event = told.event(&Facts {
            uid,
            version: version.as_deref(),
            node,
            first: old("firstTimestamp").and_then(Value::as_str).unwrap_or(&last),
            last: &last,
            count: old("count").and_then(Value::as_u64).unwrap_or(0) + 1,
        });
        self.show(Resource::Events, &key, Owner::Controller, event);
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

#[cfg(test)]
mod tests;
