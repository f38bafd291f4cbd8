//! What a world becomes, and what a change leaves alone.

mod flows;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::k8s::model::{Algorithm, ServiceKind, SliceEndpoint, SlicePort};
use crate::problem::Severity;
use crate::route::fixture::{WorldExt, ip, name, port, ready, service, slice, world};
use crate::types::ClientAddr;

fn compiler() -> Compiler {
    with_options(CompileOptions::default())
}

fn with_options(options: CompileOptions) -> Compiler {
    Compiler::new(options, 2)
}

/// Everything as text: `TCP *:30080 NodePort default/web -> 10.0.0.1:8080 10.0.0.2:8080`.
fn text(compiled: &Compiled) -> Vec<String> {
    let line = |frontend: &Arc<Frontend>| {
        let endpoints: Vec<_> = frontend.targets.endpoints.iter().map(|e| e.addr.to_string()).collect();
        let (key, kind, port) = (frontend.key, frontend.kind, &frontend.port.name);
        format!("{key} {kind:?} {port} -> {}", endpoints.join(" "))
    };
    compiled.frontends.values().map(line).collect()
}

fn problems(compiled: &Compiled) -> Vec<String> {
    compiled.problems.iter().map(Problem::to_string).collect()
}

fn frontend(compiled: &Compiled, text: &str) -> Arc<Frontend> {
    compiled.frontends.values().find(|f| f.key.to_string() == text).unwrap().clone()
}

/// A Service with every kind of address.
fn everything() -> Service {
    Service {
        kind: ServiceKind::LoadBalancer,
        cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")],
        external_ips: vec![ip("192.0.2.1")],
        load_balancer_ips: vec![ip("198.51.100.1")],
        ..service("web", 30080, 0)
    }
}

#[test]
fn a_node_port_service_is_served_on_every_address() {
    let world = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.2", "10.0.0.1"]);
    let compiled = compiler().compile(&world);
    assert_eq!(text(&compiled), ["TCP *:30080 NodePort default/web -> 10.0.0.1:8080 10.0.0.2:8080"]);
    assert!(compiled.changed && compiled.problems.is_empty());
    assert_eq!(compiled.changes.added.len(), 1);
}

#[test]
fn node_ports_are_served_on_chosen_addresses() {
    let addresses = NodePortAddresses::Only(vec![ip("192.168.0.1"), ip("fd00::1")]);
    let options = CompileOptions { nodeport_addresses: addresses, ..CompileOptions::default() };
    let world = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.1", "fd01::1"]);
    assert_eq!(
        text(&with_options(options).compile(&world)),
        [
            "TCP 192.168.0.1:30080 NodePort default/web -> 10.0.0.1:8080",
            "TCP [fd00::1]:30080 NodePort default/web -> [fd01::1]:8080",
        ]
    );
}

