//! `--via node-port`: namespaces stand for a laptop, the node of a minikube, and its pods.

use std::net::SocketAddr;

use crate::harness::client::ask;
use crate::harness::netns::{Lab, NODE, POD, pod_ip};
use crate::harness::process::{Ringport, command};
use crate::harness::wait::until;
use crate::harness::world::World;

const NODE_MANIFEST: &str = "apiVersion: v1\nkind: Node\nmetadata:\n  name: minikube\nstatus:\n  addresses:\n  \
    - type: InternalIP\n    address: 192.0.2.1\n  conditions:\n  - type: Ready\n    status: \"True\"\n";

fn pod(ready: &str) -> String {
    let pod = crate::harness::manifest::pod("pod", "myapp", POD[0].parse().unwrap());
    let pod = pod.replace("    app: myapp\n", "    app: myapp\n    type: front-end\n");
    pod.replace("status: \"True\"", &format!("status: {ready:?}"))
}

/// The seed's Service has externalIPs [1.2.3.110] and nodePort 30008; on the laptop the first answers, through the
/// second.
#[test]
fn external_ips_of_a_minikube_answer_on_the_laptop() {
    let Some(lab) = Lab::new() else { return };
    let (laptop, node) = (&lab.client, &lab.node);
    let world = World::new();
    let state = world.path("state");
    let seed = include_str!("../../../configs/services/nodeport.yml");
    world.apply("service", seed);
    world.apply("pod", &pod("True"));
    world.apply("node", NODE_MANIFEST);
    let _pod = lab.pods.pod(SocketAddr::new(pod_ip(0, 0), 80), "pod");
    let at = format!("{}:6443", NODE[0]);
    let api = ["--api", &at, "--state-dir", state.to_str().unwrap(), "--node-name", "minikube"];
    let _minikube = node.run(|| {
        let minikube = Ringport::spawn(&world, &api);
        minikube.wait_ready();
        minikube
    });
    let kubeconfig = world.path("kubeconfig");
    let output = command(&["kubeconfig"]).args(&api[..4]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&kubeconfig, &output.stdout).unwrap();

    let external: SocketAddr = "1.2.3.110:80".parse().unwrap();
    let ringport = laptop.run(|| {
        let options = ["--via", "node-port", "--via-node-ports"];
        let addresses = ["--manage-addresses", "--external-ip-cidrs", "1.2.3.0/24"];
        let ringport = Ringport::spawn_on_cluster(&world, &kubeconfig, &[&options[..], &addresses].concat());
        ringport.wait_ready();
        assert_eq!(ask(external).unwrap(), "pod", "{}", ringport.log());
        assert_eq!(
            ask("127.0.0.1:30008".parse().unwrap()).unwrap(),
            "pod",
            "the node port by its own number"
        );
        ringport
    });
    let status = laptop.run(|| ringport.statusz());
    assert!(status.contains("192.0.2.1:30008"), "its endpoint is the node: {status}");

    // Nothing behind it: refused here, at once.
    world.apply("pod", &pod("False"));
    laptop.run(|| until("it is refused", || ask(external).is_err().then_some(())));
    world.apply("pod", &pod("True"));
    laptop.run(|| until("it answers again", || ask(external).ok()));
}
