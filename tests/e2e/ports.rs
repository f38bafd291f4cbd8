//! Ports that are taken, and everything that a port may be reached by.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::harness::client::ask;
use crate::harness::manifest::{Service, pod};
use crate::harness::netns::skip;
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::Ringport;
use crate::harness::rig::{Fleet, local, web};
use crate::harness::wait::until;
use crate::harness::world::World;

#[test]
fn a_port_that_is_taken_stops_no_other_and_is_served_once_free() {
    let world = World::new();
    let (taken, free) = (world.port(), world.port());
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), named("pod"));
    let squatter = TcpListener::bind((Ipv4Addr::UNSPECIFIED, taken)).unwrap();
    world.apply("taken", &Service { name: "web", ..web(taken, target_port) }.yaml());
    let other = Service { name: "other", ..web(free, target_port) };
    world.apply("other", &other.yaml());
    world.apply("pod", &pod("pod", "web", ip));
    world.apply("other-pod", &pod("other-pod", "other", ip));
    let ringport = Ringport::start(&world, &[]);
    assert_eq!(ask(local(free)).unwrap(), "pod");
    assert_eq!(ringport.metrics().problems(), 1);
    let log = ringport.log();
    // Who has it is this process.
    let owner = format!("(pid {})", std::process::id());
    assert!(log.contains(&taken.to_string()) && log.contains(&owner), "no {taken} and {owner} in:\n{log}");
    drop(squatter);
    let name = until("the port that was taken is served", || ask(local(taken)).ok());
    assert_eq!(name, "pod");
    ringport.until_metrics("nothing is missing any more", |metrics| metrics.problems() == 0);
}

#[test]
fn a_node_port_is_served_on_every_address_v4_and_v6() {
    let fleet = Fleet::start(1, &[]);
    for address in [Ipv4Addr::LOCALHOST, fleet.world.ip()] {
        assert_eq!(ask(SocketAddr::from((address, fleet.node_port))).unwrap(), "pod-0");
    }
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert_eq!(ask(SocketAddr::from((Ipv6Addr::LOCALHOST, fleet.node_port))).unwrap(), "pod-0");
    } else {
        skip("this machine has no IPv6");
    }
}

#[test]
fn nodeport_addresses_say_where() {
    let fleet = Fleet::start(1, &["--nodeport-addresses", "127.0.0.1/32"]);
    assert_eq!(ask(fleet.node).unwrap(), "pod-0");
    let elsewhere = SocketAddr::from((fleet.world.ip(), fleet.node_port));
    assert!(ask(elsewhere).is_err(), "served on {elsewhere} too");
}

#[test]
fn every_shard_gets_connections() {
    let fleet = Fleet::start(1, &["--shards", "2"]);
    // All on one of two is a chance of 2^-99.
    for _ in 0..100 {
        ask(fleet.node).unwrap();
    }
    let shards = fleet.ringport.metrics().accepted_by_shard();
    assert_eq!(shards.len(), 2);
    assert!(shards.iter().all(|&accepted| accepted > 0), "{shards:?}");
    assert_eq!(shards.iter().sum::<u64>(), 100);
}

#[test]
fn health_pages_answer() {
    let fleet = Fleet::start(1, &[]);
    for page in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(fleet.ringport.health(page), 200, "{page}");
    }
    assert_eq!(fleet.ringport.health("/nothing"), 404);
}
