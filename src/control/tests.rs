//! Control with real ports, on loopback addresses that belong to one test each.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

use socket2::{Domain, Socket, Type};

use super::*;
use crate::k8s::model::Service;
use crate::problem::{Reason, Severity};
use crate::route::compile::NodePortAddresses;
use crate::route::fixture::{WorldExt, service, world};

/// Control whose nodePorts are on an address that no other test uses.
struct Bench {
    address: IpAddr,
    plane: Arc<Plane>,
    control: Control,
}

impl Bench {
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let pid = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, pid[2] | 1, pid[3], NEXT.fetch_add(1, Ordering::Relaxed)).into();
        let plane = Arc::new(Plane::new(2));
        let nodeport_addresses = NodePortAddresses::Only(vec![address]);
        let control =
            Control::new(plane.clone(), CompileOptions { nodeport_addresses, ..CompileOptions::default() });
        Self { address, plane, control }
    }

    fn free_port(&self) -> u16 {
        TcpListener::bind((self.address, 0)).unwrap().local_addr().unwrap().port()
    }

    /// The ports in the published snapshot.
    fn served(&self) -> Vec<u16> {
        self.plane.snapshot.load().frontends().keys().map(|key| key.port).collect()
    }

    fn acknowledge(&self, generation: u64) {
        (0..self.plane.shards()).for_each(|shard| self.plane.acknowledge(shard, generation, 0));
    }

    fn is_held(&self, port: u16) -> bool {
        TcpListener::bind((self.address, port)).is_err()
    }

    /// What a shard does.
    fn listen(&self, port: u16) -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&std::net::SocketAddr::new(self.address, port).into())?;
        socket.listen(16)?;
        Ok(socket)
    }
}

