use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::k8s::resource::{RESOURCES, Resource};

fn by(name: &str) -> Manager<'_> {
    Manager { name, subresource: "", now: "2026-01-02T03:04:05Z" }
}

fn web(rest: Value) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}});
    crate::k8s::patch::merge(&mut object, &rest);
    object
}

fn ports(items: Value) -> Value {
    web(json!({"spec": {"ports": items}}))
}

fn applied(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Result<Value, String> {
    apply(Resource::Services, live, config, &by(manager), force).map_err(|error| error.to_string())
}

/// Who owns what.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| {
        format!("{}/{}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap())
    };
    entries.iter().map(|entry| (name(entry), entry["fieldsV1"].clone())).collect()
}

/// An object as an update of `manager` leaves it.
fn updated(before: Option<&Value>, mut after: Value, manager: &str) -> Value {
    track(Resource::Services, before, &mut after, &by(manager));
    after
}

#[test]
fn a_first_apply_owns_what_it_says() {
    let config = web(json!({
        "metadata": {"labels": {"a": "1"}, "finalizers": ["x/y"]},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "selector": {"app": "a"}, "externalIPs": ["1.1.1.1"]}
    }));
    let object = applied(None, &config, "me", false).unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-02T03:04:05Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
                "f:spec": {
                    "f:externalIPs": {},
                    "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:nodePort": {}, "f:port": {}}},
                    "f:selector": {},
                    "f:type": {}
                }
            }
        }])
    );
    assert_eq!(object["spec"], config["spec"]);
}

#[test]
fn a_create_owns_what_it_says_as_an_update() {
    let object = web(json!({
        "metadata": {"uid": "u", "labels": {"a": "1"}},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]},
        "status": {"loadBalancer": {}}
    }));
    assert_eq!(
        owners(&updated(None, object, "kubectl-create")),
        [(
            "kubectl-create/Update".into(),
            json!({
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                "f:spec": {
                    "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}}},
                    "f:type": {}
                }
            })
        )]
    );
}

#[test]
fn a_conflict_is_told_and_force_takes_over() {
    let live = updated(
        None,
        ports(json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}])),
        "kubectl-client-side-apply",
    );
    let config = ports(json!([{"port": 80, "nodePort": 30081}]));
    assert_eq!(
        applied(Some(&live), &config, "me", false).unwrap_err(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: \
         .spec.ports[port=80,protocol=\"TCP\"].nodePort"
    );
    let forced = applied(Some(&live), &config, "me", true).unwrap();
    assert_eq!(forced["spec"]["ports"][0]["nodePort"], 30081);
    let owners = owners(&forced);
    assert_eq!(owners[0].0, "me/Apply");
    let item = "k:{\"port\":80,\"protocol\":\"TCP\"}";
    assert_eq!(owners[1].1["f:spec"]["f:ports"][item], json!({".": {}, "f:port": {}, "f:protocol": {}}));
    // The value that it has may be owned by both.
    applied(Some(&live), &ports(json!([{"port": 80, "nodePort": 30080}])), "me", false).unwrap();
}

#[test]
fn several_conflicts_are_told_by_manager() {
    let live = applied(None, &web(json!({"spec": {"type": "NodePort", "ports": [{"port": 443, "name": "s"}, {"port": 80, "name": "h"}]}})), "first", false).unwrap();
    let mut after = live.clone();
    after["spec"]["sessionAffinity"] = json!("None");
    let mut status = Manager { subresource: "status", ..by("status-writer") };
    status.now = "2026-01-02T03:04:06Z";
    track(Resource::Services, Some(&live), &mut after, &by("second"));
    let config = web(json!({"spec": {
        "type": "ClusterIP", "sessionAffinity": "ClientIP", "ports": [{"port": 443, "name": "x"}, {"port": 80, "name": "y"}]
    }}));
    assert_eq!(
        applied(Some(&after), &config, "me", false).unwrap_err(),
        "Apply failed with 4 conflicts: conflicts with \"first\":\n- .spec.type\n\
         - .spec.ports[port=80,protocol=\"TCP\"].name\n- .spec.ports[port=443,protocol=\"TCP\"].name\n\
         conflicts with \"second\" using v1:\n- .spec.sessionAffinity"
    );
    let Err(ApplyError::Conflicts(Conflicts(conflicts))) =
        apply(Resource::Services, Some(&after), &config, &by("me"), false)
    else {
        panic!()
    };
    assert_eq!(
        conflicts[3],
        Conflict { manager: "\"second\" using v1".into(), field: ".spec.sessionAffinity".into() }
    );
    assert_eq!(
        Entry::new(Resource::Services, &status, Operation::Update, Set::leaf()).told(),
        "\"status-writer\" with subresource \"status\" using v1"
    );
}

#[test]
fn what_is_no_longer_applied_is_removed() {
    let first = web(json!({
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {"type": "NodePort", "externalIPs": ["1.1.1.1"], "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}
    }));
    let live = applied(None, &first, "me", false).unwrap();
    // The server writes more into it, which nobody owns.
    let mut live = live;
    live["spec"]["clusterIP"] = json!("10.0.0.1");
    live["spec"]["ports"][0]["protocol"] = json!("TCP");
    live["spec"]["ports"][1]["protocol"] = json!("TCP");
    let second =
        web(json!({"metadata": {"labels": {"a": "1"}}, "spec": {"ports": [{"port": 81, "name": "b"}]}}));
    let object = applied(Some(&live), &second, "me", false).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"a": "1"}));
    assert_eq!(
        object["spec"],
        json!({"clusterIP": "10.0.0.1", "ports": [{"port": 81, "name": "b", "protocol": "TCP"}]})
    );

    // But not what another one owns as well, by whatever means.
    let shared =
        applied(Some(&live), &web(json!({"metadata": {"labels": {"b": "2"}}})), "other", false).unwrap();
    let mut after = shared.clone();
    after["spec"]["externalIPs"] = json!(["2.2.2.2"]);
    let shared = updated(Some(&shared), after, "third");
    let object = applied(Some(&shared), &second, "me", false).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    assert_eq!(object["spec"]["externalIPs"], json!(["2.2.2.2"]));
    assert_eq!(object["spec"].get("type"), None);
}

