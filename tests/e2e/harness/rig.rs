//! The two set-ups that most tests begin with.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::client::{connect, patient};
use super::manifest::{self, Service};
use super::pod::{Pod, listen, named};
use super::process::Ringport;
use super::wait::until;
use super::world::World;

/// One Service `web` with one pod, which the test plays itself: it holds both ends of a session.
pub(crate) struct Pair {
    pub(crate) ringport: Ringport,
    pub(crate) world: World,
    /// Where clients connect.
    pub(crate) node: SocketAddr,
    listener: TcpListener,
}

impl Pair {
    pub(crate) fn start(args: &[&str]) -> Self {
        let world = World::new();
        let node_port = world.port();
        let ip = world.ip();
        let (target_port, mut listeners) = listen(&[ip]);
        world.apply("service", &web(node_port, target_port).yaml());
        world.apply("pod", &manifest::pod("pod", "web", ip));
        let ringport = Ringport::start(&world, args);
        let listener = listeners.remove(0);
        listener.set_nonblocking(true).unwrap();
        Self { ringport, world, node: local(node_port), listener }
    }

    /// A new session: the client's end and the pod's.
    pub(crate) fn session(&self) -> (TcpStream, TcpStream) {
        let client = connect(self.node);
        (client, self.accept())
    }

    /// The pod's end of the next session.
    pub(crate) fn accept(&self) -> TcpStream {
        let stream = until("the pod gets a connection", || self.listener.accept().ok()).0;
        stream.set_nonblocking(false).unwrap();
        patient(stream)
    }
}

/// One Service `web` with pods `pod-0`, `pod-1` … that say their names.
pub(crate) struct Fleet {
    pub(crate) ringport: Ringport,
    pub(crate) pods: Vec<Pod>,
    pub(crate) world: World,
    pub(crate) node: SocketAddr,
    pub(crate) node_port: u16,
    pub(crate) target_port: u16,
}

impl Fleet {
    pub(crate) fn start(pods: usize, args: &[&str]) -> Self {
        Self::start_with(pods, args, |_, service| service)
    }

    pub(crate) fn start_with(
        pods: usize,
        args: &[&str],
        change: impl FnOnce(&World, Service<'static>) -> Service<'static>,
    ) -> Self {
        let world = World::new();
        let ips: Vec<Ipv4Addr> = (0..pods).map(|_| world.ip()).collect();
        let (target_port, listeners) = listen(&ips);
        let node_port = world.port();
        world.apply("service", &change(&world, web(node_port, target_port)).yaml());
        let mut running = Vec::new();
        for (i, (listener, ip)) in listeners.into_iter().zip(ips).enumerate() {
            let name = format!("pod-{i}");
            world.apply(&name, &manifest::pod(&name, "web", ip));
            running.push(Pod::start(listener, named(&name)));
        }
        let ringport = Ringport::start(&world, args);
        Self { ringport, pods: running, world, node: local(node_port), node_port, target_port }
    }
}

/// The Service `web`.
pub(crate) fn web(node_port: u16, target_port: u16) -> Service<'static> {
    Service { name: "web", port: 80, target_port, node_port, external_ip: None, client_ip_affinity: false }
}

/// A port of this machine, as a client on it sees it.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
