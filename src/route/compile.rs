//! Compiling: objects in, frontends and problems out. It costs what changed, not what exists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use imbl::ordmap::DiffItem;
use ipnet::IpNet;

use crate::k8s::model::{EndpointSlice, Node, Service, ServicePort, TrafficPolicy, World};
use crate::metrics::CompileCounts;
use crate::problem::{Problem, Reason};
use crate::route::endpoint::Endpoint;
use crate::route::frontends::{Claim, Claims, permitted, plan};
pub use crate::route::frontends::{CompileOptions, NodePortAddresses, Settled};
use crate::route::local::HealthCheck;
use crate::route::pick::{Affinity, Picker, Targets};
use crate::route::port::{PortRoute, PortSettings, PortState, ProxyRules};
use crate::route::snapshot::{Frontend, FrontendKey, FrontendKind};
use crate::route::sources::Sources;
use crate::route::usable::{Joined, Policies, join, usable};
use crate::types::{EndpointAddr, NamespacedName, Protocol, ServicePortName};

/// Keeps the compiled form of every Service, and compiles again what differs from the last time.
#[derive(Debug)]
pub struct Compiler {
    options: CompileOptions,
    shards: usize,
    world: World,
    services: HashMap<NamespacedName, CompiledService>,
    claims: Claims,
    /// See [`Frontend::pods`].
    pods: Option<Arc<Sources>>,
    /// Of Services that have one.
    problems: BTreeMap<NamespacedName, Vec<Problem>>,
    /// Service ports that are gone, while anything refers to them.
    departed: Vec<Weak<PortState>>,
    health_checks: BTreeMap<NamespacedName, HealthCheck>,
    counts: CompileCounts,
    /// All Services are to be compiled again: the options are others.
    stale: bool,
}

/// The outcome of one compilation.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Every frontend that should be served.
    pub frontends: imbl::OrdMap<FrontendKey, Arc<Frontend>>,
    /// All problems in force, old and new.
    pub problems: Vec<Problem>,
    /// Whether `frontends` differs from the last time.
    pub changed: bool,
    /// In which keys.
    pub changes: Settled,
    /// Service ports that are gone but may have sessions.
    pub departed: Vec<Weak<PortState>>,
    /// What load balancers ask this node about.
    pub health_checks: BTreeMap<NamespacedName, HealthCheck>,
    /// For the metrics.
    pub counts: CompileCounts,
}

#[derive(Debug, Default)]
struct CompiledService {
    ports: Vec<CompiledPort>,
    claims: Vec<Claim>,
    /// What it may not have.
    problems: Vec<Problem>,
    /// Ports with policy Local, internal and external, that have endpoints but none here.
    no_local: [u64; 2],
}

#[derive(Debug)]
struct CompiledPort {
    route: Arc<PortRoute>,
    /// The different lists that its frontends use.
    targets: Vec<Arc<Targets>>,
    /// See [`Frontend::serving`].
    serving: Arc<[EndpointAddr]>,
}

// === impl Compiler ===

impl Compiler {
    /// A compiler for a plane with this many shards.
    pub fn new(options: CompileOptions, shards: usize) -> Self {
        Self {
            options,
            shards,
            world: World::default(),
            services: HashMap::new(),
            claims: Claims::default(),
            pods: None,
            problems: BTreeMap::new(),
            departed: Vec::new(),
            health_checks: BTreeMap::new(),
            counts: CompileCounts::default(),
            stale: false,
        }
    }

    /// Node ports are on these addresses from the next compilation on. Returns whether they are others.
    pub fn set_nodeport_addresses(&mut self, addresses: NodePortAddresses) -> bool {
        let differs = self.options.nodeport_addresses != addresses;
        self.options.nodeport_addresses = addresses;
        self.stale |= differs;
        differs
    }

