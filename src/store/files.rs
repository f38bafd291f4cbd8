//! Files: what they say now becomes what is in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Store;
use super::objects::Changed;
use crate::k8s::decode::{Decoded, Kind, Object, ObjectId};
use crate::k8s::model::Node;
use crate::types::NamespacedName;

/// What has happened to a file.
#[derive(Debug)]
pub enum Change {
    /// It says this now.
    Replaced(Decoded),
    /// It is gone.
    Removed,
}

/// Itself, its Endpoints, slices of two families.
const VERSIONS_PER_OBJECT: u64 = 4;

impl Store {
    /// Takes over what one file says now. See [`Store::apply`].
    pub fn replace_file(&mut self, file: &Arc<str>, decoded: Decoded) {
        self.apply(vec![(Arc::clone(file), Change::Replaced(decoded))]);
    }

    /// Takes over a set of changes at once, so that the numbers that one file asks for are not given
    /// away because another file was read first.
    pub fn apply(&mut self, changes: Vec<(Arc<str>, Change)>) {
        let mut changed = Changed::default();
        for (file, change) in changes {
            match change {
                Change::Replaced(mut decoded) => {
                    if !self.shows {
                        decoded.objects.iter_mut().for_each(|written| written.json = None);
                    }
                    self.objects.replace(&file, decoded, &mut changed);
                }
                Change::Removed => self.objects.remove(&file, &mut changed),
            }
        }
        self.reserve(changed.texts.len() as u64 * VERSIONS_PER_OBJECT);
        self.take_effect(changed);
    }

    /// Brings everything that follows from objects into line with them.
    pub(super) fn take_effect(&mut self, changed: Changed) {
        let mut dirty = BTreeSet::new();
        let mut services = Vec::new();
        for id in changed.objects {
            match id.kind {
                Kind::Service => services.push(id.key),
                Kind::Pod => self.update_pod(id, &mut dirty),
                Kind::EndpointSlice => self.update_slice(id, &mut dirty),
                Kind::Node => self.update_node(id, &mut dirty),
            }
        }
        self.update_services(services, &mut dirty);
        // Slices carry the labels of their Service.
        let texts = changed.texts.iter().filter(|id| id.kind == Kind::Service);
        dirty.extend(texts.map(|id| id.key.clone()));
        if self.shows {
            let moved = dirty.iter().map(|key| ObjectId { kind: Kind::Service, key: key.clone() });
            let shown: BTreeSet<ObjectId> = changed.texts.into_iter().chain(moved).collect();
            shown.iter().for_each(|id| self.show_written(id));
        }
        for service in &dirty {
            self.update_slices_of(service);
        }
    }

    // === Pods, slices, nodes ===

    fn update_pod(&mut self, id: ObjectId, dirty: &mut BTreeSet<NamespacedName>) {
        let new = match self.objects.get(&id).map(|written| &written.object) {
            Some(Object::Pod(pod)) => Some(Arc::clone(pod)),
            _ => None,
        };
        let old = match &new {
            Some(pod) => self.pods.insert(id.key.clone(), Arc::clone(pod)),
            None => self.pods.remove(&id.key),
        };
        let (old, new) = (old.as_ref().map(|pod| &pod.labels), new.as_ref().map(|pod| &pod.labels));
        if old != new {
            self.index.set_labels(&id.key, old, new);
        }
        for labels in old.into_iter().chain(new) {
            dirty.extend(self.index.services_selecting(&id.key.namespace, labels));
        }
    }

    fn update_slice(&mut self, id: ObjectId, dirty: &mut BTreeSet<NamespacedName>) {
        if let Some(owner) = self.slice_owners.remove(&id.key) {
            if let Some(slices) = self.written_slices.get_mut(&owner) {
                slices.remove(&id.key);
                if slices.is_empty() {
                    self.written_slices.remove(&owner);
                }
            }
            dirty.insert(owner);
        }
        if let Some(Object::EndpointSlice(slice)) = self.objects.get(&id).map(|written| &written.object) {
            let slices = self.written_slices.entry(slice.service.clone()).or_default();
            slices.insert(id.key.clone(), Arc::clone(slice));
            dirty.insert(slice.service.clone());
            self.slice_owners.insert(id.key, slice.service.clone());
        }
    }

    fn update_node(&mut self, id: ObjectId, dirty: &mut BTreeSet<NamespacedName>) {
        let name = id.key.name.clone();
        let node = match self.objects.get(&id).map(|written| &written.object) {
            Some(Object::Node(node)) => Arc::clone(node),
            _ => Arc::new(Node { name: Arc::clone(&name), ..Node::default() }),
        };
        if self.world.node.name == name && self.world.node != node {
            self.world.node = Arc::clone(&node);
        }
        match node.zone.clone() {
            Some(zone) => self.zones.insert(name, zone),
            None => self.zones.remove(&name),
        };
        let hinted = self.live.iter().filter(|(_, live)| live.request.distribution.is_some());
        dirty.extend(hinted.map(|(key, _)| key.clone()));
    }
}
