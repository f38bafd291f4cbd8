//! The cases of kubernetes pkg/proxy/topology_test.go TestCategorizeEndpoints, by number, and those of
//! joining slices (endpointslicecache_test.go).
//!
//! An endpoint is written in letters: `r` ready (and serving), `s` serving, `t` terminating, `h` here on
//! node "us"; `z` and zone letters are its zone hints, `n` and `u` or `o` its hints for nodes "us" and
//! "other".

use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::types::{NamespacedName, Protocol};

const CLUSTER: TrafficPolicy = TrafficPolicy::Cluster;
const LOCAL: TrafficPolicy = TrafficPolicy::Local;

fn endpoint(place: usize, letters: &str) -> SliceEndpoint {
    let (state, hints) = letters.split_once(' ').unwrap_or((letters, ""));
    let hints_of = |kind: char| hints.split(' ').find_map(move |h| h.strip_prefix(kind)).unwrap_or("");
    SliceEndpoint {
        address: IpAddr::from([10, 1, 2, place as u8]),
        ready: state.contains('r'),
        serving: state.contains(['r', 's']),
        terminating: state.contains('t'),
        node: Some(if state.contains('h') { "us" } else { "other" }.into()),
        zone_hints: hints_of('z').chars().map(|c| Arc::from(format!("zone-{c}"))).collect(),
        node_hints: hints_of('n').chars().map(|c| Arc::from(if c == 'u' { "us" } else { "other" })).collect(),
        pod: None,
    }
}

fn node(zone: Option<&str>) -> Node {
    Node { name: "us".into(), zone: zone.map(Arc::from), ..Node::default() }
}

fn policies(internal: TrafficPolicy, external: TrafficPolicy, externally_accessible: bool) -> Policies {
    Policies { internal, external, externally_accessible }
}

fn check(node: &Node, policies: Policies, endpoints: &[&str], cluster: &[usize], local: &[usize]) {
    let endpoints: Vec<_> = endpoints.iter().enumerate().map(|(i, letters)| endpoint(i, letters)).collect();
    let joined: Vec<_> = endpoints
        .iter()
        .map(|endpoint| Joined { addr: EndpointAddr(SocketAddr::new(endpoint.address, 80)), endpoint })
        .collect();
    let answer = usable(&joined, policies, node);
    let places = |list: &[Joined<'_>]| -> Vec<usize> {
        list.iter().map(|j| joined.iter().position(|other| other.addr == j.addr).unwrap()).collect()
    };
    assert_eq!(places(&answer.cluster), cluster, "Cluster list");
    assert_eq!(places(&answer.local), local, "Local list");
}

macro_rules! cases {
    ($($name:ident: $node:expr, $policies:expr, [$($endpoint:literal),*] => $cluster:expr, $local:expr;)*) => {
        $(#[test]
        fn $name() {
            check(&$node, $policies, &[$($endpoint),*], &$cluster, &$local);
        })*
    };
}

fn in_zone_a() -> Node {
    node(Some("zone-a"))
}

fn anywhere() -> Policies {
    policies(CLUSTER, CLUSTER, true)
}