    /// Compiles what differs between `world` and the last one. Never fails as a whole: what cannot be
    /// served is left out and named among the problems.
    pub fn compile(&mut self, world: &World) -> Compiled {
        let mut touched_keys = BTreeSet::new();
        self.counts.service_changes += self.world.services.diff(&world.services).count() as u64;
        self.counts.endpoint_changes += self.world.slices.diff(&world.slices).count() as u64;
        self.find_pods(&world.node);
        let touched = if std::mem::take(&mut self.stale) {
            all_services(&self.world, world)
        } else {
            touched_services(&self.world, world)
        };
        for name in touched {
            self.compile_service(world, &name, &mut touched_keys);
        }
        self.world = world.clone();
        self.departed.retain(|state| state.strong_count() > 0);
        let changes = self.claims.settle(&touched_keys);
        let problems = self.problems.values().flatten().cloned().chain(self.claims.problems()).collect();
        Compiled {
            frontends: self.claims.winners().clone(),
            problems,
            changed: !changes.is_empty(),
            changes,
            departed: self.departed.clone(),
            health_checks: self.health_checks.clone(),
            counts: self.counts,
        }
    }

    /// Compiles one Service, which may be new or gone, and notes the keys whose claims have changed.
    fn compile_service(&mut self, world: &World, name: &NamespacedName, touched: &mut BTreeSet<FrontendKey>) {
        let old = self.services.remove(name).unwrap_or_default();
        let new = match world.services.get(name) {
            Some(service) => self.compiled(service, world, &old),
            None => CompiledService::default(),
        };
        self.problems.remove(name);
        self.check_health(world, name);
        for ((count, old), new) in
            self.counts.no_local_endpoints.iter_mut().zip(old.no_local).zip(new.no_local)
        {
            *count = count.saturating_sub(old) + new;
        }
        if let Some(service) = world.services.get(name) {
            let address = client_address(service, self.options.not_transparent.as_deref());
            let problems: Vec<Problem> =
                not_served(service).chain(address).chain(new.problems.iter().cloned()).collect();
            if !problems.is_empty() {
                self.problems.insert(name.clone(), problems);
            }
        }
        for claim in &old.claims {
            self.claims.withdraw(claim);
        }
        for claim in &new.claims {
            self.claims.claim(claim.clone());
        }
        touched.extend(old.claims.iter().chain(&new.claims).map(|claim| claim.frontend.key));
        for port in &old.ports {
            if new.ports.iter().all(|p| p.route.name != port.route.name) {
                self.departed.push(Arc::downgrade(&port.route.state));
            }
        }
        if !new.ports.is_empty() {
            self.services.insert(name.clone(), new);
        }
    }

    fn check_health(&mut self, world: &World, name: &NamespacedName) {
        let slices = world.slices.get(name).into_iter().flatten().map(|slice| &**slice);
        let check =
            world.services.get(name).and_then(|service| HealthCheck::of(service, slices, &world.node));
        match check {
            Some(check) => self.health_checks.insert(name.clone(), check),
            None => self.health_checks.remove(name),
        };
    }