#[test]
fn all_of_a_list_or_map_may_go() {
    let live = applied(
        None,
        &web(
            json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["x"]}, "spec": {"selector": {"a": "b"}}}),
        ),
        "me",
        false,
    );
    let object = applied(Some(&live.unwrap()), &web(json!({})), "me", false).unwrap();
    assert_eq!(object["metadata"].as_object().unwrap().keys().collect::<Vec<_>>(), ["name", "namespace"]);
    assert_eq!(object.pointer("/spec/selector"), None);
    assert_eq!(owners(&object), []);
}

#[test]
fn atomic_values_are_owned_as_a_whole() {
    let live = applied(
        None,
        &web(json!({"spec": {"selector": {"a": "1"}, "externalIPs": ["1.1.1.1"]}})),
        "first",
        false,
    )
    .unwrap();
    let error =
        applied(Some(&live), &web(json!({"spec": {"selector": {"b": "2"}}})), "me", false).unwrap_err();
    assert!(error.ends_with("conflict with \"first\": .spec.selector"), "{error}");
    let forced = applied(Some(&live), &web(json!({"spec": {"selector": {"b": "2"}}})), "me", true).unwrap();
    assert_eq!(forced["spec"]["selector"], json!({"b": "2"}));
    // Items of a set belong to each of those who name them.
    let live = applied(None, &web(json!({"metadata": {"finalizers": ["a"]}})), "first", false).unwrap();
    let both = applied(Some(&live), &web(json!({"metadata": {"finalizers": ["b"]}})), "me", false).unwrap();
    assert_eq!(both["metadata"]["finalizers"], json!(["a", "b"]));
    let one = applied(Some(&both), &web(json!({})), "first", false).unwrap();
    assert_eq!(one["metadata"]["finalizers"], json!(["b"]));
}

#[test]
fn items_keep_the_order_of_the_configuration_between_those_of_others() {
    let live = updated(None, ports(json!([{"port": 1}, {"port": 2}, {"port": 3}])), "x");
    let object = applied(Some(&live), &ports(json!([{"port": 9}, {"port": 2}])), "me", false).unwrap();
    assert_eq!(object["spec"]["ports"], json!([{"port": 1}, {"port": 9}, {"port": 2}, {"port": 3}]));
    let object = applied(Some(&live), &ports(json!([{"port": 3}, {"port": 1}])), "me", false).unwrap();
    assert_eq!(object["spec"]["ports"], json!([{"port": 3}, {"port": 1}, {"port": 2}]));
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let config = ports(json!([{"port": 80, "name": "a"}]));
    let first = applied(None, &config, "me", false).unwrap();
    let later = Manager { now: "2027-01-01T00:00:00Z", ..by("me") };
    assert_eq!(apply(Resource::Services, Some(&first), &config, &later, false).unwrap(), first);
    let mut again = first.clone();
    track(Resource::Services, Some(&first), &mut again, &later);
    assert_eq!(again, first);
}

