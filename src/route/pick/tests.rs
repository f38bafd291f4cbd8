//! Picking: shares, the order of retries, ejection, families.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::limits::EJECT_AFTER_FAILURES;
use crate::metrics::counters::PerShard;
use crate::types::EndpointAddr;

const NOW: Millis = Millis(1_000_000);

fn endpoint(text: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointAddr(text.parse().unwrap()), None, PerShard::new(2).into()))
}

fn endpoints(count: usize) -> Vec<Arc<Endpoint>> {
    (0..count).map(|i| endpoint(&format!("10.0.{}.{}:80", i / 256, i % 256))).collect()
}

fn targets(count: usize, algorithm: Algorithm) -> Targets {
    Targets::new(endpoints(count), Picker { algorithm, ..Picker::default() })
}

fn client(i: u32) -> ClientAddr {
    ClientAddr(SocketAddr::from((std::net::Ipv4Addr::from(i), 1234)))
}

fn all(mut candidates: Candidates<'_>) -> Vec<EndpointAddr> {
    let next = || {
        let expected = candidates.has_next();
        let endpoint = candidates.next_endpoint();
        assert_eq!(endpoint.is_some(), expected);
        endpoint
    };
    std::iter::from_fn(next).map(|e| e.addr).collect()
}

fn eject(targets: &Targets, at: usize) {
    let candidates = targets.candidates(client(0), NOW, 0);
    let ejections =
        (0..EJECT_AFTER_FAILURES).filter(|_| candidates.failed(&targets.endpoints[at], NOW)).count();
    assert_eq!(ejections, 1, "ejected once");
}

/// Random numbers with a seed that is printed when a test fails.
fn randoms() -> impl Iterator<Item = u64> {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || random.u64(..))
}

/// Asserts that each of `among` has been counted about as often: within six standard deviations.
fn assert_even(counts: &HashMap<EndpointAddr, u32>, among: usize) {
    let total: u32 = counts.values().sum();
    let expected = f64::from(total) / among as f64;
    let bound = 6.0 * expected.sqrt();
    assert_eq!(counts.len(), among);
    assert!(counts.values().all(|&n| (f64::from(n) - expected).abs() < bound), "{counts:?}");
}

#[test]
fn p1_random_gives_every_endpoint_the_same_share() {
    for count in [1, 2, 3, 7, 10] {
        let targets = targets(count, Algorithm::Random);
        let mut counts = HashMap::new();
        for random in randoms().take(20_000) {
            let endpoint = targets.candidates(client(1), NOW, random).next_endpoint().unwrap();
            *counts.entry(endpoint.addr).or_insert(0) += 1;
        }
        assert_even(&counts, count);
    }
}

#[test]
fn p2_the_second_candidate_is_any_other_with_the_same_chance() {
    let targets = targets(6, Algorithm::Random);
    let mut seconds: HashMap<EndpointAddr, HashMap<EndpointAddr, u32>> = HashMap::new();
    for random in randoms().take(60_000) {
        let order = all(targets.candidates(client(1), NOW, random));
        *seconds.entry(order[0]).or_default().entry(order[1]).or_insert(0) += 1;
    }
    assert_eq!(seconds.len(), 6);
    seconds.values().for_each(|counts| assert_even(counts, 5));
}

#[test]
fn p1_round_robin_takes_turns_and_goes_on_after_a_change() {
    let before = targets(3, Algorithm::RoundRobin);
    let next = |t: &Targets| t.candidates(client(1), NOW, 7).next_endpoint().unwrap().addr;
    let order: Vec<_> = (0..6).map(|_| next(&before)).collect();
    assert_eq!(order[..3], before.endpoints.iter().map(|e| e.addr).collect::<Vec<_>>());
    assert_eq!(order[..3], order[3..]);
    let _ = next(&before);
    let after = targets(3, Algorithm::RoundRobin);
    after.take_turn_from(&before);
    assert_eq!(next(&after), order[1]);
}

#[test]
fn p1_least_connections_takes_the_less_loaded_of_two() {
    let targets = targets(2, Algorithm::LeastConnections);
    targets.endpoints[0].stats.of(1).active.add(3);
    targets.endpoints[1].stats.of(0).active.add(2);
    for random in randoms().take(100) {
        let picked = targets.candidates(client(1), NOW, random).next_endpoint().unwrap();
        assert_eq!(picked.addr, targets.endpoints[1].addr, "counted over all shards");
    }
}

