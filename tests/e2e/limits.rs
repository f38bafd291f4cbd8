//! At its limits it refuses quickly, counts, stays calm, and recovers.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::client::{End, connect, end_of_new, exchange, try_connect, until_refused};
use crate::harness::manifest::{Service, pod};
use crate::harness::metrics::Metrics;
use crate::harness::pod::{Pod, echo, listen};
use crate::harness::process::Ringport;
use crate::harness::rig::{Pair, local, web};
use crate::harness::wait::{measure_for, until};
use crate::harness::world::World;

/// Whether a connection was let in, by whether a byte comes back through the pod.
fn let_in(node: SocketAddr) -> Option<TcpStream> {
    let stream = try_connect(node).ok()?;
    try_echo(&stream).then_some(stream)
}

fn try_echo(mut stream: &TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
}

/// A Service with one pod that echoes.
fn echoing(start: impl FnOnce(&World) -> Ringport) -> (SocketAddr, Pod, World, Ringport) {
    let world = World::new();
    let node_port = world.port();
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let pod_0 = Pod::start(listeners.remove(0), echo);
    world.apply("service", &web(node_port, target_port).yaml());
    world.apply("pod", &pod("pod", "web", ip));
    let ringport = start(&world);
    (local(node_port), pod_0, world, ringport)
}

#[test]
fn more_than_max_connections_are_refused_at_once() {
    let pair = Pair::start(&["--max-connections", "5"]);
    let mut sessions: Vec<_> = (0..5).map(|_| pair.session()).collect();
    for i in 1..=20 {
        assert_eq!(end_of_new(pair.node), End::Reset);
        pair.ringport.until_metrics("it is counted", |metrics| metrics.refused("max_connections") == i);
    }
    for (client, pod) in &mut sessions {
        exchange(client, pod, b"undisturbed");
    }
    // Each leaves a line in the access log, too.
    until("all refusals are logged", || {
        (pair.ringport.sessions_that_ended("max_connections").len() == 20).then_some(())
    });
    // Told at most once a second, not each time.
    let log = pair.ringport.log();
    let told = log.lines().filter(|line| line.contains("max-connections")).count();
    assert!((1..=10).contains(&told), "said {told} times:\n{log}");
    sessions.clear();
    pair.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"room again");
}

#[test]
fn a_service_and_a_client_have_limits_of_their_own() {
    for (option, refusal) in
        [("--max-connections-per-service", "service_limit"), ("--max-connections-per-client", "client_limit")]
    {
        let pair = Pair::start(&[option, "2"]);
        let mut sessions: Vec<_> = (0..2).map(|_| pair.session()).collect();
        assert_eq!(end_of_new(pair.node), End::Reset, "{option}");
        pair.ringport.until_metrics("it is counted", |metrics| metrics.refused(refusal) == 1);
        drop(sessions.pop());
        pair.ringport.until_metrics("one is over", |metrics| metrics.active() == 1);
        let (mut client, mut pod) = pair.session();
        exchange(&mut client, &mut pod, b"room again");
    }
}

#[test]
fn the_default_limit_follows_from_the_open_files() {
    const FILES: u64 = 1024;
    let (node, _pod, _world, ringport) = echoing(|world| Ringport::start_with_files(world, FILES, &[]));
    // Every session takes two descriptors, so most of these are too many.
    let mut inside: Vec<TcpStream> = (0..FILES).filter_map(|_| let_in(node)).collect();
    assert!(inside.len() >= 100, "only {} sessions with {FILES} files", inside.len());
    assert!(inside.len() < 512, "{} sessions with {FILES} files", inside.len());
    assert!(ringport.open_files() < FILES as usize);
    let metrics = ringport.metrics();
    assert_eq!(metrics.refused("max_connections"), FILES - inside.len() as u64);
    assert!(inside.iter().all(try_echo), "a session was lost");
    inside.clear();
    until("there is room again", || let_in(node));
}

