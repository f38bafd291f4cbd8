//! One flow: a client, a frontend, and a socket that is connected to a pod.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use socket2::SockAddr;

use super::Udp;
use super::front::Front;
use super::table::{Id, Key};
use crate::clock;
use crate::limits;
use crate::metrics::counters::PortCounters;
use crate::net::udp::{self, Route};
use crate::ring::{Arrived, Datagram, Datagrams, Outgoing, RingFd, Sender};
use crate::route::endpoint::Endpoint;
use crate::route::plane::{Outcome, SessionRecord};
use crate::route::port::{Admission, PortRoute};
use crate::types::{ClientAddr, Direction, DropReason, EndReason};

/// See the module. It is over when its place in the table is: then nobody listens to the pod, and the socket is closed.
pub(super) struct Flow {
    pub(super) udp: Weak<Udp>,
    pub(super) key: Key,
    pub(super) client: ClientAddr,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) port: Arc<PortRoute>,
    pub(super) socket: RingFd,
    pub(super) front: Rc<Front>,
    /// The client, as answers are addressed.
    pub(super) reply_to: Rc<SockAddr>,
    /// What the pod sends; `None` once the flow is over.
    pub(super) datagrams: RefCell<Option<Datagrams>>,
    /// Its place in the table, while it is not over.
    pub(super) place: Cell<Id>,
    /// Wakes the task that hears it, see [`super::answers`].
    pub(super) waker: OnceCell<Waker>,
    pub(super) started_micros: u64,
    pub(super) attempts: u32,
    pub(super) up: Moved,
    pub(super) down: Moved,
    /// Its place under the limits of its Service.
    pub(super) admission: Cell<Option<Admission>>,
    pub(super) overflows: Cell<u32>,
    /// Datagrams from the pod.
    pub(super) answers: Cell<u64>,
}

/// What went one way.
#[derive(Default)]
pub(super) struct Moved {
    /// Datagrams that came together do not fit this way together: all leave at once, one by one, so that none overtakes.
    apart: Cell<bool>,
    datagrams: Cell<u64>,
    bytes: Cell<u64>,
    lost: Cell<u64>,
}

impl Udp {
    /// The pod has sent a datagram.
    pub(super) fn answered(self: &Rc<Self>, flow: &Rc<Flow>, Datagram { payload, truncated, .. }: Datagram) {
        self.table.borrow_mut().seen(flow.place.get(), true, clock::now());
        flow.endpoint.answered();
        let stats = flow.port.stats.of(self.shard.index);
        if truncated {
            return stats.dropped_down.of(DropReason::Truncated).add(payload.count());
        }
        let before = flow.answers.get();
        let after = before + payload.count();
        flow.answers.set(after);
        if becomes_busy(before, after) {
            udp::widen(&flow.socket);
        }
        if before / limits::UDP_OVERFLOW_LOOK != after / limits::UDP_OVERFLOW_LOOK {
            flow.look_for_overflows(stats);
        }
        self.send(flow, Outgoing { payload, direction: Direction::Down, tried: 0 });
    }

    /// Sends a datagram of a flow, with the next turn of the ring.
    pub(super) fn send(self: &Rc<Self>, flow: &Rc<Flow>, outgoing: Outgoing) {
        let (socket, route) = flow.way(outgoing.direction);
        if flow.moved(outgoing.direction).apart.get() {
            let segment = outgoing.payload.segment;
            self.told(flow, outgoing, |datagram| udp::send(socket, &route, datagram, segment));
        } else {
            self.shard.ring.send(socket, &route, flow.clone(), outgoing);
        }
    }

    /// A datagram was sent, or is now, or was not.
    fn told(
        self: &Rc<Self>,
        flow: &Rc<Flow>,
        outgoing: Outgoing,
        send: impl FnOnce(&[u8]) -> io::Result<()>,
    ) {
        match send(outgoing.payload.bytes()) {
            Ok(()) => self.moved(flow, &outgoing),
            Err(error) => self.not_moved(flow, outgoing, &error),
        }
    }

    /// Counts datagrams that were delivered.
    fn moved(&self, flow: &Flow, outgoing: &Outgoing) {
        let (count, bytes) = (outgoing.payload.count(), outgoing.payload.bytes().len() as u64);
        let direction = outgoing.direction;
        let moved = flow.moved(direction);
        let before = moved.datagrams.replace(moved.datagrams.get() + count);
        if becomes_busy(before, before + count) && !flow.is_over() {
            flow.way(direction).0.register();
        }
        moved.bytes.set(moved.bytes.get() + bytes);
        let stats = flow.port.stats.of(self.shard.index);
        stats.datagrams.of(direction).add(count);
        stats.bytes.of(direction).add(bytes);
        flow.endpoint.stats.of(self.shard.index).bytes.of(direction).add(bytes);
    }

    /// A datagram could not be sent. One that the pod's absence has kept here may go to another pod.
    fn not_moved(self: &Rc<Self>, flow: &Rc<Flow>, outgoing: Outgoing, error: &io::Error) {
        let bytes = outgoing.payload.bytes().len() as u64;
        let frontend = flow.front.frontend();
        let again = outgoing.direction == Direction::Up && !flow.front.ending.is_over();
        if again && is_unreachable(error) {
            // What ICMP had said about an earlier datagram: this one was not sent, or not all of it.
            self.broken(flow, error);
            let again = Outgoing { tried: outgoing.tried + 1, ..outgoing };
            return self.forward(&flow.front, &frontend, &flow.key, again);
        }
        let reason = drop_of(error);
        if outgoing.direction == Direction::Up && reason != DropReason::SendBuffer {
            udp::forget_errors(&flow.socket);
        }
        let lost = &flow.moved(outgoing.direction).lost;
        lost.set(lost.get() + bytes);
        let stats = flow.port.stats.of(self.shard.index);
        stats.bytes_lost.of(outgoing.direction).add(bytes);
        stats.dropped(outgoing.direction).of(reason).add(outgoing.payload.count());
    }

