//! The addresses of this node, and those of them that node ports listen on.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where node ports listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On every address, those of tomorrow too.
    Everywhere,
    /// On these, sorted.
    On(Vec<IpAddr>),
}

/// Chooses among the node's addresses as kube-proxy's NodePortAddresses does: an address family for
/// which there is no CIDR keeps all its addresses (kubernetes pkg/proxy/util/nodeport_addresses.go).
pub fn select(cidrs: &[IpNet], addresses: &[IpAddr]) -> Listen {
    let all = |v6: bool| {
        let zero = if v6 { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) };
        let mut of_family = cidrs.iter().filter(|cidr| matches!(cidr, IpNet::V6(_)) == v6).peekable();
        of_family.peek().is_none() || of_family.any(|cidr| *cidr == zero)
    };
    let (all_v4, all_v6) = (all(false), all(true));
    if all_v4 && all_v6 {
        return Listen::Everywhere;
    }
    let wanted = |address: &IpAddr| {
        let whole_family = if address.is_ipv6() { all_v6 } else { all_v4 };
        whole_family || cidrs.iter().any(|cidr| cidr.contains(address))
    };
    Listen::On(addresses.iter().copied().filter(wanted).collect::<BTreeSet<_>>().into_iter().collect())
}

/// The source addresses of the default routes, IPv4 and IPv6. Nothing is sent.
pub fn primary() -> Vec<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): no host route leads to them.
    let towards: [(SocketAddr, SocketAddr); 2] = [
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into()),
        ((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into()),
    ];
    towards
        .into_iter()
        .filter_map(|(from, to)| source(from, to))
        .filter(|address| !address.is_unspecified())
        .collect()
}

/// Whether this node has an address on one of its interfaces, as the kernel knows at this moment: to itself alone
/// would it send from there. (That a socket can be bound to it says nothing under net.ipv4.ip_nonlocal_bind.)
pub fn is_own(ip: IpAddr) -> bool {
    let from: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    !ip.is_unspecified() && source((from, 0).into(), (ip, 9).into()) == Some(ip)
}

/// The address that the kernel would send from. Nothing is sent.
fn source(from: SocketAddr, to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The addresses on all interfaces, without IPv6 link-local ones: those cannot be bound without the
/// name of an interface.
pub fn all() -> io::Result<Vec<IpAddr>> {
    Ok(networks()?.iter().map(IpNet::addr).collect())
}

/// The same with the networks that they are in: those of their netmasks.
///
/// # Errors
/// As getifaddrs(3).
pub fn networks() -> io::Result<Vec<IpNet>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer that getifaddrs writes.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: getifaddrs made a list that ends with null; each entry stays valid until freeifaddrs.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: both are null or point to a socket address of the family that they name.
        let (address, mask) = unsafe { (address_of(entry.ifa_addr), address_of(entry.ifa_netmask)) };
        found.extend(address.map(|address| network(address, mask)));
    }
    // SAFETY: `list` came from getifaddrs, is freed once, and nothing of it is used afterwards.
    unsafe {
        libc::freeifaddrs(list);
    }
    found.retain(|network| !matches!(network.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local()));
    Ok(found)
}

/// An address with its network; alone in it where there is no mask.
fn network(address: IpAddr, mask: Option<IpAddr>) -> IpNet {
    mask.and_then(|mask| IpNet::with_netmask(address, mask).ok()).unwrap_or_else(|| IpNet::from(address))
}

