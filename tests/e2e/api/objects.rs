//! Create, read, replace, patch, delete; forms of answers.

use serde_json::{Value, json};

use super::rig::{self, SERVICES, plain};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_life_of_a_service() {
    let rig = rig::start(&[]);
    let api = rig.api;
    let web = format!("{SERVICES}/web");
    let created = api.post(SERVICES, &plain("web")).expect(201);
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!("Service"), &json!("v1")));
    assert_eq!(created["metadata"]["namespace"], "default");
    assert_eq!(created["spec"]["type"], "ClusterIP");
    assert_eq!(created["spec"]["ports"][0]["targetPort"], 80);
    assert!(created["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
    assert_eq!(created["metadata"]["uid"].as_str().unwrap().len(), 36);

    assert_eq!(api.get(&web).expect(200), created);
    let list = api.get("/api/v1/services").expect(200);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ServiceList"), &json!("v1")));
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert!(version(&list) >= version(&created));

    // Nothing changes, so nothing happens.
    let same = api.put(&web, &created.to_string()).expect(200);
    assert_eq!(version(&same), version(&created));
    let mut changed = created.clone();
    changed["spec"]["ports"][0]["port"] = json!(81);
    let changed = api.put(&web, &changed.to_string()).expect(200);
    assert!(version(&changed) > version(&created));
    assert_eq!(changed["metadata"]["uid"], created["metadata"]["uid"]);

    let wrong = json!({"preconditions": {"uid": "nobody"}}).to_string();
    assert_eq!(api.delete(&web, &wrong).status, 409);
    assert_eq!(api.delete(&format!("{web}?dryRun=All"), "").expect(200)["kind"], "Service");
    let right = json!({"preconditions": {"uid": created["metadata"]["uid"]}}).to_string();
    let gone = api.delete(&web, &right).expect(200);
    assert_eq!((&gone["kind"], &gone["metadata"]["name"]), (&json!("Service"), &json!("web")));
    assert_eq!(api.get(&web).status, 404);
    assert_eq!(api.delete(&web, "").status, 404);
}

#[test]
fn put_creates_services_and_nothing_else() {
    let rig = rig::start(&[]);
    rig.api.put(&format!("{SERVICES}/web"), &plain("web")).expect(201);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []});
    rig.api.put(&format!("{SLICES}/a"), &slice.to_string()).expect(404);
    rig.api.post(SLICES, &slice.to_string()).expect(201);
    let status = rig.api.delete(&format!("{SLICES}/a"), "").expect(200);
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(
        (&status["details"]["name"], &status["details"]["group"], &status["details"]["kind"]),
        (&json!("a"), &json!("discovery.k8s.io"), &json!("endpointslices"))
    );
}

#[test]
fn patches() {
    let rig = rig::start(&[]);
    let api = rig.api;
    let web = format!("{SERVICES}/web");
    api.post(SERVICES, &plain("web")).expect(201);
    let merged =
        api.patch(&web, "merge", "{\"metadata\":{\"labels\":{\"app\":null,\"b\":\"c\"}}}").expect(200);
    assert_eq!(merged["metadata"]["labels"], json!({"b": "c"}));
    let ports = json!({"spec": {"$setElementOrder/ports": [{"port": 81}], "ports": [{"port": 81, "name": "x"}, {"$patch": "delete", "port": 80}]}});
    let strategic = api.patch(&web, "strategic-merge", &ports.to_string()).expect(200);
    assert_eq!(strategic["spec"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(strategic["spec"]["ports"][0]["port"], 81);
    let json_patch = json!([{"op": "test", "path": "/spec/ports/0/port", "value": 81}, {"op": "replace", "path": "/spec/ports/0/port", "value": 82}]);
    let patched = api.patch(&web, "json", &json_patch.to_string()).expect(200);
    assert_eq!(patched["spec"]["ports"][0]["port"], 82);
    let failed = api.patch(&web, "json", &json_patch.to_string());
    assert_eq!(
        (failed.status, failed.message().as_str()),
        (422, "the server rejected our request due to an error in our request")
    );
    let dry = api
        .patch(&format!("{web}?dryRun=All"), "merge", "{\"spec\":{\"ports\":[{\"port\":99}]}}")
        .expect(200);
    assert_eq!(dry["spec"]["ports"][0]["port"], 99);
    assert_eq!(api.get(&web).expect(200), patched);

    let stale = json!({"metadata": {"resourceVersion": "1", "labels": {"x": "y"}}}).to_string();
    assert_eq!(api.patch(&web, "merge", &stale).status, 409);
    let renamed = api.patch(&web, "merge", "{\"metadata\":{\"name\":\"other\"}}");
    assert_eq!(renamed.status, 400, "{}", renamed.body);
    let typed = api.patch(&web, "merge", "{\"spec\":{\"ports\":\"x\"}}");
    assert_eq!(typed.status, 422, "{}", typed.body);
    assert!(typed.message().starts_with(" \"\" is invalid: patch: Invalid value: \"{"), "{}", typed.body);
    let unknown = "{\"spec\":{\"foo\":1}}";
    let warned = api.patch(&web, "merge", unknown);
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"spec.foo\\\"\""]);
    assert_eq!(api.patch(&format!("{web}?fieldValidation=Strict"), "strategic-merge", unknown).status, 422);
    assert_eq!(api.patch(&format!("{SERVICES}/nope"), "merge", "{}").status, 404);
    assert_eq!(api.patch(&web, "merge", "{").status, 400);
}

