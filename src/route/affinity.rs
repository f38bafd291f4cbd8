//! The affinity ledger of a service port: which endpoint each client was last connected to, and when.
//!
//! With Maglev, which answers for clients that the ledger does not know, it keeps the contract of
//! `sessionAffinity: ClientIP` exactly:
//!
//! - A1 a client goes to the same endpoint while its connections come within `timeoutSeconds` of each
//!   other; each connection starts the time anew.
//! - A2 a new endpoint moves no such client.
//! - A3 an endpoint that is gone, unready or terminating moves its own clients, at once, and no others.
//!   (Whoever reads the ledger checks that the endpoint is still in its list.)
//! - A4 where a client's endpoint cannot be connected, the client moves to the one that answers.
//! - A5 all frontends of a service port share one ledger; two ports of a Service do not.
//! - A6 it remembers at most [`limits::AFFINITY_CLIENTS`]. The place of a client whose time is over is
//!   used again; when there is none, a new client is not noted, which is counted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock::Millis;
use crate::limits;
use crate::route::endpoint::hash_client;
use crate::types::EndpointAddr;

/// See the module. Nothing is allocated before the first client.
#[derive(Debug, Default)]
pub struct Ledger {
    stripes: OnceLock<Box<[Mutex<Stripe>]>>,
    overflowed: AtomicU64,
}

impl Ledger {
    /// The endpoint this client was connected to less than `timeout` ago.
    pub fn lookup(&self, client: IpAddr, now: Millis, timeout: Duration) -> Option<EndpointAddr> {
        let stripes = self.stripes.get()?;
        lock(stripe_of(stripes, client)?).lookup(client, now, timeout)
    }

    /// Notes that the client has been connected to the endpoint now.
    pub fn record(&self, client: IpAddr, endpoint: EndpointAddr, now: Millis, timeout: Duration) {
        let stripes =
            self.stripes.get_or_init(|| (0..limits::AFFINITY_STRIPES).map(|_| Mutex::default()).collect());
        let noted = stripe_of(stripes, client)
            .is_some_and(|stripe| lock(stripe).record(client, endpoint, now, timeout));
        if !noted {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets every client: the Service has no affinity any more.
    pub fn clear(&self) {
        for stripe in self.stripes.get().into_iter().flatten() {
            *lock(stripe) = Stripe::default();
        }
    }

    /// Clients in it, among them some whose time is over.
    pub fn clients(&self) -> usize {
        self.stripes.get().into_iter().flatten().map(|stripe| lock(stripe).places.len()).sum()
    }

    /// Connections that could not be noted, as the ledger was full.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }
}

fn stripe_of(stripes: &[Mutex<Stripe>], client: IpAddr) -> Option<&Mutex<Stripe>> {
    stripes.get((hash_client(client) >> 32) as usize % limits::AFFINITY_STRIPES)
}

fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of the ledger: a map into a list that is linked from the client seen last to the one seen
/// longest ago, which is also the first whose time is over.
#[derive(Debug)]
struct Stripe {
    map: HashMap<IpAddr, u32>,
    places: Vec<Place>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Place {
    client: IpAddr,
    endpoint: SocketAddr,
    last: Millis,
    newer: u32,
    older: u32,
}

/// No place.
const NONE: u32 = u32::MAX;

impl Default for Stripe {
    fn default() -> Self {
        Self { map: HashMap::new(), places: Vec::new(), newest: NONE, oldest: NONE }
    }
}

impl Stripe {
    fn lookup(&self, client: IpAddr, now: Millis, timeout: Duration) -> Option<EndpointAddr> {
        let place = self.place(*self.map.get(&client)?)?;
        (now.since(place.last) < timeout).then_some(EndpointAddr(place.endpoint))
    }

    /// False when there is no place for a new client.
    fn record(&mut self, client: IpAddr, endpoint: EndpointAddr, now: Millis, timeout: Duration) -> bool {
        let at = match self.map.get(&client) {
            Some(&at) => {
                self.unlink(at);
                at
            }
            None => match self.take_place(client, endpoint, now, timeout) {
                Some(at) => {
                    self.map.insert(client, at);
                    at
                }
                None => return false,
            },
        };
        if let Some(place) = self.place_mut(at) {
            place.client = client;
            place.endpoint = endpoint.0;
            place.last = place.last.max(now);
        }
        self.link_newest(at);
        true
    }

    /// An unlinked place for a new client: a fresh one while there is room, else the oldest if its time
    /// is over (A6).
    fn take_place(
        &mut self,
        client: IpAddr,
        endpoint: EndpointAddr,
        now: Millis,
        timeout: Duration,
    ) -> Option<u32> {
        let fresh = self.places.len();
        // The oldest is reused before the list grows, so that memory follows the clients of one timeout.
        let oldest = self.place(self.oldest).filter(|p| now.since(p.last) >= timeout).map(|p| p.client);
        if let Some(gone) = oldest {
            let at = self.map.remove(&gone)?;
            self.unlink(at);
            if let Some(place) = self.place_mut(at) {
                place.last = now;
            }
            return Some(at);
        }
        if fresh >= limits::AFFINITY_CLIENTS / limits::AFFINITY_STRIPES {
            return None;
        }
        self.places.push(Place { client, endpoint: endpoint.0, last: now, newer: NONE, older: NONE });
        u32::try_from(fresh).ok()
    }

    fn place(&self, at: u32) -> Option<&Place> {
        self.places.get(at as usize)
    }

    fn place_mut(&mut self, at: u32) -> Option<&mut Place> {
        self.places.get_mut(at as usize)
    }

    fn unlink(&mut self, at: u32) {
        let Some((newer, older)) = self.place(at).map(|p| (p.newer, p.older)) else { return };
        match self.place_mut(newer) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
        match self.place_mut(older) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let second = self.newest;
        if let Some(place) = self.place_mut(at) {
            (place.newer, place.older) = (NONE, second);
        }
        match self.place_mut(second) {
            Some(place) => place.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests;