/// What frontends take of the open files, sessions lack: the limit follows what is served.
#[test]
fn the_limit_on_sessions_makes_room_for_frontends() {
    let (_, _pod, world, ringport) =
        echoing(|world| Ringport::start_with_files(world, 2000, &["--shards", "1"]));
    let most = || ringport.metrics().sum("ringport_max_connections", &[]);
    let before = most();
    let external_ips: String = (1..=50).map(|i| format!("  - 198.18.254.{i}\n")).collect();
    let service = web(world.port(), 8080);
    let many =
        Service { name: "many", port: world.port(), ..service }.yaml() + "  externalIPs:\n" + &external_ips;
    world.apply("many", &many);
    // 51 frontends, of two sockets each: as many descriptors as 51 sessions need.
    until("there is room for fewer", || (most() == before - 51).then_some(()));
    world.delete("many");
    until("there is room for as many as before", || (most() == before).then_some(()));
}

/// A Service with one pod that echoes, of a process with few descriptors and no limit that it would keep to.
fn with_few_files(args: &[&str]) -> (SocketAddr, Pod, World, Ringport) {
    echoing(|world| {
        Ringport::start_with_files(
            world,
            100,
            &[&["--max-connections", "10000", "--shards", "1"], args].concat(),
        )
    })
}

/// Takes all descriptors of a process: with sessions, and one by one with connections to its health pages.
fn exhaust(node: SocketAddr, ringport: &Ringport) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let inside = std::iter::from_fn(|| let_in(node)).collect();
    let mut others = Vec::new();
    until("it is out of descriptors", || {
        others.push(try_connect(ringport.healthz()).unwrap());
        others.extend(try_connect(node));
        ringport.log().contains("cannot accept").then_some(())
    });
    (inside, others)
}

/// Harder: there are no descriptors for what it has promised to take.
#[test]
fn out_of_descriptors_it_refuses_stays_calm_and_recovers() {
    let (node, _pod, _world, ringport) = with_few_files(&[]);
    let (mut inside, others) = exhaust(node, &ringport);
    assert!(inside.len() > 10, "only {} sessions", inside.len());
    // Clients are told, and do not hang.
    for _ in 0..5 {
        assert_eq!(end_of_new(node), End::Reset);
    }
    let cpu = ringport.cpu();
    measure_for(Duration::from_secs(2));
    let used = ringport.cpu() - cpu;
    assert!(used < Duration::from_millis(300), "{used:?} of CPU in 2 s without descriptors");
    let log = ringport.log();
    assert!(log.lines().count() < 20, "a flood of messages:\n{log}");
    assert!(inside.iter().all(try_echo), "a session was lost");
    drop(others);
    inside.truncate(5);
    until("there is room again", || let_in(node));
    assert!(ringport.metrics().refused("local_error") > 0);
}

/// The metrics over one connection that stays, for when there is no descriptor for another.
struct Scraper(BufReader<TcpStream>);

impl Scraper {
    fn new(address: SocketAddr) -> Self {
        Self(BufReader::new(connect(address)))
    }

