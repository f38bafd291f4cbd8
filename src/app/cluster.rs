//! Serving a cluster: its API server instead of files.
//!
//! ```text
//! start   credentials → admin → every kind listed once → first snapshot → shards → serve
//! ```
//!
//! While the API server is not there, the process waits, answers /livez, and is not ready.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use super::access_log::AccessLog;
use super::addresses::Addresses;
use super::client_address::ClientAddress;
use super::feed::{moved, time_until_applied};
use super::logging::Reporter;
use super::plan::Plan;
use super::{Asked, Error, Signals, Watched};
use crate::admin::{Seen, ServiceHealth, State, ViewStanding};
use crate::config::Config;
use crate::control::Control;
use crate::limits;
use crate::net::machine::{self, Facts};
use crate::problem::Problem;
use crate::route::compile::CompileOptions;
use crate::route::plane::Plane;
use crate::shard;
use crate::source::cluster::{Access, Cluster, Link, Settings, Timing};
use crate::types::NamespacedName;

/// Serves the Services of a cluster until a signal ends it.
pub fn serve_cluster(config: &Config) -> Result<(), Error> {
    let facts = super::able()?;
    tokio_uring::start(control(config, &facts))
}

/// The control thread's whole life.
async fn control(config: &Config, facts: &Facts) -> Result<(), Error> {
    // First, so that a signal during the start is not lost, and leaves nothing behind.
    let mut signals = Signals::new().map_err(Error::Signals)?;
    // It outlives the sessions: they need it.
    let mut clients = ClientAddress::set_up(config);
    let link = Link::new(access(config)).await?;
    let granted = std::thread::available_parallelism().map_or(1, usize::from);
    let placement = super::shards::placement(config, &super::shards::cores(), granted);
    let plane = Arc::new(Plane::new(placement.len()));
    let state = Rc::new(State::new(plane.clone()));
    let changes = Arc::new(Notify::new());
    let cluster = Cluster::start(link, settings(config), Timing::default(), changes.clone());
    let addresses = Addresses::follow(config);
    let mut feed = ClusterFeed::new(cluster, config, facts, &clients, &state);
    super::start_admin(config, &state)?;
    if !feed.first(&changes, &mut signals).await {
        return Ok(());
    }
    let log = match &config.access_log {
        Some(path) => Some(super::open_access_log(path, &state)?),
        None => None,
    };
    let options = super::shards::options(config, placement, facts);
    let options = shard::Options { transparent: clients.families(), ..options };
    let mut ended = super::when_ended(shard::start(&options, &plane)?);
    state.on_shards_started();
    let failed = match super::until_applied(&plane, &mut ended).await {
        Some(error) => Some(error),
        None => {
            super::tell(config, &state);
            let node = Watched { addresses, clients: &mut clients };
            feed.run(&changes, node, &mut signals, &mut ended, log.as_ref()).await
        }
    };
    let result = match failed {
        Some(error) => Err(Error::Shards(error)),
        None => super::drain(config, &plane, &mut signals, &mut ended).await,
    };
    if let Some(log) = log {
        log.finish().await;
    }
    result
}

fn access(config: &Config) -> Access {
    match &config.kubeconfig {
        Some(path) => Access::Kubeconfig(path.into()),
        None => Access::InCluster,
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        node_name: config.node_name.clone().unwrap_or_else(machine::hostname).into(),
        proxy_name: config.service_proxy_name.clone(),
        via_node_ports: config.via_node_port,
        serve_node_ports: config.via_node_ports,
    }
}

/// All that turns what an API server says into snapshots.
struct ClusterFeed {
    cluster: Cluster,
    control: Control,
    state: Rc<State>,
    reporter: Reporter,
    plan: Plan,
    health: ServiceHealth,
    /// What is wrong with objects.
    wrong: Vec<Problem>,
    /// Services with an endpoint to which connections keep failing.
    doubts: mpsc::Receiver<NamespacedName>,
}