#[test]
fn kubectl_may_go_on_where_it_applied_on_its_own_side() {
    let config = ports(json!([{"port": 80, "nodePort": 30080}]));
    let mut object = config.clone();
    object["metadata"]["annotations"] = json!({LAST_APPLIED: config.to_string()});
    let live = updated(None, object, "kubectl-client-side-apply");
    let next = ports(json!([{"port": 80, "nodePort": 30081}]));
    let object = applied(Some(&live), &next, "kubectl", false).unwrap();
    assert_eq!(object["spec"]["ports"][0]["nodePort"], 30081);
    assert_eq!(object["metadata"]["annotations"][LAST_APPLIED], format!("{next}\n"));
    assert!(applied(Some(&live), &next, "other", false).is_err());
    let more = web(json!({"spec": {"type": "NodePort"}}));
    let mut after = live.clone();
    after["spec"]["type"] = json!("ClusterIP");
    let live = updated(Some(&live), after, "x");
    let error = applied(Some(&live), &more, "kubectl", false).unwrap_err();
    assert_eq!(error, "Apply failed with 1 conflict: conflict with \"x\" using v1: .spec.type");
}

#[test]
fn an_update_takes_what_it_changes_and_only_that() {
    let live =
        applied(None, &web(json!({"spec": {"type": "NodePort", "sessionAffinity": "None"}})), "me", false)
            .unwrap();
    let mut after = live.clone();
    after["spec"]["type"] = json!("ClusterIP");
    after["spec"]["externalName"] = json!("x");
    after["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}});
    let after = updated(Some(&live), after, "editor");
    assert_eq!(
        owners(&after),
        [
            ("me/Apply".into(), json!({"f:spec": {"f:sessionAffinity": {}}})),
            ("editor/Update".into(), json!({"f:spec": {"f:externalName": {}, "f:type": {}}})),
        ]
    );
    let mut removed = after.clone();
    removed["spec"] = json!({"type": "ClusterIP"});
    assert_eq!(
        owners(&updated(Some(&after), removed, "x")),
        [("editor/Update".into(), json!({"f:spec": {"f:type": {}}}))]
    );
    // Through the subresource it is the other way round.
    let mut status = after.clone();
    status["status"]["loadBalancer"] = json!({"ingress": [{"ip": "2.2.2.2"}]});
    track(Resource::Services, Some(&after), &mut status, &Manager { subresource: "status", ..by("lb") });
    let entry = &status["metadata"]["managedFields"][2];
    assert_eq!((&entry["manager"], &entry["subresource"]), (&json!("lb"), &json!("status")));
    assert_eq!(entry["fieldsV1"], json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}}));
}