cases! {
    case_01_all_hinted: in_zone_a(), anywhere(), ["r za", "r zb", "r zc", "r za"] => [0, 3], [];
    case_02_topology_leaves_the_local_list_of_external_policy:
        in_zone_a(), policies(CLUSTER, LOCAL, true), ["rh za", "rh zb", "r zc", "r za"] => [0, 3], [0, 1];
    case_03_topology_leaves_the_local_list_of_internal_policy:
        in_zone_a(), policies(LOCAL, CLUSTER, true), ["rh za", "rh zb", "r zc", "r za"] => [0, 3], [0, 1];
    case_04_node_without_labels: node(None), anywhere(), ["r za", "r zb", "r zc", "r za"] => [0, 1, 2, 3], [];
    case_05_empty_zone_label: node(Some("")), anywhere(), ["r za", "r zb", "r zc", "r za"] => [0, 1, 2, 3], [];
    case_06_no_hint_for_our_zone:
        node(Some("zone-b")), anywhere(), ["r za", "r za", "r zc", "r za"] => [0, 1, 2, 3], [];
    case_07_unready_one_in_our_zone: in_zone_a(), anywhere(), ["r za", "r zb", "r zc", "- za"] => [0], [];
    case_08_only_unready_in_our_zone: in_zone_a(), anywhere(), ["- za", "r zb", "r zc", "- za"] => [1, 2], [];
    case_09_one_without_hint: in_zone_a(), anywhere(), ["r za", "r zb", "r", "r za"] => [0, 1, 2, 3], [];
    case_10_several_hints: node(Some("zone-c")), anywhere(), ["r zac", "r zbc", "r zbd", "r zc"] => [0, 1, 3], [];
    // Upstream switches node hints off by a gate; here they cannot apply on a node without a name.
    case_11_zone_hints_where_node_hints_cannot_apply:
        Node { zone: Some("zone-a".into()), ..Node::default() }, anywhere(),
        ["r za nu", "r zb no", "r zc no", "r za no"] => [0, 3], [];
    case_12_same_node: in_zone_a(), anywhere(), ["r za nu", "r zb no", "r zc no", "r za no"] => [0], [];
    case_13_same_node_one_unhinted: in_zone_a(), anywhere(), ["r nu", "r no", "r no", "r"] => [0, 1, 2, 3], [];
    case_14_same_node_none_for_us_is_same_zone:
        in_zone_a(), anywhere(), ["r za no", "r zb no", "r zc no", "r za no"] => [0, 3], [];
    case_15_topology_and_locality_differ:
        in_zone_a(), policies(CLUSTER, LOCAL, true), ["rh zb", "rh za", "r za", "r zc"] => [1, 2], [0, 1];
    case_16_internal_local_no_endpoints: node(None), policies(LOCAL, CLUSTER, false), [] => [], [];
    case_17_internal_local_all_remote: node(None), policies(LOCAL, CLUSTER, false), ["r", "r"] => [], [];
    case_18_internal_local_all_local: node(None), policies(LOCAL, CLUSTER, false), ["rh", "rh"] => [], [0, 1];
    case_19_internal_local_some_local: node(None), policies(LOCAL, CLUSTER, false), ["rh", "r"] => [], [0];
    case_20_none_ready: node(None), policies(CLUSTER, CLUSTER, false), ["-", "-"] => [], [];
    case_21_some_ready: node(None), policies(CLUSTER, CLUSTER, false), ["-", "r"] => [1], [];
    case_22_all_serving_and_terminating: node(None), policies(CLUSTER, CLUSTER, false), ["st", "st"] => [0, 1], [];
    case_23_internal_local_external_cluster: node(None), policies(LOCAL, CLUSTER, true), ["rh", "r"] => [0, 1], [0];
    case_24_internal_cluster_external_local: node(None), policies(CLUSTER, LOCAL, true), ["rh", "r"] => [0, 1], [0];
    case_25_both_local_some_local: node(None), policies(LOCAL, LOCAL, true), ["rh", "r"] => [0, 1], [0];
    case_26_both_local_all_remote: node(None), policies(LOCAL, LOCAL, true), ["r", "r"] => [0, 1], [];
    case_27_both_local_all_remote_and_terminating:
        node(None), policies(LOCAL, LOCAL, true), ["st", "st"] => [0, 1], [];
    case_28_external_local_with_terminating:
        node(None), policies(CLUSTER, LOCAL, true), ["r", "sth", "th", "st"] => [0], [1];
    case_29_external_local_where_nothing_external_arrives:
        node(None), policies(CLUSTER, LOCAL, false), ["r", "rh"] => [0, 1], [];
    case_30_internal_local_and_internal_only: node(None), policies(LOCAL, CLUSTER, false), ["r", "rh"] => [], [1];
    case_31_no_endpoints: node(None), anywhere(), [] => [], [];
    case_32_one_neither_ready_nor_serving: node(None), anywhere(), ["-"] => [], [];

    // Not upstream's: what the cases above would let through.
    terminating_without_serving_is_never_used: node(None), policies(LOCAL, LOCAL, true), ["th", "t"] => [], [];
    serving_without_terminating_is_no_fallback: node(None), anywhere(), ["s"] => [], [];
    ready_and_terminating_counts_as_ready: node(None), anywhere(), ["rt", "st"] => [0], [];
    terminating_fallback_ignores_topology: in_zone_a(), anywhere(), ["st za", "st zb"] => [0, 1], [];
    hints_of_unready_endpoints_do_not_matter: in_zone_a(), anywhere(), ["r za", "-"] => [0], [];
}

#[test]
fn a_node_without_a_name_has_no_local_endpoints() {
    let nameless = Node::default();
    check(&nameless, policies(LOCAL, LOCAL, true), &["rh", "r"], &[0, 1], &[]);
}

// === join ===

fn port(name: &str, protocol: Protocol) -> ServicePort {
    let target = crate::k8s::model::TargetPort::Number(1);
    ServicePort { name: name.into(), protocol, port: 80, node_port: None, target }
}

fn slice(ports: &[(&str, Protocol, u16)], endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    let name = || NamespacedName::new("default", "web");
    let ports = ports.iter().map(|&(name, protocol, port)| crate::k8s::model::SlicePort {
        name: name.into(),
        protocol,
        port,
    });
    EndpointSlice { key: name(), service: name(), ports: ports.collect(), endpoints }
}

fn addresses(joined: &[Joined<'_>]) -> Vec<String> {
    joined.iter().map(|j| j.addr.to_string()).collect()
}

#[test]
fn slices_are_joined_by_port_name_and_protocol() {
    let both = [("http", Protocol::Tcp, 8080), ("dns", Protocol::Udp, 5353), ("http", Protocol::Udp, 9)];
    let slices = [slice(&both, vec![endpoint(1, "r")])];
    assert_eq!(addresses(&join(&port("http", Protocol::Tcp), &slices)), ["10.1.2.1:8080"]);
    assert_eq!(addresses(&join(&port("dns", Protocol::Udp), &slices)), ["10.1.2.1:5353"]);
    assert!(join(&port("dns", Protocol::Tcp), &slices).is_empty());
    assert!(join(&port("", Protocol::Tcp), &slices).is_empty());
}

#[test]
fn slices_may_give_different_numbers_to_one_port_name() {
    let slices = [
        slice(&[("http", Protocol::Tcp, 9000)], vec![endpoint(2, "r")]),
        slice(&[("http", Protocol::Tcp, 8000)], vec![endpoint(3, "r"), endpoint(1, "r")]),
    ];
    let joined = join(&port("http", Protocol::Tcp), &slices);
    assert_eq!(addresses(&joined), ["10.1.2.1:8000", "10.1.2.2:9000", "10.1.2.3:8000"]);
}

#[test]
fn of_an_address_named_twice_the_one_that_is_not_terminating_counts() {
    for order in [["st", "r"], ["r", "st"]] {
        let slices = order.map(|letters| slice(&[("", Protocol::Tcp, 80)], vec![endpoint(1, letters)]));
        let joined = join(&port("", Protocol::Tcp), &slices);
        assert_eq!(joined.len(), 1);
        assert!(joined[0].endpoint.ready && !joined[0].endpoint.terminating);
    }
}
