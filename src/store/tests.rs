use std::net::IpAddr;

use super::*;
use crate::k8s::decode::decode;
use crate::k8s::ip::Trust;
use crate::k8s::table;

const SERVICE: &str = include_str!("../../configs/services/nodeport.yml");
const PODS: &str = include_str!("../../configs/pods/myapp.yml");

fn store() -> Store {
    Store::new(Options {
        node_port_range: 30000..=32767,
        cluster_ip_range: "10.96.0.0/16".parse().unwrap(),
        node_name: "here".into(),
    })
}

/// Puts a file into the store; it must decode without any problem.
fn put(store: &mut Store, file: &str, text: &str) {
    let file: Arc<str> = file.into();
    let decoded = decode(&file, text.as_bytes(), Trust::File).unwrap();
    assert_eq!(decoded.problems, []);
    store.replace_file(&file, decoded);
}

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn endpoints(world: &World, service: &str) -> Vec<String> {
    let slices = world.slices.get(&key(service)).cloned().unwrap_or_default();
    let mut found: Vec<String> = slices
        .iter()
        .flat_map(|slice| {
            slice.endpoints.iter().flat_map(|endpoint| {
                slice.ports.iter().map(|port| format!("{}:{}", endpoint.address, port.port))
            })
        })
        .collect();
    found.sort();
    found
}

#[test]
fn the_sample_manifests_are_served() {
    let mut store = store();
    put(&mut store, "service.yml", SERVICE);
    put(&mut store, "pods.yml", PODS);
    assert_eq!(store.problems(), []);
    let world = store.world();
    let service = &world.services[&key("node-port-service")];
    assert_eq!(service.ports[0].node_port, Some(30008));
    assert_eq!(service.external_ips, ["1.2.3.110".parse::<IpAddr>().unwrap()]);
    assert_eq!(endpoints(&world, "node-port-service"), ["127.0.0.2:80", "127.0.0.3:80", "127.0.0.4:80"]);
    let ip = service.cluster_ips[0];
    assert_eq!(
        table::services(store.services(), false).replace("0s\n", "AGE\n"),
        format!(
            "NAME                TYPE       CLUSTER-IP{pad}   EXTERNAL-IP   PORT(S)        AGE\n\
             node-port-service   NodePort   {ip}   1.2.3.110     80:30008/TCP   AGE\n",
            pad = " ".repeat(ip.to_string().len() - 10)
        )
    );
}
