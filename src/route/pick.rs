//! One connection's choice: the preferred endpoint, and in what order to try others.
//!
//! - P1 the preferred endpoint is what the affinity ledger, else the algorithm, says.
//! - P2 the others follow in an order that favours none: by a hash of each with a number that is random
//!   for every connection, or fixed for every client where clients are to stay together.
//! - P3 healthy ones come before ejected ones. Where more than half of a list is ejected, none of it
//!   counts as ejected: the trouble is then more likely here than there.
//! - P4 clients of an address family get endpoints of that family where there are any.
//! - P5 nothing is allocated.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Millis;
use crate::k8s::model::Algorithm;
use crate::limits::CONNECT_ATTEMPTS;
use crate::route::endpoint::{Endpoint, hash_client, hash_flow};
use crate::route::health::Standing;
use crate::route::maglev::Maglev;
use crate::route::port::PortState;
use crate::types::ClientAddr;

/// The endpoints that a frontend may use, and how one of them is picked.
#[derive(Debug)]
pub struct Targets {
    /// Sorted by address; the same endpoint is the same `Arc` in every snapshot that has it.
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// How many of them are IPv4; these come first.
    v4: usize,
    tables: Tables,
    picker: Picker,
    /// Whose turn it is, for [`Algorithm::RoundRobin`].
    turn: AtomicUsize,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default)]
pub struct Picker {
    /// Used where there is no affinity.
    pub algorithm: Algorithm,
    /// Where clients stay with their endpoint.
    pub affinity: Option<Affinity>,
    /// The port is UDP's: chance is replaced by a hash of the client's address and port, which gives the same
    /// flow the same endpoint after a restart and on every shard.
    pub flows: bool,
}

/// `sessionAffinity: ClientIP`.
#[derive(Clone, Debug)]
pub struct Affinity {
    /// Has the ledger.
    pub state: Arc<PortState>,
    /// `timeoutSeconds`
    pub timeout: Duration,
}

/// Maglev's table for each address family that has endpoints, where it is needed at all.
#[derive(Debug, Default)]
struct Tables {
    v4: Option<Maglev>,
    v6: Option<Maglev>,
}

/// The endpoints of one address family.
#[derive(Clone, Copy, Debug)]
struct Pool<'a> {
    endpoints: &'a [Arc<Endpoint>],
    table: Option<&'a Maglev>,
}

// === impl Targets ===

impl Targets {
    /// Targets of these endpoints, in any order.
    pub fn new(mut endpoints: Vec<Arc<Endpoint>>, picker: Picker) -> Self {
        endpoints.sort_by_key(|e| e.addr);
        let v4 = endpoints.partition_point(|e| e.addr.0.is_ipv4());
        let tables = if picker.by_client() || picker.by_flow() {
            let table = |part: &[Arc<Endpoint>]| Maglev::build(part.iter().map(|e| &**e));
            let (v4, v6) = endpoints.split_at_checked(v4).unwrap_or_default();
            Tables { v4: table(v4), v6: table(v6) }
        } else {
            Tables::default()
        };
        Self { endpoints: endpoints.into(), v4, tables, picker, turn: AtomicUsize::new(0) }
    }

