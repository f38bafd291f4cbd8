//! Which listening sockets a shard has: what the snapshot names, minus frontends without endpoints.
//!
//! A frontend without a usable endpoint has no listener, so that the kernel refuses at once, as
//! kube-proxy's REJECT does. The port stays held by control's reservation. One whose endpoints are for the node itself
//! only (`externalTrafficPolicy: Local` and none on this node) has one; others who connect to it are reset.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::accept;
use super::run::Shard;
use crate::limits;
use crate::net::socket;
use crate::route::snapshot::{Frontend, FrontendKey, RoutingSnapshot};
use crate::types::Protocol;

/// A shard's listening sockets.
#[derive(Default)]
pub(super) struct Listeners {
    open: BTreeMap<FrontendKey, Rc<Listener>>,
    failed: usize,
}

/// How the accept loop of one listening socket is told to end. The loop owns the socket.
pub(super) struct Listener {
    pub(super) key: FrontendKey,
    closing: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Listeners {
    /// Opens and closes sockets until they are what the snapshot says.
    pub(super) fn apply(&mut self, shard: &Rc<Shard>, snapshot: &RoutingSnapshot) {
        self.open.retain(|key, listener| {
            let keep = snapshot.frontends().get(key).is_some_and(|frontend| is_served(frontend));
            if !keep {
                listener.close();
            }
            keep
        });
        self.failed = 0;
        let mut first_failure = None;
        for (key, frontend) in snapshot.frontends() {
            if is_served(frontend) && !self.open.contains_key(key) {
                match socket::listen(key.address, key.port, &shard.options.tcp) {
                    Ok(socket) => {
                        self.open.insert(*key, Listener::start(shard, *key, socket));
                    }
                    Err(error) => {
                        self.failed += 1;
                        first_failure.get_or_insert((key.socket_addr(), error));
                    }
                }
            }
        }
        // One for all: there may be thousands, every second.
        if let Some((address, error)) = first_failure {
            let others = self.failed - 1;
            tracing::warn!(shard = shard.index, %address, others, %error, "cannot listen; trying again");
        }
        shard.stats().listeners.set(self.open.len() as u64);
        shard.stats().listeners_failed.set(self.failed as u64);
    }

    /// Closes all; connections that wait in their queues are served first (S3).
    pub(super) async fn close_all(&mut self, shard: &Rc<Shard>) {
        let closing: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        for listener in &closing {
            listener.close();
        }
        // An accept loop drops its reference when it has served its queue.
        while closing.iter().any(|listener| Rc::strong_count(listener) > 1) {
            // On the ring's clock, as it is what ends the pause of a loop that cannot accept.
            shard.ring.sleep(limits::CLOSE_LOOK).await;
        }
        shard.stats().listeners.set(0);
    }

    /// When to apply again although nothing has changed.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        (self.failed > 0).then_some(limits::RETRY_INTERVAL)
    }
}

/// Whether a shard listens for it.
fn is_served(frontend: &Frontend) -> bool {
    frontend.key.protocol == Protocol::Tcp && frontend.has_endpoints()
}

impl Listener {
    fn start(shard: &Rc<Shard>, key: FrontendKey, socket: OwnedFd) -> Rc<Self> {
        let listener = Rc::new(Self::new(key));
        glommio::spawn_local(accept::accept(shard.clone(), listener.clone(), socket)).detach();
        shard.ring.touch();
        listener
    }

    pub(super) fn new(key: FrontendKey) -> Self {
        Self { key, closing: Cell::new(false), waker: RefCell::new(None) }
    }

    pub(super) fn close(&self) {
        self.closing.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the accept loop must end; if not, `waker` is woken when it must.
    pub(super) fn is_closing(&self, waker: &Waker) -> bool {
        let closing = self.closing.get();
        if !closing {
            let mut held = self.waker.borrow_mut();
            if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
                *held = Some(waker.clone());
            }
        }
        closing
    }
}
