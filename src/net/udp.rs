//! Sockets for datagrams: a frontend's on each shard, one towards the pod for each flow, and sending on them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::net::SendFlags;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::socket::{self, Families};
use super::transparent;
use crate::limits;

/// A frontend's socket for one shard: one of a SO_REUSEPORT group. It asks for all that a reply needs to know:
/// a wildcard socket for the address that each datagram was sent to. The address need not be on an interface
/// (IP_FREEBIND).
///
/// `None` is every IPv6 and IPv4 address of the node, or all of IPv4 where it has no IPv6.
///
/// # Errors
/// EADDRINUSE, EACCES (a port below 1024 without CAP_NET_BIND_SERVICE), EMFILE.
pub fn frontend(address: Option<IpAddr>, port: u16) -> io::Result<OwnedFd> {
    socket::on_address(address, |ip, families| frontend_on(SocketAddr::new(ip, port), families))
}

fn frontend_on(address: SocketAddr, families: Families) -> io::Result<OwnedFd> {
    let socket = datagram_socket(address)?;
    socket.set_reuse_port(true)?;
    socket::allow_any_address(&socket, address.ip(), families)?;
    if address.ip().is_unspecified() {
        if address.is_ipv4() {
            set(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        } else {
            set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
    }
    receive_buffer(&socket, limits::UDP_FRONTEND_BUFFER);
    gather(&socket);
    // Each datagram says how many the kernel had to drop before it.
    let _ = set(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    if set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, limits::UDP_SEND_BUFFER).is_err() {
        let _ = set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, limits::UDP_SEND_BUFFER);
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that is connected to a pod: it hears nobody else, and learns of ICMP errors, also of those after which the
/// kernel would go on trying (IP_RECVERR: no route to the host, no such neighbour). It has the address of a client where
/// one is given, see [`transparent::bind_as`].
///
/// # Errors
/// EMFILE, ENFILE, ENOBUFS; EAGAIN and EADDRNOTAVAIL when no local port is free; ENETUNREACH. For a client also those
/// of [`transparent::bind_as`].
pub fn towards(endpoint: SocketAddr, source: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let socket = datagram_socket(endpoint)?;
    if endpoint.is_ipv4() {
        set(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
    } else {
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
    }
    if let Some(client) = source {
        transparent::bind_as(&socket, client)?;
    }
    socket.connect(&endpoint.into())?;
    Ok(socket.into())
}

/// Forgets what is told of errors beside the error itself (MSG_ERRQUEUE), for a socket of [`towards`] that goes on after
/// one: while something is left of it, the socket would count as one that has something to say.
pub fn forget_errors(socket: &OwnedFd) {
    let mut nothing = socket2::MsgHdrMut::new();
    while SockRef::from(socket).recvmsg(&mut nothing, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT).is_ok() {}
}

/// For a flow that turns out to be a busy one: room for bursts.
pub fn widen(socket: &OwnedFd) {
    receive_buffer(&SockRef::from(socket), limits::UDP_FLOW_BUFFER);
}

/// From now on datagrams of one size may come together (UDP_GRO). Where the kernel cannot, they come one by one.
pub fn gather(socket: &impl AsFd) {
    let _ = set(&SockRef::from(socket), libc::SOL_UDP, libc::UDP_GRO, 1);
}

/// Datagrams that the kernel had to drop before this socket, for want of room, since it was made. Wraps.
///
/// # Errors
/// Those of getsockopt(2).
pub fn overflows(socket: &OwnedFd) -> io::Result<u32> {
    // SK_MEMINFO_VARS numbers; the last one is SK_MEMINFO_DROPS (include/uapi/linux/sock_diag.h).
    let mut memory = [0_u32; 9];
    let mut size = size_of_val(&memory) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which `memory` has.
    let result = unsafe {
        let place = (&raw mut memory).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, place, &raw mut size)
    };
    let [.., drops] = memory;
    if result == 0 { Ok(drops) } else { Err(io::Error::last_os_error()) }
}

/// A larger buffer; it helps, and is no error where it is missing.
fn receive_buffer(socket: &Socket, buffer: usize) {
    let size = libc::c_int::try_from(buffer).unwrap_or(libc::c_int::MAX);
    if set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size).is_err() {
        let _ = socket.set_recv_buffer_size(buffer);
    }
}

fn datagram_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new_raw(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))
}

