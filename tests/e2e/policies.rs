//! Whom each client reaches by each frontend, and whom the pod sees: frontend × protocol × family × policy × client,
//! as in kube-proxy's tables of flows (pkg/proxy/iptables/proxier_test.go).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::harness::client::connect_from;
use crate::harness::netns::{CLIENT, Host, Lab, NODE, NODE_INSIDE, pod_ip};
use crate::harness::pod::Pod;
use crate::harness::process::Ringport;
use crate::harness::world::World;
use crate::udp::peers;

const PORT: u16 = 8080;
/// On no interface of anybody, IPv4 and IPv6.
const EXTERNAL: [&str; 2] = ["198.51.100.9", "2001:db8:9::9"];
const BALANCER: [&str; 2] = ["198.51.100.10", "2001:db8:9::10"];
const CLUSTER: [&str; 2] = ["10.96.0.50", "fd00:10:96::50"];

/// After this it is taken that nobody answers, where nobody should.
const SILENCE: Duration = Duration::from_millis(500);

/// Clients that ask, one after the other: at least so many, and until each pod has answered one, which the last of
/// them may count on.
const TRIES: std::ops::Range<usize> = 4..80;

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// One of these pods, which sees the client's address; or this node's.
    Pods(&'static [&'static str], Sees),
    /// Nothing: a reset or silence. The kernel's DROP is not for a proxy to do.
    Nothing,
    /// The kernel's refusal: a reset at once, or ICMP port unreachable.
    Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    Client,
    Node,
}

use Gets::{Nothing, Pods, Refusal};

const HERE: &[&str] = &["pod-0"];
const AWAY: &[&str] = &["pod-1"];
const BOTH: &[&str] = &["pod-0", "pod-1"];

struct Case {
    external: &'static str,
    internal: &'static str,
    /// Pods and the nodes they are on.
    pods: &'static [(u8, &'static str)],
    /// By nodePort, externalIP and load balancer address: an outside client, the node itself, a pod of the node.
    outside: Gets,
    node: Gets,
    pod: Gets,
    /// By clusterIP, whoever it is.
    cluster_ip: Gets,
}

const TWO: &[(u8, &str)] = &[(0, "node"), (1, "other")];

const CASES: [Case; 6] = [
    Case {
        external: "Cluster",
        internal: "Cluster",
        pods: TWO,
        outside: Pods(BOTH, Sees::Node),
        node: Pods(BOTH, Sees::Node),
        pod: Pods(BOTH, Sees::Node),
        cluster_ip: Pods(BOTH, Sees::Node),
    },
    Case {
        external: "Local",
        internal: "Cluster",
        pods: TWO,
        outside: Pods(HERE, Sees::Client),
        node: Pods(BOTH, Sees::Node),
        pod: Pods(BOTH, Sees::Node),
        cluster_ip: Pods(BOTH, Sees::Node),
    },
    Case {
        external: "Cluster",
        internal: "Local",
        pods: TWO,
        outside: Pods(BOTH, Sees::Node),
        node: Pods(BOTH, Sees::Node),
        pod: Pods(BOTH, Sees::Node),
        cluster_ip: Pods(HERE, Sees::Node),
    },
    Case {
        external: "Local",
        internal: "Cluster",
        pods: &[(1, "other")],
        outside: Nothing,
        node: Pods(AWAY, Sees::Node),
        pod: Pods(AWAY, Sees::Node),
        cluster_ip: Pods(AWAY, Sees::Node),
    },
    Case {
        external: "Cluster",
        internal: "Local",
        pods: &[(1, "other")],
        outside: Pods(AWAY, Sees::Node),
        node: Pods(AWAY, Sees::Node),
        pod: Pods(AWAY, Sees::Node),
        // kube-proxy: silence. Nobody at all could be served, so that the kernel refuses.
        cluster_ip: Refusal,
    },
    Case {
        external: "Local",
        internal: "Local",
        pods: &[],
        outside: Refusal,
        node: Refusal,
        pod: Refusal,
        cluster_ip: Refusal,
    },
];

#[test]
fn every_frontend_protocol_family_and_policy() {
    for case in &CASES {
        let Some(scene) = Scene::new(case) else { return };
        for family in 0..2 {
            let outside = [
                ("nodePort", NODE[family], scene.node_port),
                ("externalIP", EXTERNAL[family], 80),
                ("load balancer", BALANCER[family], 80),
            ];
            let pod = pod_ip(family, 3).to_string();
            let clients = [
                ("outside", &scene.lab.client, CLIENT[family], case.outside),
                ("the node", &scene.lab.node, NODE[family], case.node),
                ("a pod", &scene.lab.pods, &pod, case.pod),
            ];
            for (who, host, from, gets) in clients {
                for (frontend, ip, port) in outside {
                    scene.check(host, from, at(ip, port), gets, &format!("{who} by {frontend}"));
                }
                scene.check(
                    host,
                    from,
                    at(CLUSTER[family], 80),
                    case.cluster_ip,
                    &format!("{who} by clusterIP"),
                );
            }
        }
    }
}

/// Ringport on the node of a lab, with one Service of all kinds of addresses.
struct Scene {
    lab: Lab,
    node_port: u16,
    policies: String,
    _ringport: Ringport,
    _world: World,
    _tcp: Vec<Pod>,
    udp: Vec<peers::Pod>,
}