    /// The compiled form of a Service, made of the parts of the old one where they are the same (R2).
    fn compiled(&mut self, service: &Service, world: &World, old: &CompiledService) -> CompiledService {
        let slices = world.slices.get(&service.key);
        let mut compiled = CompiledService::default();
        let clients = Clients::new(service);
        for (port_index, port) in service.ports.iter().enumerate() {
            if port.protocol == Protocol::Sctp {
                continue;
            }
            let planned = plan(service, port, &self.options);
            let planned =
                permitted(&world.node, service, port_index, planned, &self.options, &mut compiled.problems);
            if planned.is_empty() {
                continue;
            }
            let route = self.route(service, port, old);
            let old_port = old.ports.iter().find(|p| p.route.name == route.name);
            let slices = slices.into_iter().flatten().map(|slice| &**slice);
            let lists = Lists::new(service, port, slices, &world.node, &route.state);
            let serving = old_port.map(|p| p.serving.clone()).filter(|old| **old == *lists.serving);
            let serving = serving.unwrap_or_else(|| lists.serving.as_slice().into());
            for (count, missing) in compiled.no_local.iter_mut().zip(lists.no_local) {
                *count += u64::from(missing);
            }
            let mut cache = TargetsCache::new(picker(service, &route), old_port);
            for (key, kind) in planned {
                let (outside, inside) = (lists.of(kind, key.address), lists.for_node(kind, key.address));
                let (targets, from_node) = (cache.get(outside), cache.get(inside));
                let sources = clients.of(service, key.address);
                let keeps_client =
                    service.external_policy == TrafficPolicy::Local && kind != FrontendKind::ClusterIp;
                let (port, serving) = (route.clone(), serving.clone());
                let pods = self.pods.clone();
                let frontend =
                    Frontend { key, kind, port, targets, from_node, pods, keeps_client, sources, serving };
                let frontend = old_frontend(old, &frontend).unwrap_or_else(|| Arc::new(frontend));
                compiled.claims.push(Claim { frontend, age_rank: service.age_rank, port_index });
            }
            compiled.ports.push(CompiledPort { route, targets: cache.used, serving });
        }
        compiled
    }

    /// Finds out where pods have their addresses.
    fn find_pods(&mut self, node: &Node) {
        let cidrs = self.options.cluster_cidrs.iter().chain(&node.pod_cidrs).copied();
        // Everything would be everybody.
        let cidrs: Vec<IpNet> = cidrs.filter(|cidr| cidr.prefix_len() > 0).collect();
        let pods = Sources::new(&cidrs);
        if pods.as_ref() != self.pods.as_deref() {
            self.pods = pods.map(Arc::new);
        }
    }

    /// The route of a service port: the old one if nothing about it is different, else a new one over
    /// the same state.
    fn route(&mut self, service: &Service, port: &ServicePort, old: &CompiledService) -> Arc<PortRoute> {
        let defaults = &self.options.defaults;
        let settings = PortSettings {
            max_connections: service.max_connections.or(defaults.max_connections),
            max_connections_per_client: service
                .max_connections_per_client
                .or(defaults.max_connections_per_client),
            idle_timeout: service.idle_timeout.or(defaults.idle_timeout),
            udp_timeout: service.udp_timeout.or(defaults.udp_timeout),
            udp_stream_timeout: service.udp_stream_timeout.or(defaults.udp_stream_timeout),
            proxy: ProxyRules { send: service.proxy_protocol, accept: service.accept_proxy_protocol.clone() },
        };
        let name = ServicePortName {
            service: service.key.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
        };
        let old = old.ports.iter().map(|p| &p.route).find(|route| route.name == name);
        let route = match old {
            Some(route) if route.settings() == settings => route.clone(),
            Some(route) => Arc::new(PortRoute::new(route.state.clone(), settings)),
            None => Arc::new(PortRoute::new(self.state(name), settings)),
        };
        if service.affinity.is_none() {
            route.state.ledger.clear();
        }
        route
    }

    /// The state of a service port that was not there: that of its former life while it has sessions.
    fn state(&mut self, name: ServicePortName) -> Arc<PortState> {
        let mut former = None;
        self.departed.retain(|departed| match departed.upgrade() {
            Some(state) if state.name == name => {
                former = Some(state);
                false
            }
            state => state.is_some(),
        });
        former.unwrap_or_else(|| Arc::new(PortState::new(name, self.shards)))
    }
}

/// The Services of which anything differs. Shared parts of the two worlds are skipped, and so is what
/// was replaced by an equal object.
fn touched_services(old: &World, new: &World) -> BTreeSet<NamespacedName> {
    if old.node != new.node {
        return all_services(old, new);
    }
    let services = old.services.diff(&new.services).map(key_of);
    services.chain(old.slices.diff(&new.slices).map(key_of)).cloned().collect()
}

fn all_services(old: &World, new: &World) -> BTreeSet<NamespacedName> {
    old.services.keys().chain(new.services.keys()).cloned().collect()
}

