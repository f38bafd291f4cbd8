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

fn update(store: &mut Store, name: &str, change: impl FnOnce(&mut Value)) -> Result<Accepted, Refusal> {
    let mut object = store.get(Resource::Services, &key(name)).unwrap().value();
    change(&mut object);
    store.update(Resource::Services, &key(name), Part::Main, object, false)
}

/// What `kubectl apply` or `replace` without resourceVersion sends: only what the manifest says.
fn put(store: &mut Store, object: Value) -> Result<Value, String> {
    let key = key(object["metadata"]["name"].as_str().unwrap());
    let put = store.update(Resource::Services, &key, Part::Main, object, false);
    put.map(|accepted| accepted.document.value()).map_err(said)
}

/// The rows of the error catalogue that need no other object.
#[test]
fn services_are_refused_in_the_words_of_the_api_server() {
    const PORT: &str = "must be between 1 and 65535, inclusive";
    const RANGE: &str = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    let ports = |ports: Value| json!({"ports": ports});
    let typed = |kind: &str, rest: Value| {
        let mut spec = rest;
        spec["type"] = kind.into();
        spec
    };
    let outside = |number: i32| typed("NodePort", ports(json!([{"port": 80, "nodePort": number}])));
    let ip = |text: &str| json!({"externalIPs": [text]});
    let both = |number: i32| {
        format!(
            "spec.ports[0].port: Invalid value: {number}: {PORT}; spec.ports[0].targetPort: Invalid value: {number}: {PORT}"
        )
    };
    let special = |text: &str, rule: &str| format!("spec.externalIPs[0]: Invalid value: \"{text}\": {rule}");
    let range = |number: i32| format!("spec.ports[0].nodePort: Invalid value: {number}: {RANGE}");
    let table = [
        (outside(80), range(80)),
        (outside(40000), range(40000)),
        (outside(70000), range(70000)),
        (outside(-1), range(-1)),
        (ports(json!([{"port": 0}])), both(0)),
        (ports(json!([{"port": 70000}])), both(70000)),
        (ports(json!([{"name": "a"}])), both(0)),
        (
            ports(json!([{"port": 80, "targetPort": "http_"}])),
            "spec.ports[0].targetPort: Invalid value: \"http_\": must contain only alpha-numeric characters (a-z, 0-9), \
             and hyphens (-)".into(),
        ),
        (
            ports(json!([{"port": 80, "targetPort": "a-very-long-name"}])),
            "spec.ports[0].targetPort: Invalid value: \"a-very-long-name\": must be no more than 15 characters".into(),
        ),
        (
            ports(json!([{"port": 80, "protocol": "ICMP"}])),
            "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"".into(),
        ),
        (ports(json!([])), "spec.ports: Required value".into()),
        (
            ports(json!([{"port": 80}, {"port": 81}])),
            "spec.ports[0].name: Required value; spec.ports[1].name: Required value".into(),
        ),
        (
            ports(json!([{"name": "a", "port": 80}, {"name": "a", "port": 81}])),
            "spec.ports[1].name: Duplicate value: \"a\"".into(),
        ),
        (ip("nonsense"), special("nonsense", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")),
        (ip("127.0.0.1"), special("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)")),
        (ip("0.0.0.0"), special("0.0.0.0", "may not be unspecified (0.0.0.0)")),
        (ip("169.254.1.1"), special("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)")),
        (
            ip("224.0.0.1"),
            special("224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
        ),
        (
            json!({"sessionAffinity": "Cookie"}),
            "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"".into(),
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less \
             than 86400".into(),
        ),
        (
            typed("Nodeport", json!({})),
            "spec.type: Unsupported value: \"Nodeport\": supported values: \"ClusterIP\", \"ExternalName\", \
             \"LoadBalancer\", \"NodePort\"".into(),
        ),
        (
            typed("NodePort", json!({"externalTrafficPolicy": "local"})),
            "spec.externalTrafficPolicy: Unsupported value: \"local\": supported values: \"Cluster\", \"Local\"".into(),
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible \
             services".into(),
        ),
        (
            json!({"internalTrafficPolicy": "local"}),
            "spec.internalTrafficPolicy: Unsupported value: \"local\": supported values: \"Cluster\", \"Local\"".into(),
        ),
        (
            ports(json!([{"port": 80, "nodePort": 30080}])),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'".into(),
        ),
        (
            typed("NodePort", json!({"clusterIP": "None"})),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services".into(),
        ),
        (
            json!({"clusterIP": "10.1.2.3"}),
            "spec.clusterIPs: Invalid value: []string{\"10.1.2.3\"}: failed to allocate IP 10.1.2.3: the provided IP \
             (10.1.2.3) is not in the valid range. The range of valid IPs is 10.96.0.0/16".into(),
        ),
    ];
    let mut store = store();
    for (spec, expected) in table {
        assert_eq!(refused(&mut store, service("e1", spec.clone())), expected, "{spec}");
    }
    let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                 character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                 validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let long = "a".repeat(64);
    for (name, expected) in [
        ("Web", format!("metadata.name: Invalid value: \"Web\": {label}")),
        (&long, format!("metadata.name: Invalid value: \"{long}\": must be no more than 63 characters")),
        ("", "metadata.name: Required value: name or generateName is required".to_owned()),
    ] {
        assert_eq!(refused(&mut store, service(name, json!({}))), expected);
    }
}

#[test]
fn slices_are_refused_in_the_words_of_the_api_server() {
    let mut store = store();
    let mut said_of =
        |object: Value| said(store.create(Resource::EndpointSlices, object, false).unwrap_err());
    let labels = json!({"kubernetes.io/service-name": "web"});
    let slice = |rest: Value| {
        let mut object = rest;
        object["metadata"] = json!({"name": "lo", "labels": labels});
        object
    };
    assert_eq!(said_of(slice(json!({"endpoints": []}))), "addressType: Required value");
    assert_eq!(
        said_of(slice(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}))),
        "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
    );
    let made = slice(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}));
    store.create(Resource::EndpointSlices, made, false).unwrap();
    let changed = slice(json!({"addressType": "IPv6", "endpoints": []}));
    let update = store.update(Resource::EndpointSlices, &key("lo"), Part::Main, changed, false);
    assert_eq!(said(update.unwrap_err()), "addressType: Invalid value: \"IPv6\": field is immutable");
    let grown = slice(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.2"]}]}));
    let grown = store.update(Resource::EndpointSlices, &key("lo"), Part::Main, grown, false).unwrap();
    assert_eq!(grown.document.value()["metadata"]["generation"], 2);
}

