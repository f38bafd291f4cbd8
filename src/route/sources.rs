//! Which client addresses a frontend admits: CIDRs as disjoint ranges in order, so that a lookup is a binary
//! search however long the list is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The clients of a Service that names them; of the others see [`Sources::new`].
#[derive(Debug, PartialEq, Eq)]
pub struct Sources {
    /// First and last addresses, disjoint and in order; all of IPv4 are before those of IPv6.
    ranges: Box<[(IpAddr, IpAddr)]>,
}

impl Sources {
    /// `None` is everybody: there is no CIDR, or one of them is everything (a mask of zero, as in kube-proxy).
    /// Where all CIDRs are of one address family, nobody of the other is admitted: kube-proxy, which runs once
    /// for each family, would admit all of it.
    pub fn new(cidrs: &[IpNet]) -> Option<Self> {
        if cidrs.is_empty() || cidrs.iter().any(|cidr| cidr.prefix_len() == 0) {
            return None;
        }
        let mut all: Vec<(IpAddr, IpAddr)> = cidrs.iter().map(range).collect();
        // One CIDR holds another or has nothing of it: the wider one comes first, and takes it in.
        all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(all.len());
        for next in all {
            if ranges.last().is_none_or(|last| last.1 < next.0) {
                ranges.push(next);
            }
        }
        Some(Self { ranges: ranges.into() })
    }

    /// Whether an address is in one of the CIDRs.
    pub fn contains(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let after = self.ranges.partition_point(|(first, _)| *first <= client);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| client <= *last)
    }
}

/// The first and the last address of a CIDR. One inside `::ffff:0:0/96` is of IPv4.
fn range(cidr: &IpNet) -> (IpAddr, IpAddr) {
    match cidr {
        IpNet::V4(v4) => (v4.network().into(), v4.broadcast().into()),
        IpNet::V6(v6) => mapped(v6.network(), v6.broadcast(), v6.prefix_len())
            .map_or_else(|| (v6.network().into(), v6.broadcast().into()), |(a, b)| (a.into(), b.into())),
    }
}

fn mapped(first: Ipv6Addr, last: Ipv6Addr, prefix: u8) -> Option<(Ipv4Addr, Ipv4Addr)> {
    if prefix < 96 {
        return None;
    }
    Some((first.to_ipv4_mapped()?, last.to_ipv4_mapped()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sources(cidrs: &[&str]) -> Option<Sources> {
        Sources::new(&cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn no_cidr_or_one_that_is_everything_is_everybody() {
        for all in [&[][..], &["0.0.0.0/0"], &["10.0.0.0/8", "::/0"], &["10.1.2.3/0"]] {
            assert_eq!(sources(all), None, "{all:?}");
        }
    }

    #[test]
    fn the_clients_of_kube_proxys_test_load_balancer() {
        let sources =
            sources(&["192.168.0.0/24", "203.0.113.0/25", "203.0.113.7/32", "2001:db8::/64"]).unwrap();
        assert_eq!(sources.ranges.len(), 3, "one is inside another: {sources:?}");
        let table = [
            ("203.0.113.2", true),
            ("203.0.113.127", true),
            ("203.0.113.128", false),
            ("203.0.113.130", false),
            ("192.168.0.2", true),
            ("192.167.255.255", false),
            ("192.168.1.0", false),
            ("10.0.0.2", false),
            ("::ffff:203.0.113.2", true),
            ("2001:db8::1", true),
            ("2001:db8:0:1::1", false),
            ("::", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
        ];
        for (client, admitted) in table {
            assert_eq!(sources.contains(client.parse().unwrap()), admitted, "{client}");
        }
    }

    #[test]
    fn mapped_addresses_are_those_that_they_map() {
        let sources = sources(&["::ffff:192.0.2.0/120"]).unwrap();
        assert!(sources.contains("192.0.2.9".parse().unwrap()));
        assert!(!sources.contains("192.0.3.9".parse().unwrap()));
    }

    fn cidr() -> impl Strategy<Value = IpNet> {
        // Few different bits, so that they meet.
        let v4 = (0u32..64, 20u8..=32).prop_map(|(n, bits)| {
            IpNet::new(Ipv4Addr::from(0x0a00_0000 | n << 6).into(), bits).unwrap().trunc()
        });
        let v6 = (0u128..64, 116u8..=128).prop_map(|(n, bits)| {
            IpNet::new(Ipv6Addr::from(0x2001_0db8 << 96 | n << 6).into(), bits).unwrap().trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn a_lookup_is_the_same_as_asking_every_cidr(
            cidrs in prop::collection::vec(cidr(), 1..40),
            offsets in prop::collection::vec(0u32..5000, 50),
        ) {
            let sources = Sources::new(&cidrs).unwrap();
            for offset in offsets {
                let v4 = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + offset));
                let v6 = IpAddr::from(Ipv6Addr::from((0x2001_0db8 << 96) + u128::from(offset)));
                for client in [v4, v6] {
                    prop_assert_eq!(sources.contains(client), cidrs.iter().any(|c| c.contains(&client)), "{}", client);
                }
            }
        }
    }
}
