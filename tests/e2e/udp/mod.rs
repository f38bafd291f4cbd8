//! UDP: flows, their ends, and the addresses of replies.

mod dns;
mod flows;
pub(crate) mod peers;
mod quic;
mod sizes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::pod::{Pod as TcpPod, named};
use crate::harness::process::Ringport;
use crate::harness::wait::{PATIENCE, until};
use crate::harness::world::World;
use peers::{Fleet, ask, ask_again, bind, client, client_from, is_refused, pod, until_refused};

#[test]
fn tcp_and_udp_of_one_number_are_independent() {
    let fleet = Fleet::start_with(1, &[], |_, service| peers::Service { tcp: true, ..service });
    let listener = std::net::TcpListener::bind(fleet.pods[0].as_ref().unwrap().address).unwrap();
    let _tcp = TcpPod::start(listener, named("tcp"));
    assert_eq!(ask(&client(fleet.node), b"hello").unwrap(), "pod-0");
    assert_eq!(crate::harness::client::ask(fleet.node).unwrap(), "tcp");
    let without_tcp = peers::Service { tcp: false, ..fleet.service };
    let before = fleet.ringport.metrics().generation();
    fleet.world.apply("service", &without_tcp.yaml());
    until("the change is in force", || (fleet.ringport.metrics().generation() > before).then_some(()));
    crate::harness::client::until_refused(fleet.node);
    assert_eq!(ask(&client(fleet.node), b"hello").unwrap(), "pod-0");
}

#[test]
fn a_reply_leaves_from_the_address_the_client_has_sent_to() {
    let fleet = Fleet::start_with(1, &["--shards", "2"], |world, service| peers::Service {
        external_ip: Some(world.ip().into()),
        ..service
    });
    let port = fleet.service.node_port;
    let external = fleet.service.external_ip.unwrap();
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 5).into(), external] {
        // Not connected: it takes an answer from anywhere, and sees where it came from.
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = SocketAddr::new(ip, port);
        client.send_to(b"hello", to).unwrap();
        let (_, from) = client.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from, to);
    }
    // One client, two addresses of the wildcard: two flows, and each has its own address.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for ip in [1, 6, 7, 1, 6, 7] {
        let to = SocketAddr::from(([127, 0, 0, ip], port));
        client.send_to(b"hello", to).unwrap();
        assert_eq!(client.recv_from(&mut [0; 64]).unwrap().1, to);
    }
}

#[test]
fn clients_of_ipv6_are_served_and_answered_from_the_address_they_sent_to() {
    let fleet = Fleet::start(2, &[]);
    let to = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), fleet.service.node_port);
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", to).unwrap();
    assert_eq!(socket.recv_from(&mut [0; 64]).unwrap().1, to);
    assert!(ask(&client(to), b"hello").unwrap().starts_with("pod-"));
}

#[test]
fn an_external_ip_of_ipv6_has_pods_of_ipv6() {
    let world = World::new();
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    let address = socket.local_addr().unwrap();
    let _pod = peers::Pod::start("six", socket);
    let port = world.port();
    world.apply(
        "all",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: dns\nspec:\n  ipFamilies: [IPv6]\n  clusterIP: \
             \"fd00::1\"\n  externalIPs: [\"::1\"]\n  ports:\n  - protocol: UDP\n    port: {port}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: dns-1\n  labels:\n    \
             kubernetes.io/service-name: dns\naddressType: IPv6\nports:\n- protocol: UDP\n  name: \"\"\n  port: {}\n\
             endpoints:\n- addresses: [\"::1\"]\n",
            address.port()
        ),
    );
    let ringport = Ringport::start(&world, &["--service-cluster-ip-range", "fd00::/112"]);
    let to = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    assert_eq!(ask(&client(to), b"hello").unwrap(), "six", "{}", ringport.log());
}

#[test]
fn a_port_without_endpoints_refuses_and_serves_as_soon_as_there_is_one() {
    let fleet = Fleet::start(1, &["--shards", "2"]);
    let long = client(fleet.node);
    assert_eq!(ask(&long, b"hello").unwrap(), "pod-0");
    fleet.remove("pod-0");
    until_refused(fleet.node);
    // The old flow, too: whoever has that address now is somebody else.
    let received = fleet.pod("pod-0").received();
    assert!(ask(&long, b"hello").is_err());
    assert_eq!(fleet.pod("pod-0").received(), received);
    fleet.change(|| fleet.world.apply("pod-0", &pod(0, fleet.ips[0])));
    assert_eq!(ask_again(&long).0, "pod-0", "a client that was refused");
    assert_eq!(ask(&client(fleet.node), b"hello").unwrap(), "pod-0");
    let ended = fleet.ringport.sessions_that_ended("endpoint_gone");
    assert_eq!(ended.len(), 1, "{:?}", fleet.ringport.sessions());
}

