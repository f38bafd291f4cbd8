//! `spec.loadBalancerSourceRanges`: which clients the addresses of a load balancer serve.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// The ranges of one frontend; none lets everyone in. Node ports are never filtered, as with kube-proxy.
#[derive(Clone, Debug, Default)]
pub struct Sources(Option<Arc<[IpNet]>>);

impl Sources {
    /// Those of a Service.
    pub fn new(ranges: &[IpNet]) -> Self {
        Self((!ranges.is_empty()).then(|| ranges.into()))
    }

    /// Whether a client may come. Ranges count in their own family: without one of the client's family, or
    /// with one that is all of it, everyone of that family may. `local` is the address that the client
    /// has connected to: the node itself always may.
    pub fn admit(&self, client: IpAddr, local: impl FnOnce() -> Option<IpAddr>) -> bool {
        let Some(ranges) = &self.0 else { return true };
        let client = client.to_canonical();
        let mut of_family =
            ranges.iter().filter(|range| range.addr().is_ipv4() == client.is_ipv4()).peekable();
        let open = of_family.peek().is_none();
        open || of_family.any(|range| range.contains(&client))
            || client.is_loopback()
            || local() == Some(client)
    }
}

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(ranges: &[&str], client: &str) -> bool {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Sources::new(&ranges).admit(client.parse().unwrap(), || Some("192.0.2.1".parse().unwrap()))
    }

    #[test]
    fn ranges_let_in_whom_they_hold() {
        for (ranges, client, wanted) in [
            (&[][..], "203.0.113.1", true),
            (&["203.0.113.0/25"], "203.0.113.1", true),
            (&["203.0.113.0/25"], "::ffff:203.0.113.1", true),
            (&["203.0.113.0/25"], "203.0.113.200", false),
            (&["203.0.113.0/25", "198.51.100.0/24"], "198.51.100.9", true),
            (&["0.0.0.0/0"], "198.51.100.9", true),
            // Ranges of the other family say nothing.
            (&["2001:db8::/32"], "198.51.100.9", true),
            (&["203.0.113.0/25"], "2001:db8::1", true),
            (&["203.0.113.0/25", "2001:db8::/64"], "2001:db8:1::1", false),
            // The node itself.
            (&["203.0.113.0/25"], "192.0.2.1", true),
            (&["203.0.113.0/25"], "127.0.0.1", true),
        ] {
            assert_eq!(admits(ranges, client), wanted, "{client} in {ranges:?}");
        }
    }
}
