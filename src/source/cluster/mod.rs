//! The objects of a real API server: listed, watched, and kept.
//!
//! - W1 nothing is given out before every kind has been listed once.
//! - W2 a watch that ends is resumed where it ended; where the server no longer knows that place (410), or
//!   what it sends is out of order, everything is listed again.
//! - W3 a list is compared with what is known: what is missing is gone, what is equal keeps its `Arc`.
//! - W4 a list that has lost everything, or most of much, is believed when a second one, some time later and
//!   not from a cache, says the same. Until then the last state holds.
//! - W5 a stream on which nothing comes, not even a bookmark, is dropped and resumed.
//! - W6 whatever fails is tried again, ever more rarely and never in step with others; meanwhile the last
//!   state holds, and its age is told.
//! - W7 an object that cannot be read is left out and told; it costs nothing but itself.
//! - W8 an event about an object that is older than what is known of it changes nothing.
//!
//! Everything runs on the control thread.

mod backoff;
mod connect;
mod events;
mod object;
mod reflector;
mod suspicion;
mod table;
mod via;
mod view;
mod wire;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::k8s::model::World;
use crate::k8s::service::PROXY_NAME_LABEL;
use crate::k8s::slice::HEADLESS_LABEL;
use crate::limits;
use crate::problem::Problem;
use crate::types::NamespacedName;
use events::Events;
use object::{NodeObject, ServiceObject, SliceObject};
use view::View;
use wire::Query;

pub use connect::{Access, ConnectError, Link};

/// What of a cluster is taken over.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// This node: decides what is local.
    pub node_name: Arc<str>,
    /// Only Services with this value of the label [`PROXY_NAME_LABEL`]; where it is `None`, only those
    /// without the label.
    pub proxy_name: Option<String>,
    /// Whether this process is outside the cluster and reaches pods through node ports.
    pub via_node_ports: bool,
    /// Whether it then serves these node ports too, not only external addresses.
    pub serve_node_ports: bool,
}

/// How long things may take. The default is for clusters.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// An answer, or a page of a list.
    pub request: Duration,
    /// A watch on which nothing comes.
    pub silence: Duration,
    /// Before a list that has lost too much is asked for again.
    pub doubt: Duration,
    /// Between two whole lists, though nothing asks for one.
    pub relist: Duration,
    /// The first pause after a failure; each that follows is twice as long.
    pub backoff: Duration,
    /// The longest.
    pub backoff_max: Duration,
    /// Between two looks at the slices of one Service that somebody doubts.
    pub recheck: Duration,
    /// Before a problem that is still there is told again.
    pub tell_again: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            request: limits::API_REQUEST_TIME,
            silence: limits::WATCH_SILENCE,
            doubt: limits::LIST_DOUBT,
            relist: limits::RELIST_INTERVAL,
            backoff: limits::API_BACKOFF,
            backoff_max: limits::API_BACKOFF_MAX,
            recheck: limits::RECHECK_INTERVAL,
            tell_again: limits::EVENT_AGAIN,
        }
    }
}

/// The kinds that are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 Service
    Services,
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlices,
    /// v1 Node: this one, or all of them where pods are reached through node ports.
    Nodes,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Services, Self::EndpointSlices, Self::Nodes];

    /// As in paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
        }
    }

    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "Service",
            Self::EndpointSlices => "EndpointSlice",
            Self::Nodes => "Node",
        }
    }
}

/// How it stands with one kind.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The kind.
    pub kind: Kind,
    /// Since the API server was last heard of it; `None` before the first list.
    pub age: Option<Duration>,
    /// Why it cannot be heard now.
    pub failing: Option<String>,
    /// Whole lists that were taken over.
    pub lists: u64,
    /// Watches that were begun.
    pub watches: u64,
    /// Requests and streams that failed, or were dropped because nothing came.
    pub failures: u64,
    /// Changes that nobody has taken.
    pub pending: u64,
}

/// What has been taken over, for whoever compiles it.
#[derive(Debug)]
pub struct Taken {
    /// The objects.
    pub world: World,
    /// What is wrong with some of them.
    pub problems: Vec<Problem>,
    /// When the changes of slices in it came about, in seconds since 1970, of those that say so.
    pub triggers: Vec<f64>,
}

/// An API server that is followed. Dropping it ends that.
pub struct Cluster {
    shared: Rc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the tasks share.
struct Shared {
    link: Link,
    timing: Timing,
    settings: Settings,
    view: RefCell<View>,
    follows: [Follow; 3],
    changed: Arc<Notify>,
    /// Services whose slices somebody doubts.
    doubts: RefCell<Vec<NamespacedName>>,
    doubted: Notify,
    events: Events,
}

/// See [`Standing`].
#[derive(Default)]
struct Follow {
    heard: Cell<Option<Instant>>,
    failing: RefCell<Option<String>>,
    lists: Cell<u64>,
    watches: Cell<u64>,
    failures: Cell<u64>,
}

// === impl Cluster ===

impl Cluster {
    /// Begins to follow. `changed` is notified when [`Cluster::take`] has something new. Needs a
    /// `tokio::task::LocalSet`.
    pub fn start(link: Link, settings: Settings, timing: Timing, changed: Arc<Notify>) -> Self {
        let shared = Rc::new(Shared {
            link,
            timing,
            view: RefCell::new(View::new(settings.clone())),
            settings,
            follows: Default::default(),
            changed,
            doubts: RefCell::default(),
            doubted: Notify::new(),
            events: Events::default(),
        });
        let [services, slices, nodes] = queries(&shared.settings);
        let mut tasks = vec![
            tokio::task::spawn_local(reflector::follow::<ServiceObject>(shared.clone(), services)),
            tokio::task::spawn_local(reflector::follow::<SliceObject>(shared.clone(), slices)),
            tokio::task::spawn_local(reflector::follow::<NodeObject>(shared.clone(), nodes)),
            tokio::task::spawn_local(suspicion::recheck(shared.clone())),
        ];
        // From outside, what is wrong is wrong with that machine, and no concern of the cluster's.
        if !shared.settings.via_node_ports {
            tasks.push(tokio::task::spawn_local(events::tell(shared.clone())));
        }
        Self { shared, tasks }
    }