#[test]
fn node_ports_move_with_the_addresses_and_nothing_else_does() {
    let only = |addresses: &[&str]| NodePortAddresses::Only(addresses.iter().map(|a| ip(a)).collect());
    let options = CompileOptions { nodeport_addresses: only(&["192.0.2.7"]), ..CompileOptions::default() };
    let mut compiler = with_options(options);
    let world = world().with(with_external_ip("web", 30080, 0)).with_pods("web", &["10.0.0.1"]);
    let first = compiler.compile(&world);
    assert!(!compiler.set_nodeport_addresses(only(&["192.0.2.7"])));
    assert!(!compiler.compile(&world).changed);
    assert!(compiler.set_nodeport_addresses(only(&["192.0.2.8"])));
    let second = compiler.compile(&world);
    let keys = |keys: &[FrontendKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(keys(&second.changes.added), ["TCP 192.0.2.8:30080"]);
    assert_eq!(keys(&second.changes.removed), ["TCP 192.0.2.7:30080"]);
    assert!(second.changes.updated.is_empty());
    let (before, after) = (first.frontends.values().next(), second.frontends.values().next());
    assert!(Arc::ptr_eq(&before.unwrap().port, &after.unwrap().port), "the port's counters and limits stay");
}

#[test]
fn every_kind_of_address_is_served_and_cluster_ips_on_request() {
    let world = world().with(everything()).with_pods("web", &["10.0.0.1"]);
    let mut expected = vec![
        "TCP *:30080 NodePort default/web -> 10.0.0.1:8080",
        "TCP 192.0.2.1:80 ExternalIp default/web -> 10.0.0.1:8080",
        "TCP 198.51.100.1:80 LoadBalancer default/web -> 10.0.0.1:8080",
    ];
    assert_eq!(text(&compiler().compile(&world)), expected);
    expected.insert(1, "TCP 10.96.0.1:80 ClusterIp default/web -> 10.0.0.1:8080");
    expected.push("TCP [fd96::1]:80 ClusterIp default/web -> ");
    let options = CompileOptions { cluster_ips: true, ..CompileOptions::default() };
    assert_eq!(text(&with_options(options).compile(&world)), expected);
}

#[test]
fn frontends_of_equal_lists_share_one_route_and_one_list() {
    let world = world().with(everything()).with_pods("web", &["10.0.0.1", "10.0.0.2"]);
    let compiled = compiler().compile(&world);
    let first = frontend(&compiled, "TCP *:30080");
    for other in ["TCP 192.0.2.1:80", "TCP 198.51.100.1:80"] {
        let other = frontend(&compiled, other);
        assert!(Arc::ptr_eq(&first.port, &other.port) && Arc::ptr_eq(&first.targets, &other.targets));
    }
}

#[test]
fn a_wildcard_has_the_endpoints_of_both_families() {
    let world = world().with(service("web", 30080, 0)).with_pods("web", &["fd01::1", "10.0.0.1"]);
    assert_eq!(
        text(&compiler().compile(&world)),
        ["TCP *:30080 NodePort default/web -> 10.0.0.1:8080 [fd01::1]:8080"]
    );
}

#[test]
fn a_service_that_names_its_families_is_served_in_those() {
    const V4: &str = "TCP 0.0.0.0:30080 NodePort default/web -> 10.0.0.1:8080";
    const V6: &str = "TCP [::]:30080 NodePort default/web -> [fd01::1]:8080";
    const BOTH: &str = "TCP *:30080 NodePort default/web -> 10.0.0.1:8080 [fd01::1]:8080";
    for (cluster_ips, everywhere, chosen) in [
        (vec![ip("10.96.0.1")], V4, &["TCP 192.168.0.1:30080"][..]),
        (vec![ip("fd96::1")], V6, &["TCP [fd00::1]:30080"]),
        (vec![ip("fd96::1"), ip("10.96.0.1")], BOTH, &["TCP 192.168.0.1:30080", "TCP [fd00::1]:30080"]),
    ] {
        let service = Service { cluster_ips, any_family: false, ..service("web", 30080, 0) };
        let world = world().with(service).with_pods("web", &["10.0.0.1", "fd01::1"]);
        assert_eq!(text(&compiler().compile(&world)), [everywhere]);
        let addresses = NodePortAddresses::Only(vec![ip("192.168.0.1"), ip("fd00::1")]);
        let options = CompileOptions { nodeport_addresses: addresses, ..CompileOptions::default() };
        let compiled = with_options(options).compile(&world);
        assert_eq!(compiled.frontends.keys().map(ToString::to_string).collect::<Vec<_>>(), chosen);
        assert!(compiled.problems.is_empty());
    }
}

#[test]
fn policies_choose_the_list_by_kind_of_frontend() {
    let away = |address: &str| SliceEndpoint { node: Some("other".into()), ..ready(address) };
    let options = CompileOptions { cluster_ips: true, ..CompileOptions::default() };
    for (external, internal, outside, inside) in [
        (TrafficPolicy::Local, TrafficPolicy::Cluster, 1, 2),
        (TrafficPolicy::Cluster, TrafficPolicy::Local, 2, 1),
    ] {
        let service = Service { external_policy: external, internal_policy: internal, ..everything() };
        let slices = vec![slice("web", vec![ready("10.0.0.1"), away("10.0.0.2")])];
        let compiled =
            with_options(options.clone()).compile(&world().with(service).with_slices("web", slices));
        for (key, count) in [
            ("TCP *:30080", outside),
            ("TCP 192.0.2.1:80", outside),
            ("TCP 198.51.100.1:80", outside),
            ("TCP 10.96.0.1:80", inside),
        ] {
            assert_eq!(frontend(&compiled, key).targets.endpoints.len(), count, "{key} {external:?}");
            // The external policy is not for the node itself.
            let from_node = frontend(&compiled, key).from_node.endpoints.len();
            assert_eq!(from_node, if internal == TrafficPolicy::Local { count.max(1) } else { 2 }, "{key}");
        }
    }
}

#[test]
fn the_node_itself_is_told_by_its_addresses() {
    let away = |address: &str| SliceEndpoint { node: Some("other".into()), ..ready(address) };
    let local = Service { external_policy: TrafficPolicy::Local, ..service("web", 30080, 0) };
    let slices = vec![slice("web", vec![ready("10.0.0.1"), away("10.0.0.2")])];
    let compiled = compiler().compile(&world().with(local.clone()).with_slices("web", slices.clone()));
    let frontend_of = |compiled: &Compiled| frontend(compiled, "TCP *:30080");
    for (client, to, endpoints) in [
        ("127.0.0.1", "127.0.0.1", 2),
        ("127.0.0.9", "127.0.0.1", 2),
        ("::1", "::1", 2),
        ("192.0.2.7", "192.0.2.7", 2),
        ("192.0.2.8", "192.0.2.7", 1),
        ("2001:db8::7", "2001:db8::7", 2),
        ("2001:db8::8", "2001:db8::7", 1),
    ] {
        let client = ClientAddr(std::net::SocketAddr::new(ip(client), 40_000));
        let frontend = frontend_of(&compiled);
        let targets = frontend.targets_for(client, |own| own == ip(to));
        assert_eq!(targets.endpoints.len(), endpoints, "{client} to {to}");
    }
    // Pods are known by the ranges of the node and of the option.
    let node =
        Node { name: "us".into(), pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()], ..Node::default() };
    let options =
        CompileOptions { cluster_cidrs: vec!["fd00:244::/56".parse().unwrap()], ..CompileOptions::default() };
    let here = World { node: Arc::new(node), ..world() };
    let with_pods =
        with_options(options).compile(&here.with(local.clone()).with_slices("web", slices.clone()));
    for (client, endpoints) in
        [("10.244.1.9", 2), ("::ffff:10.244.1.9", 2), ("10.244.2.9", 1), ("fd00:244:0:7::9", 2)]
    {
        let client = ClientAddr(std::net::SocketAddr::new(ip(client), 40_000));
        let frontend = frontend_of(&with_pods);
        let targets = frontend.targets_for(client, |_| false);
        assert_eq!(targets.endpoints.len(), endpoints, "{client}");
    }
    // Nobody is asked where it makes no difference.
    let cluster = Service { external_policy: TrafficPolicy::Cluster, ..local };
    let compiled = compiler().compile(&world().with(cluster).with_slices("web", slices));
    let client = ClientAddr(std::net::SocketAddr::new(ip("192.0.2.8"), 40_000));
    assert_eq!(frontend_of(&compiled).targets_for(client, |_| unreachable!()).endpoints.len(), 2);
}

