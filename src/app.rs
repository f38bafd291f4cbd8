//! Wires everything: the order of start, drain and stop.
//!
//! ```text
//! start   what the machine allows → API's address → manifests → first snapshot → shards → admin → API → serve
//! drain   SIGTERM or SIGINT: not ready, accept nothing new, wait for sessions
//! stop    sessions over, --drain-timeout passed, or a second signal: cut what is left
//! ```
//!
//! The calling thread becomes the control thread. If it stalls, the shards go on.
#![forbid(unsafe_code)]

mod access_log;
mod addresses;
mod client_address;
mod cluster;
mod feed;
pub mod logging;
mod plan;
pub mod served;
mod serving;
mod shards;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use crate::admin::{self, ServiceHealth, State};
use crate::api::{self, Hub};
use crate::config::{ApiAddress, Config, print_duration};
use crate::control::{Control, NodeOptions};
use crate::limits;
use crate::net::machine::{self, Facts};
use crate::problem::{Problem, Severity};
use crate::route::compile::CompileOptions;
use crate::route::permits::Permits;
use crate::route::plane::{Phase, Plane};
use crate::route::port::PortSettings;
use crate::shard;
use crate::source::cluster::ConnectError;
use crate::source::manifests::{Input, Manifests};
use crate::store::{self, Store};
use access_log::AccessLog;
use addresses::Addresses;
use client_address::ClientAddress;
pub use cluster::serve_cluster;
use feed::Feed;
use plan::Plan;

/// Why the program ends before it is asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something about this machine, each with its fix.
    #[error("ringport cannot run here:{}", list(.0))]
    Machine(Vec<Problem>),
    /// The manifests cannot be watched.
    #[error("the manifests cannot be watched: {0}")]
    Watch(Box<Problem>),
    /// The data plane could not start.
    #[error("the data plane cannot start")]
    Start(#[from] shard::StartError),
    /// A shard ended by itself.
    #[error("the data plane has failed")]
    Shards(#[source] io::Error),
    /// An admin address cannot be bound, and --bind-address-hard-fail says that this matters.
    #[error("--{option} {address} cannot be bound")]
    Admin {
        /// The option.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        reason: io::Error,
    },
    /// The API cannot be served.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// The objects of the API cannot be kept, or those from before not be read.
    #[error("--state-dir: {0}")]
    State(Box<Problem>),
    /// The access log cannot be opened.
    #[error("--access-log {path} cannot be opened")]
    AccessLog {
        /// The file.
        path: String,
        /// Why.
        #[source]
        reason: io::Error,
    },
    /// There is no way to the API server.
    #[error(transparent)]
    Cluster(#[from] ConnectError),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Serves until a signal ends it. `on_serving` is called once, when everything has started.
pub fn serve(
    config: &Config,
    inputs: Vec<Input>,
    on_serving: impl FnOnce(&State, &Store),
) -> Result<(), Error> {
    let facts = able()?;
    tokio_uring::start(control(config, &facts, inputs, on_serving))
}

/// Finds out whether this machine can do it.
fn able() -> Result<Facts, Error> {
    let facts = Facts::gather();
    let found = machine::check(&facts);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|problem| problem.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(Error::Machine(errors));
    }
    let mut reporter = logging::Reporter::default();
    reporter.report(&warnings, crate::clock::now());
    Ok(facts)
}

/// The control thread's whole life.
async fn control(
    config: &Config,
    facts: &Facts,
    inputs: Vec<Input>,
    on_serving: impl FnOnce(&State, &Store),
) -> Result<(), Error> {
    // First, so that a signal during the start is not lost, and leaves nothing behind.
    let mut signals = Signals::new().map_err(Error::Signals)?;
    // It outlives the sessions: they need it.
    let mut clients = ClientAddress::set_up(config);
    let granted = std::thread::available_parallelism().map_or(1, usize::from);
    let placement = shards::placement(config, &shards::cores(), granted);
    let plane = Arc::new(Plane::new(placement.len()));
    let state = Rc::new(State::new(plane.clone()));

    // Before anything is served, so that no Service gets its address.
    let server = config.api.as_ref().map(|address| api::Server::bind(config, address)).transpose()?;

    // The files are watched before they are read, so that no change is missed.
    let manifests = Manifests::new(inputs);
    let changes = Arc::new(Notify::new());
    let changed = changes.clone();
    let _watch =
        manifests.watch(move || changed.notify_one()).map_err(|problem| Error::Watch(Box::new(problem)))?;
    let addresses = Addresses::follow(config);
    let options = CompileOptions { not_transparent: clients.why_not(), ..compile_options(config) };
    let health = ServiceHealth::new(state.clone(), options.nodeport_addresses.clone());
    let control = Control::new(plane.clone(), options).with_node(node_options(config));
    let plan = Plan::new(config, facts);
    let hub = Rc::new(Hub::new(serving::open_store(config)?));
    let mut feed = Feed::new(manifests, hub.clone(), control, state.clone(), plan, health);
    feed.reload();

    let log = match &config.access_log {
        Some(path) => Some(open_access_log(path, &state)?),
        None => None,
    };
    let options = shards::options(config, placement, facts);
    let options = shard::Options { transparent: clients.families(), ..options };
    let shards = shard::start(&options, &plane)?;
    state.on_shards_started();
    let mut ended = when_ended(shards);
    start_admin(config, &state)?;
    let failed = match until_applied(&plane, &mut ended).await {
        Some(error) => Some(error),
        None => {
            if let Some(server) = server {
                serving::start(server, &hub, &state);
            }
            tell(config, &state);
            hub.read(|store| on_serving(&state, store));
            let node = Watched { addresses, clients: &mut clients };
            run(&mut feed, &changes, node, &mut signals, &mut ended, log.as_ref()).await
        }
    };
    let result = match failed {
        Some(error) => Err(Error::Shards(error)),
        None => drain(config, &plane, &mut signals, &mut ended).await,
    };
    if let Some(log) = log {
        log.finish().await;
    }
    result
}

/// What others may change on the node.
struct Watched<'a> {
    addresses: Addresses<'a>,
    clients: &'a mut ClientAddress,
}

/// Waits until every shard listens as the first snapshot says, or one fails.
async fn until_applied(plane: &Plane, ended: &mut oneshot::Receiver<io::Result<()>>) -> Option<io::Error> {
    while plane.applied() == 0 {
        tokio::select! {
            result = &mut *ended => return Some(why_ended(result)),
            () = tokio::time::sleep(limits::APPLY_LOOK) => {}
        }
    }
    None
}

/// Serves until a signal asks for the end, or a shard fails.
async fn run(
    feed: &mut Feed,
    changes: &Notify,
    mut node: Watched<'_>,
    signals: &mut Signals,
    ended: &mut oneshot::Receiver<io::Result<()>>,
    log: Option<&AccessLog>,
) -> Option<io::Error> {
    let hub = feed.hub.clone();
    loop {
        let waiting = feed.waiting();
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return None,
                Asked::Reopen => log.into_iter().for_each(AccessLog::reopen),
            },
            result = &mut *ended => return Some(why_ended(result)),
            () = changes.notified() => {
                settle(changes).await;
                feed.reload();
            }
            () = hub.changed() => feed.follow(),
            () = tokio::time::sleep_until(feed.report_at()) => feed.report(),
            found = node.addresses.next() => {
                node.clients.repair();
                feed.move_node_ports(found);
                feed.look_again();
            }
            () = tokio::time::sleep(limits::RETRY_INTERVAL), if waiting => feed.retry(),
        }
    }
}

