use proptest::prelude::*;

use super::*;

const SERVICE: &str = include_str!("../../../configs/services/nodeport.yml");
const PODS: &str = include_str!("../../../configs/pods/myapp.yml");

fn decode_text(text: &str) -> Decoded {
    decode(&"f.yml".into(), text.as_bytes(), Trust::File).unwrap()
}

/// The problems as they are printed.
fn problems(text: &str) -> Vec<String> {
    decode_text(text).problems.iter().map(ToString::to_string).collect()
}

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n{spec}")
}

#[test]
fn the_sample_manifests() {
    let decoded = decode_text(SERVICE);
    assert_eq!(decoded.problems, []);
    let [Written { object: Object::Service(service), origin, .. }] = decoded.objects.as_slice() else {
        panic!("{:?}", decoded.objects)
    };
    assert_eq!(origin.to_string(), "f.yml:1:1");
    assert_eq!(service.service.key.to_string(), "default/node-port-service");
    assert_eq!(service.node_ports, [30008]);

    let decoded = decode_text(PODS);
    assert_eq!((decoded.objects.len(), decoded.problems.len()), (3, 0));
}

#[test]
fn unknown_and_duplicate_fields_are_named_with_their_place() {
    let text = service(
        "  foo: 1\n  type: NodePort\n  ports:\n  - port: 80\n    nodeport: 30080\n  type: ClusterIP\n",
    );
    assert_eq!(
        problems(&text),
        [
            "f.yml:5:3: Service default/web: unknown field \"spec.foo\"",
            "f.yml:9:5: Service default/web: unknown field \"spec.ports[0].nodeport\" (did you mean nodePort?)",
            "f.yml:10:3: Service default/web: duplicate field \"spec.type\"",
        ]
    );
    assert_eq!(decode_text(&text).refused.len(), 1);
}

#[test]
fn unknown_fields_are_found_anywhere_in_the_schema() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, label: {}}\nspec:\n  containers:\n  - name: c\n    \
                ports: [{containerPort: 80, x: 1}]\n    env: [{name: A, valueFrom: {fieldRef: {path: b}}}]\nextra: 1\n";
    let found = problems(text);
    for field in [
        "metadata.label",
        "spec.containers[0].ports[0].x",
        "spec.containers[0].env[0].valueFrom.fieldRef.path",
        "extra",
    ] {
        let message = format!("unknown field \"{field}\"");
        assert!(found.iter().any(|problem| problem.contains(&message)), "{field}: {found:?}");
    }
}

#[test]
fn duplicate_keys_of_labels_are_found_too() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    a: x\n    a: y\nspec: {ports: [{port: 1}]}\n";
    assert_eq!(problems(text), ["f.yml:7:5: Service default/web: duplicate field \"metadata.labels[a]\""]);
}

#[test]
fn wrong_types_in_the_words_of_go_and_all_of_them() {
    let text = service(
        "  type: 5\n  selector: {app: 1, on: \"x\"}\n  externalIPs: 1.2.3.4\n  publishNotReadyAddresses: \"yes\"\n  \
         ports:\n  - port: http\n    nodePort: \"30080\"\n    targetPort: true\n  - 80\n  - port: 3000000000\n  - port: 80.5\n",
    );
    let prefix = "Service default/web: ";
    let found: Vec<String> =
        problems(&text).iter().map(|p| p.split_once(prefix).unwrap().1.to_owned()).collect();
    assert_eq!(
        found,
        [
            "spec.type: json: cannot unmarshal number into Go struct field ServiceSpec.spec.type of type string \
         (write it in quotes, \"5\")",
            "spec.selector[app]: json: cannot unmarshal number into Go struct field ServiceSpec.spec.selector of \
         type string (write it in quotes, \"1\")",
            "spec.externalIPs: json: cannot unmarshal string into Go struct field ServiceSpec.spec.externalIPs of \
         type []string",
            "spec.publishNotReadyAddresses: json: cannot unmarshal string into Go struct field \
         ServiceSpec.spec.publishNotReadyAddresses of type bool",
            "spec.ports[0].port: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port \
         of type int32",
            "spec.ports[0].nodePort: json: cannot unmarshal string into Go struct field \
         ServicePort.spec.ports.nodePort of type int32 (write it without quotes, 30080)",
            "spec.ports[0].targetPort: json: cannot unmarshal bool into Go struct field \
         ServicePort.spec.ports.targetPort of type int32",
            "spec.ports[1]: json: cannot unmarshal number into Go struct field ServiceSpec.spec.ports of type \
         v1.ServicePort",
            "spec.ports[2].port: json: cannot unmarshal number 3000000000 into Go struct field \
         ServicePort.spec.ports.port of type int32",
            "spec.ports[3].port: json: cannot unmarshal number 80.5 into Go struct field \
         ServicePort.spec.ports.port of type int32",
        ]
    );
}

