//! From a datagram to its flow: the one it has, or a new one, within the limits.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::flow::{Flow, is_unreachable};
use super::front::Front;
use super::table::{Id, Key, Table, Timeouts};
use super::{Place, Udp};
use crate::clock;
use crate::net::udp;
use crate::ring::{Outgoing, RingFd, Senders};
use crate::route::endpoint::Endpoint;
use crate::route::pick::Targets;
use crate::route::port::Admission;
use crate::route::snapshot::Frontend;
use crate::shard::source;
use crate::types::{ClientAddr, DropReason, EndReason, EndpointAddr, Refusal};

/// How many pods one datagram may go to: it is lost when the second is not there either.
const ATTEMPTS: u8 = 2;

impl Udp {
    /// Sends a client's datagram to its pod, or counts it as dropped.
    pub(super) fn forward(
        self: &Rc<Self>,
        front: &Rc<Front>,
        frontend: &Frontend,
        key: &Key,
        outgoing: Outgoing,
    ) {
        let reason = if outgoing.tried >= ATTEMPTS {
            DropReason::Unreachable
        } else if let Some(flow) = self.flow(front, frontend, key) {
            self.table.borrow_mut().seen(flow.place.get(), false, clock::now());
            return self.send(&flow, outgoing);
        } else {
            DropReason::NoFlow
        };
        let stats = frontend.port.stats.of(self.shard.index);
        stats.bytes_lost.up.add(outgoing.payload.bytes().len() as u64);
        stats.dropped_up.of(reason).add(outgoing.payload.count());
    }

    /// The flow of a key: the one it has, or a new one; `None` where it gets none.
    fn flow(self: &Rc<Self>, front: &Rc<Front>, frontend: &Frontend, key: &Key) -> Option<Rc<Flow>> {
        let avoid = match self.table.borrow().find(key) {
            Some((_, Place::Flow(flow))) => return Some(flow.clone()),
            Some((_, Place::Refused(addr))) => Some(*addr),
            None => None,
        };
        let stats = frontend.port.stats.of(self.shard.index);
        stats.accepted.add(1);
        self.shard.stats().accepted.add(1);
        match self.begin(front, frontend, key, avoid) {
            Ok(flow) => Some(flow),
            Err(refusal) => {
                stats.refused.of(refusal).add(1);
                None
            }
        }
    }

