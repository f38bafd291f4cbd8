use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::k8s::model::{Algorithm, TargetPort, TrafficPolicy, World};
use crate::k8s::model::{EndpointSlice, Node, Service, ServiceKind, ServicePort, SliceEndpoint, SlicePort};
use crate::limits;
use crate::problem::Problem;
use crate::route::compile::{CompileOptions, Compiler};
use crate::route::plane::{Phase, Plane};
use crate::route::snapshot::RoutingSnapshot;
use crate::types::{NamespacedName, Protocol};

/// default/web on nodePort 30080, with two endpoints.
fn world() -> World {
    let key = NamespacedName::new("default", "web");
    let service = Service {
        key: key.clone(),
        uid: "".into(),
        trusted: true,
        age_rank: 1,
        kind: ServiceKind::NodePort,
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30_080),
            target: TargetPort::Number(8080),
        }],
        selector: BTreeMap::new(),
        cluster_ips: Vec::new(),
        any_family: true,
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Default::default(),
        source_ranges: Default::default(),
        health_check_node_port: None,
        affinity: None,
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
    };
    let endpoint = |n: u8| SliceEndpoint {
        address: IpAddr::from([10, 0, 0, n]),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
        pod: Some(format!("web-{n}").into()),
    };
    let slice = EndpointSlice {
        key: NamespacedName::new("default", "web-1"),
        service: key.clone(),
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: vec![endpoint(1), endpoint(2)],
    };
    World {
        services: [(key.clone(), Arc::new(service))].into_iter().collect(),
        slices: [(key, imbl::vector![Arc::new(slice)])].into_iter().collect(),
        node: Arc::new(Node::default()),
    }
}

/// A process with one shard; its snapshot is compiled but not applied.
fn state() -> Rc<State> {
    let plane = Arc::new(Plane::new(1));
    let compiled = Compiler::new(CompileOptions::default(), 1).compile(&world());
    plane.publish(RoutingSnapshot::new(1, compiled.frontends));
    let state = State::new(plane);
    state.set_max_connections(1000);
    Rc::new(state)
}

fn ready(state: &State) {
    state.on_queued(Seen::now());
    state.on_synced(Seen::now(), vec![Problem::error("port 30081 is taken")], 0);
    state.on_shards_started();
    state.plane.acknowledge(0, 1, 0);
}

#[test]
fn ready_means_first_snapshot_applied_by_all_shards_and_not_draining() {
    let state = state();
    let ask = || health::readyz(&state, false);
    assert_eq!(ask().status, 503);
    state.on_synced(Seen::now(), Vec::new(), 0);
    assert!(ask().body.contains("[+]manifests-read ok\n[-]shards-started failed\n"), "{}", ask().body);
    state.on_shards_started();
    assert!(ask().body.contains("[-]first-snapshot-applied failed"), "{}", ask().body);
    state.plane.acknowledge(0, 1, 0);
    assert_eq!((ask().status, ask().body.as_str()), (200, "ok"));
    assert!(health::readyz(&state, true).body.ends_with("[+]not-draining ok\nreadyz check passed\n"));
    // A later snapshot on its way does not make it unready.
    state.plane.publish(RoutingSnapshot::new(2, Default::default()));
    assert_eq!(ask().status, 200);
    state.plane.enter(Phase::Drain);
    assert_eq!(ask().status, 503);
    assert!(ask().body.contains("[-]not-draining failed"));
}

#[test]
fn unhealthy_once_a_change_waits_too_long() {
    let state = state();
    let at = |seconds: u64| Seen { micros: seconds * 1_000_000, unix: seconds as f64 };
    let limit = limits::CHANGE_TIMEOUT.as_secs();
    assert!(state.health(at(5)).healthy, "starting");

    state.on_queued(at(10));
    state.on_queued(at(50));
    assert!(state.health(at(10 + limit - 1)).healthy);
    assert!(!state.health(at(10 + limit)).healthy, "compiled by nobody");

    state.on_synced(at(100), Vec::new(), 0);
    assert!(state.health(at(100 + limit - 1)).healthy);
    let late = state.health(at(100 + limit));
    assert!(!late.healthy, "applied by no shard");
    assert_eq!(late.last_updated, 100.0);

    state.plane.acknowledge(0, 1, 0);
    let health = state.health(at(100_000));
    assert!(health.healthy);
    assert_eq!(health.last_updated, 100_000.0, "recent while healthy, as kube-proxy");
}

