//! Pods that refuse, die, hang or are not there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::client::{End, ask, end_of, end_of_new, reset, try_connect, until_refused};
use crate::harness::manifest::pod;
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::Ringport;
use crate::harness::rig::{Fleet, Pair, local, web};
use crate::harness::wait::time;
use crate::harness::world::World;

#[test]
fn a_pod_that_refuses_costs_no_client_an_error() {
    let fleet = Fleet::start(1, &[]);
    // In the manifests like the other, but nothing listens there.
    fleet.world.apply("refuses", &pod("refuses", "web", fleet.world.ip()));
    let before = fleet.ringport.metrics().generation();
    fleet.ringport.until_metrics("the new pod is known", |metrics| metrics.generation() > before);
    for _ in 0..100 {
        assert_eq!(ask(fleet.node).unwrap(), "pod-0");
    }
    let metrics = fleet.ringport.metrics();
    // A hundred times a coin: never the bad one is a chance of 2^-100.
    assert!(metrics.retried() > 0, "no connection was retried");
    assert!(metrics.connect_failed("refused") > 0);
    assert_eq!(metrics.refused("connect_failed"), 0);
}

#[test]
fn a_pod_that_keeps_refusing_is_left_out_for_a_while() {
    let fleet = Fleet::start(2, &[]);
    fleet.world.apply("refuses", &pod("refuses", "web", fleet.world.ip()));
    let before = fleet.ringport.metrics().generation();
    fleet.ringport.until_metrics("the new pod is known", |metrics| metrics.generation() > before);
    const REQUESTS: u64 = 300;
    for _ in 0..REQUESTS {
        ask(fleet.node).unwrap();
    }
    // Without ejection a third of them would have failed once: 100, give or take 8.
    let failed = fleet.ringport.metrics().connect_failed("refused");
    assert!((1..50).contains(&failed), "{failed} of {REQUESTS} connections tried the pod that refuses");
}

#[test]
fn when_all_pods_refuse_the_client_is_told_at_once() {
    let world = World::new();
    let node_port = world.port();
    // Free, as it was listened on before.
    let (target_port, listeners) = listen(&[world.ip(), world.ip()]);
    world.apply("service", &web(node_port, target_port).yaml());
    for (i, listener) in listeners.iter().enumerate() {
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        let name = format!("pod-{i}");
        world.apply(&name, &pod(&name, "web", *address.ip()));
    }
    drop(listeners);
    let ringport = Ringport::start(&world, &[]);
    let (took, end) = time(|| end_of_new(local(node_port)));
    assert_eq!(end, End::Reset);
    assert!(took < Duration::from_secs(3), "it took {took:?} to find out that nobody listens");
    ringport.until_metrics("it is counted", |metrics| metrics.refused("connect_failed") == 1);
    assert_eq!(ringport.session().reason(), "connect_failed");
}

#[test]
fn a_pod_that_accepts_and_says_fin_is_passed_on() {
    let pair = Pair::start(&[]);
    let (mut client, pod) = pair.session();
    drop(pod);
    assert_eq!(end_of(&mut client), End::Fin);
    drop(client);
    assert_eq!(pair.ringport.session().reason(), "complete");
}

#[test]
fn a_pod_that_accepts_and_resets_is_passed_on() {
    let pair = Pair::start(&[]);
    let (mut client, pod) = pair.session();
    reset(pod);
    assert_eq!(end_of(&mut client), End::Reset);
    assert_eq!(pair.ringport.session().reason(), "endpoint_reset");
}

#[test]
fn without_pods_a_connection_is_refused() {
    let world = World::new();
    let node_port = world.port();
    world.apply("service", &web(node_port, 80).yaml());
    let ringport = Ringport::start(&world, &[]);
    let (took, result) = time(|| try_connect(local(node_port)));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(took < Duration::from_secs(1), "{took:?}");
    // The port is held all the same: nobody else gets it meanwhile.
    let taken = TcpListener::bind(local(node_port)).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    drop(ringport);
}

#[test]
fn pods_may_come_go_and_come_again() {
    let world = World::new();
    let node_port = world.port();
    let (ip, name) = (world.ip(), named("late"));
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), name);
    world.apply("service", &web(node_port, target_port).yaml());
    let ringport = Ringport::start(&world, &[]);
    for _ in 0..5 {
        until_refused(local(node_port));
        world.apply("pod", &pod("late", "web", ip));
        crate::harness::wait::until("connections are served", || ask(local(node_port)).ok());
        for _ in 0..20 {
            assert_eq!(ask(local(node_port)).unwrap(), "late");
        }
        world.delete("pod");
    }
    drop(ringport);
}

