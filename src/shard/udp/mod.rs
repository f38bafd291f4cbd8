//! UDP: flows between clients and pods.
//!
//! ```text
//!   client ──► front: one SO_REUSEPORT socket ──► table: (client, frontend, address) ──► flow: a socket that is
//!      ▲                                                                                connected to a pod
//!      └────────── from the address the client had sent to ◄──────────────────────────────────┘
//! ```
//!
//! Invariants, named where they are kept; those of the table are F1 to F4 there:
//! - **U1** A flow stays with its endpoint while that is serving, terminating or not (semantics §3c). When it stops,
//!   the flow ends with the snapshot that says so, and the client's next datagram begins a new one.
//! - **U2** An ICMP error from the pod ends the flow; the client's next datagram goes elsewhere if it can.
//! - **U3** A frontend without a usable endpoint and without flows has no socket: the kernel answers ICMP port
//!   unreachable. Until all shards are without flows none of them closes its own: the kernel would spread the
//!   clients anew over those that are left.
//! - **U4** Every flow ends with exactly one reason, counted and, if asked for, logged.
//! - **U5** A datagram is delivered whole or not at all, and one that is not is counted.
//!
//! Nothing is queued here: what a socket does not take at once is dropped, as a router would.

mod ending;
mod flow;
mod front;
mod table;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::run::Shard;
use crate::clock::{self, Millis};
use crate::limits;
use crate::net::udp;
use crate::ring::{Datagram, RingFd, Senders};
use crate::route::endpoint::Endpoint;
use crate::route::port::Admission;
use crate::route::snapshot::{Frontend, FrontendKey, RoutingSnapshot};
use crate::types::{
    ClientAddr, ConnectFailure, Direction, DropReason, EndReason, EndpointAddr, Protocol, Refusal,
};
use flow::{Flow, drop_of, is_unreachable};
use front::Front;
pub use table::Timeouts;
use table::{Id, Key, Table};

/// How soon a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often it is looked whether a socket that can only refuse may close.
const CLOSE_LOOK: Duration = Duration::from_millis(50);

/// A shard's UDP.
pub(super) struct Udp {
    pub(super) shard: Rc<Shard>,
    table: RefCell<Table<Place>>,
    fronts: RefCell<BTreeMap<FrontendKey, Rc<Front>>>,
    /// Flows at a time, those that are remembered for their refusal included.
    most: usize,
    last_number: Cell<u32>,
    failed: Cell<usize>,
    draining: Cell<bool>,
    stopped: Cell<bool>,
    reaper: Reaper,
}

/// What stands in the table.
enum Place {
    Flow(Rc<Flow>),
    /// This pod has refused the flow: its next datagram goes to another.
    Refused(EndpointAddr),
}

/// How the task that ends silent flows sleeps.
#[derive(Default)]
struct Reaper {
    until: Cell<Option<Millis>>,
    waker: Cell<Option<Waker>>,
}

// === what the snapshot says ===

impl Udp {
    /// Without frontends; the ring must be driven.
    pub(super) fn new(shard: &Rc<Shard>) -> Rc<Self> {
        let udp = Rc::new(Self {
            shard: shard.clone(),
            table: RefCell::default(),
            fronts: RefCell::default(),
            most: shard.options.udp_flows.clamp(1, Id::MAX as usize - 1),
            last_number: Cell::new(0),
            failed: Cell::new(0),
            draining: Cell::new(false),
            stopped: Cell::new(false),
            reaper: Reaper::default(),
        });
        glommio::spawn_local(reap(udp.clone())).detach();
        shard.ring.touch();
        udp
    }

