//! From files to a published snapshot: manifests → store → control, whenever something has changed.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::logging::Reporter;
use super::plan::Plan;
use crate::admin::{Seen, State};
use crate::control::Control;
use crate::limits;
use crate::problem::{Problem, Severity};
use crate::route::compile::NodePortAddresses;
use crate::source::manifests::Manifests;
use crate::store::Store;

/// All that turns files into snapshots.
pub(super) struct Feed {
    pub(super) manifests: Manifests,
    pub(super) store: Store,
    pub(super) control: Control,
    pub(super) state: Rc<State>,
    plan: Plan,
    reporter: Reporter,
}

impl Feed {
    pub(super) fn new(
        manifests: Manifests,
        store: Store,
        control: Control,
        state: Rc<State>,
        plan: Plan,
    ) -> Self {
        Self { manifests, store, control, state, plan, reporter: Reporter::default() }
    }

    /// Reads what has changed and puts it in force.
    pub(super) fn reload(&mut self) {
        self.state.on_queued(Seen::now());
        let began = crate::clock::now_micros();
        let before = self.control.generation();
        let mut new = self.manifests.reload(&mut self.store);
        new.extend(self.control.apply(self.store.world()));
        self.finish(&new, before, began);
    }

    /// Serves node ports on other addresses, if they are others.
    pub(super) fn move_node_ports(&mut self, addresses: NodePortAddresses) {
        let text = match &addresses {
            NodePortAddresses::All => "every address".to_owned(),
            NodePortAddresses::Only(some) if some.is_empty() => "no address: none matches".to_owned(),
            NodePortAddresses::Only(some) => {
                some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        };
        if self.control.set_nodeport_addresses(addresses) {
            tracing::info!("the addresses of this node have changed: node ports are served on {text}");
            self.state.on_queued(Seen::now());
            let began = crate::clock::now_micros();
            let before = self.control.generation();
            let new = self.control.apply(self.store.world());
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

    /// Whether [`Feed::retry`] has something to do.
    pub(super) fn waiting(&self) -> bool {
        self.control.waiting()
    }

    fn finish(&mut self, new: &[Problem], before: u64, began: u64) {
        self.reporter.report(new, crate::clock::now());
        let files = self.manifests.problems();
        let failing = failing_files(&files);
        let problems = files.iter().chain(self.control.problems()).cloned().collect();
        self.state.on_synced(Seen::now(), problems, failing);
        let generation = self.control.generation();
        if generation != before {
            self.plan.apply(&self.state);
            tokio::task::spawn_local(time_until_applied(self.state.clone(), generation, began));
        }
    }
}

/// Files with a problem that is not one of their objects' own: they cannot be read, or do not parse.
fn failing_files(problems: &[Problem]) -> u64 {
    let whole = problems.iter().filter(|p| p.object.is_none() && p.severity == Severity::Error);
    let files: HashSet<&str> = whole.filter_map(|p| Some(&*p.origin.as_ref()?.file)).collect();
    files.len() as u64
}

/// Measures how long a change takes from being read to being applied by all shards. Looks again and again,
/// but only until it is.
async fn time_until_applied(state: Rc<State>, generation: u64, began: u64) {
    let mut pause = limits::APPLY_LOOK;
    while state.plane.applied() < generation {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(limits::RETRY_INTERVAL);
    }
    let took = Duration::from_micros(state.plane.applied_micros().saturating_sub(began));
    state.on_applied(took.as_secs_f64());
    tracing::debug!(generation, ?took, "applied by all shards");
}