    /// The endpoints for a client's flows.
    pub(super) fn targets<'a>(&self, frontend: &'a Frontend, client: ClientAddr, key: &Key) -> &'a Targets {
        frontend.targets_for(client, |ip| self.is_own(frontend, key, ip))
    }

    /// Whether an address is of this node: as the one that was sent to, or as one of an interface.
    fn is_own(&self, frontend: &Frontend, key: &Key, ip: IpAddr) -> bool {
        sent_to(frontend, key) == Some(ip) || source::is_own(&self.shard, ip)
    }

    /// Begins a flow.
    fn begin(
        self: &Rc<Self>,
        front: &Rc<Front>,
        frontend: &Frontend,
        key: &Key,
        avoid: Option<EndpointAddr>,
    ) -> Result<Rc<Flow>, Refusal> {
        if self.draining.get() {
            return Err(Refusal::Draining);
        }
        let client = ClientAddr((key.client.ip().to_canonical(), key.client.port()).into());
        if !frontend.admits(client, |ip| self.is_own(frontend, key, ip)) {
            return Err(Refusal::SourceRange);
        }
        self.make_room()?;
        let admission = self.admit(front, frontend, client)?;
        let targets = self.targets(frontend, client, key);
        let (endpoint, socket, attempts) = self.connect(frontend, targets, client, avoid)?;
        let datagrams =
            self.shard.ring.datagrams(&*socket, Senders::Peer).map_err(|_| Refusal::LocalError)?;
        let flow = Rc::new(Flow {
            udp: Rc::downgrade(self),
            key: *key,
            client,
            endpoint,
            port: frontend.port.clone(),
            socket,
            front: front.clone(),
            reply_to: Rc::new(key.client.into()),
            datagrams: RefCell::new(Some(datagrams)),
            place: Cell::new(0),
            waker: OnceCell::new(),
            started_micros: clock::now_micros(),
            attempts,
            up: Default::default(),
            down: Default::default(),
            admission: Cell::new(Some(admission)),
            overflows: Cell::new(0),
            answers: Cell::new(0),
        });
        let place = self.place(*key, Place::Flow(flow.clone()), frontend);
        flow.place.set(place);
        flow.waker.get_or_init(|| self.ready.waker(place));
        self.count(&flow);
        self.hear(&flow);
        Ok(flow)
    }

    /// Puts something in the table, with the timeouts of the Service.
    pub(super) fn place(&self, key: Key, place: Place, frontend: &Frontend) -> Id {
        let default = self.shard.options.udp;
        let timeouts = Timeouts {
            unanswered: frontend.port.udp_timeout.unwrap_or(default.unanswered),
            stream: frontend.port.udp_stream_timeout.unwrap_or(default.stream),
        };
        let mut table = self.table.borrow_mut();
        let id = table.insert(key, place, timeouts, clock::now());
        self.reaper.wake_before(table.next_expiry());
        id
    }

    /// Picks an endpoint and connects a socket to it. It need not be there: only an answer tells.
    fn connect(
        &self,
        frontend: &Frontend,
        targets: &Targets,
        client: ClientAddr,
        avoid: Option<EndpointAddr>,
    ) -> Result<(Arc<Endpoint>, RingFd, u32), Refusal> {
        let now = clock::now();
        let random = self.shard.random.borrow_mut().u64(..);
        let mut candidates = targets.candidates(client, now, random);
        let mut refusal = Refusal::NoEndpoints;
        let mut attempts = 0;
        while let Some(endpoint) = candidates.next_endpoint() {
            attempts += 1;
            if avoid == Some(endpoint.addr) && candidates.has_next() {
                continue;
            }
            let source = source::of(&self.shard, frontend, targets, client, endpoint.addr);
            match self.socket_towards(frontend, endpoint.addr, source) {
                Ok(socket) => {
                    candidates.chosen(&endpoint, now);
                    return Ok((endpoint, socket, attempts));
                }
                Err(error) if is_unreachable(&error) => {
                    refusal = Refusal::ConnectFailed;
                    self.blame(targets, &endpoint, &error);
                }
                Err(_) => return Err(Refusal::LocalError),
            }
        }
        Err(refusal)
    }

    /// A socket towards a pod, from the address of the client where one is given and this is possible. Where the
    /// machine has no more of something, the oldest flow gives its own.
    fn socket_towards(
        &self,
        frontend: &Frontend,
        addr: EndpointAddr,
        source: Option<SocketAddr>,
    ) -> io::Result<RingFd> {
        let stats = frontend.port.stats.of(self.shard.index);
        if let Some(client) = source {
            match udp::towards(addr.0, source) {
                Ok(socket) => {
                    stats.client_kept.add(1);
                    return Ok(RingFd::new(&self.shard.ring, socket));
                }
                Err(error) => {
                    stats.client_replaced.add(1);
                    tracing::debug!(%client, endpoint = %addr, %error, "the pod sees the address of this node");
                }
            }
        }
        let socket = udp::towards(addr.0, None);
        if let Err(error) = &socket
            && is_exhausted(error)
        {
            // Its socket is closed with the next turn of the ring: for whoever comes then.
            self.evict(Table::oldest);
        }
        Ok(RingFd::new(&self.shard.ring, socket?))
    }
}

// === limits ===

impl Udp {
    /// Sees to it that the shard may have one more flow.
    fn make_room(&self) -> Result<(), Refusal> {
        let (sessions, shards) = (self.shard.plane.max_connections(), self.shard.plane.shards() as u64);
        // Half of all sessions, so that a flood of datagrams from made-up addresses leaves TCP its part.
        let share = usize::try_from(sessions / 2 / shards.max(1)).unwrap_or(usize::MAX);
        let most = share.min(self.shard.options.udp_flows).clamp(1, Id::MAX as usize - 1);
        while self.table.borrow().len() >= most {
            if !self.evict(Table::oldest) {
                return Err(Refusal::MaxConnections);
            }
        }
        while self.shard.sessions() >= sessions {
            if !self.evict(Table::oldest) {
                self.shard.stats().limited.add(1);
                return Err(Refusal::MaxConnections);
            }
        }
        Ok(())
    }

    /// A place under the limits of the Service; where there is none, an older flow of the same frontend, or of the
    /// same client, gives its own.
    fn admit(&self, front: &Front, frontend: &Frontend, client: ClientAddr) -> Result<Admission, Refusal> {
        let refusal = match frontend.port.try_admit(client) {
            Ok(admission) => return Ok(admission),
            Err(refusal) => refusal,
        };
        let whose = (refusal == Refusal::ClientLimit).then_some(client.0.ip());
        if !self.evict(|table| table.oldest_of(front.number, whose)) {
            return Err(refusal);
        }
        frontend.port.try_admit(client)
    }

    /// Gives up a place. False when there is none.
    fn evict(&self, choose: impl FnOnce(&Table<Place>) -> Option<Id>) -> bool {
        let chosen = choose(&self.table.borrow());
        if let Some(id) = chosen {
            self.end(id, EndReason::Evicted);
        }
        chosen.is_some()
    }
}

/// The address that a client has sent to.
fn sent_to(frontend: &Frontend, key: &Key) -> Option<IpAddr> {
    key.local.map(|local| local.ip.to_canonical()).or(frontend.key.address)
}

/// Out of descriptors, memory or local ports.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EADDRNOTAVAIL)
    )
}
