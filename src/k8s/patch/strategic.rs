//! Strategic merge patch: a JSON merge patch that knows the keys of lists, with directives
//! (apimachinery pkg/util/strategicpatch).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::schema::{self, Record};
use super::{PatchError, go_print};
use crate::k8s::resource::Resource;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

/// Applies a patch; if it cannot be applied the object stays as it was.
pub fn strategic(resource: Resource, object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::BadRequest("invalid JSON document".to_owned()));
    };
    let mut patched = match object {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    merge_map(&mut patched, patch, schema::root(resource))?;
    *object = Value::Object(patched);
    Ok(())
}

fn merge_map(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    record: Record,
) -> Result<(), PatchError> {
    match patch.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
        None => {}
        Some((_, Some("replace"))) => {
            *original = plain_map(patch);
            return Ok(());
        }
        Some((_, Some("delete"))) => {
            original.clear();
            return Ok(());
        }
        Some((directive, _)) => return Err(unknown_directive(directive, patch)),
    }
    retain_keys(original, patch)?;
    let ordered = merge_ordered_lists(original, patch, record)?;
    for (key, value) in patch {
        if key == RETAIN_KEYS || key.starts_with(ELEMENT_ORDER) || ordered.contains(key.as_str()) {
            continue;
        }
        if key.starts_with(DELETE_FROM_LIST) {
            let name = list_of(key, DELETE_FROM_LIST, FOR_PRIMITIVE_LIST)?;
            delete_from_list(original, name, value)?;
            continue;
        }
        if value.is_null() {
            original.remove(key);
            continue;
        }
        let rule = schema::rule(record, key);
        match (original.get_mut(key), value) {
            (Some(Value::Object(original)), Value::Object(patch)) => merge_map(original, patch, rule.record)?,
            (Some(Value::Array(original)), Value::Array(patch)) if rule.merge_key.is_some() => {
                merge_list(original, patch, rule.merge_key.unwrap_or_default(), rule.record)?;
            }
            _ => {
                original.insert(key.clone(), plain(value));
            }
        }
    }
    Ok(())
}

/// `$retainKeys`: of the original only these fields stay.
fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(retained) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::BadRequest("invalid patch format of retainKeys".to_owned());
    let retained: BTreeSet<&str> =
        retained.as_array().ok_or_else(bad)?.iter().filter_map(Value::as_str).collect();
    let is_directive =
        |key: &str| key == RETAIN_KEYS || key.starts_with(DELETE_FROM_LIST) || key.starts_with(ELEMENT_ORDER);
    let strange = |(key, value): (&String, &Value)| {
        !value.is_null() && !is_directive(key) && !retained.contains(key.as_str())
    };
    if patch.iter().any(strange) {
        return Err(bad());
    }
    original.retain(|key, _| retained.contains(key.as_str()));
    Ok(())
}

/// `$deleteFromPrimitiveList/name`
fn delete_from_list(
    original: &mut Map<String, Value>,
    name: &str,
    deleted: &Value,
) -> Result<(), PatchError> {
    let Some(Value::Array(list)) = original.get_mut(name) else { return Ok(()) };
    match deleted {
        Value::Array(deleted) => list.retain(|item| !deleted.contains(item)),
        Value::Null => {
            original.remove(name);
        }
        _ => return Err(PatchError::BadRequest(FOR_PRIMITIVE_LIST.to_owned())),
    }
    Ok(())
}

// === lists ===

