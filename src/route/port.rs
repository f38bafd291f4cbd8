//! A service port: what all its frontends share, and what outlives snapshots.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use crate::metrics::counters::{PerShard, PortStats};
use crate::route::affinity::Ledger;
use crate::route::endpoint::Endpoint;
use crate::types::{ClientAddr, EndpointAddr, ProxyVersion, Refusal, ServicePortName};
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
    /// Overrides `--conntrack-udp-timeout`.
    pub udp_timeout: Option<Duration>,
    /// Overrides `--conntrack-udp-timeout-stream`.
    pub udp_stream_timeout: Option<Duration>,
    /// What it does with PROXY headers.
    pub proxy: ProxyRules,
    /// Its counters.
    pub stats: PortStats,
    /// What the next snapshot's route of this port shares.
    pub state: Arc<PortState>,
}

/// What a Service does with PROXY headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyRules {
    /// The header that its pods get.
    pub send: Option<ProxyVersion>,
    /// The peers that have to send one, and are believed; where it is empty nobody's first bytes are looked at.
    pub accept: Arc<[IpNet]>,
}

impl ProxyRules {
    /// Whether this peer has to send a header.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.accept.iter().any(|cidr| cidr.contains(&peer))
    }
}

/// The settings of a service port that come from its Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSettings {
    /// See [`PortRoute::max_connections`].
    pub max_connections: Option<u32>,
    /// See [`PortRoute::max_connections_per_client`].
    pub max_connections_per_client: Option<u32>,
    /// See [`PortRoute::idle_timeout`].
    pub idle_timeout: Option<Duration>,
    /// See [`PortRoute::udp_timeout`].
    pub udp_timeout: Option<Duration>,
    /// See [`PortRoute::udp_stream_timeout`].
    pub udp_stream_timeout: Option<Duration>,
    /// See [`PortRoute::proxy`].
    pub proxy: ProxyRules,
}

impl PortRoute {
    /// A route over this state.
    pub fn new(state: Arc<PortState>, settings: PortSettings) -> Self {
        Self {
            name: state.name.clone(),
            max_connections: settings.max_connections,
            max_connections_per_client: settings.max_connections_per_client,
            idle_timeout: settings.idle_timeout,
            udp_timeout: settings.udp_timeout,
            udp_stream_timeout: settings.udp_stream_timeout,
            proxy: settings.proxy,
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
            udp_timeout: self.udp_timeout,
            udp_stream_timeout: self.udp_stream_timeout,
            proxy: self.proxy.clone(),
        }
    }

    /// Asks for a place for one more session; the answer gives it back when it is dropped. Costs nothing
    /// where the Service sets no limit. Sessions from before a limit was set do not count towards it.
    ///
    /// # Errors
    /// [`Refusal::ServiceLimit`] or [`Refusal::ClientLimit`].
    pub fn try_admit(&self, client: ClientAddr) -> Result<Admission, Refusal> {
        let mut admission = self.try_enter()?;
        admission.settle(self, client)?;
        Ok(admission)
    }

    /// The first half of [`PortRoute::try_admit`], where it is not known yet whose session it will be.
    ///
    /// # Errors
    /// [`Refusal::ServiceLimit`]
    pub fn try_enter(&self) -> Result<Admission, Refusal> {
        if self.max_connections.is_none() && self.max_connections_per_client.is_none() {
            return Ok(Admission { seat: None });
        }
        let max = self.max_connections.unwrap_or(u32::MAX);
        let one_more = |n: u32| (n < max).then_some(n + 1);
        let taken = self.state.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map_err(|_| Refusal::ServiceLimit)?;
        Ok(Admission { seat: Some(Seat { state: self.state.clone(), client: None }) })
    }
}

/// A session's place under the limits of its Service, given back on drop.
#[derive(Debug)]
pub struct Admission {
    seat: Option<Seat>,
}