/// Waits until no further change comes for a moment, so that files which are replaced one after the other
/// count as one change, and one that is moved away and written anew is not seen missing.
async fn settle(changes: &Notify) {
    for _ in 0..limits::CHANGE_PAUSES {
        if tokio::time::timeout(limits::CHANGE_PAUSE, changes.notified()).await.is_err() {
            return;
        }
    }
}

/// Accepts nothing new, waits for sessions, and cuts what is left.
async fn drain(
    config: &Config,
    plane: &Plane,
    signals: &mut Signals,
    ended: &mut oneshot::Receiver<io::Result<()>>,
) -> Result<(), Error> {
    plane.enter(Phase::Drain);
    let sessions = || match plane.stats.iter().map(|shard| shard.active.get()).sum::<u64>() {
        1 => "1 session".to_owned(),
        n => format!("{n} sessions"),
    };
    let limit = config.drain_timeout;
    tracing::info!("draining {}, for {} at most", sessions(), print_duration(limit));
    tokio::select! {
        result = &mut *ended => return result_of(result),
        () = tokio::time::sleep(limit) => tracing::warn!("cutting {}: --drain-timeout has passed", sessions()),
        () = signals.stop() => tracing::warn!("cutting {}: a second signal", sessions()),
    }
    plane.enter(Phase::Stop);
    tokio::select! {
        result = &mut *ended => result_of(result),
        () = tokio::time::sleep(limits::STOP_TIME) => Err(Error::Shards(io::ErrorKind::TimedOut.into())),
    }
}

/// Waits for the shards on a thread of its own.
fn when_ended(shards: shard::Shards) -> oneshot::Receiver<io::Result<()>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || sender.send(shards.join()));
    receiver
}

