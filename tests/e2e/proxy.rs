//! PROXY headers: what pods get, what is taken from the peers that a Service trusts, and who is refused.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::harness::bytes::seed;
use crate::harness::client::{End, connect, connect_from, end_of, end_of_new, finish, patient, read_to_end};
use crate::harness::manifest::{Service, pod};
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::Ringport;
use crate::harness::rig::{local, web};
use crate::harness::wait::until;
use crate::harness::world::World;

/// Ringport in front of pods that the test plays, one for each of `pods`, behind a Service with annotations.
struct Front {
    ringport: Ringport,
    world: World,
    node: SocketAddr,
    listeners: Vec<TcpListener>,
}

/// Peers on this address are trusted in all tests.
const TRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const ACCEPT: (&str, &str) = ("accept-proxy-protocol", "127.0.0.1");

impl Front {
    fn start(annotations: &[(&str, &str)], args: &[&str]) -> Self {
        Self::start_with(1, annotations, args, false)
    }

    fn start_with(pods: usize, annotations: &[(&str, &str)], args: &[&str], affinity: bool) -> Self {
        let world = World::new();
        let node_port = world.port();
        let ips: Vec<Ipv4Addr> = (0..pods).map(|_| world.ip()).collect();
        let (target_port, listeners) = listen(&ips);
        let service = Service { client_ip_affinity: affinity, ..web(node_port, target_port) };
        world.apply("service", &annotated(&service.yaml(), annotations));
        for (i, ip) in ips.into_iter().enumerate() {
            world.apply(&format!("pod-{i}"), &pod(&format!("pod-{i}"), "web", ip));
        }
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        let ringport = Ringport::start(&world, args);
        Self { ringport, world, node: local(node_port), listeners }
    }

    /// The pod's end of the next session.
    fn accept(&self) -> TcpStream {
        let stream = until("the pod gets a connection", || self.listeners[0].accept().ok()).0;
        stream.set_nonblocking(false).unwrap();
        patient(stream)
    }

    /// From a peer that is not trusted.
    fn outsider(&self) -> TcpStream {
        connect_from(IpAddr::V4(self.world.ip()), self.node).unwrap()
    }

    fn trusted(&self) -> TcpStream {
        connect_from(TRUSTED.into(), self.node).unwrap()
    }
}

/// A Service with annotations of ringport.
pub(crate) fn annotated(service: &str, annotations: &[(&str, &str)]) -> String {
    let lines: String =
        annotations.iter().map(|(key, value)| format!("    ringport.io/{key}: \"{value}\"\n")).collect();
    service.replacen("metadata:\n", &format!("metadata:\n  annotations:\n{lines}"), 1)
}

/// A header of version 2 for IPv4.
fn v2(source: &str, destination: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    for address in [from, to] {
        let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not IPv4") };
        bytes.extend(ip.octets());
    }
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes
}

fn v1(source: &str, destination: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
}

const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Reads exactly these bytes.
fn expect(stream: &mut TcpStream, wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, wanted);
}

#[test]
fn s5_a_pod_gets_the_header_at_once_and_it_is_not_counted() {
    for version in ["v1", "v2"] {
        let front = Front::start(&[("proxy-protocol", version)], &[]);
        let mut client = front.outsider();
        let (from, to) = (client.local_addr().unwrap().to_string(), front.node.to_string());
        let header = if version == "v1" { v1(&from, &to) } else { v2(&from, &to) };
        // The client has not said anything, and the server may speak first.
        let mut pod = front.accept();
        expect(&mut pod, &header);
        pod.write_all(b"220 ready\r\n").unwrap();
        expect(&mut client, b"220 ready\r\n");
        client.write_all(b"quit").unwrap();
        finish(&client);
        assert_eq!(read_to_end(&mut pod), (b"quit".to_vec(), End::Fin));
        drop(pod);
        assert_eq!(end_of(&mut client), End::Fin);
        assert_eq!(front.ringport.session().bytes(), (4, 11, 0), "{version}");
    }
}

#[test]
fn s5_the_pod_that_answers_gets_the_header_when_another_has_refused() {
    let mut front = Front::start_with(2, &[("proxy-protocol", "v1")], &[], false);
    // The listener is gone, and so every other connection is refused first.
    drop(front.listeners.remove(1));
    for _ in 0..20 {
        let client = front.outsider();
        let header = v1(&client.local_addr().unwrap().to_string(), &front.node.to_string());
        let mut pod = front.accept();
        expect(&mut pod, &header);
        finish(&client);
        assert_eq!(read_to_end(&mut pod), (Vec::new(), End::Fin));
    }
    assert!(front.ringport.metrics().retried() > 0);
}

