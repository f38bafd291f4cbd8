//! Holding a port. For UDP see `hold_udp`; for TCP it is a socket that is bound and never listens.
//!
//! Listeners of a shard come and go; the hold stays, so that nothing else can take the port meanwhile,
//! and connections are refused while nobody listens. How it is made decides what it finds:
//!
//! 1. It is bound without SO_REUSEPORT, so that any other socket on the port is a conflict, even one
//!    with SO_REUSEPORT. It is bound with SO_REUSEADDR, so that connections in TIME_WAIT are none.
//! 2. Then SO_REUSEADDR is taken away, so that nothing else can bind beside it,
//! 3. and SO_REUSEPORT is set, so that the listeners of this user can, which set it as well.
//!    They need SO_REUSEADDR too, as their connections inherit it and may be in TIME_WAIT at step 1.
//!
//! The address need not be on an interface (IP_FREEBIND): externalIPs often are not.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::socket::Families;
use super::{hold_udp, socket};
use crate::types::Protocol;

/// A port that is held while this lives.
#[derive(Debug)]
pub struct Hold {
    /// One for TCP. For UDP one for each address family; none where only the shards' own sockets can hold.
    _sockets: Vec<Socket>,
}

/// Whether this process already holds the port on an overlapping address: a wildcard and one of its
/// addresses overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// No: any other socket is somebody else's, and a conflict.
    Nothing,
    /// Yes: that hold has found out about others, and this one joins it.
    OwnHold,
}

impl Hold {
    /// Holds a TCP or UDP port on one address, or on every IPv6 and IPv4 address of the node for `None`; there IPv4
    /// alone, where the node has no IPv6.
    ///
    /// # Errors
    /// As bind(2): EADDRINUSE, EACCES (a privileged port), EADDRNOTAVAIL, or EMFILE and friends.
    pub fn take(protocol: Protocol, address: Option<IpAddr>, port: u16, beside: Beside) -> io::Result<Self> {
        if protocol == Protocol::Udp {
            return Ok(Self { _sockets: hold_udp::take(address, port, beside)? });
        }
        socket::on_address(address, |ip, families| Self::bind(ip, families, port, beside))
    }

    fn bind(address: IpAddr, families: Families, port: u16, beside: Beside) -> io::Result<Self> {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket::allow_any_address(&socket, address, families)?;
        socket.set_reuse_address(true)?;
        if beside == Beside::OwnHold {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&SocketAddr::new(address, port).into())?;
        socket.set_reuse_address(false)?;
        socket.set_reuse_port(true)?;
        Ok(Self { _sockets: vec![socket] })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    /// A socket of somebody else, or one of our shards with both options.
    fn other(address: IpAddr, port: u16, reuse_addr: bool, reuse_port: bool) -> io::Result<Socket> {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(reuse_addr)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&SocketAddr::new(address, port).into())?;
        socket.listen(16)?;
        Ok(socket)
    }

    fn port_of(socket: &Socket) -> u16 {
        socket.local_addr().unwrap().as_socket().unwrap().port()
    }

    fn kinds() -> [(Option<IpAddr>, IpAddr, IpAddr); 5] {
        [
            (Some(V4), V4, V4),
            (Some(V6), V6, V6),
            (None, ANY6, V4),
            (Some(ANY4), ANY4, V4),
            (Some(ANY6), ANY6, V6),
        ]
    }

    fn in_use<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|e| e.kind() == ErrorKind::AddrInUse)
    }

    #[test]
    fn nothing_else_can_take_a_held_port_but_the_shards_can_and_it_refuses_without_them() {
        for (address, bind, connect) in kinds() {
            let hold = Hold::take(Protocol::Tcp, address, 0, Beside::Nothing).unwrap();
            let port = port_of(&hold._sockets[0]);
            assert!(in_use(other(bind, port, false, false)), "{bind}");
            assert!(in_use(other(bind, port, true, false)), "{bind}");
            let refused = TcpStream::connect((connect, port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{bind}");
            let shards: Vec<Socket> = (0..3).map(|_| other(bind, port, true, true).unwrap()).collect();
            TcpStream::connect((connect, port)).unwrap();
            drop(shards);
            let refused = TcpStream::connect((connect, port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{bind}");
            other(bind, port, true, true).unwrap();
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_found_taken_whatever_their_options() {
        for (address, bind, _) in kinds() {
            for (reuse_addr, reuse_port) in [(false, false), (true, false), (false, true), (true, true)] {
                let taken = other(bind, 0, reuse_addr, reuse_port).unwrap();
                let result = Hold::take(Protocol::Tcp, address, port_of(&taken), Beside::Nothing);
                assert!(in_use(result), "{bind} {reuse_addr} {reuse_port}");
            }
        }
    }

    #[test]
    fn a_wildcard_and_one_of_its_addresses_are_held_together_by_one_process() {
        let wildcard = Hold::take(Protocol::Tcp, None, 0, Beside::Nothing).unwrap();
        let port = port_of(&wildcard._sockets[0]);
        assert!(in_use(Hold::take(Protocol::Tcp, Some(V4), port, Beside::Nothing)));
        let specific = Hold::take(Protocol::Tcp, Some(V4), port, Beside::OwnHold).unwrap();
        // Both can be listened on, and the specific one wins for its address.
        let _on_wildcard = other(ANY6, port, true, true).unwrap();
        let on_specific = other(V4, port, true, true).unwrap();
        let client = TcpStream::connect((V4, port)).unwrap();
        let (_, from) = on_specific.accept().unwrap();
        assert_eq!(from.as_socket(), client.local_addr().ok());
        drop(specific);
    }

    #[test]
    fn an_address_of_no_interface_can_be_held() {
        // Addresses for documentation (RFC 5737, RFC 3849).
        for address in ["203.0.113.77", "2001:db8::77"] {
            let hold = Hold::take(Protocol::Tcp, Some(address.parse().unwrap()), 0, Beside::Nothing).unwrap();
            assert_eq!(hold._sockets[0].local_addr().unwrap().as_socket().unwrap().ip().to_string(), address);
        }
    }

    #[test]
    fn connections_in_time_wait_are_no_conflict() {
        let listener = other(V4, 0, true, true).unwrap();
        let port = port_of(&listener);
        let client = TcpStream::connect((V4, port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        drop((accepted, listener));
        // EOF here says that the accepting side has sent its FIN first: it will be the one in TIME_WAIT.
        assert_eq!(io::Read::read(&mut &client, &mut [0]).unwrap(), 0);
        drop(client);
        Hold::take(Protocol::Tcp, Some(V4), port, Beside::Nothing).unwrap();
    }
}