type Joined = Result<io::Result<()>, oneshot::error::RecvError>;

fn result_of(joined: Joined) -> Result<(), Error> {
    joined.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(Error::Shards)
}

/// Shards that were not asked to end have failed, whatever they say.
fn why_ended(joined: Joined) -> io::Error {
    match joined {
        Ok(Err(error)) => error,
        Ok(Ok(())) => io::Error::other("the shards ended by themselves"),
        Err(error) => io::Error::other(error),
    }
}

/// How the objects are compiled on this machine.
pub fn compile_options(config: &Config) -> CompileOptions {
    CompileOptions {
        nodeport_addresses: addresses::at_start(&config.nodeport_addresses),
        cluster_ips: config.cluster_ips,
        cluster_cidrs: config.cluster_cidr.clone(),
        permits: permits(config),
        defaults: PortSettings {
            max_connections: config.max_connections_per_service,
            max_connections_per_client: config.max_connections_per_client,
            ..PortSettings::default()
        },
        not_transparent: None,
    }
}

/// What is set up on this node.
fn node_options(config: &Config) -> NodeOptions {
    NodeOptions { manage_addresses: config.manage_addresses, reserve_ports: config.reserve_ports }
}

/// Which addresses Services may take: not those that this process is reached at.
fn permits(config: &Config) -> Permits {
    let api = match config.api {
        Some(ApiAddress::Tcp(address)) => Some(address),
        _ => None,
    };
    let own = [
        (api, "api"),
        (config.metrics_bind_address, "metrics-bind-address"),
        (config.healthz_bind_address, "healthz-bind-address"),
    ];
    Permits {
        external_ip_cidrs: config.external_ip_cidrs.clone(),
        status_is_open: config.api.is_some(),
        node: crate::net::addresses::primary(),
        own: own.into_iter().filter_map(|(address, option)| Some((address?, option))).collect(),
    }
}

/// How the stand-alone API server's part is played.
pub fn store_options(config: &Config) -> store::Options {
    store::Options {
        node_port_range: config.service_node_port_range.clone(),
        cluster_ip_range: config.service_cluster_ip_range,
        node_name: config.node_name.clone().unwrap_or_else(machine::hostname).into(),
    }
}

fn open_access_log(path: &str, state: &Rc<State>) -> Result<AccessLog, Error> {
    AccessLog::start(path, &state.plane, state.clone())
        .map_err(|reason| Error::AccessLog { path: path.to_owned(), reason })
}

/// Starts the two HTTP servers. An address that is taken costs only the pages on it, as with kube-proxy,
/// unless --bind-address-hard-fail is given.
fn start_admin(config: &Config, state: &Rc<State>) -> Result<(), Error> {
    if let Some(listener) = bind(config, "metrics-bind-address", config.metrics_bind_address)? {
        tokio::task::spawn_local(admin::serve_metrics(listener, state.clone()));
    }
    if let Some(listener) = bind(config, "healthz-bind-address", config.healthz_bind_address)? {
        tokio::task::spawn_local(admin::serve_health(listener, state.clone()));
    }
    Ok(())
}

fn bind(
    config: &Config,
    option: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<std::net::TcpListener>, Error> {
    let Some(address) = address else { return Ok(None) };
    match admin::bind(address) {
        Ok(listener) => {
            tracing::info!("--{option}: listening on {}", listener.local_addr().unwrap_or(address));
            Ok(Some(listener))
        }
        Err(reason) if config.bind_address_hard_fail => Err(Error::Admin { option, address, reason }),
        Err(reason) => {
            tracing::error!("--{option} {address} cannot be bound, so its pages are missing: {reason}");
            Ok(None)
        }
    }
}

/// Says what is served.
fn tell(config: &Config, state: &State) {
    let snapshot = state.plane.snapshot.load();
    let lines = served::lines(&snapshot);
    for line in lines.iter().take(limits::START_LINES) {
        tracing::info!("serving {line}");
    }
    if lines.len() > limits::START_LINES {
        tracing::info!("and {} more", lines.len() - limits::START_LINES);
    }
    if lines.is_empty() && !config.filenames.is_empty() {
        tracing::warn!(
            "nothing to serve: no Service of these files has a node port or an external IP that can be served"
        );
    }
    let shards = state.plane.shards();
    tracing::info!("ready with {shards} shards for {} sessions", state.max_connections());
}

/// The signals that are listened to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What a signal asks for.
enum Asked {
    /// SIGINT or SIGTERM: the end.
    Stop,
    /// SIGHUP: open the access log again.
    Reopen,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reopen,
        }
    }

    /// Waits for one that asks for the end.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }
}
