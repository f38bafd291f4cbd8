//! A ringport with an API.

use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::http::Api;
use crate::harness::process::Ringport;
use crate::harness::world::World;

/// Services of the namespace `default`.
pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";

/// See the module.
pub(crate) struct Rig {
    pub(crate) ringport: Ringport,
    pub(crate) world: World,
    pub(crate) api: Api,
}

/// Starts it with these options more.
pub(crate) fn start(args: &[&str]) -> Rig {
    let world = World::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, world.port()));
    let text = address.to_string();
    let args = [&["--api", &text], args].concat();
    let ringport = Ringport::start(&world, &args);
    let api = Api(address);
    crate::harness::wait::until("the API answers", || {
        api.try_send("GET", "/readyz", &[], b"").ok().filter(|answer| answer.status == 200)
    });
    Rig { ringport, world, api }
}

/// A Service of type NodePort as JSON.
pub(crate) fn node_port(name: &str, node_port: u16, target_port: u16) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"type": "NodePort", "selector": {"app": name},
                 "ports": [{"port": 80, "targetPort": target_port, "nodePort": node_port}]}
    })
    .to_string()
}

/// A Service with nothing special.
pub(crate) fn plain(name: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"ports": [{"port": 80}]}
    })
    .to_string()
}
