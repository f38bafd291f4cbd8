//! UDP pods and clients that do as they are told, and the manifests that name them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::metrics::Metrics;
use crate::harness::process::Ringport;
use crate::harness::rig::local;
use crate::harness::wait::{PATIENCE, until};
use crate::harness::world::World;

/// A pod that answers each datagram with `NAME:` and what came; or that only listens.
pub(crate) struct Pod {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    mute: AtomicBool,
    received: AtomicUsize,
    /// Who has sent what last.
    last: Mutex<BTreeMap<SocketAddr, Vec<u8>>>,
}

impl Pod {
    pub(crate) fn start(name: &str, socket: UdpSocket) -> Self {
        let address = socket.local_addr().unwrap();
        // What a stopped pod waits for at most.
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let state = Arc::new(State::default());
        let (shared, prefix) = (state.clone(), format!("{name}:").into_bytes());
        let thread = std::thread::spawn(move || shared.serve(&socket, &prefix));
        Self { address, state, thread: Some(thread) }
    }

    /// Listens, and answers no more.
    pub(crate) fn mute(&self) {
        self.state.mute.store(true, Ordering::Relaxed);
    }

    /// Datagrams that have come.
    pub(crate) fn received(&self) -> usize {
        self.state.received.load(Ordering::Relaxed)
    }

    /// The same, each of them once.
    pub(crate) fn take_peers(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut *self.state.last.lock().unwrap()).into_keys().collect()
    }

    /// The addresses that have sent something.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.state.last.lock().unwrap().keys().copied().collect()
    }
}

impl State {
    fn serve(&self, socket: &UdpSocket, prefix: &[u8]) {
        let mut buffer = vec![0; 70_000];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
            self.received.fetch_add(1, Ordering::Relaxed);
            self.last.lock().unwrap().insert(from, buffer[..n.min(64)].to_vec());
            if !self.mute.load(Ordering::Relaxed) {
                // As much of it as one datagram holds. The client may be gone.
                let answer = [prefix, &buffer[..n]].concat();
                let _ = socket.send_to(&answer[..answer.len().min(65_507)], from);
            }
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || joined.is_none_or(|result| result.is_ok()));
    }
}

