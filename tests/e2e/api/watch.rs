//! Watches: what client-go, kube-proxy and kube-rs count on.

use serde_json::json;

use super::rig::{self, SERVICES, plain};
use crate::harness::http::Api;

fn version(api: Api) -> String {
    api.get(SERVICES).expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn label(api: Api, name: &str, value: &str) {
    let patch = json!({"metadata": {"labels": {"tier": value}}}).to_string();
    api.patch(&format!("{SERVICES}/{name}"), "merge", &patch).expect(200);
}

#[test]
fn everything_there_is_and_then_what_happens() {
    let rig = rig::start(&[]);
    let api = rig.api;
    api.post(SERVICES, &plain("a")).expect(201);
    let mut watch = api.watch(&format!("{SERVICES}?watch=true"));
    assert_eq!(watch.told(), "ADDED a");
    let mut later = api.watch(&format!("{SERVICES}?watch=true&resourceVersion={}", version(api)));
    api.post(SERVICES, &plain("b")).expect(201);
    label(api, "a", "x");
    // Nothing changes: nobody is told.
    label(api, "a", "x");
    api.delete(&format!("{SERVICES}/b"), "").expect(200);
    for told in ["ADDED b", "MODIFIED a", "DELETED b"] {
        assert_eq!((watch.told(), later.told()), (told.to_owned(), told.to_owned()));
    }
}

#[test]
fn a_selection_is_entered_and_left() {
    let rig = rig::start(&[]);
    let api = rig.api;
    let mut watch = api.watch(&format!("{SERVICES}?watch=1&labelSelector=tier%3Dx"));
    api.post(SERVICES, &plain("a")).expect(201);
    label(api, "a", "x");
    label(api, "a", "y");
    let entered = watch.next().unwrap();
    assert_eq!(
        (&entered["type"], &entered["object"]["metadata"]["labels"]["tier"]),
        (&json!("ADDED"), &json!("x"))
    );
    let left = watch.next().unwrap();
    // The last state that was in the selection, at the version that took it out.
    assert_eq!(
        (&left["type"], &left["object"]["metadata"]["labels"]["tier"]),
        (&json!("DELETED"), &json!("x"))
    );
    let now = api.get(&format!("{SERVICES}/a")).expect(200);
    assert_eq!(left["object"]["metadata"]["resourceVersion"], now["metadata"]["resourceVersion"]);
}

#[test]
fn other_namespaces_and_names_are_not_told() {
    let rig = rig::start(&[]);
    let api = rig.api;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    api.post("/api/v1/namespaces", &namespace.to_string()).expect(201);
    let mut here = api.watch(&format!("{SERVICES}?watch=true"));
    let mut one = api.watch("/api/v1/services?watch=true&fieldSelector=metadata.name%3Dc");
    let mut all = api.watch("/api/v1/services?watch=true");
    api.post("/api/v1/namespaces/other/services", &plain("b")).expect(201);
    api.post(SERVICES, &plain("c")).expect(201);
    assert_eq!((here.told(), one.told()), ("ADDED c".to_owned(), "ADDED c".to_owned()));
    assert_eq!((all.told(), all.told()), ("ADDED b".to_owned(), "ADDED c".to_owned()));
}

#[test]
fn a_streamed_list_ends_with_a_bookmark() {
    let rig = rig::start(&[]);
    rig.api.post(SERVICES, &plain("a")).expect(201);
    let path = format!(
        "{SERVICES}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let mut watch = rig.api.watch(&path);
    assert_eq!(watch.told(), "ADDED a");
    let bookmark = watch.next().unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("Service")));
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    // The time is over: one more bookmark, then the end.
    let last = watch.next().unwrap();
    assert_eq!((&last["type"], last["object"]["metadata"].get("annotations")), (&json!("BOOKMARK"), None));
    assert!(watch.next().is_none());
    let refused = rig.api.get(&format!("{SERVICES}?watch=true&sendInitialEvents=true"));
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(
        refused.message().contains("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        "{}",
        refused.body
    );
}

#[test]
fn a_version_that_is_forgotten_or_unknown_is_expired() {
    let rig = rig::start(&[]);
    for version in ["1", "99999999999999"] {
        let mut watch = rig.api.watch(&format!("{SERVICES}?watch=true&resourceVersion={version}"));
        let event = watch.next().unwrap();
        assert_eq!(event["type"], "ERROR");
        assert_eq!((&event["object"]["code"], &event["object"]["reason"]), (&json!(410), &json!("Expired")));
        let message = event["object"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("too old resource version: {version} (")), "{message}");
        assert!(watch.next().is_none());
    }
}

#[test]
fn rows_are_told_with_their_columns_once() {
    let rig = rig::start(&[]);
    let mut watch =
        rig.api.watch_as(&format!("{SERVICES}?watch=true"), "application/json;as=Table;v=v1;g=meta.k8s.io");
    rig.api.post(SERVICES, &plain("a")).expect(201);
    rig.api.post(SERVICES, &plain("b")).expect(201);
    let (first, second) = (watch.next().unwrap(), watch.next().unwrap());
    assert_eq!((&first["type"], &first["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert!(second["object"]["columnDefinitions"].as_array().is_none_or(Vec::is_empty));
}
