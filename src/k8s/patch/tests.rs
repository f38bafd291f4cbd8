use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::k8s::resource::{RESOURCES, Resource};

fn patched(resource: Resource, object: Value, patch: Value) -> Result<Value, String> {
    let mut result = object.clone();
    match strategic(resource, &mut result, &patch) {
        Ok(()) => Ok(result),
        Err(error) => {
            assert_eq!(result, object, "what is refused changes nothing");
            Err(error.to_string())
        }
    }
}

/// A Pod with these containers; a list of maps with the merge key `name`.
fn list(items: Value) -> Value {
    json!({"spec": {"containers": items}})
}

/// A Service with these ports; a list of maps with the merge key `port`.
fn ports(items: Value) -> Value {
    json!({"spec": {"ports": items}})
}

/// An object with these finalizers; a list of primitives that is merged.
fn primitives(items: Value) -> Value {
    json!({"metadata": {"finalizers": items}})
}

/// After customStrategicMergePatchTestCaseData of apimachinery's patch_test.go.
#[test]
fn strategic_patches_of_upstream() {
    let table = [
        (
            "unique scalars when merging lists",
            primitives(json!(["1", "2"])),
            primitives(json!(["2", "3"])),
            primitives(json!(["1", "2", "3"])),
        ),
        (
            "delete map from nested map",
            json!({"metadata": {"labels": {"a": "1", "b": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            "delete all items from merging list",
            list(json!([{"name": "1"}, {"name": "2"}])),
            list(json!([{"$patch": "replace"}])),
            list(json!([])),
        ),
        ("merge empty merging lists", list(json!([])), list(json!([])), list(json!([]))),
        ("delete all keys from map", json!({"kind": "Pod"}), json!({"$patch": "replace"}), json!({})),
        (
            "add key and delete all keys from map",
            json!({"spec": {"nodeName": "1", "hostname": "1"}}),
            json!({"spec": {"subdomain": "a", "$patch": "replace"}}),
            json!({"spec": {"subdomain": "a"}}),
        ),
        (
            "delete all duplicate entries in a merging list",
            list(
                json!([{"name": "1"}, {"name": "1"}, {"name": "2", "image": "a"}, {"name": "3"}, {"name": "3"}]),
            ),
            list(json!([{"name": "1", "$patch": "delete"}, {"name": "3", "$patch": "delete"}])),
            list(json!([{"name": "2", "image": "a"}])),
        ),
        (
            "delete a field",
            list(json!([{"name": "bar"}, {"name": "foo", "image": "a"}])),
            list(json!([{"name": "foo", "image": null}])),
            list(json!([{"name": "bar"}, {"name": "foo"}])),
        ),
        (
            "preserve the order from the patch in a merging list",
            list(json!([{"name": "1"}, {"name": "2", "image": "b"}, {"name": "3"}])),
            list(
                json!([{"name": "3", "image": "c"}, {"name": "1", "image": "a"}, {"name": "2", "tty": true}]),
            ),
            list(
                json!([{"name": "3", "image": "c"}, {"name": "1", "image": "a"}, {"name": "2", "image": "b", "tty": true}]),
            ),
        ),
        (
            "preserve the order from the patch in a merging list 2",
            list(json!([{"name": "1"}, {"name": "2", "image": "b"}, {"name": "3"}])),
            list(json!([{"name": "3", "image": "c"}, {"name": "1", "image": "a"}])),
            list(
                json!([{"name": "2", "image": "b"}, {"name": "3", "image": "c"}, {"name": "1", "image": "a"}]),
            ),
        ),
        (
            "preserve the order from the patch in a merging int list",
            primitives(json!(["1", "2", "3"])),
            primitives(json!(["3", "1"])),
            primitives(json!(["2", "3", "1"])),
        ),
        (
            "$setElementOrder contains item that is not present in the list to be merged",
            list(json!([{"name": "1"}, {"name": "3"}])),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "3"}, {"name": "2"}, {"name": "1"}],
                "containers": [{"name": "3", "image": "3"}, {"name": "1", "image": "1"}]
            }}),
            list(json!([{"name": "3", "image": "3"}, {"name": "1", "image": "1"}])),
        ),
        (
            "$setElementOrder without a list in the patch",
            primitives(json!(["1", "3"])),
            json!({"metadata": {"$setElementOrder/finalizers": ["3", "2", "1"]}}),
            primitives(json!(["3", "1"])),
        ),
        (
            "$deleteFromPrimitiveList of nonexistent item in primitive list should not add the item to the list",
            primitives(json!(["1", "2"])),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["3", "2"]}}),
            primitives(json!(["1"])),
        ),
        (
            "$deleteFromPrimitiveList on nonexistent primitive list should not add the primitive list",
            json!({"metadata": {"name": "a"}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["3"]}}),
            json!({"metadata": {"name": "a"}}),
        ),
        (
            "retainKeys map deletes what it does not name",
            list(json!([{"name": "a", "image": "x", "tty": true}])),
            list(json!([{"name": "a", "$retainKeys": ["name", "image", "stdin"], "stdin": true}])),
            list(json!([{"name": "a", "image": "x", "stdin": true}])),
        ),
    ];
    for (what, object, patch, expected) in table {
        assert_eq!(patched(Resource::Pods, object, patch), Ok(expected), "{what}");
    }
}

