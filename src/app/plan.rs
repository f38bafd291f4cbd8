//! How many sessions are admitted: `--max-connections`, or what the open files leave room for.

use crate::admin::State;
use crate::config::Config;
use crate::net::machine::{self, Facts};
use crate::problem::Problem;

/// Follows what is served: each frontend takes descriptors that sessions then lack.
pub(super) struct Plan {
    wanted: Option<u32>,
    nofile: u64,
    splice: bool,
    told: Option<Problem>,
}

impl Plan {
    pub(super) fn new(config: &Config, facts: &Facts) -> Self {
        Self { wanted: config.max_connections, nofile: facts.nofile, splice: config.splice, told: None }
    }

    /// Puts in force what follows from the snapshot, and says once what is wrong with it.
    pub(super) fn apply(&mut self, state: &State) {
        let plane = &state.plane;
        let frontends = plane.snapshot.load().frontends().len();
        let planned = machine::plan_connections(self.nofile, plane.shards(), frontends, self.splice);
        let most = self.wanted.unwrap_or(planned);
        plane.set_max_connections(u64::from(most));
        state.set_max_connections(most);
        let problem = machine::check_files(self.nofile, self.wanted, planned);
        if let Some(problem) = &problem
            && self.told.is_none()
        {
            tracing::warn!("{problem}");
        }
        self.told = problem;
    }
}
