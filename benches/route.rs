//! Routing: picking an endpoint, Maglev, and what a change costs.
#![allow(missing_docs, clippy::indexing_slicing, reason = "a benchmark")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ringport::clock::Millis;
use ringport::k8s::model::{
    Algorithm, EndpointSlice, Service, ServiceKind, ServicePort, SliceEndpoint, SlicePort, TargetPort,
    TrafficPolicy, World,
};
use ringport::metrics::counters::PerShard;
use ringport::route::compile::{CompileOptions, Compiler};
use ringport::route::maglev::Maglev;
use ringport::route::snapshot::{Affinity, Endpoint, Picker, PortState, Targets};
use ringport::types::{ClientAddr, EndpointAddr, NamespacedName, Protocol, ServicePortName};

const SHARDS: usize = 2;

fn endpoints(count: u32) -> Vec<Arc<Endpoint>> {
    let addr = |i| EndpointAddr(SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + i), 8080)));
    (0..count).map(|i| Arc::new(Endpoint::new(addr(i), None, Arc::new(PerShard::new(SHARDS))))).collect()
}

fn port_state() -> Arc<PortState> {
    let name = ServicePortName { service: name(0), port: "".into(), protocol: Protocol::Tcp };
    Arc::new(PortState::new(name, SHARDS))
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let affinity = Some(Affinity { state: port_state(), timeout: Duration::from_secs(10_800) });
    let by = |algorithm| Picker { algorithm, ..Picker::default() };
    for (label, picker) in [
        ("random", by(Algorithm::Random)),
        ("round-robin", by(Algorithm::RoundRobin)),
        ("least-connections", by(Algorithm::LeastConnections)),
        ("maglev", by(Algorithm::Maglev)),
        ("affinity", Picker { affinity, ..Picker::default() }),
    ] {
        let targets = Targets::new(endpoints(10), picker);
        let mut random = fastrand::Rng::with_seed(1);
        group.bench_function(label, |b| {
            b.iter(|| {
                let from = Ipv4Addr::from(0xc000_0200 | random.u32(..1000));
                let client = ClientAddr(SocketAddr::new(IpAddr::V4(from), 1));
                let mut candidates = targets.candidates(client, Millis(1), random.u64(..));
                let endpoint = candidates.next_endpoint();
                if let Some(endpoint) = &endpoint {
                    candidates.connected(endpoint, Millis(1));
                }
                endpoint
            });
        });
    }
    group.finish();
}

fn maglev(c: &mut Criterion) {
    let mut group = c.benchmark_group("maglev");
    for count in [3, 10, 100, 600, 1000] {
        let endpoints = endpoints(count);
        group.bench_with_input(BenchmarkId::new("build", count), &endpoints, |b, endpoints| {
            b.iter(|| Maglev::build(endpoints.iter().map(|e| &**e)));
        });
    }
    let table = Maglev::build(endpoints(10).iter().map(|e| &**e)).into_iter().collect::<Vec<_>>();
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function("lookup", |b| b.iter(|| table[0].lookup(black_box(random.u64(..)))));
    group.finish();
}

fn name(i: u32) -> NamespacedName {
    NamespacedName::new("default", format!("service-{i:05}"))
}

fn service(i: u32, affinity: bool) -> Service {
    Service {
        key: name(i),
        uid: "".into(),
        trusted: true,
        age_rank: u64::from(i),
        kind: ServiceKind::ClusterIp,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            target: TargetPort::Number(8080),
        }],
        selector: Default::default(),
        cluster_ips: Vec::new(),
        any_family: true,
        // More Services than there are nodePorts: each has an address of its own instead.
        external_ips: vec![IpAddr::V4(Ipv4Addr::from(0xc612_0000 + i))],
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Default::default(),
        source_ranges: Default::default(),
        health_check_node_port: None,
        affinity: affinity.then_some(Duration::from_secs(10_800)),
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        publish_not_ready: false,
        algorithm: Algorithm::Random,
        max_connections: None,
        max_connections_per_client: None,
        idle_timeout: None,
        udp_timeout: None,
        udp_stream_timeout: None,
        proxy_protocol: None,
        accept_proxy_protocol: Arc::default(),
    }
}

fn slice(i: u32, endpoints: u32) -> EndpointSlice {
    let endpoint = |e| SliceEndpoint {
        address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i * 32 + e)),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
        pod: None,
    };
    EndpointSlice {
        key: name(i),
        service: name(i),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: (0..endpoints).map(endpoint).collect(),
    }
}

/// A world of this many Services of ten endpoints.
fn world(services: u32, affinity: bool) -> World {
    let mut world = World::default();
    for i in 0..services {
        world.services.insert(name(i), Arc::new(service(i, affinity)));
        world.slices.insert(name(i), imbl::vector![Arc::new(slice(i, 10))]);
    }
    world
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    for (services, affinity) in [(10, false), (1000, false), (1000, true), (2768, false), (10_000, false)] {
        let world = world(services, affinity);
        let kind = if affinity { "all-affine" } else { "all" };
        group.bench_with_input(BenchmarkId::new(kind, services), &world, |b, world| {
            let fresh = || Compiler::new(CompileOptions::default(), SHARDS);
            b.iter_batched_ref(fresh, |compiler| compiler.compile(world), BatchSize::PerIteration);
        });
    }
    for services in [1000, 10_000] {
        let mut compiler = Compiler::new(CompileOptions::default(), SHARDS);
        let before = world(services, false);
        let mut after = before.clone();
        after.slices.insert(name(services / 2), imbl::vector![Arc::new(slice(services / 2, 11))]);
        compiler.compile(&before);
        let mut worlds = [after, before].into_iter().cycle();
        group.bench_function(BenchmarkId::new("one-endpoint", services), |b| {
            b.iter_batched(
                || worlds.next().unwrap_or_default(),
                |world| compiler.compile(&world).changed,
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, pick, maglev, compile);
criterion_main!(benches);
