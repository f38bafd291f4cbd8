//! The objects of one kind, by name, with the versions that say which of two news is older.

use std::collections::HashMap;

use super::object::Object;
use crate::limits;
use crate::types::NamespacedName;

/// See the module.
#[derive(Debug)]
pub(super) struct Table<O> {
    held: HashMap<NamespacedName, Held<O>>,
    /// Everything up to this version is in the table.
    floor: u64,
    /// The highest version that was heard of.
    highest: u64,
    /// Objects that went after `floor`, and when: an older event does not bring them back.
    gone: HashMap<NamespacedName, u64>,
}

#[derive(Clone, Debug)]
struct Held<O> {
    version: Option<u64>,
    object: O,
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Outcome<O> {
    /// The object is not what it was: this.
    Changed(Option<O>),
    /// It says nothing new.
    Nothing,
}

impl<O> Default for Table<O> {
    fn default() -> Self {
        Self { held: HashMap::new(), floor: 0, highest: 0, gone: HashMap::new() }
    }
}

impl<O: Object> Table<O> {
    pub(super) fn get(&self, key: &NamespacedName) -> Option<&O> {
        self.held.get(key).map(|held| &held.object)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NamespacedName, &O)> {
        self.held.iter().map(|(key, held)| (key, &held.object))
    }

    /// How many of those that are here a list with these names has lost.
    pub(super) fn lost<'a>(&self, names: impl Iterator<Item = &'a NamespacedName>) -> usize {
        let kept: std::collections::HashSet<_> = names.filter(|key| self.held.contains_key(*key)).collect();
        self.held.len() - kept.len()
    }

    /// Takes over a whole list, whatever was known before (W3). Gives the names of what is different, and
    /// what they were.
    pub(super) fn replace(
        &mut self,
        entries: impl Iterator<Item = (NamespacedName, Option<u64>, O)>,
        version: Option<u64>,
    ) -> Vec<(NamespacedName, Option<O>)> {
        let mut before = std::mem::take(&mut self.held);
        let mut changed = Vec::new();
        for (key, version, object) in entries {
            let old = before.remove(&key).map(|held| held.object);
            let object = match old {
                // Keeps what is equal: others know it by its place in memory.
                Some(old) if old.same(&object) => old,
                old => {
                    changed.push((key.clone(), old));
                    object
                }
            };
            self.held.insert(key, Held { version, object });
        }
        changed.extend(before.into_iter().map(|(key, held)| (key, Some(held.object))));
        self.gone.clear();
        self.floor = version.unwrap_or(0);
        self.highest = self.floor;
        changed
    }

    /// Whether this version comes after one that is higher: the server never does that.
    pub(super) fn disordered(&self, version: Option<u64>) -> bool {
        version.is_some_and(|version| version < self.highest)
    }

    /// A version was heard of.
    pub(super) fn heard(&mut self, version: Option<u64>) {
        self.highest = self.highest.max(version.unwrap_or(0));
    }

    /// The object is there, or different (W8).
    pub(super) fn put(&mut self, key: &NamespacedName, version: Option<u64>, object: O) -> Outcome<O> {
        if self.is_old(key, version) {
            return Outcome::Nothing;
        }
        self.gone.remove(key);
        match self.held.get_mut(key) {
            Some(held) if held.object.same(&object) => {
                held.version = version;
                Outcome::Nothing
            }
            Some(held) => {
                let old = std::mem::replace(held, Held { version, object });
                Outcome::Changed(Some(old.object))
            }
            None => {
                self.held.insert(key.clone(), Held { version, object });
                Outcome::Changed(None)
            }
        }
    }

    /// The object is gone, as of this version (W8).
    pub(super) fn remove(&mut self, key: &NamespacedName, version: Option<u64>) -> Outcome<O> {
        let newer = self.held.get(key).is_some_and(|held| held.version > version && version.is_some());
        if newer || version.is_some_and(|version| version <= self.floor) {
            return Outcome::Nothing;
        }
        if let Some(version) = version {
            let latest = self.gone.entry(key.clone()).or_default();
            *latest = version.max(*latest);
        }
        if self.gone.len() > limits::TOMBSTONES {
            // Everything up to the highest version has been heard: the streams of servers are in order.
            self.floor = self.highest;
            self.gone.clear();
        }
        self.held.remove(key).map_or(Outcome::Nothing, |held| Outcome::Changed(Some(held.object)))
    }

    /// Of these names, those that are here and not newer than `version`.
    pub(super) fn not_newer<'a>(
        &self,
        names: impl Iterator<Item = &'a NamespacedName>,
        version: Option<u64>,
    ) -> Vec<NamespacedName> {
        let old = |key: &&NamespacedName| {
            self.held.get(*key).is_some_and(|held| version.is_none() || held.version <= version)
        };
        names.filter(old).cloned().collect()
    }

    fn is_old(&self, key: &NamespacedName, version: Option<u64>) -> bool {
        let Some(version) = version else { return false };
        version <= self.floor
            || self.held.get(key).and_then(|held| held.version).is_some_and(|held| version <= held)
            || self.gone.get(key).is_some_and(|gone| version <= *gone)
    }
}

#[cfg(test)]
mod tests;
