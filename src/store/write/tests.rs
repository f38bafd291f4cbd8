use serde_json::{Value, json};

use super::*;
use crate::k8s::decode::decode;
use crate::k8s::ip::Trust;
use crate::store::Options;

pub(in crate::store) fn options() -> Options {
    Options {
        node_port_range: 30000..=32767,
        cluster_ip_range: "10.96.0.0/16".parse().unwrap(),
        node_name: "here".into(),
    }
}

fn store() -> Store {
    Store::new(options())
}

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn node_port(name: &str, number: i32) -> Value {
    service(name, json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}))
}

fn create(store: &mut Store, object: Value) -> Value {
    store.create(Resource::Services, object, false).unwrap().document.value()
}

/// The refusal as messages have it.
fn said(refusal: Refusal) -> String {
    match refusal {
        Refusal::Invalid(problems) => {
            let texts: Vec<String> =
                problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
            texts.join("; ")
        }
        other => other.to_string(),
    }
}

fn refused(store: &mut Store, object: Value) -> String {
    let version = store.version();
    let text = said(store.create(Resource::Services, object, false).unwrap_err());
    assert_eq!(store.version(), version, "a refusal changes nothing");
    text
}

fn file(store: &mut Store, name: &str, text: &str) {
    let name: Arc<str> = name.into();
    store.replace_file(&name, decode(&name, text.as_bytes(), Trust::File).unwrap());
}

#[test]
fn a_new_service_gets_everything_that_an_api_server_gives_it() {
    let mut store = store();
    let made = create(&mut store, service("web", json!({"type": "NodePort", "selector": {"app": "web"}})));
    assert_eq!(made["kind"], "Service");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert!(made["metadata"]["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    let spec = &made["spec"];
    assert!(spec["clusterIP"].as_str().unwrap().starts_with("10.96."));
    assert_eq!(spec["clusterIPs"][0], spec["clusterIP"]);
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
    assert_eq!(spec["internalTrafficPolicy"], "Cluster");
    assert_eq!(spec["ports"][0]["targetPort"], 80);
    let number = spec["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30086..=32767).contains(&number), "{number}");
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    assert_eq!(store.world().services[&key("web")].ports[0].node_port, Some(number as u16));
    assert_eq!(made["metadata"]["uid"], *store.world().services[&key("web")].uid);
}

#[test]
fn pods_become_endpoints_of_the_services_that_select_them() {
    let mut store = store();
    create(&mut store, service("web", json!({"selector": {"app": "web"}})));
    let slices = |store: &Store| -> Vec<Value> {
        store.list(Resource::EndpointSlices, Some("default")).map(|slice| slice.value()).collect()
    };
    let [empty] = slices(&store).try_into().unwrap();
    assert_eq!((&empty["endpoints"], &empty["addressType"]), (&Value::Null, &json!("IPv4")));
    let pod = json!({
        "metadata": {"name": "a", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let pod = store.create(Resource::Pods, pod, false).unwrap().document;
    let [slice] = slices(&store).try_into().unwrap();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
    assert_eq!(slice["endpoints"][0]["targetRef"]["uid"], *pod.uid);
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    let endpoints = store.get(Resource::Endpoints, &key("web")).unwrap().value();
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
    assert_eq!(endpoints["subsets"][0]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    assert_eq!(store.world().slices[&key("web")].len(), 1);

    store.delete(Resource::Pods, &key("a"), &Preconditions::default(), false).unwrap();
    assert_eq!(slices(&store)[0]["endpoints"], Value::Null);
    assert!(store.get(Resource::Endpoints, &key("web")).unwrap().value().get("subsets").is_none());
    store.delete(Resource::Services, &key("web"), &Preconditions::default(), false).unwrap();
    assert!(slices(&store).is_empty());
    assert!(store.get(Resource::Endpoints, &key("web")).is_none());
}

#[test]
fn objects_of_files_are_shown_and_cannot_be_changed() {
    let mut store = store();
    file(
        &mut store,
        "web.yml",
        "\n{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}",
    );
    let shown = store.get(Resource::Services, &key("web")).unwrap();
    assert_eq!(shown.value()["metadata"]["annotations"]["ringport.io/file"], "web.yml:2");
    let why = "is forbidden: it is defined in the file web.yml:2: change it there";
    let update = store.update(Resource::Services, &key("web"), Part::Main, shown.value(), false);
    assert_eq!(said(update.unwrap_err()), why);
    let delete = store.delete(Resource::Services, &key("web"), &Preconditions::default(), false);
    assert_eq!(said(delete.unwrap_err()), why);
    assert_eq!(refused(&mut store, service("web", json!({}))), "already exists");
}

#[test]
fn what_the_api_has_wins_over_a_file_until_it_is_deleted() {
    let mut store = store();
    create(&mut store, service("web", json!({})));
    file(
        &mut store,
        "f",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 81}]}}",
    );
    assert_eq!(
        store.problems().iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "f:1:1: Service default/web: is already defined in the API, which counts (give it another name, or \
          remove one of the two)"
        ]
    );
    assert_eq!(store.world().services[&key("web")].ports[0].port, 80);
    store.delete(Resource::Services, &key("web"), &Preconditions::default(), false).unwrap();
    assert_eq!(store.problems(), []);
    assert_eq!(store.world().services[&key("web")].ports[0].port, 81);
    let shown = store.get(Resource::Services, &key("web")).unwrap();
    assert_eq!(shown.owner, Owner::File("f:1".into()));
}

#[test]
fn allocation_speaks_before_the_name() {
    let mut store = store();
    create(&mut store, node_port("e0", 30080));
    let taken = "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
    assert_eq!(refused(&mut store, node_port("e1", 30080)), taken);
    assert_eq!(refused(&mut store, node_port("e0", 30080)), taken);
    assert_eq!(refused(&mut store, node_port("e0", 30081)), "already exists");
    assert_eq!(
        refused(&mut store, json!({"metadata": {"name": "x", "namespace": "nons"}})),
        "namespaces \"nons\" not found"
    );
}
