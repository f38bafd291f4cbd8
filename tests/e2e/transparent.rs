//! Which address a pod sees: this node's, or under `externalTrafficPolicy: Local` with `--transparent` the client's.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::client::{ask_from, connect_from, exchange};
use crate::harness::metrics::Metrics;
use crate::harness::netns::{CLIENT, Host, Lab, Lan, NODE, NODE_INSIDE, OTHER_CLIENT, PODS, pod_ip};
use crate::harness::pod::{Pod, echo};
use crate::harness::process::Ringport;
use crate::harness::wait::{PATIENCE, until};
use crate::harness::world::World;
use crate::udp::peers::{self, client_from};

/// On no interface of anybody.
const EXTERNAL: [&str; 2] = ["198.51.100.9", "2001:db8:9::9"];

const PORT: u16 = 8080;

/// The Service `web` and its endpoints, the first pods of both families, on the node `node`.
fn manifests(node_port: u16, policy: &str, pods: u8, more: &str) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  type: NodePort\n  \
         externalTrafficPolicy: {policy}\n  externalIPs: [\"{}\", \"{}\"]\n{more}  ports:\n",
        EXTERNAL[0], EXTERNAL[1]
    );
    for protocol in ["TCP", "UDP"] {
        text += &format!(
            "  - name: {}\n    protocol: {protocol}\n    port: 80\n    targetPort: {PORT}\n    nodePort: {node_port}\n",
            protocol.to_lowercase()
        );
    }
    for (family, name) in ["IPv4", "IPv6"].into_iter().enumerate() {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-{family}\n  labels:\n    \
             kubernetes.io/service-name: web\naddressType: {name}\nports:\n- name: tcp\n  port: {PORT}\n- name: udp\n  \
             protocol: UDP\n  port: {PORT}\nendpoints:\n"
        );
        for pod in 0..pods {
            text += &format!("- addresses: [\"{}\"]\n  nodeName: node\n", pod_ip(family, pod));
        }
    }
    text
}

/// Answers with the address that it sees.
fn witness(mut stream: TcpStream) {
    let _ = writeln!(stream, "{}", stream.peer_addr().unwrap());
}

/// A laboratory whose node has ringport, in front of one pod with an address of each family.
struct Scene {
    lab: Lab,
    world: World,
    node_port: u16,
    _pods: Vec<Pod>,
    udp_pods: Vec<peers::Pod>,
}

impl Scene {
    fn new(policy: &str, serve: fn(TcpStream)) -> Option<Self> {
        let lab = Lab::new()?;
        let world = World::new();
        let node_port = world.port();
        world.apply("web", &manifests(node_port, policy, 1, ""));
        // What --manage-addresses does.
        for address in EXTERNAL {
            lab.node.ip(&format!("route add local {address} dev lo"));
        }
        let listen = |family| {
            let listener = lab.pods.run(|| TcpListener::bind((pod_ip(family, 0), PORT))).unwrap();
            Pod::start(listener, serve)
        };
        let pods = [0, 1].map(listen).into();
        let hear = |family| udp_pod(&lab.pods, pod_ip(family, 0), "pod-0");
        let udp_pods = [0, 1].map(hear).into();
        Some(Self { lab, world, node_port, _pods: pods, udp_pods })
    }

    fn start(&self, args: &[&str]) -> Ringport {
        self.start_through(&["env"], args)
    }

    fn start_through(&self, program: &[&str], args: &[&str]) -> Ringport {
        self.start_in(&self.world, program, args)
    }

    fn start_in(&self, world: &World, program: &[&str], args: &[&str]) -> Ringport {
        self.lab.node.run(|| {
            let args = [&["--node-name", "node"], args].concat();
            let ringport = Ringport::spawn_through(world, program, &args);
            ringport.wait_ready();
            ringport
        })
    }

    /// The ways in of one family.
    fn frontends(&self, family: usize) -> [SocketAddr; 2] {
        [(NODE[family], self.node_port), (EXTERNAL[family], 80)].map(|(ip, port)| at(ip, port))
    }