    /// Opens and closes sockets and ends flows until they are what the snapshot says.
    pub(super) fn apply(self: &Rc<Self>, snapshot: &RoutingSnapshot) {
        for front in self.open_fronts() {
            match snapshot.frontends().get(&front.key) {
                None => self.shut(&front, EndReason::ServiceGone),
                Some(frontend) => self.update(&front, frontend),
            }
        }
        let first_udp = FrontendKey { protocol: Protocol::Udp, address: None, port: 0 };
        let mut failures = Vec::new();
        for (key, frontend) in snapshot.frontends().range(first_udp..) {
            let wanted = key.protocol == Protocol::Udp && !frontend.targets.endpoints.is_empty();
            if wanted
                && !self.fronts.borrow().contains_key(key)
                && let Err(error) = self.open_front(frontend)
            {
                failures.push((key, error));
            }
        }
        self.failed.set(failures.len());
        // One for all: there may be thousands, every second.
        if let Some(((key, error), others)) = failures.split_first().map(|(first, rest)| (first, rest.len()))
        {
            tracing::warn!(shard = self.shard.index, %key, others, %error, "cannot open a socket; trying again");
        }
        self.tell_sockets();
    }

    /// When to apply again although nothing has changed.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        (self.failed.get() > 0).then_some(RETRY)
    }

    fn open_front(self: &Rc<Self>, frontend: &Arc<Frontend>) -> io::Result<()> {
        let ring = &self.shard.ring;
        let socket = RingFd::new(ring, udp::frontend(frontend.key.socket_addr())?);
        let datagrams = ring.datagrams(&*socket, Senders::Anyone)?;
        self.last_number.set(self.last_number.get().wrapping_add(1));
        let front = Rc::new(Front::new(self.last_number.get(), frontend.clone(), socket));
        glommio::spawn_local(front::hear(self.clone(), front.clone(), datagrams)).detach();
        ring.touch();
        self.fronts.borrow_mut().insert(frontend.key, front);
        Ok(())
    }

    /// Puts another form of a frontend in force (U1).
    fn update(&self, front: &Rc<Front>, frontend: &Arc<Frontend>) {
        let old = front.replace(frontend.clone());
        let other_service = !Arc::ptr_eq(&old.port.state, &frontend.port.state);
        if other_service || !Arc::ptr_eq(&old.serving, &frontend.serving) {
            let gone = |addr: &EndpointAddr| other_service || frontend.serving.binary_search(addr).is_err();
            let reason = if other_service { EndReason::ServiceGone } else { EndReason::EndpointGone };
            self.end_of_front(front.number, reason, gone);
        }
        if self.shut_if_idle(front) {
            self.reaper.wake_before(Some(Millis(0)));
        }
    }

    /// Ends the flows of a frontend whose endpoint is `gone`.
    fn end_of_front(&self, number: u32, reason: EndReason, gone: impl Fn(&EndpointAddr) -> bool) {
        let table = self.table.borrow();
        let over = table.of_front(number).filter(|id| match table.get(*id) {
            Some(Place::Flow(flow)) => gone(&flow.endpoint.addr),
            Some(Place::Refused(addr)) => gone(addr),
            None => false,
        });
        let over: Vec<Id> = over.collect();
        drop(table);
        over.into_iter().for_each(|id| self.end(id, reason));
    }

    /// Closes the socket of a frontend that could only refuse (U3). True when it can, but has to wait for flows.
    fn shut_if_idle(&self, front: &Rc<Front>) -> bool {
        let frontend = front.frontend();
        if !self.draining.get() && !frontend.targets.endpoints.is_empty() {
            return false;
        }
        let flows = frontend.port.state.active() > 0;
        if !flows {
            self.shut(front, EndReason::ServiceGone);
        }
        flows
    }

    /// Closes a frontend with all its flows.
    fn shut(&self, front: &Rc<Front>, reason: EndReason) {
        self.end_of_front(front.number, reason, |_| true);
        front.ending.set();
        self.fronts.borrow_mut().remove(&front.key);
        self.tell_sockets();
    }

    fn tell_sockets(&self) {
        let stats = self.shard.stats();
        stats.udp_sockets.set(self.fronts.borrow().len() as u64);
        stats.udp_sockets_failed.set(self.failed.get() as u64);
    }
}

// === from a datagram to a flow ===

