//! Patches of all kinds, on lines: a live object, a patch, another configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringport::k8s::decode::request;
use ringport::k8s::patch::apply::{Manager, apply, track};
use ringport::k8s::patch::{json, merge, strategic};
use ringport::k8s::resource::RESOURCES;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (Ok(live), patch) = (serde_json::from_str::<Value>(next()), next()) else { return };
    let config: Value = serde_json::from_str(next()).unwrap_or_default();
    let mut patched = live.clone();
    if json(&mut patched, patch.as_bytes()).is_err() {
        assert_eq!(patched, live);
    }
    let Ok(patch) = serde_json::from_str::<Value>(patch) else { return };
    let mut merged = live.clone();
    merge(&mut merged, &patch);
    for info in &RESOURCES {
        let mut patched = live.clone();
        if strategic(info.resource, &mut patched, &patch).is_err() {
            assert_eq!(patched, live);
        }
        let manager = |name| Manager { name, subresource: "", now: "2026-01-02T03:04:05Z" };
        let mut tracked = patched.clone();
        track(info.resource, Some(&live), &mut tracked, &manager("update"));
        let Ok(config) = request::check(info.resource, config.clone()) else { continue };
        let _ = apply(info.resource, Some(&tracked), &config.object, &manager("first"), false);
        let Ok(once) = apply(info.resource, Some(&tracked), &config.object, &manager("first"), true) else {
            continue;
        };
        let twice = apply(info.resource, Some(&once), &config.object, &manager("first"), false);
        assert_eq!(twice.as_ref(), Ok(&once), "applying again changes something");
    }
});
