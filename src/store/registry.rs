//! Objects as an API server keeps them: complete, versioned, and with a log of what has happened to them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use crate::k8s::resource::{RESOURCES, Resource};
use crate::limits;
use crate::types::NamespacedName;

/// An object at one version.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its kind.
    pub resource: Resource,
    /// Namespace (empty for kinds without) and name.
    pub key: NamespacedName,
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`
    pub version: u64,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// Who may change it.
    pub owner: Owner,
    /// All of it as JSON, with `kind`, `apiVersion` and `metadata.resourceVersion`.
    pub json: Arc<str>,
}

/// Who an object comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Clients of the API.
    Api,
    /// A manifest file: the API shows it and refuses to change it.
    File(Arc<str>),
    /// ringport's own controllers: EndpointSlices and Endpoints of a selector, the namespace `default`.
    Controller,
}

/// One step of the history.
#[derive(Clone, Debug)]
pub struct Event {
    /// The version that it made.
    pub version: u64,
    /// The object before, unless it is new.
    pub before: Option<Arc<Document>>,
    /// The object now. Of one that was deleted the last state, at the version of its deletion.
    pub object: Arc<Document>,
    /// Whether this is the end of it.
    pub deleted: bool,
}

/// The history since the version that was asked for is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The oldest version from which it is.
    pub oldest: u64,
}

/// All objects and their recent history.
#[derive(Debug, Default)]
pub(super) struct Registry {
    objects: BTreeMap<(Resource, NamespacedName), Arc<Document>>,
    version: u64,
    log: VecDeque<Arc<Event>>,
    /// The version before the oldest event of the log.
    forgotten: u64,
}

impl Registry {
    /// An empty one whose first change has the version after this one.
    pub(super) fn starting_at(version: u64) -> Self {
        Self { version, forgotten: version, ..Self::default() }
    }

    /// The version of the last change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, resource: Resource, key: &NamespacedName) -> Option<&Arc<Document>> {
        self.objects.get(&(resource, key.clone()))
    }

    /// All objects of a kind, in one namespace or in all, by namespace and name.
    pub(super) fn list<'a>(
        &'a self,
        resource: Resource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Document>> {
        let first = NamespacedName::new(namespace.unwrap_or_default(), "");
        self.objects
            .range((Bound::Included((resource, first)), Bound::Unbounded))
            .map(|(_, document)| document)
            .take_while(move |document| {
                document.resource == resource
                    && namespace.is_none_or(|namespace| *document.key.namespace == *namespace)
            })
    }

    /// Whether nothing lives in a namespace.
    pub(super) fn is_empty(&self, namespace: &str) -> bool {
        RESOURCES.iter().all(|info| self.list(info.resource, Some(namespace)).next().is_none())
    }

    /// What has happened to a kind after `version`, in order.
    pub(super) fn events_since(&self, resource: Resource, version: u64) -> Result<Vec<Arc<Event>>, Expired> {
        if version < self.forgotten {
            return Err(Expired { oldest: self.forgotten });
        }
        let start = self.log.partition_point(|event| event.version <= version);
        let events = self.log.iter().skip(start);
        Ok(events.filter(|event| event.object.resource == resource).cloned().collect())
    }

    /// Puts an object in at the next version, which is written into it.
    pub(super) fn put(
        &mut self,
        resource: Resource,
        key: NamespacedName,
        owner: Owner,
        object: Value,
    ) -> Arc<Document> {
        let document = Arc::new(self.next(resource, key, owner, object));
        self.insert(Arc::clone(&document));
        document
    }

    /// Takes an object out; gives its last state at the version of the deletion.
    pub(super) fn remove(&mut self, resource: Resource, key: &NamespacedName) -> Option<Arc<Document>> {
        let last = Arc::new(self.last(resource, key)?);
        self.take_out(Arc::clone(&last));
        Some(last)
    }

    /// The object at the next version, before it is put in.
    pub(super) fn next(
        &self,
        resource: Resource,
        key: NamespacedName,
        owner: Owner,
        object: Value,
    ) -> Document {
        Document::new(resource, key, owner, object, self.version + 1)
    }

    /// The last state of an object at the version of its deletion, before it is taken out.
    pub(super) fn last(&self, resource: Resource, key: &NamespacedName) -> Option<Document> {
        let before = self.get(resource, key)?;
        Some(self.next(resource, key.clone(), before.owner.clone(), before.value()))
    }

    /// Puts in an object of an earlier life of the process: no news to anyone.
    pub(super) fn restore(&mut self, document: Document) {
        self.objects.insert((document.resource, document.key.clone()), Arc::new(document));
    }

    /// Puts in what [`Registry::next`] gave.
    pub(super) fn insert(&mut self, document: Arc<Document>) {
        let before = self.objects.insert((document.resource, document.key.clone()), Arc::clone(&document));
        self.record(before, document, false);
    }

    /// Takes out what [`Registry::last`] gave.
    pub(super) fn take_out(&mut self, last: Arc<Document>) {
        let before = self.objects.remove(&(last.resource, last.key.clone()));
        self.record(before, last, true);
    }

    fn record(&mut self, before: Option<Arc<Document>>, object: Arc<Document>, deleted: bool) {
        self.version = object.version;
        self.log.push_back(Arc::new(Event { version: self.version, before, object, deleted }));
        if self.log.len() > limits::WATCH_LOG
            && let Some(event) = self.log.pop_front()
        {
            self.forgotten = event.version;
        }
    }
}

impl Document {
    /// An object at a version, which is written into it unless it is zero: that of an object which only would be.
    pub(super) fn new(
        resource: Resource,
        key: NamespacedName,
        owner: Owner,
        mut object: Value,
        version: u64,
    ) -> Self {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let (mut uid, mut labels) = (String::new(), BTreeMap::new());
        if let Some(metadata) = metadata {
            match version {
                0 => metadata.remove("resourceVersion"),
                _ => metadata.insert("resourceVersion".into(), version.to_string().into()),
            };
            uid = metadata.get("uid").and_then(Value::as_str).unwrap_or_default().to_owned();
            let pairs = metadata.get("labels").and_then(Value::as_object).into_iter().flatten();
            labels =
                pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
        }
        let json = object.to_string().into();
        Self { resource, key, uid: uid.into(), version, labels, owner, json }
    }

    /// The object as a tree.
    pub fn value(&self) -> Value {
        // It was written by this program.
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(registry: &mut Registry, namespace: &str, name: &str) -> u64 {
        let key = NamespacedName::new(namespace, name);
        registry
            .put(Resource::Services, key, Owner::Api, json!({"metadata": {"labels": {"a": name}}}))
            .version
    }

    fn names(registry: &Registry, namespace: Option<&str>) -> Vec<String> {
        registry.list(Resource::Services, namespace).map(|document| document.key.to_string()).collect()
    }

    #[test]
    fn lists_are_of_one_kind_and_namespace() {
        let mut registry = Registry::default();
        for (namespace, name) in [("b", "x"), ("a", "y"), ("a", "x"), ("ab", "z")] {
            put(&mut registry, namespace, name);
        }
        registry.put(Resource::Pods, NamespacedName::new("a", "p"), Owner::Api, json!({"metadata": {}}));
        assert_eq!(names(&registry, None), ["a/x", "a/y", "ab/z", "b/x"]);
        assert_eq!(names(&registry, Some("a")), ["a/x", "a/y"]);
        assert_eq!(names(&registry, Some("c")), [""; 0]);
    }

    #[test]
    fn versions_grow_and_stand_in_the_object() {
        let mut registry = Registry::default();
        assert_eq!(put(&mut registry, "a", "x"), 1);
        assert_eq!(put(&mut registry, "a", "x"), 2);
        let key = NamespacedName::new("a", "x");
        let document = registry.get(Resource::Services, &key).unwrap().clone();
        assert_eq!(document.value()["metadata"]["resourceVersion"], "2");
        assert_eq!(document.labels["a"], "x");
        let last = registry.remove(Resource::Services, &key).unwrap();
        assert_eq!((last.version, &last.value()["metadata"]["resourceVersion"]), (3, &json!("3")));
        assert!(registry.remove(Resource::Services, &key).is_none());
        let events = registry.events_since(Resource::Services, 1).unwrap();
        let told: Vec<_> = events.iter().map(|e| (e.version, e.before.is_some(), e.deleted)).collect();
        assert_eq!(told, [(2, true, false), (3, true, true)]);
        assert!(registry.events_since(Resource::Pods, 0).unwrap().is_empty());
    }

    #[test]
    fn the_oldest_events_are_forgotten_and_that_is_told() {
        let mut registry = Registry::default();
        for _ in 0..limits::WATCH_LOG + 3 {
            put(&mut registry, "a", "x");
        }
        let expired = registry.events_since(Resource::Services, 2).unwrap_err();
        assert_eq!(expired, Expired { oldest: 3 });
        assert_eq!(registry.events_since(Resource::Services, 3).unwrap().len(), limits::WATCH_LOG);
    }
}
