//! `ringport demo`: the sample Service, with pods inside this process.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::pods::Pods;
use super::{Error, print};
use crate::admin::State;
use crate::app;
use crate::config::Config;
use crate::k8s::table;
use crate::limits;
use crate::net::hold::{Beside, Hold};
use crate::route::snapshot::{FrontendKey, FrontendKind};
use crate::source::manifests::Input;
use crate::store::Store;

/// The Service, as a user would write it.
const SERVICE: &str = include_str!("../../configs/services/nodeport.yml");
/// The port of its pods.
const TARGET_PORT: u16 = 80;
/// The port they have where ports below 1024 are not for everyone.
const UNPRIVILEGED_PORT: u16 = 8080;
/// The Service's node port.
const NODE_PORT: u16 = 30_008;
/// How many pods there are.
const PODS: usize = 3;

pub(super) fn demo(config: &Config) -> Result<(), Error> {
    let pods = start_pods().map_err(Error::Pods)?;
    let names = pods.names().map_err(Error::Pods)?;
    let node_port = free_node_port(config);
    let service = with_ports(SERVICE, pods.port, node_port);
    pods.serve().map_err(Error::Pods)?;
    let inputs = vec![
        Input::Text { name: "configs/services/nodeport.yml".to_owned(), text: service },
        Input::Text { name: "pods".to_owned(), text: pod_manifests(&names) },
    ];
    let mut printed = Ok(());
    app::serve(config, inputs, |state, store| printed = print(&introduction(state, store, &names)))?;
    printed
}

/// On the sample's port, or on another where this process may not have it.
fn start_pods() -> io::Result<Pods> {
    Pods::bind(PODS, TARGET_PORT).or_else(|_| Pods::bind(PODS, UNPRIVILEGED_PORT))
}

/// The sample's node port, or the next one that is free. Where none is, the sample's: why it is not to be
/// had is said later.
fn free_node_port(config: &Config) -> u16 {
    let range = &config.service_node_port_range;
    let free = |port: &u16| Hold::take(None, *port, Beside::Nothing).is_ok();
    let mut candidates =
        (NODE_PORT..=*range.end()).filter(|port| range.contains(port)).take(limits::DEMO_PORTS_TRIED);
    candidates.find(free).unwrap_or(NODE_PORT)
}

fn with_ports(service: &str, target_port: u16, node_port: u16) -> String {
    service
        .replace(&format!("targetPort: {TARGET_PORT}\n"), &format!("targetPort: {target_port}\n"))
        .replace(&format!("nodePort: {NODE_PORT}\n"), &format!("nodePort: {node_port}\n"))
}

/// The Pods that the Service's selector finds.
fn pod_manifests(pods: &[(String, SocketAddr)]) -> String {
    let manifest = |(name, address): &(String, SocketAddr)| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels:\n    app: myapp\n    type: front-end\n\
             spec:\n  containers:\n    - name: web\n      image: demo\nstatus:\n  phase: Running\n  podIP: {ip}\n  \
             podIPs:\n    - ip: {ip}\n  conditions:\n    - type: Ready\n      status: \"True\"\n",
            ip = address.ip()
        )
    };
    pods.iter().map(manifest).collect()
}

/// What is there, and what to try.
fn introduction(state: &State, store: &Store, pods: &[(String, SocketAddr)]) -> String {
    let mut text = String::from("$ kubectl get services\n");
    text.push_str(&table::services(store.services(), false));
    text.push_str("\nIts pods, inside this process:\n");
    for (name, address) in pods {
        let _ = writeln!(text, "  {name}   {address}");
    }
    if pods.iter().any(|(_, address)| address.port() != TARGET_PORT) {
        let _ = writeln!(
            text,
            "  (Port {TARGET_PORT} is not to be had here, so their port, and the sample's targetPort, is \
             {UNPRIVILEGED_PORT}.)"
        );
    }
    text.push_str(&what_to_try(state));
    text
}

fn what_to_try(state: &State) -> String {
    let snapshot = state.plane.snapshot.load();
    let of_kind = |kind| snapshot.frontends().values().find(|frontend| frontend.kind == kind).map(|f| f.key);
    let mut text = String::new();
    match of_kind(FrontendKind::NodePort) {
        Some(key) => {
            if key.port != NODE_PORT {
                let _ = writeln!(
                    text,
                    "\nPort {NODE_PORT} is taken by another program, so the node port is {}.",
                    key.port
                );
            }
            let address = key.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let _ = writeln!(text, "\nTry it, several times:\n  curl {}", SocketAddr::new(address, key.port));
        }
        None => {
            text.push_str("\nThe node port cannot be served; it is tried again every second:\n");
            for problem in state.problems() {
                let _ = writeln!(text, "  {problem}");
            }
        }
    }
    if let Some(FrontendKey { address: Some(address), port, .. }) = of_kind(FrontendKind::ExternalIp) {
        let _ = writeln!(
            text,
            "\n{address} is the sample's external IP. It is no address of this machine, but ringport listens on it all\n\
             the same (IP_FREEBIND). Packets for it must find their way here; on this machine alone, this does it:\n  \
             sudo ip address add {address}/32 dev lo && curl {}",
            SocketAddr::new(address, port)
        );
    }
    text.push_str("\nCtrl-C ends the demo.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifests::Manifests;

    #[test]
    fn the_sample_finds_its_pods_on_whatever_ports_they_got() {
        let pods = [("myapp-1".to_owned(), "127.0.0.77:8080".parse().unwrap())];
        let service = with_ports(SERVICE, 8080, 30_011);
        let config = Config::defaults().unwrap();
        let mut store = Store::new(app::store_options(&config));
        let text = |name: &str, text| Input::Text { name: name.to_owned(), text };
        let inputs = vec![text("service", service), text("pods", pod_manifests(&pods))];
        assert_eq!(Manifests::new(inputs).reload(&mut store), []);
        let world = store.world();
        let service = world.services.values().next().unwrap();
        assert_eq!(service.ports[0].node_port, Some(30_011));
        let slice = &world.slices.values().next().unwrap()[0];
        assert_eq!(slice.ports[0].port, 8080);
        assert_eq!(slice.endpoints[0].address.to_string(), "127.0.0.77");
        assert!(slice.endpoints[0].ready);
    }
}
