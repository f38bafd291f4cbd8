//! Every row of the catalogue of errors: what a real API server (1.32) answers, word for word.

use serde_json::{Value, json};

use crate::harness::http::{Answer, Api};
use crate::harness::wait::until;

use super::rig::{self, SERVICES, plain};

/// A Service with these ports and this much more of a spec.
fn service(name: &str, ports: Value, more: Value) -> Value {
    let mut spec = json!({"ports": ports, "selector": {"app": name}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn create(api: Api, object: &Value) -> Answer {
    api.post(&format!("{SERVICES}?fieldValidation=Strict"), &object.to_string())
}

/// Creates `e1` and expects a 422 with this message after `Service "e1" is invalid: `.
#[track_caller]
fn invalid(api: Api, ports: Value, more: Value, message: &str) {
    let answer = create(api, &service("e1", ports, more));
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(answer.message(), format!("Service \"e1\" is invalid: {message}"));
    let status = answer.json();
    assert_eq!((&status["reason"], &status["code"]), (&json!("Invalid"), &json!(422)));
    assert_eq!((&status["details"]["name"], &status["details"]["kind"]), (&json!("e1"), &json!("Service")));
    assert!(!status["details"]["causes"].as_array().unwrap().is_empty());
}

#[track_caller]
fn refused(answer: &Answer, status: u16, reason: &str, message: &str) {
    assert_eq!((answer.status, answer.message().as_str()), (status, message), "{}", answer.body);
    let body = answer.json();
    assert_eq!(
        (&body["kind"], &body["apiVersion"], &body["status"]),
        (&json!("Status"), &json!("v1"), &json!("Failure"))
    );
    assert_eq!((&body["reason"], &body["code"]), (&json!(reason), &json!(status)));
}

fn port80() -> Value {
    json!([{"port": 80}])
}

#[test]
fn fields_of_a_service() {
    let rig = rig::start(&["--service-node-port-range", "30000-32767"]);
    let api = rig.api;
    let node_port = |port: i64| json!([{"port": 80, "nodePort": port}]);
    let typed = json!({"type": "NodePort"});
    create(api, &service("first", node_port(30080), typed.clone())).expect(201);
    let range = "provided port is not in the valid range. The range of valid ports is 30000-32767";

    invalid(
        api,
        node_port(30080),
        typed.clone(),
        "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
    );
    for port in [80, 40000, 70000, -1] {
        invalid(
            api,
            node_port(port),
            typed.clone(),
            &format!("spec.ports[0].nodePort: Invalid value: {port}: {range}"),
        );
    }
    for port in [0, 70000] {
        let bounds = "must be between 1 and 65535, inclusive";
        invalid(
            api,
            json!([{"port": port}]),
            json!({}),
            &format!(
                "[spec.ports[0].port: Invalid value: {port}: {bounds}, spec.ports[0].targetPort: Invalid value: {port}: {bounds}]"
            ),
        );
    }
    invalid(
        api,
        json!([{"port": 80, "protocol": "ICMP"}]),
        json!({}),
        "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
    );
    invalid(api, json!([]), json!({}), "spec.ports: Required value");
    invalid(
        api,
        json!([{"port": 80}, {"port": 81}]),
        json!({}),
        "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]",
    );
    invalid(
        api,
        json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
        json!({}),
        "spec.ports[1].name: Duplicate value: \"a\"",
    );
    invalid(
        api,
        json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]),
        json!({}),
        "spec.ports[1]: Duplicate value: core.ServicePort{Name:\"\", Protocol:\"TCP\", AppProtocol:(*string)(nil), Port:80, TargetPort:intstr.IntOrString{Type:0, IntVal:0, StrVal:\"\"}, NodePort:0}",
    );
    for (target, message) in [
        ("abcdefghijklmnop", "must be no more than 15 characters"),
        ("a_b", "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
        ("80", "must contain at least one letter (a-z)"),
    ] {
        invalid(
            api,
            json!([{"port": 80, "targetPort": target}]),
            json!({}),
            &format!("spec.ports[0].targetPort: Invalid value: \"{target}\": {message}"),
        );
    }
    let external = |ip: &str| json!({"externalIPs": [ip]});
    for (ip, message) in [
        ("nonsense", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        invalid(
            api,
            port80(),
            external(ip),
            &format!("spec.externalIPs[0]: Invalid value: \"{ip}\": {message}"),
        );
    }
    invalid(
        api,
        port80(),
        json!({"sessionAffinity": "Cookie"}),
        "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
    );
    invalid(
        api,
        port80(),
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
    );
    invalid(
        api,
        port80(),
        json!({"type": "Nodeport"}),
        "spec.type: Unsupported value: \"Nodeport\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
    );
    invalid(
        api,
        port80(),
        json!({"type": "NodePort", "externalTrafficPolicy": "local"}),
        "spec.externalTrafficPolicy: Unsupported value: \"local\": supported values: \"Cluster\", \"Local\"",
    );
    invalid(
        api,
        port80(),
        json!({"externalTrafficPolicy": "Local"}),
        "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
    );
    invalid(
        api,
        node_port(30090),
        json!({"type": "ClusterIP"}),
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    );
    invalid(
        api,
        port80(),
        json!({"type": "NodePort", "clusterIP": "None"}),
        "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
    );
    invalid(
        api,
        port80(),
        json!({"clusterIP": "10.1.2.3"}),
        "spec.clusterIPs: Invalid value: []string{\"10.1.2.3\"}: failed to allocate IP 10.1.2.3: the provided IP (10.1.2.3) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
    );
    create(api, &service("second", port80(), json!({"clusterIP": "10.96.1.1"}))).expect(201);
    invalid(
        api,
        port80(),
        json!({"clusterIP": "10.96.1.1"}),
        "spec.clusterIPs: Invalid value: []string{\"10.96.1.1\"}: failed to allocate IP 10.96.1.1: provided IP is already allocated",
    );
    let change = json!({"spec": {"clusterIP": "10.96.1.2", "clusterIPs": ["10.96.1.2"]}}).to_string();
    refused(
        &api.patch(&format!("{SERVICES}/second"), "merge", &change),
        422,
        "Invalid",
        "Service \"second\" is invalid: spec.clusterIPs[0]: Invalid value: []string{\"10.96.1.2\"}: may not change once set",
    );
    // A leading zero is accepted, with a warning.
    let zeros = create(api, &service("zeros", port80(), external("192.168.099.022")));
    assert_eq!(zeros.status, 201, "{}", zeros.body);
    assert_eq!(
        zeros.warnings().first(),
        Some(
            &"299 - \"spec.externalIPs[0]: IP address was accepted, but will be invalid in a future Kubernetes release: ParseAddr(\\\"192.168.099.022\\\"): IPv4 field has octet with leading zero\""
        )
    );
    create(
        api,
        &service(
            "day",
            port80(),
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86400}}}),
        ),
    )
    .expect(201);
}

