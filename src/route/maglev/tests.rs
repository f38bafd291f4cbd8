//! Spread, disruption and independence of order, against what was simulated for these sizes.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::metrics::counters::PerShard;

fn endpoint(i: u32) -> Endpoint {
    let addr = SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + i), 8080));
    Endpoint::new(EndpointAddr(addr), None, PerShard::new(1).into())
}

fn endpoints(count: u32) -> Vec<Endpoint> {
    (0..count).map(endpoint).collect()
}

/// The address of the endpoint in every slot.
fn slots(endpoints: &[Endpoint]) -> Vec<EndpointAddr> {
    let table = Maglev::build(endpoints.iter()).unwrap();
    let size = table_size(endpoints.len());
    (0..size).map(|hash| endpoints[table.lookup(hash as u64)].addr).collect()
}

/// The largest and the smallest share, as multiples of the average.
fn spread(slots: &[EndpointAddr], count: usize) -> (f64, f64) {
    let mut shares = std::collections::HashMap::new();
    slots.iter().for_each(|slot| *shares.entry(slot).or_insert(0usize) += 1);
    assert_eq!(shares.len(), count, "every endpoint has a share");
    let average = slots.len() as f64 / count as f64;
    (*shares.values().max().unwrap() as f64 / average, *shares.values().min().unwrap() as f64 / average)
}

/// Shares of the slots that changed, and that did although their endpoint stayed.
fn disruption(before: &[EndpointAddr], after: &[EndpointAddr], gone: &[EndpointAddr]) -> (f64, f64) {
    assert_eq!(before.len(), after.len());
    let moved: Vec<_> = before.iter().zip(after).filter(|(a, b)| a != b).collect();
    let collateral = moved.iter().filter(|(a, _)| !gone.contains(a)).count();
    (moved.len() as f64 / before.len() as f64, collateral as f64 / before.len() as f64)
}

#[test]
fn sizes_are_prime_and_more_than_a_hundred_times_the_endpoints() {
    for size in SIZES {
        assert!((2..).take_while(|d| d * d <= size).all(|d| size % d != 0), "{size} is prime");
    }
    for (count, size) in [
        (1, 2039),
        (20, 2039),
        (21, 16381),
        (163, 16381),
        (164, 65537),
        (655, 65537),
        (656, 655_373),
        (6553, 655_373),
    ] {
        assert_eq!(table_size(count), size, "{count} endpoints");
        assert!(size > 100 * count);
    }
    assert_eq!(table_size(10_000), 655_373, "beyond, the largest");
}

#[test]
fn slots_are_as_small_as_the_number_of_endpoints_allows() {
    assert!(Maglev::build(endpoints(0).iter()).is_none());
    assert!(matches!(Maglev::build(endpoints(10).iter()), Some(Maglev::Bytes(slots)) if slots.len() == 2039));
    assert!(matches!(Maglev::build(endpoints(256).iter()), Some(Maglev::Bytes(_))));
    assert!(matches!(Maglev::build(endpoints(257).iter()), Some(Maglev::Words(_))));
}

/// Rows of what was measured: endpoints, the largest share over the average, slots that change when one
/// is removed, and those of them that need not have. The bounds leave room for another hash.
#[test]
fn spread_and_disruption_are_as_measured() {
    for (count, spread_bound, changed_bound, collateral_bound) in [
        (3, 1.01, 0.35, 0.01),
        (10, 1.01, 0.12, 0.02),
        (100, 1.01, 0.03, 0.02),
        (600, 1.02, 0.015, 0.012),
        (1000, 1.01, 0.006, 0.005),
    ] {
        let all = endpoints(count);
        let before = slots(&all);
        let (most, least) = spread(&before, all.len());
        assert!(most < spread_bound && least > 2.0 - spread_bound, "{count}: {most} {least}");
        let removed = (count / 2) as usize;
        let gone = all[removed].addr;
        let rest: Vec<Endpoint> = (0..count).filter(|&i| i != count / 2).map(endpoint).collect();
        if table_size(rest.len()) == before.len() {
            let (changed, collateral) = disruption(&before, &slots(&rest), &[gone]);
            assert!(changed < changed_bound, "{count}: changed {changed}");
            assert!(collateral < collateral_bound, "{count}: collateral {collateral}");
            assert!(changed >= 0.99 / f64::from(count), "{count}: those of the removed one do change");
        }
    }
}

#[test]
fn ten_of_a_hundred_removed_move_little_else() {
    let before = slots(&endpoints(100));
    let (gone, rest): (Vec<_>, Vec<_>) =
        endpoints(100).into_iter().partition(|e| e.addr.0.to_string().contains("7:"));
    let gone: Vec<_> = gone.iter().map(|e| e.addr).collect();
    assert_eq!(gone.len(), 10);
    let (changed, collateral) = disruption(&before, &slots(&rest), &gone);
    assert!(changed < 0.14 && collateral < 0.03, "{changed} {collateral}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every endpoint gets its share within a few percent, for any set of addresses.
    #[test]
    fn any_endpoints_share_evenly(seeds in proptest::collection::btree_set(any::<u32>(), 1..150)) {
        let all: Vec<Endpoint> = seeds.iter().map(|&i| endpoint(i & 0x00ff_ffff)).collect();
        let mut all = all;
        all.sort_by_key(|e| e.addr);
        all.dedup_by_key(|e| e.addr);
        let (most, least) = spread(&slots(&all), all.len());
        prop_assert!(most < 1.05 && least > 0.95, "{} {}", most, least);
    }

    /// The table knows addresses only: the same set gives the same table, in whatever order it came.
    #[test]
    fn order_does_not_matter(seeds in proptest::collection::btree_set(0u32..5000, 2..40), shift in 1usize..39) {
        let mut shuffled: Vec<u32> = seeds.iter().copied().collect();
        let by = shift % shuffled.len();
        shuffled.rotate_left(by);
        let targets = |order: Vec<u32>| {
            let picker = crate::route::pick::Picker {
                algorithm: crate::k8s::model::Algorithm::Maglev,
                ..crate::route::pick::Picker::default()
            };
            crate::route::pick::Targets::new(order.into_iter().map(|i| endpoint(i).into()).collect(), picker)
        };
        let (a, b) = (targets(seeds.into_iter().collect()), targets(shuffled));
        for client in 0u32..64 {
            let client = crate::types::ClientAddr(SocketAddr::from((std::net::Ipv4Addr::from(client << 8), 1)));
            let now = crate::clock::Millis(1);
            let first = |t: &crate::route::pick::Targets, random| {
                t.candidates(client, now, random).next_endpoint().unwrap().addr
            };
            prop_assert_eq!(first(&a, 1), first(&b, 2));
        }
    }
}