    /// A client of UDP, and whom the pod sees. The socket stays open, so that its port is not used again.
    fn seen_by_udp(&self, host: &Host, from: &str, to: SocketAddr) -> (UdpSocket, SocketAddr) {
        let client = host.run(|| client_from(at(from, 0), to)).unwrap();
        let answer = peers::ask(&client, b"who am I?").unwrap_or_else(|e| panic!("UDP {from} to {to}: {e}"));
        assert_eq!(answer, "pod-0");
        let seen: Vec<SocketAddr> = self.udp_pods.iter().flat_map(peers::Pod::take_peers).collect();
        assert_eq!(seen.len(), 1, "UDP {from} to {to}: {seen:?}");
        (client, seen[0])
    }

    /// The nftables tables, routing rules and routes that are not the kernel's own.
    fn rules(&self) -> String {
        let mut text = self.lab.node.command("nft list tables");
        for family in ["-4", "-6"] {
            text += &self.lab.node.ip(&format!("{family} rule show"));
            text += &self.lab.node.ip(&format!("{family} route show table all proto 82"));
        }
        text
    }
}

fn udp_pod(host: &Host, ip: IpAddr, name: &str) -> peers::Pod {
    peers::Pod::start(name, host.run(|| UdpSocket::bind((ip, PORT))).unwrap())
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Who the client is, and whom the pod sees.
fn seen(host: &Host, from: &str, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    host.run(|| {
        let mut stream =
            connect_from(from.parse().unwrap(), to).unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
        let mut line = String::new();
        stream.read_to_string(&mut line).unwrap();
        (
            stream.local_addr().unwrap(),
            line.trim().parse().unwrap_or_else(|e| panic!("{from} to {to}: {line:?}: {e}")),
        )
    })
}

#[test]
fn the_address_that_a_pod_sees_for_each_frontend_family_and_policy() {
    for (policy, args, kept) in [
        ("Cluster", &["--transparent"][..], false),
        ("Local", &["--transparent"], true),
        ("Local", &["--transparent", "--transparent-mark", "0x20000", "--transparent-table", "7777"], true),
        ("Local", &[], false),
    ] {
        let Some(scene) = Scene::new(policy, witness) else { return };
        let ringport = scene.start(args);
        let mut clients = Vec::new();
        for family in 0..2 {
            for frontend in scene.frontends(family) {
                for client in [CLIENT[family], OTHER_CLIENT[family]] {
                    let tcp = seen(&scene.lab.client, client, frontend);
                    let (socket, pod_sees) = scene.seen_by_udp(&scene.lab.client, client, frontend);
                    let udp = (socket.local_addr().unwrap(), pod_sees);
                    clients.push(socket);
                    for (protocol, (from, pod_sees)) in [("TCP", tcp), ("UDP", udp)] {
                        let case = format!("{protocol} {policy} {args:?} {frontend}");
                        if kept {
                            assert_eq!(pod_sees, from, "{case}");
                        } else {
                            assert_eq!(pod_sees.ip().to_string(), NODE_INSIDE[family], "{case}");
                        }
                    }
                }
            }
            // The node itself, and a pod beside the endpoint: answers to them would not come this way.
            for from in [NODE[family], NODE_INSIDE[family]] {
                let (_, pod_sees) = seen(&scene.lab.node, from, at(from, scene.node_port));
                assert_eq!(pod_sees.ip().to_string(), NODE_INSIDE[family], "{policy} from the node");
                let (_, pod_sees) = scene.seen_by_udp(&scene.lab.node, from, at(from, scene.node_port));
                assert_eq!(pod_sees.ip().to_string(), NODE_INSIDE[family], "UDP {policy} from the node");
            }
            let (pod, node) = (pod_ip(family, 1).to_string(), at(NODE[family], scene.node_port));
            let (_, pod_sees) = seen(&scene.lab.pods, &pod, node);
            assert_eq!(pod_sees.ip().to_string(), NODE_INSIDE[family], "{policy} from a pod");
            let (_, pod_sees) = scene.seen_by_udp(&scene.lab.pods, &pod, node);
            assert_eq!(pod_sees.ip().to_string(), NODE_INSIDE[family], "UDP {policy} from a pod");
        }
        let (_, loopback) = seen(&scene.lab.node, "127.0.0.1", at("127.0.0.1", scene.node_port));
        assert_eq!(loopback.ip().to_string(), NODE_INSIDE[0]);
        let metrics = scene.lab.node.run(|| ringport.metrics());
        assert_eq!(metrics.seen("client"), if kept { 16 } else { 0 });
        let warned = ringport.log().contains("pods see the address of this node instead of the client's");
        assert_eq!(warned, policy == "Local" && !kept, "{policy} {args:?}:\n{}", ringport.log());
    }
}

#[test]
fn a_client_that_sends_to_two_frontends_from_one_port_gets_the_answers_of_both() {
    let Some(scene) = Scene::new("Local", witness) else { return };
    let _ringport = scene.start(&["--transparent"]);
    for (family, from) in CLIENT.into_iter().enumerate() {
        let client = scene.lab.client.run(|| UdpSocket::bind(at(from, 0))).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let own = client.local_addr().unwrap();
        for frontend in scene.frontends(family) {
            let mut buffer = [0; 16];
            client.send_to(b"?", frontend).unwrap();
            let (n, by) = peers::receive(&client, &mut buffer).unwrap();
            assert_eq!((&buffer[..n], by), (&b"pod-0:?"[..], frontend));
        }
        // It cannot see one port twice.
        let seen: Vec<SocketAddr> = scene.udp_pods.iter().flat_map(peers::Pod::take_peers).collect();
        assert!(seen.len() == 2 && seen.contains(&own), "{own}: {seen:?}");
        assert!(seen.iter().all(|peer| peer.ip() == own.ip()), "{own}: {seen:?}");
    }
}

#[test]
fn what_icmp_says_of_a_datagram_from_the_clients_address_ends_the_flow() {
    let Some(mut scene) = Scene::new("Local", witness) else { return };
    scene.udp_pods.clear();
    let ringport = scene.start(&["--transparent"]);
    for (family, from) in CLIENT.into_iter().enumerate() {
        let client = scene.lab.client.run(|| client_from(at(from, 0), scene.frontends(family)[0])).unwrap();
        client.send(b"?").unwrap();
        let over = |metrics: &Metrics| metrics.ended("endpoint_reset") == family as u64 + 1;
        scene.lab.node.run(|| ringport.until_metrics("the pod's refusal ends the flow", over));
    }
    assert_eq!(scene.lab.node.run(|| ringport.metrics()).seen("client"), 2);
}

#[test]
fn a_long_session_and_a_client_that_uses_its_port_again() {
    let Some(scene) = Scene::new("Local", echo) else { return };
    let ringport = scene.start(&["--transparent"]);
    for (family, from) in CLIENT.into_iter().enumerate() {
        let frontends = scene.frontends(family);
        // From one port of the client to both frontends at once: the pod cannot see the same port twice.
        let connect = |to: SocketAddr| {
            scene.lab.client.run(|| {
                let socket =
                    socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)
                        .unwrap();
                socket.set_reuse_address(true).unwrap();
                socket.bind(&at(from, 45_678).into()).unwrap();
                socket.connect(&to.into()).unwrap();
                crate::harness::client::patient(socket.into())
            })
        };
        let mut both = frontends.map(connect);
        let message: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        for stream in &mut both {
            let mut other = stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| other.write_all(&message).unwrap());
                let mut got = vec![0; message.len()];
                stream.read_exact(&mut got).unwrap();
                assert!(got == message, "changed on the way");
            });
        }
        // After a reset there is no TIME_WAIT, so the client may come again from its port.
        let [first, second] = both;
        crate::harness::client::reset(first);
        crate::harness::client::reset(second);
        scene.lab.node.run(|| ringport.until_metrics("both are over", |metrics| metrics.active() == 0));
        let mut again = connect(frontends[0]);
        let mut other = again.try_clone().unwrap();
        exchange(&mut other, &mut again, b"again");
        drop((again, other));
        scene.lab.node.run(|| ringport.until_metrics("it is over", |metrics| metrics.active() == 0));
    }
}