    /// Whether every kind has been listed (W1).
    pub fn listed(&self) -> bool {
        self.shared.listed()
    }

    /// What there is now; `None` before every kind has been listed (W1).
    pub fn take(&self) -> Option<Taken> {
        self.listed().then(|| self.shared.view.borrow_mut().take())
    }

    /// Whether load balancers should send traffic to this node: it exists and is not about to go.
    pub fn node_eligible(&self) -> bool {
        self.shared.view.borrow().node_eligible()
    }

    /// How it stands with each kind.
    pub fn standings(&self) -> Vec<Standing> {
        Kind::ALL.map(|kind| self.shared.standing(kind)).into()
    }

    /// Connections to an endpoint of this Service keep failing: its slices may be old. They are listed
    /// anew, but not often.
    pub fn doubt(&self, service: NamespacedName) {
        let mut doubts = self.shared.doubts.borrow_mut();
        if doubts.len() < limits::DOUBTS && !doubts.contains(&service) {
            doubts.push(service);
            self.shared.doubted.notify_one();
        }
    }

    /// This is wrong now, and nothing else: of objects, it becomes Events of them.
    pub fn report(&self, problems: &[Problem]) {
        self.shared.events.set(problems);
    }

    /// Something that tells how it stands, for as long as it is kept.
    pub fn observer(&self) -> impl Fn() -> Vec<Standing> + use<> {
        let shared = self.shared.clone();
        move || Kind::ALL.map(|kind| shared.standing(kind)).into()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What is asked for of each kind. The selectors are kube-proxy's.
fn queries(settings: &Settings) -> [Query; 3] {
    let proxy = match &settings.proxy_name {
        Some(name) => format!("{PROXY_NAME_LABEL}={name}"),
        None => format!("!{PROXY_NAME_LABEL}"),
    };
    let own_node = format!("metadata.name={}", settings.node_name);
    [
        Query { path: "/api/v1/services".into(), labels: Some(proxy), fields: None },
        Query {
            path: "/apis/discovery.k8s.io/v1/endpointslices".into(),
            labels: Some(format!("!{HEADLESS_LABEL}")),
            fields: None,
        },
        Query {
            path: "/api/v1/nodes".into(),
            labels: None,
            fields: (!settings.via_node_ports).then_some(own_node),
        },
    ]
}

// === impl Shared ===

impl Shared {
    fn follow(&self, kind: Kind) -> &Follow {
        let [services, slices, nodes] = &self.follows;
        match kind {
            Kind::Services => services,
            Kind::EndpointSlices => slices,
            Kind::Nodes => nodes,
        }
    }

    fn listed(&self) -> bool {
        self.follows.iter().all(|follow| follow.lists.get() > 0)
    }

    fn standing(&self, kind: Kind) -> Standing {
        let follow = self.follow(kind);
        Standing {
            kind,
            age: follow.heard.get().map(|heard| heard.elapsed()),
            failing: follow.failing.borrow().clone(),
            lists: follow.lists.get(),
            watches: follow.watches.get(),
            failures: follow.failures.get(),
            pending: self.pending(kind),
        }
    }

    fn pending(&self, kind: Kind) -> u64 {
        let [services, slices] = self.view.borrow().pending();
        match kind {
            Kind::Services => services,
            Kind::EndpointSlices => slices,
            Kind::Nodes => 0,
        }
    }

    /// Tells whoever compiles, once there is all that it needs.
    fn tell(&self) {
        if self.listed() {
            self.changed.notify_one();
        } else {
            // Nobody takes anything yet, and nobody was served when these came about.
            self.view.borrow_mut().triggers.clear();
        }
    }
}

// === impl Follow ===

impl Follow {
    /// The server has said something.
    fn heard(&self) {
        self.heard.set(Some(Instant::now()));
        self.failing.replace(None);
    }

    /// It could not be asked. What is known stays as it is.
    fn failed(&self, kind: Kind, why: &str) {
        self.failures.set(self.failures.get() + 1);
        let before = self.failing.replace(Some(why.to_owned()));
        if before.as_deref() != Some(why) {
            tracing::warn!(
                "{} of the API server: {why}; what is known of them stays in force",
                kind.plural()
            );
        }
    }
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

#[cfg(test)]
mod tests;
