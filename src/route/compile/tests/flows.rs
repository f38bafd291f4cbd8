//! Which endpoints traffic reaches, by where it comes in: the flow tables of kubernetes
//! pkg/proxy/iptables/proxier_test.go, as far as they are not about masquerading.
//!
//! An endpoint is written as in the tests of `usable`: `r` ready, `s` serving, `t` terminating, `h` on this node.
//! An empty list is a refusal: a proxy with sockets has no silent drop.

use super::super::*;
use crate::k8s::model::{ServiceKind, SliceEndpoint};
use crate::route::fixture::{WorldExt, ip, name, ready, service, slice, world};
use crate::types::ClientAddr;

const CLUSTER: TrafficPolicy = TrafficPolicy::Cluster;
const LOCAL: TrafficPolicy = TrafficPolicy::Local;

/// A load balancer Service with every kind of address.
fn balanced(internal: TrafficPolicy, external: TrafficPolicy) -> Service {
    Service {
        kind: ServiceKind::LoadBalancer,
        cluster_ips: vec![ip("10.96.0.1")],
        external_ips: vec![ip("192.0.2.1")],
        load_balancer_ips: vec![ip("198.51.100.1")],
        internal_policy: internal,
        external_policy: external,
        health_check_node_port: (external == LOCAL).then_some(32000),
        ..service("web", 30080, 0)
    }
}

fn endpoint(place: usize, letters: &str) -> SliceEndpoint {
    SliceEndpoint {
        ready: letters.contains('r'),
        serving: letters.contains(['r', 's']),
        terminating: letters.contains('t'),
        node: Some(if letters.contains('h') { "us" } else { "other" }.into()),
        ..ready(&format!("10.0.0.{place}"))
    }
}

fn compiled(compiler: &mut Compiler, service: Service, endpoints: &[&str]) -> Compiled {
    let endpoints: Vec<_> = endpoints.iter().enumerate().map(|(place, e)| endpoint(place, e)).collect();
    let slices = if endpoints.is_empty() { vec![] } else { vec![slice("web", endpoints)] };
    compiler.compile(&world().with(service).with_slices("web", slices))
}

fn compiler() -> Compiler {
    Compiler::new(CompileOptions { cluster_ips: true, ..CompileOptions::default() }, 1)
}

/// The places of the endpoints that a kind of frontend reaches.
fn reached(compiled: &Compiled, kind: FrontendKind) -> Vec<u8> {
    let frontend = compiled.frontends.values().find(|f| f.kind == kind).unwrap();
    let place = |endpoint: &Arc<Endpoint>| match endpoint.addr.0.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => unreachable!(),
    };
    frontend.targets.endpoints.iter().map(place).collect()
}

const EXTERNAL: [FrontendKind; 3] =
    [FrontendKind::NodePort, FrontendKind::ExternalIp, FrontendKind::LoadBalancer];

fn check(
    internal: TrafficPolicy,
    external: TrafficPolicy,
    endpoints: &[&str],
    inside: &[u8],
    outside: &[u8],
) {
    let compiled = compiled(&mut compiler(), balanced(internal, external), endpoints);
    assert_eq!(reached(&compiled, FrontendKind::ClusterIp), inside, "clusterIP");
    for kind in EXTERNAL {
        assert_eq!(reached(&compiled, kind), outside, "{kind:?}");
    }
}

macro_rules! flows {
    ($($name:ident: $internal:expr, $external:expr, [$($endpoint:literal),*] => $inside:expr, $outside:expr;)*) => {
        $(#[test]
        fn $name() {
            check($internal, $external, &[$($endpoint),*], &$inside, &$outside);
        })*
    };
}

