//! Which file says what, and which file's word counts.
//!
//! An object that two files define is taken from the file that was loaded first.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::k8s::decode::{Decoded, ObjectId, Written};
use crate::problem::Problem;

/// All objects of all files.
#[derive(Debug, Default)]
pub(super) struct Objects {
    files: HashMap<Arc<str>, File>,
    next_order: u64,
    /// What each file, by order of loading, says of an object; the first counts.
    claims: HashMap<ObjectId, BTreeMap<u64, Written>>,
    contested: BTreeSet<ObjectId>,
}

#[derive(Debug, Default)]
struct File {
    order: u64,
    objects: BTreeSet<ObjectId>,
    /// Second definitions of an object in the same file.
    repeated: Vec<Problem>,
}

impl Objects {
    /// Takes over what a file says now; returns the objects that have become other ones, in the order
    /// of the file. Objects that the file holds but that are refused stay as they were.
    pub(super) fn replace(&mut self, name: &Arc<str>, decoded: Decoded) -> Vec<ObjectId> {
        let mut file = self.files.remove(name).unwrap_or_else(|| {
            self.next_order += 1;
            File { order: self.next_order, ..File::default() }
        });
        let before = std::mem::take(&mut file.objects);
        file.repeated.clear();
        let mut changed = Vec::new();
        for written in decoded.objects {
            let id = written.object.id();
            if file.objects.insert(id.clone()) {
                changed.extend(self.claim(file.order, id, written));
            } else {
                file.repeated.push(repeated(&written, "earlier in the same file"));
            }
        }
        let kept = decoded.refused.into_iter().filter(|id| before.contains(id));
        file.objects.extend(kept);
        for id in before.difference(&file.objects) {
            changed.extend(self.unclaim(file.order, id));
        }
        self.files.insert(Arc::clone(name), file);
        changed
    }

    /// Forgets a file; returns the objects that have become other ones or none.
    pub(super) fn remove(&mut self, name: &str) -> Vec<ObjectId> {
        let Some(file) = self.files.remove(name) else { return Vec::new() };
        file.objects.iter().filter_map(|id| self.unclaim(file.order, id)).collect()
    }

    /// The object as the file whose word counts has it.
    pub(super) fn get(&self, id: &ObjectId) -> Option<&Written> {
        self.claims.get(id)?.values().next()
    }

    /// The definitions that do not count.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for claims in self.contested.iter().filter_map(|id| self.claims.get(id)) {
            let Some(first) = claims.values().next() else { continue };
            let place = format!("at {}", first.origin);
            problems.extend(claims.values().skip(1).map(|written| repeated(written, &place)));
        }
        problems.extend(self.files.values().flat_map(|file| file.repeated.iter().cloned()));
        problems
    }

    /// Records what a file says; returns the object if that changes it.
    fn claim(&mut self, order: u64, id: ObjectId, written: Written) -> Option<ObjectId> {
        let claims = self.claims.entry(id.clone()).or_default();
        let is_first = claims.keys().next().is_none_or(|&first| first >= order);
        let changed = match claims.entry(order) {
            Entry::Vacant(entry) => {
                entry.insert(written);
                true
            }
            Entry::Occupied(mut entry) => {
                let old = entry.insert(written);
                old.object != entry.get().object
            }
        };
        if claims.len() > 1 {
            self.contested.insert(id.clone());
        }
        (changed && is_first).then_some(id)
    }

    fn unclaim(&mut self, order: u64, id: &ObjectId) -> Option<ObjectId> {
        let claims = self.claims.get_mut(id)?;
        let was_first = claims.keys().next() == Some(&order);
        claims.remove(&order);
        if claims.len() < 2 {
            self.contested.remove(id);
        }
        if claims.is_empty() {
            self.claims.remove(id);
        }
        was_first.then(|| id.clone())
    }
}

fn repeated(written: &Written, place: &str) -> Problem {
    Problem {
        origin: Some(written.origin.clone()),
        object: Some(written.object.id().to_string()),
        hint: Some("give it another name, or remove one of the two".into()),
        ..Problem::error(format!("is already defined {place}, which counts"))
    }
}
