//! Writes of API clients: create, update, delete.

use std::sync::Arc;

use serde_json::Value;

use super::answer::{Accepted, Part, Preconditions, Refusal};
use super::draft::Draft;
use super::persist::{Change, Id, Record};
use super::registry::{Document, Owner};
use super::{Store, metadata};
use crate::k8s::decode::{Kind, Object, ObjectId};
use crate::k8s::resource::{RESOURCES, Resource};
use crate::types::NamespacedName;

impl Store {
    /// Creates an object that has passed the type check and no other: completes its metadata, defaults,
    /// validates, allocates, and puts it in force. With `dry_run` it only says what would come of it.
    pub fn create(
        &mut self,
        resource: Resource,
        mut object: Value,
        dry_run: bool,
    ) -> Result<Accepted, Refusal> {
        let is_taken = |key: &NamespacedName| self.registry.get(resource, key).is_some();
        let key = metadata::begin(resource, &mut object, is_taken)?;
        self.check_namespace(resource, &key)?;
        let draft = self.draft(resource, Part::Main, object, None)?;
        // The Node that is there by itself makes way for one that says more.
        let there = self.registry.get(resource, &key);
        let makes_way = |old: &&Arc<Document>| resource == Resource::Nodes && old.owner == Owner::Controller;
        if there.is_some_and(|old| !makes_way(&old)) {
            return Err(Refusal::AlreadyExists);
        }
        self.commit(resource, key, draft, dry_run)
    }

    /// Changes one part of an object; one that comes out the same keeps its version.
    pub fn update(
        &mut self,
        resource: Resource,
        key: &NamespacedName,
        part: Part,
        mut object: Value,
        dry_run: bool,
    ) -> Result<Accepted, Refusal> {
        let old = self.registry.get(resource, key).cloned().ok_or(Refusal::NotFound)?;
        check_owner(&old, true)?;
        metadata::advance(resource, &mut object, &old)?;
        let mut draft = self.draft(resource, part, object, Some(&old))?;
        let before = old.value();
        if comparable(&before) == comparable(&draft.object) {
            return Ok(Accepted { document: old, warnings: draft.warnings });
        }
        if without_metadata(before) != without_metadata(draft.object.clone()) && part == Part::Main {
            metadata::count_generation(resource, &mut draft.object);
        }
        self.commit(resource, key.clone(), draft, dry_run)
    }

    /// Deletes an object at once, and with a namespace all that is in it; gives its last state.
    pub fn delete(
        &mut self,
        resource: Resource,
        key: &NamespacedName,
        if_: &Preconditions,
        dry_run: bool,
    ) -> Result<Arc<Document>, Refusal> {
        let old = self.registry.get(resource, key).cloned().ok_or(Refusal::NotFound)?;
        if resource == Resource::Namespaces && metadata::IMMORTAL.contains(&&*key.name) {
            return Err(Refusal::Forbidden("this namespace may not be deleted".to_owned()));
        }
        check_owner(&old, false)?;
        metadata::check(if_, &old)?;
        let inside = match resource {
            Resource::Namespaces => self.inside(&key.name)?,
            Resource::Services => self.endpoints_of(key),
            _ => Vec::new(),
        };
        if dry_run {
            return Ok(old);
        }
        self.forget_told(resource, key);
        let ids: Vec<Id> = inside.into_iter().chain([(resource, key.clone())]).collect();
        let changes: Vec<Change> = ids.iter().map(|id| (id.clone(), None)).collect();
        self.persist(&changes)?;
        let mut last = old;
        for (resource, key) in ids {
            last = self.take_out(resource, &key).unwrap_or(last);
        }
        Ok(last)
    }

    fn check_namespace(&self, resource: Resource, key: &NamespacedName) -> Result<(), Refusal> {
        let namespace = NamespacedName::new("", Arc::clone(&key.namespace));
        let exists =
            !resource.info().namespaced || self.registry.get(Resource::Namespaces, &namespace).is_some();
        if exists { Ok(()) } else { Err(Refusal::NamespaceNotFound(key.namespace.to_string())) }
    }

    /// What clients have put into a namespace. What is there besides must not outlive it.
    fn inside(&self, namespace: &str) -> Result<Vec<Id>, Refusal> {
        let mut inside = Vec::new();
        for info in RESOURCES.iter().filter(|info| info.namespaced) {
            for document in self.registry.list(info.resource, Some(namespace)) {
                match &document.owner {
                    Owner::Api => inside.push((info.resource, document.key.clone())),
                    Owner::File(place) => {
                        let what = info.singular;
                        return Err(Refusal::Forbidden(format!(
                            "the {what} {} in it is defined in {place}: remove it there",
                            document.key.name
                        )));
                    }
                    Owner::Controller => {}
                }
            }
        }
        Ok(inside)
    }