    /// Whether they are what `new` would make of this sorted list.
    pub(in crate::route) fn is(&self, endpoints: &[Arc<Endpoint>], picker: &Picker) -> bool {
        self.picker.is(picker)
            && self.endpoints.len() == endpoints.len()
            && self.endpoints.iter().zip(endpoints).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Goes on with the turns of the targets that these replace.
    pub(in crate::route) fn take_turn_from(&self, old: &Self) {
        self.turn.store(old.turn.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The endpoints to try for one new connection, the preferred one first, at most
    /// [`crate::limits::CONNECT_ATTEMPTS`]. Empty when there is none.
    ///
    /// `random` is a fresh random number.
    pub fn candidates(&self, client: ClientAddr, now: Millis, random: u64) -> Candidates<'_> {
        let ip = client.0.ip().to_canonical();
        let pool = self.pool(ip);
        let seed = match pool.table {
            None => random,
            Some(_) if self.picker.by_client() => hash_client(ip),
            Some(_) => hash_flow(ip, client.0.port()),
        };
        let mut candidates = Candidates {
            targets: self,
            pool,
            client: ip,
            seed,
            now,
            order: [0; CONNECT_ATTEMPTS],
            len: 0,
            next: 0,
        };
        let preferred = self.preferred(pool, ip, now, seed, random);
        if let Some(at) = preferred.filter(|&at| pool.take(at, now)) {
            candidates.prefer(at);
        } else {
            candidates.rank();
        }
        candidates
    }

    /// What the ledger says, or else the algorithm (P1); `None` where there is no endpoint.
    fn preferred(
        &self,
        pool: Pool<'_>,
        client: IpAddr,
        now: Millis,
        seed: u64,
        random: u64,
    ) -> Option<usize> {
        if let Some(Affinity { state, timeout }) = &self.picker.affinity {
            let known = state.ledger.lookup(client, now, *timeout);
            let at = known.and_then(|addr| pool.endpoints.binary_search_by_key(&addr, |e| e.addr).ok());
            if at.is_some() {
                return at;
            }
        }
        let count = pool.endpoints.len();
        let by_hash = pool.table.map(|table| table.lookup(seed));
        match self.picker.algorithm {
            _ if count == 0 => None,
            _ if by_hash.is_some() => by_hash,
            Algorithm::RoundRobin => Some(self.turn.fetch_add(1, Ordering::Relaxed) % count),
            Algorithm::LeastConnections => pool.less_loaded(random, now),
            Algorithm::Random | Algorithm::Maglev => Some(below(count, random)),
        }
    }

    /// A pod did not take what was sent to it, without a [`Candidates`] at hand: see [`Candidates::failed`].
    pub fn failed(&self, endpoint: &Arc<Endpoint>, now: Millis) -> bool {
        self.pool(endpoint.addr.0.ip()).failed(endpoint, now)
    }

    /// The endpoints for a client (P4).
    fn pool(&self, client: IpAddr) -> Pool<'_> {
        let (v4, v6) = self.endpoints.split_at_checked(self.v4).unwrap_or_default();
        if v6.is_empty() || (client.is_ipv4() && !v4.is_empty()) {
            Pool { endpoints: v4, table: self.tables.v4.as_ref() }
        } else if v4.is_empty() || client.is_ipv6() {
            Pool { endpoints: v6, table: self.tables.v6.as_ref() }
        } else {
            Pool { endpoints: v4, table: self.tables.v4.as_ref() }
        }
    }
}

// === impl Picker ===

impl Picker {
    /// Whether a client's address decides.
    fn by_client(&self) -> bool {
        self.affinity.is_some() || self.algorithm == Algorithm::Maglev
    }

    /// Whether a client's address and port decide.
    fn by_flow(&self) -> bool {
        self.flows && self.affinity.is_none() && self.algorithm == Algorithm::Random
    }

    fn is(&self, other: &Self) -> bool {
        let same_affinity = match (&self.affinity, &other.affinity) {
            (Some(a), Some(b)) => Arc::ptr_eq(&a.state, &b.state) && a.timeout == b.timeout,
            (a, b) => a.is_none() && b.is_none(),
        };
        self.algorithm == other.algorithm && self.flows == other.flows && same_affinity
    }
}

// === impl Pool ===

impl Pool<'_> {
    /// The health of one endpoint, in view of the others (P3).
    fn standing(&self, at: usize, now: Millis) -> Standing {
        match self.endpoints.get(at).map(|e| e.health.standing(now)) {
            None | Some(Standing::Healthy) => Standing::Healthy,
            Some(standing) => {
                if self.mostly_ejected(now) {
                    Standing::Healthy
                } else {
                    standing
                }
            }
        }
    }

    /// Whether the endpoint may be used before others, which for one that is due takes its probe.
    fn take(&self, at: usize, now: Millis) -> bool {
        match self.standing(at, now) {
            Standing::Healthy => true,
            Standing::Ejected => false,
            Standing::Due => self.endpoints.get(at).is_some_and(|e| e.health.try_probe(now)),
        }
    }

    fn ejected(&self, now: Millis) -> usize {
        self.endpoints.iter().filter(|e| e.health.standing(now) != Standing::Healthy).count()
    }

    fn failed(&self, endpoint: &Arc<Endpoint>, now: Millis) -> bool {
        endpoint.health.on_failed(now, || (self.ejected(now) + 1) * 2 <= self.endpoints.len())
    }

    fn mostly_ejected(&self, now: Millis) -> bool {
        self.ejected(now) * 2 > self.endpoints.len()
    }