impl Udp {
    /// Sends a client's datagram to its pod. When that turns out to be gone, to another one.
    fn forward(
        self: &Rc<Self>,
        front: &Rc<Front>,
        frontend: &Frontend,
        key: &Key,
        datagram: &Datagram,
    ) -> Result<(), DropReason> {
        let mut reason = DropReason::Unreachable;
        for _ in 0..ATTEMPTS {
            let flow = self.flow(front, frontend, key).ok_or(DropReason::NoFlow)?;
            match udp::send(&flow.socket, &udp::Route::default(), datagram.bytes(), datagram.segment) {
                Ok(()) => {
                    self.table.borrow_mut().seen(flow.place.get(), false, clock::now());
                    self.moved(&flow, Direction::Up, datagram);
                    return Ok(());
                }
                // What ICMP had said about an earlier datagram. Nothing was sent, so this one may go elsewhere.
                Err(error) if is_unreachable(&error) => self.broken(&flow, &error),
                Err(error) => {
                    flow.lost(datagram);
                    reason = drop_of(&error);
                    break;
                }
            }
        }
        Err(reason)
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
        self.make_room()?;
        let admission = self.admit(front, frontend, client)?;
        let (endpoint, socket, attempts) = self.connect(frontend, client, avoid)?;
        let ring = &self.shard.ring;
        let datagrams = ring.datagrams(&*socket, Senders::Peer).map_err(|_| Refusal::LocalError)?;
        let flow = Rc::new(Flow {
            key: *key,
            client,
            endpoint,
            port: frontend.port.clone(),
            socket,
            front: front.clone(),
            ending: Default::default(),
            place: Cell::new(0),
            started_micros: clock::now_micros(),
            attempts,
            up: Default::default(),
            down: Default::default(),
            admission: Cell::new(Some(admission)),
            overflows: Cell::new(0),
        });
        flow.place.set(self.place(*key, Place::Flow(flow.clone()), frontend));
        self.count(&flow);
        glommio::spawn_local(flow::answers(self.clone(), flow.clone(), datagrams)).detach();
        ring.touch();
        Ok(flow)
    }

    /// Puts something in the table, with the timeouts of the Service.
    fn place(&self, key: Key, place: Place, frontend: &Frontend) -> Id {
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
        client: ClientAddr,
        avoid: Option<EndpointAddr>,
    ) -> Result<(Arc<Endpoint>, RingFd, u32), Refusal> {
        let now = clock::now();
        let random = self.shard.random.borrow_mut().u64(..);
        let mut candidates = frontend.targets.candidates(client, now, random);
        let mut refusal = Refusal::NoEndpoints;
        let mut attempts = 0;
        while let Some(endpoint) = candidates.next_endpoint() {
            attempts += 1;
            if avoid == Some(endpoint.addr) && candidates.has_next() {
                continue;
            }
            match self.socket_towards(endpoint.addr) {
                Ok(socket) => {
                    candidates.chosen(&endpoint, now);
                    return Ok((endpoint, socket, attempts));
                }
                Err(error) if is_unreachable(&error) => {
                    refusal = Refusal::ConnectFailed;
                    self.blame(frontend, &endpoint, &error);
                }
                Err(_) => return Err(Refusal::LocalError),
            }
        }
        Err(refusal)
    }

    /// A socket towards a pod. Where the machine has no more of something, the oldest flow gives its own.
    fn socket_towards(&self, addr: EndpointAddr) -> io::Result<RingFd> {
        let socket = udp::towards(addr.0);
        if let Err(error) = &socket
            && is_exhausted(error)
        {
            // Its socket is closed when its task ends, in a moment: for whoever comes then.
            self.evict(Table::oldest);
        }
        Ok(RingFd::new(&self.shard.ring, socket?))
    }
}

/// How many pods one datagram may go to: it is lost when the second is not there either.
const ATTEMPTS: usize = 2;

/// Out of descriptors, memory or local ports.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EADDRNOTAVAIL)
    )
}

// === limits ===