#[test]
fn cluster_ips_are_given_once_and_stay() {
    let mut store = store();
    create(&mut store, service("a", json!({"clusterIP": "10.96.1.1"})));
    let taken = "spec.clusterIPs: Invalid value: []string{\"10.96.1.1\"}: failed to allocate IP 10.96.1.1: provided IP is \
                 already allocated";
    assert_eq!(refused(&mut store, service("b", json!({"clusterIP": "10.96.1.1"}))), taken);
    let kept = put(&mut store, service("a", json!({"ports": [{"port": 81}]}))).unwrap();
    assert_eq!(kept["spec"]["clusterIPs"], json!(["10.96.1.1"]));
    let changed = put(&mut store, service("a", json!({"clusterIP": "10.96.1.2"}))).unwrap_err();
    let fixed = "spec.clusterIPs[0]: Invalid value: []string{\"10.96.1.2\"}: may not change once set";
    assert_eq!(changed, fixed);
    let headless = put(&mut store, service("a", json!({"clusterIP": "None"}))).unwrap_err();
    assert_eq!(headless, "spec.clusterIPs[0]: Invalid value: []string{\"None\"}: may not change once set");
    let name = json!({"type": "ExternalName", "externalName": "a.example", "ports": null});
    let external = put(&mut store, service("a", name)).unwrap();
    assert_eq!(
        (&external["spec"]["clusterIP"], &external["spec"]["ipFamilies"]),
        (&Value::Null, &Value::Null)
    );
    create(&mut store, service("b", json!({"clusterIP": "10.96.1.1"})));
}

