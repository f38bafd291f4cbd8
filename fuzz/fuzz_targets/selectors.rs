//! Selectors of labels and fields.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use ringport::k8s::resource::RESOURCES;
use ringport::k8s::selector::{FieldSelector, LabelSelector};
use serde_json::json;

fuzz_target!(|text: &str| {
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), "1".to_owned())]);
    if let Ok(selector) = LabelSelector::parse(text) {
        assert!(!selector.is_empty() || selector.matches(&labels));
        selector.matches(&BTreeMap::new());
    }
    let object = json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort"}});
    for info in &RESOURCES {
        if let Ok(selector) = FieldSelector::parse(info.resource, text) {
            assert!(!selector.is_empty() || selector.matches(&object));
        }
    }
});
