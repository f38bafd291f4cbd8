//! Over real links, in network namespaces of the test's own: addresses that change, clients from outside, and pods
//! that cannot be reached.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::harness::client::{End, ask, connect, end_of_new, try_connect};
use crate::harness::manifest::{Service, pod};
use crate::harness::netns::Host;
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::Ringport;
use crate::harness::rig::{Fleet, local, web};
use crate::harness::wait::{measure_for, time, until};
use crate::harness::world::World;

/// The address of the node on the link `out`.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The address outside, on the link `in`.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A node, and the world outside.
fn link() -> Option<(Host, Host)> {
    let (node, outside) = (Host::new("node")?, Host::new("outside")?);
    node.join("out", &outside, "in");
    node.address("out", &[&format!("{NODE}/24")]);
    outside.address("in", &[&format!("{OUTSIDE}/24")]);
    Some((node, outside))
}

fn is_refused(to: SocketAddr) -> bool {
    try_connect(to).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn node_ports_follow_the_addresses_of_the_node() {
    let Some((node, outside)) = link() else { return };
    node.run(|| {
        let fleet = Fleet::start(1, &["--nodeport-addresses", "10.77.0.0/24"]);
        let at = |ip: Ipv4Addr| SocketAddr::from((ip, fleet.node_port));
        assert_eq!(ask(at(NODE)).unwrap(), "pod-0");
        assert!(is_refused(at(Ipv4Addr::LOCALHOST)));
        let mut session = connect(at(NODE));
        let second = Ipv4Addr::new(10, 77, 0, 9);
        for _ in 0..2 {
            let before = fleet.ringport.metrics().sum("ringport_frontends", &[]);
            node.ip(&format!("addr add {second}/32 dev out"));
            until("the new address is served", || ask(at(second)).ok());
            assert_eq!(outside.run(|| ask(at(second))).unwrap(), "pod-0");
            node.ip(&format!("addr del {second}/32 dev out"));
            fleet.ringport.until_metrics("the old address is given up", |metrics| {
                metrics.sum("ringport_frontends", &[]) == before
            });
        }
        // What was there is still there.
        session.write_all(b"who?\n").unwrap();
        let mut name = String::new();
        session.read_to_string(&mut name).unwrap();
        assert_eq!(name, "pod-0\n");
        assert_eq!(ask(at(NODE)).unwrap(), "pod-0");
    });
}

/// Where the kernel's messages of new addresses cannot be had, the addresses are looked at every second.
#[test]
fn node_ports_follow_the_addresses_without_word_of_changes() {
    let Some((node, _outside)) = link() else { return };
    let is =
        |index, length, value| SeccompCondition::new(index, length, SeccompCmpOp::Eq, value as u64).unwrap();
    // The messages come as datagrams; what reads the addresses (getifaddrs) has a raw socket.
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let messages =
        vec![is(0, SeccompCmpArgLen::Dword, libc::AF_NETLINK), is(1, SeccompCmpArgLen::Dword, kind)];
    let filter: BpfProgram = SeccompFilter::new(
        [(libc::SYS_socket, vec![SeccompRule::new(messages).unwrap()])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap()
    .try_into()
    .unwrap();
    let fleet = node.run(|| {
        // What this thread starts has it, too.
        seccompiler::apply_filter(&filter).unwrap();
        Fleet::start(1, &["--nodeport-addresses", "10.77.0.0/24"])
    });
    assert!(fleet.ringport.log().contains("looking every second"), "{}", fleet.ringport.log());
    let at = |ip: Ipv4Addr| SocketAddr::from((ip, fleet.node_port));
    let served = || fleet.ringport.metrics().sum("ringport_frontends", &[]);
    let before = node.run(served);
    let second = Ipv4Addr::new(10, 77, 0, 9);
    node.ip(&format!("addr add {second}/32 dev out"));
    node.run(|| until("the new address is served", || ask(at(second)).ok()));
    node.ip(&format!("addr del {second}/32 dev out"));
    node.run(|| until("the old one is given up", || (served() == before).then_some(())));
}

/// An address that has left the node may be another machine's by now: nothing leads its traffic here, though a session
/// of it is still open, and nothing asks for that.
#[test]
fn an_address_that_has_left_the_node_is_left_alone() {
    let Some((node, _outside)) = link() else { return };
    for options in [&["--manage-addresses"][..], &[]] {
        node.run(|| {
            let second = Ipv4Addr::new(10, 77, 0, 9);
            node.ip(&format!("addr add {second}/32 dev out"));
            let args = [&["--nodeport-addresses", "10.77.0.0/24"], options].concat();
            let fleet = Fleet::start(1, &args);
            let _session = connect(SocketAddr::from((second, fleet.node_port)));
            let served = || fleet.ringport.metrics().sum("ringport_frontends", &[]);
            let before = served();
            node.ip(&format!("addr del {second}/32 dev out"));
            until("it is given up", || (served() < before).then_some(()));
            // Longer than until the next look at what could not be done.
            measure_for(Duration::from_millis(1500));
            let routes = node.ip("route show table local");
            assert!(!routes.contains(&second.to_string()), "{options:?}: {routes}");
            assert_eq!(fleet.ringport.metrics().problems(), 0, "{options:?}: {}", fleet.ringport.log());
            assert!(!fleet.ringport.log().contains(&format!("arrive for {second}")));
        });
    }
}

#[test]
fn the_primary_address_follows_the_default_route() {
    let Some((node, _outside)) = link() else { return };
    node.run(|| {
        // Before there is one, as on a machine whose network comes up late.
        let fleet = Fleet::start(1, &["--nodeport-addresses", "primary"]);
        let at = |ip: Ipv4Addr| SocketAddr::from((ip, fleet.node_port));
        assert!(is_refused(at(NODE)));
        node.ip(&format!("route add default via {OUTSIDE}"));
        until("the primary address is served", || ask(at(NODE)).ok());
        node.ip("addr add 198.51.100.1/24 dev out");
        node.ip("route replace default via 198.51.100.2 src 198.51.100.1");
        let other = Ipv4Addr::new(198, 51, 100, 1);
        until("the new primary address is served", || ask(at(other)).ok());
        until("the old one is not", || is_refused(at(NODE)).then_some(()));
        assert!(is_refused(at(Ipv4Addr::LOCALHOST)));
    });
}

#[test]
fn under_the_local_policy_the_node_reaches_all_pods_and_others_only_local_ones() {
    let Some((node, outside)) = link() else { return };
    node.run(|| {
        let world = World::new();
        let (here, there) = (world.ip(), world.ip());
        let (target_port, mut listeners) = listen(&[here, there]);
        let _there = Pod::start(listeners.remove(1), named("there"));
        let _here = Pod::start(listeners.remove(0), named("here"));
        let node_port = world.port();
        let service = web(node_port, target_port).yaml() + "  externalTrafficPolicy: Local\n";
        world.apply("service", &service);
        world.apply("there", &pod("there", "web", there));
        let ringport = Ringport::start(&world, &["--node-name", "us"]);
        let at_node = SocketAddr::from((NODE, node_port));

        // No pod is on this node: others are reset.
        assert_eq!(outside.run(|| end_of_new(at_node)), End::Reset);
        ringport.until_metrics("it is counted", |metrics| metrics.refused("no_endpoints") == 1);
        for at in [local(node_port), at_node, SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, node_port))] {
            assert_eq!(ask(at).unwrap_or_else(|error| panic!("{at}: {error}")), "there", "{at}");
        }
        // One is: others get that one only.
        let on_us = pod("here", "web", here).replacen("spec:\n", "spec:\n  nodeName: us\n", 1);
        world.apply("here", &on_us);
        assert_eq!(until("others are served", || outside.run(|| ask(at_node)).ok()), "here");
        for _ in 0..20 {
            assert_eq!(outside.run(|| ask(at_node)).unwrap(), "here");
        }
        until("the node gets the pod elsewhere, too", || (ask(at_node).unwrap() == "there").then_some(()));
        until("and the one here", || (ask(local(node_port)).unwrap() == "here").then_some(()));
        // It goes again.
        let mut session = outside.run(|| connect(at_node));
        world.delete("here");
        until("others are reset", || outside.run(|| ask(at_node)).is_err().then_some(()));
        assert_eq!(ask(at_node).unwrap(), "there");
        session.write_all(b"who?\n").unwrap();
        let mut name = String::new();
        session.read_to_string(&mut name).unwrap();
        assert_eq!(name, "here\n", "a session that was there is cut");
        assert_eq!(ringport.metrics().problems(), 0);
    });
}

/// Ways of not reaching a pod, by address, and how they are counted.
const FAULTS: [(&str, &str); 5] = [
    // The node itself knows that there is no way.
    ("203.0.113.1", "unreachable"),
    // It has no route at all.
    ("203.0.113.17", "unreachable"),
    // A router says so.
    ("203.0.113.33", "unreachable"),
    // Nobody says anything.
    ("203.0.113.49", "timeout"),
    // Nothing listens there.
    ("10.77.0.2", "refused"),
];

fn break_routes(node: &Host, outside: &Host) {
    node.ip("route add unreachable 203.0.113.0/28");
    node.ip(&format!("route add 203.0.113.32/28 via {OUTSIDE}"));
    node.ip(&format!("route add 203.0.113.48/28 via {OUTSIDE}"));
    outside.ip("route add unreachable 203.0.113.32/28");
    outside.ip("route add blackhole 203.0.113.48/28");
    outside.set_sysctl("net/ipv4/ip_forward", "1");
}

#[test]
fn a_pod_that_cannot_be_reached_costs_a_retry_and_no_connection() {
    let Some((node, outside)) = link() else { return };
    break_routes(&node, &outside);
    node.run(|| {
        for (fault, reason) in FAULTS {
            let world = World::new();
            let (good, node_port) = (world.ip(), world.port());
            let (target_port, mut listeners) = listen(&[good]);
            let _good = Pod::start(listeners.remove(0), named("good"));
            world.apply("service", &web(node_port, target_port).yaml());
            world.apply("good", &pod("good", "web", good));
            world.apply("bad", &pod("bad", "web", fault.parse().unwrap()));
            let ringport = Ringport::start(&world, &["--connect-timeout", "3s"]);
            until("the pod that cannot be reached is tried", || {
                let (took, name) = time(|| ask(local(node_port)));
                assert_eq!(name.unwrap_or_else(|error| panic!("{fault}: {error}")), "good", "{fault}");
                assert!(took < Duration::from_millis(2500), "{fault}: {took:?}");
                (ringport.metrics().connect_failed(reason) > 0).then_some(())
            });
            let metrics = ringport.metrics();
            assert_eq!(metrics.sum("ringport_endpoint_connect_failures_total", &[]), metrics.retried());
            assert_eq!(metrics.connect_failed(reason), metrics.retried(), "{fault}: other reasons, too");
        }
    });
}

#[test]
fn without_a_pod_that_can_be_reached_a_client_is_refused_within_the_budget() {
    let Some((node, outside)) = link() else { return };
    break_routes(&node, &outside);
    node.run(|| {
        let world = World::new();
        let ports: Vec<u16> = FAULTS.iter().map(|_| world.port()).collect();
        for ((fault, _), &node_port) in FAULTS.iter().zip(&ports) {
            let name = format!("web-{node_port}");
            world.apply(&name, &Service { name: &name, ..web(node_port, 80) }.yaml());
            world.apply(&format!("pod-{node_port}"), &pod(&name, &name, fault.parse().unwrap()));
        }
        let ringport = Ringport::start(&world, &["--connect-timeout", "1s"]);
        for ((fault, reason), &node_port) in FAULTS.iter().zip(&ports) {
            let before = ringport.metrics();
            let (took, end) = time(|| end_of_new(local(node_port)));
            assert_eq!(end, End::Reset, "{fault}");
            assert!(took < Duration::from_secs(3), "{fault}: {took:?}");
            ringport.until_metrics(&format!("{fault} is counted"), |metrics| {
                metrics.refused("connect_failed") == before.refused("connect_failed") + 1
            });
            assert_eq!(
                ringport.metrics().connect_failed(reason),
                before.connect_failed(reason) + 1,
                "{fault}"
            );
        }
    });
}

/// Where the machine of a pod goes without a word, the pod's sessions end.
#[test]
fn a_pod_that_vanishes_ends_its_sessions() {
    let Some((node, outside)) = link() else { return };
    node.run(|| {
        let world = World::new();
        let node_port = world.port();
        let listener = outside.run(|| TcpListener::bind((OUTSIDE, 0)).unwrap());
        let target_port = listener.local_addr().unwrap().port();
        world.apply("service", &web(node_port, target_port).yaml());
        world.apply("pod", &pod("pod", "web", OUTSIDE));
        let soon = ["--keepalive-time", "1s", "--keepalive-interval", "1s", "--user-timeout", "2s"];
        let ringport = Ringport::start(&world, &soon);
        let mut client = connect(local(node_port));
        let (pod, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), IpAddr::V4(NODE));
        outside.ip(&format!("route add blackhole {NODE}/32"));
        assert_eq!(crate::harness::client::end_of(&mut client), End::Reset);
        assert_eq!(ringport.session().reason(), "endpoint_timeout");
        drop(pod);
    });
}
