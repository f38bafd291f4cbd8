//! How flows end, and the sockets of frontends that could only refuse.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::flow::{Flow, is_unreachable};
use super::front::Front;
use super::table::Id;
use super::{Place, Udp};
use crate::clock::{self, Millis};
use crate::limits;
use crate::route::endpoint::Endpoint;
use crate::route::pick::Targets;
use crate::shard::run::Shard;
use crate::types::{ConnectFailure, EndReason};

/// How often it is looked whether a socket that can only refuse may close.
const CLOSE_LOOK: Duration = Duration::from_millis(50);

/// How the task that ends silent flows sleeps.
#[derive(Default)]
pub(super) struct Reaper {
    until: Cell<Option<Millis>>,
    waker: Cell<Option<Waker>>,
}

impl Udp {
    /// Ends the flow in a place (U4).
    pub(super) fn end(&self, id: Id, reason: EndReason) {
        let place = self.table.borrow_mut().remove(id);
        if let Some(Place::Flow(flow)) = place {
            self.close(&flow, reason);
        }
    }

    /// The pod cannot be reached: ends the flow, and remembers whom it has to avoid (U2).
    pub(super) fn broken(&self, flow: &Flow, error: &io::Error) {
        if flow.is_over() {
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
            self.blame(self.targets(&frontend, flow.client, &flow.key), &flow.endpoint, error);
            self.place(flow.key, Place::Refused(flow.endpoint.addr), &frontend);
        }
    }

    /// Counts a failure of an endpoint; enough of them in a row eject it.
    pub(super) fn blame(&self, targets: &Targets, endpoint: &Arc<Endpoint>, error: &io::Error) {
        let stats = endpoint.stats.of(self.shard.index);
        let failure = match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => ConnectFailure::Refused,
            _ => ConnectFailure::Unreachable,
        };
        stats.failed.of(failure).add(1);
        if targets.failed(endpoint, clock::now()) {
            stats.ejected.add(1);
            tracing::info!(endpoint = %endpoint.addr, "ejected for a while");
        }
    }

    /// No new flows from now on. Those that are there go on until they are silent; a socket without any is closed.
    pub(in crate::shard) fn drain(&self) {
        self.draining.set(true);
        self.shut_idle_fronts();
        self.reaper.wake_before(Some(Millis(0)));
    }

    /// Whether a draining shard still has a socket: other shards may have flows of it.
    pub(in crate::shard) fn is_open(&self) -> bool {
        !self.fronts.borrow().is_empty()
    }

    /// Cuts all flows and closes all sockets.
    pub(in crate::shard) fn stop(&self) {
        self.stopped.set(true);
        self.open_fronts().iter().for_each(|front| self.shut(front, EndReason::Drained));
        self.reaper.wake_before(Some(Millis(0)));
        self.ready.end();
    }

    /// Closes what can only refuse and has no flows. True when something has to be looked at again.
    fn shut_idle_fronts(&self) -> bool {
        self.open_fronts().iter().filter(|front| self.shut_if_idle(front)).count() > 0
    }

    pub(super) fn open_fronts(&self) -> Vec<Rc<Front>> {
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
pub(super) async fn reap(udp: Rc<Udp>) {
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
    pub(super) fn wake_before(&self, due: Option<Millis>) {
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