#[test]
fn a_trusted_peer_says_who_the_client_is_in_whatever_pieces() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let front = Front::start(&[ACCEPT, ("proxy-protocol", "v2")], &[]);
    for i in 0..40 {
        let source = format!("192.0.2.{}:{}", 1 + i, 4000 + i);
        let header =
            if i % 2 == 0 { v1(&source, "198.51.100.1:443") } else { v2(&source, "198.51.100.1:443") };
        let payload: Vec<u8> = (0..random.usize(0..600)).map(|_| random.u8(..)).collect();
        let all = [header, payload.clone()].concat();
        let mut peer = front.trusted();
        let mut sent = 0;
        while sent < all.len() {
            let n = random.usize(1..=(all.len() - sent).min(if i % 3 == 0 { 7 } else { 200 }));
            peer.write_all(&all[sent..sent + n]).unwrap();
            sent += n;
        }
        finish(&peer);
        let mut pod = front.accept();
        // The pod learns what the peer has said, in the form that it was asked for.
        expect(&mut pod, &v2(&source, "198.51.100.1:443"));
        assert_eq!(read_to_end(&mut pod), (payload.clone(), End::Fin));
        drop(pod);
        assert_eq!(end_of(&mut peer), End::Fin);
        until("it is in the access log", || {
            let line = front.ringport.sessions().into_iter().find(|session| session.client() == source)?;
            assert_eq!(line.bytes(), (payload.len() as u64, 0, 0));
            Some(())
        });
    }
}

#[test]
fn the_health_check_of_a_trusted_peer_is_its_own_connection() {
    for (sends, version, gets) in [
        (V2_LOCAL, "v2", V2_LOCAL),
        (b"PROXY UNKNOWN\r\n", "v2", V2_LOCAL),
        (V2_LOCAL, "v1", b"PROXY UNKNOWN\r\n"),
    ] {
        let front = Front::start(&[ACCEPT, ("proxy-protocol", version)], &[]);
        let mut peer = front.trusted();
        peer.write_all(sends).unwrap();
        let mut pod = front.accept();
        expect(&mut pod, gets);
        let from = peer.local_addr().unwrap().to_string();
        drop((peer, pod));
        assert_eq!(front.ringport.session().client(), from);
    }
}

