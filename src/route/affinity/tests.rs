//! The contract of affinity, against a model that keeps everything.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::route::pick::{Affinity, Picker, Targets};
use crate::route::port::PortState;
use crate::types::{ClientAddr, NamespacedName, Protocol, ServicePortName};

const TIMEOUT: Duration = Duration::from_secs(60);

fn addr(i: u8) -> EndpointAddr {
    EndpointAddr(SocketAddr::from(([10, 0, 0, i], 80)))
}

fn ip(client: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(client))
}

fn client(i: u32) -> ClientAddr {
    ClientAddr(SocketAddr::new(ip(i), 999))
}

fn state() -> Arc<PortState> {
    let name = ServicePortName {
        service: NamespacedName::new("default", "web"),
        port: "".into(),
        protocol: Protocol::Tcp,
    };
    Arc::new(PortState::new(name, 1))
}

fn targets(state: &Arc<PortState>, endpoints: impl IntoIterator<Item = u8>) -> Targets {
    let endpoints = endpoints.into_iter().map(|i| state.endpoint(addr(i), None)).collect();
    let affinity = Some(Affinity { state: state.clone(), timeout: TIMEOUT });
    Targets::new(endpoints, Picker { affinity, ..Picker::default() })
}

/// A connection that succeeds at once: where it goes.
fn connect(targets: &Targets, from: u32, now: Millis) -> Option<EndpointAddr> {
    let mut candidates = targets.candidates(client(from), now, now.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let endpoint = candidates.next_endpoint()?;
    candidates.connected(&endpoint, now);
    Some(endpoint.addr)
}

#[test]
fn a1_every_connection_starts_the_time_anew() {
    let ledger = Ledger::default();
    let mut now = Millis(1000);
    ledger.record(ip(1), addr(1), now, TIMEOUT);
    for _ in 0..10 {
        now = now.after(TIMEOUT - Duration::from_millis(1));
        assert_eq!(ledger.lookup(ip(1), now, TIMEOUT), Some(addr(1)));
        ledger.record(ip(1), addr(1), now, TIMEOUT);
    }
    assert_eq!(ledger.lookup(ip(1), now.after(TIMEOUT), TIMEOUT), None, "looking does not refresh");
}

#[test]
fn a1_a_client_that_was_away_for_longer_is_new() {
    let state = state();
    // The ledger says otherwise than Maglev would, so that it shows when it is forgotten.
    let all = targets(&state, 1..=5);
    let by_maglev = connect(&all, 7, Millis(1)).unwrap();
    let other = (1..=5).map(addr).find(|a| *a != by_maglev).unwrap();
    state.ledger.record(ip(7), other, Millis(2), TIMEOUT);
    assert_eq!(connect(&all, 7, Millis(3)), Some(other));
    assert_eq!(connect(&all, 7, Millis(3).after(TIMEOUT)), Some(by_maglev));
}

#[test]
fn a2_a_new_endpoint_moves_no_active_client() {
    let state = state();
    let before = targets(&state, 1..=3);
    let homes: Vec<_> = (0..500).map(|c| connect(&before, c, Millis(5)).unwrap()).collect();
    let after = targets(&state, 1..=4);
    let now = Millis(6);
    assert!((0..500).all(|c| connect(&after, c, now) == Some(homes[c as usize])));
    let fresh = (1000..1500).filter(|&c| connect(&after, c, now) == Some(addr(4))).count();
    assert!((75..175).contains(&fresh), "new clients use it: {fresh}");
}

#[test]
fn a3_an_endpoint_that_is_gone_moves_its_own_clients_at_once_and_no_others() {
    let state = state();
    let before = targets(&state, 1..=4);
    let homes: Vec<_> = (0..500).map(|c| connect(&before, c, Millis(5)).unwrap()).collect();
    let after = targets(&state, [1, 2, 4]);
    for (c, home) in (0..).zip(&homes) {
        let now = connect(&after, c, Millis(6)).unwrap();
        assert_eq!(now == *home, *home != addr(3), "client {c}");
        assert_ne!(now, addr(3));
    }
    // Coming back, it gets no one back who moved.
    let again = targets(&state, 1..=4);
    assert!((0..500).all(|c| connect(&again, c, Millis(7)) != Some(addr(3))));
}

#[test]
fn a4_where_the_endpoint_does_not_answer_the_client_moves_to_the_one_that_does() {
    let state = state();
    let all = targets(&state, 1..=5);
    let home = connect(&all, 3, Millis(1)).unwrap();
    let mut candidates = all.candidates(client(3), Millis(2), 1);
    let first = candidates.next_endpoint().unwrap();
    assert_eq!(first.addr, home);
    candidates.failed(&first, Millis(2));
    let second = candidates.next_endpoint().unwrap();
    assert_ne!(second.addr, home);
    candidates.connected(&second, Millis(2));
    assert_eq!(connect(&all, 3, Millis(3)), Some(second.addr));
}

#[test]
fn a5_lists_of_one_port_share_the_ledger_and_two_ports_do_not() {
    let (state, other_port) = (state(), state());
    let cluster = targets(&state, 1..=5);
    let local = targets(&state, 2..=2);
    assert_eq!(connect(&local, 9, Millis(1)), Some(addr(2)));
    assert_eq!(connect(&cluster, 9, Millis(2)), Some(addr(2)));
    assert_eq!(other_port.ledger.lookup(ip(9), Millis(2), TIMEOUT), None);
}

#[test]
fn a6_it_is_bounded_counts_what_it_cannot_note_and_uses_expired_places_again() {
    let ledger = Ledger::default();
    let many = 2 * limits::AFFINITY_CLIENTS as u32;
    (0..many).for_each(|c| ledger.record(ip(c), addr(1), Millis(0), TIMEOUT));
    let known = ledger.clients();
    assert_eq!(known, limits::AFFINITY_CLIENTS);
    assert_eq!(ledger.overflowed(), u64::from(many) - known as u64);
    // A client that is noted is still refreshed when it is full.
    let noted = (0..many).find(|&c| ledger.lookup(ip(c), Millis(1), TIMEOUT).is_some()).unwrap();
    let later = Millis(0).after(TIMEOUT);
    let almost = Millis(later.0 - 1);
    ledger.record(ip(noted), addr(2), almost, TIMEOUT);
    // All others are over now; new clients take their places and not that one's.
    let before = ledger.overflowed();
    (0..1000).for_each(|c| ledger.record(ip(many + c), addr(3), later, TIMEOUT));
    assert_eq!(ledger.overflowed(), before);
    assert_eq!(ledger.clients(), limits::AFFINITY_CLIENTS);
    assert_eq!(ledger.lookup(ip(noted), later, TIMEOUT), Some(addr(2)));
    assert!((0..1000).all(|c| ledger.lookup(ip(many + c), later, TIMEOUT) == Some(addr(3))));
}

#[test]
fn a6_without_a_place_maglev_alone_answers() {
    let state = state();
    let all = targets(&state, 1..=5);
    (0..2 * limits::AFFINITY_CLIENTS as u32)
        .for_each(|c| state.ledger.record(ip(c), addr(1), Millis(1), TIMEOUT));
    let stranger = 0x0b00_0001;
    let home = connect(&all, stranger, Millis(2));
    assert!(state.ledger.lookup(ip(stranger), Millis(2), TIMEOUT).is_none());
    assert!((3..50).all(|t| connect(&all, stranger, Millis(t)) == home));
}

#[test]
fn a_client_is_the_same_over_ipv4_and_over_a_dual_stack_socket() {
    let state = state();
    let all = targets(&state, 1..=5);
    let home = connect(&all, 0x0a01_0203, Millis(1)).unwrap();
    let other = (1..=5).map(addr).find(|a| *a != home).unwrap();
    state.ledger.record(ip(0x0a01_0203), other, Millis(1), TIMEOUT);
    let mapped = ClientAddr(SocketAddr::new(Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().into(), 5));
    assert_eq!(all.candidates(mapped, Millis(2), 0).next_endpoint().unwrap().addr, other);
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Connect(u32),
    /// The client's first candidate does not answer.
    ConnectPastFailure(u32),
    Endpoints(Vec<u8>),
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u64..40_000).prop_map(Step::Wait),
        12 => (0u32..8).prop_map(Step::Connect),
        1 => (0u32..8).prop_map(Step::ConnectPastFailure),
        2 => proptest::collection::btree_set(0u8..6, 0..6).prop_map(|set| Step::Endpoints(set.into_iter().collect())),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Any history: a connection of a client goes where its last one went, if that was less than the
    /// timeout ago and the endpoint is still there (A1 to A4).
    #[test]
    fn the_contract_holds_in_any_history(steps in steps()) {
        let state = state();
        let mut now = Millis(1);
        let mut in_force = targets(&state, 0..3);
        let mut model: HashMap<u32, (EndpointAddr, Millis)> = HashMap::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now = Millis(now.0 + ms),
                Step::Endpoints(list) => in_force = targets(&state, list),
                Step::Forget => {
                    state.ledger.clear();
                    model.clear();
                }
                Step::Connect(c) | Step::ConnectPastFailure(c) => {
                    let there = |a: EndpointAddr| in_force.endpoints.iter().any(|e| e.addr == a);
                    let due = model.get(&c).filter(|(a, last)| there(*a) && now.since(*last) < TIMEOUT).map(|m| m.0);
                    let mut candidates = in_force.candidates(client(c), now, now.0);
                    let Some(mut endpoint) = candidates.next_endpoint() else {
                        prop_assert!(in_force.endpoints.is_empty());
                        continue;
                    };
                    if let Some(due) = due {
                        prop_assert_eq!(endpoint.addr, due);
                    }
                    if let Step::ConnectPastFailure(_) = step {
                        // One failure never ejects; success elsewhere moves the client (A4).
                        let Some(next) = candidates.next_endpoint() else { continue };
                        endpoint = next;
                    }
                    candidates.connected(&endpoint, now);
                    model.insert(c, (endpoint.addr, now));
                }
            }
        }
    }
}

#[test]
fn several_threads_may_use_it_at_once() {
    let ledger = Ledger::default();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let ledger = &ledger;
            scope.spawn(move || {
                for c in 0..2000 {
                    ledger.record(ip(c), addr(thread as u8), Millis(u64::from(c)), TIMEOUT);
                    assert!(ledger.lookup(ip(c), Millis(u64::from(c)), TIMEOUT).is_some());
                }
            });
        }
    });
    assert_eq!(ledger.clients(), 2000);
}

#[test]
fn nothing_is_allocated_before_the_first_client() {
    let ledger = Ledger::default();
    assert_eq!(ledger.lookup(ip(1), Millis(1), TIMEOUT), None);
    ledger.clear();
    assert!(ledger.stripes.get().is_none());
}
