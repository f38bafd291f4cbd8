//! From files and the API to a published snapshot: manifests → store → control, whenever something has changed.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::logging::Reporter;
use super::plan::Plan;
use crate::admin::{Seen, ServiceHealth, State};
use crate::api::Hub;
use crate::control::Control;
use crate::limits;
use crate::problem::{Problem, Severity};
use crate::route::compile::NodePortAddresses;
use crate::source::manifests::Manifests;

/// All that turns objects into snapshots.
pub(super) struct Feed {
    pub(super) manifests: Manifests,
    /// The store, which the API changes as well.
    pub(super) hub: Rc<Hub>,
    pub(super) control: Control,
    pub(super) state: Rc<State>,
    plan: Plan,
    reporter: Reporter,
    health: ServiceHealth,
    report_at: Instant,
}

impl Feed {
    pub(super) fn new(
        manifests: Manifests,
        hub: Rc<Hub>,
        control: Control,
        state: Rc<State>,
        plan: Plan,
        health: ServiceHealth,
    ) -> Self {
        let report_at = Instant::now();
        Self { manifests, hub, control, state, plan, reporter: Reporter::default(), health, report_at }
    }

    /// Reads what has changed and puts it in force.
    pub(super) fn reload(&mut self) {
        self.state.on_queued(Seen::now());
        let began = crate::clock::now_micros();
        let before = self.control.generation();
        let mut new = self.hub.write(|store| self.manifests.reload(store));
        new.extend(self.apply());
        self.finish(&new, before, began);
    }

    /// Puts in force what clients of the API have changed.
    pub(super) fn follow(&mut self) {
        self.state.on_queued(Seen::now());
        let began = crate::clock::now_micros();
        let before = self.control.generation();
        let new = self.apply();
        self.finish(&new, before, began);
    }

    /// Serves node ports on other addresses, if they are others.
    pub(super) fn move_node_ports(&mut self, addresses: NodePortAddresses) {
        if moved(&mut self.control, &mut self.health, addresses) {
            self.state.on_queued(Seen::now());
            let began = crate::clock::now_micros();
            let before = self.control.generation();
            let new = self.apply();
            self.finish(&new, before, began);
        }
    }

    /// The node has other addresses: one that is served may be among them now, or no more.
    pub(super) fn look_again(&mut self) {
        let began = crate::clock::now_micros();
        let new = self.control.look_again();
        self.finish(&new, self.control.generation(), began);
    }

    /// Tries again what could not be done before.
    pub(super) fn retry(&mut self) {
        let began = crate::clock::now_micros();
        let before = self.control.generation();
        let new = self.control.retry();
        self.finish(&new, before, began);
    }

    /// Makes Events of the problems of the data plane, soon after a change and now and then, so that they do not expire.
    pub(super) fn report(&mut self) {
        self.report_at = Instant::now() + limits::EVENTS_INTERVAL;
        let all: Vec<Problem> =
            self.control.problems().iter().chain(self.health.problems()).cloned().collect();
        self.hub.write(|store| store.report(&all));
    }

    /// When [`Feed::report`] is due.
    pub(super) fn report_at(&self) -> Instant {
        self.report_at
    }

    /// Whether [`Feed::retry`] has something to do.
    pub(super) fn waiting(&self) -> bool {
        self.control.waiting() || self.health.waiting()
    }

    /// Gives the problems that were not there before.
    fn apply(&mut self) -> Vec<Problem> {
        let (world, version) = self.hub.read(|store| (store.world(), store.version()));
        let new = self.control.apply(world);
        self.hub.set_applied(version);
        new
    }

    fn finish(&mut self, new: &[Problem], before: u64, began: u64) {
        self.reporter.report(new, crate::clock::now());
        let unheard = self.control.health_checks().map(|checks| self.health.sync(checks));
        self.reporter.report(&unheard.unwrap_or_default(), crate::clock::now());
        self.state.on_compiled(self.control.counts());
        self.report_at = self.report_at.min(Instant::now() + limits::EVENTS_PAUSE);
        let files = self.manifests.problems();
        let failing = failing_files(&files);
        let problems =
            files.iter().chain(self.control.problems()).chain(self.health.problems()).cloned().collect();
        self.state.on_synced(Seen::now(), problems, failing);
        let generation = self.control.generation();
        if generation != before {
            self.plan.apply(&self.state);
            tokio::task::spawn_local(time_until_applied(self.state.clone(), generation, began, Vec::new()));
        }
    }
}

/// Serves node ports and health checks on these addresses, and says so; false where they are no others.
pub(super) fn moved(control: &mut Control, health: &mut ServiceHealth, addresses: NodePortAddresses) -> bool {
    let text = match &addresses {
        NodePortAddresses::All => "every address".to_owned(),
        NodePortAddresses::Only(some) if some.is_empty() => "no address: none matches".to_owned(),
        NodePortAddresses::Only(some) => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let moved = control.set_nodeport_addresses(addresses.clone());
    if moved {
        tracing::info!("the addresses of this node have changed: node ports are served on {text}");
        health.move_to(addresses);
    }
    moved
}

/// Files with a problem that is not one of their objects' own: they cannot be read, or do not parse.
fn failing_files(problems: &[Problem]) -> u64 {
    let whole = problems.iter().filter(|p| p.object.is_none() && p.severity == Severity::Error);
    let files: HashSet<&str> = whole.filter_map(|p| Some(&*p.origin.as_ref()?.file)).collect();
    files.len() as u64
}

/// Measures how long a change takes from being read to being applied by all shards. Looks again and again,
/// but only until it is. `triggers` are when the changes of slices in it came about, in seconds since 1970.
pub(super) async fn time_until_applied(state: Rc<State>, generation: u64, began: u64, triggers: Vec<f64>) {
    let mut pause = limits::APPLY_LOOK;
    while state.plane.applied() < generation {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(limits::RETRY_INTERVAL);
    }
    let took = Duration::from_micros(state.plane.applied_micros().saturating_sub(began));
    state.on_applied(took.as_secs_f64());
    // The moment when the last shard had it, not the one when that was noticed.
    let mut then = Seen::now();
    then.unix -= then.micros.saturating_sub(state.plane.applied_micros()) as f64 / 1e6;
    state.on_programmed(then, &triggers);
    tracing::debug!(generation, ?took, "applied by all shards");
}
