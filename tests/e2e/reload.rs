//! Changes under load: no request fails, no session is cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::harness::client::{End, ask, end_of, exchange, finish, until_refused};
use crate::harness::manifest::{Service, pod};
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::Ringport;
use crate::harness::rig::{Pair, local, web};
use crate::harness::wait::until;
use crate::harness::world::World;

/// Clients that ask without end, and remember what went wrong.
struct Load<'a> {
    node: SocketAddr,
    stop: AtomicBool,
    answered: AtomicU64,
    failures: Mutex<Vec<String>>,
    ringport: &'a Ringport,
}

impl<'a> Load<'a> {
    fn new(node: SocketAddr, ringport: &'a Ringport) -> Self {
        Self { node, stop: false.into(), answered: 0.into(), failures: Mutex::default(), ringport }
    }

    fn client(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            match ask(self.node) {
                Ok(_) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.failures.lock().unwrap().push(error.to_string()),
            }
        }
    }

    /// Makes a change, waits until it is in force and the clients have seen some of it.
    fn change(&self, what: &str, change: impl FnOnce()) {
        let before = self.ringport.metrics().generation();
        change();
        until(what, || (self.ringport.metrics().generation() > before).then_some(()));
        self.more(what);
    }

    fn more(&self, what: &str) {
        let answered = self.answered.load(Ordering::Relaxed);
        until(what, || (self.answered.load(Ordering::Relaxed) >= answered + 50).then_some(()));
    }
}

#[test]
fn no_request_fails_while_everything_changes() {
    let world = World::new();
    let node_port = world.port();
    let ips: Vec<Ipv4Addr> = (0..5).map(|_| world.ip()).collect();
    let (target_port, listeners) = listen(&ips);
    let names: Vec<String> = (0..5).map(|i| format!("pod-{i}")).collect();
    let pods: Vec<Pod> =
        listeners.into_iter().zip(&names).map(|(listener, name)| Pod::start(listener, named(name))).collect();
    let manifest = |i: usize| pod(&names[i], "web", ips[i]);
    let service = web(node_port, target_port);
    let other_port = world.port();
    let other = Service { name: "other", ..web(other_port, target_port) };

    world.apply("service", &service.yaml());
    world.apply(&names[0], &manifest(0));
    let ringport = Ringport::start(&world, &[]);
    let load = Load::new(local(node_port), &ringport);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load.client());
        }
        // Whatever goes wrong here, the clients end.
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            load.more("requests are answered");
            for round in 0..3 {
                for (i, name) in names.iter().enumerate().skip(1) {
                    load.change("a pod is added", || world.apply(name, &manifest(i)));
                }
                load.change("an unrelated Service is added", || world.apply("other", &other.yaml()));
                load.change("the Service is changed in place", || {
                    world.overwrite("service", &(service.yaml() + "  sessionAffinity: ClientIP\n"));
                });
                load.change("and changed back by a rename", || world.apply("service", &service.yaml()));
                world.apply(&names[0], "apiVersion: v1\nkind: Pod\nmetadata: {name: [");
                load.more("a broken file keeps its objects");
                load.change("the file is deleted", || world.delete(&names[0]));
                for name in &names[2..] {
                    load.change("a pod is removed", || world.delete(name));
                }
                load.change("the unrelated Service is removed", || world.delete("other"));
                load.change("the first pod comes again", || world.apply(&names[0], &manifest(0)));
                load.change("the second pod goes", || world.delete(&names[1]));
                assert!(load.failures.lock().unwrap().is_empty(), "in round {round}");
            }
        }));
        load.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = changes {
            std::panic::resume_unwind(panic);
        }
    });
    let failures = load.failures.into_inner().unwrap();
    let answered = load.answered.into_inner();
    assert!(failures.is_empty(), "{} of {answered} requests failed: {:?}", failures.len(), failures.first());
    assert!(answered > 2_000, "only {answered} requests");
    assert!(pods.iter().all(|pod| pod.accepted() > 0), "a pod had no request");
}

#[test]
fn a_broken_file_keeps_its_objects_and_is_reported_once() {
    let world = World::new();
    let node_port = world.port();
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), named("pod"));
    world.apply("service", &web(node_port, target_port).yaml());
    world.apply("pod", &pod("pod", "web", ip));
    let ringport = Ringport::start(&world, &[]);
    world.apply("pod", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: [\n");
    until("the broken file is reported", || ringport.log().contains("pod.yml:").then_some(()));
    assert_eq!(ask(local(node_port)).unwrap(), "pod");
    // Other files go on being read, and the complaint is not repeated with each of them.
    let before = ringport.metrics().generation();
    let other = Service { name: "other", ..web(world.port(), target_port) };
    world.apply("other", &other.yaml());
    ringport.until_metrics("another change is in force", |metrics| metrics.generation() > before);
    assert_eq!(ask(local(node_port)).unwrap(), "pod");
    let log = ringport.log();
    assert_eq!(log.lines().filter(|line| line.contains("pod.yml:")).count(), 1, "{log}");
}

#[test]
fn sessions_outlive_their_pod_and_their_service() {
    let pair = Pair::start(&[]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"before");
    pair.world.delete("pod");
    until_refused(pair.node);
    exchange(&mut client, &mut pod, b"without the pod");
    exchange(&mut pod, &mut client, b"still");
    let before = pair.ringport.metrics().generation();
    pair.world.delete("service");
    pair.ringport.until_metrics("the Service is gone", |metrics| metrics.generation() > before);
    exchange(&mut client, &mut pod, b"without the Service");
    exchange(&mut pod, &mut client, b"still");
    finish(&client);
    assert_eq!(end_of(&mut pod), End::Fin);
    finish(&pod);
    assert_eq!(end_of(&mut client), End::Fin);
    until("the access log has the session", || pair.ringport.sessions_that_ended("complete").pop());
}

#[test]
fn a_deleted_service_gives_its_port_back() {
    let pair = Pair::start(&[]);
    pair.world.delete("service");
    until("the port is free", || std::net::TcpListener::bind(pair.node).ok());
}

#[test]
fn a_directory_may_begin_empty() {
    let world = World::new();
    let node_port = world.port();
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), named("pod"));
    let _ringport = Ringport::start(&world, &[]);
    world.apply("all", &format!("{}---\n{}", web(node_port, target_port).yaml(), pod("pod", "web", ip)));
    let name = until("the Service is served", || ask(local(node_port)).ok());
    assert_eq!(name, "pod");
}