fn key_of<'a, V>(item: DiffItem<'a, 'a, NamespacedName, V>) -> &'a NamespacedName {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key,
    }
}

/// A warning for each port that is not served.
fn not_served(service: &Service) -> impl Iterator<Item = Problem> {
    let others = service.ports.iter().enumerate().filter(|(_, port)| port.protocol == Protocol::Sctp);
    others.map(|(i, _)| Problem {
        object: Some(format!("Service {}", service.key)),
        field: Some(format!("spec.ports[{i}].protocol")),
        hint: Some("use TCP or UDP".to_owned()),
        ..Problem::warning("SCTP ports are not served")
    })
}

/// A warning where pods expect the addresses of clients, and see another.
fn client_address(service: &Service, not_transparent: Option<&str>) -> Option<Problem> {
    let why = not_transparent?;
    // By headers, which only connections have.
    let by_header =
        service.proxy_protocol.is_some() && service.ports.iter().all(|port| port.protocol != Protocol::Udp);
    let told = service.external_policy == TrafficPolicy::Cluster || by_header;
    (is_external(service) && !told).then(|| Problem {
        object: Some(format!("Service {}", service.key)),
        field: Some("spec.externalTrafficPolicy".to_owned()),
        reason: Reason::ClientAddressLost,
        hint: Some("docs/client-address.md has the ways in which a pod learns its client".to_owned()),
        ..Problem::warning(format!("pods see the address of this node instead of the client's: {why}"))
    })
}

/// Whether it has frontends that external traffic reaches.
fn is_external(service: &Service) -> bool {
    service.ports.iter().any(|port| port.node_port.is_some()) || has_external_address(service)
}

fn has_external_address(service: &Service) -> bool {
    let mut addresses = service.external_ips.iter().chain(&service.load_balancer_ips);
    addresses.any(|ip| service.is_in_family_of(*ip))
}

fn picker(service: &Service, route: &PortRoute) -> Picker {
    Picker {
        algorithm: service.algorithm,
        affinity: service.affinity.map(|timeout| Affinity { state: route.state.clone(), timeout }),
        flows: route.name.protocol == Protocol::Udp,
    }
}

/// The one that there was, where it is the same.
fn old_frontend(old: &CompiledService, new: &Frontend) -> Option<Arc<Frontend>> {
    let mut claims = old.claims.iter().map(|claim| &claim.frontend);
    let same = |f: &&Arc<Frontend>| {
        (f.key, f.kind, f.keeps_client) == (new.key, new.kind, new.keeps_client)
            && Arc::ptr_eq(&f.port, &new.port)
            && Arc::ptr_eq(&f.targets, &new.targets)
            && Arc::ptr_eq(&f.from_node, &new.from_node)
            && f.pods == new.pods
            && f.sources == new.sources
            && f.serving == new.serving
    };
    claims.find(same).cloned()
}

/// Who may connect to a Service.
struct Clients {
    anywhere: Option<Arc<Sources>>,
    load_balancer: Option<Arc<Sources>>,
}

impl Clients {
    fn new(service: &Service) -> Self {
        Self {
            anywhere: Sources::new(&service.source_ranges).map(Arc::new),
            load_balancer: Sources::new(&service.load_balancer_source_ranges).map(Arc::new),
        }
    }

    /// For the frontend at this address. That the load balancer's is an externalIP as well opens no way around its ranges.
    fn of(&self, service: &Service, address: Option<IpAddr>) -> Vec<Arc<Sources>> {
        let is_balancer = address.is_some_and(|address| service.load_balancer_ips.contains(&address));
        let load_balancer = self.load_balancer.iter().filter(|_| is_balancer);
        self.anywhere.iter().chain(load_balancer).cloned().collect()
    }
}

/// The usable endpoints of a service port, by policy and address family.
struct Lists {
    internal: TrafficPolicy,
    external: TrafficPolicy,
    cluster: Vec<Arc<Endpoint>>,
    local: Vec<Arc<Endpoint>>,
    /// See [`Frontend::serving`].
    serving: Vec<EndpointAddr>,
    /// There are endpoints, but none for internal, or external, traffic under policy Local.
    no_local: [bool; 2],
}

