//! Hosts of network namespaces: that they are what the other tests take them for.

use std::net::{IpAddr, SocketAddr};

use crate::harness::client::{ask, ask_from};
use crate::harness::manifest::pod;
use crate::harness::metrics::Metrics;
use crate::harness::netns::{CLIENT, Host, Lab, Lan, NODE, OTHER_CLIENT, POD, pod_ip};
use crate::harness::process::Ringport;
use crate::harness::rig::web;
use crate::harness::world::World;

#[test]
fn a_client_reaches_pods_through_the_node_from_each_of_its_addresses() {
    let Some(lab) = Lab::new() else { return };
    for family in 0..2 {
        let to = SocketAddr::new(pod_ip(family, 1), 8080);
        let _pod = lab.pods.pod(to, "pod-1");
        for from in [CLIENT[family], OTHER_CLIENT[family]] {
            let from: IpAddr = from.parse().unwrap();
            assert_eq!(lab.client.run(|| ask_from(from, to)).unwrap(), "pod-1", "{from}");
        }
        let node = SocketAddr::new(NODE[family].parse().unwrap(), 8080);
        assert!(lab.client.run(|| ask(node)).is_err(), "nobody listens on {node}");
    }
    assert!(lab.client.ip("-4 route get 10.244.0.10").contains(NODE[0]));
    assert_eq!(pod_ip(1, 0).to_string(), POD[1]);
}

#[test]
fn ringport_on_one_host_joins_a_client_on_another_with_a_pod_on_a_third() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new();
    let node_port = world.port();
    world.apply("service", &web(node_port, 8080).yaml());
    world.apply("pod", &pod("pod", "web", POD[0].parse().unwrap()));
    let _pod = lab.pods.pod(SocketAddr::new(pod_ip(0, 0), 8080), "pod");
    // Its health and metrics are on the loopback interface of the node.
    let ringport = lab.node.run(|| {
        let ringport = Ringport::spawn_through(&world, &["setpriv", "--no-new-privs"], &[]);
        ringport.wait_ready();
        ringport
    });
    for node in NODE {
        let node = SocketAddr::new(node.parse().unwrap(), node_port);
        assert_eq!(lab.client.run(|| ask(node)).unwrap(), "pod");
    }
    let over = |metrics: &Metrics| metrics.ended("complete") == 2 && metrics.active() == 0;
    lab.node.run(|| ringport.until_metrics("both are over", over));
}

#[test]
fn hosts_on_a_switch_reach_each_other() {
    let Some(lan) = Lan::new() else { return };
    let (Some(one), Some(two), Some(three)) = (Host::new("one"), Host::new("two"), Host::new("three")) else {
        return;
    };
    for (host, last) in [(&one, 1), (&two, 2), (&three, 3)] {
        lan.attach(host, "eth0", &[&format!("198.51.100.{last}/24"), &format!("2001:db8:2::{last}/64")]);
    }
    for to in ["198.51.100.3:80", "[2001:db8:2::3]:80"] {
        let to: SocketAddr = to.parse().unwrap();
        let _pod = three.pod(to, "three");
        for host in [&one, &two, &three] {
            assert_eq!(host.run(|| ask(to)).unwrap(), "three");
        }
    }
}

#[test]
fn a_sysctl_of_a_host_is_its_own() {
    let Some(host) = Host::new("host") else { return };
    let key = "net/ipv4/ip_local_port_range";
    let before = std::fs::read_to_string(format!("/proc/sys/{key}")).unwrap();
    host.set_sysctl(key, "50000 50010");
    assert_eq!(host.sysctl(key).split_whitespace().collect::<Vec<_>>(), ["50000", "50010"]);
    assert_eq!(std::fs::read_to_string(format!("/proc/sys/{key}")).unwrap(), before);
}