    /// Takes a flow that is over out of all accounts. Its place in the table must be given up already.
    pub(super) fn close(&self, flow: &Flow, reason: EndReason) {
        if flow.datagrams.take().is_none() {
            return;
        }
        drop(flow.admission.take());
        let shard = &self.shard;
        let stats = flow.port.stats.of(shard.index);
        flow.look_for_overflows(stats);
        let lasted = clock::now_micros().saturating_sub(flow.started_micros);
        stats.ended.of(reason).add(1);
        stats.active.sub(1);
        stats.times.ended(lasted);
        flow.endpoint.stats.of(shard.index).active.sub(1);
        shard.stats().active.sub(1);
        shard.stats().udp_flows.sub(1);
        if !shard.plane.wants_sessions() {
            return;
        }
        let record = SessionRecord {
            service: flow.port.name.clone(),
            client: flow.client,
            frontend: flow.frontend(),
            endpoint: Some(flow.endpoint.addr),
            pod: flow.endpoint.pod.clone(),
            outcome: Outcome::Ended(reason),
            attempts: flow.attempts,
            connect_micros: 0,
            session_micros: lasted,
            bytes_up: flow.up.bytes.get(),
            bytes_down: flow.down.bytes.get(),
            bytes_lost: flow.up.lost.get() + flow.down.lost.get(),
            datagrams: Some((flow.up.datagrams.get(), flow.down.datagrams.get())),
            shard: shard.index,
        };
        if !shard.plane.session(record) {
            shard.stats().access_log_dropped.add(1);
        }
    }

    /// Counts a new flow in all accounts.
    pub(super) fn count(&self, flow: &Flow) {
        let shard = &self.shard;
        let stats: &PortCounters = flow.port.stats.of(shard.index);
        stats.active.add(1);
        if flow.attempts > 1 {
            stats.retried.add(1);
        }
        shard.stats().active.add(1);
        shard.stats().udp_flows.add(1);
        let endpoint = flow.endpoint.stats.of(shard.index);
        endpoint.connected.add(1);
        endpoint.active.add(1);
    }
}

impl Sender for Flow {
    fn sent(&self, sent: &Outgoing) {
        if let Some(udp) = self.udp.upgrade() {
            udp.moved(self, sent);
        }
    }

    fn failed(self: Rc<Self>, failed: Outgoing, error: io::Error) {
        let Some(udp) = self.udp.upgrade() else { return };
        let (socket, route) = self.way(failed.direction);
        let too_much = udp::is_too_much(&error);
        if too_much {
            // ICMP may have said so of an earlier one; then this one was not sent, and may go now.
            udp::forget_errors(socket);
        }
        let segment = failed.payload.segment.filter(|_| too_much);
        if segment.is_some() {
            self.moved(failed.direction).apart.set(true);
        }
        udp.told(&self, failed, |datagrams| match segment {
            Some(size) => udp::send_apart(socket, &route, datagrams, size),
            None if too_much => udp::send(socket, &route, datagrams, None),
            None => Err(error),
        });
    }
}

impl Flow {
    /// Counts the answers that the kernel had to drop since this was last done.
    fn look_for_overflows(&self, stats: &PortCounters) {
        if let Ok(total) = udp::overflows(&self.socket) {
            let new = total.wrapping_sub(self.overflows.replace(total));
            stats.dropped_down.of(DropReason::ReceiveBuffer).add(u64::from(new));
        }
    }

    fn moved(&self, direction: Direction) -> &Moved {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// What the pod has sent; `None` once the flow is over.
    pub(super) fn poll_next(&self) -> Option<Poll<Arrived>> {
        let context = Context::from_waker(self.waker.get()?);
        Some(self.datagrams.borrow_mut().as_mut()?.poll_next(&context))
    }

    /// Whether it is.
    pub(super) fn is_over(&self) -> bool {
        self.datagrams.borrow().is_none()
    }

    /// To the pod; or to the client, from the address that it has sent to.
    fn way(&self, direction: Direction) -> (&RingFd, Route<'_>) {
        let from = self.key.local.map(|local| (local.ip, local.interface));
        match direction {
            Direction::Up => (&self.socket, Route::default()),
            Direction::Down => (&self.front.socket, Route { to: Some(&self.reply_to), from }),
        }
    }

    /// The address and port that the client has sent to.
    fn frontend(&self) -> SocketAddr {
        let ip = self.key.local.map_or_else(|| self.front.key.socket_addr().ip(), |local| local.ip);
        SocketAddr::new(ip.to_canonical(), self.front.key.port)
    }
}

/// Whether a flow is from now on worth what makes each of its datagrams cheaper.
fn becomes_busy(before: u64, after: u64) -> bool {
    before < limits::UDP_BUSY_FLOW && after >= limits::UDP_BUSY_FLOW
}

/// Why a datagram could not be sent.
pub(super) fn drop_of(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::SendBuffer,
        Some(libc::EMSGSIZE) => DropReason::TooLarge,
        _ if is_unreachable(error) => DropReason::Unreachable,
        _ => DropReason::LocalError,
    }
}

/// Whether an error is about the way to the peer: mostly what ICMP has brought, or a rule of this node's own (EPERM,
/// EACCES).
pub(super) fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::ENONET
                | libc::EPERM
                | libc::EACCES
        )
    )
}