impl Lists {
    fn new<'a>(
        service: &Service,
        port: &ServicePort,
        slices: impl Iterator<Item = &'a EndpointSlice>,
        node: &Node,
        state: &PortState,
    ) -> Self {
        let policies = Policies {
            internal: service.internal_policy,
            external: service.external_policy,
            externally_accessible: port.node_port.is_some() || has_external_address(service),
        };
        let joined = join(port, slices);
        // kube-proxy runs once for each family, and so do its rules.
        let families = joined.split_at(joined.partition_point(|j| j.addr.0.is_ipv4()));
        let (v4, v6) = (usable(families.0, policies, node), usable(families.1, policies, node));
        let serving = joined.iter().filter(|j| j.endpoint.ready || j.endpoint.serving).map(|j| j.addr);
        let serving = if port.protocol == Protocol::Udp { serving.collect() } else { Vec::new() };
        let none_here = v4.local.is_empty() && v6.local.is_empty() && joined.iter().any(Joined::may_serve);
        let external = policies.externally_accessible && policies.external == TrafficPolicy::Local;
        let no_local = [policies.internal == TrafficPolicy::Local && none_here, external && none_here];
        let endpoint = |j: Joined<'_>| state.endpoint(j.addr, j.endpoint.pod.as_ref());
        Self {
            internal: service.internal_policy,
            external: service.external_policy,
            cluster: v4.cluster.into_iter().chain(v6.cluster).map(endpoint).collect(),
            local: v4.local.into_iter().chain(v6.local).map(endpoint).collect(),
            serving,
            no_local,
        }
    }

    /// The endpoints for one frontend: of its address family, or of both for a wildcard.
    fn of(&self, kind: FrontendKind, address: Option<IpAddr>) -> Vec<Arc<Endpoint>> {
        let policy = if kind == FrontendKind::ClusterIp { self.internal } else { self.external };
        self.under(policy, address)
    }

    /// The same for what the node itself connects to: external policies are not for it.
    fn for_node(&self, kind: FrontendKind, address: Option<IpAddr>) -> Vec<Arc<Endpoint>> {
        let policy = if kind == FrontendKind::ClusterIp { self.internal } else { TrafficPolicy::Cluster };
        self.under(policy, address)
    }

    fn under(&self, policy: TrafficPolicy, address: Option<IpAddr>) -> Vec<Arc<Endpoint>> {
        let list = match policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        };
        let serves = |e: &&Arc<Endpoint>| address.is_none_or(|a| a.is_ipv4() == e.addr.0.is_ipv4());
        list.iter().filter(serves).cloned().collect()
    }
}

/// The targets of one service port, each list once, taken from the old snapshot where they are the same.
struct TargetsCache<'a> {
    picker: Picker,
    old: &'a [Arc<Targets>],
    used: Vec<Arc<Targets>>,
}

impl<'a> TargetsCache<'a> {
    fn new(picker: Picker, old: Option<&'a CompiledPort>) -> Self {
        Self { picker, old: old.map_or(&[], |port| &port.targets), used: Vec::new() }
    }

    fn get(&mut self, endpoints: Vec<Arc<Endpoint>>) -> Arc<Targets> {
        let same = |t: &&Arc<Targets>| t.is(&endpoints, &self.picker);
        if let Some(targets) = self.used.iter().find(same) {
            return targets.clone();
        }
        let targets = self.old.iter().find(same).cloned().unwrap_or_else(|| {
            let targets = Targets::new(endpoints, self.picker.clone());
            if let Some(old) = self.old.get(self.used.len()) {
                targets.take_turn_from(old);
            }
            Arc::new(targets)
        });
        self.used.push(targets.clone());
        targets
    }
}

#[cfg(test)]
mod tests;
