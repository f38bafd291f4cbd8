//! One flow: a client, a frontend, and a socket that is connected to a pod.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::Udp;
use super::ending::Ending;
use super::front::{Front, next, overflown};
use super::table::{Id, Key};
use crate::clock;
use crate::limits;
use crate::metrics::counters::PortCounters;
use crate::net::udp::{self, Route};
use crate::ring::{Arrived, Datagram, Datagrams, RingFd};
use crate::route::endpoint::Endpoint;
use crate::route::plane::{Outcome, SessionRecord};
use crate::route::port::{Admission, PortRoute};
use crate::types::{ClientAddr, Direction, DropReason, EndReason};

/// See the module. It is over when its place in the table is: then its task ends, and the socket is closed.
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) client: ClientAddr,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) port: Arc<PortRoute>,
    pub(super) socket: RingFd,
    pub(super) front: Rc<Front>,
    pub(super) ending: Ending,
    /// Its place in the table, while it is not over.
    pub(super) place: Cell<Id>,
    pub(super) started_micros: u64,
    pub(super) attempts: u32,
    pub(super) up: Moved,
    pub(super) down: Moved,
    /// Its place under the limits of its Service.
    pub(super) admission: Cell<Option<Admission>>,
    pub(super) overflows: Cell<u32>,
}

/// What went one way.
#[derive(Default)]
pub(super) struct Moved {
    datagrams: Cell<u64>,
    bytes: Cell<u64>,
    lost: Cell<u64>,
}

/// Passes on what the pod answers until the flow is over.
pub(super) async fn answers(udp: Rc<Udp>, flow: Rc<Flow>, mut datagrams: Datagrams) {
    while let Some(arrived) = next(&flow.ending, &mut datagrams).await {
        match arrived {
            Arrived::Datagram(datagram) => udp.answered(&flow, &datagram),
            Arrived::Failed(error) => udp.broken(&flow, &error),
        }
    }
}

impl Udp {
    /// The pod has sent a datagram.
    fn answered(&self, flow: &Flow, datagram: &Datagram) {
        self.table.borrow_mut().seen(flow.place.get(), true, clock::now());
        flow.endpoint.answered();
        let stats = flow.port.stats.of(self.shard.index);
        overflown(&flow.overflows, datagram, stats, Direction::Down);
        if datagram.truncated {
            return stats.dropped_down.of(DropReason::Truncated).add(datagram.count());
        }
        let before = flow.down.datagrams.get();
        match udp::send(&flow.front.socket, &flow.way_back(), datagram.bytes(), datagram.segment) {
            Ok(()) => self.moved(flow, Direction::Down, datagram),
            Err(error) => {
                flow.down.lost.set(flow.down.lost.get() + datagram.bytes().len() as u64);
                stats.bytes_lost.down.add(datagram.bytes().len() as u64);
                stats.dropped_down.of(drop_of(&error)).add(datagram.count());
            }
        }
        if before < limits::UDP_BUSY_FLOW && flow.down.datagrams.get() >= limits::UDP_BUSY_FLOW {
            udp::widen(&flow.socket);
        }
    }

    /// Counts datagrams that were delivered.
    pub(super) fn moved(&self, flow: &Flow, direction: Direction, datagram: &Datagram) {
        let (count, bytes) = (datagram.count(), datagram.bytes().len() as u64);
        let moved = match direction {
            Direction::Up => &flow.up,
            Direction::Down => &flow.down,
        };
        moved.datagrams.set(moved.datagrams.get() + count);
        moved.bytes.set(moved.bytes.get() + bytes);
        let stats = flow.port.stats.of(self.shard.index);
        stats.datagrams.of(direction).add(count);
        stats.bytes.of(direction).add(bytes);
        flow.endpoint.stats.of(self.shard.index).bytes.of(direction).add(bytes);
    }

    /// Takes a flow that is over out of all accounts. Its place in the table must be given up already.
    pub(super) fn close(&self, flow: &Flow, reason: EndReason) {
        if !flow.ending.set() {
            return;
        }
        drop(flow.admission.take());
        let shard = &self.shard;
        let stats = flow.port.stats.of(shard.index);
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

impl Flow {
    /// To the client, from the address that it has sent to.
    fn way_back(&self) -> Route {
        Route { to: Some(self.key.client), from: self.key.local.map(|local| (local.ip, local.interface)) }
    }

    /// Bytes of a datagram to the pod that it never got.
    pub(super) fn lost(&self, datagram: &Datagram) {
        self.up.lost.set(self.up.lost.get() + datagram.bytes().len() as u64);
    }

    /// The address and port that the client has sent to.
    fn frontend(&self) -> SocketAddr {
        let ip = self.key.local.map_or_else(|| self.front.key.socket_addr().ip(), |local| local.ip);
        SocketAddr::new(ip.to_canonical(), self.front.key.port)
    }
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

/// Whether an error is about the way to the peer: mostly what ICMP has brought.
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
        )
    )
}
