//! Control: what the world is turned into what the shards serve: compile, reserve the ports, publish.
//!
//! - C1 a snapshot has only TCP frontends whose port this process holds; the others are problems, and
//!   are tried again.
//! - C2 a hold outlives its frontend until every shard has applied a snapshot without it.
//! - C3 nothing is published when nothing has changed, except for the first snapshot.
//! - C4 a problem is told once, when it appears.
//! - C5 what is changed on the node for a frontend is there before it is published, stays while a session may need it, and
//!   is taken back at the end.

mod node;
mod owner;
mod ports;
mod reserve;
mod routes;

use std::collections::HashSet;
use std::sync::Arc;

use crate::control::node::Node;
pub use crate::control::node::NodeOptions;
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
    node: Option<Node>,
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
            node: None,
            compiled: None,
            generation: 0,
            problems: Vec::new(),
        }
    }

    /// Also looks after the node: addresses that no interface has, and node ports that outgoing connections may take.
    /// Without it these are nobody's business.
    #[must_use]
    pub fn with_node(self, options: NodeOptions) -> Self {
        Self { node: Some(Node::new(options)), ..self }
    }

    /// The node's interfaces, addresses or routes have changed. Gives the problems that were not there before.
    pub fn look_again(&mut self) -> Vec<Problem> {
        self.node.iter_mut().for_each(Node::look_again);
        self.new_problems()
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
        if let Some(node) = &mut self.node {
            node.follow(&compiled.changes, &compiled.frontends);
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
        self.node.iter_mut().for_each(Node::retry);
        self.new_problems()
    }

    /// Whether [`Control::retry`] has something to do.
    pub fn waiting(&self) -> bool {
        self.reservations.waiting() || self.node.as_ref().is_some_and(Node::waiting)
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
        let now: Vec<Problem> = {
            let of_node = self.node.iter().flat_map(Node::problems);
            compiled.chain(self.reservations.problems()).chain(of_node).cloned().collect()
        };
        let before: HashSet<String> = self.problems.iter().map(Problem::to_string).collect();
        let new = now.iter().filter(|problem| !before.contains(&problem.to_string())).cloned().collect();
        self.problems = now;
        new
    }
}

#[cfg(test)]
mod tests;
