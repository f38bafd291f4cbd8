//! Holding a UDP port. A bound socket takes part in receiving, so the hold must be one that hears nobody:
//!
//! 1. A socket is bound without any option to share the port, so that every other socket on it is a conflict,
//!    and let go at once. That finds out about others.
//! 2. A socket is bound the same way to stay, and connected to itself: the kernel gives it datagrams of that
//!    peer only, and it has none. So a port without any other socket still answers ICMP port unreachable.
//! 3. SO_REUSEPORT is set, so that the shards' sockets of this user can join.
//!
//! connect(2) turns a wildcard into one address. So a wildcard is held on the loopback address of each family,
//! which keeps every other wildcard away; a foreign socket on one other address of the node is found by the
//! shards, whose sockets then conflict with it.
//!
//! Sockets with the same address are one SO_REUSEPORT group, and the kernel shares datagrams among them by hash.
//! One that is connected is passed over, but its neighbour would get its part as well. So the hold belongs to
//! the interface `lo`: that makes it another group, and still a conflict for sockets that belong to none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::hold::Beside;
use super::socket::{self, Families};

/// See [`super::hold::Hold::take`].
pub(super) fn take(address: Option<IpAddr>, port: u16, beside: Beside) -> io::Result<Vec<Socket>> {
    // Step 1. The number counts from here on: for zero, the kernel has chosen one.
    let probe = socket::on_address(address, |ip, families| bind(ip, families, port, beside))?;
    let port = probe.local_addr()?.as_socket().map_or(port, |bound| bound.port());
    drop(probe);
    const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let held = match address {
        Some(address) if address.is_unspecified() => {
            LOOPBACK.into_iter().filter(|own| own.is_ipv4() == address.is_ipv4()).collect()
        }
        Some(address) => vec![address],
        None => LOOPBACK.to_vec(),
    };
    held.iter().filter_map(|address| deaf(*address, port, beside).transpose()).collect()
}

/// Steps 2 and 3. `None` where no socket can be made to hear nobody: the address is of no interface yet, or
/// there is no IPv6.
fn deaf(address: IpAddr, port: u16, beside: Beside) -> io::Result<Option<Socket>> {
    let socket = match bind(address, Families::One, port, beside) {
        Err(error) if socket::no_ipv6(&error) => return Ok(None),
        result => result?,
    };
    let made = socket
        .connect(&SocketAddr::new(address, port).into())
        .and_then(|()| socket.bind_device(Some(b"lo")))
        .and_then(|()| socket.set_reuse_port(true));
    Ok(made.is_ok().then_some(socket))
}