/// Lists with a `$setElementOrder/name`; gives their names.
fn merge_ordered_lists<'a>(
    original: &mut Map<String, Value>,
    patch: &'a Map<String, Value>,
    record: Record,
) -> Result<BTreeSet<&'a str>, PatchError> {
    let mut done = BTreeSet::new();
    for (directive, order) in patch.iter().filter(|(key, _)| key.starts_with(ELEMENT_ORDER)) {
        let name = list_of(directive, ELEMENT_ORDER, FOR_ELEMENT_ORDER)?;
        let order = order.as_array().ok_or_else(|| mistyped("[]interface {}", order))?;
        let rule = schema::rule(record, name);
        let merge_key = rule.merge_key.unwrap_or_default();
        let patch_list = match patch.get(name) {
            None => None,
            Some(Value::Array(list)) => Some(list),
            Some(other) => return Err(mistyped("[]interface {}", other)),
        };
        check_order(patch_list.map(Vec::as_slice).unwrap_or_default(), order, merge_key)?;
        let live = match original.get(name) {
            None => None,
            Some(Value::Array(list)) => Some(list.clone()),
            Some(other) => return Err(mistyped("[]interface {}", other)),
        };
        let merged = match (&live, patch_list) {
            (None, None) => continue,
            (Some(live), None) => live.clone(),
            (None, Some(patch)) => plain_list(patch),
            (Some(live), Some(patch)) if rule.merge_key.is_some() => {
                let mut merged = live.clone();
                merge_list(&mut merged, patch, merge_key, rule.record)?;
                merged
            }
            (Some(_), Some(patch)) => plain_list(patch),
        };
        let merged = in_order(merged, order, live.as_deref().unwrap_or_default(), merge_key)?;
        original.insert(name.to_owned(), Value::Array(merged));
        done.insert(name);
    }
    Ok(done)
}

/// The items of the patch have to be among those of the order, and in it.
fn check_order(patch: &[Value], order: &[Value], merge_key: &str) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let key = identity(item, merge_key)?;
        loop {
            let Some(place) = places.next() else {
                let (patch, order) = (go_print(&patch.into()), go_print(&order.into()));
                return Err(PatchError::Internal(format!(
                    "The order in patch list:\n{patch}\n doesn't match {ELEMENT_ORDER} list:\n{order}\n"
                )));
            };
            if identity(place, merge_key)? == key {
                break;
            }
        }
    }
    Ok(())
}

fn merge_list(
    original: &mut Vec<Value>,
    patch: &[Value],
    merge_key: &str,
    record: Record,
) -> Result<(), PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(());
    }
    let live = original.clone();
    let mut merged = live.clone();
    let mut order = patch.to_vec();
    if of_one_type(original, patch)? {
        if merge_key.is_empty() {
            let message = "cannot merge lists without merge key for type struct";
            return Err(PatchError::Internal(message.to_owned()));
        }
        let replace = special_items(&mut merged, &mut order, merge_key)?;
        if replace {
            *original = order.iter().map(plain).collect();
            return original.iter().try_for_each(|item| identity(item, merge_key).map(drop));
        }
        for item in &order {
            merge_item(&mut merged, item, merge_key, record)?;
        }
    } else {
        let both: Vec<Value> = merged.iter().chain(patch).cloned().collect();
        merged.clear();
        for item in both {
            if !merged.contains(&item) {
                merged.push(item);
            }
        }
    }
    *original = in_order(merged, &order, &live, merge_key)?;
    Ok(())
}

fn merge_item(
    merged: &mut Vec<Value>,
    item: &Value,
    merge_key: &str,
    record: Record,
) -> Result<(), PatchError> {
    let key = identity(item, merge_key)?;
    let Value::Object(patch) = item else { return Err(mistyped("map[string]interface {}", item)) };
    match merged.iter_mut().find(|live| live.get(merge_key) == Some(key)) {
        Some(Value::Object(live)) => merge_map(live, patch, record),
        _ => {
            merged.push(plain(item));
            Ok(())
        }
    }
}

/// Obeys items that are directives and takes them out of the patch; whether the list is to be replaced.
fn special_items(live: &mut Vec<Value>, patch: &mut Vec<Value>, merge_key: &str) -> Result<bool, PatchError> {
    let mut replace = false;
    for item in patch.iter() {
        let Some(directive) = item.get(DIRECTIVE) else { continue };
        match (directive.as_str(), item) {
            (Some("delete"), _) => {
                let key = identity(item, merge_key)?;
                live.retain(|live| live.get(merge_key) != Some(key));
            }
            (Some("replace"), _) => replace = true,
            (Some("merge"), _) => {
                let message = "merging lists cannot yet be specified in the patch";
                return Err(PatchError::Internal(message.to_owned()));
            }
            (_, Value::Object(map)) => return Err(unknown_directive(directive, map)),
            _ => {}
        }
    }
    patch.retain(|item| item.get(DIRECTIVE).is_none());
    Ok(replace)
}