#[test]
fn p1_least_connections_evens_out() {
    let targets = targets(10, Algorithm::LeastConnections);
    for random in randoms().take(1000) {
        targets.candidates(client(1), NOW, random).next_endpoint().unwrap().stats.of(0).active.add(1);
    }
    let active: Vec<_> = targets.endpoints.iter().map(|e| e.active()).collect();
    assert!(active.iter().all(|n| (95..=105).contains(n)), "{active:?}");
}

#[test]
fn p2_under_maglev_a_clients_order_is_fixed_and_clients_differ() {
    let targets = targets(10, Algorithm::Maglev);
    let order = |c, random| all(targets.candidates(client(c), NOW, random));
    assert_eq!(order(1, 1), order(1, 2));
    let seconds: HashSet<_> = (0..200).map(|c| order(c, 1)[1]).collect();
    assert_eq!(seconds.len(), 10);
}

#[test]
fn p3_ejected_endpoints_come_last_and_get_nothing_while_others_live() {
    for algorithm in
        [Algorithm::Random, Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::Maglev]
    {
        let targets = targets(6, algorithm);
        (1..=3).for_each(|at| eject(&targets, at));
        let out: Vec<_> = (1..=3).map(|at| targets.endpoints[at].addr).collect();
        let mut counts = HashMap::new();
        for (c, random) in (0..).zip(randoms().take(3000)) {
            let order = all(targets.candidates(client(c), NOW, random));
            assert!(order[..3].iter().all(|addr| !out.contains(addr)), "{algorithm:?}");
            assert!(order[3..].iter().all(|addr| out.contains(addr)), "the last resort");
            *counts.entry(order[0]).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 3);
        if algorithm == Algorithm::Random {
            assert_even(&counts, 3);
        }
    }
}

#[test]
fn p3_never_more_than_half_of_a_list_is_ejected() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (9, 4)] {
        let targets = targets(count, Algorithm::Random);
        let candidates = targets.candidates(client(1), NOW, 0);
        let ejected = (0..10)
            .flat_map(|_| &targets.endpoints)
            .filter(|endpoint| candidates.failed(endpoint, NOW))
            .count();
        assert_eq!(ejected, most, "of {count}");
    }
}

#[test]
fn p3_where_a_list_is_mostly_ejected_none_of_it_counts_as_ejected() {
    let many = endpoints(6);
    let all_six = Targets::new(many.clone(), Picker::default());
    (0..3).for_each(|at| eject(&all_six, at));
    // Healthy ones leave: of what stays, half and then most is ejected.
    for (stay, used) in [(6, 3), (5, 5), (4, 4)] {
        let rest = Targets::new(many[..stay].to_vec(), Picker::default());
        let mut counts = HashMap::new();
        for random in randoms().take(8000) {
            let order = all(rest.candidates(client(1), NOW, random));
            *counts.entry(order[0]).or_insert(0) += 1;
        }
        assert_even(&counts, used);
    }
}

#[test]
fn p3_one_probe_lets_an_endpoint_back() {
    let targets = targets(2, Algorithm::Random);
    eject(&targets, 0);
    let due = NOW.after(crate::limits::EJECT_FIRST);
    let first = |random| targets.candidates(client(1), due, random);
    let probes: Vec<_> = randoms()
        .take(200)
        .map(|random| first(random).next_endpoint().unwrap())
        .filter(|e| e.addr == targets.endpoints[0].addr)
        .collect();
    assert_eq!(probes.len(), 1, "a single connection probes");
    first(0).connected(&probes[0], due);
    let back =
        randoms().take(200).filter(|&r| first(r).next_endpoint().unwrap().addr == probes[0].addr).count();
    assert!((50..150).contains(&back), "{back}");
}

