//! Hears of changes of the node's addresses: rtnetlink(7).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// A non-blocking datagram socket that gets a message for each address that comes or goes, and for each route where
/// these matter too. What it says does not matter: the addresses are read anew, which is right also when messages
/// were lost (ENOBUFS).
///
/// # Errors
/// Those of socket(2) and bind(2): EMFILE, or EPERM and EAFNOSUPPORT under a security profile.
pub fn watch(routes: bool) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // No protocol is the number 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
    let addresses = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
    let groups =
        if routes { addresses | libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE } else { addresses };
    bind(&socket, &SocketAddrNetlink::new(0, groups as u32))?;
    Ok(socket)
}
