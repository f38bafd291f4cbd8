//! `healthCheckNodePort`, as load balancers ask.

use crate::harness::manifest;
use crate::harness::metrics::get;
use crate::harness::process::Ringport;
use crate::harness::rig::local;
use crate::harness::wait::until;
use crate::harness::world::World;

#[test]
fn a_load_balancer_learns_whether_this_node_has_endpoints() {
    let world = World::new();
    let check = world.port();
    world.apply(
        "service",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: lb\nspec:\n  type: LoadBalancer\n  externalTrafficPolicy: Local\n  \
             healthCheckNodePort: {check}\n  selector:\n    app: lb\n  ports:\n  - port: 80\n    nodePort: {}\n",
            world.port()
        ),
    );
    let pod = |node: &str| {
        let pod = manifest::pod("pod", "lb", "10.9.9.9".parse().unwrap());
        pod.replace("spec:\n", &format!("spec:\n  nodeName: {node}\n"))
    };
    world.apply("pod", &pod("other"));
    let ringport = Ringport::start(&world, &["--node-name", "us"]);
    assert_eq!(get(local(check), "/any/path").unwrap().0, 503);
    let metric = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    assert_eq!(ringport.metrics().sum(metric, &["traffic_policy=\"external\""]), 1);
    world.apply("pod", &pod("us"));
    let (_, body) = until("it has one", || get(local(check), "/").ok().filter(|(status, _)| *status == 200));
    assert!(body.contains("\t\"localEndpoints\": 1,\n\t\"serviceProxyHealthy\": true\n}"), "{body}");
    assert_eq!(ringport.metrics().sum(metric, &[]), 0);
}
