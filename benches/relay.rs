//! The data plane on loopback: one shard between this process's client and its echo pod.
//!
//! Read the figures beside `direct`, the same client and pod without ringport.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringport::metrics::counters::PerShard;
use ringport::route::endpoint::Endpoint;
use ringport::route::pick::{Picker, Targets};
use ringport::route::plane::{Phase, Plane};
use ringport::route::port::{PortRoute, PortSettings, PortState};
use ringport::route::snapshot::{Frontend, FrontendKey, FrontendKind, RoutingSnapshot};
use ringport::shard::{self, Options};
use ringport::types::{EndpointAddr, NamespacedName, Protocol, ServicePortName};

/// A pod that sends back what it gets, on a port of its own.
fn echo_pod() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let (mut from, mut to) = (&stream, &stream);
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    address
}

/// One shard in front of `pod`. Returns the plane and where it listens.
fn balancer(pod: SocketAddr, splice: bool) -> (Arc<Plane>, SocketAddr) {
    // Found free, then used: nothing else on a benchmark machine takes it in between.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let plane = Arc::new(Plane::new(1));
    let options = Options { splice, ..Options::default() };
    shard::start(&options, &plane).unwrap();
    let key = FrontendKey { protocol: Protocol::Tcp, address: Some(address.ip()), port: address.port() };
    let service = NamespacedName::new("default", "bench");
    let name = ServicePortName { service, port: "".into(), protocol: Protocol::Tcp };
    let state = Arc::new(PortState::new(name, 1));
    let endpoint = Endpoint::new(EndpointAddr(pod), None, Arc::new(PerShard::new(1)));
    let targets = Arc::new(Targets::new(vec![Arc::new(endpoint)], Picker::default()));
    let frontend = Frontend {
        key,
        kind: FrontendKind::ExternalIp,
        port: Arc::new(PortRoute::new(state, PortSettings::default())),
        from_node: targets.clone(),
        targets,
        pods: None,
        keeps_client: false,
        sources: Vec::new(),
        serving: Arc::default(),
    };
    plane.publish(RoutingSnapshot::new(1, [(key, Arc::new(frontend))].into_iter().collect()));
    while plane.applied() < 1 {
        thread::yield_now();
    }
    (plane, address)
}

fn round_trip(stream: &mut TcpStream, message: &[u8], answer: &mut [u8]) {
    let mut half = stream.try_clone().unwrap();
    thread::scope(|scope| {
        // A message larger than all buffers on the way needs both directions at once.
        if message.len() > 64 * 1024 {
            scope.spawn(move || half.write_all(message).unwrap());
        } else {
            half.write_all(message).unwrap();
        }
        stream.read_exact(answer).unwrap();
    });
}

fn relay(criterion: &mut Criterion) {
    let pod = echo_pod();
    let (copying, copy) = balancer(pod, false);
    let (splicing, splice) = balancer(pod, true);
    let mut group = criterion.benchmark_group("relay");
    for bytes in [200, 16 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, address) in [("direct", pod), ("copy", copy), ("splice", splice)] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            let (message, mut answer) = (vec![7; bytes], vec![0; bytes]);
            group.bench_function(BenchmarkId::new(name, bytes), |bench| {
                bench.iter(|| round_trip(&mut stream, &message, &mut answer));
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("accept-connect-close");
    for (name, address) in [("direct", pod), ("ringport", copy)] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
            });
        });
    }
    group.finish();
    copying.enter(Phase::Stop);
    splicing.enter(Phase::Stop);
}

criterion_group!(benches, relay);
criterion_main!(benches);
