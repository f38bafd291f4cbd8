//! Sets of fields, as a tree (structured-merge-diff, fieldpath).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A set of fields. The steps are those of `FieldsV1`: `f:spec`, `k:{"port":80,"protocol":"TCP"}`, `v:"a"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// Whether the field at this place is in the set itself.
    pub(super) here: bool,
    /// What is in it below; no child is empty.
    children: BTreeMap<String, Set>,
}

/// The step to a field of a map.
pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The step to an item of a keyed list; of its keys, `key` gives the values.
pub(super) fn item(keys: Map<String, Value>) -> String {
    format!("k:{}", Value::Object(keys))
}

/// The step to a value of a set.
pub(super) fn value(value: &Value) -> String {
    format!("v:{value}")
}

impl Set {
    /// The set of this one field.
    pub(super) fn leaf() -> Self {
        Self { here: true, children: BTreeMap::new() }
    }

    /// Reads `fieldsV1`. What is no such set counts as empty.
    pub(super) fn read(fields: &Value) -> Self {
        let mut set = Self::default();
        for (step, below) in fields.as_object().into_iter().flatten() {
            if step == "." {
                set.here = true;
            } else if below.as_object().is_some_and(Map::is_empty) {
                set.insert(step.clone(), Self::leaf());
            } else {
                set.insert(step.clone(), Self::read(below));
            }
        }
        set
    }

    /// Writes `fieldsV1`.
    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        if self.here && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        map.extend(self.children.iter().map(|(step, below)| (step.clone(), below.write())));
        Value::Object(map)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.here && self.children.is_empty()
    }

    pub(super) fn get(&self, step: &str) -> Option<&Self> {
        self.children.get(step)
    }

    /// Adds what is below a step.
    pub(super) fn insert(&mut self, step: String, below: Self) {
        if below.is_empty() {
            return;
        }
        let merged = match self.children.get(&step) {
            Some(known) => known.union(&below),
            None => below,
        };
        self.children.insert(step, merged);
    }

    /// Takes out a step and what is below it.
    pub(super) fn remove(&mut self, step: &str) {
        self.children.remove(step);
    }

    /// Takes out steps below a step, and the step itself.
    pub(super) fn remove_within(&mut self, step: &str, steps: &[String]) {
        let Some(mut below) = self.children.remove(step) else { return };
        below.here = false;
        for step in steps {
            below.remove(step);
        }
        self.insert(step.to_owned(), below);
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a || b)
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && b)
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && !b)
    }

    fn combine(&self, other: &Self, rule: fn(bool, bool) -> bool) -> Self {
        let nothing = Self::default();
        let steps: BTreeSet<&String> = self.children.keys().chain(other.children.keys()).collect();
        let below = |step: &String| {
            let a = self.children.get(step).unwrap_or(&nothing);
            let b = other.children.get(step).unwrap_or(&nothing);
            a.combine(b, rule)
        };
        let children = steps.into_iter().map(|step| (step.clone(), below(step)));
        let children = children.filter(|(_, below)| !below.is_empty()).collect();
        Self { here: rule(self.here, other.here), children }
    }

    /// With the fields that hold others of the set; but not items of lists, and not the main parts of the object,
    /// which are always there.
    pub(super) fn with_named_fields(&self) -> Self {
        let child = |(step, below): (&String, &Self)| (step.clone(), below.named());
        Self { here: self.here, children: self.children.iter().map(child).collect() }
    }

    fn named(&self) -> Self {
        let child = |(step, below): (&String, &Self)| {
            let mut below = below.named();
            below.here |= step.starts_with("f:");
            (step.clone(), below)
        };
        Self { here: self.here, children: self.children.iter().map(child).collect() }
    }

    /// The fields as messages name them, `.spec.ports[port=80,protocol="TCP"].nodePort`: those of a place before
    /// those below it.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, above: &str, paths: &mut Vec<String>) {
        let mut children: Vec<(Step, &Self)> =
            self.children.iter().map(|(step, below)| (Step::read(step), below)).collect();
        children.sort_by(|(a, _), (b, _)| a.cmp(b));
        let path = |step: &Step| format!("{above}{}", step.text());
        paths.extend(children.iter().filter(|(_, below)| below.here).map(|(step, _)| path(step)));
        for (step, below) in &children {
            below.collect(&path(step), paths);
        }
    }
}

/// A step in the order of messages: fields, then items by their keys, then values; numbers as numbers.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Field(String),
    Item(Vec<(String, Scalar)>),
    Value(Scalar),
}

#[derive(PartialEq, Eq)]
struct Scalar(Value);

impl Step {
    fn read(step: &str) -> Self {
        let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        match step.split_once(':') {
            Some(("k", keys)) => match json(keys) {
                Value::Object(keys) => {
                    Self::Item(keys.into_iter().map(|(key, value)| (key, Scalar(value))).collect())
                }
                other => Self::Value(Scalar(other)),
            },
            Some(("v", value)) => Self::Value(Scalar(json(value))),
            Some((_, name)) => Self::Field(name.to_owned()),
            None => Self::Field(step.to_owned()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Item(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(key, value)| format!("{key}={}", value.0)).collect();
                format!("[{}]", keys.join(","))
            }
            Self::Value(value) => format!("[={}]", value.0),
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0.as_i64(), other.0.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => self.0.to_string().cmp(&other.0.to_string()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