#[test]
fn what_is_set_up_is_removed_at_the_end_and_after_a_crash_at_the_next_start_and_nothing_else() {
    let Some(scene) = Scene::new("Local", witness) else { return };
    let node = &scene.lab.node;
    node.command("nft add table inet ringport_of_others");
    node.ip("rule add priority 4000 fwmark 0x1000/0x1000 lookup 100");
    node.ip("route add local default dev lo table 100");
    let before = scene.rules();
    let frontend = scene.frontends(0)[0];

    let mut ringport = scene.start(&["--transparent"]);
    let during = scene.rules();
    assert!(
        during.contains("table inet ringport_4096") && during.contains("lookup 4096 proto 82"),
        "{during}"
    );
    ringport.signal(Signal::TERM);
    assert!(ringport.wait(Duration::from_secs(20)).success());
    assert_eq!(scene.rules(), before, "after the end");

    for args in [&["--transparent"][..], &[]] {
        let mut ringport = scene.start(&["--transparent"]);
        let (from, pod_sees) = seen(&scene.lab.client, CLIENT[0], frontend);
        // The rule of others has the same mark, and comes first; it leads to the same place.
        assert_eq!(pod_sees, from);
        ringport.signal(Signal::KILL);
        ringport.wait(Duration::from_secs(20));
        assert_eq!(scene.rules(), during, "a crash leaves it behind");
        let mut next = scene.start(args);
        let now = scene.rules();
        assert_eq!(
            now,
            if args.is_empty() { before.clone() } else { during.clone() },
            "{args:?}:\n{}",
            next.log()
        );
        next.signal(Signal::TERM);
        assert!(next.wait(Duration::from_secs(20)).success());
        assert_eq!(scene.rules(), before);
    }
}