fn set(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: all these options read one int.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// === sending ===

/// Where a datagram goes and what goes with it. The default: to the peer of a connected socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Route<'a> {
    /// To whom, on a socket that is not connected. It is shared with datagrams on their way.
    pub to: Option<&'a Rc<SockAddr>>,
    /// From which address of this node, on a wildcard socket, and of which interface (zero: any).
    pub from: Option<(IpAddr, u32)>,
}

/// Sends a payload without waiting: as one datagram, or as several of `segment` bytes each and a shorter last one.
///
/// # Errors
/// Those of sendmsg(2). EAGAIN: the socket's buffer is full. EMSGSIZE: too large. On a connected socket also those
/// that ICMP has brought: ECONNREFUSED, EHOSTUNREACH; then nothing was sent, and the next call tries again.
pub fn send(socket: &OwnedFd, route: &Route<'_>, payload: &[u8], segment: Option<u16>) -> io::Result<()> {
    let segment = segment.filter(|size| usize::from(*size) < payload.len());
    send_message(socket, route, payload, segment).or_else(|error| match segment {
        Some(size) if is_too_much(&error) => send_apart(socket, route, payload, size),
        _ => Err(error),
    })
}

/// Sends a payload as datagrams of `size` bytes, one by one.
///
/// # Errors
/// Those of [`send`]; some may have been sent before one failed.
pub fn send_apart(socket: &OwnedFd, route: &Route<'_>, payload: &[u8], size: u16) -> io::Result<()> {
    let mut datagrams = payload.chunks(usize::from(size).max(1));
    datagrams.try_for_each(|datagram| send_message(socket, route, datagram, None))
}

/// Whether datagrams that were sent together may go one by one: they do not fit the way out, its MTU, or it has no
/// checksums of its own.
pub fn is_too_much(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP))
}

