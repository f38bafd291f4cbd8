mod property;

use std::net::IpAddr;

use super::slices::same;
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

fn service(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: 80}}], {spec}}}}}\n"
    )
}

fn node_port(name: &str, number: u16) -> String {
    let spec = format!("type: NodePort, ports: [{{port: 80, nodePort: {number}}}]");
    format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n")
}

fn pod(name: &str, app: &str, ip: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {app}, tier: x}}}}, \
         status: {{podIP: {ip}, conditions: [{{type: Ready, status: \"True\"}}]}}}}\n"
    )
}

fn messages(store: &Store) -> Vec<String> {
    store.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn a_pod_touches_only_the_services_that_select_it() {
    let mut store = store();
    let mut services = String::new();
    let mut pods = String::new();
    for i in 0..300 {
        services += "---\n";
        services += &service(&format!("s{i}"), &format!("selector: {{tier: x, app: a{i}}}"));
        pods += &pod(&format!("p{i}"), &format!("a{i}"), "10.0.0.1");
    }
    put(&mut store, "services", &services);
    put(&mut store, "pods", &pods);
    put(&mut store, "extra", &pod("extra", "a7", "10.0.0.2"));
    let before = store.world();
    put(&mut store, "extra", &pod("extra", "a7", "10.0.0.3"));
    let after = store.world();
    assert_eq!(endpoints(&after, "s7"), ["10.0.0.1:80", "10.0.0.3:80"]);
    for i in 0..300 {
        let key = key(&format!("s{i}"));
        assert!(Arc::ptr_eq(&before.services[&key], &after.services[&key]));
        let (old, new) = (&before.slices[&key], &after.slices[&key]);
        assert_eq!(old.iter().zip(new.iter()).all(same), i != 7, "s{i}");
    }
    put(&mut store, "extra", &pod("extra", "elsewhere", "10.0.0.3"));
    assert_eq!(endpoints(&store.world(), "s7"), ["10.0.0.1:80"]);
}

#[test]
fn the_same_text_again_changes_nothing() {
    let mut store = store();
    let text = SERVICE.to_owned() + "---\n" + PODS;
    put(&mut store, "a", &text);
    let before = store.world();
    put(&mut store, "a", &("# moved by a line\n".to_owned() + &text));
    let after = store.world();
    assert!(before.services.ptr_eq(&after.services));
    assert!(before.slices.ptr_eq(&after.slices));
}

#[test]
fn selectors_need_all_their_labels_and_the_same_namespace() {
    let mut store = store();
    put(&mut store, "s", &service("both", "selector: {app: a, tier: x}"));
    put(&mut store, "t", &service("other", "selector: {app: a, tier: z}"));
    put(&mut store, "u", &service("none", "selector: {}"));
    let elsewhere = pod("far", "a", "10.0.0.9").replace("name: far", "name: far, namespace: far");
    put(&mut store, "p", &(pod("p", "a", "10.0.0.1") + &elsewhere));
    let world = store.world();
    assert_eq!(endpoints(&world, "both"), ["10.0.0.1:80"]);
    assert!(endpoints(&world, "other").is_empty() && endpoints(&world, "none").is_empty());
    put(&mut store, "t", &service("other", "selector: {app: a}"));
    assert_eq!(endpoints(&store.world(), "other"), ["10.0.0.1:80"]);
}

#[test]
fn slices_written_by_hand_are_used_as_they_are() {
    let mut store = store();
    put(&mut store, "s", &service("ext", ""));
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ext-1, labels: {kubernetes.io/service-name: ext}}, \
                 addressType: IPv4, ports: [{port: 8080}], endpoints: [{addresses: [127.0.0.9]}]}";
    put(&mut store, "e", slice);
    assert_eq!(endpoints(&store.world(), "ext"), ["127.0.0.9:8080"]);
    put(&mut store, "e", &slice.replace("service-name: ext", "service-name: other"));
    assert!(endpoints(&store.world(), "ext").is_empty());
    assert_eq!(endpoints(&store.world(), "other"), ["127.0.0.9:8080"]);
    store.apply(vec![("e".into(), Change::Removed)]);
    assert!(store.world().slices.is_empty());
}

#[test]
fn headless_and_external_name_services_are_known_but_not_served() {
    let mut store = store();
    put(&mut store, "a", &service("headless", "clusterIP: None, selector: {app: a}"));
    put(&mut store, "b", &service("dns", "type: ExternalName, externalName: example.com"));
    put(&mut store, "p", &pod("p", "a", "10.0.0.1"));
    let world = store.world();
    assert!(world.services.is_empty() && world.slices.is_empty());
    let table = table::services(store.services(), true).replace("0s", "AGE");
    assert_eq!(
        table,
        "NAMESPACE   NAME       TYPE           CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n\
         default     dns        ExternalName   <none>       example.com   80/TCP    AGE\n\
         default     headless   ClusterIP      None         <none>        80/TCP    AGE\n"
    );
    put(&mut store, "a", &service("headless", "selector: {app: a}"));
    assert_eq!(endpoints(&store.world(), "headless"), ["10.0.0.1:80"]);
}

#[test]
fn the_file_that_was_loaded_first_counts() {
    let mut store = store();
    put(&mut store, "z", &node_port("web", 30001));
    put(&mut store, "a", &node_port("web", 30002));
    let number = |store: &Store| store.world().services[&key("web")].ports[0].node_port;
    assert_eq!(number(&store), Some(30001));
    assert_eq!(
        messages(&store),
        [
            "a:2:1: Service default/web: is already defined at z:2:1, which counts (give it another name, or remove one of the two)"
        ]
    );
    store.apply(vec![("z".into(), Change::Removed)]);
    assert_eq!((number(&store), messages(&store)), (Some(30002), vec![]));
    put(&mut store, "a", &(node_port("web", 30002) + &node_port("web", 30003)));
    assert_eq!(number(&store), Some(30002));
    assert_eq!(
        messages(&store),
        [
            "a:4:1: Service default/web: is already defined earlier in the same file, which counts (give it another name, or remove one of the two)"
        ]
    );
    store.apply(vec![("a".into(), Change::Removed)]);
    assert!(store.world().services.is_empty() && store.services().is_empty());
}

#[test]
fn a_taken_node_port_is_refused_until_it_is_free() {
    let mut store = store();
    put(&mut store, "a", &node_port("first", 30080));
    put(&mut store, "b", &node_port("second", 30080));
    assert_eq!(
        messages(&store),
        [
            "b:2:111: Service default/second: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated (Service default/first has it)"
        ]
    );
    assert_eq!(store.world().services.len(), 1);
    store.apply(vec![("a".into(), Change::Removed)]);
    assert_eq!(store.world().services[&key("second")].ports[0].node_port, Some(30080));
    assert_eq!(messages(&store), Vec::<String>::new());
}

#[test]
fn services_of_one_change_may_swap_their_ports() {
    let mut store = store();
    put(&mut store, "a", &(node_port("one", 30001) + &node_port("two", 30002)));
    put(&mut store, "a", &(node_port("one", 30002) + &node_port("two", 30003)));
    let world = store.world();
    assert_eq!(messages(&store), Vec::<String>::new());
    assert_eq!(world.services[&key("one")].ports[0].node_port, Some(30002));
    assert_eq!(world.services[&key("two")].ports[0].node_port, Some(30003));
}

#[test]
fn a_refused_change_leaves_the_service_as_it_was() {
    let mut store = store();
    put(&mut store, "a", &(node_port("one", 30001) + &node_port("two", 30002)));
    put(&mut store, "a", &(node_port("one", 30002) + &node_port("two", 30002)));
    assert_eq!(store.problems().len(), 1);
    assert_eq!(store.world().services[&key("one")].ports[0].node_port, Some(30001));

    put(&mut store, "a", &(node_port("one", 30001) + &node_port("two", 30002)));
    let file: Arc<str> = "a".into();
    let bad = node_port("one", 30001).replace("port: 80,", "port: 0,") + &node_port("two", 30002);
    store.replace_file(&file, decode(&file, bad.as_bytes(), Trust::File).unwrap());
    assert_eq!(store.world().services.len(), 2, "an invalid object keeps its last good form");
    assert_eq!(store.problems(), []);
}

#[test]
fn automatic_numbers_stay_over_reloads_and_restarts() {
    let text = service("web", "type: NodePort");
    let numbers = |store: &Store| {
        let service = store.world().services[&key("web")].clone();
        (service.ports[0].node_port, service.cluster_ips.clone(), service.age_rank)
    };
    let mut one = store();
    put(&mut one, "a", &text);
    let before = numbers(&one);
    put(&mut one, "b", &node_port("other", 30500));
    put(&mut one, "a", &service("web", "type: NodePort, sessionAffinity: ClientIP"));
    assert_eq!(numbers(&one), before);
    let mut two = store();
    put(&mut two, "a", &text);
    assert_eq!((numbers(&two).0, numbers(&two).1), (before.0, before.1));
}

#[test]
fn what_one_file_asks_for_is_not_given_away_by_another_one_read_before() {
    let mut first = store();
    put(&mut first, "a", &service("web", "type: NodePort"));
    let service_of = |store: &Store, name: &str| store.world().services[&key(name)].clone();
    let automatic = service_of(&first, "web");
    let number = automatic.ports[0].node_port.unwrap();
    let greedy = node_port("greedy", number)
        .replace("{type", &format!("{{clusterIP: {}, type", automatic.cluster_ips[0]));

    let mut second = store();
    let decoded = |name: &str, text: &str| {
        let file: Arc<str> = name.into();
        let decoded = decode(&file, text.as_bytes(), Trust::File).unwrap();
        (file, Change::Replaced(decoded))
    };
    second.apply(vec![decoded("a", &service("web", "type: NodePort")), decoded("b", &greedy)]);
    assert_eq!(messages(&second), Vec::<String>::new());
    assert_eq!(service_of(&second, "greedy").ports[0].node_port, Some(number));
    assert_ne!(service_of(&second, "web").ports[0].node_port, Some(number));
    assert_ne!(service_of(&second, "web").cluster_ips, automatic.cluster_ips);
}

#[test]
fn cluster_ips_that_are_refused() {
    let mut store = store();
    put(&mut store, "a", &service("one", "clusterIP: 10.96.1.1"));
    put(&mut store, "b", &service("two", "clusterIP: 10.96.1.1"));
    put(&mut store, "c", &service("three", "clusterIP: 10.1.2.3"));
    assert_eq!(
        messages(&store),
        [
            "c:1:97: Service default/three: spec.clusterIPs: Invalid value: []string{\"10.1.2.3\"}: failed to allocate IP 10.1.2.3: the provided IP (10.1.2.3) is not in the valid range. The range of valid IPs is 10.96.0.0/16 (leave clusterIP out, or give the range with --service-cluster-ip-range)",
            "b:1:95: Service default/two: spec.clusterIPs: Invalid value: []string{\"10.96.1.1\"}: failed to allocate IP 10.96.1.1: provided IP is already allocated (Service default/one has it)",
        ]
    );
}

#[test]
fn two_families_have_an_address_each() {
    let mut store = store();
    put(&mut store, "a", &service("web", "ipFamilyPolicy: PreferDualStack"));
    put(&mut store, "b", &service("six", "ipFamilies: [IPv6]"));
    let ips = |name: &str| store.world().services[&key(name)].cluster_ips.clone();
    assert!(ips("web").len() == 2 && ips("web")[0].is_ipv4() && ips("web")[1].is_ipv6());
    assert!(ips("six").len() == 1 && ips("six")[0].is_ipv6());
}

#[test]
fn older_services_have_lower_ranks() {
    let mut store = store();
    let dated = |name: &str, year: u32| {
        let meta = format!("name: {name}, creationTimestamp: \"{year}-01-01T00:00:00Z\"");
        service(name, "").replace(&format!("name: {name}"), &meta)
    };
    put(&mut store, "a", &service("unknown", ""));
    put(&mut store, "b", &dated("young", 2020));
    put(&mut store, "c", &dated("old", 2010));
    put(&mut store, "d", &service("later", ""));
    let world = store.world();
    let rank = |name: &str| world.services[&key(name)].age_rank;
    assert!(
        rank("old") < rank("young") && rank("young") < rank("unknown") && rank("unknown") < rank("later")
    );
}

#[test]
fn this_node_has_the_zone_of_its_node_object() {
    let mut store = store();
    let node = |zone| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: here, labels: {{topology.kubernetes.io/zone: {zone}}}}}}}"
        )
    };
    assert_eq!((&*store.world().node.name, &store.world().node.zone), ("here", &None));
    put(&mut store, "n", &node("z1"));
    assert_eq!(store.world().node.zone.as_deref(), Some("z1"));
    put(&mut store, "s", &service("web", "selector: {app: a}, trafficDistribution: PreferClose"));
    put(
        &mut store,
        "p",
        &pod("p", "a", "10.0.0.1").replace("status: {", "spec: {nodeName: here}, status: {"),
    );
    let hints = |store: &Store| store.world().slices[&key("web")][0].endpoints[0].zone_hints.clone();
    assert_eq!(hints(&store), ["z1".into()]);
    put(&mut store, "n", &node("z2"));
    assert_eq!(hints(&store), ["z2".into()]);
    store.apply(vec![("n".into(), Change::Removed)]);
    assert_eq!((store.world().node.zone.clone(), hints(&store)), (None, vec![]));
}
