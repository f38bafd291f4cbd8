//! The waist between control and the shards. Control publishes snapshots, says how many sessions there may be, and
//! asks for a drain; shards read, acknowledge and report finished sessions. Nothing else crosses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::metrics::counters::{PerShard, ShardCounters};
use crate::route::snapshot::RoutingSnapshot;
use crate::types::{ClientAddr, EndReason, EndpointAddr, Refusal, ServicePortName};

/// What control and all shards share.
pub struct Plane {
    /// The snapshot in force. Shards read it through an `arc_swap::Cache`.
    pub snapshot: ArcSwap<RoutingSnapshot>,
    /// Counters of each shard.
    pub stats: Arc<PerShard<ShardCounters>>,
    phase: AtomicU8,
    max_connections: AtomicU64,
    applied: Box<[AtomicU64]>,
    applied_micros: AtomicU64,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    on_session: OnceLock<Box<dyn Fn(SessionRecord) -> bool + Send + Sync>>,
}

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Run = 0,
    /// Accepting nothing new, waiting for sessions to end.
    Drain = 1,
    /// Cutting what is left.
    Stop = 2,
}

impl Plane {
    /// A plane with an empty snapshot.
    pub fn new(shards: usize) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(RoutingSnapshot::default()),
            stats: Arc::new(PerShard::new(shards)),
            phase: AtomicU8::new(0),
            max_connections: AtomicU64::new(u64::MAX),
            applied: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            applied_micros: AtomicU64::new(0),
            wake: OnceLock::new(),
            on_session: OnceLock::new(),
        }
    }

    /// Called once by the shards: `wake` makes every shard look at the plane again.
    pub fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Called once at start: where finished sessions go. It must not block; it says whether there was room.
    pub fn set_on_session(&self, sink: impl Fn(SessionRecord) -> bool + Send + Sync + 'static) {
        let _ = self.on_session.set(Box::new(sink));
    }

    /// Puts a snapshot in force and wakes the shards.
    pub fn publish(&self, snapshot: RoutingSnapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.wake();
    }

    /// Sessions at a time, all shards together.
    pub fn max_connections(&self) -> u64 {
        self.max_connections.load(Ordering::Relaxed)
    }

    /// Admits so many from now on; those that there are stay.
    pub fn set_max_connections(&self, sessions: u64) {
        self.max_connections.store(sessions, Ordering::Relaxed);
    }

    /// Moves to a later phase and wakes the shards.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        self.wake();
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Run,
            1 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    /// A shard says that it has applied this generation, and when: microseconds on the monotonic clock.
    pub fn acknowledge(&self, shard: usize, generation: u64, now_micros: u64) {
        self.applied_micros.fetch_max(now_micros, Ordering::Relaxed);
        if let Some(applied) = self.applied.get(shard) {
            applied.store(generation, Ordering::Release);
        }
    }

    /// When the last shard has said so.
    pub fn applied_micros(&self) -> u64 {
        self.applied_micros.load(Ordering::Relaxed)
    }

    /// The generation that every shard has applied.
    pub fn applied(&self) -> u64 {
        self.applied.iter().map(|g| g.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.applied.len()
    }

    /// Whether somebody wants to hear of finished sessions.
    pub fn wants_sessions(&self) -> bool {
        self.on_session.get().is_some()
    }

    /// Reports a finished session. Never blocks; false when there was no room for it.
    pub fn session(&self, record: SessionRecord) -> bool {
        self.on_session.get().is_none_or(|sink| sink(record))
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

/// A connection that is over, for the access log.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// The service port.
    pub service: ServicePortName,
    /// Who connected.
    pub client: ClientAddr,
    /// The address the client connected to.
    pub frontend: SocketAddr,
    /// The pod, if one was reached.
    pub endpoint: Option<EndpointAddr>,
    /// The pod's name, if known.
    pub pod: Option<Arc<str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// Candidates tried.
    pub attempts: u32,
    /// From accept to an established connection, microseconds; zero if none was.
    pub connect_micros: u64,
    /// From accept to the end, microseconds.
    pub session_micros: u64,
    /// Bytes delivered to the pod.
    pub bytes_up: u64,
    /// Bytes delivered to the client.
    pub bytes_down: u64,
    /// Bytes accepted and not delivered, both directions.
    pub bytes_lost: u64,
    /// The shard that carried it.
    pub shard: usize,
}

/// How a connection ended: relayed, or refused before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was relayed.
    Ended(EndReason),
    /// It never reached a pod.
    Refused(Refusal),
}
