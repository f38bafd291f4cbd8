use std::net::IpAddr;

use super::*;
use crate::k8s::decode::{Object, decode};
use crate::k8s::ip::Trust;

/// A Service and Pods from one text.
fn read(text: &str) -> (Service, Option<Distribution>, Vec<Arc<Pod>>, Zones) {
    let decoded = decode(&"f".into(), text.as_bytes(), Trust::File).unwrap();
    assert_eq!(decoded.refused, [], "{:?}", decoded.problems);
    let (mut service, mut pods, mut zones) = (None, Vec::new(), Zones::new());
    for written in decoded.objects {
        match written.object {
            Object::Service(request) => {
                let cluster_ips: Vec<IpAddr> =
                    ["10.96.0.5".parse().unwrap(), "fd00::5".parse().unwrap()].into();
                service = Some((Service { cluster_ips, ..request.service.clone() }, request.distribution));
            }
            Object::Pod(pod) => pods.push(pod),
            Object::Node(node) => zones.extend(node.zone.clone().map(|zone| (Arc::clone(&node.name), zone))),
            Object::EndpointSlice(_) => {}
        }
    }
    let (service, distribution) = service.unwrap();
    (service, distribution, pods, zones)
}

fn slices_of(text: &str) -> Vec<EndpointSlice> {
    let (service, distribution, pods, zones) = read(text);
    let families: Vec<Family> = service.cluster_ips.iter().map(|ip| Family::of(*ip)).collect();
    slices(&service, &families, distribution, &pods, &zones)
}

fn service(spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{selector: {{app: web}}, {spec}}}}}\n"
    )
}

fn pod(name: &str, meta: &str, spec: &str, status: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: web}}{meta}}}, \
         spec: {{{spec}}}, status: {{{status}}}}}\n"
    )
}

const READY: &str = "podIP: 10.0.0.1, conditions: [{type: Ready, status: \"True\"}]";
const UNREADY: &str = "podIP: 10.0.0.1, conditions: [{type: Ready, status: \"False\"}]";
const DYING: &str = ", deletionTimestamp: \"2026-01-02T03:04:05Z\"";

/// TestPodToEndpoint.
#[test]
fn conditions_of_an_endpoint() {
    // (publishNotReadyAddresses, metadata, status) → (ready, serving, terminating)
    let table = [
        (false, "", READY, (true, true, false)),
        (false, "", UNREADY, (false, false, false)),
        (true, "", UNREADY, (true, false, false)),
        (false, DYING, READY, (false, true, true)),
        (false, DYING, UNREADY, (false, false, true)),
        (true, DYING, READY, (true, true, true)),
        (true, DYING, UNREADY, (true, false, true)),
    ];
    for (publish, meta, status, expected) in table {
        let spec = format!("ports: [{{port: 80}}], publishNotReadyAddresses: {publish}");
        let slices = slices_of(&(service(&spec) + &pod("a", meta, "nodeName: n1", status)));
        let endpoint = &slices[0].endpoints[0];
        assert_eq!(
            (endpoint.ready, endpoint.serving, endpoint.terminating),
            expected,
            "{publish} {meta} {status}"
        );
        assert_eq!((endpoint.node.as_deref(), endpoint.pod.as_deref()), (Some("n1"), Some("a")));
    }
}

#[test]
fn pods_that_are_no_endpoints() {
    for status in ["phase: Succeeded, podIP: 10.0.0.1", "phase: Failed, podIP: 10.0.0.1", "phase: Pending"] {
        assert_eq!(slices_of(&(service("ports: [{port: 80}]") + &pod("a", "", "", status))), [], "{status}");
    }
}

#[test]
fn named_ports_that_differ_make_a_slice_each() {
    let spec = "ports: [{name: web, port: 80, targetPort: http}, {name: fix, port: 81, targetPort: 8081}]";
    let named =
        |port: u16| format!("containers: [{{name: c, ports: [{{name: http, containerPort: {port}}}]}}]");
    let text = service(spec)
        + &pod("a", "", &named(8080), READY)
        + &pod("b", "", &named(9090), &READY.replace("10.0.0.1", "10.0.0.2"))
        + &pod("c", "", &named(8080), &READY.replace("10.0.0.1", "10.0.0.3"))
        + &pod("d", "", "", &READY.replace("10.0.0.1", "10.0.0.4"));
    let slices = slices_of(&text);
    #[allow(clippy::type_complexity, reason = "a table")]
    let mut shape: Vec<(Vec<(String, u16)>, Vec<String>)> = slices
        .iter()
        .map(|slice| {
            let ports = slice.ports.iter().map(|port| (port.name.to_string(), port.port)).collect();
            (ports, slice.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect())
        })
        .collect();
    shape.sort();
    let port = |name: &str, number| (name.to_owned(), number);
    assert_eq!(
        shape,
        [
            (vec![port("fix", 8081)], vec!["10.0.0.4".to_owned()]),
            (vec![port("web", 8080), port("fix", 8081)], vec!["10.0.0.1".to_owned(), "10.0.0.3".to_owned()]),
            (vec![port("web", 9090), port("fix", 8081)], vec!["10.0.0.2".to_owned()]),
        ]
    );
    let names: std::collections::BTreeSet<_> = slices.iter().map(|slice| &slice.key).collect();
    assert_eq!(names.len(), 3);
}

#[test]
fn each_family_has_its_slices() {
    let both = "podIPs: [{ip: 10.0.0.1}, {ip: \"fd00::1\"}], conditions: [{type: Ready, status: \"True\"}]";
    let slices = slices_of(&(service("ports: [{port: 80}]") + &pod("a", "", "", both)));
    let addresses: Vec<String> = slices.iter().map(|slice| slice.endpoints[0].address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
    assert_ne!(slices[0].key, slices[1].key);
}

#[test]
fn large_services_have_several_slices() {
    let mut text = service("ports: [{port: 80}]");
    for i in 0..250 {
        text += &pod(&format!("p{i:03}"), "", "", &READY.replace("10.0.0.1", &format!("10.0.1.{i}")));
    }
    let sizes: Vec<usize> = slices_of(&text).iter().map(|slice| slice.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[test]
fn traffic_distribution_becomes_hints() {
    let nodes = "---\n{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}}\n";
    let pods = pod("a", "", "nodeName: n1", READY)
        + &pod("b", "", "nodeName: n2", &READY.replace("10.0.0.1", "10.0.0.2"))
        + &pod("c", "", "nodeName: n1", &UNREADY.replace("10.0.0.1", "10.0.0.3"));
    let hints = |distribution: &str| {
        let spec = format!("ports: [{{port: 80}}]{distribution}");
        let slices = slices_of(&(service(&spec) + nodes + &pods));
        let texts = slices[0]
            .endpoints
            .iter()
            .map(|endpoint| format!("{} {}", endpoint.zone_hints.join(","), endpoint.node_hints.join(",")));
        texts.collect::<Vec<_>>()
    };
    assert_eq!(hints(""), [" ", " ", " "]);
    assert_eq!(hints(", trafficDistribution: PreferClose"), ["z1 ", " ", " "]);
    assert_eq!(hints(", trafficDistribution: PreferSameZone"), ["z1 ", " ", " "]);
    assert_eq!(hints(", trafficDistribution: PreferSameNode"), ["z1 n1", " n2", " "]);
}