/// Sockets on these addresses with the same port.
pub(crate) fn bind(ips: &[Ipv4Addr]) -> (u16, Vec<UdpSocket>) {
    loop {
        let first = UdpSocket::bind((ips[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others: Vec<_> = ips[1..].iter().map_while(|&ip| UdpSocket::bind((ip, port)).ok()).collect();
        if others.len() + 1 == ips.len() {
            return (port, [first].into_iter().chain(others).collect());
        }
    }
}

/// A client's socket, connected to the frontend; it waits for [`PATIENCE`] at most.
pub(crate) fn client(to: SocketAddr) -> UdpSocket {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    client_from(SocketAddr::new(any, 0), to).unwrap()
}

/// The same from an address and port of choice.
pub(crate) fn client_from(from: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(from)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends one datagram and waits for an answer: the name of the pod. The rest must be what was sent.
pub(crate) fn ask(client: &UdpSocket, question: &[u8]) -> io::Result<String> {
    client.send(question)?;
    let mut buffer = vec![0; 70_000];
    let (n, _) = receive(client, &mut buffer)?;
    let answer = &buffer[..n];
    let colon = answer.iter().position(|byte| *byte == b':').expect("an answer without a name");
    assert!(answer[colon + 1..] == *question, "the answer to something else");
    Ok(String::from_utf8(answer[..colon].to_vec()).unwrap())
}

/// What comes next, and from whom. A machine that is stopped for a moment interrupts the call.
pub(crate) fn receive(client: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match client.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Asks until somebody answers, as a resolver does: a lost datagram is sent again after a moment.
pub(crate) fn ask_again(client: &UdpSocket) -> (String, usize) {
    let mut tries = 0;
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let name = until("an answer", || {
        tries += 1;
        ask(client, b"?").ok()
    });
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (name, tries)
}

/// The metrics when so many datagrams are counted one way, `up` or `down`: a moment after they have come.
pub(crate) fn counted(ringport: &Ringport, way: &str, datagrams: u64) -> Metrics {
    let way = format!("direction=\"{way}\"");
    let count = |metrics: &Metrics| metrics.sum("ringport_datagrams_total", &[&way]);
    let metrics = ringport.until_metrics("all are counted", |metrics| count(metrics) >= datagrams);
    assert_eq!(count(&metrics), datagrams, "{way}");
    metrics
}

/// Whether the kernel of the other side refuses: ICMP port unreachable.
pub(crate) fn is_refused(to: SocketAddr) -> bool {
    let client = client(to);
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    ask(&client, b"?").is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Waits until new clients are refused.
pub(crate) fn until_refused(to: SocketAddr) {
    until("new clients are refused", || is_refused(to).then_some(()));
}

/// A Service `dns` with a UDP nodePort.
pub(crate) struct Service {
    pub(crate) target_port: u16,
    pub(crate) node_port: u16,
    pub(crate) external_ip: Option<IpAddr>,
    /// With its indentation, in `spec`.
    pub(crate) more: &'static str,
    /// One of `metadata.annotations`.
    pub(crate) annotation: &'static str,
    /// A TCP port of the same numbers.
    pub(crate) tcp: bool,
}

impl Service {
    /// With nothing special.
    pub(crate) fn new(target_port: u16, node_port: u16) -> Self {
        Self { target_port, node_port, external_ip: None, more: "", annotation: "", tcp: false }
    }

    pub(crate) fn yaml(&self) -> String {
        let Self { target_port, node_port, more, annotation, .. } = self;
        let port = |protocol: &str| {
            format!(
                "  - name: {}\n    protocol: {protocol}\n    port: {node_port}\n    targetPort: {target_port}\n    \
                 nodePort: {node_port}\n",
                protocol.to_lowercase()
            )
        };
        let mut text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: dns\n".to_owned();
        if !annotation.is_empty() {
            text += &format!("  annotations:\n    {annotation}\n");
        }
        text += &format!("spec:\n  type: NodePort\n  selector:\n    app: dns\n{more}");
        if let Some(ip) = self.external_ip {
            text += &format!("  externalIPs:\n  - \"{ip}\"\n");
        }
        text += "  ports:\n";
        text += &port("UDP");
        if self.tcp {
            text += &port("TCP");
        }
        text
    }
}

/// One Service with pods `pod-0`, `pod-1` …
pub(crate) struct Fleet {
    pub(crate) ringport: Ringport,
    pub(crate) pods: Vec<Option<Pod>>,
    pub(crate) world: World,
    pub(crate) service: Service,
    pub(crate) ips: Vec<Ipv4Addr>,
    pub(crate) node: SocketAddr,
}

impl Fleet {
    pub(crate) fn start(pods: usize, args: &[&str]) -> Self {
        Self::start_with(pods, args, |_, service| service)
    }

    pub(crate) fn start_with(
        pods: usize,
        args: &[&str],
        change: impl FnOnce(&World, Service) -> Service,
    ) -> Self {
        let world = World::new();
        let ips: Vec<Ipv4Addr> = (0..pods).map(|_| world.ip()).collect();
        let (target_port, sockets) = bind(&ips);
        let node_port = world.port();
        let service = Service::new(target_port, node_port);
        let service = change(&world, service);
        world.apply("service", &service.yaml());
        let mut running = Vec::new();
        for (i, (socket, ip)) in sockets.into_iter().zip(&ips).enumerate() {
            world.apply(&format!("pod-{i}"), &pod(i, *ip));
            running.push(Some(Pod::start(&format!("pod-{i}"), socket)));
        }
        let ringport = Ringport::start(&world, args);
        Self { ringport, pods: running, world, service, ips, node: local(node_port) }
    }

    /// The pod of this name.
    pub(crate) fn pod(&self, name: &str) -> &Pod {
        self.pods[Self::number(name)].as_ref().unwrap()
    }

    /// The process in the pod ends; its object stays.
    pub(crate) fn kill(&mut self, name: &str) {
        self.pods[Self::number(name)] = None;
    }

    /// The pod's object goes, and every shard knows.
    pub(crate) fn remove(&self, name: &str) {
        self.change(|| self.world.delete(name));
    }

    /// The pod begins to terminate.
    pub(crate) fn terminate(&self, name: &str) {
        let text = pod(Self::number(name), self.ips[Self::number(name)]);
        let text = text.replace("metadata:\n", "metadata:\n  deletionTimestamp: \"2026-01-02T03:04:05Z\"\n");
        self.change(|| self.world.apply(name, &text));
    }

    /// Makes a change and waits until every shard has it.
    pub(crate) fn change(&self, change: impl FnOnce()) {
        let before = self.ringport.metrics().generation();
        change();
        until("the change is in force", || (self.ringport.metrics().generation() > before).then_some(()));
    }

    fn number(name: &str) -> usize {
        name.strip_prefix("pod-").unwrap().parse().unwrap()
    }
}

/// A ready pod.
pub(crate) fn pod(number: usize, ip: Ipv4Addr) -> String {
    crate::harness::manifest::pod(&format!("pod-{number}"), "dns", ip)
}