#[test]
fn what_somebody_removes_of_it_is_made_anew() {
    let Some(scene) = Scene::new("Local", witness) else { return };
    let ringport = scene.start(&["--transparent"]);
    let before = scene.rules();
    for damage in [
        "nft flush ruleset",
        "nft flush table inet ringport_4096",
        "ip rule del priority 4096",
        "ip -6 route flush table 4096",
    ] {
        scene.lab.node.command(damage);
        let whole = || {
            let ruleset = scene.lab.node.command("nft list ruleset");
            scene.rules() == before && ruleset.contains("socket transparent 1")
        };
        until(&format!("it is repaired, after {damage}"), || whole().then_some(()));
        for (family, client) in CLIENT.into_iter().enumerate() {
            let (_client, pod_sees) =
                scene.seen_by_udp(&scene.lab.client, client, scene.frontends(family)[0]);
            assert_eq!(pod_sees.ip().to_string(), client, "{damage}");
        }
    }
    // It is told when all of it is looked at.
    until("each is told", || (ringport.log().matches("somebody had removed").count() == 4).then_some(()));
}

#[test]
fn where_it_is_not_possible_the_service_works_and_says_what_the_pod_sees() {
    let Some(scene) = Scene::new("Local", witness) else { return };
    let without = |what: &str| scene.world.path(what).to_string_lossy().into_owned();
    // A PATH with ip, but without nft.
    let path = without("bin");
    std::fs::create_dir(&path).unwrap();
    let ip =
        ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].into_iter().find(|ip| std::path::Path::new(ip).exists());
    std::os::unix::fs::symlink(ip.unwrap(), format!("{path}/ip")).unwrap();
    let path = format!("PATH={path}");
    let before = scene.rules();
    for (program, why) in [
        (
            &["/usr/bin/setpriv", "--bounding-set", "-net_admin,-net_raw"][..],
            "this process has no CAP_NET_ADMIN",
        ),
        (&["/usr/bin/env", &path], "there is no `nft`; install nftables"),
    ] {
        let ringport = scene.start_through(program, &["--transparent"]);
        for family in 0..2 {
            let (_, pod_sees) = seen(&scene.lab.client, CLIENT[family], scene.frontends(family)[0]);
            assert_eq!(pod_sees.ip().to_string(), NODE_INSIDE[family]);
        }
        let said = format!(
            "Service default/web: spec.externalTrafficPolicy: pods see the address of this node instead of the \
             client's: --transparent is not possible: {why}"
        );
        assert!(ringport.log().contains(&said), "{}", ringport.log());
        assert_eq!(scene.rules(), before, "{why}");
    }
    // Two on one node: the second has to do without, and takes nothing from the first.
    let first = scene.start(&["--transparent"]);
    let during = scene.rules();
    let others = World::new();
    let addresses = format!("  externalIPs: [\"{}\", \"{}\"]\n", EXTERNAL[0], EXTERNAL[1]);
    others.apply("web", &manifests(others.port(), "Local", 1, "").replace(&addresses, ""));
    for args in [&["--transparent"][..], &[]] {
        let second = scene.start_in(&others, &["env"], args);
        assert!(second.log().contains("pods see the address of this node"), "{}", second.log());
        drop(second);
        assert_eq!(scene.rules(), during, "{args:?}");
    }
    assert!(!first.log().contains("pods see the address of this node"), "{}", first.log());
}

