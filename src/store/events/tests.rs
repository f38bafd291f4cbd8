use serde_json::json;

use super::*;
use crate::store::Preconditions;
use crate::store::write::tests::options;

fn events(store: &Store) -> Vec<Value> {
    store.list(Resource::Events, None).map(|event| event.value()).collect()
}

fn store_with_service(selector: Value) -> Store {
    let mut store = Store::new(options());
    let service = json!({
        "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": selector},
    });
    store.create(Resource::Services, service, false).unwrap();
    store
}

fn port_taken() -> Problem {
    Problem {
        object: Some("Service default/web".into()),
        reason: Reason::PortTaken,
        hint: Some("stop it".into()),
        ..Problem::error("the port is taken by nginx (pid 812)")
    }
}

#[test]
fn a_problem_becomes_one_event_of_its_object() {
    let mut store = store_with_service(json!({}));
    store.report(&[port_taken(), Problem::error("of no object")]);
    let [event] = events(&store).try_into().unwrap();
    let service = store.get(Resource::Services, &NamespacedName::new("default", "web")).unwrap();
    assert_eq!(event["involvedObject"]["uid"], *service.uid);
    assert_eq!(event["involvedObject"]["kind"], "Service");
    assert_eq!(
        (&event["reason"], &event["type"], &event["count"]),
        (&json!("PortTaken"), &json!("Warning"), &json!(1))
    );
    assert_eq!(event["message"], "the port is taken by nginx (pid 812) (stop it)");
    assert_eq!(event["source"], json!({"component": "ringport", "host": "here"}));

    let version = store.version();
    store.report(&[port_taken()]);
    assert_eq!(store.version(), version, "still the same problem");
    store.report(&[]);
    store.report(&[port_taken()]);
    assert_eq!(events(&store)[0]["count"], 2, "it came back");

    let key = NamespacedName::new("default", event["metadata"]["name"].as_str().unwrap());
    store.delete(Resource::Events, &key, &Preconditions::default(), false).unwrap();
    assert!(events(&store).is_empty());
}

#[test]
fn a_service_whose_selector_finds_nobody_is_told() {
    let mut store = store_with_service(json!({"app": "web"}));
    store.report(&[]);
    assert_eq!(events(&store)[0]["reason"], "NoEndpoints");
    let message = "no Pod with the labels app=web is ready: connections are refused";
    assert_eq!(events(&store)[0]["message"], message);
}

#[test]
fn old_events_expire_and_there_are_never_too_many() {
    let mut store = Store::new(options());
    let old = metadata::time(seconds_since_1970() - limits::EVENT_TIME.as_secs());
    let event = |name: String, time: &str| json!({"metadata": {"name": name}, "involvedObject": {}, "lastTimestamp": time});
    for index in 0..limits::EVENTS + 5 {
        let key = NamespacedName::new("default", format!("e{index}"));
        let event = event(format!("e{index}"), &metadata::now());
        store.show(Resource::Events, &key, Owner::Controller, event);
    }
    store.create(Resource::Events, event("old".into(), &old), false).unwrap();
    assert_eq!(events(&store).len(), limits::EVENTS);
    assert!(store.get(Resource::Events, &NamespacedName::new("default", "old")).is_none());
}