#[test]
fn strategic_patches_of_services() {
    let table = [
        (
            "the patch of kubectl apply that renumbers a port",
            ports(json!([{"port": 53, "nodePort": 30053}, {"port": 8443, "nodePort": 30443}])),
            json!({"spec": {
                "$setElementOrder/ports": [{"port": 81}, {"port": 8443}],
                "ports": [{"port": 81, "targetPort": 81}, {"$patch": "delete", "port": 53}]
            }}),
            ports(json!([{"port": 81, "targetPort": 81}, {"port": 8443, "nodePort": 30443}])),
        ),
        (
            "the merge key is only the port",
            ports(json!([{"port": 81, "protocol": "TCP"}])),
            ports(json!([{"port": 81, "protocol": "UDP"}])),
            ports(json!([{"port": 81, "protocol": "UDP"}])),
        ),
        (
            "lists without a merge key are replaced",
            json!({"spec": {"externalIPs": ["1.1.1.1"], "selector": {"a": "b"}}}),
            json!({"spec": {"externalIPs": ["2.2.2.2"], "selector": {"c": "d", "e": null}}}),
            json!({"spec": {"externalIPs": ["2.2.2.2"], "selector": {"a": "b", "c": "d"}}}),
        ),
        (
            "null deletes and is not kept in what is new",
            json!({"spec": {"type": "NodePort"}}),
            json!({"spec": {"type": null}, "status": {"loadBalancer": {"ingress": null}}}),
            json!({"spec": {}, "status": {"loadBalancer": {}}}),
        ),
        (
            "directives do not stay in a list that is new",
            json!({"spec": {}}),
            ports(json!([{"port": 1}, {"port": 2, "$patch": "delete"}])),
            ports(json!([{"port": 1}])),
        ),
        (
            "a value of another type is replaced",
            json!({"spec": "x", "metadata": {}}),
            json!({"spec": {"type": "NodePort"}, "metadata": null}),
            json!({"spec": {"type": "NodePort"}}),
        ),
    ];
    for (what, object, patch, expected) in table {
        assert_eq!(patched(Resource::Services, object, patch), Ok(expected), "{what}");
    }
    let slice = patched(
        Resource::EndpointSlices,
        json!({"endpoints": [{"addresses": ["1.1.1.1"]}], "ports": [{"name": "a", "port": 1}]}),
        json!({"endpoints": [], "ports": [{"name": "b", "port": 2}]}),
    );
    assert_eq!(slice, Ok(json!({"endpoints": [], "ports": [{"name": "b", "port": 2}]})));
}

#[test]
fn strategic_patches_that_are_refused() {
    let live = list(json!([{"name": "1", "image": "a"}, {"name": "3"}]));
    let table = [
        (list(json!([{"image": "b"}])), "map: map[image:b] does not contain declared merge key: name"),
        (
            list(json!([{"name": "1", "$patch": "merge"}])),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            list(json!([{"name": "1", "$patch": "other"}])),
            "unknown patch type: other in map: map[$patch:other name:1]",
        ),
        (json!({"$patch": 5}), "unknown patch type: 5 in map: map[$patch:5]"),
        (list(json!([[1]])), "lists of lists are not supported"),
        (list(json!(["a"])), "list element types are not identical: [[map[image:a name:1] map[name:3]] [a]]"),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "1"}, {"name": "3"}],
                            "containers": [{"name": "3", "x": 1}, {"name": "1"}]}}),
            "The order in patch list:\n[map[name:3 x:1] map[name:1]]\n doesn't match $setElementOrder list:\n\
             [map[name:1] map[name:3]]\n",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": 5}}),
            "expected a []interface {}, but received a int64",
        ),
        (json!({"spec": {"$setElementOrder": []}}), "invalid patch format of setElementOrder list"),
        (json!({"spec": {"$deleteFromPrimitiveList": []}}), "invalid patch format of primitive list"),
        (json!({"spec": {"$retainKeys": 5}}), "invalid patch format of retainKeys"),
        (json!({"spec": {"$retainKeys": ["a"], "b": 1}}), "invalid patch format of retainKeys"),
        (json!([]), "invalid JSON document"),
    ];
    for (patch, message) in table {
        assert_eq!(patched(Resource::Pods, live.clone(), patch.clone()), Err(message.to_owned()), "{patch}");
    }
}