#[test]
fn causes_say_what_kind_of_mistake_it_is() {
    let rig = rig::start(&[]);
    let reasons = |more: Value, ports: Value| {
        let body = create(rig.api, &service("e1", ports, more)).expect(422);
        let causes = body["details"]["causes"].as_array().unwrap().clone();
        causes
            .iter()
            .map(|c| format!("{} {}", c["field"].as_str().unwrap(), c["reason"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        reasons(json!({"type": "x"}), json!([{"port": 0}])),
        [
            "spec.type FieldValueNotSupported",
            "spec.ports[0].port FieldValueInvalid",
            "spec.ports[0].targetPort FieldValueInvalid"
        ]
    );
    assert_eq!(reasons(json!({}), json!([])), ["spec.ports FieldValueRequired"]);
}

#[test]
fn names_and_places() {
    let rig = rig::start(&[]);
    let api = rig.api;
    let named = |name: &str| {
        let mut object = service("x", port80(), json!({}));
        object["metadata"]["name"] = json!(name);
        object
    };
    let dns = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    refused(
        &create(api, &named("Web")),
        422,
        "Invalid",
        &format!("Service \"Web\" is invalid: metadata.name: Invalid value: \"Web\": {dns}"),
    );
    refused(
        &create(api, &named("")),
        422,
        "Invalid",
        "Service \"\" is invalid: metadata.name: Required value: name or generateName is required",
    );
    let long = "a".repeat(64);
    refused(
        &create(api, &named(&long)),
        422,
        "Invalid",
        &format!(
            "Service \"{long}\" is invalid: metadata.name: Invalid value: \"{long}\": must be no more than 63 characters"
        ),
    );
    create(api, &named("web")).expect(201);
    refused(&create(api, &named("web")), 409, "AlreadyExists", "services \"web\" already exists");
    let nowhere = api.get(&format!("{SERVICES}/nope"));
    refused(&nowhere, 404, "NotFound", "services \"nope\" not found");
    assert_eq!(nowhere.json()["details"], json!({"name": "nope", "kind": "services"}));
    let slice = api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/x");
    refused(&slice, 404, "NotFound", "endpointslices.discovery.k8s.io \"x\" not found");
    assert_eq!(
        slice.json()["details"],
        json!({"name": "x", "group": "discovery.k8s.io", "kind": "endpointslices"})
    );
    refused(
        &api.post("/api/v1/namespaces/nons/services", &named("a").to_string()),
        404,
        "NotFound",
        "namespaces \"nons\" not found",
    );
    refused(&api.get("/api/v1/namespaces/nons/services/a"), 404, "NotFound", "services \"a\" not found");
    assert_eq!(api.get("/api/v1/namespaces/nons/services").expect(200)["items"], json!([]));
    let mut elsewhere = named("a");
    elsewhere["metadata"]["namespace"] = json!("other");
    refused(
        &create(api, &elsewhere),
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    refused(
        &api.put(&format!("{SERVICES}/web"), &named("other").to_string()),
        400,
        "BadRequest",
        "the name of the object (other) does not match the name on the URL (web)",
    );
    let mut old = api.get(&format!("{SERVICES}/web")).expect(200);
    old["metadata"]["resourceVersion"] = json!("1");
    refused(
        &api.put(&format!("{SERVICES}/web"), &old.to_string()),
        409,
        "Conflict",
        "Operation cannot be fulfilled on services \"web\": the object has been modified; please apply your changes to the latest version and try again",
    );
}

#[test]
fn bodies() {
    let rig = rig::start(&[]);
    let api = rig.api;
    let prefix = "Service in version \"v1\" cannot be handled as a Service: ";
    let post = |query: &str, body: &str| api.post(&format!("{SERVICES}{query}"), body);
    refused(
        &post("", &service("a", json!([{"port": "80"}]), json!({})).to_string()),
        400,
        "BadRequest",
        &format!(
            "{prefix}json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32"
        ),
    );
    let mut unknown = service("a", json!([{"port": 80, "nodeport": 1}]), json!({"foo": 1}));
    let text = unknown.to_string();
    refused(
        &post("?fieldValidation=Strict", &text),
        400,
        "BadRequest",
        &format!(
            "{prefix}strict decoding error: unknown field \"spec.foo\", unknown field \"spec.ports[0].nodeport\""
        ),
    );
    let twice = plain("a").replace("\"ports\":", "\"type\":\"ClusterIP\",\"type\":\"ClusterIP\",\"ports\":");
    refused(
        &post("?fieldValidation=Strict", &twice),
        400,
        "BadRequest",
        &format!("{prefix}strict decoding error: duplicate field \"spec.type\""),
    );
    for (name, query) in [("a", ""), ("b", "?fieldValidation=Warn")] {
        unknown["metadata"]["name"] = json!(name);
        let warned = post(query, &unknown.to_string());
        assert_eq!(
            (warned.status, warned.warnings()),
            (
                201,
                vec![
                    "299 - \"unknown field \\\"spec.foo\\\"\"",
                    "299 - \"unknown field \\\"spec.ports[0].nodeport\\\"\""
                ]
            ),
            "{}",
            warned.body
        );
    }
    unknown["metadata"]["name"] = json!("c");
    let silent = post("?fieldValidation=Ignore", &unknown.to_string());
    assert_eq!((silent.status, silent.warnings()), (201, vec![]), "{}", silent.body);
    refused(
        &post("?fieldValidation=Loose", &unknown.to_string()),
        422,
        "Invalid",
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Loose\": supported values: \"Ignore\", \"Strict\", \"Warn\"",
    );
    let pod = post("", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\"}}");
    refused(
        &pod,
        400,
        "BadRequest",
        "Pod in version \"v1\" cannot be handled as a Service: converting (v1.Pod) to (core.Service): unknown conversion",
    );
    let v2 = post("", "{\"apiVersion\":\"v2\",\"kind\":\"Service\",\"metadata\":{\"name\":\"x\"}}");
    refused(
        &v2,
        400,
        "BadRequest",
        "Service in version \"v2\" cannot be handled as a Service: no kind \"Service\" is registered for version \"v2\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
    );
    let broken = post("", "{\"apiVersion\": nope}");
    assert_eq!(broken.status, 400);
    assert!(
        broken.message().starts_with("the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: "),
        "{}",
        broken.body
    );
    refused(
        &api.send("POST", SERVICES, &[("Content-Type", "text/html")], "x"),
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    );
    refused(
        &api.send("PATCH", &format!("{SERVICES}/a"), &[("Content-Type", "application/json")], "{}"),
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
    );
    refused(
        &api.get_as(SERVICES, "application/vnd.kubernetes.protobuf"),
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json",
    );
    refused(
        &post("?dryRun=Some", "{}"),
        422,
        "Invalid",
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\"",
    );
}

#[test]
fn paths_and_methods() {
    let rig = rig::start(&[]);
    let api = rig.api;
    refused(&api.get("/api/v1/secrets"), 404, "NotFound", "the server could not find the requested resource");
    let group = api.get("/apis/apps/v1/deployments");
    assert_eq!((group.status, group.body.as_str()), (404, "404 page not found\n"));
    for (method, path) in
        [("POST", "/api/v1/services"), ("PUT", SERVICES), ("POST", "/api"), ("DELETE", "/api/v1/namespaces")]
    {
        refused(
            &api.send(method, path, &[], ""),
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
    }
    let version = api.get("/api/v1/services?resourceVersion=99999999999999").expect(504);
    assert_eq!(
        (&version["reason"], &version["details"]["causes"][0]["reason"]),
        (&json!("Timeout"), &json!("ResourceVersionTooLarge"))
    );
    assert!(
        version["message"]
            .as_str()
            .unwrap()
            .starts_with("Timeout: Too large resource version: 99999999999999, current: ")
    );
    assert_eq!(api.get("/api/v1/services?labelSelector=a%3D%3D%3Db").status, 400);
    assert_eq!(api.get("/api/v1/services?fieldSelector=spec.nonsense%3Db").status, 400);
}

#[test]
fn objects_of_files_are_shown_and_not_changed() {
    let rig = rig::start(&[]);
    let api = rig.api;
    rig.world.apply(
        "web",
        &crate::harness::manifest::Service {
            name: "web",
            port: 80,
            target_port: 80,
            node_port: rig.world.port(),
            external_ip: None,
            client_ip_affinity: false,
        }
        .yaml(),
    );
    let shown = until("the Service of the file is shown", || {
        Some(api.get(&format!("{SERVICES}/web"))).filter(|answer| answer.status == 200)
    });
    assert!(shown.body.contains("web.yml"), "it says where it is from: {}", shown.body);
    for answer in [
        api.delete(&format!("{SERVICES}/web"), ""),
        api.patch(&format!("{SERVICES}/web"), "merge", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}"),
    ] {
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(
            answer.message().starts_with("services \"web\" is forbidden: ")
                && answer.message().contains("web.yml"),
            "{}",
            answer.body
        );
    }
}

#[test]
fn endpoint_slices() {
    let rig = rig::start(&[]);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = |kind: &str, address: &str| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "lo"},
               "addressType": kind, "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}]})
        .to_string()
    };
    refused(
        &rig.api.post(slices, &slice("IPv4", "127.0.0.1")),
        422,
        "Invalid",
        "EndpointSlice.discovery.k8s.io \"lo\" is invalid: endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
    );
    let untyped = rig.api.post(slices, &slice("", "10.0.0.1"));
    assert!(untyped.message().contains("addressType: Required value"), "{}", untyped.body);
}
