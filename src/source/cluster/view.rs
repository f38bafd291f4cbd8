//! What is known of a cluster, and the [`World`] that follows from it. Only what a change touches is made
//! anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::object::{NodeObject, ServiceObject, SliceObject};
use super::table::Table;
use super::{Kind, Settings, Taken, via};
use crate::k8s::field::FieldProblem;
use crate::k8s::model::{EndpointSlice, Node, Service, World};
use crate::k8s::node::LiveNode;
use crate::k8s::resource::Resource;
use crate::limits;
use crate::problem::Problem;
use crate::types::NamespacedName;

/// See the module.
pub(super) struct View {
    settings: Settings,
    pub(super) services: Table<ServiceObject>,
    pub(super) slices: Table<SliceObject>,
    pub(super) nodes: Table<NodeObject>,
    slices_of: HashMap<NamespacedName, BTreeSet<NamespacedName>>,
    problems: BTreeMap<(Kind, NamespacedName), Vec<Problem>>,
    world: World,
    /// Since the last [`View::take`].
    pub(super) triggers: Vec<f64>,
    pending: [u64; 2],
    own_node_seen: bool,
}

// === impl View ===

impl View {
    pub(super) fn new(settings: Settings) -> Self {
        let node = Node { name: settings.node_name.clone(), ..Node::default() };
        Self {
            settings,
            services: Table::default(),
            slices: Table::default(),
            nodes: Table::default(),
            slices_of: HashMap::new(),
            problems: BTreeMap::new(),
            world: World { node: Arc::new(node), ..World::default() },
            triggers: Vec::new(),
            pending: [0; 2],
            own_node_seen: false,
        }
    }

    /// What there is now. Sharing it is cheap.
    pub(super) fn take(&mut self) -> Taken {
        self.pending = [0; 2];
        Taken {
            world: self.world.clone(),
            problems: self.problems.values().flatten().chain(&self.node_missing()).cloned().collect(),
            triggers: std::mem::take(&mut self.triggers),
        }
    }

    pub(super) fn pending(&self) -> [u64; 2] {
        self.pending
    }

    /// As kube-proxy tells load balancers: a Node that was there and is gone, or is about to go, gets nothing.
    pub(super) fn node_eligible(&self) -> bool {
        self.own_node().map_or(!self.own_node_seen, |node| node.eligible)
    }

    /// The uid of an object, for Events of it; empty where it is not known.
    pub(super) fn uid(&self, resource: Resource, key: &NamespacedName) -> Arc<str> {
        let uid = match resource {
            Resource::Services => self.services.get(key).map(|held| &held.uid),
            Resource::EndpointSlices => self.slices.get(key).map(|held| &held.uid),
            // What describes a Node looks for Events with its name here.
            Resource::Nodes => Some(&key.name),
            _ => None,
        };
        uid.cloned().unwrap_or_default()
    }

    /// Remembers what is wrong with an object.
    pub(super) fn note(&mut self, kind: Kind, key: &NamespacedName, found: Vec<FieldProblem>) {
        let at = (kind, key.clone());
        if found.is_empty() {
            self.problems.remove(&at);
            return;
        }
        let name = if key.namespace.is_empty() { key.name.to_string() } else { key.to_string() };
        let object = format!("{} {name}", kind.name());
        let told = found.into_iter().take(limits::PROBLEMS_PER_OBJECT);
        let told = told.map(|problem| Problem { object: Some(object.clone()), ..problem.into() });
        self.problems.insert(at, told.collect());
    }

    // === What has changed ===

    pub(super) fn service_changed(&mut self, key: &NamespacedName) {
        let [services, _] = &mut self.pending;
        *services += 1;
        self.refresh(key);
    }

    pub(super) fn slice_changed(&mut self, key: &NamespacedName, old: Option<Arc<EndpointSlice>>) {
        let [_, slices] = &mut self.pending;
        *slices += 1;
        let new = self.slices.get(key);
        if let Some(time) = new.and_then(|new| new.triggered) {
            self.triggers.push(time);
        }
        let new = new.and_then(|new| new.slice.clone());
        let (was, is) = (old.map(|slice| slice.service.clone()), new.map(|slice| slice.service.clone()));
        if was != is
            && let Some(was) = &was
        {
            if let Some(slices) = self.slices_of.get_mut(was) {
                slices.remove(key);
                if slices.is_empty() {
                    self.slices_of.remove(was);
                }
            }
            self.refresh(was);
        }
        if let Some(is) = is {
            self.slices_of.entry(is.clone()).or_default().insert(key.clone());
            self.refresh(&is);
        }
    }

