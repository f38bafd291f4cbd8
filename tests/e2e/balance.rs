//! Who gets which pod.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::harness::client::{ask, ask_from};
use crate::harness::manifest::Service;
use crate::harness::rig::Fleet;
use crate::harness::wait::until;

#[test]
fn without_affinity_every_connection_is_a_draw() {
    const REQUESTS: usize = 600;
    let fleet = Fleet::start(3, &[]);
    let names: Vec<String> = (0..REQUESTS).map(|_| ask(fleet.node).unwrap()).collect();
    let mut counts = BTreeMap::new();
    for name in &names {
        *counts.entry(name.as_str()).or_insert(0_usize) += 1;
    }
    // 200 each, with a deviation of 11.5; seven of them are exceeded once in 10^11 runs.
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| count.abs_diff(200) < 80), "{counts:?}");
    // Taking turns is no draw: the same pod twice in a row must happen, a third of the time.
    let repeats = names.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(repeats.abs_diff(200) < 80, "{repeats} repeats in {REQUESTS} draws");
}

/// A fleet with session affinity and an external IP; where clients connect, by both ways.
fn affine(pods: usize) -> (Fleet, [SocketAddr; 2]) {
    let mut external = None;
    let fleet = Fleet::start_with(pods, &["--shards", "2"], |world, service| {
        let (ip, port) = (world.ip(), world.port());
        external = Some(SocketAddr::from((ip, port)));
        Service { port, external_ip: Some(ip), client_ip_affinity: true, ..service }
    });
    let node = fleet.node;
    (fleet, [node, external.unwrap()])
}

#[test]
fn client_ip_affinity_sticks_by_every_way_in() {
    let (fleet, ways) = affine(3);
    let clients: Vec<IpAddr> = (0..20).map(|_| fleet.world.ip().into()).collect();
    let mut homes = BTreeMap::new();
    for &client in &clients {
        let home = ask_from(client, ways[0]).unwrap();
        for i in 0..15 {
            assert_eq!(ask_from(client, ways[i % 2]).unwrap(), home, "request {i} of {client}");
        }
        homes.insert(client, home);
    }
    // Twenty clients with one home are a chance of 3^-19.
    assert!(homes.values().any(|home| *home != homes[&clients[0]]), "all clients have one home: {homes:?}");
}

#[test]
fn only_the_clients_of_a_removed_pod_move() {
    let (fleet, ways) = affine(3);
    let clients: Vec<IpAddr> = (0..30).map(|_| fleet.world.ip().into()).collect();
    let homes: BTreeMap<IpAddr, String> =
        clients.iter().map(|&client| (client, ask_from(client, ways[0]).unwrap())).collect();
    let gone = &homes[&clients[0]];
    let before = fleet.ringport.metrics().generation();
    fleet.world.delete(gone);
    fleet.ringport.until_metrics("the pod is gone", |metrics| metrics.generation() > before);
    for (&client, home) in &homes {
        let now = ask_from(client, ways[1]).unwrap();
        if home == gone {
            assert_ne!(now, *gone, "{client} still goes to the removed pod");
        } else {
            assert_eq!(now, *home, "{client} moved, though its pod is there");
        }
        for way in ways {
            assert_eq!(ask_from(client, way).unwrap(), now, "{client} has a new home, and left it");
        }
    }
}

#[test]
fn a_new_pod_moves_no_active_client() {
    let (fleet, ways) = affine(2);
    let clients: Vec<IpAddr> = (0..30).map(|_| fleet.world.ip().into()).collect();
    let homes: Vec<String> = clients.iter().map(|&client| ask_from(client, ways[0]).unwrap()).collect();
    let ip = fleet.world.ip();
    let listener = std::net::TcpListener::bind((ip, fleet.target_port)).unwrap();
    let _pod = crate::harness::pod::Pod::start(listener, crate::harness::pod::named("new"));
    fleet.world.apply("new", &crate::harness::manifest::pod("new", "web", ip));
    // It is in force once strangers reach it: one in three of them.
    until("a stranger gets the new pod", || {
        (ask_from(fleet.world.ip().into(), ways[0]).unwrap() == "new").then_some(())
    });
    for (client, home) in clients.iter().zip(&homes) {
        assert_eq!(ask_from(*client, ways[1]).unwrap(), *home, "{client} moved to the new pod");
    }
}