/// A listener that answers no SYN: its queue is full, and nobody accepts.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let mut queued = Vec::new();
        loop {
            assert!(queued.len() < 64, "the queue of {address} does not fill");
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            let connected = {
                let mut wanted = [PollFd::new(&socket, PollFlags::OUT)];
                let patience = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
                poll(&mut wanted, Some(&patience)).unwrap() == 1
            };
            queued.push(socket);
            if !connected {
                return Self { address, _listener: listener, _queued: queued };
            }
        }
    }
}

#[test]
fn a_pod_that_does_not_answer_delays_but_fails_nobody() {
    let world = World::new();
    let node_port = world.port();
    let (good, bad) = (world.ip(), world.ip());
    let (target_port, mut listeners) = listen(&[good, bad]);
    let address = listeners.remove(1).local_addr().unwrap();
    let hole = BlackHole::at(address);
    assert_eq!(hole.address.port(), target_port);
    let _pod = Pod::start(listeners.remove(0), named("good"));
    world.apply("service", &web(node_port, target_port).yaml());
    world.apply("good", &pod("good", "web", good));
    world.apply("bad", &pod("bad", "web", bad));
    let ringport = Ringport::start(&world, &["--connect-timeout", "4s"]);
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let (took, name) = time(|| ask(local(node_port)).unwrap());
                assert_eq!(name, "good");
                assert!(took < Duration::from_secs(4), "{took:?}");
            });
        }
    });
    let metrics = ringport.metrics();
    assert!(metrics.connect_failed("timeout") > 0);
    assert_eq!(metrics.refused("connect_failed"), 0);
}

#[test]
fn when_no_pod_answers_the_client_waits_no_longer_than_the_connect_timeout() {
    let world = World::new();
    let node_port = world.port();
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let address = listeners.remove(0).local_addr().unwrap();
    let _hole = BlackHole::at(address);
    world.apply("service", &web(node_port, target_port).yaml());
    world.apply("hole", &pod("hole", "web", ip));
    let ringport = Ringport::start(&world, &["--connect-timeout", "1s"]);
    let (took, end) = time(|| end_of_new(local(node_port)));
    assert_eq!(end, End::Reset);
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(3), "{took:?}");
    ringport.until_metrics("it is counted", |metrics| metrics.refused("connect_failed") == 1);
}

#[test]
fn the_end_does_not_wait_for_a_pod_that_does_not_answer() {
    let world = World::new();
    let node_port = world.port();
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let address = listeners.remove(0).local_addr().unwrap();
    let _hole = BlackHole::at(address);
    world.apply("service", &web(node_port, target_port).yaml());
    world.apply("pod", &pod("pod", "web", ip));
    let mut ringport = Ringport::start(&world, &["--drain-timeout", "600s", "--connect-timeout", "600s"]);
    let mut client = try_connect(local(node_port)).unwrap();
    ringport.until_metrics("it is accepted", |metrics| metrics.active() == 1);
    ringport.signal(Signal::TERM);
    until_refused(local(node_port));
    ringport.signal(Signal::TERM);
    assert_eq!(end_of(&mut client), End::Reset);
    assert_eq!(ringport.wait(Duration::from_secs(10)).code(), Some(0));
    // At least this one: waiting for the refusal may have left another.
    assert!(!ringport.sessions_that_ended("draining").is_empty());
}

#[test]
fn a_client_that_leaves_while_the_pod_is_connected_is_no_fault_of_the_pod() {
    let world = World::new();
    let node_port = world.port();
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let address = listeners.remove(0).local_addr().unwrap();
    let _hole = BlackHole::at(address);
    world.apply("service", &web(node_port, target_port).yaml());
    world.apply("hole", &pod("hole", "web", ip));
    let ringport = Ringport::start(&world, &["--connect-timeout", "2s"]);
    for _ in 0..10 {
        reset(try_connect(local(node_port)).unwrap());
    }
    let metrics = ringport.until_metrics("all of them are over", |metrics| {
        metrics.active() == 0 && metrics.refused("client_gone") + metrics.refused("connect_failed") == 10
    });
    assert_eq!(metrics.ended("complete"), 0);
}
