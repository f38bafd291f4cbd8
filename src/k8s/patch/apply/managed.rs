//! The entries of `metadata.managedFields`.

use serde_json::{Value, json};

use super::Manager;
use super::set::Set;
use crate::k8s::resource::Resource;
use crate::limits::UPDATE_MANAGERS;

/// How a manager came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) version: String,
    pub(super) subresource: String,
    /// As it is written; sorts as it should.
    pub(super) time: String,
    pub(super) fields: Set,
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managed {
    pub(super) entries: Vec<Entry>,
}

/// Who owns what too many owned.
const ANCIENT: &str = "ancient-changes";

impl Entry {
    pub(super) fn new(resource: Resource, manager: &Manager<'_>, operation: Operation, fields: Set) -> Self {
        Self {
            manager: manager.name.to_owned(),
            operation,
            version: resource.info().api_version().to_owned(),
            subresource: manager.subresource.to_owned(),
            time: manager.now.to_owned(),
            fields,
        }
    }

    fn read(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Self {
            manager: text("manager"),
            operation,
            version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: Set::read(entry.get("fieldsV1")?),
        })
    }

    fn write(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager,
            "operation": format!("{:?}", self.operation),
            "apiVersion": self.version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.write(),
        });
        for (key, value) in [("time", &self.time), ("subresource", &self.subresource)] {
            if let (Some(entry), false) = (entry.as_object_mut(), value.is_empty()) {
                entry.insert(key.to_owned(), value.as_str().into());
            }
        }
        entry
    }

    /// Whether it is the entry of the same manager: who applies stays the same one in another version.
    fn is_of(&self, other: &Self) -> bool {
        let version = self.operation == Operation::Apply || self.version == other.version;
        let key = |entry: &Self| (entry.manager.clone(), entry.operation, entry.subresource.clone());
        version && key(self) == key(other)
    }

    /// As messages name it: `"kubectl-create" using v1`.
    pub(super) fn told(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.version));
        }
        text
    }
}

impl Managed {
    /// Those of an object.
    pub(super) fn of(object: &Value) -> Self {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        Self { entries: entries.into_iter().flatten().filter_map(Entry::read).collect() }
    }

    /// Those from which an update goes on: what the client sends, except through a subresource; those of the live
    /// object if it sends none; none at all if it sends one empty entry.
    pub(super) fn of_update(before: Option<&Value>, after: &Value, subresource: &str) -> Self {
        let live = || before.map(Self::of).unwrap_or_default();
        let sent = after.pointer("/metadata/managedFields").and_then(Value::as_array);
        if let Some([Value::Object(only)]) = sent.map(Vec::as_slice)
            && only.is_empty()
            && subresource.is_empty()
        {
            return Self::default();
        }
        let sent = Self::of(after);
        if subresource.is_empty() && !sent.entries.is_empty() { sent } else { live() }
    }

    /// Takes the entry of the same manager out.
    pub(super) fn take(&mut self, like: &Entry) -> Option<Entry> {
        let place = self.entries.iter().position(|entry| entry.is_of(like))?;
        Some(self.entries.remove(place))
    }

    /// Adds what a manager has changed to what it owns.
    pub(super) fn add_update(&mut self, mut entry: Entry) {
        if let Some(last) = self.take(&entry) {
            entry.fields = entry.fields.union(&last.fields);
            if entry.fields == last.fields {
                entry.time = last.time;
            }
        }
        self.entries.push(entry);
        self.cap();
    }

    /// Puts the oldest of too many updates together.
    fn cap(&mut self) {
        self.sort();
        let updates = self.entries.iter().filter(|entry| entry.operation == Operation::Update).count();
        if updates <= UPDATE_MANAGERS {
            return;
        }
        let first = self.entries.len() - updates;
        let old: Vec<Entry> = self.entries.drain(first..=first + updates - UPDATE_MANAGERS).collect();
        let mut old = old.into_iter();
        let Some(mut ancient) = old.next() else { return };
        for entry in old {
            ancient.fields = ancient.fields.union(&entry.fields);
            ancient.time = entry.time;
        }
        ancient.manager = ANCIENT.to_owned();
        ancient.subresource = String::new();
        self.entries.push(ancient);
    }

    fn sort(&mut self) {
        let key = |entry: &Entry| {
            (
                entry.operation,
                entry.time.clone(),
                entry.manager.clone(),
                entry.version.clone(),
                entry.subresource.clone(),
            )
        };
        self.entries.sort_by_key(key);
    }

    /// Writes them into an object, in the order of the API server.
    pub(super) fn write(mut self, object: &mut Value) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.sort();
        let Some(object) = object.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        let Some(metadata) = metadata.as_object_mut() else { return };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
            return;
        }
        let entries = self.entries.iter().map(Entry::write).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}