/// Whether the items are maps; an error if they are of several types.
fn of_one_type(original: &[Value], patch: &[Value]) -> Result<bool, PatchError> {
    let mut kinds = original.iter().chain(patch).map(kind).collect::<Vec<_>>();
    if kinds.contains(&"[]interface {}") {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    kinds.dedup();
    match kinds.as_slice() {
        [one] => Ok(*one == "map[string]interface {}"),
        _ => {
            let all = go_print(&Value::Array(vec![original.into(), patch.into()]));
            Err(PatchError::Internal(format!("list element types are not identical: {all}")))
        }
    }
}

/// The items in `order` in that order, mixed with the others so that both keep the order they had.
fn in_order(
    items: Vec<Value>,
    order: &[Value],
    live: &[Value],
    merge_key: &str,
) -> Result<Vec<Value>, PatchError> {
    let order: Vec<&Value> = order.iter().map(|item| identity(item, merge_key)).collect::<Result<_, _>>()?;
    let live: Vec<&Value> = live.iter().map(|item| identity(item, merge_key)).collect::<Result<_, _>>()?;
    let place = |item: &Value, among: &[&Value]| {
        let key = identity(item, merge_key).ok()?;
        among.iter().position(|other| *other == key)
    };
    for item in &items {
        identity(item, merge_key)?;
    }
    let (mut named, mut rest): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| place(item, &order).is_some());
    named.sort_by_key(|item| place(item, &order));
    rest.sort_by_key(|item| place(item, &live).unwrap_or(usize::MAX));
    let mut all = Vec::with_capacity(named.len() + rest.len());
    let mut rest = rest.into_iter().peekable();
    for item in named {
        let before = place(&item, &live);
        // An item that only the server has stays in front of those that it was in front of.
        let is_before = |other: &Value| Option::zip(place(other, &live), before).is_some_and(|(a, b)| a < b);
        while let Some(other) = rest.next_if(is_before) {
            all.push(other);
        }
        all.push(item);
    }
    all.extend(rest);
    Ok(all)
}

/// What an item of a list is known by.
fn identity<'a>(item: &'a Value, merge_key: &str) -> Result<&'a Value, PatchError> {
    if merge_key.is_empty() {
        return Ok(item);
    }
    let Value::Object(map) = item else { return Err(mistyped("map[string]interface {}", item)) };
    map.get(merge_key).ok_or_else(|| {
        let map = go_print(item);
        PatchError::Internal(format!("map: {map} does not contain declared merge key: {merge_key}"))
    })
}

// === values that are new ===

/// A value without nulls and directives.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain_map(map)),
        Value::Array(items) => Value::Array(plain_list(items)),
        value => value.clone(),
    }
}

fn plain_map(map: &Map<String, Value>) -> Map<String, Value> {
    if map.get(DIRECTIVE).is_some_and(|directive| directive == "delete") {
        return Map::new();
    }
    let is_directive = |key: &str| {
        [DIRECTIVE, RETAIN_KEYS].contains(&key)
            || key.starts_with(DELETE_FROM_LIST)
            || key.starts_with(ELEMENT_ORDER)
    };
    let kept = map.iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
    kept.map(|(key, value)| (key.clone(), plain(value))).collect()
}

fn plain_list(items: &[Value]) -> Vec<Value> {
    items.iter().filter(|item| item.get(DIRECTIVE).is_none()).map(plain).collect()
}

// === messages ===

const FOR_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
const FOR_ELEMENT_ORDER: &str = "invalid patch format of setElementOrder list";

/// `$setElementOrder/ports` is about `ports`.
fn list_of<'a>(key: &'a str, prefix: &str, message: &str) -> Result<&'a str, PatchError> {
    let name = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    name.ok_or_else(|| PatchError::BadRequest(message.to_owned()))
}

fn unknown_directive(directive: &Value, map: &Map<String, Value>) -> PatchError {
    let (directive, map) = (go_print(directive), go_print(&Value::Object(map.clone())));
    PatchError::Internal(format!("unknown patch type: {directive} in map: {map}"))
}

fn mistyped(expected: &str, found: &Value) -> PatchError {
    PatchError::Internal(format!("expected a {expected}, but received a {}", kind(found)))
}

/// The Go type of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