#[test]
fn tcp_and_udp_ports_of_one_number_are_two_and_sctp_is_a_warning() {
    let mut dns = service("dns", 30053, 0);
    dns.ports = vec![
        port("tcp", Protocol::Tcp, 53, Some(30053)),
        port("udp", Protocol::Udp, 53, Some(30053)),
        port("sctp", Protocol::Sctp, 53, Some(30053)),
    ];
    let named = |name: &str, protocol, port| SlicePort { name: name.into(), protocol, port };
    let ports = vec![named("tcp", Protocol::Tcp, 5301), named("udp", Protocol::Udp, 5302)];
    let slice = EndpointSlice { ports, ..slice("dns", vec![ready("10.0.0.1")]) };
    let compiled = compiler().compile(&world().with(dns).with_slices("dns", vec![slice]));
    assert_eq!(
        text(&compiled),
        [
            "TCP *:30053 NodePort default/dns:tcp -> 10.0.0.1:5301",
            "UDP *:30053 NodePort default/dns:udp -> 10.0.0.1:5302",
        ]
    );
    assert_eq!(
        problems(&compiled),
        ["Service default/dns: spec.ports[2].protocol: SCTP ports are not served (use TCP or UDP)"]
    );
    assert_eq!(compiled.problems[0].severity, Severity::Warning);
}