fn bind(address: IpAddr, families: Families, port: u16, beside: Beside) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket::allow_any_address(&socket, address, families)?;
    if beside == Beside::OwnHold {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SocketAddr::new(address, port).into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::net::hold::Hold;
    use crate::net::udp;
    use crate::types;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn hold(address: Option<IpAddr>, port: u16) -> io::Result<Hold> {
        Hold::take(types::Protocol::Udp, address, port, Beside::Nothing)
    }

    /// A number that no UDP socket has: held, and given free again.
    fn free_port() -> u16 {
        UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }

    fn other(address: IpAddr, port: u16, reuse_addr: bool, reuse_port: bool) -> io::Result<Socket> {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        socket.set_reuse_address(reuse_addr)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&SocketAddr::new(address, port).into())?;
        Ok(socket)
    }

    fn in_use<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|e| e.kind() == ErrorKind::AddrInUse)
    }

    /// A client that has sent one datagram.
    fn client(to: IpAddr, port: u16) -> UdpSocket {
        let client = UdpSocket::bind(SocketAddr::new(to, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.connect((to, port)).unwrap();
        client.send(b"x").unwrap();
        client
    }

    fn refused(to: IpAddr, port: u16) -> bool {
        client(to, port).recv(&mut [0]).unwrap_err().kind() == ErrorKind::ConnectionRefused
    }

    fn kinds() -> [(Option<IpAddr>, IpAddr, IpAddr); 7] {
        [
            (Some(V4), V4, V4),
            (Some(V6), V6, V6),
            (None, ANY6, V4),
            (None, ANY6, V6),
            (Some(ANY4), ANY4, V4),
            (Some(ANY6), ANY6, V6),
            (Some("127.3.2.1".parse().unwrap()), "127.3.2.1".parse().unwrap(), "127.3.2.1".parse().unwrap()),
        ]
    }

    #[test]
    fn a_held_port_hears_nobody_and_nobody_else_can_take_it() {
        for (address, bind, to) in kinds() {
            let port = free_port();
            let _hold = hold(address, port).unwrap();
            assert!(refused(to, port), "{bind}");
            for (reuse_addr, reuse_port) in [(false, false), (true, false)] {
                assert!(in_use(other(bind, port, reuse_addr, reuse_port)), "{bind} {reuse_addr}");
            }
            if address.is_none() {
                assert!(in_use(other(ANY4, port, false, false)), "the wildcard of IPv4 alone");
            }
        }
    }

    #[test]
    fn a_port_that_somebody_has_is_found_taken_whatever_their_options() {
        for (address, bind, _) in kinds() {
            for (reuse_addr, reuse_port) in [(false, false), (true, false), (false, true), (true, true)] {
                let taken = other(bind, 0, reuse_addr, reuse_port).unwrap();
                let port = taken.local_addr().unwrap().as_socket().unwrap().port();
                assert!(in_use(hold(address, port)), "{bind} {reuse_addr} {reuse_port}");
            }
        }
        let specific = other("127.9.9.9".parse().unwrap(), 0, false, false).unwrap();
        assert!(in_use(hold(None, specific.local_addr().unwrap().as_socket().unwrap().port())));
    }

    #[test]
    fn the_shards_share_evenly_beside_a_hold_and_without_them_it_is_refused_again() {
        const CLIENTS: usize = 400;
        for (address, bind, to) in kinds() {
            let port = free_port();
            let _hold = hold(address, port).unwrap();
            let shards: Vec<UdpSocket> =
                (0..2).map(|_| UdpSocket::from(udp::frontend(address, port).unwrap())).collect();
            let clients: Vec<UdpSocket> = (0..CLIENTS).map(|_| client(to, port)).collect();
            // On loopback a datagram has arrived when send(2) is back.
            let counts = shards.iter().map(|shard| std::iter::from_fn(|| shard.recv(&mut [0]).ok()).count());
            let counts: Vec<usize> = counts.collect();
            assert_eq!(counts.iter().sum::<usize>(), CLIENTS, "{bind}: the hold has taken some");
            // Five standard deviations are 50.
            assert!(counts.iter().all(|n| (150..=250).contains(n)), "{bind}: {counts:?}");
            drop((shards, clients));
            assert!(refused(to, port), "{bind}");
        }
    }

    #[test]
    fn a_wildcard_and_one_of_its_addresses_are_held_together_by_one_process() {
        let port = free_port();
        let _wildcard = hold(None, port).unwrap();
        assert!(in_use(hold(Some(V4), port)));
        let _specific = Hold::take(types::Protocol::Udp, Some(V4), port, Beside::OwnHold).unwrap();
        let _on_wildcard = UdpSocket::from(udp::frontend(None, port).unwrap());
        let on_specific = UdpSocket::from(udp::frontend(Some(V4), port).unwrap());
        let client = client(V4, port);
        let (_, from) = on_specific.recv_from(&mut [0]).unwrap();
        assert_eq!(from, client.local_addr().unwrap());
    }

    #[test]
    fn an_address_of_no_interface_is_no_error() {
        // Addresses for documentation (RFC 5737, RFC 3849).
        for address in ["203.0.113.77", "2001:db8::77"] {
            hold(Some(address.parse().unwrap()), free_port()).unwrap();
        }
    }
}