#[test]
fn clients_may_write_managed_fields_and_cannot_lose_them_by_accident() {
    let live = applied(None, &web(json!({"spec": {"type": "NodePort"}})), "me", false).unwrap();
    let mut after = live.clone();
    after["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(owners(&updated(Some(&live), after.clone(), "x")), owners(&live));
    after["metadata"]["managedFields"] = json!([]);
    assert_eq!(owners(&updated(Some(&live), after.clone(), "x")), owners(&live));
    after["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(owners(&updated(Some(&live), after.clone(), "x")), []);
    after["metadata"]["managedFields"] = json!([{
        "manager": "y", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:spec": {"f:type": {}}}
    }]);
    assert_eq!(
        owners(&updated(Some(&live), after, "x")),
        [("y/Apply".into(), json!({"f:spec": {"f:type": {}}}))]
    );
}

#[test]
fn many_updates_are_put_together() {
    let mut object = web(json!({"metadata": {"labels": {}}}));
    for index in 0..15 {
        let before = object.clone();
        object["metadata"]["labels"][format!("l{index:02}")] = json!("x");
        let now = format!("2026-01-02T03:04:{index:02}Z");
        let name = format!("m{index:02}");
        track(
            Resource::Services,
            Some(&before),
            &mut object,
            &Manager { name: &name, subresource: "", now: &now },
        );
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0].0, "ancient-changes/Update");
    assert_eq!(owners[0].1["f:metadata"]["f:labels"].as_object().unwrap().len(), 6);
    assert_eq!(owners[9].0, "m14/Update");
}

#[test]
fn configurations_that_are_none() {
    let table = [
        (
            ports(json!([{"port": 80}, {"port": 80, "protocol": "TCP"}])),
            "failed to create typed patch object (default/web; /v1, Kind=Service): .spec.ports: duplicate entries for \
             key [port=80,protocol=\"TCP\"]",
        ),
        (
            ports(json!([{"name": "a"}])),
            "failed to create typed patch object (default/web; /v1, Kind=Service): .spec.ports: element 0: associative \
             list with keys has an element that omits key field \"port\" (and doesn't have default value)",
        ),
        (web(json!({"metadata": {"managedFields": []}})), "metadata.managedFields must be nil"),
    ];
    for (config, message) in table {
        assert_eq!(applied(None, &config, "me", true), Err(message.to_owned()));
    }
    let slice = json!({"metadata": {"name": "s"}, "ports": [{"port": 1}, {"port": 1}]});
    apply(Resource::EndpointSlices, None, &slice, &by("me"), false).unwrap();
}

// === laws ===

/// A Service with unique keys.
fn service() -> impl Strategy<Value = Value> {
    let port = (1u16..4, prop::bool::ANY, prop::option::of(1u16..3));
    let ports = prop::collection::btree_map((1u16..4, prop::bool::ANY), port, 0..4).prop_map(|ports| {
        let item = |((port, udp), (target, _, node)): ((u16, bool), (u16, bool, Option<u16>))| {
            let mut item =
                json!({"port": port, "protocol": if udp { "UDP" } else { "TCP" }, "targetPort": target});
            if let Some(node) = node {
                item["nodePort"] = node.into();
            }
            item
        };
        ports.into_iter().map(item).collect::<Vec<_>>()
    });
    let finalizers = prop::sample::subsequence(vec!["a", "b", "c"], 0..=3).prop_shuffle();
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let selector = prop::option::of(prop::collection::btree_map("[a-b]", "[x-y]", 1..3));
    (ports, finalizers, labels, selector).prop_map(|(ports, finalizers, labels, selector)| {
        let mut object =
            web(json!({"metadata": {"labels": labels, "finalizers": finalizers}, "spec": {"ports": ports}}));
        if let Some(selector) = selector {
            object["spec"]["selector"] = json!(selector);
        }
        // As the decoder leaves it.
        crate::k8s::decode::request::check(Resource::Services, object).unwrap().object
    })
}

/// Whether all that a configuration says is so.
fn contains(object: &Value, config: &Value) -> bool {
    let fields = typed::fields(Resource::Services, config);
    let change = typed::compare(Resource::Services, config, object);
    change.removed.is_empty() && change.modified.intersection(&fields).is_empty()
}

proptest! {
    #[test]
    fn a_forced_apply_holds_and_again_changes_nothing(steps in prop::collection::vec((service(), 0usize..3, any::<bool>()), 1..6)) {
        let mut live: Option<Value> = None;
        for (config, who, update) in steps {
            let name = ["a", "b", "c"][who];
            if update {
                let mut after = config.clone();
                if let Some(live) = &live {
                    after["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
                }
                track(Resource::Services, live.as_ref(), &mut after, &by(name));
                live = Some(after);
                continue;
            }
            let object = applied(live.as_ref(), &config, name, true).unwrap();
            prop_assert!(contains(&object, &config), "{} lacks some of {}", object, config);
            prop_assert_eq!(&applied(Some(&object), &config, name, false).unwrap(), &object);
            live = Some(object);
        }
    }

    #[test]
    fn one_manager_alone_gets_what_it_says(first in service(), second in service()) {
        let live = applied(None, &first, "me", false).unwrap();
        let mut object = applied(Some(&live), &second, "me", false).unwrap();
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
        prop_assert_eq!(object, second);
    }

    #[test]
    fn sets_are_written_and_read_the_same(config in service()) {
        let fields = typed::fields(Resource::Services, &config);
        prop_assert_eq!(Set::read(&fields.write()), fields);
    }

    #[test]
    fn no_objects_make_it_panic(
        live in crate::k8s::arbitrary::object(), config in crate::k8s::arbitrary::object(), fields in crate::k8s::arbitrary::value()
    ) {
        let mut live = live;
        if let Some(metadata) = live.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("managedFields".into(), json!([{"manager": "x", "operation": "Update", "fieldsV1": fields}]));
        }
        for info in &RESOURCES {
            let _ = apply(info.resource, Some(&live), &config, &by("me"), false);
            let _ = apply(info.resource, Some(&live), &config, &by("me"), true);
            let mut after = config.clone();
            track(info.resource, Some(&live), &mut after, &by("me"));
        }
    }
}
