//! How long a flow stays with its pod, and what becomes of it then.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::peers::{Fleet, Pod, Service, ask, ask_again, client, client_from, counted, pod};
use crate::harness::netns::{Lab, NODE, pod_ip};
use crate::harness::process::Ringport;
use crate::harness::wait::until;
use crate::harness::world::World;

#[test]
fn flows_spread_over_pods_and_each_stays_with_its_own() {
    let fleet = Fleet::start(4, &["--shards", "2"]);
    let clients: Vec<UdpSocket> = (0..200).map(|_| client(fleet.node)).collect();
    let first: Vec<String> = clients.iter().map(|client| ask(client, b"one").unwrap()).collect();
    for _ in 0..3 {
        let again: Vec<String> = clients.iter().map(|client| ask(client, b"more").unwrap()).collect();
        assert_eq!(again, first);
    }
    for i in 0..4 {
        let share = first.iter().filter(|name| **name == format!("pod-{i}")).count();
        // 50 on average; six standard deviations are 37.
        assert!((13..=87).contains(&share), "pod-{i} has {share} of 200");
    }
    counted(&fleet.ringport, "up", 800);
    let metrics = counted(&fleet.ringport, "down", 800);
    assert_eq!(metrics.active(), 200);
    assert_eq!(metrics.sum("ringport_datagrams_dropped_total", &[]), 0);
}

#[test]
fn a_one_way_sender_moves_when_its_pod_goes() {
    let mut fleet = Fleet::start(2, &[]);
    let sender = client(fleet.node);
    let name = ask(&sender, b"statsd").unwrap();
    let other = if name == "pod-0" { "pod-1" } else { "pod-0" };
    fleet.pods.iter().flatten().for_each(|pod| pod.mute());
    // Its socket stays: it goes silently, and nothing but the object says so.
    fleet.remove(&name);
    let (gone, received) = (fleet.pod(&name).received(), fleet.pod(other).received());
    for n in 1..=20 {
        sender.send(b"statsd").unwrap();
        until("the other pod has it", || (fleet.pod(other).received() >= received + n).then_some(()));
    }
    assert_eq!(fleet.pod(&name).received(), gone);
    fleet.kill(&name);
}

#[test]
fn a_client_with_one_port_never_sticks_to_a_pod_that_refuses() {
    let mut fleet = Fleet::start(2, &[]);
    let resolver = client(fleet.node);
    let name = ask(&resolver, b"?").unwrap();
    // The process is gone, its object is not.
    fleet.kill(&name);
    let (second, tries) = ask_again(&resolver);
    assert_ne!(second, name);
    assert!(tries <= 2, "{tries} tries: one is lost, the next must be answered");
    let metrics = fleet.ringport.metrics();
    assert_eq!(metrics.ended("endpoint_reset"), 1);
    assert_eq!(metrics.connect_failed("refused"), 1);
    // Others find it out, too, and soon it is left out.
    for _ in 0..30 {
        ask_again(&client(fleet.node));
    }
    assert!(fleet.ringport.metrics().sum("ringport_endpoint_ejections_total", &[]) >= 1);
    let tries: usize = (0..30).map(|_| ask_again(&client(fleet.node)).1).sum();
    assert_eq!(tries, 30);
}

/// What comes between a node and a pod that nobody has told it of: the pod has lost its address, a firewall before it
/// says that there is no such host, or one of the node itself lets nothing out to it. Each as a command and on whom,
/// with IP and the words of its family to be filled in.
const OBSTACLES: [(bool, &str); 3] = [
    (true, "ip address del IP/BITS dev eth0"),
    (true, "nft add rule inet test input FAMILY daddr IP meta l4proto udp reject with UNREACHABLE"),
    (false, "nft add rule inet test output FAMILY daddr IP meta l4proto udp drop"),
];