impl ClusterFeed {
    fn new(
        cluster: Cluster,
        config: &Config,
        facts: &Facts,
        clients: &ClientAddress,
        state: &Rc<State>,
    ) -> Self {
        let plane = &state.plane;
        let (doubt, doubts) = mpsc::channel(limits::DOUBTS);
        // Where there is no room, others say the same.
        plane.set_on_doubt(move |service| drop(doubt.try_send(service.clone())));
        let observer = cluster.observer();
        state.set_view(move || observer().into_iter().map(standing).collect());
        let options = CompileOptions { not_transparent: clients.why_not(), ..super::compile_options(config) };
        let health = ServiceHealth::new(state.clone(), options.nodeport_addresses.clone());
        let control = Control::new(plane.clone(), options).with_node(super::node_options(config));
        Self {
            cluster,
            control,
            state: state.clone(),
            reporter: Reporter::default(),
            plan: Plan::new(config, facts),
            health,
            wrong: Vec::new(),
            doubts,
        }
    }

    /// Waits for the first list of every kind and puts it in force; false where a signal came first.
    async fn first(&mut self, changes: &Notify, signals: &mut Signals) -> bool {
        tracing::info!("waiting for the API server to list its objects");
        while !self.cluster.listed() {
            tokio::select! {
                asked = signals.next() => if matches!(asked, Asked::Stop) { return false },
                () = changes.notified() => {}
            }
        }
        self.reload();
        true
    }

    /// Serves until a signal asks for the end, or a shard fails.
    async fn run(
        &mut self,
        changes: &Notify,
        mut node: Watched<'_>,
        signals: &mut Signals,
        ended: &mut oneshot::Receiver<std::io::Result<()>>,
        log: Option<&AccessLog>,
    ) -> Option<std::io::Error> {
        loop {
            let waiting = self.control.waiting() || self.health.waiting();
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => return None,
                    Asked::Reopen => log.into_iter().for_each(AccessLog::reopen),
                },
                result = &mut *ended => return Some(super::why_ended(result)),
                () = changes.notified() => self.reload(),
                found = node.addresses.next() => {
                    node.clients.repair();
                    if moved(&mut self.control, &mut self.health, found) {
                        self.reload();
                    }
                    self.look_again();
                }
                Some(service) = self.doubts.recv() => self.cluster.doubt(service),
                () = tokio::time::sleep(limits::RETRY_INTERVAL), if waiting => self.retry(),
            }
        }
    }

    /// Puts what has changed in force.
    fn reload(&mut self) {
        self.state.on_queued(Seen::now());
        let (began, before) = (crate::clock::now_micros(), self.control.generation());
        let Some(taken) = self.cluster.take() else { return };
        self.state.set_node_eligible(self.cluster.node_eligible());
        let known: HashSet<String> = self.wrong.iter().map(Problem::to_string).collect();
        let mut new = taken.problems.clone();
        new.retain(|problem| !known.contains(&problem.to_string()));
        self.wrong = taken.problems;
        new.extend(self.control.apply(taken.world));
        self.finish(&new, taken.triggers, before, began);
    }

    /// The node has other addresses: one that is served may be among them now, or no more.
    fn look_again(&mut self) {
        let (began, before) = (crate::clock::now_micros(), self.control.generation());
        let new = self.control.look_again();
        self.finish(&new, Vec::new(), before, began);
    }

    /// Tries again what could not be done before.
    fn retry(&mut self) {
        let (began, before) = (crate::clock::now_micros(), self.control.generation());
        let new = self.control.retry();
        self.finish(&new, Vec::new(), before, began);
    }

    fn finish(&mut self, new: &[Problem], triggers: Vec<f64>, before: u64, began: u64) {
        self.reporter.report(new, crate::clock::now());
        let unheard = self.control.health_checks().map(|checks| self.health.sync(checks));
        self.reporter.report(&unheard.unwrap_or_default(), crate::clock::now());
        let problems = self.wrong.iter().chain(self.control.problems()).chain(self.health.problems());
        let problems: Vec<Problem> = problems.cloned().collect();
        self.cluster.report(&problems);
        self.state.on_compiled(self.control.counts());
        self.state.on_synced(Seen::now(), problems, 0);
        let generation = self.control.generation();
        if generation != before {
            self.plan.apply(&self.state);
            let waiting = time_until_applied(self.state.clone(), generation, began, triggers);
            tokio::task::spawn_local(waiting);
        }
    }
}

fn standing(standing: crate::source::cluster::Standing) -> ViewStanding {
    ViewStanding {
        kind: standing.kind.plural(),
        age: standing.age,
        failing: standing.failing,
        lists: standing.lists,
        watches: standing.watches,
        failures: standing.failures,
        pending: standing.pending,
    }
}