#[test]
fn node_ports_are_kept_by_the_name_of_their_port_and_given_back_by_type() {
    let mut store = store();
    let ports =
        json!([{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]);
    create(&mut store, service("web", json!({"type": "NodePort", "ports": ports})));
    let ports = json!([{"name": "b", "port": 8081}, {"name": "c", "port": 80}]);
    let kept = put(&mut store, service("web", json!({"type": "NodePort", "ports": ports}))).unwrap();
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], 30002);
    assert_ne!(kept["spec"]["ports"][1]["nodePort"], 30001);
    create(&mut store, node_port("other", 30001));
    // As kubectl patch does: the numbers stand in the object.
    let plain = update(&mut store, "web", |object| object["spec"]["type"] = "ClusterIP".into()).unwrap();
    let plain = plain.document.value();
    assert_eq!(plain["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(plain["spec"].get("externalTrafficPolicy"), None);
    create(&mut store, node_port("third", 30002));
    let taken = update(&mut store, "web", |object| {
        object["spec"]["type"] = "NodePort".into();
        object["spec"]["ports"][0]["nodePort"] = 30002.into();
    });
    let expected = "spec.ports[0].nodePort: Invalid value: 30002: provided port is already allocated";
    assert_eq!(said(taken.unwrap_err()), expected);
}

#[test]
fn health_check_node_ports_come_and_go_with_type_and_policy() {
    let mut store = store();
    let balancer = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let made = create(&mut store, service("lb", balancer.clone()));
    let number = made["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert_ne!(made["spec"]["ports"][0]["nodePort"], number);
    let taken =
        format!("spec.ports[0].nodePort: Invalid value: {number}: provided port is already allocated");
    assert_eq!(refused(&mut store, node_port("a", number as i32)), taken);
    let mut fixed = balancer.clone();
    fixed["healthCheckNodePort"] = number.into();
    let expected = format!(
        "failed to allocate requested HealthCheck NodePort {number}: provided port is already allocated"
    );
    assert_eq!(refused(&mut store, service("lb2", fixed)), expected);
    let kept = put(&mut store, service("lb", balancer)).unwrap();
    assert_eq!(kept["spec"]["healthCheckNodePort"], number);
    let changed = update(&mut store, "lb", |object| object["spec"]["healthCheckNodePort"] = 30999.into());
    assert_eq!(said(changed.unwrap_err()), "spec.healthCheckNodePort: Forbidden: field is immutable");
    let gone = update(&mut store, "lb", |object| object["spec"]["externalTrafficPolicy"] = "Cluster".into());
    assert_eq!(gone.unwrap().document.value()["spec"].get("healthCheckNodePort"), None);
    create(&mut store, node_port("a", number as i32));
}

#[test]
fn a_status_is_changed_by_itself_and_its_addresses_are_served() {
    let mut store = store();
    create(&mut store, service("lb", json!({"type": "LoadBalancer"})));
    let mut object = store.get(Resource::Services, &key("lb")).unwrap().value();
    object["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}]}});
    object["spec"]["type"] = "NodePort".into();
    let done = store.update(Resource::Services, &key("lb"), Part::Status, object.clone(), false).unwrap();
    let done = done.document.value();
    assert_eq!(
        (&done["spec"]["type"], &done["status"]["loadBalancer"]["ingress"][0]["ipMode"]),
        (&json!("LoadBalancer"), &json!("VIP"))
    );
    let served = |store: &Store| store.world().services[&key("lb")].load_balancer_ips.clone();
    assert_eq!(served(&store), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    let kept =
        put(&mut store, service("lb", json!({"type": "LoadBalancer", "ports": [{"port": 81}]}))).unwrap();
    assert_eq!(kept["status"], done["status"]);
    update(&mut store, "lb", |object| object["spec"]["type"] = "ClusterIP".into()).unwrap();
    assert!(served(&store).is_empty());
    object["metadata"]["resourceVersion"] = Value::Null;
    let refused = store.update(Resource::Services, &key("lb"), Part::Status, object, false);
    let expected =
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \"LoadBalancer\"";
    assert_eq!(said(refused.unwrap_err()), expected);
}

#[test]
fn warnings_are_those_of_the_api_server() {
    let mut store = store();
    let spec = json!({"externalIPs": ["192.168.099.022"], "externalName": "x"});
    let accepted = store.create(Resource::Services, service("a", spec), false).unwrap();
    assert_eq!(
        accepted.warnings,
        [
            "spec.externalIPs[0]: IP address was accepted, but will be invalid in a future Kubernetes release: \
             ParseAddr(\"192.168.099.022\"): IPv4 field has octet with leading zero",
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ]
    );
    let spec = json!({"clusterIP": "None", "externalIPs": ["192.0.2.1"], "sessionAffinity": "ClientIP"});
    let accepted = store.create(Resource::Services, service("b", spec), false).unwrap();
    let expected = [
        "spec.externalIPs is ignored for headless services",
        "spec.SessionAffinity is ignored for headless services",
    ];
    assert_eq!(accepted.warnings, expected);
}

#[test]
fn locks_and_preconditions() {
    let mut store = store();
    let first = create(&mut store, service("web", json!({})));
    let same = update(&mut store, "web", |_| ()).unwrap();
    assert_eq!(same.document.value(), first, "no change, no version");
    update(&mut store, "web", |object| object["metadata"]["labels"] = json!({"a": "b"})).unwrap();
    let stale = store.update(Resource::Services, &key("web"), Part::Main, first.clone(), false).unwrap_err();
    let modified =
        "the object has been modified; please apply your changes to the latest version and try again";
    assert_eq!(stale, Refusal::Conflict(modified.to_owned()));
    let uid = Preconditions { uid: Some("x".into()), version: None };
    let other = said(store.delete(Resource::Services, &key("web"), &uid, false).unwrap_err());
    let has = first["metadata"]["uid"].as_str().unwrap();
    assert_eq!(other, format!("Precondition failed: UID in precondition: x, UID in object meta: {has}"));
    let old = Preconditions {
        uid: None,
        version: first["metadata"]["resourceVersion"].as_str().unwrap().parse().ok(),
    };
    assert!(matches!(store.delete(Resource::Services, &key("web"), &old, false), Err(Refusal::Conflict(_))));
    let gone = store.delete(Resource::Services, &key("web"), &Preconditions::default(), true).unwrap();
    assert!(store.get(Resource::Services, &gone.key).is_some(), "dry run");
    assert_eq!(store.delete(Resource::Services, &key("nope"), &uid, false).unwrap_err(), Refusal::NotFound);
}

#[test]
fn a_dry_run_allocates_nothing() {
    let mut store = store();
    let version = store.version();
    let tried = store.create(Resource::Services, node_port("a", 30001), true).unwrap().document.value();
    assert_eq!(tried["metadata"].get("resourceVersion"), None);
    assert!(tried["spec"]["clusterIP"].is_string() && tried["metadata"]["uid"].is_string());
    assert_eq!(store.version(), version);
    create(&mut store, node_port("b", 30001));
    assert!(store.world().services.len() == 1 && store.get(Resource::Services, &key("a")).is_none());
}

#[test]
fn generated_names_end_with_five_letters_that_say_nothing() {
    let mut store = store();
    let mut object = service("", json!({}));
    object["metadata"] = json!({"generateName": "web-"});
    let names: Vec<String> = (0..2)
        .map(|_| create(&mut store, object.clone())["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_ne!(names[0], names[1]);
    for name in names {
        let suffix = name.strip_prefix("web-").unwrap();
        assert!(
            suffix.len() == 5 && suffix.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b)),
            "{name}"
        );
    }
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it_and_three_cannot_go() {
    let mut store = store();
    for name in ["default", "kube-system", "kube-public"] {
        let name = NamespacedName::new("", name);
        let refused =
            store.delete(Resource::Namespaces, &name, &Preconditions::default(), false).unwrap_err();
        assert_eq!(refused, Refusal::Forbidden("this namespace may not be deleted".into()));
    }
    store.create(Resource::Namespaces, json!({"metadata": {"name": "shop"}}), false).unwrap();
    let mut inside = node_port("web", 30001);
    inside["metadata"]["namespace"] = "shop".into();
    create(&mut store, inside);
    let shop = NamespacedName::new("", "shop");
    store.delete(Resource::Namespaces, &shop, &Preconditions::default(), false).unwrap();
    assert!(store.list(Resource::Services, None).next().is_none() && store.world().services.is_empty());
    create(&mut store, node_port("web", 30001));

    file(
        &mut store,
        "f",
        "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: mill}, spec: {ports: [{port: 80}]}}",
    );
    let mill = NamespacedName::new("", "mill");
    assert!(store.get(Resource::Namespaces, &mill).is_some());
    let refused =
        said(store.delete(Resource::Namespaces, &mill, &Preconditions::default(), false).unwrap_err());
    assert_eq!(refused, "is forbidden: objects of manifest files are in it");
    store.apply(vec![("f".into(), crate::store::Change::Removed)]);
    assert!(store.get(Resource::Namespaces, &mill).is_none());
}

#[test]
fn endpoints_that_somebody_wrote_are_mirrored_until_the_service_goes() {
    let mut store = store();
    create(&mut store, service("ext", json!({})));
    let endpoints = json!({
        "metadata": {"name": "ext", "labels": {"x": "y"}},
        "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "notReadyAddresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 8080}]}],
    });
    store.create(Resource::Endpoints, endpoints, false).unwrap();
    let slices = store.world().slices[&key("ext")].clone();
    assert_eq!((slices.len(), slices[0].endpoints.len(), slices[0].ports[0].port), (1, 2, 8080));
    let shown = store.list(Resource::EndpointSlices, None).next().unwrap().value();
    let labels = &shown["metadata"]["labels"];
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!((&labels["x"], &labels["kubernetes.io/service-name"]), (&json!("y"), &json!("ext")));
    store.delete(Resource::Services, &key("ext"), &Preconditions::default(), false).unwrap();
    assert!(store.get(Resource::Endpoints, &key("ext")).is_none() && store.world().slices.is_empty());
    assert!(store.list(Resource::EndpointSlices, None).next().is_none());
}

#[test]
fn this_node_is_there_by_itself_and_makes_way() {
    let mut store = store();
    let here = NamespacedName::new("", "here");
    assert_eq!(store.get(Resource::Nodes, &here).unwrap().owner, Owner::Controller);
    let node = json!({"metadata": {"name": "here", "labels": {"topology.kubernetes.io/zone": "z"}}});
    store.create(Resource::Nodes, node.clone(), false).unwrap();
    assert_eq!(store.world().node.zone.as_deref(), Some("z"));
    assert_eq!(store.create(Resource::Nodes, node, false).unwrap_err(), Refusal::AlreadyExists);
    store.delete(Resource::Nodes, &here, &Preconditions::default(), false).unwrap();
    assert_eq!(store.get(Resource::Nodes, &here).unwrap().owner, Owner::Controller);
    assert_eq!(store.world().node.zone, None);
}

/// What a thousand Services with ten endpoints each cost, and how fast writes are. Run it alone.
#[test]
#[ignore = "a measurement: cargo test --lib store::write::tests::measure -- --ignored --nocapture"]
fn measure() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096 / 1024
    };
    let mut text = String::new();
    for i in 0..10_000 {
        text += &format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s{i}}}, spec: {{selector: {{app: a{i}}}, ports: [{{port: 80}}]}}}}\n"
        );
        for j in 0..10 {
            text += &format!(
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{i}-{j}, labels: {{app: a{i}}}}}, spec: {{containers: [{{name: c, image: i}}]}}, \
                 status: {{podIP: 10.{}.{}.{}, conditions: [{{type: Ready, status: \"True\"}}]}}}}\n",
                i / 256,
                i % 256,
                j + 1
            );
        }
    }
    let name: Arc<str> = "f".into();
    let shows = std::env::var("WITHOUT_DOCUMENTS").is_err();
    for part in [text] {
        let start = std::time::Instant::now();
        let decoded = decode(&name, part.as_bytes(), Trust::File).unwrap();
        drop(part);
        println!("decoded in {:?}", start.elapsed());
        let before = resident();
        let start = std::time::Instant::now();
        let mut store = if shows { store() } else { Store::for_files(options()) };
        store.replace_file(&name, decoded);
        println!("loaded in {:?}, {} KiB resident, {before} before", start.elapsed(), resident());
        println!("{} documents' versions", store.version());
        std::mem::forget(store);
    }
    let dir = tempfile::TempDir::new().unwrap();
    let mut store = Store::open(options(), Some(dir.path())).unwrap();
    let start = std::time::Instant::now();
    for i in 0..500 {
        create(&mut store, service(&format!("s{i}"), json!({"type": "NodePort"})));
    }
    println!("{:.0} writes a second", 500.0 / start.elapsed().as_secs_f64());
}