#[test]
fn a_pod_whose_answers_do_not_come_back_is_connected_from_the_node() {
    let Some(scene) = Scene::new("Local", witness) else { return };
    let ringport = scene.start(&["--transparent", "--connect-timeout", "1s"]);
    // As where a network plug-in takes packets past the firewall: what is for the client is not seen here.
    scene.lab.node.command("nft add table inet past");
    scene
        .lab
        .node
        .command("nft add chain inet past prerouting { type filter hook prerouting priority raw ; }");
    scene.lab.node.command("nft add rule inet past prerouting iifname inside ip daddr 192.0.2.0/24 drop");
    let (_, pod_sees) = seen(&scene.lab.client, CLIENT[0], scene.frontends(0)[0]);
    assert_eq!(pod_sees.ip().to_string(), NODE_INSIDE[0]);
    assert!(
        ringport.log().contains("the pod answers this node, but not the client's address"),
        "{}",
        ringport.log()
    );
    let metrics = scene.lab.node.run(|| ringport.metrics());
    assert_eq!((metrics.seen("client"), metrics.seen("node")), (0, 1));
}

#[test]
fn two_nodes_give_the_same_client_the_same_pod() {
    let Some(lan) = Lan::new() else { return };
    let hosts = (Host::new("clients"), Host::new("one"), Host::new("two"), Host::new("pods"));
    let (Some(clients), Some(one), Some(two), Some(pods)) = hosts else { return };
    let world = World::new();
    let node_port = world.port();
    let affinity = "  sessionAffinity: ClientIP\n";
    world.apply("web", &manifests(node_port, "Cluster", PODS, affinity));
    for (host, net) in [(&clients, "198.51.100"), (&one, "198.51.101"), (&two, "198.51.102")] {
        lan.attach(host, "eth0", &[&format!("{net}.1/16")]);
    }
    lan.attach(&pods, "eth0", &["198.51.103.1/16"]);
    for host in [&one, &two] {
        host.ip("route add 10.244.0.0/24 via 198.51.103.1");
    }
    let (mut running, mut udp_pods) = (Vec::new(), Vec::new());
    for pod in 0..PODS {
        pods.address("lo", &[&format!("{}/32", pod_ip(0, pod))]);
        running.push(pods.pod(SocketAddr::new(pod_ip(0, pod), PORT), &format!("pod-{pod}")));
        udp_pods.push(udp_pod(&pods, pod_ip(0, pod), &format!("pod-{pod}")));
    }
    let start = |host: &Host, name: &str| {
        host.run(|| {
            let ringport = Ringport::spawn_through(&world, &["env"], &["--node-name", name]);
            ringport.wait_ready();
            ringport
        })
    };
    // Each datagram comes from another port.
    let both = |from: IpAddr, to: SocketAddr| {
        let udp = client_from((from, 0).into(), to).and_then(|client| peers::ask(&client, b"who?"));
        [ask_from(from, to), udp].map(|answer| answer.unwrap_or_else(|e| panic!("{from} to {to}: {e}")))
    };
    let first = start(&one, "one");
    // Each in a folder of its own would be the same: what it serves is in the manifests.
    let mut answers = Vec::new();
    let addresses: Vec<String> = (1..=24).map(|i| format!("198.51.100.{}", 100 + i)).collect();
    for address in &addresses {
        clients.address("eth0", &[&format!("{address}/16")]);
        let from: IpAddr = address.parse().unwrap();
        answers.push(clients.run(|| both(from, at("198.51.101.1", node_port))));
    }
    let second = start(&two, "two");
    for (address, answer) in addresses.iter().zip(&answers) {
        let from: IpAddr = address.parse().unwrap();
        for _ in 0..2 {
            for node in ["198.51.102.1", "198.51.101.1"] {
                let again = clients.run(|| both(from, at(node, node_port)));
                assert_eq!(again, *answer, "{address} through {node}");
            }
        }
    }
    for protocol in 0..2 {
        let different: BTreeSet<&String> = answers.iter().map(|answer| &answer[protocol]).collect();
        assert!(different.len() > 1, "{different:?}");
    }
    drop((first, second));
}