#[test]
fn what_a_trusted_peer_does_wrong_is_refused_and_counted_and_no_pod_hears_of_it() {
    let front = Front::start(&[ACCEPT], &[]);
    for (bytes, fin, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], false, "proxy_header_missing"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 +10\r\n", false, "proxy_header_malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c", false, "proxy_header_malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", false, "proxy_header_malformed"),
        (b"PROXY TCP4 1.2.3.4", true, "proxy_header_malformed"),
        (&[&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x08\0"[..], &[1; 1500]].concat(), true, "proxy_header_malformed"),
        (&[b'x'; 100], false, "proxy_header_missing"),
        (b"", true, "client_gone"),
        (b"", false, "proxy_header_timeout"),
        (b"PROXY TCP4 1.2.3.4 5.6", false, "proxy_header_timeout"),
    ] {
        let before = front.ringport.metrics().refused(reason);
        let mut peer = front.trusted();
        peer.write_all(bytes).unwrap();
        if fin {
            finish(&peer);
        }
        assert_eq!(end_of(&mut peer), End::Reset, "{reason}");
        front.ringport.until_metrics(reason, |metrics| metrics.refused(reason) == before + 1);
    }
    assert!(front.listeners[0].accept().is_err(), "a pod was connected");
}

#[test]
fn others_may_not_send_a_header_and_are_otherwise_served_as_ever() {
    let front = Front::start(&[ACCEPT], &[]);
    let header = v1("192.0.2.1:4000", "198.51.100.1:443");
    for (first, rest) in [(&header[..5], &header[5..]), (&header[..], &b""[..]), (V2_LOCAL, b"")] {
        let mut client = front.outsider();
        client.write_all(first).unwrap();
        let mut pod = front.accept();
        client.write_all(rest).unwrap();
        assert_eq!(end_of(&mut client), End::Reset);
        assert_eq!(end_of(&mut pod), End::Reset, "not a byte of it reaches the pod");
    }
    front.ringport.until_metrics("it is counted", |metrics| metrics.ended("proxy_header_untrusted") == 3);

    // The server speaks first.
    let mut client = front.outsider();
    let mut pod = front.accept();
    pod.write_all(b"220 ready\r\n").unwrap();
    expect(&mut client, b"220 ready\r\n");
    // What begins like a header and is none.
    client.write_all(b"\r\n\r\nEHLO").unwrap();
    expect(&mut pod, b"\r\n\r\nEHLO");
    finish(&client);
    assert_eq!(read_to_end(&mut pod), (Vec::new(), End::Fin));
    drop(pod);
    assert_eq!(end_of(&mut client), End::Fin);
    // And what ends before it could become one.
    for said in [&b"PRO"[..], b""] {
        let mut client = front.outsider();
        client.write_all(said).unwrap();
        finish(&client);
        let mut pod = front.accept();
        assert_eq!(read_to_end(&mut pod), (said.to_vec(), End::Fin));
        drop(pod);
        assert_eq!(end_of(&mut client), End::Fin);
    }
}

#[test]
fn affinity_and_limits_are_those_of_the_client_that_was_told() {
    let annotations = [ACCEPT, ("max-connections-per-client", "1")];
    let mut front = Front::start_with(4, &annotations, &[], true);
    let listeners = std::mem::take(&mut front.listeners);
    let start = |(i, listener): (usize, TcpListener)| {
        listener.set_nonblocking(false).unwrap();
        Pod::start(listener, named(&format!("pod-{i}")))
    };
    let _pods: Vec<Pod> = listeners.into_iter().enumerate().map(start).collect();
    let from = |client: &str| {
        let mut peer = front.trusted();
        peer.write_all(&v1(client, "198.51.100.1:443")).unwrap();
        peer
    };
    let ask = |client: &str| {
        until("the client's place is free", || {
            let mut peer = from(client);
            peer.write_all(b"who?\n").ok()?;
            let mut name = String::new();
            peer.read_to_string(&mut name).ok().map(|_| name)
        })
    };
    let mut pods = std::collections::BTreeSet::new();
    for i in 1..=12 {
        let first = ask(&format!("192.0.2.{i}:4000"));
        assert_eq!(ask(&format!("192.0.2.{i}:5000")), first, "client {i}");
        pods.insert(first);
    }
    assert!(pods.len() > 1, "{pods:?}");
    let _held = from("192.0.2.100:4000");
    front.ringport.until_metrics("it is in", |metrics| metrics.active() == 1);
    let before = front.ringport.metrics().refused("client_limit");
    assert_eq!(end_of(&mut from("192.0.2.100:4001")), End::Reset);
    front.ringport.until_metrics("it is counted", |metrics| metrics.refused("client_limit") == before + 1);
    assert!(!ask("192.0.2.101:4000").is_empty(), "another client has a place of its own");
}

#[test]
fn source_ranges_are_for_the_client_that_was_told() {
    let front = Front::start(&[ACCEPT, ("source-ranges", "192.0.2.0/24")], &[]);
    let refused = v1("203.0.113.1:4000", "198.51.100.1:443");
    let mut peer = front.trusted();
    peer.write_all(&refused).unwrap();
    assert_eq!(end_of(&mut peer), End::Reset);
    front.ringport.until_metrics("it is counted", |metrics| metrics.refused("source_range") == 1);
    for admitted in [v1("192.0.2.1:4000", "198.51.100.1:443"), V2_LOCAL.to_vec()] {
        let mut peer = front.trusted();
        peer.write_all(&admitted).unwrap();
        drop(front.accept());
    }
}

#[test]
fn a_peer_that_says_nothing_takes_a_place_until_its_time_is_up() {
    let front = Front::start(&[ACCEPT], &["--max-connections-per-service", "2"]);
    let mut silent = [front.trusted(), front.trusted()];
    front.ringport.until_metrics("both are in", |metrics| metrics.active() == 2);
    // From the same address; the reset may be there before connect(2) is.
    assert_eq!(end_of_new(front.node), End::Reset);
    front.ringport.until_metrics("it is counted", |metrics| metrics.refused("service_limit") == 1);
    for peer in &mut silent {
        assert_eq!(end_of(peer), End::Reset);
    }
    let mut peer = connect(front.node);
    peer.write_all(V2_LOCAL).unwrap();
    drop(front.accept());
}