#[test]
fn p4_clients_get_endpoints_of_their_family_where_there_are_any() {
    let both = ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80", "[fd00::2]:80"].map(endpoint).to_vec();
    let clients = |text: &str| ClientAddr(SocketAddr::new(text.parse().unwrap(), 1));
    for algorithm in [Algorithm::Random, Algorithm::Maglev] {
        let picker = Picker { algorithm, ..Picker::default() };
        let dual = Targets::new(both.clone(), picker.clone());
        let only = |range: std::ops::Range<usize>| Targets::new(both[range].to_vec(), picker.clone());
        for random in randoms().take(100) {
            let families = |t: &Targets, c| -> HashSet<bool> {
                all(t.candidates(clients(c), NOW, random)).iter().map(|a| a.0.is_ipv4()).collect()
            };
            assert_eq!(families(&dual, "192.0.2.1"), [true].into());
            assert_eq!(families(&dual, "::ffff:192.0.2.1"), [true].into());
            assert_eq!(families(&dual, "2001:db8::1"), [false].into());
            assert_eq!(families(&only(0..2), "2001:db8::1"), [true].into());
            assert_eq!(families(&only(2..4), "192.0.2.1"), [false].into());
        }
    }
}

#[test]
fn flows_are_spread_by_address_and_port_and_keep_their_endpoint_whoever_asks() {
    let of = |count| Targets::new(endpoints(count), Picker { flows: true, ..Picker::default() });
    let (targets, same, more) = (of(10), of(10), of(11));
    let mut counts = HashMap::new();
    let (mut moved, mut randoms) = (0, randoms());
    for port in 1..=20_000u16 {
        let flow = ClientAddr((std::net::Ipv4Addr::new(192, 0, 2, 1), port).into());
        let mut first =
            |t: &Targets| t.candidates(flow, NOW, randoms.next().unwrap()).next_endpoint().unwrap().addr;
        let chosen = first(&targets);
        assert_eq!(chosen, first(&same), "a hash of the flow, not chance");
        if chosen != first(&more) {
            moved += 1;
        }
        *counts.entry(chosen).or_insert(0) += 1;
    }
    assert_even(&counts, 10);
    // A new endpoint takes its share of 1,818, and little more.
    assert!((1_500..3_000).contains(&moved), "{moved} moved");
}

#[test]
fn flows_follow_affinity_and_other_algorithms_where_a_service_has_them() {
    let by = |algorithm| Targets::new(endpoints(10), Picker { algorithm, flows: true, affinity: None });
    let ports = |targets: &Targets| -> HashSet<EndpointAddr> {
        let flow = |port| ClientAddr((std::net::Ipv4Addr::new(192, 0, 2, 1), port).into());
        (1..100).map(|port| targets.candidates(flow(port), NOW, 1).next_endpoint().unwrap().addr).collect()
    };
    assert_eq!(ports(&by(Algorithm::Maglev)).len(), 1, "the client's address decides");
    assert_eq!(ports(&by(Algorithm::RoundRobin)).len(), 10);
}

#[test]
fn without_endpoints_there_is_no_candidate() {
    for algorithm in
        [Algorithm::Random, Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::Maglev]
    {
        assert!(targets(0, algorithm).candidates(client(1), NOW, 5).next_endpoint().is_none());
    }
}

proptest! {
    /// Whatever the state: candidates are different endpoints of the list, as many as there are up to
    /// the bound, and no healthy one comes after one that counts as ejected.
    #[test]
    fn p3_any_order_is_sound(
        count in 1usize..30,
        algorithm in prop_oneof![
            Just(Algorithm::Random), Just(Algorithm::RoundRobin),
            Just(Algorithm::LeastConnections), Just(Algorithm::Maglev)],
        failing in proptest::collection::vec(0usize..30, 0..15),
        random: u64,
        from: u32,
    ) {
        let targets = targets(count, algorithm);
        for at in failing.into_iter().filter(|at| *at < count) {
            let candidates = targets.candidates(client(0), NOW, 0);
            (0..EJECT_AFTER_FAILURES).for_each(|_| { candidates.failed(&targets.endpoints[at], NOW); });
        }
        let out = |addr: &EndpointAddr| {
            let endpoint = targets.endpoints.iter().find(|e| e.addr == *addr).unwrap();
            endpoint.health.standing(NOW) == Standing::Ejected
        };
        let order = all(targets.candidates(client(from), NOW, random));
        prop_assert_eq!(order.len(), count.min(CONNECT_ATTEMPTS));
        prop_assert_eq!(order.iter().collect::<HashSet<_>>().len(), order.len());
        prop_assert!(order.is_sorted_by_key(out));
    }
}
