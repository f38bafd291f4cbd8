//! From an answer of the API to traffic.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::rig::{self, SERVICES};
use crate::harness::client::{ask, until_refused};
use crate::harness::manifest;
use crate::harness::pod::{Pod, listen, named};
use crate::harness::rig::local;
use crate::harness::wait::{time, until};

/// The target, 50 ms, is for a machine that is not busy with other tests.
const LIMIT: Duration = Duration::from_secs(1);

#[test]
fn whoever_has_the_answer_finds_the_change_in_force() {
    let rig = rig::start(&[]);
    let ip = rig.world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), named("one"));
    rig.world.apply("pod", &manifest::pod("one", "web", ip));
    until("the pod is known", || {
        (rig.api.get("/api/v1/namespaces/default/pods/one").status == 200).then_some(())
    });
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let node_port = rig.world.port();
        rig.api.post(SERVICES, &rig::node_port("web", node_port, target_port)).expect(201);
        let (took, name) = time(|| until("traffic", || ask(local(node_port)).ok()));
        assert_eq!(name, "one");
        slowest = slowest.max(took);
        rig.api.delete(&format!("{SERVICES}/web"), "").expect(200);
        until_refused(local(node_port));
    }
    eprintln!("from the answer of the API to the answer of the pod: {slowest:?} at most");
    assert!(slowest < LIMIT, "{slowest:?}");
}

#[test]
fn a_node_port_is_open_in_the_families_of_its_service() {
    let rig = rig::start(&[]);
    let ip = rig.world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), named("one"));
    rig.world.apply("pod", &manifest::pod("one", "web", ip));
    let node_port = rig.world.port();
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, node_port));
    rig.api.post(SERVICES, &rig::node_port("web", node_port, target_port)).expect(201);
    let web = format!("{SERVICES}/web");
    let families = |policy: &str| {
        let merge = [("Content-Type", "application/merge-patch+json")];
        let patch = format!(r#"{{"spec": {{"ipFamilyPolicy": "{policy}"}}}}"#);
        let answer = rig.api.send("PATCH", &web, &merge, &patch);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["spec"]["ipFamilies"].clone()
    };
    until("IPv4 is served", || ask(local(node_port)).ok());
    until_refused(v6);
    assert_eq!(families("PreferDualStack"), serde_json::json!(["IPv4", "IPv6"]));
    until("IPv6 is served", || ask(v6).ok());
    assert_eq!(ask(local(node_port)).unwrap(), "one");
    assert_eq!(families("SingleStack"), serde_json::json!(["IPv4"]));
    until_refused(v6);
    assert_eq!(ask(local(node_port)).unwrap(), "one");

    // A file need not say anything of families.
    let port = rig.world.port();
    let file = crate::harness::rig::web(port, target_port).yaml().replace("name: web", "name: file");
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    rig.world.apply("service", &file);
    until("both families are served", || ask(v6).ok().and(ask(local(port)).ok()));
    rig.world.apply("service", &file.replace("spec:\n", "spec:\n  ipFamilies: [IPv4]\n"));
    until_refused(v6);
    assert_eq!(ask(local(port)).unwrap(), "one");
}

#[test]
fn an_api_needs_no_manifests() {
    let world = crate::harness::world::World::new();
    let api = crate::harness::http::Api(([127, 0, 0, 1], world.port()).into());
    let child = crate::harness::process::command(&["run", "--api", &api.0.to_string()])
        .args(["--healthz-bind-address=", "--metrics-bind-address="])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut child = crate::harness::process::Guarded(child);
    until("the API answers", || api.try_send("GET", "/readyz", &[], b"").ok());
    api.post(SERVICES, &rig::plain("web")).expect(201);
    assert_eq!(child.terminate(rustix::process::Signal::TERM), Some(0));
}