#[test]
fn flows_may_stay_with_every_endpoint_that_serves_whatever_the_policy() {
    let mut dns = service("dns", 30053, 0);
    dns.ports[0].protocol = Protocol::Udp;
    dns.external_policy = TrafficPolicy::Local;
    let local = ready("10.0.0.1");
    let remote = SliceEndpoint { node: Some("them".into()), ..ready("10.0.0.2") };
    let terminating = SliceEndpoint { ready: false, terminating: true, ..ready("10.0.0.3") };
    let gone = SliceEndpoint { ready: false, serving: false, terminating: true, ..ready("10.0.0.4") };
    let mut slice = slice("dns", vec![local, remote, terminating.clone(), gone]);
    slice.ports[0].protocol = Protocol::Udp;
    let mut compiler = compiler();
    let world = world().with(dns).with_slices("dns", vec![slice.clone()]);
    let before = compiler.compile(&world);
    let serving = |compiled: &Compiled| -> Vec<String> {
        frontend(compiled, "UDP *:30053").serving.iter().map(ToString::to_string).collect()
    };
    assert_eq!(text(&before), ["UDP *:30053 NodePort default/dns -> 10.0.0.1:8080"]);
    assert_eq!(serving(&before), ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
    // Only that list is different now, and it is published all the same.
    slice.endpoints[2] = SliceEndpoint { serving: false, ..terminating };
    let after = compiler.compile(&world.clone().with_slices("dns", vec![slice]));
    assert!(after.changed);
    assert_eq!(serving(&after), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert!(Arc::ptr_eq(&frontend(&before, "UDP *:30053").targets, &frontend(&after, "UDP *:30053").targets));
}

#[test]
fn r5_a_service_without_endpoints_keeps_its_frontends() {
    let compiled = compiler().compile(&world().with(service("web", 30080, 0)));
    assert_eq!(text(&compiled), ["TCP *:30080 NodePort default/web -> "]);
}

// === what a change leaves alone ===

#[test]
fn r1_an_equal_world_changes_nothing() {
    let build = || {
        let world = world().with(everything()).with_pods("web", &["10.0.0.1"]);
        world.with(service("other", 30081, 1)).with_pods("other", &["10.0.0.2"])
    };
    let mut compiler = compiler();
    let first = compiler.compile(&build());
    // Equal objects, none of them the same.
    let second = compiler.compile(&build());
    assert!(first.changed && !second.changed && second.changes.is_empty());
    assert!(first.frontends.values().zip(second.frontends.values()).all(|(a, b)| Arc::ptr_eq(a, b)));
}

#[test]
fn r1_what_does_not_matter_to_the_data_plane_changes_nothing() {
    let mut compiler = compiler();
    let world = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.1"]);
    compiler.compile(&world);
    let not_ready = SliceEndpoint { ready: false, ..ready("10.0.0.9") };
    let world = world.with(Service { uid: "u".into(), age_rank: 7, ..service("web", 30080, 0) });
    let world = world.with_slices("web", vec![slice("web", vec![ready("10.0.0.1"), not_ready])]);
    let world = world.with_pods("no-such-service", &["10.0.0.3"]);
    assert!(!compiler.compile(&world).changed);
}

#[test]
fn r2_a_change_leaves_other_services_alone() {
    let mut compiler = compiler();
    let world = world().with(service("a", 30001, 0)).with_pods("a", &["10.0.0.1"]);
    let world = world.with(service("b", 30002, 0)).with_pods("b", &["10.0.0.2"]);
    let first = compiler.compile(&world);
    let second = compiler.compile(&world.with_pods("b", &["10.0.0.2", "10.0.0.3"]));
    assert!(second.changed);
    assert_eq!(second.changes.updated, [frontend(&second, "TCP *:30002").key]);
    assert!(Arc::ptr_eq(&frontend(&first, "TCP *:30001"), &frontend(&second, "TCP *:30001")));
    let (before, after) = (frontend(&first, "TCP *:30002"), frontend(&second, "TCP *:30002"));
    assert!(Arc::ptr_eq(&before.port, &after.port), "the route of the port has not changed");
    assert!(!Arc::ptr_eq(&before.targets, &after.targets));
}

#[test]
fn r3_endpoints_stay_the_same_across_changes() {
    let mut compiler = compiler();
    let world = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.1", "10.0.0.2"]);
    let first = frontend(&compiler.compile(&world), "TCP *:30080");
    let changed = Service { affinity: Some(Duration::from_secs(9)), ..service("web", 30080, 0) };
    let world = world.with(changed).with_pods("web", &["10.0.0.2", "10.0.0.3"]);
    let second = frontend(&compiler.compile(&world), "TCP *:30080");
    assert!(Arc::ptr_eq(&first.targets.endpoints[1], &second.targets.endpoints[0]));
    assert!(Arc::ptr_eq(&first.port.stats, &second.port.stats));
}

#[test]
fn r3_an_endpoint_that_comes_back_while_it_has_sessions_is_the_same() {
    let mut compiler = compiler();
    let world = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.1", "10.0.0.2"]);
    let session = frontend(&compiler.compile(&world), "TCP *:30080").targets.endpoints[1].clone();
    compiler.compile(&world.clone().with_pods("web", &["10.0.0.1"]));
    let back = frontend(&compiler.compile(&world), "TCP *:30080").targets.endpoints[1].clone();
    assert!(Arc::ptr_eq(&session, &back));
}

#[test]
fn settings_of_a_service_reach_its_ports_and_keep_their_state() {
    let mut compiler = compiler();
    let plain = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.1"]);
    let first = frontend(&compiler.compile(&plain), "TCP *:30080");
    let limited = Service {
        max_connections: Some(10),
        max_connections_per_client: Some(2),
        idle_timeout: Some(Duration::from_secs(5)),
        ..service("web", 30080, 0)
    };
    let second = frontend(&compiler.compile(&plain.with(limited)), "TCP *:30080");
    assert_eq!(second.port.max_connections, Some(10));
    assert_eq!(second.port.max_connections_per_client, Some(2));
    assert_eq!(second.port.idle_timeout, Some(Duration::from_secs(5)));
    assert!(Arc::ptr_eq(&first.port.state, &second.port.state));
    assert!(Arc::ptr_eq(&first.targets, &second.targets));
}

#[test]
fn a_service_that_says_nothing_gets_the_limits_of_the_options() {
    let defaults = PortSettings {
        max_connections: Some(7),
        max_connections_per_client: Some(3),
        idle_timeout: Some(Duration::from_secs(9)),
        udp_timeout: Some(Duration::from_secs(10)),
        ..PortSettings::default()
    };
    let mut compiler =
        with_options(CompileOptions { defaults: defaults.clone(), ..CompileOptions::default() });
    let own = Service { max_connections: Some(10), ..service("own", 30081, 1) };
    let compiled = compiler.compile(&world().with(service("plain", 30080, 0)).with(own));
    assert_eq!(frontend(&compiled, "TCP *:30080").port.settings(), defaults);
    let own = frontend(&compiled, "TCP *:30081").port.settings();
    assert_eq!(own, PortSettings { max_connections: Some(10), ..defaults });
}

#[test]
fn the_ledger_lives_while_the_service_has_affinity() {
    let mut compiler = compiler();
    let affine = || Service { affinity: Some(Duration::from_secs(60)), ..service("web", 30080, 0) };
    let pods = world().with_pods("web", &["10.0.0.1"]);
    let state = frontend(&compiler.compile(&pods.clone().with(affine())), "TCP *:30080").port.state.clone();
    let (client, endpoint) = (ip("192.0.2.9"), state.endpoints()[0].addr);
    state.ledger.record(client, endpoint, crate::clock::Millis(1), Duration::from_secs(60));
    let longer = Service { affinity: Some(Duration::from_secs(90)), ..affine() };
    compiler.compile(&pods.clone().with(longer).with_pods("web", &["10.0.0.1", "10.0.0.2"]));
    assert_eq!(state.ledger.clients(), 1, "it survives changes");
    compiler.compile(&pods.with(Service { affinity: None, ..affine() }));
    assert_eq!(state.ledger.clients(), 0, "but not the end of affinity");
}

#[test]
fn r6_a_removed_service_is_listed_while_it_has_sessions_and_counts_on_if_it_returns() {
    use crate::route::snapshot::RoutingSnapshot;
    let mut compiler = compiler();
    let full = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.1"]);
    let session = frontend(&compiler.compile(&full), "TCP *:30080").port.clone();
    let gone = compiler.compile(&full.clone().without("web"));
    assert!(gone.changed && gone.frontends.is_empty());
    let snapshot = RoutingSnapshot::new(2, gone.frontends).with_departed(gone.departed);
    assert_eq!(snapshot.ports().keys().map(|k| k.to_string()).collect::<Vec<_>>(), ["default/web"]);
    let back = compiler.compile(&full);
    assert!(Arc::ptr_eq(&session.state, &frontend(&back, "TCP *:30080").port.state));
    drop((session, back));
    let gone = compiler.compile(&world());
    let snapshot = RoutingSnapshot::new(4, gone.frontends).with_departed(gone.departed);
    assert!(snapshot.ports().is_empty(), "without a session it is gone at once");
}

#[test]
fn the_node_changes_what_is_local() {
    let mut compiler = compiler();
    let local = Service { external_policy: TrafficPolicy::Local, ..service("web", 30080, 0) };
    let here = world().with(local).with_pods("web", &["10.0.0.1"]);
    assert_eq!(text(&compiler.compile(&here)), ["TCP *:30080 NodePort default/web -> 10.0.0.1:8080"]);
    let elsewhere = World { node: Arc::new(Node { name: "them".into(), ..Node::default() }), ..here };
    assert_eq!(text(&compiler.compile(&elsewhere)), ["TCP *:30080 NodePort default/web -> "]);
}

#[test]
fn a_new_algorithm_is_a_new_list_of_the_same_endpoints() {
    let mut compiler = compiler();
    let world = world().with(service("web", 30080, 0)).with_pods("web", &["10.0.0.1"]);
    let first = frontend(&compiler.compile(&world), "TCP *:30080");
    let world = world.with(Service { algorithm: Algorithm::Maglev, ..service("web", 30080, 0) });
    let second = frontend(&compiler.compile(&world), "TCP *:30080");
    assert!(!Arc::ptr_eq(&first.targets, &second.targets));
    assert!(Arc::ptr_eq(&first.targets.endpoints[0], &second.targets.endpoints[0]));
}

// === conflicts ===

fn with_external_ip(name: &str, node_port: u16, age_rank: u64) -> Service {
    Service { external_ips: vec![ip("192.0.2.1")], ..service(name, node_port, age_rank) }
}

#[test]
fn r4_the_oldest_service_wins_and_the_loser_is_told_and_gets_it_when_it_is_free() {
    let mut compiler = compiler();
    let world = world().with(with_external_ip("new", 30001, 2)).with(with_external_ip("old", 30002, 1));
    let compiled = compiler.compile(&world);
    assert_eq!(frontend(&compiled, "TCP 192.0.2.1:80").port.name.service, name("old"));
    assert_eq!(
        problems(&compiled),
        [
            "Service default/new: spec.externalIPs: TCP 192.0.2.1:80 already belongs to Service default/old, which is \
          older (change one of the two Services; this one is served when the other gives it up)"
        ]
    );
    assert_eq!(compiled.frontends.len(), 3, "both keep their nodePorts");
    let freed = compiler.compile(&world.without("old"));
    assert_eq!(frontend(&freed, "TCP 192.0.2.1:80").port.name.service, name("new"));
    assert!(freed.problems.is_empty());
}

#[test]
fn r4_an_older_service_takes_over_whenever_it_comes() {
    let mut compiler = compiler();
    let world = world().with(with_external_ip("new", 30001, 2));
    compiler.compile(&world);
    let compiled = compiler.compile(&world.with(with_external_ip("old", 30002, 1)));
    assert_eq!(frontend(&compiled, "TCP 192.0.2.1:80").port.name.service, name("old"));
    assert_eq!(compiled.problems.len(), 1);
}

#[test]
fn r4_of_two_ports_of_one_service_the_first_wins() {
    let addresses = NodePortAddresses::Only(vec![ip("192.0.2.1")]);
    let options = CompileOptions { nodeport_addresses: addresses, ..CompileOptions::default() };
    let mut service = with_external_ip("web", 30001, 0);
    service.ports.push(port("second", Protocol::Tcp, 30001, Some(30002)));
    let compiled = with_options(options).compile(&world().with(service));
    assert_eq!(frontend(&compiled, "TCP 192.0.2.1:30001").kind, FrontendKind::NodePort);
    assert_eq!(
        problems(&compiled),
        [
            "Service default/web: spec.externalIPs: TCP 192.0.2.1:30001 already belongs to Service default/web, another \
          port of the same Service (give each port of the Service its own number)"
        ]
    );
}

#[test]
fn r4_one_address_in_two_roles_of_one_port_is_no_conflict() {
    let service = Service {
        cluster_ips: vec![ip("192.0.2.1")],
        external_ips: vec![ip("192.0.2.1"), ip("192.0.2.1")],
        load_balancer_ips: vec![ip("192.0.2.1")],
        ..everything()
    };
    let options = CompileOptions { cluster_ips: true, ..CompileOptions::default() };
    let compiled = with_options(options).compile(&world().with(service));
    assert_eq!(frontend(&compiled, "TCP 192.0.2.1:80").kind, FrontendKind::ExternalIp);
    assert_eq!((compiled.frontends.len(), compiled.problems.len()), (2, 0));
}

// === any history ===

#[derive(Clone, Debug)]
enum Change {
    Service { name: u8, node_port: u16, external: bool, affinity: bool, rank: u64 },
    Remove(u8),
    Pods { name: u8, pods: Vec<u8> },
    Node(bool),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let service = (0u8..4, 30000u16..30003, any::<bool>(), any::<bool>(), 0u64..3).prop_map(
        |(name, node_port, external, affinity, rank)| Change::Service {
            name,
            node_port,
            external,
            affinity,
            rank,
        },
    );
    let pods = (0u8..4, proptest::collection::vec(0u8..5, 0..5))
        .prop_map(|(name, pods)| Change::Pods { name, pods });
    let change = prop_oneof![4 => service, 1 => (0u8..4).prop_map(Change::Remove), 4 => pods, 1 => any::<bool>().prop_map(Change::Node)];
    proptest::collection::vec(change, 1..40)
}

fn apply(world: World, change: &Change) -> World {
    let label = |n: &u8| format!("s{n}");
    match change {
        Change::Service { name, node_port, external, affinity, rank } => {
            let mut service = service(&label(name), *node_port, *rank);
            service.external_ips = external.then(|| ip("192.0.2.1")).into_iter().collect();
            service.affinity = affinity.then_some(Duration::from_secs(60));
            service.external_policy = if *rank == 0 { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            world.with(service)
        }
        Change::Remove(name) => world.without(&label(name)),
        Change::Pods { name, pods } => {
            let pods: Vec<_> = pods.iter().map(|p| format!("10.0.0.{p}")).collect();
            world.with_pods(&label(name), &pods.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Change::Node(here) => {
            let name = if *here { "us" } else { "them" };
            World { node: Arc::new(Node { name: name.into(), ..Node::default() }), ..world }
        }
    }
}

proptest! {
    /// Step by step or at once: the same snapshot and the same problems; and `changed` says whether the
    /// frontends differ (R1).
    #[test]
    fn r1_the_way_to_a_world_does_not_matter(changes in changes()) {
        let mut compiler = compiler();
        let mut now = world();
        let mut before = compiler.compile(&now);
        for change in &changes {
            now = apply(now, change);
            let after = compiler.compile(&now);
            let same = before.frontends.len() == after.frontends.len()
                && before.frontends.iter().zip(&after.frontends).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1));
            prop_assert_eq!(after.changed, !same);
            let fresh = self::compiler().compile(&now);
            prop_assert_eq!(text(&after), text(&fresh));
            prop_assert_eq!(problems(&after), problems(&fresh));
            before = after;
        }
    }
}