fn send_message(socket: &OwnedFd, route: &Route<'_>, payload: &[u8], segment: Option<u16>) -> io::Result<()> {
    if route.to.is_none() && segment.is_none() {
        // Cheaper than sendmsg(2), and most datagrams to pods are of this kind.
        rustix::net::send(socket, payload, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        return Ok(());
    }
    let control = Control::of(route.from, segment);
    let payload = [io::IoSlice::new(payload)];
    let mut message = socket2::MsgHdr::new().with_buffers(&payload);
    if let Some(to) = route.to {
        message = message.with_addr(to);
    }
    if !control.bytes().is_empty() {
        message = message.with_control(control.bytes());
    }
    SockRef::from(socket).sendmsg(&message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).map(drop)
}

/// The control messages of one send: an address and a size. The last one is not padded: an address alone is so no larger
/// than what the kernel copies to its stack (36 bytes), where else it would allocate memory for each datagram.
#[derive(Debug)]
pub(crate) struct Control {
    bytes: [u8; Self::ROOM],
    used: usize,
}

impl Control {
    /// Two messages: a `struct in6_pktinfo` and a `u16`, each behind its head.
    const ROOM: usize = 64;

    /// To send from an address of this node, and of which interface (zero: any), and in segments of a size.
    pub(crate) fn of(from: Option<(IpAddr, u32)>, segment: Option<u16>) -> Self {
        let mut control = Self { bytes: [0; Self::ROOM], used: 0 };
        match from {
            Some((IpAddr::V4(ip), _)) => {
                // struct in_pktinfo: interface, address to send from, (ignored).
                let mut info = [0; 12];
                if let Some(source) = info.get_mut(4..8) {
                    source.copy_from_slice(&ip.octets());
                }
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some((IpAddr::V6(ip), interface)) => {
                // struct in6_pktinfo: address to send from, interface.
                let mut info = [0; 20];
                if let Some((source, index)) = info.split_at_mut_checked(16) {
                    source.copy_from_slice(&ip.octets());
                    index.copy_from_slice(&interface.to_ne_bytes());
                }
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if let Some(size) = segment {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        control
    }

    /// Adds a message, as cmsg(3) lays it out. There is room for the two that are needed.
    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let length = size_of::<libc::cmsghdr>() + data.len();
        let parts = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data];
        let mut at = self.used.next_multiple_of(size_of::<usize>());
        for part in parts {
            let Some(place) = self.bytes.get_mut(at..at + part.len()) else { return };
            place.copy_from_slice(part);
            at += part.len();
        }
        self.used = at;
    }

    /// As sendmsg(2) takes them; empty where there are none.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn plain(socket: UdpSocket) -> OwnedFd {
        socket.into()
    }

    #[test]
    fn segments_arrive_as_datagrams_and_one_too_large_for_the_way_is_sent_all_the_same() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let sender = towards(receiver.local_addr().unwrap(), None).unwrap();
        let payload: Vec<u8> = (0..2_500u32).map(|i| i as u8).collect();
        let mut buffer = vec![0; 70_000];
        send(&sender, &Route::default(), &payload, Some(1_000)).unwrap();
        for part in payload.chunks(1_000) {
            let got = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..got], part);
        }
        // No segment may be larger than what the interface takes at once; loopback takes 65,536.
        let large = vec![7; 65_507];
        send(&sender, &Route::default(), &large, Some(65_500)).unwrap();
        for size in [65_500, 7] {
            assert_eq!(receiver.recv(&mut buffer).unwrap(), size);
        }
        assert!(send(&sender, &Route::default(), &vec![7; 65_508], None).is_err());
    }

    #[test]
    fn what_a_full_socket_drops_is_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        SockRef::from(&receiver).set_recv_buffer_size(4096).unwrap();
        let sender = towards(receiver.local_addr().unwrap(), None).unwrap();
        let receiver = plain(receiver);
        assert_eq!(overflows(&receiver).unwrap(), 0);
        for _ in 0..100 {
            send(&sender, &Route::default(), &[0; 1000], None).unwrap();
        }
        let dropped = overflows(&receiver).unwrap();
        let receiver = UdpSocket::from(receiver);
        receiver.set_nonblocking(true).unwrap();
        let came = std::iter::from_fn(|| receiver.recv(&mut [0; 2000]).ok()).count();
        assert!(dropped > 0 && dropped as usize + came == 100, "{dropped} dropped, {came} came");
    }

    #[test]
    fn a_reply_leaves_from_the_address_it_is_told() {
        for (listen, client, from) in [
            ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.5"),
            ("[::]:0", "127.0.0.1:0", "::ffff:127.0.0.6"),
            ("[::]:0", "[::1]:0", "::1"),
        ] {
            let socket = plain(UdpSocket::bind(listen).unwrap());
            let client = UdpSocket::bind(client).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let mut to = client.local_addr().unwrap();
            if let (IpAddr::V4(ip), true) = (to.ip(), listen.starts_with('[')) {
                to.set_ip(ip.to_ipv6_mapped().into());
            }
            let (to, from): (_, IpAddr) = (Rc::new(to.into()), from.parse().unwrap());
            for segment in [None, Some(2)] {
                send(&socket, &Route { to: Some(&to), from: Some((from, 0)) }, b"abc", segment).unwrap();
                let mut buffer = [0; 16];
                let (n, peer) = client.recv_from(&mut buffer).unwrap();
                assert_eq!((n, peer.ip()), (segment.map_or(3, usize::from), from.to_canonical()));
                if segment.is_some() {
                    assert_eq!(client.recv(&mut buffer).unwrap(), 1);
                }
            }
        }
    }

    #[test]
    fn the_address_of_a_reply_fits_the_stack_of_the_kernel() {
        let from = Some((IpAddr::from([0; 16]), 0));
        assert_eq!(Control::of(from, None).bytes().len(), 36);
        assert_eq!(Control::of(from, Some(9)).bytes().len(), 40 + 18);
    }

    #[test]
    fn what_is_told_of_an_error_is_forgotten() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = towards(receiver.local_addr().unwrap(), None).unwrap();
        let said = || {
            let mut said = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut said, Some(&rustix::event::Timespec::default())).unwrap()
        };
        assert_eq!(said(), 0);
        assert!(send(&socket, &Route::default(), &vec![7; 65_508], None).is_err());
        assert_eq!(said(), 1);
        forget_errors(&socket);
        assert_eq!(said(), 0);
    }

    #[test]
    fn a_pod_that_is_not_there_is_an_error() {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = towards(gone, None).unwrap();
        send(&socket, &Route::default(), b"x", None).unwrap();
        let error = send(&socket, &Route::default(), b"x", None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }
}