#[test]
fn lists_and_maps_of_the_wrong_kind() {
    let found = problems(&service("  ports:\n    port: 80\n  selector: [a]\n"));
    assert_eq!(
        found,
        [
            "f.yml:6:5: Service default/web: spec.ports: json: cannot unmarshal object into Go struct field \
         ServiceSpec.spec.ports of type []v1.ServicePort (begin each item with \"- \")",
            "f.yml:7:13: Service default/web: spec.selector: json: cannot unmarshal array into Go struct field \
         ServiceSpec.spec.selector of type map[string]string",
        ]
    );
}

#[test]
fn null_is_as_if_it_were_not_there() {
    let text =
        service("  type: null\n  selector: ~\n  ports:\n  - port: 80\n    name:\n    nodePort: null\n");
    assert_eq!(problems(&text), Vec::<String>::new());
}

#[test]
fn quantities_may_be_numbers() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    resources: {limits: {cpu: 2, memory: 1Gi}, requests: {cpu: 0.5}}\nstatus: {phase: Failed}\n";
    assert_eq!(problems(text), Vec::<String>::new());
}

#[test]
fn times_that_are_none_have_a_place() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  creationTimestamp: tomorrow\nspec: {ports: [{port: 1}]}\n";
    let found = problems(text);
    assert!(
        found[0].starts_with("f.yml:5:22: Service default/web: metadata.creationTimestamp: "),
        "{found:?}"
    );
}

#[test]
fn validation_has_the_place_of_the_field() {
    let text =
        service("  type: Nodeport\n  ports:\n  - name: a\n    port: 0\n    targetPort: 80\n  - port: 81\n");
    assert_eq!(
        problems(&text),
        [
            "f.yml:5:9: Service default/web: spec.type: Unsupported value: \"Nodeport\": supported values: \
         \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\" (did you mean \"NodePort\"?)",
            "f.yml:8:11: Service default/web: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, \
         inclusive",
            "f.yml:10:5: Service default/web: spec.ports[1].name: Required value",
        ]
    );
}

#[test]
fn a_bad_object_does_not_lose_the_others() {
    let good = service("  ports: [{port: 80}]\n");
    let bad = good.replace("web", "Bad_Name");
    let decoded = decode_text(&format!("{bad}---\n{good}---\njust text\n---\n{}", good.replace("web", "b")));
    let names: Vec<String> = decoded.objects.iter().map(|o| o.object.id().to_string()).collect();
    assert_eq!(names, ["Service default/web", "Service default/b"]);
    assert_eq!(
        decoded.refused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["Service default/Bad_Name"]
    );
    assert_eq!(
        decoded.problems[1].to_string(),
        "f.yml:13:1: the document is not an object (an object begins like apiVersion: v1, kind: Service)"
    );
}

#[test]
fn lists_are_opened() {
    let item = "{apiVersion: v1, kind: Service, metadata: {name: N}, spec: {ports: [{port: 80}]}}";
    let text = format!(
        "apiVersion: v1\nkind: List\nmetadata: {{}}\nitems:\n- {}\n- {}\n---\napiVersion: v1\nkind: PodList\nitems:\n- metadata: {{name: p}}\n  status: {{podIP: 127.0.0.1, conditions: [{{type: Ready, status: \"True\"}}]}}\n",
        item.replace('N', "a"),
        item.replace('N', "b")
    );
    let decoded = decode_text(&text);
    assert_eq!(decoded.problems, []);
    let names: Vec<String> = decoded.objects.iter().map(|o| o.object.id().to_string()).collect();
    assert_eq!(names, ["Service default/a", "Service default/b", "Pod default/p"]);
    assert_eq!(decoded.documents, 3);
}

