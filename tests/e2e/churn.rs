//! Ten thousand connections, no failure, and nothing left behind.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::client::{ask_from, connect_from, finish, reset};
use crate::harness::rig::Fleet;
use crate::harness::wait::until;

const CONNECTIONS: usize = 10_000;
const CLIENTS: usize = 8;
/// Open at a time for each client.
const WINDOW: usize = 25;

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let fleet = Fleet::start(3, &[]);
    // Once round, so that whatever is made with the first connection is there.
    round(&fleet, fleet.world.ip().into(), 64);
    fleet.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
    let files = fleet.ringport.open_files();
    let before = fleet.ringport.metrics().ended("complete");

    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let from = IpAddr::V4(fleet.world.ip());
            let fleet = &fleet;
            scope.spawn(move || round(fleet, from, CONNECTIONS / CLIENTS));
        }
    });
    let metrics = fleet.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
    assert_eq!(metrics.ended("complete") - before, CONNECTIONS as u64);
    until("the descriptors are back at what they were", || {
        (fleet.ringport.open_files() <= files).then_some(())
    });
    let served: usize = fleet.pods.iter().map(|pod| pod.accepted()).sum();
    assert_eq!(served, CONNECTIONS + 64);
}

/// Requests from one address, several at a time.
fn round(fleet: &Fleet, from: IpAddr, requests: usize) {
    let mut done = 0;
    while done < requests {
        let batch = WINDOW.min(requests - done);
        let open: Vec<_> = (0..batch)
            .map(|_| {
                let mut stream = connect_from(from, fleet.node).unwrap();
                stream.write_all(b"who?\n").unwrap();
                stream
            })
            .collect();
        for mut stream in open {
            let mut name = String::new();
            stream.read_to_string(&mut name).unwrap();
            assert!(name.starts_with("pod-") && name.ends_with('\n'), "the answer is '{name}'");
        }
        done += batch;
    }
}

#[test]
fn rude_clients_leave_nothing_behind_either() {
    let fleet = Fleet::start(2, &[]);
    let from = IpAddr::V4(fleet.world.ip());
    round(&fleet, from, 64);
    fleet.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
    let files = fleet.ringport.open_files();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= 2_000 {
                        break;
                    }
                    rude(i, from, fleet.node);
                }
            });
        }
    });
    fleet.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
    until("the descriptors are back at what they were", || {
        (fleet.ringport.open_files() <= files).then_some(())
    });
    assert!(ask_from(from, fleet.node).is_ok());
}

fn rude(i: usize, from: IpAddr, node: SocketAddr) {
    let mut stream = connect_from(from, node).unwrap();
    match i % 4 {
        0 => reset(stream),
        1 => drop(stream),
        2 => {
            let _ = stream.write_all(b"who?\n");
            reset(stream);
        }
        _ => {
            let _ = stream.write_all(b"half a quest");
            finish(&stream);
        }
    }
}
