//! What the control thread knows, for those who ask.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::clock::Millis;
use crate::limits;
pub use crate::metrics::ViewStanding;
use crate::metrics::{Buckets, CompileCounts, PROGRAMMING_BOUNDS, Process};
use crate::problem::Problem;
use crate::route::plane::{Phase, Plane};

/// The state of the process. Lives on the control thread.
pub struct State {
    /// What control and the shards share.
    pub plane: Arc<Plane>,
    max_connections: Cell<u32>,
    inner: RefCell<Inner>,
    /// Answers of /healthz and /livez: 200 and 503.
    pub(super) healthz: Cell<[u64; 2]>,
    pub(super) livez: Cell<[u64; 2]>,
    access_log: Cell<[u64; 2]>,
    node_eligible: Cell<bool>,
    view: RefCell<Option<View>>,
    api: RefCell<Option<ApiAnswers>>,
}

type View = Box<dyn Fn() -> Vec<ViewStanding>>;
type ApiAnswers = Box<dyn Fn() -> BTreeMap<u16, u64>>;

/// From the cause of a change to its effect, which may be minutes.
struct Programming(Buckets);

impl Default for Programming {
    fn default() -> Self {
        Self(Buckets::new(PROGRAMMING_BOUNDS))
    }
}

#[derive(Default)]
struct Inner {
    started: Seen,
    /// The oldest change that is not yet compiled.
    queued: Option<Seen>,
    last_queued: Option<Seen>,
    last_synced: Option<Seen>,
    /// The generation that must be applied for the process to be ready; `None` before the first.
    first_generation: Option<u64>,
    shards_started: bool,
    problems: Vec<Problem>,
    files_failing: u64,
    sync_seconds: Buckets,
    apply_seconds: Buckets,
    programming_seconds: Programming,
    compiled: CompileCounts,
}

/// A moment on both clocks: the monotonic one, and seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// For differences: microseconds on the clock of [`Millis`].
    pub micros: u64,
    /// For people.
    pub unix: f64,
}

impl Seen {
    /// Now.
    pub fn now() -> Self {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { micros: crate::clock::now_micros(), unix: unix.as_secs_f64() }
    }

    /// On the monotonic clock.
    pub fn at(self) -> Millis {
        Millis(self.micros / 1000)
    }

    fn seconds_since(self, earlier: Self) -> f64 {
        self.micros.saturating_sub(earlier.micros) as f64 / 1e6
    }
}

/// RFC 3339, as Go writes a time.Time.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print_time(self.unix))
    }
}

/// Seconds since 1970 as RFC 3339, to the millisecond.
pub(super) fn print_time(unix: f64) -> String {
    jiff::Timestamp::from_millisecond((unix * 1000.0) as i64).unwrap_or_default().to_string()
}

/// Whether the proxy keeps up, as /livez reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Health {
    pub(super) healthy: bool,
    pub(super) last_updated: f64,
}

impl State {
    /// The state of a process that starts now.
    pub fn new(plane: Arc<Plane>) -> Self {
        Self {
            plane,
            max_connections: Cell::default(),
            inner: RefCell::new(Inner { started: Seen::now(), ..Inner::default() }),
            healthz: Cell::default(),
            livez: Cell::default(),
            access_log: Cell::default(),
            node_eligible: Cell::new(true),
            view: RefCell::default(),
            api: RefCell::default(),
        }
    }

    /// Sessions at a time.
    pub fn max_connections(&self) -> u32 {
        self.max_connections.get()
    }

    /// See [`State::max_connections`].
    pub fn set_max_connections(&self, sessions: u32) {
        self.max_connections.set(sessions);
    }

    /// A change was seen.
    pub fn on_queued(&self, now: Seen) {
        let mut inner = self.inner.borrow_mut();
        inner.queued.get_or_insert(now);
        inner.last_queued = Some(now);
    }

    /// All changes seen so far are compiled; a snapshot is published where one of them made a difference.
    pub fn on_synced(&self, now: Seen, problems: Vec<Problem>, files_failing: u64) {
        let mut inner = self.inner.borrow_mut();
        if let Some(queued) = inner.queued.take() {
            inner.sync_seconds.record(now.seconds_since(queued));
        }
        let generation = self.plane.snapshot.load().generation();
        inner.first_generation.get_or_insert(generation);
        inner.last_synced = Some(now);
        inner.problems = problems;
        inner.files_failing = files_failing;
    }

    /// All shards have applied a snapshot, this long after it was published.
    pub fn on_applied(&self, seconds: f64) {
        self.inner.borrow_mut().apply_seconds.record(seconds);
    }