    /// The better of two random ones (Mitzenmacher, the power of two choices).
    fn less_loaded(&self, random: u64, now: Millis) -> Option<usize> {
        let count = self.endpoints.len();
        let first = below(count, random);
        let second = match count {
            0 | 1 => first,
            // Any but the first.
            _ => (first + 1 + below(count - 1, mix(random, 1))) % count,
        };
        let load = |&at: &usize| {
            let endpoint = self.endpoints.get(at);
            (self.standing(at, now) == Standing::Ejected, endpoint.map_or(u64::MAX, |e| e.active()))
        };
        [first, second].into_iter().min_by_key(load)
    }
}

// === impl Candidates ===

/// See [`Targets::candidates`].
#[derive(Debug)]
pub struct Candidates<'a> {
    targets: &'a Targets,
    pool: Pool<'a>,
    client: IpAddr,
    /// Orders the endpoints after the first.
    seed: u64,
    now: Millis,
    /// Places in the pool, in the order to try them; `len` of them are known.
    order: [u32; CONNECT_ATTEMPTS],
    len: usize,
    next: usize,
}

impl Candidates<'_> {
    /// The next endpoint to try.
    pub fn next_endpoint(&mut self) -> Option<Arc<Endpoint>> {
        if self.next == 1 && self.len == 1 {
            // The first has failed; most connections never come here.
            self.rank();
        }
        let at = self.order.get(..self.len)?.get(self.next)?;
        let endpoint = self.pool.endpoints.get(*at as usize)?;
        self.next += 1;
        Some(endpoint.clone())
    }

    /// Whether there is another one. To know costs nothing: the others are put in order when they are asked for.
    pub fn has_next(&self) -> bool {
        self.next < self.pool.endpoints.len().min(CONNECT_ATTEMPTS)
    }

    /// The connection to `endpoint` is established: the affinity ledger notes it, and the endpoint
    /// counts as healthy.
    pub fn connected(&self, endpoint: &Arc<Endpoint>, now: Millis) {
        endpoint.health.on_connected();
        self.chosen(endpoint, now);
    }

    /// The client's datagrams go to `endpoint` from now on: the affinity ledger notes it. Whether the endpoint
    /// is there is not known before it answers.
    pub fn chosen(&self, endpoint: &Arc<Endpoint>, now: Millis) {
        if let Some(Affinity { state, timeout }) = &self.targets.picker.affinity {
            state.ledger.record(self.client, endpoint.addr, now, *timeout); // A4
        }
    }

    /// The attempt to connect to `endpoint` failed; enough of them in a row eject it. Not to be called
    /// where this node was at fault. True when this attempt has ejected it, for the caller to count.
    pub fn failed(&self, endpoint: &Arc<Endpoint>, now: Millis) -> bool {
        self.pool.failed(endpoint, now)
    }

    /// Makes one endpoint the first.
    fn prefer(&mut self, at: usize) {
        if let (Some(first), Ok(at)) = (self.order.first_mut(), u32::try_from(at)) {
            *first = at;
            self.len = 1;
        }
    }

    /// Fills the order after what is in it, with the best of the pool (P2, P3): one pass that keeps the
    /// best few in order.
    fn rank(&mut self) {
        let (first, tried) = (self.len, self.order);
        let tried = tried.get(..first).unwrap_or_default();
        let ignore_ejected = self.pool.mostly_ejected(self.now);
        let mut keys = [(true, u64::MAX); CONNECT_ATTEMPTS];
        for (at, endpoint) in (0u32..).zip(self.pool.endpoints) {
            if tried.contains(&at) {
                continue;
            }
            let ejected = !ignore_ejected && endpoint.health.standing(self.now) != Standing::Healthy;
            let key = (ejected, mix(self.seed, endpoint.hash));
            let known = keys.get(first..self.len).unwrap_or_default();
            let place = first + known.partition_point(|other| *other <= key);
            if place >= CONNECT_ATTEMPTS {
                continue;
            }
            self.len = (self.len + 1).min(CONNECT_ATTEMPTS);
            // The rotation drops the last one where there were enough already.
            if let (Some(keys), Some(order)) =
                (keys.get_mut(place..self.len), self.order.get_mut(place..self.len))
            {
                keys.rotate_right(1);
                order.rotate_right(1);
                if let (Some(k), Some(o)) = (keys.first_mut(), order.first_mut()) {
                    (*k, *o) = (key, at);
                }
            }
        }
    }
}

/// A number below `count`, from a random one (Lemire's multiplication); zero where `count` is zero.
fn below(count: usize, random: u64) -> usize {
    ((u128::from(random) * count as u128) >> 64) as usize
}

/// Splitmix64's finaliser over two numbers: as good as random in each.
fn mix(seed: u64, x: u64) -> u64 {
    let mut z = seed.wrapping_add(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