fn text(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn c1_what_is_published_is_held_and_shards_can_listen_on_it() {
    let mut bench = Bench::new();
    let port = bench.free_port();
    let problems = bench.control.apply(world().with(service("web", port, 0)).with_pods("web", &["10.0.0.1"]));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(bench.served(), [port]);
    assert!(bench.is_held(port));
    bench.listen(port).unwrap();
    assert!(!bench.control.waiting());
}

#[test]
fn c1_a_taken_port_is_left_out_named_with_its_owner_and_served_when_it_is_free() {
    let mut bench = Bench::new();
    let taken = TcpListener::bind((bench.address, 0)).unwrap();
    let (taken_port, free) = (taken.local_addr().unwrap().port(), bench.free_port());
    let world = world().with(service("taken", taken_port, 0)).with(service("free", free, 1));
    let problems = text(&bench.control.apply(world.clone()));
    assert_eq!(bench.served(), [free], "one taken port does not stop the others");
    let start = format!(
        "Service default/taken: TCP {}:{taken_port} of port default/taken cannot be served: the port is taken by ",
        bench.address
    );
    let end = format!(
        " (pid {}) (stop it or choose another port; it is tried again every second)",
        std::process::id()
    );
    assert!(
        problems.len() == 1 && problems[0].starts_with(&start) && problems[0].ends_with(&end),
        "{problems:?}"
    );
    // C4: told once, in force until it is solved.
    assert!(bench.control.waiting() && bench.control.retry().is_empty());
    assert!(bench.control.apply(world).is_empty());
    assert_eq!((bench.control.problems().len(), bench.control.generation()), (1, 1));
    drop(taken);
    assert!(bench.control.retry().is_empty());
    let mut both = vec![taken_port, free];
    both.sort_unstable();
    assert_eq!(bench.served(), both);
    assert!(bench.control.problems().is_empty() && !bench.control.waiting());
}

#[test]
fn c1_a_problem_follows_the_service_that_has_the_port() {
    let mut bench = Bench::new();
    let taken = TcpListener::bind((bench.address, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_eq!(bench.control.apply(world().with(service("young", port, 2))).len(), 1);
    let problems = bench.control.apply(world().with(service("young", port, 2)).with(service("old", port, 1)));
    let objects: Vec<_> = problems.iter().filter_map(|p| p.object.as_deref()).collect();
    // The loser of the contest, and the new owner who cannot have it either.
    assert_eq!(objects, ["Service default/young", "Service default/old"]);
    assert_eq!(bench.control.problems().len(), 2);
}

#[test]
fn c1_a_service_that_is_removed_while_its_port_is_taken_is_forgotten() {
    let mut bench = Bench::new();
    let taken = TcpListener::bind((bench.address, 0)).unwrap();
    bench.control.apply(world().with(service("taken", taken.local_addr().unwrap().port(), 0)));
    assert!(bench.control.waiting());
    bench.control.apply(world());
    assert!(bench.control.problems().is_empty() && !bench.control.waiting());
}

#[test]
fn c2_a_hold_outlives_its_frontend_until_every_shard_has_applied_that() {
    let mut bench = Bench::new();
    let port = bench.free_port();
    bench.control.apply(world().with(service("web", port, 0)));
    bench.acknowledge(1);
    bench.control.apply(world());
    assert!(bench.served().is_empty());
    assert!(bench.control.waiting() && bench.is_held(port));
    bench.plane.acknowledge(0, 2, 0);
    bench.control.retry();
    assert!(bench.control.waiting() && bench.is_held(port), "one shard may still listen");
    bench.plane.acknowledge(1, 2, 0);
    bench.control.retry();
    assert!(!bench.control.waiting() && !bench.is_held(port));
}

#[test]
fn c2_a_frontend_that_returns_takes_its_hold_back() {
    let mut bench = Bench::new();
    let port = bench.free_port();
    let full = world().with(service("web", port, 0));
    bench.control.apply(full.clone());
    let listener = bench.listen(port).unwrap();
    bench.control.apply(world());
    let problems = bench.control.apply(full);
    assert!(problems.is_empty(), "the shard's own listener is no conflict: {problems:?}");
    bench.acknowledge(3);
    bench.control.retry();
    drop(listener);
    assert!(bench.is_held(port));
}

#[test]
fn c3_nothing_is_published_when_nothing_has_changed_except_at_first() {
    let mut bench = Bench::new();
    bench.control.apply(world());
    assert_eq!(
        bench.plane.snapshot.load().generation(),
        1,
        "the first snapshot is published though it is empty"
    );
    let port = bench.free_port();
    let full = || world().with(service("web", port, 0)).with_pods("web", &["10.0.0.1"]);
    bench.control.apply(full());
    assert_eq!(bench.plane.snapshot.load().generation(), 2);
    bench.control.apply(full());
    bench.control.retry();
    assert_eq!(bench.plane.snapshot.load().generation(), 2);
    bench.control.apply(full().with_pods("web", &["10.0.0.2"]));
    assert_eq!((bench.plane.snapshot.load().generation(), bench.control.generation()), (3, 3));
}

#[test]
fn an_address_of_its_own_beside_the_wildcard_is_held_in_either_order() {
    let address = Bench::new().address;
    for wildcard_first in [true, false] {
        let plane = Arc::new(Plane::new(1));
        let mut control = Control::new(plane.clone(), CompileOptions::default());
        let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let node_port = service("wild", port, 0);
        let mut external = Service { external_ips: vec![address], ..service("one", 0, 1) };
        external.ports[0].node_port = None;
        external.ports[0].port = port;
        let (first, second) = if wildcard_first { (node_port, external) } else { (external, node_port) };
        assert!(control.apply(world().with(first.clone())).is_empty());
        assert!(control.apply(world().with(first).with(second)).is_empty());
        assert_eq!(plane.snapshot.load().frontends().len(), 2);
    }
}

#[test]
fn udp_frontends_are_published_without_a_hold() {
    let mut bench = Bench::new();
    let port = bench.free_port();
    let mut dns = service("dns", port, 0);
    dns.ports[0].protocol = Protocol::Udp;
    let problems = bench.control.apply(world().with(dns));
    assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{problems:?}");
    assert_eq!(bench.served(), [port]);
    assert!(!bench.is_held(port));
}

#[test]
fn problems_of_the_objects_are_told_once_and_again_when_they_return() {
    let mut bench = Bench::new();
    let (a, b) = (bench.free_port(), bench.free_port());
    let with_ip =
        |name, port, rank| Service { external_ips: vec![bench.address], ..service(name, port, rank) };
    let mut contested = with_ip("young", b, 2);
    let mut winner = with_ip("old", a, 1);
    let port = bench.free_port();
    (contested.ports[0].port, winner.ports[0].port) = (port, port);
    let both = world().with(contested.clone()).with(winner);
    assert_eq!(bench.control.apply(both.clone()).len(), 1);
    assert!(bench.control.apply(both.clone()).is_empty());
    assert!(bench.control.apply(world().with(contested)).is_empty());
    assert!(bench.control.problems().is_empty());
    assert_eq!(bench.control.apply(both).len(), 1);
}

#[test]
fn c5_traffic_that_arrives_by_itself_is_no_problem_and_other_is_one_until_it_goes() {
    let mut bench = Bench::new();
    bench.control =
        Control::new(bench.plane.clone(), CompileOptions::default()).with_node(NodeOptions::default());
    let port = bench.free_port();
    let with_ip = |ip: &str| {
        let mut service = Service { external_ips: vec![ip.parse().unwrap()], ..service("web", port, 0) };
        (service.ports[0].port, service.ports[0].node_port) = (port, None);
        service
    };
    let address = bench.address.to_string();
    assert_eq!(
        text(&bench.control.apply(world().with(with_ip(&address)))),
        [""; 0],
        "the node has all of 127.0.0.0/8"
    );
    // For documentation (RFC 5737).
    let problems = bench.control.apply(world().with(with_ip("203.0.113.89")));
    assert_eq!(
        problems.iter().map(|p| p.reason).collect::<Vec<_>>(),
        [Reason::AddressNotRouted],
        "{problems:?}"
    );
    assert!(problems[0].to_string().contains("`ip route add local 203.0.113.89 dev lo`"), "{problems:?}");
    assert!(bench.control.waiting() && bench.control.retry().is_empty(), "told once");
    bench.control.apply(world());
    (2..=bench.control.generation()).for_each(|generation| bench.acknowledge(generation));
    bench.control.retry();
    assert!(bench.control.problems().is_empty() && !bench.control.waiting());
}
