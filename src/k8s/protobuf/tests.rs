use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::k8s::decode::request;
use crate::k8s::resource::Resource;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// `kubectl create service nodeport web --tcp=80:8080 --tcp=443:https --node-port=30080`, of kubectl 1.33
const NODE_PORT: &str = "6b3873000a0d0a0276311207536572766963651290010a1f0a0377656212001a0022002a003200380042005a0a0a03617070\
                         120377656212690a1d0a0738302d38303830120354435018502207080010903f1a002880eb010a240a093434332d6874747073\
                         120354435018bb03220b080110001a0568747470732880eb01120a0a0361707012037765621a0022084e6f6465506f72743a00\
                         420052005a00600068001a020a001a002200";
/// `kubectl create service clusterip ip --tcp=5678:8080 --clusterip=None`
const CLUSTER_IP: &str = "6b3873000a0d0a027631120753657276696365126d0a1d0a02697012001a0022002a003200380042005a090a03617070120269\
                          7012480a1e0a09353637382d38303830120354435018ae2c2207080010903f1a00280012090a03617070120269701a044e6f6e\
                          652209436c757374657249503a00420052005a00600068001a020a001a002200";
/// `kubectl create service loadbalancer lb --tcp=80`
const LOAD_BALANCER: &str = "6b3873000a0d0a02763112075365727669636512630a1d0a026c6212001a0022002a003200380042005a090a0361707012026c\
                             62123e0a150a023830120354435018502206080010501a00280012090a0361707012026c621a00220c4c6f616442616c616e63\
                             65723a00420052005a00600068001a020a001a002200";
/// `kubectl create service externalname en --external-name=bar.com`
const EXTERNAL_NAME: &str = "6b3873000a0d0a02763112075365727669636512530a1d0a02656e12001a0022002a003200380042005a090a03617070120265\
                             6e122e12090a036170701202656e1a00220c45787465726e616c4e616d653a00420052076261722e636f6d5a00600068001a02\
                             0a001a002200";
/// `kubectl create namespace team-a`
const NAMESPACE: &str = "6b3873000a0f0a02763112094e616d657370616365121e0a160a067465616d2d6112001a0022002a0032003800420012001a020a001a\
                         002200";

#[test]
fn what_kubectl_sends() {
    let spec = |hex: &str| {
        let object = decode(&bytes(hex)).unwrap();
        // It is what the API reads as JSON.
        assert_eq!(request::check(Resource::Services, object.clone()).unwrap().strict, [""; 0]);
        object["spec"].clone()
    };
    assert_eq!(
        decode(&bytes(NODE_PORT)).unwrap(),
        json!({
            "kind": "Service", "apiVersion": "v1", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "type": "NodePort", "selector": {"app": "web"},
                "ports": [
                    {"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080},
                    {"name": "443-https", "protocol": "TCP", "port": 443, "targetPort": "https", "nodePort": 30080}
                ]
            }
        })
    );
    spec(NODE_PORT);
    let cluster_ip = spec(CLUSTER_IP);
    assert_eq!((&cluster_ip["clusterIP"], &cluster_ip["type"]), (&json!("None"), &json!("ClusterIP")));
    assert_eq!(
        cluster_ip["ports"][0],
        json!({"name": "5678-8080", "protocol": "TCP", "port": 5678, "targetPort": 8080})
    );
    assert_eq!(spec(LOAD_BALANCER)["type"], "LoadBalancer");
    assert_eq!(
        spec(EXTERNAL_NAME),
        json!({"type": "ExternalName", "externalName": "bar.com", "selector": {"app": "en"}})
    );
    assert_eq!(
        decode(&bytes(NAMESPACE)).unwrap(),
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "team-a"}})
    );
}

fn envelope(version: &str, kind: &str, raw: Vec<u8>, encoding: &str) -> Vec<u8> {
    let type_meta = messages::TypeMeta { api_version: version.into(), kind: kind.into() };
    let unknown = Unknown { type_meta: Some(type_meta), raw, content_encoding: encoding.into() };
    [MAGIC.to_vec(), unknown.encode_to_vec()].concat()
}

#[test]
fn delete_options() {
    // gracePeriodSeconds 0, preconditions {uid u}, propagationPolicy Background, dryRun [All]
    let raw = bytes("080012030a0175220a4261636b67726f756e642a03416c6c");
    assert_eq!(
        decode(&envelope("v1", "DeleteOptions", raw, "")).unwrap(),
        json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"},
            "propagationPolicy": "Background", "dryRun": ["All"]
        })
    );
}

#[test]
fn what_is_refused() {
    let told = |body: &[u8]| decode(body).unwrap_err().to_string();
    assert_eq!(
        told(b"{}"),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    assert_eq!(
        told(&envelope("apps/v1", "Deployment", vec![], "")),
        "Deployment in version \"apps/v1\" is not read as application/vnd.kubernetes.protobuf: send it as \
         application/json"
    );
    assert!(told(&envelope("v1", "Service", vec![], "gzip")).contains("\"gzip\""));
    let broken = told(&envelope("v1", "Service", vec![0x0a, 0xff], ""));
    assert!(broken.starts_with("unable to decode Service: "), "{broken}");
    assert!(told(b"k8s\0\x0a\xff").starts_with("unable to decode the envelope: "));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>()) {
        for kind in ["Service", "Namespace", "DeleteOptions"] {
            let _ = decode(&envelope("v1", kind, raw.clone(), ""));
        }
        let mut body = bytes(NODE_PORT);
        let at = at.index(body.len());
        body.splice(at..at, raw);
        let _ = decode(&body);
    }
}
