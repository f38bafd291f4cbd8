//! Addresses that no interface has: that their traffic arrives, and what is left behind on the node.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::client::{ask, ask_from, exchange, finish, try_connect};
use crate::harness::manifest::pod;
use crate::harness::netns::{CLIENT, Lab, NODE, OTHER_CLIENT, POD, pod_ip};
use crate::harness::pod::{Pod, echo};
use crate::harness::process::Ringport;
use crate::harness::wait::until;
use crate::harness::world::World;
use crate::udp::peers;

/// On no interface: addresses for documentation.
const EXTERNAL: [&str; 2] = ["203.0.113.110", "2001:db8:9::110"];
const CLUSTER: &str = "10.96.0.77";
const MANAGE: &[&str] = &["--manage-addresses"];

/// A lab whose node runs ringport with a Service `web` of one pod that answers on both families.
struct Rig {
    lab: Lab,
    world: World,
    _pods: Vec<Pod>,
    udp_pods: Vec<peers::Pod>,
}

impl Rig {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let world = World::new();
        let pods =
            (0..2).map(|family| lab.pods.pod(SocketAddr::new(pod_ip(family, 0), 8080), "pod")).collect();
        let hear = |family| {
            let socket = lab.pods.run(|| UdpSocket::bind((pod_ip(family, 0), 8080)));
            peers::Pod::start("pod", socket.unwrap())
        };
        let udp_pods = [0, 1].map(hear).into();
        let both = pod("pod", "web", POD[0].parse().unwrap()).replace(
            "  conditions:",
            &format!("  podIPs:\n  - ip: {}\n  - ip: {}\n  conditions:", POD[0], POD[1]),
        );
        world.apply("pod", &both);
        Some(Self { lab, world, _pods: pods, udp_pods })
    }

    /// Applies `web` with these lines in its spec and its metadata.
    fn service(&self, spec: &str, metadata: &str) {
        self.world.apply("service", &service("web", spec, metadata));
    }

    /// The same for UDP.
    fn udp_service(&self, spec: &str, metadata: &str) {
        let tcp = service("web", spec, metadata);
        self.world.apply("service", &tcp.replace("{port: 80,", "{protocol: UDP, port: 80,"));
    }

    fn spawn_through(&self, program: &[&str], args: &[&str]) -> Ringport {
        self.lab.node.run(|| {
            let ringport = Ringport::spawn_through(&self.world, program, args);
            ringport.wait_ready();
            ringport
        })
    }

    fn start(&self, args: &[&str]) -> Ringport {
        self.spawn_through(&["setpriv", "--no-new-privs"], args)
    }

    /// Asks from the client for the pod's name at an address.
    fn ask(&self, address: &str) -> std::io::Result<String> {
        self.lab.client.run(|| ask(at(address)))
    }

    /// What the kernel has as local routes with ringport's protocol, in order.
    fn routes(&self) -> Vec<String> {
        let list = |family: &str| self.lab.node.ip(&format!("{family} route show table local proto 82"));
        let text = list("-4") + &list("-6");
        let second = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        let mut routes: Vec<String> = text.lines().filter_map(second).collect();
        routes.sort();
        routes
    }

    fn until_routes(&self, wanted: &[&str]) {
        until("the routes are as wanted", || (self.routes() == wanted).then_some(()));
    }
}

fn service(name: &str, spec: &str, metadata: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n{metadata}spec:\n  selector: {{app: web}}\n  \
         ipFamilyPolicy: RequireDualStack\n  ports: [{{port: 80, targetPort: 8080}}]\n{spec}"
    )
}

fn external(addresses: &[&str]) -> String {
    format!(
        "  externalIPs: [{}]\n",
        addresses.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ")
    )
}

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 80)
}

fn ask_udp(address: &str) -> std::io::Result<String> {
    peers::ask(&peers::client(at(address)), b"who?")
}

