//! Objects against the schema: which fields they have, and to merge, cut and compare them (structured-merge-diff,
//! typed).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{self, Set};
use crate::k8s::patch::schema::{self, KEY_DEFAULTS, Record, Rule, Topology};
use crate::k8s::resource::Resource;

/// What is different between two objects.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

/// How a value is owned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As a whole.
    Leaf,
    /// By field.
    Map(Record),
    /// By item, known by these keys, that is owned by field.
    Items(&'static [&'static str], Record),
    /// By item, known by these keys, that is owned as a whole.
    WholeItems(&'static [&'static str]),
    /// By value.
    Values,
}

fn form(rule: Rule, value: &Value) -> Form {
    match (value, rule.topology) {
        (Value::Object(_), Topology::Default) => Form::Map(rule.record),
        (Value::Array(_), Topology::Keyed(keys)) => Form::Items(keys, rule.record),
        (Value::Array(_), Topology::KeyedAtomic(keys)) => Form::WholeItems(keys),
        (Value::Array(_), Topology::Set) => Form::Values,
        _ => Form::Leaf,
    }
}

/// The rule of an item of a list in this form.
fn item_rule(form: Form) -> Rule {
    match form {
        Form::Items(_, record) => Rule { record, merge_key: None, topology: Topology::Default },
        _ => Rule { record: "", merge_key: None, topology: Topology::Atomic },
    }
}

fn root(resource: Resource) -> Rule {
    Rule { record: schema::root(resource), merge_key: None, topology: Topology::Default }
}

/// The step to an item, and the key that it lacks if it has none.
fn step(form: Form, item: &Value) -> Result<String, &'static str> {
    let keys = match form {
        Form::Items(keys, _) | Form::WholeItems(keys) => keys,
        _ => return Ok(set::value(item)),
    };
    let mut values = Map::new();
    for key in keys {
        let default = KEY_DEFAULTS.iter().find(|(name, _)| name == key).map(|(_, value)| Value::from(*value));
        let value = item.get(*key).cloned().or(default).ok_or(*key)?;
        values.insert((*key).to_owned(), value);
    }
    Ok(set::item(values))
}

/// The items of a list by their steps, in order. One without its keys is known by its value.
fn steps(form: Form, value: Option<&Value>) -> Vec<(String, &Value)> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| (step(form, item).unwrap_or_else(|_| set::value(item)), item)).collect()
}

// === fields ===

/// The fields that an object has.
pub(super) fn fields(resource: Resource, object: &Value) -> Set {
    fields_of(root(resource), object)
}

fn fields_of(rule: Rule, value: &Value) -> Set {
    let mut set = Set::default();
    match form(rule, value) {
        Form::Leaf => set.here = true,
        Form::Map(record) => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let mut below = fields_of(schema::rule(record, key), value);
                below.here |= value.is_null() || value.as_object().is_some_and(Map::is_empty);
                set.insert(set::field(key), below);
            }
        }
        form => {
            for (step, item) in steps(form, Some(value)) {
                let mut below = fields_of(item_rule(form), item);
                below.here = true;
                set.insert(step, below);
            }
        }
    }
    set
}

/// Whether the lists of a configuration have the keys by which their items are known, each once.
pub(super) fn check(resource: Resource, object: &Value) -> Result<(), String> {
    check_value(root(resource), object, "")
}

fn check_value(rule: Rule, value: &Value, path: &str) -> Result<(), String> {
    match form(rule, value) {
        Form::Leaf => Ok(()),
        Form::Map(record) => value.as_object().into_iter().flatten().try_for_each(|(key, value)| {
            check_value(schema::rule(record, key), value, &format!("{path}.{key}"))
        }),
        form => {
            let mut seen = BTreeSet::new();
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                let step = step(form, item).map_err(|key| {
                    format!(
                        "{path}: element {index}: associative list with keys has an element that omits key field \
                         {key:?} (and doesn't have default value)"
                    )
                })?;
                let mut one = Set::default();
                one.insert(step.clone(), Set::leaf());
                let name = one.paths().concat();
                if !seen.insert(step) {
                    return Err(format!("{path}: duplicate entries for key {name}"));
                }
                check_value(item_rule(form), item, &format!("{path}{name}"))?;
            }
            Ok(())
        }
    }
}

// === merge ===

/// A live object with a configuration merged into it.
pub(super) fn merge(resource: Resource, live: &Value, config: &Value) -> Value {
    merge_value(root(resource), live, config)
}

