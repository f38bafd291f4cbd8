//! From which address a pod is connected to: this node's, or under `externalTrafficPolicy: Local` the client's.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::run::Shard;
use crate::clock::{self, Millis};
use crate::limits;
use crate::net::addresses;
use crate::route::pick::Targets;
use crate::route::snapshot::Frontend;
use crate::types::{ClientAddr, EndpointAddr};

/// The networks that this node has an address in, as they were a moment ago.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    networks: Vec<IpNet>,
    read: Option<Millis>,
}

/// The client's address and port, where this pod is to see them and can answer to them. Never for the targets of
/// the node itself: those may be on other nodes.
pub(super) fn of(
    shard: &Shard,
    frontend: &Frontend,
    targets: &Targets,
    client: ClientAddr,
    endpoint: EndpointAddr,
) -> Option<SocketAddr> {
    if !frontend.keeps_client {
        return None;
    }
    let client = SocketAddr::new(client.0.ip().to_canonical(), client.0.port());
    let local = std::ptr::eq(targets, &raw const *frontend.targets);
    let possible = local
        && shard.options.transparent.has(client.ip())
        && comes_back(client.ip(), endpoint.0.ip(), shard.nearby.borrow_mut().networks());
    if !possible {
        frontend.port.stats.of(shard.index).client_replaced.add(1);
    }
    possible.then_some(client)
}

/// Whether an interface of this node has an address, or had it a moment ago: without a system call, for each datagram
/// that else is refused.
pub(super) fn is_own(shard: &Shard, ip: IpAddr) -> bool {
    shard.nearby.borrow_mut().networks().iter().any(|network| network.addr() == ip)
}

impl Nearby {
    fn networks(&mut self) -> &[IpNet] {
        let now = clock::now();
        if self.read.is_none_or(|read| now.since(read) >= limits::NETWORKS_AGE) {
            self.read = Some(now);
            // What was known before is better than nothing.
            if let Ok(networks) = addresses::networks() {
                self.networks = networks;
            }
        }
        &self.networks
    }
}

/// Whether an answer of this pod to this client would come through this node, as a packet from outside of it.
fn comes_back(client: IpAddr, pod: IpAddr, networks: &[IpNet]) -> bool {
    let ours = |ip: IpAddr| networks.iter().any(|network| network.addr() == ip);
    // The smallest network that the pod is in.
    let shared = networks.iter().filter(|network| network.contains(&pod)).max_by_key(|n| n.prefix_len());
    client.is_ipv4() == pod.is_ipv4()
        && !is_special(client)
        && client != pod
        && !ours(client)
        // A pod of the host's network answers without any packet.
        && !ours(pod)
        // Neighbours on one bridge answer each other directly.
        && !shared.is_some_and(|network| network.contains(&client))
}

/// Addresses that no answer finds.
fn is_special(ip: IpAddr) -> bool {
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || match ip {
            IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_do_not_come_back() {
        let networks: Vec<IpNet> = [
            "127.0.0.1/8",
            "10.0.0.5/8",
            "10.244.1.1/24",
            "2001:db8::5/64",
            "fd00:244::1/64",
            "198.51.100.5/32",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        for (client, pod, wanted, why) in [
            ("192.0.2.7", "10.244.1.10", true, "a client from outside"),
            ("10.1.2.3", "10.244.1.10", true, "of a network around that of the pods"),
            ("2001:db8:9::7", "fd00:244::10", true, "IPv6"),
            ("2001:db8::7", "fd00:244::10", true, "a neighbour of the node"),
            ("10.244.1.11", "10.244.1.10", false, "pods on one bridge"),
            ("10.244.1.10", "10.244.1.10", false, "the pod itself"),
            ("10.244.1.1", "10.244.1.10", false, "the node"),
            ("198.51.100.5", "10.244.1.10", false, "another address of the node"),
            ("127.0.0.1", "10.244.1.10", false, "loopback"),
            ("169.254.1.1", "10.244.1.10", false, "link-local"),
            ("fe80::1", "fd00:244::10", false, "link-local"),
            ("0.0.0.0", "10.244.1.10", false, "nobody"),
            ("192.0.2.7", "10.0.0.5", false, "a pod of the host's network"),
            ("192.0.2.7", "127.0.0.1", false, "a pod on loopback"),
            ("192.0.2.7", "fd00:244::10", false, "two families"),
        ] {
            let (client, pod) = (client.parse().unwrap(), pod.parse().unwrap());
            assert_eq!(comes_back(client, pod, &networks), wanted, "{why}");
        }
    }
}
