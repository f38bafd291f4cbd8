//! Which file says what, and which file's word counts.
//!
//! An object that two files define is taken from the file that was loaded first; what the API has
//! counts before all files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::k8s::decode::{Decoded, Object, ObjectId, Written};
use crate::problem::{Origin, Problem, Reason};

/// Before the first file.
const API: u64 = 0;

/// What a change of files comes to.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Those that have become other ones for the data plane, in the order of the file.
    pub(super) objects: Vec<ObjectId>,
    /// Those whose text has changed, be it only their place; all of the above among them.
    pub(super) texts: Vec<ObjectId>,
}

impl Changed {
    fn note(&mut self, id: &ObjectId, object: bool, text: bool) {
        if object {
            self.objects.push(id.clone());
        }
        if object || text {
            self.texts.push(id.clone());
        }
    }
}

/// All objects of all files and of the API.
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
    /// Takes over what a file says now. Objects that the file holds but that are refused stay as they were.
    pub(super) fn replace(&mut self, name: &Arc<str>, decoded: Decoded, changed: &mut Changed) {
        let mut file = self.files.remove(name).unwrap_or_else(|| {
            self.next_order += 1;
            File { order: self.next_order, ..File::default() }
        });
        let before = std::mem::take(&mut file.objects);
        file.repeated.clear();
        for written in decoded.objects {
            let id = written.object.id();
            if file.objects.insert(id.clone()) {
                self.claim(file.order, id, written, changed);
            } else {
                file.repeated.push(repeated(&written, "earlier in the same file"));
            }
        }
        let kept = decoded.refused.into_iter().filter(|id| before.contains(id));
        file.objects.extend(kept);
        for id in before.difference(&file.objects) {
            self.unclaim(file.order, id, changed);
        }
        self.files.insert(Arc::clone(name), file);
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, name: &str, changed: &mut Changed) {
        let file = self.files.remove(name).unwrap_or_default();
        file.objects.iter().for_each(|id| self.unclaim(file.order, id, changed));
    }

    /// Takes over what the API has.
    pub(super) fn put(&mut self, object: Object) -> Changed {
        let mut changed = Changed::default();
        self.put_all([object], &mut changed);
        changed
    }

    /// The same for many.
    pub(super) fn put_all(&mut self, objects: impl IntoIterator<Item = Object>, changed: &mut Changed) {
        for object in objects {
            let origin = Origin { file: "the API".into(), line: 0, column: 0 };
            let id = object.id();
            self.claim(API, id, Written { object, origin, places: Vec::new(), json: None }, changed);
        }
    }

    /// Forgets what the API had.
    pub(super) fn delete(&mut self, id: &ObjectId) -> Changed {
        let mut changed = Changed::default();
        self.unclaim(API, id, &mut changed);
        changed
    }

    /// Whether it is the API's word that counts.
    pub(super) fn is_of_api(&self, id: &ObjectId) -> bool {
        self.claims.get(id).is_some_and(|claims| claims.contains_key(&API))
    }

    /// The object as the file whose word counts has it.
    pub(super) fn get(&self, id: &ObjectId) -> Option<&Written> {
        self.claims.get(id)?.values().next()
    }

    /// Its JSON, once.
    pub(super) fn take_json(&mut self, id: &ObjectId) -> Option<Box<str>> {
        self.claims.get_mut(id)?.values_mut().next()?.json.take()
    }

    /// The definitions that do not count.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for claims in self.contested.iter().filter_map(|id| self.claims.get(id)) {
            let Some(first) = claims.values().next() else { continue };
            let place = match claims.contains_key(&API) {
                true => format!("in {}", first.origin),
                false => format!("at {}", first.origin),
            };
            problems.extend(claims.values().skip(1).map(|written| repeated(written, &place)));
        }
        problems.extend(self.files.values().flat_map(|file| file.repeated.iter().cloned()));
        problems
    }

    fn claim(&mut self, order: u64, id: ObjectId, written: Written, changed: &mut Changed) {
        let claims = self.claims.entry(id.clone()).or_default();
        let is_first = claims.keys().next().is_none_or(|&first| first >= order);
        let object = match claims.entry(order) {
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
        if is_first {
            changed.note(&id, object, true);
        }
    }

    fn unclaim(&mut self, order: u64, id: &ObjectId, changed: &mut Changed) {
        let Some(claims) = self.claims.get_mut(id) else { return };
        let was_first = claims.keys().next() == Some(&order);
        let was_there = claims.remove(&order).is_some();
        if claims.len() < 2 {
            self.contested.remove(id);
        }
        if claims.is_empty() {
            self.claims.remove(id);
        }
        changed.note(id, was_first && was_there, false);
    }
}

fn repeated(written: &Written, place: &str) -> Problem {
    Problem {
        origin: Some(written.origin.clone()),
        object: Some(written.object.id().to_string()),
        hint: Some("give it another name, or remove one of the two".into()),
        reason: Reason::AlreadyDefined,
        ..Problem::error(format!("is already defined {place}, which counts"))
    }
}