    pub(super) fn node_changed(&mut self, key: &NamespacedName) {
        if key.name == self.settings.node_name {
            let own = self.own_node().map(|own| own.node.clone());
            self.own_node_seen |= own.is_some();
            let nothing_known = Node { name: self.settings.node_name.clone(), ..Node::default() };
            let node = own.unwrap_or(nothing_known);
            if *self.world.node != node {
                self.world.node = Arc::new(node);
            }
        }
        if self.settings.via_node_ports {
            let services: Vec<NamespacedName> = self.services.iter().map(|(key, _)| key.clone()).collect();
            services.iter().for_each(|service| self.refresh(service));
        }
    }

    // === What follows ===

    /// Makes what the world has of one Service anew; what comes out the same stays the same.
    fn refresh(&mut self, key: &NamespacedName) {
        let service = self.proxied(key).cloned();
        let (service, slices) = match service {
            Some(service) if self.settings.via_node_ports => self.through_nodes(&service),
            service => (service, self.slices_of(key).cloned().collect()),
        };
        match service {
            None => drop(self.world.services.remove(key)),
            Some(service) => {
                if self.world.services.get(key).is_none_or(|old| !Arc::ptr_eq(old, &service)) {
                    self.world.services.insert(key.clone(), service);
                }
            }
        }
        let old = self.world.slices.get(key);
        let same = old.map_or(slices.is_empty(), |old| {
            old.len() == slices.len() && old.iter().zip(&slices).all(|(old, new)| Arc::ptr_eq(old, new))
        });
        if slices.is_empty() {
            self.world.slices.remove(key);
        } else if !same {
            self.world.slices.insert(key.clone(), slices.into_iter().collect());
        }
    }

    /// The Service, if it is one for this process.
    fn proxied(&self, key: &NamespacedName) -> Option<&Arc<Service>> {
        let held = self.services.get(key)?;
        (held.proxy_name.as_deref() == self.settings.proxy_name.as_deref())
            .then_some(held.service.as_ref())?
    }

    fn slices_of(&self, service: &NamespacedName) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(name)?.slice.as_ref())
    }

    /// The names of the slices of a Service.
    pub(super) fn slice_names(&self, service: &NamespacedName) -> Vec<NamespacedName> {
        self.slices_of.get(service).into_iter().flatten().cloned().collect()
    }

    fn through_nodes(&self, service: &Arc<Service>) -> (Option<Arc<Service>>, Vec<Arc<EndpointSlice>>) {
        let slices: Vec<&EndpointSlice> = self.slices_of(&service.key).map(|slice| &**slice).collect();
        let nodes: Vec<&LiveNode> = self.nodes.iter().filter_map(|(_, held)| held.node.as_deref()).collect();
        let made = via::node_ports(service, &slices, &nodes, self.settings.serve_node_ports);
        // What is equal to what was made before is that.
        let old = self.world.services.get(&service.key).filter(|old| ***old == made.service);
        let made_service = old.cloned().unwrap_or_else(|| Arc::new(made.service));
        let before = self.world.slices.get(&service.key);
        let made_slices = made.slices.into_iter().map(|slice| {
            let same = before.into_iter().flatten().find(|old| ***old == slice);
            same.cloned().unwrap_or_else(|| Arc::new(slice))
        });
        (Some(made_service), made_slices.collect())
    }

    fn own_node(&self) -> Option<&LiveNode> {
        let key = NamespacedName::new("", self.settings.node_name.clone());
        self.nodes.get(&key)?.node.as_deref()
    }

    /// Without its Node, nothing is local to this process and nothing in its zone.
    fn node_missing(&self) -> Option<Problem> {
        let missing = !self.settings.via_node_ports && self.own_node().is_none();
        missing.then(|| Problem {
            object: Some(format!("Node {}", self.settings.node_name)),
            hint: Some("--node-name says which Node this is".to_owned()),
            ..Problem::warning("there is no such Node, so its zone is unknown")
        })
    }
}
