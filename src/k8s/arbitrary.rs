//! Arbitrary JSON for property tests, made of the words that the code under test looks for.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Keys of objects and directives of patches.
const KEYS: [&str; 26] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "labels",
    "annotations",
    "ports",
    "port",
    "protocol",
    "nodePort",
    "selector",
    "externalIPs",
    "finalizers",
    "conditions",
    "type",
    "$patch",
    "$setElementOrder/ports",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "containers",
    "podIPs",
    "ip",
    "managedFields",
];

/// Texts that mean something to it.
const TEXTS: [&str; 10] =
    ["", "a", "TCP", "delete", "replace", "merge", "v1", "Service", "2026-01-02T03:04:05Z", "name"];

/// Any value, often one of the expected form.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..90).prop_map(Value::from),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from), map_of(inner)]
    })
}

/// Any object.
pub(crate) fn object() -> impl Strategy<Value = Value> {
    map_of(value())
}

fn map_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(&KEYS[..]), value), 0..5).prop_map(|entries| {
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
        Value::Object(entries.collect::<Map<_, _>>())
    })
}