    fn metrics(&mut self) -> Metrics {
        self.0.get_mut().write_all(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n").unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Metrics::parse(&String::from_utf8(body).unwrap())
    }
}

/// Accept itself fails, with EMFILE: counted in turns, not in time.
#[test]
fn an_accept_that_fails_for_want_of_descriptors_neither_spins_nor_stops() {
    let (node, _pod, _world, ringport) = with_few_files(&[]);
    let mut scraper = Scraper::new(ringport.metrics_address());
    let backoffs = |metrics: &Metrics| metrics.sum("ringport_shard_accept_backoffs_total", &[]);
    let turns = |metrics: &Metrics| metrics.sum("ringport_shard_ring_enters_total", &[]);
    assert_eq!(backoffs(&scraper.metrics()), 0);
    let (inside, others) = exhaust(node, &ringport);
    let before = until("accept itself fails", || {
        let _ = try_connect(node);
        Some(scraper.metrics()).filter(|metrics| backoffs(metrics) > 0)
    });
    // Clients that keep coming: one turn each, and a few for every pause.
    let mut came = 0;
    let after = until("accept fails again and again", || {
        came += 1;
        let _ = end_of_new(node);
        Some(scraper.metrics()).filter(|metrics| backoffs(metrics) >= backoffs(&before) + 10)
    });
    let (passes, pauses) = (turns(&after) - turns(&before), backoffs(&after) - backoffs(&before));
    assert!(passes <= 20 * (came + pauses), "{passes} turns for {came} clients and {pauses} pauses");
    // Nobody comes: nothing happens.
    let before = turns(&scraper.metrics());
    measure_for(Duration::from_secs(1));
    let passes = turns(&scraper.metrics()) - before;
    assert!(passes <= 40, "{passes} turns in a second without a client");
    drop((others, inside));
    until("there is room again", || let_in(node));
}

#[test]
fn out_of_descriptors_it_still_ends_when_asked() {
    let (node, _pod, _world, mut ringport) = with_few_files(&["--drain-timeout", "1s"]);
    let (inside, others) = exhaust(node, &ringport);
    ringport.signal(Signal::TERM);
    assert_eq!(ringport.wait(Duration::from_secs(10)).code(), Some(0));
    drop((inside, others));
}

#[test]
fn out_of_descriptors_it_still_drains() {
    let (node, _pod, _world, mut ringport) = echoing(|world| {
        Ringport::start_with_files(world, 200, &["--shards", "1", "--max-connections", "10000"])
    });
    let inside = let_in(node).unwrap();
    let mut outside = Vec::new();
    // Told when the listener begins to pause for a moment.
    until("it cannot accept", || {
        outside.extend((0..100).filter_map(|_| try_connect(node).ok()));
        ringport.log().contains("cannot accept").then_some(())
    });
    ringport.signal(Signal::TERM);
    until_refused(node);
    assert!(try_echo(&inside), "a session was lost");
    drop((inside, outside));
    assert_eq!(ringport.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn without_descriptors_for_its_listeners_it_stays_calm() {
    let world = World::new();
    let ip = world.ip();
    for i in 0..60 {
        let name = format!("web-{i}");
        let service = Service { name: &name, ..web(world.port(), 80) };
        world.apply(&name, &service.yaml());
        world.apply(&format!("pod-{i}"), &pod(&format!("pod-{i}"), &name, ip));
    }
    let ringport = Ringport::spawn_with_files(&world, 110, &["--shards", "1"]);
    until("it cannot listen", || ringport.log().contains("cannot listen").then_some(()));
    let told = || ringport.log().lines().filter(|line| line.contains("cannot listen")).count();
    let before = told();
    measure_for(Duration::from_secs(3));
    let told = told() - before;
    assert!((1..10).contains(&told), "{told} messages in 3 s:\n{}", ringport.log());
}

#[test]
fn an_idle_process_uses_no_cpu() {
    let pair = Pair::start(&[]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"a session that is open and silent");
    let cpu = pair.ringport.cpu();
    measure_for(Duration::from_secs(3));
    let used = pair.ringport.cpu() - cpu;
    assert!(used <= Duration::from_millis(30), "{used:?} of CPU in 3 s of silence");
    exchange(&mut client, &mut pod, b"awake");
}

/// Of the annotation anything is taken that is a time.
#[test]
fn an_idle_timeout_of_any_length_costs_no_cpu() {
    for timeout in ["1ms", "99999999999999999ms"] {
        let world = World::new();
        let node_port = world.port();
        let ip = world.ip();
        let (target_port, mut listeners) = listen(&[ip]);
        let _pod = Pod::start(listeners.remove(0), echo);
        let annotation = format!("  name: web\n  annotations:\n    ringport.io/idle-timeout: {timeout}\n");
        world.apply("service", &web(node_port, target_port).yaml().replacen("  name: web\n", &annotation, 1));
        world.apply("pod", &pod("pod", "web", ip));
        let ringport = Ringport::start(&world, &["--shards", "1"]);
        let cpu = ringport.cpu();
        let _sessions: Vec<_> = (0..300).map(|_| connect(local(node_port))).collect();
        measure_for(Duration::from_secs(2));
        let used = ringport.cpu() - cpu;
        assert!(used < Duration::from_millis(500), "{used:?} of CPU in 2 s with {timeout}");
    }
}

#[test]
fn an_idle_timeout_cuts_only_what_is_idle() {
    let pair = Pair::start(&["--idle-timeout", "1s"]);
    let (mut idle, _idle_pod) = pair.session();
    let (mut client, mut pod) = pair.session();
    let mut rounds = 0;
    idle.set_nonblocking(true).unwrap();
    until("the idle session is cut", || {
        exchange(&mut client, &mut pod, b"busy");
        rounds += 1;
        let mut byte = [0];
        match Read::read(&mut idle, &mut byte) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            _ => Some(()),
        }
    });
    exchange(&mut client, &mut pod, b"still there");
    assert!(rounds > 1);
    assert_eq!(pair.ringport.session().reason(), "idle_timeout");
    drop(connect(pair.node));
}
