//! Control: what the world is turned into what the shards serve: compile, reserve the ports, publish.
//!
//! - C1 a snapshot has only TCP frontends whose port this process holds; the others are problems, and
//!   are tried again.
//! - C2 a hold outlives its frontend until every shard has applied a snapshot without it.
//! - C3 nothing is published when nothing has changed, except for the first snapshot.
//! - C4 a problem is told once, when it appears.

mod owner;
mod reserve;

use std::collections::HashSet;
use std::sync::Arc;

use crate::control::reserve::Reservations;
use crate::k8s::model::World;
use crate::problem::Problem;
use crate::route::compile::{CompileOptions, Compiled, Compiler, NodePortAddresses};
use crate::route::plane::Plane;
use crate::route::snapshot::RoutingSnapshot;
use crate::types::Protocol;

/// Turns worlds into published snapshots.
pub struct Control {
    plane: Arc<Plane>,
    compiler: Compiler,
    reservations: Reservations,
    /// The last outcome; `None` before the first.
    compiled: Option<Compiled>,
    generation: u64,
    problems: Vec<Problem>,
}

impl Control {
    /// Control over the shards of this plane.
    pub fn new(plane: Arc<Plane>, options: CompileOptions) -> Self {
        let shards = plane.shards();
        Self {
            plane,
            compiler: Compiler::new(options, shards),
            reservations: Reservations::default(),
            compiled: None,
            generation: 0,
            problems: Vec::new(),
        }
    }

    /// Puts a world in force. Gives the problems that were not there before.
    pub fn apply(&mut self, world: World) -> Vec<Problem> {
        let compiled = self.compiler.compile(&world);
        let first = self.compiled.is_none();
        let changed = compiled.changed || first;
        let wanted = compiled.changes.added.iter().chain(&compiled.changes.updated);
        let wanted = wanted.filter(|key| key.protocol == Protocol::Tcp);
        self.reservations
            .take(wanted.filter_map(|key| Some((*key, compiled.frontends.get(key)?.port.name.clone()))));
        for key in &compiled.changes.removed {
            // No snapshot after the present one has it.
            self.reservations.give_up(*key, self.generation + 1);
        }
        self.compiled = Some(compiled);
        if changed {
            self.publish();
        }
        self.reservations.release(self.plane.applied());
        self.new_problems()
    }

    /// Node ports are to be served on these addresses, with the next world. Returns whether they are others.
    pub fn set_nodeport_addresses(&mut self, addresses: NodePortAddresses) -> bool {
        self.compiler.set_nodeport_addresses(addresses)
    }

    /// Tries again to hold the ports that could not be held, and lets go of those that no shard uses any
    /// more. To be called about every second while [`Control::waiting`].
    pub fn retry(&mut self) -> Vec<Problem> {
        self.reservations.release(self.plane.applied());
        if self.reservations.retry() {
            self.publish();
        }
        self.new_problems()
    }

    /// Whether [`Control::retry`] has something to do.
    pub fn waiting(&self) -> bool {
        self.reservations.waiting()
    }

    /// All problems in force.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The generation of the last published snapshot; zero before the first.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Publishes what is compiled, without what could not be reserved.
    fn publish(&mut self) {
        let Some(compiled) = &self.compiled else { return };
        let mut frontends = compiled.frontends.clone();
        for key in self.reservations.failed() {
            frontends.remove(key);
        }
        self.generation += 1;
        let snapshot = RoutingSnapshot::new(self.generation, frontends);
        self.plane.publish(snapshot.with_departed(compiled.departed.clone()));
    }

    /// Brings `problems` up to date and gives those that are new.
    fn new_problems(&mut self) -> Vec<Problem> {
        let compiled = self.compiled.iter().flat_map(|compiled| compiled.problems.iter());
        let now: Vec<Problem> = compiled.chain(self.reservations.problems()).cloned().collect();
        let before: HashSet<String> = self.problems.iter().map(Problem::to_string).collect();
        let new = now.iter().filter(|problem| !before.contains(&problem.to_string())).cloned().collect();
        self.problems = now;
        new
    }
}

#[cfg(test)]
mod tests;
