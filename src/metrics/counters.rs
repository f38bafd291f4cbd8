//! Counters of the data path: each shard writes its own copy, a reader adds them up.
//!
//! See [`Counter`] for why.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;

use crate::counter::Counter;
use crate::ring::RingCounters;
use crate::types::{ConnectFailure, Direction, DropReason, EndReason, Label, Refusal};

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Labelled<L>(Box<[Counter]>, std::marker::PhantomData<L>);

impl<L: Label> Default for Labelled<L> {
    fn default() -> Self {
        Self(L::ALL.iter().map(|_| Counter::default()).collect(), std::marker::PhantomData)
    }
}

impl<L: Label> Labelled<L> {
    /// The counter of one value.
    #[inline]
    #[allow(
        clippy::indexing_slicing,
        reason = "index() is the place in ALL, and there is one counter for each"
    )]
    pub fn of(&self, label: L) -> &Counter {
        &self.0[label.index()]
    }
}

/// A value for every shard, each on cache lines of its own.
#[derive(Debug)]
pub struct PerShard<T>(Box<[CachePadded<T>]>);

impl<T: Default> PerShard<T> {
    /// For this many shards.
    pub fn new(shards: usize) -> Self {
        Self((0..shards.max(1)).map(|_| CachePadded::new(T::default())).collect())
    }
}

impl<T> PerShard<T> {
    /// That of one shard. Shards are numbered from zero; a number out of range gets the first.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "new() makes at least one, and the index is below the length")]
    pub fn of(&self, shard: usize) -> &T {
        &self.0[if shard < self.0.len() { shard } else { 0 }]
    }

    /// Those of all shards.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &**padded)
    }
}

/// What is counted for one service port, by one shard.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Connections accepted.
    pub accepted: Counter,
    /// Of those, the ones not yet over: a gauge.
    pub active: Counter,
    /// Connections refused, by reason.
    pub refused: Labelled<Refusal>,
    /// Sessions over, by reason.
    pub ended: Labelled<EndReason>,
    /// Connections that needed more than one candidate.
    pub retried: Counter,
    /// Under `externalTrafficPolicy: Local`, attempts to connect to a pod from the address of the client.
    pub client_kept: Counter,
    /// The same from an address of this node.
    pub client_replaced: Counter,
    /// Bytes delivered to pods and to clients.
    pub bytes: Bytes,
    /// Bytes accepted from one side that could not be delivered to the other.
    pub bytes_lost: Bytes,
    /// Bytes that went through a pipe and never through this process's memory; part of `bytes`.
    pub bytes_spliced: Bytes,
    /// Datagrams delivered to pods and to clients.
    pub datagrams: Bytes,
    /// Datagrams from clients that were not delivered, by reason.
    pub dropped_up: Labelled<DropReason>,
    /// Datagrams from pods that were not delivered, by reason.
    pub dropped_down: Labelled<DropReason>,
    /// Times; made with the first session.
    pub times: Times,
}

/// Bytes, or datagrams, by direction.
#[derive(Debug, Default)]
pub struct Bytes {
    /// From clients to pods.
    pub up: Counter,
    /// From pods to clients.
    pub down: Counter,
}

impl PortCounters {
    /// Datagrams of one direction that were not delivered.
    pub fn dropped(&self, direction: Direction) -> &Labelled<DropReason> {
        match direction {
            Direction::Up => &self.dropped_up,
            Direction::Down => &self.dropped_down,
        }
    }
}

impl Bytes {
    /// The counter of one direction.
    #[inline]
    pub fn of(&self, direction: Direction) -> &Counter {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// What is counted for one endpoint of one service port, by one shard.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Connections established to it.
    pub connected: Counter,
    /// Of those, the ones not yet over: a gauge.
    pub active: Counter,
    /// Attempts to connect that failed, by reason.
    pub failed: Labelled<ConnectFailure>,
    /// Times it was ejected.
    pub ejected: Counter,
    /// Bytes delivered to it and from it.
    pub bytes: Bytes,
}

/// What is counted for a whole shard.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Sessions that are not over: a gauge. What `--max-connections` bounds.
    pub active: Counter,
    /// Connections accepted.
    pub accepted: Counter,
    /// Accepts that failed (EMFILE, ENFILE, ENOMEM, ECONNABORTED …).
    pub accept_errors: Counter,
    /// Times a listener left its queue alone, as the process was out of descriptors or memory.
    pub accept_backoffs: Counter,
    /// Connections refused because a limit of the process was reached.
    pub limited: Counter,
    /// What its relay ring counts.
    pub ring: Arc<RingCounters>,
    /// Directions that wanted to splice and had to copy, as no pipe was to be had.
    pub pipes_refused: Counter,
    /// Bytes on the heap that wait for peers that do not read: a gauge.
    pub backlog_bytes: Counter,
    /// Times these were as many as they may be.
    pub backlog_used_up: Counter,
    /// Listening sockets open: a gauge.
    pub listeners: Counter,
    /// Listening sockets that could not be opened and are being retried: a gauge.
    pub listeners_failed: Counter,
    /// Sockets of UDP frontends open: a gauge.
    pub udp_sockets: Counter,
    /// Those that could not be opened and are being retried: a gauge.
    pub udp_sockets_failed: Counter,
    /// UDP flows that are not over: a gauge; part of `active`.
    pub udp_flows: Counter,
    /// Finished sessions that the access log had no room for.
    pub access_log_dropped: Counter,
}

/// Histograms of one service port and shard, made with the first session.
#[derive(Debug, Default)]
pub struct Times(Mutex<Option<Box<TimeHistograms>>>);

/// See [`Times`].
#[derive(Clone, Debug)]
pub struct TimeHistograms {
    /// From accept to an established connection to a pod, in microseconds.
    pub connect_micros: Histogram<u64>,
    /// From accept to the end of the session, in microseconds.
    pub session_micros: Histogram<u64>,
}

impl TimeHistograms {
    /// Empty ones: one significant digit, growing with the largest value.
    pub fn new() -> Self {
        // One digit is valid, so this cannot fail; an empty fallback keeps the data path free of panics.
        let histogram = || Histogram::new(1).unwrap_or_else(|_| unreachable!("1 is a valid precision"));
        Self { connect_micros: histogram(), session_micros: histogram() }
    }
}

impl Default for TimeHistograms {
    fn default() -> Self {
        Self::new()
    }
}

impl Times {
    /// Records the time to connect, in microseconds. The lock is only ever contended by a scrape.
    pub fn connected(&self, micros: u64) {
        // Grows with the value; saturating_record() would not, and would put all in the lowest step.
        self.with(|times| _ = times.connect_micros.record(micros));
    }

    /// Records the length of a session, in microseconds.
    pub fn ended(&self, micros: u64) {
        self.with(|times| _ = times.session_micros.record(micros));
    }

    /// A copy for a scrape; `None` before the first session.
    pub fn read(&self) -> Option<Box<TimeHistograms>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(&self, record: impl FnOnce(&mut TimeHistograms)) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record(times.get_or_insert_default());
    }
}

/// The counters of a service port, shared by all snapshots that have it.
pub type PortStats = Arc<PerShard<PortCounters>>;
/// The counters of an endpoint, shared by all snapshots that have it.
pub type EndpointStats = Arc<PerShard<EndpointCounters>>;