flows! {
    no_endpoints_reject: CLUSTER, CLUSTER, [] => [], [];
    external_traffic_policy_cluster: CLUSTER, CLUSTER, ["r", "rh"] => [0, 1], [0, 1];
    external_traffic_policy_local: CLUSTER, LOCAL, ["r", "rh"] => [0, 1], [1];
    external_traffic_policy_local_none_here: CLUSTER, LOCAL, ["r", "r"] => [0, 1], [];
    internal_traffic_policy_cluster: CLUSTER, CLUSTER, ["r", "r"] => [0, 1], [0, 1];
    internal_traffic_policy_one_local: LOCAL, CLUSTER, ["rh", "r", "r"] => [0], [0, 1, 2];
    internal_traffic_policy_several_local: LOCAL, CLUSTER, ["rh", "rh", "r"] => [0, 1], [0, 1, 2];
    internal_traffic_policy_none_local: LOCAL, CLUSTER, ["r", "r", "r"] => [], [0, 1, 2];

    // TestTerminatingEndpointsTrafficPolicyLocal
    terminating_local_ready_exist: CLUSTER, LOCAL, ["rh", "rh", "sth", "th", "r"] => [0, 1, 4], [0, 1];
    terminating_local_only_terminating: CLUSTER, LOCAL, ["sth", "sth", "th", "st"] => [0, 1, 3], [0, 1];
    terminating_local_only_terminating_elsewhere: CLUSTER, LOCAL, ["st"] => [0], [];
    terminating_local_none_usable: CLUSTER, LOCAL, ["th", "t"] => [], [];

    // TestTerminatingEndpointsTrafficPolicyCluster
    terminating_cluster_ready_exist: CLUSTER, CLUSTER, ["r", "r", "st", "t"] => [0, 1], [0, 1];
    terminating_cluster_only_terminating: CLUSTER, CLUSTER, ["sth", "sth", "th", "st"] => [0, 1, 3], [0, 1, 3];
    terminating_cluster_only_terminating_elsewhere: CLUSTER, CLUSTER, ["st", "t"] => [0], [0];
    terminating_cluster_none_usable: CLUSTER, CLUSTER, ["th", "t"] => [], [];
}

#[test]
fn a_slice_that_goes_is_a_refusal_and_one_that_comes_is_not() {
    let mut compiler = compiler();
    for (endpoints, wanted) in [(&["r"][..], &[0][..]), (&[], &[]), (&["r", "r"], &[0, 1])] {
        let compiled = compiled(&mut compiler, balanced(CLUSTER, CLUSTER), endpoints);
        assert_eq!(reached(&compiled, FrontendKind::NodePort), wanted);
        assert_eq!(compiled.frontends.len(), 4, "its frontends stay");
    }
}

/// TestNoEndpointsMetric: internal policy, external policy, endpoints, what the metric has of both.
#[test]
fn no_endpoints_metric() {
    for (internal, external, endpoints, wanted) in [
        (LOCAL, CLUSTER, &["rh", "r", "r"][..], [0, 0]),
        (CLUSTER, LOCAL, &["rh", "r", "r"], [0, 0]),
        (LOCAL, LOCAL, &["rh", "r"], [0, 0]),
        (LOCAL, CLUSTER, &["r", "r"], [1, 0]),
        (CLUSTER, LOCAL, &["r", "r"], [0, 1]),
        (LOCAL, LOCAL, &["r", "r"], [1, 1]),
        (LOCAL, LOCAL, &[], [0, 0]),
        (CLUSTER, CLUSTER, &["r"], [0, 0]),
    ] {
        let mut compiler = compiler();
        let of = |compiled: &Compiled| compiled.counts.no_local_endpoints;
        assert_eq!(
            of(&compiled(&mut compiler, balanced(internal, external), endpoints)),
            wanted,
            "{endpoints:?}"
        );
        let gone = compiler.compile(&world());
        assert_eq!(of(&gone), [0, 0], "nothing is left of it");
    }
}