impl Admission {
    /// The second half of [`PortRoute::try_admit`].
    ///
    /// # Errors
    /// [`Refusal::ClientLimit`]
    pub fn settle(&mut self, port: &PortRoute, client: ClientAddr) -> Result<(), Refusal> {
        let (Some(seat), Some(max)) = (&mut self.seat, port.max_connections_per_client) else {
            return Ok(());
        };
        let client = client.0.ip().to_canonical();
        let mut clients = lock(&seat.state.clients);
        let sessions = clients.entry(client).or_insert(0);
        if *sessions >= max {
            // Zero is possible for a new entry under a limit of zero.
            if *sessions == 0 {
                clients.remove(&client);
            }
            return Err(Refusal::ClientLimit);
        }
        *sessions += 1;
        drop(clients);
        seat.client = Some(client);
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::types::{NamespacedName, Protocol};

    fn route(settings: PortSettings) -> PortRoute {
        let name = ServicePortName {
            service: NamespacedName::new("default", "web"),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        PortRoute::new(Arc::new(PortState::new(name, 2)), settings)
    }

    fn client(address: &str) -> ClientAddr {
        ClientAddr(SocketAddr::new(address.parse().unwrap(), 1))
    }

    fn addr(i: u8) -> EndpointAddr {
        EndpointAddr(SocketAddr::from(([10, 0, 0, i], 80)))
    }

    #[test]
    fn without_limits_admission_costs_nothing() {
        let route = route(PortSettings::default());
        assert!(route.try_admit(client("10.0.0.1")).unwrap().seat.is_none());
        assert_eq!(Arc::strong_count(&route.state), 1);
    }

    #[test]
    fn a_services_limit_counts_all_clients_and_places_come_back() {
        let route = route(PortSettings { max_connections: Some(2), ..PortSettings::default() });
        let first = route.try_admit(client("10.0.0.1")).unwrap();
        let _second = route.try_admit(client("10.0.0.2")).unwrap();
        assert_eq!(route.try_admit(client("10.0.0.3")).unwrap_err(), Refusal::ServiceLimit);
        drop(first);
        let _third = route.try_admit(client("10.0.0.3")).unwrap();
        assert_eq!(route.try_admit(client("10.0.0.3")).unwrap_err(), Refusal::ServiceLimit);
    }

    #[test]
    fn a_clients_limit_is_its_own_and_a_refusal_takes_no_place() {
        let settings = PortSettings {
            max_connections: Some(2),
            max_connections_per_client: Some(1),
            ..PortSettings::default()
        };
        let route = route(settings);
        let first = route.try_admit(client("10.0.0.1")).unwrap();
        for again in ["10.0.0.1", "::ffff:10.0.0.1"] {
            assert_eq!(route.try_admit(client(again)).unwrap_err(), Refusal::ClientLimit);
        }
        let _second = route.try_admit(client("10.0.0.2")).unwrap();
        drop(first);
        let _again = route.try_admit(client("10.0.0.1")).unwrap();
        drop(_again);
        assert_eq!(lock(&route.state.clients).len(), 1, "nothing is kept for clients without a session");
    }

    #[test]
    fn a_limit_of_zero_admits_nobody() {
        let of_service = route(PortSettings { max_connections: Some(0), ..PortSettings::default() });
        assert_eq!(of_service.try_admit(client("10.0.0.1")).unwrap_err(), Refusal::ServiceLimit);
        let of_client =
            route(PortSettings { max_connections_per_client: Some(0), ..PortSettings::default() });
        assert_eq!(of_client.try_admit(client("10.0.0.1")).unwrap_err(), Refusal::ClientLimit);
        assert!(lock(&of_client.state.clients).is_empty());
        assert_eq!(of_client.state.sessions.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn r3_the_same_address_and_pod_is_the_same_endpoint_while_anything_refers_to_it() {
        let state = route(PortSettings::default()).state;
        let pod = Arc::from("web-0");
        let first = state.endpoint(addr(1), Some(&pod));
        assert!(Arc::ptr_eq(&first, &state.endpoint(addr(1), Some(&pod))));
        let replaced = state.endpoint(addr(1), Some(&Arc::from("web-1")));
        assert!(!Arc::ptr_eq(&first, &replaced), "another pod starts healthy");
        assert!(Arc::ptr_eq(&first.stats, &replaced.stats), "and counts on");
    }

    #[test]
    fn r6_an_endpoint_that_left_is_listed_until_its_last_session_is_over() {
        let state = route(PortSettings::default()).state;
        let (stays, leaves) = (state.endpoint(addr(1), None), state.endpoint(addr(2), None));
        let session = leaves.clone();
        drop(leaves);
        assert_eq!(state.endpoints().len(), 2);
        drop(session);
        let left: Vec<_> = state.endpoints().iter().map(|e| e.addr).collect();
        assert_eq!(left, [stays.addr]);
    }
}
