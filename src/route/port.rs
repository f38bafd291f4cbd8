//! A service port: what all its frontends share, and what outlives snapshots.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics::counters::{PerShard, PortStats};
use crate::route::affinity::Ledger;
use crate::route::endpoint::Endpoint;
use crate::types::{ClientAddr, EndpointAddr, Refusal, ServicePortName};

/// What all frontends of one service port share, in one snapshot.
#[derive(Debug)]
pub struct PortRoute {
    /// Namespace, Service, port name, protocol.
    pub name: ServicePortName,
    /// Sessions at a time, all shards together.
    pub max_connections: Option<u32>,
    /// Sessions at a time of one client address.
    pub max_connections_per_client: Option<u32>,
    /// Overrides `--idle-timeout`; zero is never.
    pub idle_timeout: Option<Duration>,
    /// Its counters.
    pub stats: PortStats,
    /// What the next snapshot's route of this port shares.
    pub state: Arc<PortState>,
}

/// The settings of a service port that come from its Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSettings {
    /// See [`PortRoute::max_connections`].
    pub max_connections: Option<u32>,
    /// See [`PortRoute::max_connections_per_client`].
    pub max_connections_per_client: Option<u32>,
    /// See [`PortRoute::idle_timeout`].
    pub idle_timeout: Option<Duration>,
}

impl PortRoute {
    /// A route over this state.
    pub fn new(state: Arc<PortState>, settings: PortSettings) -> Self {
        Self {
            name: state.name.clone(),
            max_connections: settings.max_connections,
            max_connections_per_client: settings.max_connections_per_client,
            idle_timeout: settings.idle_timeout,
            stats: state.stats.clone(),
            state,
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> PortSettings {
        PortSettings {
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
            idle_timeout: self.idle_timeout,
        }
    }

    /// Asks for a place for one more session; the answer gives it back when it is dropped. Costs nothing
    /// where the Service sets no limit. Sessions from before a limit was set do not count towards it.
    ///
    /// # Errors
    /// [`Refusal::ServiceLimit`] or [`Refusal::ClientLimit`].
    pub fn try_admit(&self, client: ClientAddr) -> Result<Admission, Refusal> {
        if self.max_connections.is_none() && self.max_connections_per_client.is_none() {
            return Ok(Admission(None));
        }
        let max = self.max_connections.unwrap_or(u32::MAX);
        let one_more = |n: u32| (n < max).then_some(n + 1);
        let taken = self.state.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map_err(|_| Refusal::ServiceLimit)?;
        let mut seat = Seat { state: self.state.clone(), client: None };
        if let Some(max) = self.max_connections_per_client {
            let client = client.0.ip().to_canonical();
            let mut clients = lock(&seat.state.clients);
            let sessions = clients.entry(client).or_insert(0);
            if *sessions >= max {
                // Zero is possible for a new entry under a limit of zero.
                if *sessions == 0 {
                    clients.remove(&client);
                }
                drop(clients);
                return Err(Refusal::ClientLimit);
            }
            *sessions += 1;
            drop(clients);
            seat.client = Some(client);
        }
        Ok(Admission(Some(seat)))
    }
}

/// A session's place under the limits of its Service, given back on drop.
#[derive(Debug)]
pub struct Admission(#[expect(dead_code, reason = "held for its drop")] Option<Seat>);

#[derive(Debug)]
struct Seat {
    state: Arc<PortState>,
    /// Set where it counts for a client as well.
    client: Option<IpAddr>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.state.sessions.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client {
            let mut clients = lock(&self.state.clients);
            if let Some(sessions) = clients.get_mut(&client) {
                *sessions = sessions.saturating_sub(1);
                if *sessions == 0 {
                    clients.remove(&client);
                }
            }
        }
    }
}

/// What outlives the snapshots of a service port: counters, endpoints with their health, the affinity
/// ledger, sessions under a limit.
#[derive(Debug)]
pub struct PortState {
    /// Namespace, Service, port name, protocol.
    pub name: ServicePortName,
    /// Its counters.
    pub stats: PortStats,
    /// Where its clients went, used while the Service has affinity.
    pub ledger: Ledger,
    /// Every endpoint that anything still refers to: a list of a snapshot, or a session.
    endpoints: Mutex<BTreeMap<EndpointAddr, Arc<Endpoint>>>,
    shards: usize,
    sessions: AtomicU32,
    clients: Mutex<HashMap<IpAddr, u32>>,
}

impl PortState {
    /// That of a new service port, counted by this many shards.
    pub fn new(name: ServicePortName, shards: usize) -> Self {
        Self {
            name,
            stats: Arc::new(PerShard::new(shards)),
            ledger: Ledger::default(),
            endpoints: Mutex::default(),
            shards,
            sessions: AtomicU32::new(0),
            clients: Mutex::default(),
        }
    }

    /// The endpoint at this address: the same as before, if there was one (R3). One that is a different
    /// pod now starts healthy, and counts on where the other stopped.
    pub fn endpoint(&self, addr: EndpointAddr, pod: Option<&Arc<str>>) -> Arc<Endpoint> {
        let mut endpoints = lock(&self.endpoints);
        let known = endpoints.get(&addr);
        if let Some(known) = known.filter(|known| known.pod.as_ref() == pod) {
            return known.clone();
        }
        let stats = known.map_or_else(|| Arc::new(PerShard::new(self.shards)), |known| known.stats.clone());
        let endpoint = Arc::new(Endpoint::new(addr, pod.cloned(), stats));
        endpoints.insert(addr, endpoint.clone());
        endpoint
    }

    /// Every endpoint of this port that is in force or still has a session, by address.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut endpoints = lock(&self.endpoints);
        // Only this map gives out what nothing else refers to, so what it holds alone is gone for good.
        endpoints.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        endpoints.values().cloned().collect()
    }

    /// Sessions that it has now, all shards together.
    pub fn active(&self) -> u64 {
        self.stats.iter().map(|shard| shard.active.get()).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
