//! The source of a cluster against the API of another ringport, through a proxy that spoils the watches: in the
//! end both route the same.

use fastrand::Rng;
use serde_json::{Value, json};

use super::chaos::{self, request};
use crate::harness::netns::Host;
use crate::harness::process::Ringport;
use crate::harness::wait::until;
use crate::harness::world::World;

const SERVICES: usize = 8;
const SLICES: usize = 12;
const STEPS: usize = 400;

/// A kubeconfig without credentials.
pub(super) fn kubeconfig(world: &World, server: &str) -> std::path::PathBuf {
    let path = world.path("kubeconfig");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}]});
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

fn service(random: &mut Rng, number: usize) -> Value {
    let policy = if random.bool() { "Cluster" } else { "Local" };
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("svc-{number}")},
        "spec": {"type": "NodePort", "externalTrafficPolicy": policy,
            "ports": [{"name": "http", "port": 80 + number, "nodePort": 30100 + number}]}})
}

fn slice(random: &mut Rng, number: usize) -> Value {
    let endpoints: Vec<Value> = (0..random.usize(..4))
        .map(|_| {
            json!({"addresses": [format!("10.1.{number}.{}", random.u8(1..9))],
                "conditions": {"ready": random.u8(..4) > 0, "serving": true, "terminating": random.u8(..4) == 0},
                "nodeName": if random.bool() { "us" } else { "other" }})
        })
        .collect();
    let service = format!("svc-{}", random.usize(..SERVICES));
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("slice-{number}"), "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}], "endpoints": endpoints})
}

/// Changes something at random. What there is no sense in is refused, and that is fine.
fn step(random: &mut Rng, api: &std::path::Path) {
    let slices = random.u8(..3) > 0;
    let (number, object) = if slices {
        let number = random.usize(..SLICES);
        (number, slice(random, number))
    } else {
        let number = random.usize(..SERVICES);
        (number, service(random, number))
    };
    let (base, name) = match slices {
        true => ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", format!("slice-{number}")),
        false => ("/api/v1/namespaces/default/services", format!("svc-{number}")),
    };
    let (method, path, body) = match random.u8(..6) {
        0 | 1 => ("POST", base.to_owned(), object.to_string()),
        2..5 => {
            // As clients do: what is there, with another content.
            let (status, text) = request(api, "GET", &format!("{base}/{name}"), "");
            if status != 200 {
                return;
            }
            let mut there: Value = serde_json::from_str(&text).unwrap();
            if slices {
                there["endpoints"] = object["endpoints"].clone();
                there["metadata"]["labels"] = object["metadata"]["labels"].clone();
            } else {
                there["spec"]["externalTrafficPolicy"] = object["spec"]["externalTrafficPolicy"].clone();
            }
            ("PUT", format!("{base}/{name}"), there.to_string())
        }
        _ => ("DELETE", format!("{base}/{name}"), String::new()),
    };
    let (status, text) = request(api, method, &path, &body);
    assert!([200, 201, 404, 409, 422].contains(&status), "{method} {path} {body}: {status} {text}");
}

/// What a process routes: its frontends and their endpoints.
fn routes(statusz: &str) -> String {
    let services = statusz.split_once("\n\n").map_or("", |(_, services)| services);
    let services = services.split("\nproblems in force").next().unwrap_or_default();
    let lines = services.lines().filter(|line| !line.contains(" sessions now, "));
    let word =
        |line: &str| line.split(" sessions, ").next().unwrap_or_default().trim_end_matches(" 0").to_owned();
    lines.map(word).collect::<Vec<_>>().join("\n")
}

#[test]
fn whatever_happens_to_the_watches_both_route_the_same_in_the_end() {
    let (Some(server), Some(node)) = (Host::new("server"), Host::new("node")) else { return };
    let seed =
        std::env::var("RINGPORT_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("RINGPORT_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let world = World::new();
    let api = world.path("api.sock");
    let at = format!("unix:{}", api.display());
    let source = server.run(|| {
        let source = Ringport::spawn(&world, &["--api", &at, "--node-name", "us"]);
        source.wait_ready();
        source
    });
    for _ in 0..40 {
        step(&mut random, &api);
    }
    let (proxy, deeds) = chaos::start(&node, &api, random.u64(..));
    let kubeconfig = kubeconfig(&world, &format!("http://{proxy}"));
    let follower = node.run(|| {
        let follower = Ringport::spawn_on_cluster(&world, &kubeconfig, &["--node-name", "us"]);
        follower.wait_ready();
        follower
    });
    for _ in 0..STEPS {
        step(&mut random, &api);
    }
    until("everything was done to the watches", || {
        step(&mut random, &api);
        deeds.are_all_done().then_some(())
    });
    // The source takes a moment as well.
    let (mut wanted, mut last) = (String::new(), String::new());
    let agree = || {
        wanted = server.run(|| routes(&source.statusz()));
        last = node.run(|| routes(&follower.statusz()));
        (last == wanted).then_some(())
    };
    let waiting = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until("they agree", agree)));
    assert!(waiting.is_ok(), "wanted\n{wanted}\nand there is\n{last}\n{}", follower.log());
    assert!(wanted.contains("nodePort"), "{wanted}");
    eprintln!("{deeds:?}");
}

#[test]
fn the_pages_of_a_process_on_a_cluster_say_how_old_its_view_is() {
    let Some(host) = Host::new("node") else { return };
    let world = World::new();
    let api = world.path("api.sock");
    let at = format!("unix:{}", api.display());
    let server = Host::new("server").unwrap();
    let source = server.run(|| {
        let source = Ringport::spawn(&world, &["--api", &at]);
        source.wait_ready();
        source
    });
    let proxy = chaos::calm(&host, &api);
    let kubeconfig = kubeconfig(&world, &format!("http://{proxy}"));
    let follower = host.run(|| {
        let follower = Ringport::spawn_on_cluster(&world, &kubeconfig, &["--node-name", "us"]);
        follower.wait_ready();
        follower
    });
    let readyz = || host.run(|| follower.page("/readyz?verbose"));
    assert!(readyz().contains("[+]api-server-services heard "), "{}", readyz());
    drop(source);
    host.run(|| until("it is told", || readyz().contains("[!]api-server-services").then_some(())));
    assert_eq!(host.run(|| follower.health("/readyz")), 200, "an old state is better than none");
    host.run(|| follower.metrics().sum("ringport_view_failures_total", &["kind=\"services\""]));
}