/// A Service and its endpoints, of one family.
fn served_by(family: usize, ips: [IpAddr; 2], node_port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: dns}}\nspec:\n  type: NodePort\n  ports: [{{protocol: UDP, \
         port: 53, nodePort: {node_port}}}]\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: \
         {{name: dns, labels: {{kubernetes.io/service-name: dns}}}}\naddressType: {}\nports: [{{name: \"\", protocol: UDP, \
         port: 8080}}]\nendpoints: [{{addresses: [\"{}\"]}}, {{addresses: [\"{}\"]}}]\n",
        ["IPv4", "IPv6"][family],
        ips[0],
        ips[1]
    )
}

#[test]
fn a_client_with_one_port_never_sticks_to_a_pod_that_cannot_be_reached() {
    for family in 0..2 {
        for (at_pods, obstacle) in OBSTACLES {
            let Some(lab) = Lab::new() else { return };
            let world = World::new();
            // Not the first address of the interface: the others would go with it.
            let (ips, node_port) = ([1, 2].map(|number| pod_ip(family, number)), world.port());
            world.apply("service", &served_by(family, ips, node_port));
            let _pods = [0, 1].map(|number| {
                let socket = lab.pods.run(|| UdpSocket::bind((ips[number], 8080))).unwrap();
                Pod::start(&format!("pod-{number}"), socket)
            });
            for (host, hook) in [(&lab.pods, "input"), (&lab.node, "output")] {
                host.command("nft add table inet test");
                host.command(&format!(
                    "nft add chain inet test {hook} {{ type filter hook {hook} priority 0 ; }}"
                ));
            }
            let ringport = lab.node.run(|| Ringport::start(&world, &[]));
            let node = SocketAddr::new(NODE[family].parse().unwrap(), node_port);
            let resolver = lab.client.run(|| client(node));
            let first = ask(&resolver, b"?").unwrap();
            let ip = ips[usize::from(first == "pod-1")];
            let [words, bits, unreachable] =
                [["ip", "24", "icmp type host-unreachable"], ["ip6", "64", "icmpv6 type addr-unreachable"]]
                    [family];
            let obstacle = obstacle.replace("IP", &ip.to_string()).replace("BITS", bits);
            let obstacle = obstacle.replace("FAMILY", words).replace("UNREACHABLE", unreachable);
            if at_pods { &lab.pods } else { &lab.node }.command(&obstacle);
            lab.node.ip("neighbour flush dev inside");
            until(&format!("it moves, after {obstacle}"), || (ask_again(&resolver).0 != first).then_some(()));
            let metrics = lab.node.run(|| ringport.metrics());
            assert!(metrics.connect_failed("unreachable") > 0, "{obstacle}");
            assert_eq!(metrics.ended("endpoint_timeout"), 1, "{obstacle}");
        }
    }
}

#[test]
fn a_client_with_one_port_moves_when_its_pod_is_removed_silently() {
    let fleet = Fleet::start(2, &[]);
    let resolver = client(fleet.node);
    for _ in 0..6 {
        let name = ask(&resolver, b"?").unwrap();
        fleet.remove(&name);
        assert_ne!(ask(&resolver, b"?").unwrap(), name);
        let number = usize::from(name == "pod-1");
        fleet.change(|| fleet.world.apply(&name, &pod(number, fleet.ips[number])));
    }
}

#[test]
fn an_endpoint_that_terminates_keeps_its_flows_and_gets_no_new_ones() {
    let fleet = Fleet::start(2, &[]);
    let old = client(fleet.node);
    let name = ask(&old, b"?").unwrap();
    fleet.terminate(&name);
    for _ in 0..30 {
        assert_eq!(ask(&old, b"?").unwrap(), name);
        assert_ne!(ask(&client(fleet.node), b"?").unwrap(), name);
    }
    fleet.remove(&name);
    assert_ne!(ask(&old, b"?").unwrap(), name);
}

#[test]
fn flows_move_when_the_target_port_changes() {
    let fleet = Fleet::start(1, &[]);
    let old = client(fleet.node);
    assert_eq!(ask(&old, b"?").unwrap(), "pod-0");
    let other = UdpSocket::bind((fleet.ips[0], 0)).unwrap();
    let target_port = other.local_addr().unwrap().port();
    let _other = Pod::start("other", other);
    let Service { node_port, .. } = fleet.service;
    let service = Service::new(target_port, node_port);
    fleet.change(|| fleet.world.apply("service", &service.yaml()));
    assert_eq!(ask(&old, b"?").unwrap(), "other");
}

#[test]
fn silent_flows_end_after_the_timeout_of_their_kind() {
    let args = ["--conntrack-udp-timeout", "400ms", "--conntrack-udp-timeout-stream", "1h"];
    let fleet = Fleet::start(1, &args);
    let one_way = client(fleet.node);
    fleet.pod("pod-0").mute();
    one_way.send(b"log line").unwrap();
    let ended = fleet.ringport.session();
    assert_eq!((ended.reason(), ended.bytes()), ("idle_timeout", (8, 0, 0)));
    let lasted = Duration::from_micros(ended.number("session_micros"));
    // The clock has steps of 4 ms; the rest is a loaded machine.
    assert!((390..5_000).contains(&lasted.as_millis()), "{lasted:?}");
    assert_eq!(ended.number("datagrams_up"), 1);
    fleet.ringport.until_metrics("it is not counted any more", |metrics| metrics.active() == 0);
}

#[test]
fn a_conversation_is_kept_for_the_longer_timeout() {
    let args = ["--conntrack-udp-timeout", "1s", "--conntrack-udp-timeout-stream", "1h"];
    let fleet = Fleet::start(1, &args);
    let (talks, asks) = (client(fleet.node), client(fleet.node));
    ask(&asks, b"?").unwrap();
    let start = ringport::clock::now_micros();
    until("two seconds of conversation", || {
        ask(&talks, b"...").unwrap();
        (ringport::clock::now_micros() - start > 2_200_000).then_some(())
    });
    // The one that only asked ends; once it has, the other would have as well if it were of that kind.
    assert_eq!(fleet.ringport.session().number("datagrams_up"), 1);
    fleet.ringport.until_metrics("one is left", |metrics| metrics.active() == 1);
    crate::harness::wait::measure_for(Duration::from_millis(1_300));
    assert_eq!(fleet.ringport.metrics().active(), 1);
}

#[test]
fn a_service_may_have_timeouts_of_its_own() {
    let fleet = Fleet::start_with(1, &[], |_, service| Service {
        annotation: "ringport.io/udp-timeout: 200ms",
        ..service
    });
    client(fleet.node).send(b"x").unwrap();
    assert_eq!(fleet.ringport.session().reason(), "idle_timeout");
}

#[test]
fn at_its_limit_a_shard_gives_up_unanswered_flows_first() {
    // Half of the sessions may be flows.
    let fleet = Fleet::start(1, &["--max-connections", "20", "--shards", "1"]);
    let answered: Vec<UdpSocket> = (0..5).map(|_| client(fleet.node)).collect();
    answered.iter().for_each(|client| _ = ask(client, b"?").unwrap());
    let before = fleet.pod("pod-0").peers();
    fleet.pod("pod-0").mute();
    for n in 1..=50 {
        client(fleet.node).send(b"flood").unwrap();
        until("it has come", || (fleet.pod("pod-0").received() >= 5 + n).then_some(()));
    }
    let metrics = fleet.ringport.metrics();
    assert_eq!((metrics.active(), metrics.ended("evicted")), (10, 45));
    assert_eq!(metrics.sum("ringport_shard_udp_flows", &[]), 10);
    answered.iter().for_each(|client| _ = client.send(b"still the same flow").unwrap());
    until("they have come", || (fleet.pod("pod-0").received() >= 60).then_some(()));
    let after: BTreeSet<SocketAddr> = fleet.pod("pod-0").peers().into_iter().collect();
    // The kernel may give a port twice.
    assert!(after.len() <= 55, "the answered ones kept their sockets");
    assert!(before.iter().all(|peer| after.contains(peer)));
}

#[test]
fn a_client_at_its_limit_gives_up_its_own_oldest_flow() {
    let fleet = Fleet::start(1, &["--max-connections-per-client", "3", "--shards", "1"]);
    let other = client_from((fleet.world.ip(), 0).into(), fleet.node).unwrap();
    ask(&other, b"?").unwrap();
    for _ in 0..10 {
        ask(&client(fleet.node), b"?").unwrap();
    }
    let metrics = fleet.ringport.metrics();
    assert_eq!((metrics.active(), metrics.ended("evicted")), (4, 7));
    assert_eq!(metrics.refused("client_limit"), 0);
}

#[test]
fn a_service_at_its_limit_gives_up_the_oldest_flow_of_the_frontend() {
    let fleet = Fleet::start(1, &["--max-connections-per-service", "5", "--shards", "1"]);
    let kept = client(fleet.node);
    ask(&kept, b"?").unwrap();
    let kept_from = fleet.pod("pod-0").take_peers();
    fleet.pod("pod-0").mute();
    for n in 1..=20 {
        client(fleet.node).send(b"flood").unwrap();
        until("it has come", || (fleet.pod("pod-0").received() > n).then_some(()));
    }
    let metrics = fleet.ringport.metrics();
    assert_eq!((metrics.active(), metrics.ended("evicted")), (5, 16));
    assert_eq!(metrics.refused("service_limit"), 0);
    fleet.pod("pod-0").take_peers();
    kept.send(b"the same flow").unwrap();
    until("it has come", || (fleet.pod("pod-0").received() > 21).then_some(()));
    assert_eq!(fleet.pod("pod-0").peers(), kept_from);
}

#[test]
fn no_reply_of_a_living_pod_is_lost_while_everything_changes() {
    let fleet = Fleet::start(3, &["--shards", "2"]);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    // Those that changes do not concern: pod-0 stays.
    let clients: Vec<UdpSocket> = std::iter::repeat_with(|| client(fleet.node))
        .filter(|client| ask(client, b"?").unwrap() == "pod-0")
        .take(8)
        .collect();
    std::thread::scope(|scope| {
        for client in &clients {
            let (stop, answered) = (&stop, &answered);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(ask(client, b"?").unwrap(), "pod-0");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = || {
            let before = answered.load(Ordering::Relaxed);
            until("there are answers", || (answered.load(Ordering::Relaxed) > before + 50).then_some(()));
        };
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..5 {
                fleet.remove("pod-1");
                more();
                fleet.terminate("pod-0");
                more();
                fleet.change(|| fleet.world.apply("pod-1", &pod(1, fleet.ips[1])));
                more();
                let affinity = if round % 2 == 0 { "  sessionAffinity: ClientIP\n" } else { "" };
                let Service { target_port, node_port, .. } = fleet.service;
                let service = Service {
                    target_port,
                    node_port,
                    external_ip: None,
                    more: affinity,
                    annotation: "",
                    tcp: true,
                };
                fleet.change(|| fleet.world.apply("service", &service.yaml()));
                more();
                fleet.change(|| fleet.world.apply("pod-0", &pod(0, fleet.ips[0])));
                more();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = changes {
            std::panic::resume_unwind(panic);
        }
    });
    assert_eq!(fleet.ringport.metrics().sum("ringport_datagrams_dropped_total", &[]), 0);
}
