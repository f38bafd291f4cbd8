//! Sockets of the data plane and their options.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::transparent;
use crate::limits;

/// Options of connections, the same on both sides where nothing else is said.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Small pieces are sent at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Probing of silent peers; `None` is off.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may stay unacknowledged by the pod before the connection is given up
    /// (TCP_USER_TIMEOUT); `None` leaves it to the kernel, about 15 minutes.
    pub user_timeout: Option<Duration>,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (TCP_KEEPIDLE), whole seconds.
    pub time: Duration,
    /// Between probes (TCP_KEEPINTVL), whole seconds.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up (TCP_KEEPCNT).
    pub probes: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        let keepalive =
            Keepalive { time: Duration::from_secs(120), interval: Duration::from_secs(15), probes: 4 };
        Self { nodelay: true, keepalive: Some(keepalive), user_timeout: Some(Duration::from_secs(30)) }
    }
}

/// A listening socket for one shard: one of a SO_REUSEPORT group. What accepted connections inherit
/// (TCP_NODELAY, keepalive) is set here, once. The address need not be on an interface (IP_FREEBIND).
///
/// `None` is every IPv6 and IPv4 address of the node, or all of IPv4 where it has no IPv6.
///
/// # Errors
/// EADDRINUSE, EACCES (a port below 1024 without CAP_NET_BIND_SERVICE), EMFILE.
pub fn listen(address: Option<IpAddr>, port: u16, options: &TcpOptions) -> io::Result<OwnedFd> {
    on_address(address, |ip, families| {
        let address = SocketAddr::new(ip, port);
        let socket = stream_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.set_reuse_address(true)?;
        allow_any_address(&socket, ip, families)?;
        set_connection_options(&socket, options)?;
        socket.bind(&address.into())?;
        socket.listen(limits::LISTEN_BACKLOG)?;
        Ok(socket.into())
    })
}

/// A socket to connect to a pod with, from the address of a client where one is given: see
/// [`transparent::bind_as`]. Where that is refused it is an ordinary one.
///
/// # Errors
/// EMFILE, ENFILE, ENOBUFS, ENOMEM.
pub fn towards(
    endpoint: SocketAddr,
    source: Option<SocketAddr>,
    options: &TcpOptions,
) -> io::Result<OwnedFd> {
    let mut socket = stream_socket(endpoint)?;
    if let Some(client) = source
        && let Err(error) = transparent::bind_as(&socket, client)
    {
        tracing::debug!(%client, %endpoint, %error, "the pod sees the address of this node");
        socket = stream_socket(endpoint)?;
    }
    set_connection_options(&socket, options)?;
    if let Some(timeout) = options.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(socket.into())
}

/// Closes with a reset: what is unsent is dropped, the peer sees ECONNRESET.
pub fn reset(socket: OwnedFd) {
    linger_none(&socket);
}

/// Makes the coming close a reset.
pub fn linger_none(socket: &OwnedFd) {
    // A failure leaves an ordinary close, the best that is left to do.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// The peer's address.
///
/// # Errors
/// ENOTCONN when the peer has reset the connection already.
pub fn peer(socket: &impl AsFd) -> io::Result<SocketAddr> {
    SockRef::from(&socket.as_fd()).peer_addr()?.as_socket().map(canonical).ok_or_else(unnamed)
}

/// Whether a socket still waits for the answer to its connect(2). One that has been reset since does not.
pub fn is_connecting(socket: &(impl AsFd + AsRawFd)) -> bool {
    /// linux/tcp.h, TCP_SYN_SENT
    const SYN_SENT: u8 = 2;
    // Without a peer there is none yet or none any more; to ask for it is much cheaper than to ask which.
    peer(socket).is_err() && tcp_state(socket) == Some(SYN_SENT)
}

fn tcp_state(socket: &impl AsRawFd) -> Option<u8> {
    // The state is the first byte of struct tcp_info; the kernel gives as much of it as there is room for.
    let mut state = 0u8;
    let mut length: libc::socklen_t = 1;
    let place = (&raw mut state).cast();
    // SAFETY: `place` has room for the one byte that `length` says, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length)
    };
    (result == 0 && length == 1).then_some(state)
}