impl Scene {
    fn new(case: &Case) -> Option<Self> {
        let lab = Lab::new()?;
        let world = World::new();
        let node_port = world.port();
        world.apply("web", &manifests(node_port, case));
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for (number, _) in case.pods {
            for family in 0..2 {
                let (ip, name) = (pod_ip(family, *number), format!("pod-{number}"));
                let listener = lab.pods.run(|| TcpListener::bind((ip, PORT))).unwrap();
                let answer = name.clone();
                tcp.push(Pod::start(listener, move |stream| witness(stream, &answer)));
                udp.push(peers::Pod::start(&name, lab.pods.run(|| UdpSocket::bind((ip, PORT))).unwrap()));
            }
        }
        let args = ["--node-name", "node", "--cluster-ips", "--manage-addresses", "--transparent"];
        let ringport = lab.node.run(|| {
            let ringport = Ringport::spawn_through(&world, &["env"], &args);
            ringport.wait_ready();
            ringport
        });
        let policies = format!("external {} internal {} {:?}", case.external, case.internal, case.pods);
        Some(Self { lab, node_port, policies, _ringport: ringport, _world: world, _tcp: tcp, udp })
    }

    fn check(&self, host: &Host, from: &str, to: SocketAddr, gets: Gets, what: &str) {
        let from: IpAddr = from.parse().unwrap();
        let tcp = || host.run(|| ask_tcp(from, to));
        let udp = || self.ask_udp(host, from, to, gets);
        for (protocol, ask) in [("TCP", &tcp as &dyn Fn() -> Answer), ("UDP", &udp)] {
            let case = format!("{}: {protocol} {what}, {from} to {to}", self.policies);
            let Pods(pods, sees) = gets else {
                let answer = ask();
                let refused = matches!(answer, Answer::Refused);
                let right =
                    if gets == Refusal { refused } else { refused || matches!(answer, Answer::Nothing) };
                assert!(right, "{case}: {answer:?}, not {gets:?}");
                continue;
            };
            let mut answered = BTreeSet::new();
            for tried in 0..TRIES.end {
                if tried >= TRIES.start && answered.len() >= pods.len() {
                    break;
                }
                let answer = ask();
                let Answer::Pod(name, client, seen) = &answer else { panic!("{case}: {answer:?}") };
                let family = usize::from(to.is_ipv6());
                match sees {
                    Sees::Client => assert_eq!(seen, client, "{case}"),
                    Sees::Node => assert_eq!(seen.ip().to_string(), NODE_INSIDE[family], "{case}"),
                }
                answered.insert(name.clone());
            }
            assert!(answered.iter().eq(pods), "{case}: {answered:?}, not {pods:?}");
        }
    }

    fn ask_udp(&self, host: &Host, from: IpAddr, to: SocketAddr, gets: Gets) -> Answer {
        let client = host.run(|| peers::client_from((from, 0).into(), to)).unwrap();
        if gets == Nothing {
            client.set_read_timeout(Some(SILENCE)).unwrap();
        }
        match peers::ask(&client, b"who?") {
            Ok(name) => {
                let seen: Vec<SocketAddr> = self.udp.iter().flat_map(peers::Pod::take_peers).collect();
                assert_eq!(seen.len(), 1, "{seen:?}");
                Answer::Pod(name, client.local_addr().unwrap(), seen[0])
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Answer::Refused,
            Err(_) => Answer::Nothing,
        }
    }
}

#[derive(Debug)]
enum Answer {
    /// The pod, the client's own address, and the one that the pod saw.
    Pod(String, SocketAddr, SocketAddr),
    Nothing,
    Refused,
}

fn ask_tcp(from: IpAddr, to: SocketAddr) -> Answer {
    let mut stream = match connect_from(from, to) {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Answer::Refused,
        Err(_) => return Answer::Nothing,
    };
    let own = stream.local_addr().unwrap();
    let mut line = String::new();
    if stream.read_to_string(&mut line).is_err() {
        return Answer::Nothing;
    }
    match line.trim().split_once(' ') {
        Some((name, seen)) => Answer::Pod(name.to_owned(), own, seen.parse().unwrap()),
        None => Answer::Nothing,
    }
}

/// Answers with its name and the address that it sees.
fn witness(mut stream: TcpStream, name: &str) {
    let _ = writeln!(stream, "{name} {}", stream.peer_addr().unwrap());
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn manifests(node_port: u16, case: &Case) -> String {
    let list = |ips: [&str; 2]| format!("[\"{}\", \"{}\"]", ips[0], ips[1]);
    let mut text = format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: node\nspec:\n  podCIDRs: [\"10.244.0.0/24\", \
         \"fd00:244::/64\"]\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  type: LoadBalancer\n  \
         externalTrafficPolicy: {}\n  internalTrafficPolicy: {}\n  ipFamilyPolicy: RequireDualStack\n  clusterIP: {}\n  \
         clusterIPs: {}\n  externalIPs: {}\n  ports:\n",
        case.external,
        case.internal,
        CLUSTER[0],
        list(CLUSTER),
        list(EXTERNAL)
    );
    for protocol in ["TCP", "UDP"] {
        text += &format!(
            "  - name: {}\n    protocol: {protocol}\n    port: 80\n    targetPort: {PORT}\n    nodePort: {node_port}\n",
            protocol.to_lowercase()
        );
    }
    text += &format!(
        "status:\n  loadBalancer:\n    ingress:\n    - ip: \"{}\"\n    - ip: \"{}\"\n",
        BALANCER[0], BALANCER[1]
    );
    for (family, name) in ["IPv4", "IPv6"].into_iter().enumerate() {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-{family}\n  labels:\n    \
             kubernetes.io/service-name: web\naddressType: {name}\nports:\n- name: tcp\n  port: {PORT}\n- name: udp\n  \
             protocol: UDP\n  port: {PORT}\nendpoints:\n"
        );
        for (number, node) in case.pods {
            text += &format!("- addresses: [\"{}\"]\n  nodeName: {node}\n", pod_ip(family, *number));
        }
        if case.pods.is_empty() {
            text = text.trim_end_matches("endpoints:\n").to_owned() + "endpoints: []\n";
        }
    }
    text
}