    /// All shards have applied what came about at these times, in seconds since 1970. As kube-proxy, nothing
    /// from before the start of this process is counted.
    pub fn on_programmed(&self, now: Seen, triggers: &[f64]) {
        let mut inner = self.inner.borrow_mut();
        let started = inner.started.unix;
        for trigger in triggers.iter().filter(|trigger| **trigger >= started) {
            inner.programming_seconds.0.record((now.unix - trigger).max(0.0));
        }
    }

    /// What compilation has counted so far.
    pub fn on_compiled(&self, counts: CompileCounts) {
        self.inner.borrow_mut().compiled = counts;
    }

    /// Whether load balancers should send traffic to this node. They should, unless this is called.
    pub fn set_node_eligible(&self, eligible: bool) {
        self.node_eligible.set(eligible);
    }

    pub(super) fn node_eligible(&self) -> bool {
        self.node_eligible.get()
    }

    /// Objects come from an API server: how it stands with them.
    pub fn set_view(&self, view: impl Fn() -> Vec<ViewStanding> + 'static) {
        self.view.replace(Some(Box::new(view)));
    }

    /// There is an API: its answers by status code.
    pub fn set_api(&self, answers: impl Fn() -> BTreeMap<u16, u64> + 'static) {
        self.api.replace(Some(Box::new(answers)));
    }

    pub(super) fn view(&self) -> Vec<ViewStanding> {
        self.view.borrow().as_ref().map(|view| view()).unwrap_or_default()
    }

    /// All shards run.
    pub fn on_shards_started(&self) {
        self.inner.borrow_mut().shards_started = true;
    }

    /// Lines of the access log were written, or could not be.
    pub fn on_access_log(&self, written: u64, failed: u64) {
        let [all_written, all_failed] = self.access_log.get();
        self.access_log.set([all_written + written, all_failed + failed]);
    }

    /// The problems in force.
    pub fn problems(&self) -> Vec<Problem> {
        self.inner.borrow().problems.clone()
    }

    /// Why the process is not ready: each check and whether it holds. It is ready when all do.
    pub fn checks(&self) -> [(&'static str, bool); 4] {
        let inner = self.inner.borrow();
        let applied = inner.first_generation.is_some_and(|first| self.plane.applied() >= first);
        [
            (self.first_check(), inner.first_generation.is_some()),
            ("shards-started", inner.shards_started),
            ("first-snapshot-applied", inner.shards_started && applied),
            ("not-draining", self.plane.phase() == Phase::Run),
        ]
    }

    /// What the first snapshot waits for.
    fn first_check(&self) -> &'static str {
        if self.view.borrow().is_some() { "cluster-listed" } else { "manifests-read" }
    }

    /// Whether clients should come.
    pub fn ready(&self) -> bool {
        self.checks().iter().all(|(_, holds)| *holds)
    }

    /// Healthy while no change has been waiting, compiled or not, for longer than the limit.
    pub(super) fn health(&self, now: Seen) -> Health {
        let inner = self.inner.borrow();
        let late = |since: Seen| now.at().since(since.at()) >= limits::CHANGE_TIMEOUT;
        let applied = self.plane.applied() >= self.plane.snapshot.load().generation();
        let waiting = inner.queued.or(inner.last_synced.filter(|_| !applied));
        let healthy = !waiting.is_some_and(late);
        let synced = inner.last_synced.unwrap_or(inner.started).unix;
        Health { healthy, last_updated: if healthy { now.unix } else { synced } }
    }

    /// For the metrics.
    pub(super) fn process(&self, now: Seen) -> Process {
        let inner = self.inner.borrow();
        let snapshot = self.plane.snapshot.load();
        let mut problems = BTreeMap::new();
        for problem in &inner.problems {
            *problems.entry((problem.severity, problem.reason)).or_default() += 1;
        }
        let unix = |seen: Option<Seen>| seen.map_or(0.0, |seen| seen.unix);
        let usage = super::process::usage();
        Process {
            started: inner.started.unix,
            generation: snapshot.generation(),
            generation_applied: self.plane.applied(),
            frontends: snapshot.frontends().len() as u64,
            last_queued: unix(inner.last_queued),
            last_synced: unix(inner.last_synced),
            now: now.unix,
            sync_seconds: inner.sync_seconds.clone(),
            apply_seconds: inner.apply_seconds.clone(),
            problems,
            programming_seconds: inner.programming_seconds.0.clone(),
            compiled: inner.compiled,
            view: self.view(),
            api_answers: self.api.borrow().as_ref().map(|answers| answers()).unwrap_or_default(),
            files_failing: inner.files_failing,
            draining: self.plane.phase() != Phase::Run,
            ready: self.ready(),
            max_connections: u64::from(self.max_connections()),
            healthz: self.healthz.get(),
            livez: self.livez.get(),
            access_log_lines: self.access_log.get(),
            cpu_seconds: usage.cpu_seconds,
            resident_bytes: usage.resident_bytes,
            open_files: usage.open_files,
        }
    }
}