/// The address the peer has connected to.
///
/// # Errors
/// As getsockname(2).
pub fn local(socket: &impl AsFd) -> io::Result<SocketAddr> {
    SockRef::from(&socket.as_fd()).local_addr()?.as_socket().map(canonical).ok_or_else(unnamed)
}

/// Bytes sent and not yet acknowledged by the peer (SIOCOUTQ); zero where it cannot be told.
pub fn unacknowledged(socket: &impl AsRawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (= TIOCOUTQ) writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Copies the first bytes that wait, which stay. Zero is the end of the stream.
///
/// # Errors
/// `WouldBlock` when none wait; otherwise as recv(2).
pub fn peek(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    use rustix::net::RecvFlags;
    Ok(rustix::net::recv(socket, buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
}

/// Takes `len` bytes that wait, at most 4 KiB, and forgets them.
///
/// # Errors
/// As recv(2), and `UnexpectedEof` where fewer wait.
pub fn take(socket: &impl AsFd, len: usize) -> io::Result<()> {
    use rustix::net::RecvFlags;
    let mut space = [0u8; limits::PROXY_HEADER_BYTES];
    let mut left = space.get_mut(..len).ok_or(io::ErrorKind::InvalidInput)?;
    while !left.is_empty() {
        let (taken, _) = rustix::net::recv(socket, &mut *left, RecvFlags::DONTWAIT)?;
        if taken == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.get_mut(taken..).unwrap_or_default();
    }
    Ok(())
}

/// How many bytes have to wait before poll(2) says that it is readable (SO_RCVLOWAT); one is the default.
///
/// # Errors
/// As setsockopt(2).
pub fn wake_at(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
}

pub(super) fn set_option(socket: &impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the option takes an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(fd, level, option, (&raw const value).cast(), size_of::<i32>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Accepts one waiting connection without waiting for one.
///
/// # Errors
/// `WouldBlock` when none waits; otherwise as accept4(2).
pub fn accept_waiting(listener: &impl AsFd) -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;
    Ok(rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
}

fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new_raw(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
}

fn set_connection_options(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(keepalive) = options.keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.time)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// IPv4 clients of a dual-stack socket as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Which families a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    /// That of its address.
    One,
    /// It has the IPv6 wildcard, which takes IPv4 with it.
    Both,
}

/// Makes a socket with this address; for `None` with every IPv6 and IPv4 address of the node, or with all of IPv4
/// where it has no IPv6. The wildcard of a family is every address of that family.
pub(super) fn on_address<T>(
    address: Option<IpAddr>,
    make: impl Fn(IpAddr, Families) -> io::Result<T>,
) -> io::Result<T> {
    if let Some(address) = address {
        return make(address, Families::One);
    }
    match make(IpAddr::V6(Ipv6Addr::UNSPECIFIED), Families::Both) {
        Err(error) if no_ipv6(&error) => make(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Families::One),
        result => result,
    }
}

/// Before bind(2): the address need not be on an interface (IP_FREEBIND).
pub(super) fn allow_any_address(socket: &Socket, address: IpAddr, families: Families) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(families == Families::One)?;
        socket.set_freebind_v6(true)
    } else {
        socket.set_freebind_v4(true)
    }
}

/// Whether binding the IPv6 wildcard failed since the node has no IPv6 at all.
pub(super) fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn unnamed() -> io::Error {
    io::Error::other("a socket without an IP address")
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_connecting_from_its_first_packet_to_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = towards(address, None, &TcpOptions::default()).unwrap();
        assert!(!is_connecting(&socket), "nothing was asked of it");
        // Loopback answers before connect(2) returns.
        let _ = SockRef::from(&socket).connect(&address.into());
        assert!(!is_connecting(&socket));
        let (accepted, _) = listener.accept().unwrap();
        reset(accepted.into());
        assert!(!is_connecting(&socket), "it was connected, and reset");
        // A queue that is full does not answer.
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let _first = TcpStream::connect(address).unwrap();
        let socket = towards(address, None, &TcpOptions::default()).unwrap();
        let _ = SockRef::from(&socket).connect(&address.into());
        assert!(is_connecting(&socket));
    }
}