fn merge_value(rule: Rule, live: &Value, config: &Value) -> Value {
    match (form(rule, config), live, config) {
        (Form::Map(record), Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (key, value) in config {
                let value = match live.get(key) {
                    Some(live) => merge_value(schema::rule(record, key), live, value),
                    None => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Form::Leaf | Form::Map(_), ..) => config.clone(),
        (form, Value::Array(_), _) => Value::Array(merge_items(form, live, config)),
        _ => config.clone(),
    }
}

/// The items of the configuration in its order; those that only the live list has stay where they are between them.
fn merge_items(form: Form, live: &Value, config: &Value) -> Vec<Value> {
    let (live, config) = (steps(form, Some(live)), steps(form, Some(config)));
    let applied: BTreeSet<&String> = config.iter().map(|(step, _)| step).collect();
    let known: BTreeMap<&String, &Value> = live.iter().rev().map(|(step, item)| (step, *item)).collect();
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let mut done = BTreeSet::new();
    let mut rest = live.iter().peekable();
    for (step, item) in &config {
        while let Some((live, item)) =
            rest.next_if(|(live, _)| !applied.contains(live) || done.contains(live))
        {
            if !applied.contains(live) {
                merged.push((*item).clone());
            }
        }
        merged.push(match known.get(step) {
            Some(live) => merge_value(item_rule(form), live, item),
            None => (*item).clone(),
        });
        done.insert(step);
    }
    merged.extend(rest.filter(|(step, _)| !applied.contains(step)).map(|(_, item)| (*item).clone()));
    merged
}

// === removal ===

/// The parts of an object that in Go are always there, if only empty.
pub(super) const MAIN_PARTS: [&str; 3] = ["metadata", "spec", "status"];

/// An object without these fields; its main parts stay.
pub(super) fn remove(resource: Resource, object: &Value, gone: &Set) -> Value {
    let record = schema::root(resource);
    let left = |(key, value): (&String, &Value)| {
        let rule = schema::rule(record, key);
        let left = match gone.get(&set::field(key)) {
            None => Some(value.clone()),
            Some(below) if MAIN_PARTS.contains(&key.as_str()) && value.is_object() => {
                Some(remove_from(rule, value, below).unwrap_or_else(|| Value::Object(Map::new())))
            }
            Some(below) if below.here => None,
            Some(below) => remove_from(rule, value, below),
        };
        Some((key.clone(), left?))
    };
    Value::Object(object.as_object().into_iter().flatten().filter_map(left).collect())
}

/// Nothing if nothing is left.
fn remove_from(rule: Rule, value: &Value, gone: &Set) -> Option<Value> {
    let left = |step: &str, rule: Rule, value: &Value| match gone.get(step) {
        None => Some(value.clone()),
        Some(below) if below.here => None,
        Some(below) => remove_from(rule, value, below),
    };
    match form(rule, value) {
        Form::Leaf => (!value.is_object() && !value.is_array()).then(|| value.clone()),
        Form::Map(record) => {
            let entries = value.as_object().into_iter().flatten();
            let kept = entries.filter_map(|(key, value)| {
                Some((key.clone(), left(&set::field(key), schema::rule(record, key), value)?))
            });
            Some(kept.collect::<Map<_, _>>()).filter(|map| !map.is_empty()).map(Value::Object)
        }
        form => {
            let kept = steps(form, Some(value)).into_iter();
            let kept = kept.filter_map(|(step, item)| left(&step, item_rule(form), item));
            Some(kept.collect::<Vec<_>>()).filter(|items| !items.is_empty()).map(Value::Array)
        }
    }
}

// === comparison ===

/// What is different in the second object.
pub(super) fn compare(resource: Resource, old: &Value, new: &Value) -> Change {
    compare_values(root(resource), Some(old), Some(new))
}

fn compare_values(rule: Rule, old: Option<&Value>, new: Option<&Value>) -> Change {
    let is_empty = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => false,
    };
    let forms = (old.map(|value| form(rule, value)), new.map(|value| form(rule, value)));
    let form = match forms {
        (Some(old), Some(new)) if old == new => old,
        (Some(form), None) | (None, Some(form)) => form,
        _ => Form::Leaf,
    };
    let mut change = Change::default();
    match form {
        _ if is_empty(old) && is_empty(new) => change.leaf(old, new),
        Form::Leaf => change.leaf(old, new),
        Form::Map(record) => {
            let entries =
                |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
            let (old, new) = (entries(old), entries(new));
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let below = compare_values(schema::rule(record, key), old.get(key), new.get(key));
                change.insert(&set::field(key), below);
            }
        }
        form => {
            let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
                (steps(form, old).into_iter().collect(), steps(form, new).into_iter().collect());
            for step in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let (old, new) = (old.get(step).copied(), new.get(step).copied());
                change.insert(step, compare_values(item_rule(form), old, new));
            }
        }
    }
    change.added.here |= old.is_none() && new.is_some();
    change.removed.here |= old.is_some() && new.is_none();
    change
}

impl Change {
    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        self.modified.here = matches!((old, new), (Some(old), Some(new)) if old != new);
    }

    fn insert(&mut self, step: &str, below: Self) {
        self.added.insert(step.to_owned(), below.added);
        self.modified.insert(step.to_owned(), below.modified);
        self.removed.insert(step.to_owned(), below.removed);
    }

    /// Leaves out what is below these steps.
    pub(super) fn exclude(&mut self, steps: &[String]) {
        for step in steps {
            self.added.remove(step);
            self.modified.remove(step);
            self.removed.remove(step);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}