/// TestHealthCheckNodePort, TestHealthCheckNodePortWhenTerminating: distinct addresses on this node that are
/// ready; terminating ones do not count though traffic may reach them.
#[test]
fn health_check_node_port() {
    for (external, endpoints, wanted) in [
        (LOCAL, &["rh", "rh", "r"][..], Some(2)),
        (LOCAL, &["sth", "sth"], Some(0)),
        (LOCAL, &["r"], Some(0)),
        (LOCAL, &[], Some(0)),
        (CLUSTER, &["rh"], None),
    ] {
        let compiled = compiled(&mut compiler(), balanced(CLUSTER, external), endpoints);
        let check = compiled.health_checks.get(&name("web"));
        assert_eq!(check.map(|check| check.local_endpoints), wanted, "{endpoints:?}");
        assert!(check.is_none_or(|check| check.port == 32000));
    }
    // Two ports on one address count once.
    let two = vec![slice("web", vec![endpoint(1, "rh")]), slice("web", vec![endpoint(1, "rh")])];
    let compiled = compiler().compile(&world().with(balanced(CLUSTER, LOCAL)).with_slices("web", two));
    assert_eq!(compiled.health_checks[&name("web")].local_endpoints, 1);
    // A pod with an address of each family counts once.
    let mut other = endpoint(1, "rh");
    other.address = "fd00::1".parse().unwrap();
    let two = vec![slice("web", vec![endpoint(1, "rh")]), slice("web", vec![other])];
    let compiled = compiler().compile(&world().with(balanced(CLUSTER, LOCAL)).with_slices("web", two));
    assert_eq!(compiled.health_checks[&name("web")].local_endpoints, 1);
}

#[test]
fn changes_are_counted() {
    let mut compiler = compiler();
    let counts = |compiled: &Compiled| (compiled.counts.service_changes, compiled.counts.endpoint_changes);
    assert_eq!(counts(&compiled(&mut compiler, balanced(CLUSTER, CLUSTER), &["r"])), (1, 1));
    assert_eq!(
        counts(&compiled(&mut compiler, balanced(CLUSTER, CLUSTER), &["r"])),
        (1, 1),
        "equal ones are none"
    );
    assert_eq!(counts(&compiled(&mut compiler, balanced(CLUSTER, LOCAL), &["r", "r"])), (2, 2));
}

/// TestLoadBalancerIngressRouteTypeProxy is a matter of reading: see `k8s::service::live`. Here: load balancer
/// addresses are served for the type LoadBalancer alone.
#[test]
fn load_balancer_addresses_are_of_load_balancers() {
    let service = Service { kind: ServiceKind::NodePort, ..balanced(CLUSTER, CLUSTER) };
    let compiled = compiled(&mut compiler(), service, &["r"]);
    assert!(compiled.frontends.values().all(|frontend| frontend.kind != FrontendKind::LoadBalancer));
}

/// TestLoadBalancer: source ranges keep clients from load balancer addresses, and from nothing else.
#[test]
fn source_ranges_are_for_load_balancer_addresses() {
    let service = |ranges: &[&str]| Service {
        load_balancer_source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..balanced(CLUSTER, CLUSTER)
    };
    let mut compiler = compiler();
    let closed = compiled(&mut compiler, service(&["203.0.113.0/24"]), &["r"]);
    let admits = |compiled: &Compiled, kind, client: &str| {
        let frontend = compiled.frontends.values().find(|f| f.kind == kind).unwrap();
        frontend.admits(ClientAddr((ip(client), 9).into()), |_| false)
    };
    for kind in [FrontendKind::NodePort, FrontendKind::ExternalIp, FrontendKind::ClusterIp] {
        assert!(admits(&closed, kind, "198.51.100.9"), "{kind:?}");
    }
    assert!(admits(&closed, FrontendKind::LoadBalancer, "203.0.113.9"));
    assert!(!admits(&closed, FrontendKind::LoadBalancer, "198.51.100.9"));
    let open = compiled(&mut compiler, service(&[]), &["r"]);
    assert_eq!(open.changes.updated.len(), 1, "only that frontend is another");
    assert!(admits(&open, FrontendKind::LoadBalancer, "198.51.100.9"));
}
