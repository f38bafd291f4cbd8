use proptest::prelude::*;
use serde_json::json;

use super::*;

fn refused(resource: Resource, body: &str) -> String {
    read(resource, body.as_bytes()).unwrap_err().0
}

#[test]
fn a_service_becomes_what_the_schema_knows_of_it() {
    let body = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","creationTimestamp":null,"labels":{"a":""},
        "annotations":{}},"spec":{"type":"","ports":[{"port":80,"nodePort":0,"name":""}],"selector":{},
        "externalIPs":[],"allocateLoadBalancerNodePorts":false},"status":{"loadBalancer":{}}}"#;
    let request = read(Resource::Services, body.as_bytes()).unwrap();
    assert_eq!(request.strict, [""; 0]);
    assert_eq!(
        request.object,
        json!({
            "kind": "Service", "apiVersion": "v1", "metadata": {"name": "web", "labels": {"a": ""}},
            "spec": {"ports": [{"port": 80}], "allocateLoadBalancerNodePorts": false},
            "status": {"loadBalancer": {}}
        })
    );
}

#[test]
fn yaml_and_objects_that_do_not_say_what_they_are() {
    let request =
        read(Resource::Services, b"metadata:\n  name: web\nspec:\n  ports:\n  - port: 80\n").unwrap();
    assert_eq!(request.object["kind"], "Service");
    assert_eq!(request.object["apiVersion"], "v1");
    let request =
        read(Resource::EndpointSlices, b"{addressType: IPv4, ports: [{name: '', port: 80}]}").unwrap();
    assert_eq!(request.object["apiVersion"], "discovery.k8s.io/v1");
    assert_eq!(request.object["ports"], json!([{"name": "", "port": 80}]));
}

#[test]
fn strict_problems_in_the_order_of_the_text() {
    let body = r#"{"spec":{"ports":[{"port":80,"nodeport":1}],"foo":1,"type":"NodePort","foo":2,"type":"ClusterIP"},
        "metadata":{"name":"web","labels":{"a":"1","a":"2"}}}"#;
    let request = read(Resource::Services, body.as_bytes()).unwrap();
    let expected = [
        "unknown field \"spec.ports[0].nodeport\"",
        "unknown field \"spec.foo\"",
        "duplicate field \"spec.type\"",
        "duplicate field \"metadata.labels.a\"",
    ];
    assert_eq!(request.strict, expected);
    assert_eq!(request.object["spec"].get("foo"), None);
    let refusal = request.refusal(Resource::Services).unwrap().0;
    assert!(
        refusal.starts_with(
            "Service in version \"v1\" cannot be handled as a Service: strict decoding error: unknown field \
             \"spec.ports[0].nodeport\", unknown field \"spec.foo\", "
        ),
        "{refusal}"
    );
}

#[test]
fn as_in_go_the_last_of_two_counts() {
    let body = r#"{"spec":{"type":"NodePort","type":"ClusterIP"},"metadata":{"labels":{"a":"1","a":"2"}}}"#;
    let request = read(Resource::Services, body.as_bytes()).unwrap();
    assert_eq!(request.object["spec"]["type"], "ClusterIP");
    assert_eq!(request.object["metadata"]["labels"]["a"], "2");
}

#[test]
fn wrong_types_refuse_and_the_first_is_told() {
    let prefix = "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal";
    let table = [
        (
            r#"{"spec":{"ports":[{"port":"http","nodePort":"x"}]}}"#,
            "string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"externalIPs":"1.2.3.4"}}"#,
            "string into Go struct field ServiceSpec.spec.externalIPs of type []string",
        ),
        (r#"{"spec":[]}"#, "array into Go struct field Service.spec of type v1.ServiceSpec"),
    ];
    for (body, message) in table {
        assert_eq!(refused(Resource::Services, body), format!("{prefix} {message}"));
    }
}

#[test]
fn another_kind_or_version() {
    let table = [
        (
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            "Pod in version \"v1\" cannot be handled as a Service: converting (v1.Pod) to (core.Service): unknown \
             conversion",
        ),
        (
            r#"{"kind":"Service","apiVersion":"v2"}"#,
            "Service in version \"v2\" cannot be handled as a Service: no kind \"Service\" is registered for \
             version \"v2\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            r#"{"kind":5}"#,
            "the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse \
             error: json: cannot unmarshal number into Go struct field .kind of type string ({\"kind\":5})",
        ),
    ];
    for (body, message) in table {
        assert_eq!(refused(Resource::Services, body), message);
    }
    assert_eq!(
        refused(Resource::EndpointSlices, r#"{"kind":"Service","apiVersion":"v1"}"#),
        "Service in version \"v1\" cannot be handled as a EndpointSlice: converting (v1.Service) to \
         (discovery.EndpointSlice): unknown conversion"
    );
}

#[test]
fn text_that_is_no_json() {
    assert_eq!(
        refused(Resource::Services, r#"{"kind": "Service", "apiVersion": bad and long}"#),
        "the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: \
         invalid character 'b' looking for beginning of value ({\"kind\": \"Service\", \"apiVersio ...)"
    );
    let found = refused(Resource::Services, "just text");
    assert!(found.contains("json: cannot unmarshal string into Go value"), "{found}");
    assert!(found.ends_with("(6a7573742074657874)"), "{found}");
    for bomb in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "- ".repeat(10_000)] {
        read(Resource::Services, bomb.as_bytes()).unwrap_err();
    }
}

#[test]
fn the_outcome_of_a_patch_is_read_the_same_way() {
    let object =
        json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80, "x": null}], "type": null}});
    let request = check(Resource::Services, object).unwrap();
    assert_eq!(request.strict, ["unknown field \"spec.ports[0].x\""]);
    assert_eq!(request.object["spec"], json!({"ports": [{"port": 80}]}));
    let error = check(Resource::Services, json!({"spec": {"ports": [{"port": 1e10}]}})).unwrap_err();
    assert!(error.0.contains("cannot unmarshal number"), "{error}");
    check(Resource::Services, json!([])).unwrap_err();
}

#[test]
fn bodies_of_no_kind() {
    let found = body(br#"{"spec":{"a":1,"a":2},"list":[{"b":1,"b":2}]}"#).unwrap();
    assert_eq!(found.value, json!({"spec": {"a": 2}, "list": [{"b": 2}]}));
    assert_eq!(found.strict, ["duplicate field \"spec.a\"", "duplicate field \"list[0].b\""]);
    assert_eq!(body(b"[{}").unwrap_err(), "unexpected end of JSON input");
    assert_eq!(body(b"a: 1\n").unwrap().value, json!({"a": 1}));
}

#[test]
fn every_kind_is_read() {
    for info in &RESOURCES {
        let object = json!({"kind": info.kind, "apiVersion": info.api_version(), "metadata": {"name": "a"}});
        let request = check(info.resource, object.clone()).unwrap();
        assert_eq!(request.object["kind"], info.kind);
        assert_eq!(request.object["metadata"], object["metadata"]);
        // What it wrote it reads the same.
        assert_eq!(check(info.resource, request.object.clone()).unwrap().object, request.object);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        for info in &RESOURCES {
            let _ = read(info.resource, &bytes);
        }
    }

    #[test]
    fn no_json_makes_it_panic(object in crate::k8s::arbitrary::object()) {
        for info in &RESOURCES {
            if let Ok(request) = check(info.resource, object.clone()) {
                let again = check(info.resource, request.object.clone()).unwrap();
                prop_assert_eq!(again.object, request.object);
                prop_assert!(again.strict.is_empty());
            }
        }
    }
}