    /// Endpoints that somebody wrote for a Service go with it.
    fn endpoints_of(&self, service: &NamespacedName) -> Vec<Id> {
        let endpoints = self.registry.get(Resource::Endpoints, service);
        let written = endpoints.filter(|endpoints| endpoints.owner == Owner::Api);
        written.map(|_| (Resource::Endpoints, service.clone())).into_iter().collect()
    }

    /// Makes a draft what counts.
    fn commit(
        &mut self,
        resource: Resource,
        key: NamespacedName,
        draft: Draft,
        dry_run: bool,
    ) -> Result<Accepted, Refusal> {
        let Draft { object, typed, warnings } = draft;
        if dry_run {
            let version = self.registry.get(resource, &key).map_or(0, |old| old.version);
            let document = Arc::new(Document::new(resource, key, Owner::Api, object, version));
            return Ok(Accepted { document, warnings });
        }
        let document = Arc::new(self.registry.next(resource, key.clone(), Owner::Api, object));
        let rank = match &typed {
            Some(Object::Service(request)) => self.ranks.rank(&key, request.created),
            _ => 0,
        };
        let record = Record { rank, json: Arc::clone(&document.json) };
        self.persist(&[((resource, key.clone()), Some(record))])?;
        self.registry.insert(Arc::clone(&document));
        if resource == Resource::Events {
            self.expire_events();
        }
        match (typed, kind_of(resource)) {
            (Some(object), _) => {
                let changed = self.objects.put(object);
                self.take_effect(changed);
            }
            (None, Some(kind)) => {
                let changed = self.objects.delete(&ObjectId { kind, key });
                self.take_effect(changed);
            }
            (None, None) if resource == Resource::Endpoints => self.update_slices_of(&key),
            (None, None) => {}
        }
        Ok(Accepted { document, warnings })
    }

    fn take_out(&mut self, resource: Resource, key: &NamespacedName) -> Option<Arc<Document>> {
        let last = Arc::new(self.registry.last(resource, key)?);
        self.registry.take_out(Arc::clone(&last));
        if let Some(kind) = kind_of(resource) {
            let id = ObjectId { kind, key: key.clone() };
            let changed = self.objects.delete(&id);
            self.take_effect(changed);
            self.show_written(&id);
        } else if resource == Resource::Endpoints {
            self.update_slices_of(key);
        }
        Some(last)
    }
}

/// Objects of files are changed where they are written; what a controller makes it would make again.
fn check_owner(document: &Document, update: bool) -> Result<(), Refusal> {
    match &document.owner {
        Owner::Api => Ok(()),
        Owner::File(place) => {
            Err(Refusal::Forbidden(format!("it is defined in the file {place}: change it there")))
        }
        Owner::Controller if document.resource == Resource::Events => Ok(()),
        Owner::Controller if update && !document.resource.info().namespaced => Ok(()),
        Owner::Controller => Err(Refusal::Forbidden(match document.resource {
            Resource::Nodes => "it is the node that ringport runs on".to_owned(),
            Resource::Namespaces => "objects of manifest files are in it".to_owned(),
            _ => format!("ringport makes it for the Service {} and would make it again", owner(document)),
        })),
    }
}

fn owner(document: &Document) -> String {
    let label = document.labels.get(crate::k8s::slice::SERVICE_NAME_LABEL);
    label.cloned().unwrap_or_else(|| document.key.name.to_string())
}

/// An object without what says only when it was written.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    let managed = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
    for entry in managed.into_iter().flatten().filter_map(Value::as_object_mut) {
        entry.remove("time");
    }
    object
}

fn without_metadata(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("metadata");
        fields.remove("status");
    }
    object
}

/// The kinds that the data plane knows.
fn kind_of(resource: Resource) -> Option<Kind> {
    match resource {
        Resource::Services => Some(Kind::Service),
        Resource::Pods => Some(Kind::Pod),
        Resource::EndpointSlices => Some(Kind::EndpointSlice),
        Resource::Nodes => Some(Kind::Node),
        Resource::Namespaces | Resource::Endpoints | Resource::Events => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
