//! Sockets with the address of a client (IP_TRANSPARENT): pods see who is calling. What makes their answers come back
//! is in [`super::replies`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::{SockRef, Type};

use super::socket::set_option;

/// Binds a new socket, TCP or UDP, to the address and port of a client; to another port of the address where this
/// one is taken, is zero, or is below 1024 and this process lacks CAP_NET_BIND_SERVICE.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_NET_RAW; as bind(2) otherwise.
pub fn bind_as(socket: &impl AsFd, client: SocketAddr) -> io::Result<()> {
    let fd = socket;
    let socket = SockRef::from(socket);
    if client.is_ipv6() {
        socket.set_ip_transparent_v6(true)?;
    } else {
        socket.set_ip_transparent_v4(true)?;
    }
    if socket.r#type()? == Type::STREAM {
        // The same client's port may be in use towards another pod. Of datagram sockets with one port only one
        // would receive.
        socket.set_reuse_address(true)?;
    }
    let any_port = || {
        // Chosen by connect(2), where it need not differ between pods.
        set_option(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SocketAddr::new(client.ip(), 0).into())
    };
    if client.port() == 0 {
        return any_port();
    }
    match socket.bind(&client.into()) {
        Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
            any_port()
        }
        result => result,
    }
}