#[test]
fn health_pages_have_the_fields_of_kube_proxy() {
    let state = state();
    ready(&state);
    let keys = |answer: Answer| -> Vec<String> {
        assert_eq!((answer.status, answer.content_type), (200, "application/json"));
        let page: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(page["healthy"], true);
        assert_eq!(page["status"]["IPv4"]["healthy"], true);
        let time = page["currentTime"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        page.as_object().unwrap().keys().cloned().collect()
    };
    let livez = ["currentTime", "healthy", "lastUpdated", "status"];
    assert_eq!(keys(health::livez(&state)), livez);
    assert_eq!(keys(health::healthz(&state)), [&livez[..3], &["nodeEligible", "status"]].concat());
    assert_eq!((state.livez.get(), state.healthz.get()), ([1, 0], [1, 0]));
}

#[test]
fn pages_name_services_endpoints_and_problems() {
    let state = state();
    ready(&state);
    let status = statusz::page(&state);
    for line in [
        ", ready, up ",
        "default/web:http TCP",
        "  nodePort TCP *:30080, 2 endpoints",
        "10.0.0.2:8080",
        "web-2",
        "problems in force: 1",
        "  port 30081 is taken",
    ] {
        assert!(status.contains(line), "{line:?} in\n{status}");
    }
    let metrics = scrape::page(&state);
    let labels = r#"namespace="default",service="web",port="http",protocol="TCP""#;
    for line in [
        format!("ringport_connections_total{{{labels}}} 0\n"),
        format!(
            "ringport_endpoint_connections_total{{{labels},endpoint=\"10.0.0.1:8080\",pod=\"web-1\"}} 0\n"
        ),
        "ringport_problems{severity=\"error\"} 1\n".to_owned(),
        "ringport_ready 1\n".to_owned(),
        "ringport_max_connections 1000\n".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line:?} in\n{metrics}");
    }
}

/// Serves the health pages, and runs a client against them.
fn with_server<F: Future<Output = ()>>(header_timeout: Duration, client: impl FnOnce(SocketAddr) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let state = state();
        ready(&state);
        let answer = move |asked: Asked<'_>| health_page(&state, asked);
        tokio::select! {
            result = http::serve(listener, header_timeout, answer) => panic!("{result:?}"),
            () = client(address) => {}
        }
    });
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn http_is_answered_and_bounded() {
    with_server(limits::ADMIN_HEADER_TIMEOUT, |address| async move {
        let answer = ask(address, "GET /readyz?verbose HTTP/1.1\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        assert!(answer.ends_with("readyz check passed\n"), "{answer}");
        let answer = ask(address, "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(
            answer.contains("404 Not Found") && answer.ends_with("there are /healthz, /livez, /readyz\n")
        );
        let answer = ask(address, "POST /readyz HTTP/1.1\r\nContent-Length: 0\r\n\r\n").await;
        assert!(answer.contains("405 Method Not Allowed") && answer.contains("allow: GET, HEAD"), "{answer}");
        let answer = ask(address, "GET /readyz HTTP/1.1\r\nContent-Length: 5\r\n\r\n").await;
        assert!(answer.contains("413 Payload Too Large"), "{answer}");
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(limits::ADMIN_REQUEST_BYTES));
        let answer = ask(address, &long).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    });
}

#[test]
fn a_client_that_stalls_is_let_go() {
    with_server(Duration::from_millis(20), |address| async move {
        // Returns only because the server closes the connection.
        assert_eq!(ask(address, "GET /readyz HTTP/1.1\r\n").await, "");
    });
}
