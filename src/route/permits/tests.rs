//! Which addresses a Service gets, whom it admits there, and what it is told.

use std::sync::Arc;

use super::*;
use crate::k8s::model::ServiceKind;
use crate::route::compile::{CompileOptions, Compiled, Compiler};
use crate::route::fixture::{WorldExt, ip, port, service, world};
use crate::types::ClientAddr;

fn options(cidrs: &[&str], own: &[(&str, &'static str)]) -> CompileOptions {
    let permits = Permits {
        external_ip_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        own: own.iter().map(|(address, option)| (address.parse().unwrap(), *option)).collect(),
        ..Permits::default()
    };
    CompileOptions { permits, cluster_ips: true, ..CompileOptions::default() }
}

fn compile(service: Service, options: CompileOptions) -> Compiled {
    Compiler::new(options, 1).compile(&world().with(service).with_pods("web", &["10.0.0.1", "fd00::1"]))
}

fn keys(compiled: &Compiled) -> Vec<String> {
    compiled.frontends.keys().map(ToString::to_string).collect()
}

fn problems(compiled: &Compiled) -> Vec<String> {
    compiled.problems.iter().map(ToString::to_string).collect()
}

/// A Service from an API, with every kind of address.
fn from_api() -> Service {
    Service {
        kind: ServiceKind::LoadBalancer,
        trusted: false,
        cluster_ips: vec![ip("10.96.0.1")],
        external_ips: vec![ip("192.0.2.1"), ip("192.0.2.200"), ip("2001:db8::1")],
        load_balancer_ips: vec![ip("198.51.100.1")],
        ..service("web", 30080, 0)
    }
}

#[test]
fn external_ips_of_an_api_are_served_inside_the_cidrs_and_those_of_files_everywhere() {
    const ALWAYS: [&str; 3] = ["TCP *:30080", "TCP 10.96.0.1:80", "TCP 198.51.100.1:80"];
    const ALL: [&str; 3] = ["TCP 192.0.2.1:80", "TCP 192.0.2.200:80", "TCP [2001:db8::1]:80"];
    for (trusted, cidrs, served) in [
        (false, &[][..], &[][..]),
        (false, &["192.0.2.0/25"], &ALL[..1]),
        (false, &["192.0.2.0/24", "2001:db8::/32"], &ALL),
        (false, &["0.0.0.0/0"], &ALL[..2]),
        (true, &[], &ALL),
    ] {
        let mut service = from_api();
        service.trusted = trusted;
        service.ports.push(port("second", Protocol::Tcp, 81, None));
        let compiled = compile(service, options(cidrs, &[]));
        let keys = keys(&compiled);
        for key in ALWAYS.iter().chain(&ALL) {
            let wanted = ALWAYS.contains(key) || served.contains(key);
            assert_eq!(keys.iter().any(|k| k == key), wanted, "{key} {trusted} {cidrs:?}: {keys:?}");
        }
        // One for each address, not for each of its ports.
        assert_eq!(compiled.problems.len(), ALL.len() - served.len(), "{:?}", problems(&compiled));
        assert!(compiled.problems.iter().all(|problem| problem.reason == Reason::AddressNotAllowed));
    }
}

#[test]
fn an_address_of_the_node_is_served_for_an_api_only_where_it_is_named() {
    let of_node =
        || Service { external_ips: vec![ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3")], ..from_api() };
    for (trusted, cidrs, served) in [
        (false, &["192.0.2.0/24"][..], &["TCP 192.0.2.3:80"][..]),
        (false, &["192.0.2.0/24", "192.0.2.1/32"], &["TCP 192.0.2.1:80", "TCP 192.0.2.3:80"]),
        (true, &[], &["TCP 192.0.2.1:80", "TCP 192.0.2.2:80", "TCP 192.0.2.3:80"]),
    ] {
        let mut options = options(cidrs, &[]);
        options.permits.node = vec![ip("192.0.2.1")];
        let mut world = world().with(Service { trusted, ..of_node() });
        world.node = Arc::new(Node { addresses: vec![ip("192.0.2.2")], ..Node::default() });
        let compiled = Compiler::new(options, 1).compile(&world);
        let external: Vec<String> =
            keys(&compiled).into_iter().filter(|key| key.starts_with("TCP 192.")).collect();
        assert_eq!(external, served, "{trusted} {cidrs:?}");
        assert!(trusted || problems(&compiled)[0].contains("is an address of this node itself"));
    }
}

#[test]
fn load_balancer_addresses_are_limited_where_everybody_may_write_them() {
    for (status_is_open, cidrs, served) in
        [(false, &[][..], true), (true, &[], false), (true, &["198.51.100.0/24"], true)]
    {
        let mut options = options(cidrs, &[]);
        options.permits.status_is_open = status_is_open;
        let compiled = compile(Service { external_ips: Vec::new(), ..from_api() }, options);
        let has = keys(&compiled).contains(&"TCP 198.51.100.1:80".to_owned());
        assert_eq!(has, served, "{status_is_open} {cidrs:?}");
        let told = problems(&compiled);
        assert_eq!(
            told.iter().any(|told| told.contains("load balancer address from ringport's API")),
            !served
        );
    }
}

#[test]
fn the_problem_says_what_to_do_and_goes_with_its_cause() {
    let mut compiler = Compiler::new(options(&[], &[]), 1);
    let refused = Service { external_ips: vec![ip("192.0.2.1")], ..from_api() };
    let compiled = compiler.compile(&world().with(refused.clone()));
    assert_eq!(
        problems(&compiled),
        [
            "Service default/web: spec.externalIPs: 192.0.2.1 is not served: an external IP from an API must be inside \
          --external-ip-cidrs (whoever runs ringport can allow it with --external-ip-cidrs 192.0.2.1/32)"
        ]
    );
    let compiled = compiler.compile(&world().with(Service { external_ips: Vec::new(), ..refused }));
    assert_eq!(problems(&compiled), [""; 0]);
}

/// TestServiceToServiceMap: external and load balancer addresses count in the families of the clusterIPs.
#[test]
fn an_address_without_a_cluster_ip_of_its_family_is_not_served() {
    let v4 = Service {
        any_family: false,
        trusted: true,
        external_ips: vec![ip("192.0.2.1"), ip("2001:db8::1")],
        load_balancer_ips: vec![ip("198.51.100.1"), ip("2001:db8::2")],
        ..from_api()
    };
    let compiled = compile(v4.clone(), options(&[], &[]));
    let served = ["TCP 0.0.0.0:30080", "TCP 10.96.0.1:80", "TCP 192.0.2.1:80", "TCP 198.51.100.1:80"];
    assert_eq!(keys(&compiled), served);
    let told = problems(&compiled);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        "Service default/web: spec.externalIPs: 2001:db8::1 is not served: the Service has no clusterIP of its address \
         family (set spec.ipFamilyPolicy to PreferDualStack)"
    );
    let both = Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")], ..v4 };
    let compiled = compile(both, options(&[], &[]));
    assert_eq!((compiled.frontends.len(), compiled.problems.len()), (7, 0), "{:?}", keys(&compiled));
}

#[test]
fn an_address_that_one_service_may_not_have_is_free_for_another() {
    let mut young = Service { external_ips: vec![ip("192.0.2.1")], ..service("young", 30081, 9) };
    young.trusted = true;
    let old = Service { external_ips: vec![ip("192.0.2.1")], ..from_api() };
    let compiled = Compiler::new(options(&[], &[]), 1).compile(&world().with(old).with(young));
    let has = compiled.frontends.values().find(|f| f.key.to_string() == "TCP 192.0.2.1:80").unwrap();
    assert_eq!(&*has.port.name.service.name, "young");
}

#[test]
fn where_ringport_itself_listens_belongs_to_no_service() {
    let mut service = service("web", 10_249, 0);
    service.external_ips = vec![ip("192.0.2.1"), ip("127.0.0.1")];
    service.ports[0].port = 10_256;
    service.ports.push(port("udp", Protocol::Udp, 10_256, None));
    let own = [("127.0.0.1:10249", "metrics-bind-address"), ("0.0.0.0:10256", "healthz-bind-address")];
    let compiled = compile(service.clone(), options(&[], &own));
    assert_eq!(keys(&compiled), ["UDP 127.0.0.1:10256", "UDP 192.0.2.1:10256"]);
    let refused: Vec<_> =
        compiled.problems.iter().filter(|p| p.reason == Reason::AddressNotAllowed).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert_eq!(
        refused[0].to_string(),
        "Service default/web: spec.ports[0].nodePort: TCP *:10249 is not served: ringport itself listens there \
         (--metrics-bind-address) (choose another port, or another --metrics-bind-address)"
    );
    // Another address with the same port is free.
    let own = [("127.0.0.1:10256", "metrics-bind-address")];
    let keys = keys(&compile(service, options(&[], &own)));
    assert!(
        keys.contains(&"TCP 192.0.2.1:10256".to_owned()) && !keys.contains(&"TCP 127.0.0.1:10256".to_owned())
    );
}

/// Which of two clients each frontend admits.
fn admits(compiled: &Compiled, clients: [&str; 2]) -> Vec<(String, [bool; 2])> {
    let client = |text: &str| ClientAddr((ip(text), 1).into());
    let each = compiled.frontends.values();
    each.map(|f| (f.key.to_string(), clients.map(|c| f.admits(client(c), |_| false)))).collect()
}

#[test]
fn source_ranges_are_of_the_load_balancer_and_those_of_the_annotation_of_everything() {
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Arc<[IpNet]>>();
    let mut service = from_api();
    service.trusted = true;
    service.external_ips = vec![ip("192.0.2.1")];
    service.load_balancer_source_ranges = nets(&["203.0.113.0/25"]);
    let clients = ["203.0.113.2", "203.0.113.130"];
    let table = |compiled: &Compiled| admits(compiled, clients);
    let compiled = compile(service.clone(), options(&[], &[]));
    for (key, admitted) in table(&compiled) {
        let wanted = if key == "TCP 198.51.100.1:80" { [true, false] } else { [true, true] };
        assert_eq!(admitted, wanted, "{key}");
    }
    // The same address as an externalIP is no way around.
    service.external_ips = vec![ip("198.51.100.1")];
    let compiled = compile(service.clone(), options(&[], &[]));
    assert!(table(&compiled).contains(&("TCP 198.51.100.1:80".to_owned(), [true, false])));
    // Both count.
    service.source_ranges = nets(&["203.0.113.128/25"]);
    for (key, admitted) in table(&compile(service.clone(), options(&[], &[]))) {
        let wanted = if key == "TCP 198.51.100.1:80" { [false, false] } else { [false, true] };
        assert_eq!(admitted, wanted, "{key}");
    }
    service.source_ranges = nets(&["0.0.0.0/0"]);
    service.load_balancer_source_ranges = nets(&["::/0", "10.0.0.0/8"]);
    for (key, admitted) in table(&compile(service, options(&[], &[]))) {
        assert_eq!(admitted, [true, true], "{key}");
    }
}

#[test]
fn the_node_itself_may_always_and_is_looked_for_only_when_it_matters() {
    let mut service = service("web", 30080, 0);
    service.source_ranges = ["203.0.113.0/24".parse().unwrap()].into();
    let compiled = compile(service, options(&[], &[]));
    let frontend = compiled.frontends.values().next().unwrap();
    let client = |text: &str| ClientAddr((ip(text), 1).into());
    assert!(frontend.admits(client("127.0.0.1"), |_| false));
    assert!(frontend.admits(client("192.0.2.1"), |ip| ip.to_string() == "192.0.2.1"));
    assert!(!frontend.admits(client("192.0.2.2"), |ip| ip.to_string() == "192.0.2.1"));
    assert!(frontend.admits(client("203.0.113.1"), |_| unreachable!()));
}

#[test]
fn r2_a_change_of_the_ranges_replaces_the_frontend_and_nothing_else_does() {
    let mut compiler = Compiler::new(CompileOptions::default(), 1);
    let mut service = service("web", 30080, 0);
    service.source_ranges = ["203.0.113.0/24".parse().unwrap()].into();
    compiler.compile(&world().with(service.clone()));
    assert!(!compiler.compile(&world().with(service.clone())).changed);
    service.source_ranges = ["203.0.113.0/25".parse().unwrap()].into();
    assert_eq!(compiler.compile(&world().with(service)).changes.updated.len(), 1);
}
