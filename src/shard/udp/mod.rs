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
//! Nothing waits here for a socket: what it does not take with the next turn of the ring is dropped, as a router would.

mod answers;
mod begin;
mod end;
mod ending;
mod flow;
mod front;
mod table;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::run::Shard;
use crate::clock::Millis;
use crate::net::udp;
use crate::ring::{RingFd, Senders};
use crate::route::snapshot::{Frontend, FrontendKey, RoutingSnapshot};
use crate::types::{EndReason, EndpointAddr, Protocol};
use answers::Ready;
use end::{Reaper, reap};
use flow::Flow;
use front::Front;
pub use table::Timeouts;
use table::{Id, Table};

/// How soon a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A shard's UDP.
pub(super) struct Udp {
    pub(super) shard: Rc<Shard>,
    table: RefCell<Table<Place>>,
    fronts: RefCell<BTreeMap<FrontendKey, Rc<Front>>>,
    last_number: Cell<u32>,
    failed: Cell<usize>,
    draining: Cell<bool>,
    stopped: Cell<bool>,
    reaper: Reaper,
    ready: Arc<Ready>,
}

/// What stands in the table.
enum Place {
    Flow(Rc<Flow>),
    /// This pod has refused the flow: its next datagram goes to another.
    Refused(EndpointAddr),
}

// === what the snapshot says ===

impl Udp {
    /// Without frontends; the ring must be driven.
    pub(super) fn new(shard: &Rc<Shard>) -> Rc<Self> {
        let udp = Rc::new(Self {
            shard: shard.clone(),
            table: RefCell::default(),
            fronts: RefCell::default(),
            last_number: Cell::new(0),
            failed: Cell::new(0),
            draining: Cell::new(false),
            stopped: Cell::new(false),
            reaper: Reaper::default(),
            ready: Arc::default(),
        });
        glommio::spawn_local(answers::hear(udp.clone())).detach();
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
            let wanted = key.protocol == Protocol::Udp && frontend.has_endpoints();
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
        let socket = RingFd::new(ring, udp::frontend(frontend.key.address, frontend.key.port)?);
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
        if !self.draining.get() && frontend.has_endpoints() {
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