#[test]
fn an_external_ip_of_no_interface_answers_a_client_of_another_host_and_leaves_nothing() {
    let Some(rig) = Rig::new() else { return };
    rig.service(&external(&[EXTERNAL[0], EXTERNAL[1], NODE[0]]), "");
    // The interfaces' own link-local addresses come when they like.
    let table = || {
        let text = rig.lab.node.ip("route show table all") + &rig.lab.node.ip("-6 route show table all");
        text.lines().filter(|line| !line.contains("fe80")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = table();
    let mut ringport = rig.start(MANAGE);
    for address in EXTERNAL {
        assert_eq!(rig.ask(address).unwrap(), "pod", "{address}");
        assert_eq!(rig.lab.node.run(|| ask(at(address))).unwrap(), "pod", "from the node itself");
        assert_eq!(rig.lab.pods.run(|| ask(at(address))).unwrap(), "pod", "from a pod");
    }
    assert_eq!(rig.ask(NODE[0]).unwrap(), "pod");
    assert_eq!(rig.routes(), [EXTERNAL[1], EXTERNAL[0]], "none for an address of the node");
    assert!(!ringport.log().contains("ip route add"), "{}", ringport.log());

    // One goes, another one comes.
    rig.service(&external(&[EXTERNAL[1], "203.0.113.111"]), "");
    rig.until_routes(&[EXTERNAL[1], "203.0.113.111"]);
    assert_eq!(rig.ask("203.0.113.111").unwrap(), "pod");

    // It becomes the node's own, and ceases to be.
    rig.lab.node.address("outside", &["203.0.113.111/32"]);
    rig.until_routes(&[EXTERNAL[1]]);
    assert_eq!(rig.ask("203.0.113.111").unwrap(), "pod");
    rig.lab.node.ip("address del 203.0.113.111/32 dev outside");
    rig.until_routes(&[EXTERNAL[1], "203.0.113.111"]);
    assert_eq!(rig.ask("203.0.113.111").unwrap(), "pod");

    ringport.signal(Signal::TERM);
    assert_eq!(ringport.wait(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(table(), before);
}

#[test]
fn datagrams_to_an_external_ip_of_no_interface_arrive_and_are_answered_from_it() {
    let Some(rig) = Rig::new() else { return };
    rig.udp_service(&external(&EXTERNAL), "");
    let _ringport = rig.start(MANAGE);
    for address in EXTERNAL {
        for (host, whose) in
            [(&rig.lab.client, "a client"), (&rig.lab.node, "the node"), (&rig.lab.pods, "a pod")]
        {
            assert_eq!(host.run(|| ask_udp(address)).unwrap(), "pod", "{whose} to {address}");
        }
    }
    assert_eq!(rig.routes(), [EXTERNAL[1], EXTERNAL[0]]);
    rig.world.delete("service");
    rig.until_routes(&[]);
}

#[test]
fn an_address_that_is_not_served_any_more_stays_while_it_has_a_session() {
    let Some(rig) = Rig::new() else { return };
    let listener = rig.lab.pods.run(|| std::net::TcpListener::bind((pod_ip(0, 1), 8080))).unwrap();
    let _echo = Pod::start(listener, echo);
    rig.world.apply("pod", &pod("pod", "web", "10.244.0.11".parse().unwrap()));
    rig.service(&external(&[EXTERNAL[0]]), "");
    let ringport = rig.start(MANAGE);
    let mut client = rig.lab.client.run(|| try_connect(at(EXTERNAL[0]))).unwrap();
    let generation = rig.lab.node.run(|| ringport.metrics()).generation();
    rig.world.delete("service");
    rig.lab.node.run(|| ringport.until_metrics("it is gone", |m| m.generation() > generation));
    // Later than the next look at what may be removed.
    crate::harness::wait::measure_for(Duration::from_millis(1500));
    let mut other = client.try_clone().unwrap();
    exchange(&mut client, &mut other, b"still there");
    assert_eq!(rig.routes(), [EXTERNAL[0]]);
    finish(&client);
    drop((client, other));
    rig.until_routes(&[]);
}

#[test]
fn a_cluster_ip_is_reached_from_the_node_and_from_its_pods() {
    let Some(rig) = Rig::new() else { return };
    // That of the other family is the program's own choice.
    rig.service(&format!("  clusterIP: {CLUSTER}\n"), "");
    let without = rig.start(MANAGE);
    assert_eq!(rig.routes(), [""; 0], "cluster IPs are not served");
    drop(without);
    let _ringport = rig.start(&["--manage-addresses", "--cluster-ips"]);
    let routes = rig.routes();
    assert_eq!(routes.len(), 2, "one of each family: {routes:?}");
    assert!(routes.contains(&CLUSTER.to_owned()), "{routes:?}");
    for address in &routes {
        assert_eq!(rig.lab.node.run(|| ask(at(address))).unwrap(), "pod", "from the node to {address}");
        assert_eq!(rig.lab.pods.run(|| ask(at(address))).unwrap(), "pod", "from a pod to {address}");
    }
}

#[test]
fn a_cluster_ip_answers_datagrams_of_the_node_and_of_its_pods() {
    let Some(rig) = Rig::new() else { return };
    rig.udp_service(&format!("  clusterIP: {CLUSTER}\n"), "");
    let _ringport = rig.start(&["--manage-addresses", "--cluster-ips"]);
    let routes = rig.routes();
    assert!(routes.len() == 2 && routes.contains(&CLUSTER.to_owned()), "{routes:?}");
    for address in &routes {
        for (host, whose) in [(&rig.lab.node, "the node"), (&rig.lab.pods, "a pod")] {
            assert_eq!(host.run(|| ask_udp(address)).unwrap(), "pod", "{whose} to {address}");
        }
    }
}

#[test]
fn what_a_killed_process_left_is_taken_over_or_removed_and_routes_of_others_stay() {
    let Some(rig) = Rig::new() else { return };
    rig.service(&external(&[EXTERNAL[0], "203.0.113.111"]), "");
    for other in ["203.0.113.200", "203.0.113.111"] {
        rig.lab.node.ip(&format!("route add local {other} dev lo"));
    }
    let mut killed = rig.start(MANAGE);
    assert_eq!(rig.routes(), [EXTERNAL[0]], "the other one is there already");
    killed.signal(Signal::KILL);
    killed.wait(Duration::from_secs(10));
    assert_eq!(rig.routes(), [EXTERNAL[0]]);

    rig.service(&external(&["203.0.113.112"]), "");
    let mut next = rig.start(MANAGE);
    assert_eq!(rig.routes(), ["203.0.113.112"]);
    next.signal(Signal::KILL);
    next.wait(Duration::from_secs(10));
    // Needed again: it stays as it is.
    let mut last = rig.start(MANAGE);
    assert_eq!(rig.ask("203.0.113.112").unwrap(), "pod");
    last.signal(Signal::TERM);
    last.wait(Duration::from_secs(20));
    assert_eq!(rig.routes(), [""; 0]);
    for other in ["203.0.113.200", "203.0.113.111"] {
        assert!(rig.lab.node.ip("route show table local").contains(&format!("local {other}")), "{other}");
    }
}

#[test]
fn a_route_that_somebody_removes_is_made_anew() {
    let Some(rig) = Rig::new() else { return };
    rig.service(&external(&[EXTERNAL[0]]), "");
    let ringport = rig.start(MANAGE);
    rig.lab.node.ip("route flush table local proto 82");
    assert_eq!(rig.routes(), [""; 0]);
    rig.until_routes(&[EXTERNAL[0]]);
    assert_eq!(rig.ask(EXTERNAL[0]).unwrap(), "pod");
    assert!(ringport.log().contains("somebody had removed it"), "{}", ringport.log());
}

#[test]
fn what_a_killed_process_left_goes_also_where_the_next_one_manages_nothing() {
    let Some(rig) = Rig::new() else { return };
    rig.service(&external(&[EXTERNAL[0]]), "");
    let mut killed = rig.start(MANAGE);
    killed.signal(Signal::KILL);
    killed.wait(Duration::from_secs(10));
    assert_eq!(rig.routes(), [EXTERNAL[0]]);
    rig.lab.node.ip("route add local 203.0.113.200 dev lo");
    let next = rig.start(&[]);
    assert_eq!(rig.routes(), [""; 0]);
    assert!(next.log().contains("a former ringport has left"), "{}", next.log());
    // It is told, as if there had never been one.
    assert!(next.log().contains("start with --manage-addresses"), "{}", next.log());
    assert!(rig.lab.node.ip("route show table local").contains("local 203.0.113.200"));
    // One that manages keeps its own.
    drop(next);
    let _manages = rig.start(MANAGE);
    let _beside = rig.start(&[]);
    assert_eq!(rig.routes(), [EXTERNAL[0]]);
}

#[test]
fn only_one_process_manages_the_routes_and_the_next_one_takes_them_over() {
    let Some(rig) = Rig::new() else { return };
    rig.service(&external(&[EXTERNAL[0]]), "");
    let first = rig.start(MANAGE);
    let elsewhere = World::new();
    elsewhere.apply("other", &service("other", &external(&["203.0.113.112"]), ""));
    let second = rig.lab.node.run(|| {
        let second = Ringport::spawn_through(&elsewhere, &["setpriv", "--no-new-privs"], MANAGE);
        second.wait_ready();
        second
    });
    let log = second.log();
    assert!(
        log.contains("another ringport manages") && log.contains("ip route add local 203.0.113.112 dev lo"),
        "{log}"
    );
    assert_eq!(rig.routes(), [EXTERNAL[0]]);
    drop(first);
    rig.until_routes(&["203.0.113.112"]);
}

#[test]
fn without_the_option_or_the_right_one_line_says_which_command_makes_it_arrive() {
    let Some(rig) = Rig::new() else { return };
    rig.service(&external(&EXTERNAL), "");
    // Root without the right that is needed.
    let unable = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    for (program, args, says) in [
        (&["setpriv", "--no-new-privs"][..], &[][..], "start with --manage-addresses, or run"),
        (&unable[..], MANAGE, "it needs CAP_NET_ADMIN"),
    ] {
        let ringport = rig.spawn_through(program, args);
        let log = ringport.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("ip route add local")).collect();
        assert!(lines.len() == 1 && lines[0].contains(says), "one line that says {says}:\n{log}");
        assert_eq!(rig.routes(), [""; 0]);
        let metrics = rig.lab.node.run(|| ringport.metrics());
        assert_eq!(metrics.sum("ringport_problems_by_reason", &["reason=\"AddressNotRouted\""]), 1);
        // The commands do what they say, and the problem is over.
        let (_, commands) = lines[0].split_once("run `").unwrap();
        let commands = commands.split_once('`').unwrap().0;
        commands.split(';').for_each(|command| _ = rig.lab.node.command(command));
        rig.lab.node.run(|| {
            ringport.until_metrics("it arrives", |m| {
                m.sum("ringport_problems_by_reason", &["reason=\"AddressNotRouted\""]) == 0
            })
        });
        for address in EXTERNAL {
            assert_eq!(rig.ask(address).unwrap(), "pod", "{address}");
            rig.lab.node.ip(&format!("route del local {address} dev lo table local"));
        }
    }
}

#[test]
fn source_ranges_refuse_others_with_a_reset_and_count_them() {
    let Some(rig) = Rig::new() else { return };
    let status = format!(
        "  type: LoadBalancer\n  loadBalancerSourceRanges: [\"{}/32 \", \" {}/128\"]\n{}status:\n  loadBalancer:\n    \
         ingress: [{{ip: \"203.0.113.120\"}}, {{ip: \"2001:db8:9::120\"}}]\n",
        CLIENT[0],
        CLIENT[1],
        external(&EXTERNAL)
    );
    rig.service(&status, "");
    let ringport = rig.start(MANAGE);
    let from = |from: &str, to: &str| {
        let from: IpAddr = from.parse().unwrap();
        rig.lab.client.run(|| ask_from(from, at(to)))
    };
    for (family, balancer) in ["203.0.113.120", "2001:db8:9::120"].into_iter().enumerate() {
        assert_eq!(from(CLIENT[family], balancer).unwrap(), "pod");
        let error = from(OTHER_CLIENT[family], balancer).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        assert_eq!(rig.lab.node.run(|| ask(at(balancer))).unwrap(), "pod", "the node itself may");
        // They are for load balancer addresses alone.
        assert_eq!(from(OTHER_CLIENT[family], EXTERNAL[family]).unwrap(), "pod");
    }
    let refused = || rig.lab.node.run(|| ringport.metrics()).refused("source_range");
    assert_eq!(refused(), 2);

    let annotation = format!(
        "  annotations:\n    ringport.io/source-ranges: \"{}, {}/128\"\n",
        OTHER_CLIENT[0], OTHER_CLIENT[1]
    );
    rig.service(&external(&EXTERNAL), &annotation);
    until("the other client alone may", || from(CLIENT[0], EXTERNAL[0]).is_err().then_some(()));
    for family in 0..2 {
        assert_eq!(from(OTHER_CLIENT[family], EXTERNAL[family]).unwrap(), "pod");
        assert!(from(CLIENT[family], EXTERNAL[family]).is_err());
    }
    assert!(refused() > 2);
}

#[test]
fn datagrams_from_outside_the_source_ranges_get_no_flow_and_are_counted() {
    const MANY: u64 = 20;
    let Some(rig) = Rig::new() else { return };
    let ranges = format!("  annotations:\n    ringport.io/source-ranges: \"{}, {}\"\n", CLIENT[0], CLIENT[1]);
    rig.udp_service(&external(&EXTERNAL), &ranges);
    let ringport = rig.start(MANAGE);
    let metrics = || rig.lab.node.run(|| ringport.metrics());
    for (family, external) in EXTERNAL.into_iter().enumerate() {
        let from = |from: &str| peers::client_from(SocketAddr::new(from.parse().unwrap(), 0), at(external));
        let allowed = rig.lab.client.run(|| from(CLIENT[family])).unwrap();
        assert_eq!(peers::ask(&allowed, b"who?").unwrap(), "pod");
        let own = rig.lab.node.run(|| from(NODE[family])).unwrap();
        assert_eq!(peers::ask(&own, b"who?").unwrap(), "pod", "the node itself may");
        assert_eq!(rig.lab.node.run(|| ask_udp(external)).unwrap(), "pod", "from any of its addresses");
        let (before, flows) = (metrics(), metrics().sum("ringport_shard_udp_flows", &[]));
        let received = rig.udp_pods[family].received();
        let other = rig.lab.client.run(|| from(OTHER_CLIENT[family])).unwrap();
        (0..MANY).for_each(|_| _ = other.send(b"me too").unwrap());
        rig.lab.node.run(|| {
            ringport.until_metrics("they are counted", |metrics| {
                metrics.refused("source_range") == before.refused("source_range") + MANY
            })
        });
        assert_eq!(metrics().sum("ringport_shard_udp_flows", &[]), flows);
        assert_eq!(
            metrics().sum("ringport_datagrams_dropped_total", &["reason=\"no_flow\""]),
            MANY * (family as u64 + 1)
        );
        assert_eq!(rig.udp_pods[family].received(), received);
        assert!(!ringport.log().contains(OTHER_CLIENT[family]), "{}", ringport.log());
    }
}

#[test]
fn node_ports_are_reserved_and_given_back_beside_those_of_others() {
    let Some(rig) = Rig::new() else { return };
    let key = "net/ipv4/ip_local_reserved_ports";
    let node_ports = |ports: [u16; 2]| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  type: NodePort\n  selector: {{app: web}}\n  ports:\n  \
             - {{name: a, port: 80, nodePort: {}}}\n  - {{name: b, port: 81, nodePort: {}}}\n",
            ports[0], ports[1]
        )
    };
    rig.lab.node.set_sysctl("net/ipv4/ip_local_port_range", "40000 50000");
    rig.lab.node.set_sysctl(key, "8080,45000");
    rig.world.apply("service", &node_ports([40_001, 30_001]));
    let told = rig.start(&[]);
    let line = "node port 40001: the kernel may give it to outgoing connections";
    let command = "run `sysctl -w net.ipv4.ip_local_reserved_ports=8080,40001,45000`";
    assert!(told.log().contains(line) && told.log().contains(command), "{}", told.log());
    assert_eq!(rig.lab.node.sysctl(key), "8080,45000");
    // The command does what it says, and the problem is over.
    rig.lab.node.set_sysctl(key, "8080,40001,45000");
    let reason = ["reason=\"PortNotReserved\""];
    rig.lab.node.run(|| {
        told.until_metrics("it is reserved", |m| m.sum("ringport_problems_by_reason", &reason) == 0);
    });
    rig.lab.node.set_sysctl(key, "8080,45000");
    drop(told);

    let mut ringport = rig.start(&["--reserve-ports"]);
    assert_eq!(rig.lab.node.sysctl(key), "8080,40001,45000");
    assert!(!ringport.log().contains(line), "{}", ringport.log());
    rig.world.apply("service", &node_ports([45_000, 40_002]));
    until("the new ones are reserved", || (rig.lab.node.sysctl(key) == "8080,40002,45000").then_some(()));
    // Somebody else reserves one meanwhile.
    rig.lab.node.set_sysctl(key, "8080,9090,40002,45000");
    ringport.signal(Signal::TERM);
    assert_eq!(ringport.wait(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(rig.lab.node.sysctl(key), "8080,9090,45000");
}