impl Udp {
    /// Sees to it that the shard may have one more flow.
    fn make_room(&self) -> Result<(), Refusal> {
        while self.table.borrow().len() >= self.most {
            if !self.evict(Table::oldest) {
                return Err(Refusal::MaxConnections);
            }
        }
        while self.shard.sessions() >= self.shard.options.max_connections {
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

// === ends ===

impl Udp {
    /// Ends the flow in a place (U4).
    fn end(&self, id: Id, reason: EndReason) {
        let place = self.table.borrow_mut().remove(id);
        if let Some(Place::Flow(flow)) = place {
            self.close(&flow, reason);
        }
    }

    /// The pod cannot be reached: ends the flow, and remembers whom it has to avoid (U2).
    fn broken(&self, flow: &Flow, error: &io::Error) {
        if flow.ending.is_over() {
            return;
        }
        let refused = error.raw_os_error() == Some(libc::ECONNREFUSED);
        let reason = match is_unreachable(error) {
            true if refused => EndReason::EndpointReset,
            true => EndReason::EndpointTimeout,
            false => EndReason::LocalError,
        };
        self.end(flow.place.get(), reason);
        if reason != EndReason::LocalError {
            let frontend = flow.front.frontend();
            self.blame(&frontend, &flow.endpoint, error);
            self.place(flow.key, Place::Refused(flow.endpoint.addr), &frontend);
        }
    }

    /// Counts a failure of an endpoint; enough of them in a row eject it.
    fn blame(&self, frontend: &Frontend, endpoint: &Arc<Endpoint>, error: &io::Error) {
        let stats = endpoint.stats.of(self.shard.index);
        let failure = match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => ConnectFailure::Refused,
            _ => ConnectFailure::Unreachable,
        };
        stats.failed.of(failure).add(1);
        if frontend.targets.failed(endpoint, clock::now()) {
            stats.ejected.add(1);
            tracing::info!(endpoint = %endpoint.addr, port = %frontend.port.name, "ejected for a while");
        }
    }

    /// No new flows from now on. Those that are there go on until they are silent; a socket without any is closed.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        self.shut_idle_fronts();
        self.reaper.wake_before(Some(Millis(0)));
    }

    /// Whether a draining shard still has a socket: other shards may have flows of it.
    pub(super) fn is_open(&self) -> bool {
        !self.fronts.borrow().is_empty()
    }

    /// Cuts all flows and closes all sockets.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
        self.open_fronts().iter().for_each(|front| self.shut(front, EndReason::Drained));
        self.reaper.wake_before(Some(Millis(0)));
    }

    /// Closes what can only refuse and has no flows. True when something has to be looked at again.
    fn shut_idle_fronts(&self) -> bool {
        self.open_fronts().iter().filter(|front| self.shut_if_idle(front)).count() > 0
    }

    fn open_fronts(&self) -> Vec<Rc<Front>> {
        self.fronts.borrow().values().cloned().collect()
    }

    /// Ends the flows that are silent for too long. Says when to look again.
    fn reap(&self, now: Millis) -> Option<Millis> {
        loop {
            let expired = self.table.borrow().expired(now);
            let Some(id) = expired else { break };
            self.end(id, EndReason::Idle);
        }
        if self.draining.get() {
            let silent = self.table.borrow().silent(limits::UDP_DRAIN_SILENCE, now);
            silent.into_iter().for_each(|id| self.end(id, EndReason::Idle));
        }
        let look_again = self.shut_idle_fronts();
        let next = self.table.borrow().next_expiry();
        if look_again { Some(now.after(CLOSE_LOOK)) } else { next }
    }
}

/// Ends silent flows until the shard stops. It sleeps while there are none.
async fn reap(udp: Rc<Udp>) {
    while !udp.stopped.get() {
        let until = udp.reap(clock::now());
        udp.reaper.sleep(&udp.shard, until).await;
    }
}

impl Reaper {
    /// Sleeps until a moment, or until it is woken.
    async fn sleep(&self, shard: &Shard, until: Option<Millis>) {
        self.until.set(Some(until.unwrap_or(Millis(u64::MAX))));
        let mut sleep = pin!(until.map(|until| shard.ring.sleep_until(until)));
        std::future::poll_fn(|context| {
            if self.until.get().is_none() {
                return Poll::Ready(());
            }
            self.waker.set(Some(context.waker().clone()));
            match sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.poll(context),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Something may have to be done before it wakes by itself.
    fn wake_before(&self, due: Option<Millis>) {
        if let (Some(due), Some(until)) = (due, self.until.get())
            && due < until
        {
            self.until.set(None);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}