#[test]
fn kinds_that_are_not_served() {
    let table = [
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nanything: true\n",
            Severity::Warning,
            "f.yml:2:7: Deployment d: Deployment (apps/v1) is not served by ringport and is ignored",
        ),
        (
            "apiVersion: v1\nkind: service\n",
            Severity::Error,
            "f.yml:2:7: service: kind: no kind \"service\" is registered for version \"v1\" (did you mean Service?)",
        ),
        (
            "apiVersion: v2\nkind: Service\n",
            Severity::Error,
            "f.yml:2:7: Service: apiVersion: no kind \"Service\" is registered for version \"v2\" (write apiVersion: v1)",
        ),
        (
            "apiVersion: serving.knative.dev/v1\nkind: Service\n",
            Severity::Warning,
            "f.yml:2:7: Service: Service (serving.knative.dev/v1) is not served by ringport and is ignored",
        ),
        (
            "kind: Service\n",
            Severity::Error,
            "f.yml:1:1: apiVersion not set (an object begins like apiVersion: v1, kind: Service)",
        ),
        (
            "a: 1\n",
            Severity::Error,
            "f.yml:1:1: apiVersion not set, kind not set (an object begins like apiVersion: v1, kind: Service)",
        ),
    ];
    for (text, severity, message) in table {
        let decoded = decode_text(text);
        assert_eq!(decoded.problems.len(), 1, "{text}");
        assert_eq!(
            (decoded.problems[0].severity, decoded.problems[0].to_string().as_str()),
            (severity, message)
        );
        assert!(decoded.objects.is_empty());
    }
}

#[test]
fn text_that_does_not_parse() {
    let error = decode(&"f.yml".into(), b"a: 1\nb: [\n", Trust::File).unwrap_err();
    assert!(error.to_string().starts_with("f.yml:2:4: error parsing: "), "{error}");
    let error = decode(&"f.yml".into(), b"a: 1\nb: \xff\n", Trust::File).unwrap_err();
    assert_eq!(error.to_string(), "f.yml:2: the text is not UTF-8 (save the file as UTF-8)");
}

#[test]
fn what_kubectl_get_prints_is_read() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  annotations: {a.b/c: d}\n  creationTimestamp: \"2026-01-02T03:04:05Z\"\n  \
                managedFields:\n  - apiVersion: v1\n    fieldsType: FieldsV1\n    fieldsV1: {\"f:spec\": {\"f:x\": {}}}\n    manager: kubectl\n    operation: Update\n    time: \"2026-01-02T03:04:05Z\"\n  \
                name: web\n  namespace: shop\n  resourceVersion: \"123\"\n  uid: 0f1e\nspec:\n  clusterIP: 10.96.1.1\n  clusterIPs: [10.96.1.1]\n  externalTrafficPolicy: Cluster\n  internalTrafficPolicy: Cluster\n  ipFamilies: [IPv4]\n  ipFamilyPolicy: SingleStack\n  ports:\n  - {nodePort: 30080, port: 80, protocol: TCP, targetPort: http}\n  selector: {app: web}\n  sessionAffinity: None\n  type: NodePort\nstatus:\n  loadBalancer: {}\n";
    let decoded = decode_text(text);
    assert_eq!(decoded.problems, []);
    let Object::Service(service) = &decoded.objects[0].object else { panic!() };
    assert_eq!(service.created, Some(1_767_323_045));
    assert_eq!(&*service.service.uid, "0f1e");
    assert_eq!(service.service.key.to_string(), "shop/web");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&"f".into(), &bytes, Trust::File);
    }

    #[test]
    fn no_text_of_yaml_signs_makes_it_panic(text in "[ \\-:{}\\[\\],&*!|>'\"%@`#?~a1\n\t]{0,200}") {
        let _ = decode(&"f".into(), text.as_bytes(), Trust::Api);
    }

    #[test]
    fn no_mutation_of_a_manifest_makes_it_panic(
        which in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..4, "[ -~\n]{0,6}"), 1..8),
    ) {
        let mut text: Vec<u8> = if which { SERVICE.into() } else { PODS.into() };
        for (at, delete, insert) in edits {
            let at = at.index(text.len());
            let end = (at + delete).min(text.len());
            text.splice(at..end, insert.bytes());
        }
        if let Ok(decoded) = decode(&"f".into(), &text, Trust::File) {
            for problem in decoded.problems {
                let origin = problem.origin.unwrap();
                prop_assert!(origin.line > 0);
                let lines = text.iter().filter(|&&b| b == b'\n').count() + 1;
                prop_assert!(origin.line as usize <= lines + 1);
            }
        }
    }
}
