//! What is wrong on a node, as Events in its cluster.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::converge::kubeconfig;
use crate::harness::http::Api;
use crate::harness::kubectl;
use crate::harness::process::Ringport;
use crate::harness::rig::{local, web};
use crate::harness::wait::until;
use crate::harness::world::World;

/// The API server of another ringport, which has the ports of this machine: what follows it finds them taken.
#[test]
fn kubectl_describes_what_is_wrong_on_a_node_of_a_cluster() {
    let world = World::new();
    let (node_port, api) = (world.port(), Api(local(world.port())));
    // Of no interface, and no other test's.
    let [_, process, _, test] = world.ip().octets();
    let external = Ipv4Addr::new(198, 18, process, test);
    let mut older = web(node_port, 8080);
    older.external_ip = Some(external);
    world.apply("web", &older.yaml());
    let _server = Ringport::start(&world, &["--api", &api.0.to_string(), "--node-name", "server"]);
    let kubeconfig = kubeconfig(&world, &format!("http://{}", api.0));
    let options = ["--node-name", "us", "--external-ip-cidrs", "198.18.0.0/15"];
    let follower = Ringport::spawn_on_cluster(&world, &kubeconfig, &options);
    follower.wait_ready();
    let mut younger = web(world.port(), 8080);
    (younger.name, younger.external_ip) = ("younger", Some(external));
    world.apply("younger", &younger.yaml());

    let event = |service: &str, reason: &str| -> Option<Value> {
        let events = api.get("/api/v1/namespaces/default/events").expect(200);
        let events = events["items"].as_array().unwrap().clone();
        events.into_iter().find(|event| {
            event["source"]["host"] == "us"
                && event["reason"] == reason
                && event["involvedObject"]["name"] == service
        })
    };
    let taken = until("the port is told to be taken", || event("web", "PortTaken"));
    let uid = |name: &str| {
        api.get(&format!("/api/v1/namespaces/default/services/{name}")).expect(200)["metadata"]["uid"].clone()
    };
    assert_eq!(taken["involvedObject"]["uid"], uid("web"), "{taken}");
    assert!(taken["message"].as_str().unwrap().contains(&node_port.to_string()), "{taken}");
    let contested = until("so is the address", || event("younger", "AddressContested"));
    assert_eq!(contested["involvedObject"]["uid"], uid("younger"), "{contested}");
    for kubectl in kubectl::installed() {
        let said = kubectl.run(&world, api, "describe service younger");
        let line = said.stdout.lines().find(|line| line.contains("AddressContested")).map(str::to_owned);
        assert!(line.is_some_and(|line| line.contains("ringport")), "{kubectl:?}: {said:?}");
    }
}