#[test]
fn a_service_that_goes_takes_its_flows_with_it() {
    let fleet = Fleet::start(1, &[]);
    let long = client(fleet.node);
    assert_eq!(ask(&long, b"hello").unwrap(), "pod-0");
    fleet.change(|| fleet.world.delete("service"));
    until_refused(fleet.node);
    assert!(ask(&long, b"hello").is_err());
    assert_eq!(fleet.ringport.session().reason(), "service_gone");
    assert_eq!(fleet.ringport.metrics().sum("ringport_shard_udp_flows", &[]), 0);
}

#[test]
fn a_port_that_somebody_has_is_told_and_served_when_it_is_free() {
    let world = World::new();
    let ip = world.ip();
    let (target_port, mut sockets) = bind(&[ip]);
    let _pod = peers::Pod::start("pod-0", sockets.remove(0));
    let node_port = world.port();
    let taken = UdpSocket::bind((world.ip(), node_port)).unwrap();
    let service = peers::Service::new(target_port, node_port);
    world.apply("service", &service.yaml());
    world.apply("pod-0", &pod(0, ip));
    let ringport = Ringport::start(&world, &[]);
    let said = ringport.log();
    assert!(said.contains("is taken by") && said.contains(&format!("UDP *:{node_port}")), "{said}");
    assert_eq!(ringport.metrics().problems(), 1);
    assert!(is_refused(crate::harness::rig::local(node_port)));
    drop(taken);
    ringport.until_metrics("the problem is gone", |metrics| metrics.problems() == 0);
    assert_eq!(ask_again(&client(crate::harness::rig::local(node_port))).0, "pod-0");
}

#[test]
fn a_client_keeps_its_pod_over_restarts_and_another_number_of_shards() {
    for more in ["", "  sessionAffinity: ClientIP\n"] {
        let fleet = Fleet::start_with(5, &["--shards", "1"], |_, service| peers::Service { more, ..service });
        // They keep their sockets, so that nobody else gets their ports.
        let clients: Vec<(UdpSocket, String)> = (0..20)
            .map(|_| {
                let from = if more.is_empty() { Ipv4Addr::LOCALHOST } else { fleet.world.ip() };
                let client = client_from((from, 0).into(), fleet.node).unwrap();
                let name = ask(&client, b"hello").unwrap();
                (client, name)
            })
            .collect();
        let different: std::collections::BTreeSet<_> = clients.iter().map(|(_, name)| name).collect();
        assert!(different.len() > 2, "{clients:?}");
        let Fleet { ringport, world, pods, .. } = fleet;
        drop(ringport);
        for shards in ["1", "4"] {
            let _ringport = Ringport::start(&world, &["--shards", shards]);
            for (client, name) in &clients {
                assert_eq!(ask(client, b"hello").unwrap(), *name, "{client:?} with {shards} shards");
            }
        }
        drop(pods);
    }
}

#[test]
fn while_it_drains_flows_go_on_until_they_are_silent() {
    let mut fleet = Fleet::start(1, &["--drain-timeout", "60s"]);
    let old = client(fleet.node);
    assert_eq!(ask(&old, b"hello").unwrap(), "pod-0");
    fleet.ringport.signal(Signal::TERM);
    until("/readyz says no", || (fleet.ringport.health("/readyz") == 503).then_some(()));
    assert_eq!(ask(&old, b"still there?").unwrap(), "pod-0");
    let new = client(fleet.node);
    new.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(ask(&new, b"hello").is_err());
    assert_eq!(fleet.ringport.wait(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(fleet.ringport.session().reason(), "idle_timeout");
}

#[test]
fn while_it_drains_no_flow_of_any_shard_is_lost() {
    let mut fleet = Fleet::start(1, &["--shards", "4", "--drain-timeout", "60s"]);
    let mut clients: Vec<UdpSocket> = (0..60).map(|_| client(fleet.node)).collect();
    clients.iter().for_each(|client| _ = ask(client, b"hello").unwrap());
    fleet.ringport.signal(Signal::TERM);
    until("/readyz says no", || (fleet.ringport.health("/readyz") == 503).then_some(()));
    // Fewer and fewer: shards without flows must not send those of the others elsewhere.
    while !clients.is_empty() {
        let start = ringport::clock::now_micros();
        while ringport::clock::now_micros() - start < 400_000 {
            for client in &clients {
                assert_eq!(ask(client, b"still there?").unwrap(), "pod-0");
            }
        }
        clients.truncate(clients.len() / 3);
    }
    assert_eq!(fleet.ringport.wait(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(fleet.ringport.sessions_that_ended("idle_timeout").len(), 60);
}

#[test]
fn a_second_signal_cuts_flows() {
    let mut fleet = Fleet::start(1, &["--drain-timeout", "600s"]);
    let old = client(fleet.node);
    assert_eq!(ask(&old, b"hello").unwrap(), "pod-0");
    fleet.ringport.signal(Signal::TERM);
    until("/readyz says no", || (fleet.ringport.health("/readyz") == 503).then_some(()));
    assert_eq!(ask(&old, b"still there?").unwrap(), "pod-0");
    fleet.ringport.signal(Signal::TERM);
    assert_eq!(fleet.ringport.wait(Duration::from_secs(10)).code(), Some(0));
    assert_eq!(fleet.ringport.session().reason(), "drain_timeout");
}