/// # Safety
/// `address` is null or points to a socket address of the family that it names.
unsafe fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: not null is checked by as_ref; the caller answers for the rest.
    let family = unsafe { address.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: of family AF_INET, so it is a sockaddr_in; read_unaligned asks nothing of its place.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
        }
        libc::AF_INET6 => {
            // SAFETY: of family AF_INET6, so it is a sockaddr_in6; read_unaligned asks nothing of its place.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, CIDRs, addresses of the node, those chosen (`None` is everywhere).
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<&'a [&'a str]>);

    /// The cases of kubernetes pkg/proxy/util TestGetNodeIPs, both families at once.
    #[test]
    fn the_table_of_get_node_ips() {
        let cases: &[Case<'_>] = &[
            ("IPv4 single", &["10.20.30.0/24"], &["10.20.30.51", "100.200.201.1"], Some(&["10.20.30.51"])),
            ("IPv4 zero CIDR", &["0.0.0.0/0"], &["10.20.30.51", "127.0.0.1"], None),
            (
                "IPv6 multiple",
                &["2001:db8::/64", "::1/128"],
                &["2001:db8::1", "::1"],
                Some(&["::1", "2001:db8::1"]),
            ),
            ("IPv6 zero CIDR", &["::/0"], &["2001:db8::1", "::1"], None),
            ("IPv4 localhost exact", &["127.0.0.1/32"], &["10.20.30.51", "127.0.0.1"], Some(&["127.0.0.1"])),
            ("IPv4 localhost subnet", &["127.0.0.0/8"], &["127.0.1.1"], Some(&["127.0.1.1"])),
            (
                "IPv4 multiple",
                &["10.20.30.0/24", "100.200.201.0/24"],
                &["10.20.30.51", "100.200.201.1"],
                Some(&["10.20.30.51", "100.200.201.1"]),
            ),
            (
                "IPv4 multiple, no match",
                &["10.20.30.0/24", "100.200.201.0/24"],
                &["192.168.1.2", "127.0.0.1"],
                Some(&[]),
            ),
            ("empty list, IPv4", &[], &["192.168.1.2", "127.0.0.1"], None),
            ("empty list, IPv6", &[], &["2001:db8::1", "::1"], None),
            ("IPv4 redundant CIDRs", &["1.2.3.0/24", "0.0.0.0/0"], &["1.2.3.4"], None),
            (
                "dual-stack, redundant IPv4",
                &["0.0.0.0/0", "1.2.3.0/24", "2001:db8::1/128"],
                &["1.2.3.4", "2001:db8::1", "127.0.0.1", "::1"],
                Some(&["1.2.3.4", "127.0.0.1", "2001:db8::1"]),
            ),
            (
                "dual-stack, redundant IPv6",
                &["::/0", "1.2.3.0/24", "2001:db8::1/128"],
                &["1.2.3.4", "2001:db8::1", "127.0.0.1", "::1"],
                Some(&["1.2.3.4", "::1", "2001:db8::1"]),
            ),
            (
                "a family without a CIDR keeps its addresses",
                &["10.0.0.0/8"],
                &["10.0.0.1", "192.0.2.1", "fd00::1", "10.0.0.1"],
                Some(&["10.0.0.1", "fd00::1"]),
            ),
        ];
        for (name, cidrs, addresses, wanted) in cases {
            let cidrs: Vec<IpNet> = cidrs.iter().map(|c| c.parse().unwrap()).collect();
            let parse = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
            let wanted = wanted.map_or(Listen::Everywhere, |list| Listen::On(parse(list)));
            assert_eq!(select(&cidrs, &parse(addresses)), wanted, "{name}");
        }
    }

    #[test]
    fn this_machine_has_a_loopback_address_and_its_primary_ones_are_among_all() {
        let all = all().unwrap();
        assert!(all.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{all:?}");
        assert!(networks().unwrap().contains(&"127.0.0.1/8".parse().unwrap()), "{all:?}");
        for address in &all {
            assert!(is_own(*address), "{address}");
        }
        for foreign in ["203.0.113.77", "2001:db8::77", "0.0.0.0", "::", "8.8.8.8"] {
            assert!(!is_own(foreign.parse().unwrap()), "{foreign}");
        }
        for address in primary() {
            assert!(all.contains(&address), "{address} is not in {all:?}");
        }
    }
}