#[test]
fn server_side_apply_knows_who_owns_what() {
    let rig = rig::start(&[]);
    let web = |manager: &str, force: &str| format!("{SERVICES}/web?fieldManager={manager}{force}");
    let spec = |port: u16| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": port}]}}).to_string()
    };
    let created = rig.api.patch(&web("one", ""), "apply", &spec(8080)).expect(201);
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "one");
    let conflict = rig.api.patch(&web("two", ""), "apply", &spec(9090));
    assert_eq!(conflict.status, 409, "{}", conflict.body);
    assert!(
        conflict.message().starts_with("Apply failed with 1 conflict: conflict with \"one\""),
        "{}",
        conflict.body
    );
    let forced = rig.api.patch(&web("two", "&force=true"), "apply", &spec(9090)).expect(200);
    assert_eq!(forced["spec"]["ports"][0]["targetPort"], 9090);
    let unnamed = rig.api.patch(&format!("{SERVICES}/web"), "apply", &spec(1));
    assert_eq!(
        (unnamed.status, unnamed.message().as_str()),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        )
    );
}

#[test]
fn status_is_a_place_of_its_own() {
    let rig = rig::start(&[]);
    let api = rig.api;
    api.post(SERVICES, &plain("web")).expect(201);
    let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, "metadata": {"labels": {"not": "taken"}}});
    let patched = api.patch(&format!("{SERVICES}/web/status"), "merge", &ingress.to_string());
    assert_eq!(patched.status, 200, "{}", patched.body);
    let shown = api.get(&format!("{SERVICES}/web/status")).expect(200);
    assert_eq!(shown, api.get(&format!("{SERVICES}/web")).expect(200));
    // The status is not changed by way of the object.
    let both = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}, "metadata": {"labels": {"is": "taken"}}});
    let shown = api.patch(&format!("{SERVICES}/web"), "merge", &both.to_string()).expect(200);
    assert_ne!(shown["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.9");
    assert_eq!(shown["metadata"]["labels"]["is"], "taken");
}

#[test]
fn selections_and_forms() {
    let rig = rig::start(&[]);
    let api = rig.api;
    for name in ["a", "b", "c"] {
        api.post(SERVICES, &plain(name)).expect(201);
    }
    let names = |query: &str| {
        let list = api.get(&format!("{SERVICES}?{query}")).expect(200);
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["a", "b", "c"]);
    assert_eq!(names("labelSelector=app%20in%20(a,b)&limit=1"), ["a", "b"]);
    assert_eq!(names("fieldSelector=metadata.name%3Dc"), ["c"]);
    assert_eq!(names("labelSelector=!app"), [""; 0]);

    let table = api.get_as(SERVICES, TABLE).expect(200);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][3]["name"], "External-IP");
    assert_eq!(table["rows"][1]["cells"][0], "b");
    assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
    let rows = api.get_as(&format!("{SERVICES}?includeObject=Object"), TABLE).expect(200);
    assert_eq!(rows["rows"][0]["object"]["kind"], "Service");
    let row = api.get_as(&format!("{SERVICES}/a?includeObject=None"), TABLE).expect(200);
    assert_eq!((row["rows"].as_array().unwrap().len(), row["rows"][0].get("object")), (1, None));

    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = api.get_as(SERVICES, partial).expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!((&list["items"][0]["metadata"]["name"], list["items"][0].get("spec")), (&json!("a"), None));
    assert_eq!(api.get_as(&format!("{SERVICES}/a"), partial).status, 406);

    let pretty = api.get(&format!("{SERVICES}/a?pretty=true")).body;
    assert!(pretty.starts_with("{\n  \""), "{pretty}");
    let pretty = api.get(&format!("{SERVICES}?pretty=true")).body;
    assert!(pretty.starts_with("{\n  \""), "{pretty}");

    let deleted = api.delete(&format!("{SERVICES}?labelSelector=app%3Db"), "").expect(200);
    assert_eq!((&deleted["kind"], deleted["items"].as_array().unwrap().len()), (&json!("ServiceList"), 1));
    assert_eq!(names(""), ["a", "c"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let rig = rig::start(&[]);
    let dry = rig.api.post(&format!("{SERVICES}?dryRun=All"), &plain("web")).expect(201);
    assert!(dry["spec"]["clusterIP"].is_string());
    assert_eq!(rig.api.get(&format!("{SERVICES}/web")).status, 404);
}

#[test]
fn yaml_is_read_as_well() {
    let rig = rig::start(&[]);
    let yaml = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: 80\n";
    let created = rig.api.send("POST", SERVICES, &[("Content-Type", "application/yaml")], yaml);
    assert_eq!(created.expect(201)["metadata"]["name"], "web");
}

#[test]
fn long_lists_are_whole() {
    let rig = rig::start(&[]);
    let namespace = |name: usize| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("ns-{name:04}")}})
            .to_string()
    };
    for name in 0..300 {
        rig.api.post("/api/v1/namespaces", &namespace(name)).expect(201);
    }
    let list =
        rig.api.get("/api/v1/namespaces?labelSelector=kubernetes.io/metadata.name!%3Ddefault").expect(200);
    let items = list["items"].as_array().unwrap();
    let ours = items.iter().filter(|item| item["metadata"]["name"].as_str().unwrap().starts_with("ns-"));
    assert_eq!(ours.count(), 300);
    assert_eq!(
        rig.api.get_as("/api/v1/namespaces", TABLE).expect(200)["rows"].as_array().unwrap().len(),
        items.len() + 1
    );
}
