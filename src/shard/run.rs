//! A shard's life: make the ring, apply snapshots, drain, stop.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};

use super::listeners::Listeners;
use super::relay::Backlog;
use super::source::Nearby;
use super::udp::Udp;
use super::{Options, accept};
use crate::clock::{self, OncePerSecond};
use crate::limits;
use crate::metrics::counters::ShardCounters;
use crate::ring::{self, Pipes, RelayRing, Ring};
use crate::route::plane::{Phase, Plane};
use crate::route::snapshot::{Frontend, FrontendKey, RoutingSnapshot};

/// What all tasks of a shard share.
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) ring: Ring,
    pub(super) pipes: Rc<Pipes>,
    pub(super) backlog: Backlog,
    pub(super) options: Options,
    pub(super) plane: Arc<Plane>,
    pub(super) random: RefCell<fastrand::Rng>,
    /// Sessions are cut: every relay looks when it is woken.
    pub(super) stopping: Cell<bool>,
    /// A descriptor to refuse with when there are no others.
    pub(super) reserve: RefCell<Option<OwnedFd>>,
    /// For warnings that clients can cause.
    pub(super) log_gate: OncePerSecond,
    /// For pods that are to see their client's address.
    pub(super) nearby: RefCell<Nearby>,
    snapshot: RefCell<Cache<PlaneSnapshot, Arc<RoutingSnapshot>>>,
}

/// The published snapshot of a plane, as `arc_swap::Cache` wants it.
struct PlaneSnapshot(Arc<Plane>);

impl Deref for PlaneSnapshot {
    type Target = ArcSwap<RoutingSnapshot>;

    fn deref(&self) -> &Self::Target {
        &self.0.snapshot
    }
}

/// The shard's main task. `bell` rings when the plane has changed.
pub(super) async fn run(
    index: usize,
    options: Options,
    plane: Arc<Plane>,
    bell: Arc<OwnedFd>,
) -> io::Result<()> {
    let ring = RelayRing::new(plane.stats.of(index).ring.clone())?;
    let driver = glommio::spawn_local(ring::drive(ring.clone()));
    let shard = Rc::new(Shard {
        index,
        pipes: Pipes::new(options.pipes, plane.stats.of(index).ring.clone()),
        backlog: Backlog::default(),
        options,
        random: RefCell::new(fastrand::Rng::new()),
        stopping: Cell::new(false),
        reserve: RefCell::new(accept::reserve()),
        log_gate: OncePerSecond::default(),
        nearby: RefCell::default(),
        snapshot: RefCell::new(Cache::new(PlaneSnapshot(plane.clone()))),
        ring: ring.clone(),
        plane,
    });
    follow(&shard, &bell).await;
    ring.stop();
    driver.await;
    Ok(())
}

/// Does what the plane says, whenever it has changed, until it says stop.
async fn follow(shard: &Rc<Shard>, bell: &OwnedFd) {
    let mut listeners = Listeners::default();
    let udp = Udp::new(shard);
    loop {
        let phase = shard.plane.phase();
        if phase == Phase::Run {
            let snapshot = shard.snapshot();
            listeners.apply(shard, &snapshot);
            udp.apply(&snapshot);
            shard.plane.acknowledge(shard.index, snapshot.generation(), clock::now_micros());
        } else {
            udp.drain();
            listeners.close_all(shard).await;
            drain(shard, &udp, bell).await;
            udp.stop();
            return;
        }
        wait_for_change(shard, bell, listeners.retry_in().or(udp.retry_in())).await;
    }
}

/// Waits for the sessions to end, or cuts them once the plane says stop.
async fn drain(shard: &Rc<Shard>, udp: &Udp, bell: &OwnedFd) {
    while shard.stats().active.get() > 0 || udp.is_open() {
        if shard.plane.phase() == Phase::Stop && !shard.stopping.replace(true) {
            shard.ring.wake_all();
            udp.stop();
        }
        wait_for_change(shard, bell, Some(limits::DRAIN_LOOK)).await;
    }
}

/// Waits until the bell rings, or for `at_most`.
async fn wait_for_change(shard: &Shard, bell: &OwnedFd, at_most: Option<Duration>) {
    let rung = shard.ring.poll(bell, libc::POLLIN);
    match at_most {
        None => drop(rung.await),
        Some(time) => {
            let _ = shard.ring.within(time, rung).await;
        }
    }
    // Empty when only the time was up.
    let _ = rustix::io::read(bell, &mut [0u8; 8]);
}

// === impl Shard ===

impl Shard {
    /// The newest snapshot.
    pub(super) fn snapshot(&self) -> Arc<RoutingSnapshot> {
        self.snapshot.borrow_mut().load().clone()
    }

    /// A frontend of the newest snapshot (S4).
    pub(super) fn frontend(&self, key: &FrontendKey) -> Option<Arc<Frontend>> {
        self.snapshot.borrow_mut().load().frontends().get(key).cloned()
    }

    /// This shard's counters.
    pub(super) fn stats(&self) -> &ShardCounters {
        self.plane.stats.of(self.index)
    }

    /// Sessions of all shards.
    pub(super) fn sessions(&self) -> u64 {
        self.plane.stats.iter().map(|stats| stats.active.get()).sum()
    }
}