#[test]
fn json_patches() {
    let object = json!({"spec": {"ports": [{"port": 80}], "type": "NodePort"}});
    let apply = |patch: &str| {
        let mut patched = object.clone();
        json(&mut patched, patch.as_bytes()).map(|()| patched)
    };
    assert_eq!(
        apply(
            r#"[{"op":"test","path":"/spec/type","value":"NodePort"},{"op":"replace","path":"/spec/ports/0/port","value":81},
            {"op":"add","path":"/spec/ports/-","value":{"port":82}},{"op":"remove","path":"/spec/type"}]"#
        ),
        Ok(json!({"spec": {"ports": [{"port": 81}, {"port": 82}]}}))
    );
    let table = [
        (r#"{}"#, PatchError::BadRequest("invalid type: map, expected a sequence at line 1 column 0".into())),
        (
            r#"[{"op":"remove","path":"/spec/foo"}]"#,
            PatchError::Unprocessable(
                "remove operation does not apply: doc is missing path: \"/spec/foo\": missing value".into(),
            ),
        ),
        (
            r#"[{"op":"remove","path":"/spec/type"},{"op":"test","path":"/spec/ports","value":[]}]"#,
            PatchError::Unprocessable("testing value /spec/ports failed: test failed".into()),
        ),
    ];
    for (patch, error) in table {
        assert_eq!(apply(patch), Err(error), "{patch}");
    }
    let bomb = (0..40).map(|i| format!(r#"{{"op":"copy","from":"","path":"/x{i}"}}"#)).collect::<Vec<_>>();
    let error = apply(&format!("[{}]", bomb.join(","))).unwrap_err();
    assert!(error.to_string().contains("exceeding the limit"), "{error}");
    let deep = (1..100).map(|i| format!(r#"{{"op":"add","path":"{}","value":{{}}}}"#, "/a".repeat(i)));
    let error = apply(&format!("[{}]", deep.collect::<Vec<_>>().join(","))).unwrap_err();
    assert!(error.to_string().contains("too deeply"), "{error}");
    let many = vec![r#"{"op":"test","path":"/spec/type","value":"NodePort"}"#; 10_001].join(",");
    assert!(matches!(apply(&format!("[{many}]")), Err(PatchError::TooLarge(_))));
}

#[test]
fn merge_patches() {
    let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1, 2]});
    merge(&mut object, &json!({"a": {"b": null, "e": {"f": null, "g": 1}}, "d": [3]}));
    assert_eq!(object, json!({"a": {"c": 2, "e": {"g": 1}}, "d": [3]}));
}

// === laws ===

/// A two-way diff: the patch that makes `modified` of `original`.
fn diff(
    original: &Map<String, Value>,
    modified: &Map<String, Value>,
    record: &'static str,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for key in original.keys().filter(|key| !modified.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in modified {
        let rule = schema::rule(record, key);
        match (original.get(key), new, rule.merge_key) {
            (Some(old), new, _) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new), _) => {
                patch.insert(key.clone(), Value::Object(diff(old, new, rule.record)));
            }
            (Some(Value::Array(old)), Value::Array(new), Some("")) => {
                let gone: Vec<Value> = old.iter().filter(|item| !new.contains(item)).cloned().collect();
                let added: Vec<Value> = new.iter().filter(|item| !old.contains(item)).cloned().collect();
                patch.insert(format!("$deleteFromPrimitiveList/{key}"), gone.into());
                patch.insert(format!("$setElementOrder/{key}"), new.clone().into());
                patch.insert(key.clone(), added.into());
            }
            (Some(Value::Array(old)), Value::Array(new), Some(merge_key)) => {
                let same = |item: &Value, other: &Value| item[merge_key] == other[merge_key];
                let mut items: Vec<Value> = Vec::new();
                for item in new {
                    items.push(match old.iter().find(|old| same(old, item)) {
                        Some(old) => {
                            let (old, item) = (old.as_object().unwrap(), item.as_object().unwrap());
                            let mut change = diff(old, item, rule.record);
                            change.insert(merge_key.into(), item[merge_key].clone());
                            change.into()
                        }
                        None => item.clone(),
                    });
                }
                for gone in old.iter().filter(|old| !new.iter().any(|new| same(old, new))) {
                    items.push(json!({merge_key: gone[merge_key], "$patch": "delete"}));
                }
                let order: Vec<Value> = new.iter().map(|item| json!({merge_key: item[merge_key]})).collect();
                patch.insert(format!("$setElementOrder/{key}"), order.into());
                patch.insert(key.clone(), items.into());
            }
            (_, new, _) => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    patch
}

/// A Service with unique ports and finalizers.
fn service() -> impl Strategy<Value = Value> {
    let port =
        (1u16..6, prop::option::of(0u16..3), prop::option::of("[a-c]")).prop_map(|(port, target, name)| {
            let mut item = json!({"port": port});
            if let Some(target) = target {
                item["targetPort"] = target.into();
            }
            if let Some(name) = name {
                item["name"] = name.into();
            }
            item
        });
    let ports = prop::collection::vec(port, 1..5).prop_map(|mut ports| {
        let mut seen = Vec::new();
        ports.retain(|port| {
            !seen.contains(&port["port"]) && {
                seen.push(port["port"].clone());
                true
            }
        });
        ports
    });
    let finalizers = prop::sample::subsequence(vec!["a", "b", "c", "d"], 1..=4).prop_shuffle();
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (ports, finalizers, labels, prop::collection::vec("[1-3]", 0..3)).prop_map(
        |(ports, finalizers, labels, ips)| {
            json!({
                "metadata": {"name": "web", "finalizers": finalizers, "labels": labels},
                "spec": {"ports": ports, "externalIPs": ips}
            })
        },
    )
}

proptest! {
    #[test]
    fn a_two_way_diff_leads_to_the_target(original in service(), modified in service()) {
        let patch = diff(original.as_object().unwrap(), modified.as_object().unwrap(), "Service");
        let mut result = original;
        strategic(Resource::Services, &mut result, &Value::Object(patch.clone())).unwrap();
        prop_assert_eq!(&result, &modified, "{:?}", patch);
        // Again it changes nothing.
        strategic(Resource::Services, &mut result, &Value::Object(patch)).unwrap();
        prop_assert_eq!(result, modified);
    }

    #[test]
    fn no_patch_makes_it_panic(object in crate::k8s::arbitrary::object(), patch in crate::k8s::arbitrary::value()) {
        for info in &RESOURCES {
            let mut result = object.clone();
            if strategic(info.resource, &mut result, &patch).is_err() {
                prop_assert_eq!(&result, &object);
            }
        }
        let mut merged = object.clone();
        merge(&mut merged, &patch);
        let mut result = object.clone();
        let _ = json(&mut result, patch.to_string().as_bytes());
    }

    #[test]
    fn an_empty_patch_changes_nothing(object in crate::k8s::arbitrary::object()) {
        let mut result = object.clone();
        strategic(Resource::Pods, &mut result, &json!({})).unwrap();
        prop_assert_eq!(result, object);
    }
}

/// Each step puts all that there is below a hundred maps more: some hundred thousand of them cannot even be dropped.
#[test]
fn a_json_patch_does_not_nest_without_end() {
    let maps = (0..100).fold("0".to_owned(), |inner, _| format!("{{\"k\":{inner}}}"));
    let place = "/k".repeat(100);
    let step = format!(
        r#"{{"op":"add","path":"/x","value":{maps}}},{{"op":"move","from":"/a","path":"/x{place}"}},
           {{"op":"move","from":"/x","path":"/a"}}"#
    );
    let patch = format!("[{}]", vec![step; 3_000].join(","));
    let mut object = json!({"a": {}});
    let refused = json(&mut object, patch.as_bytes()).unwrap_err();
    assert_eq!(refused, PatchError::Unprocessable("the patched object is nested too deeply".to_owned()));
    assert_eq!(object, json!({"a": {}}));
}
