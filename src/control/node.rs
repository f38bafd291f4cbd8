//! What control changes on the node itself, and takes back: routes that make traffic arrive, and ports that the
//! kernel must leave alone.

use std::sync::Arc;

use crate::control::ports::NodePorts;
use crate::control::routes::LocalRoutes;
use crate::problem::Problem;
use crate::route::frontends::Settled;
use crate::route::snapshot::{Frontend, FrontendKey};

/// What control may change on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// `--manage-addresses`: make local routes for served addresses that no interface has.
    pub manage_addresses: bool,
    /// `--reserve-ports`: put node ports into net.ipv4.ip_local_reserved_ports.
    pub reserve_ports: bool,
}

/// See the module. Dropping it takes back what it has changed.
pub(super) struct Node {
    routes: LocalRoutes,
    ports: NodePorts,
}

impl Node {
    pub(super) fn new(options: NodeOptions) -> Self {
        Self {
            routes: LocalRoutes::new(options.manage_addresses),
            ports: NodePorts::new(options.reserve_ports),
        }
    }

    /// Prepares the node for frontends that are about to be published.
    pub(super) fn follow(&mut self, changes: &Settled, frontends: &imbl::OrdMap<FrontendKey, Arc<Frontend>>) {
        let served = changes.added.iter().chain(&changes.updated).filter_map(|key| frontends.get(key));
        for frontend in served {
            self.routes.serve(frontend);
            self.ports.serve(frontend);
        }
        for key in &changes.removed {
            self.routes.give_up(key);
            self.ports.give_up(key);
        }
        self.routes.settle();
        self.ports.settle();
    }

    /// The node's interfaces, addresses or routes may be others now.
    pub(super) fn look_again(&mut self) {
        self.routes.look_again();
        self.ports.look_again();
    }

    /// Tries again what could not be done, and takes back what nothing uses any more.
    pub(super) fn retry(&mut self) {
        self.routes.retry();
        self.ports.retry();
    }

    pub(super) fn waiting(&self) -> bool {
        self.routes.waiting() || self.ports.waiting()
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.routes.problems().iter().chain(self.ports.problem())
    }
}
