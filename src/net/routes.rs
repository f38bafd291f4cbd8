//! Local routes: addresses that the kernel takes for its own although no interface has them. `ip route add local
//! 1.2.3.110 dev lo` by rtnetlink(7), and a look at all that there are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Who has made a route, as the kernel keeps it (`ip route` prints `proto 82`): ringport. None of those that
/// /etc/iproute2/rt_protos lists.
pub const PROTOCOL: u8 = 0x52;

/// The table `local` (rtnetlink(7) RT_TABLE_LOCAL).
const TABLE: u8 = 255;

/// The loopback interface of every network namespace.
const LOOPBACK: u32 = 1;

/// A route of the table `local` and type `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRoute {
    /// What it takes for an address of this node.
    pub destination: IpNet,
    /// Whether ringport made it.
    pub ours: bool,
}

/// A conversation with the kernel about routes. It answers at once, so nothing here waits.
pub struct Routes {
    socket: Socket,
    sequence: u32,
}

impl Routes {
    /// Opens one for the network namespace of the calling thread.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // So that the kernel looks through the asked table only; without it (before Linux 4.20) it tells all.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// All local routes, IPv4 and IPv6. Needs no right.
    ///
    /// # Errors
    /// As recv(2), or what the kernel answers.
    pub fn local(&mut self) -> io::Result<Vec<LocalRoute>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = TABLE;
            let answer = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP);
            match answer {
                Ok(routes) => found.extend(routes.iter().filter_map(local)),
                // No route yet, or no IPv6 at all.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Makes an address one of this node's.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN; EEXIST where there is such a route; ENETDOWN where the loopback interface is down.
    pub fn add(&mut self, address: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewRoute(message(address));
        self.ask(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    /// Takes a route back that [`Routes::add`] made, in this process or another; no other route matches.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN; ESRCH where there is none.
    pub fn remove(&mut self, address: IpAddr) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::DelRoute(message(address)), NLM_F_ACK).map(|_| ())
    }

    /// Sends a request and collects the routes of the answer.
    fn ask(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut routes = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if self.read(&datagram, &mut routes)? {
                return Ok(routes);
            }
        }
    }

    /// Reads the messages of one datagram. True at the end of the answer.
    fn read(&self, mut datagram: &[u8], routes: &mut Vec<RouteMessage>) -> io::Result<bool> {
        while !datagram.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Messages begin at multiples of four bytes.
            let length = (message.header.length as usize).next_multiple_of(4);
            if length == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            datagram = datagram.get(length..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return if error.code.is_none() { Ok(true) } else { Err(error.to_io()) };
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => routes.push(route),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// `local ADDRESS dev lo table local proto 82 scope host`
fn message(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.table = TABLE;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.scope = RouteScope::Host;
    message.header.kind = RouteType::Local;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    message.attributes.push(RouteAttribute::Oif(LOOPBACK));
    message
}

fn local(route: &RouteMessage) -> Option<LocalRoute> {
    let header = &route.header;
    if header.table != TABLE || header.kind != RouteType::Local {
        return None;
    }
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    // A route to everything has no destination.
    let everything = match header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let destination = IpNet::new(destination.unwrap_or(everything), header.destination_prefix_length).ok()?;
    Some(LocalRoute { destination, ours: header.protocol == RouteProtocol::Other(PROTOCOL) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_addresses_are_local_and_nobody_elses_routes_are_ours() {
        let routes = Routes::open().unwrap().local().unwrap();
        let of = |address: IpAddr| routes.iter().find(|route| route.destination.contains(&address));
        assert_eq!(of(Ipv4Addr::LOCALHOST.into()).map(|route| route.ours), Some(false), "{routes:?}");
        let documentation = of(Ipv4Addr::new(203, 0, 113, 9).into());
        assert!(documentation.is_none_or(|route| route.destination.prefix_len() < 24), "{documentation:?}");
    }

    #[test]
    fn the_kernels_answer_to_a_route_that_is_not_there_is_an_error_of_its_own() {
        let error = Routes::open().unwrap().remove("203.0.113.9".parse().unwrap()).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EPERM)), "{error}");
    }
}
