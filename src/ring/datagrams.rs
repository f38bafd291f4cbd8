//! Receiving datagrams: by multishot operations, and what a datagram says of itself.
//!
//! recvmsg: the kernel writes a header, the sender's address, control messages and the payload into one buffer. The
//! sizes of the middle two are fixed by a `msghdr` that the operation names. recv: the payload alone, for
//! the peer of a connected socket, until its datagrams come so close together that it pays to take them together.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};

use io_uring::types::RecvMsgOut;
use io_uring::{cqueue, opcode, types};

use super::buffers::Pool;
use super::operations::Multishot;
use super::slots::{Brings, Completion};
use super::{Chunk, RelayRing, Ring, raw};
use crate::limits;
use crate::net::udp;

/// Whose datagrams a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Senders {
    /// Anyone's: every datagram says who sent it, and to which address.
    Anyone,
    /// Those of the peer it is connected to.
    Peer,
}

/// The datagrams of one socket.
pub struct Datagrams {
    socket: RawFd,
    form: Form,
    /// The ring's, see [`Layouts`].
    layout: *const libc::msghdr,
    multishot: Multishot,
    /// Datagrams since there was none.
    in_a_row: u32,
}

/// What is in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The payload of a datagram.
    Bare,
    /// The same, until the operation has ended that brings it.
    LastBare,
    /// All that recvmsg(2) tells of it.
    Told(Senders),
}

/// See [`Datagrams::poll_next`].
pub enum Arrived {
    /// One datagram, or several of one size that came together.
    Datagram(Datagram),
    /// This receive failed; the next call tries again. A connected socket so reports ICMP errors.
    Failed(io::Error),
}

/// What one receive brought.
pub struct Datagram {
    /// What is passed on of it.
    pub payload: Payload,
    /// The sender, where the socket hears [`Senders::Anyone`].
    pub from: Option<SocketAddr>,
    /// The address it was sent to, where the socket asks for it (IP_PKTINFO, IPV6_RECVPKTINFO).
    pub to: Option<LocalAddr>,
    /// The rest of it did not fit and is gone.
    pub truncated: bool,
    /// Datagrams that the socket had dropped before this one, since it was made (SO_RXQ_OVFL). Wraps.
    pub overflows: Option<u32>,
}

/// The bytes of a datagram, or of several.
pub struct Payload {
    /// `None` is an empty one.
    chunk: Option<Chunk>,
    /// With UDP_GRO: it is datagrams of this size one after the other, the last one may be shorter.
    pub segment: Option<u16>,
}

/// An address of this node. For a link-local one, the interface belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddr {
    /// An IPv4 address is mapped where it came through an IPv6 socket.
    pub ip: IpAddr,
    /// Zero where the address alone says enough.
    pub interface: u32,
}

// === impl RelayRing ===

impl RelayRing {
    /// All datagrams of a socket, which must stay open until the stream is dropped. That of a [`Senders::Peer`] must not
    /// have UDP_GRO set: the stream sets it when it helps.
    ///
    /// # Errors
    /// The buffers for datagrams cannot be registered: ENOMEM.
    pub fn datagrams(self: &Ring, socket: &impl AsRawFd, senders: Senders) -> io::Result<Datagrams> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        inner.buffers.allow_datagrams(&inner.ring.submitter())?;
        let layout = inner.layouts.of(senders);
        let form = match senders {
            Senders::Anyone => Form::Told(senders),
            Senders::Peer => Form::Bare,
        };
        Ok(Datagrams { socket: raw(socket), form, layout, multishot: Multishot::new(self), in_a_row: 0 })
    }
}

// === impl Datagrams ===

impl Datagrams {
    /// The next one. Waits for a free buffer where there is none. An error is never the end: the caller
    /// decides when to go on.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Arrived> {
        loop {
            if self.form == Form::LastBare && self.multishot.is_idle() {
                // SAFETY: as `datagrams` asks for, the socket is open.
                udp::gather(&unsafe { BorrowedFd::borrow_raw(self.socket) });
                self.form = Form::Told(Senders::Peer);
            }
            let (socket, group) = (types::Fd(self.socket), Pool::Datagram.group());
            let (form, layout) = (self.form, self.layout);
            let arm = || match form {
                Form::Told(_) => opcode::RecvMsgMulti::new(socket, layout, group).build(),
                Form::Bare | Form::LastBare => opcode::RecvMulti::new(socket, group).build(),
            };
            let brings = Brings::Buffer(Pool::Datagram);
            let Poll::Ready(completion) = self.multishot.poll_next(context, brings, arm) else {
                self.in_a_row = 0;
                return Poll::Pending;
            };
            match completion.result {
                len if len >= 0 => {
                    let arrived = self.read(completion);
                    self.in_a_row += 1;
                    if self.in_a_row == limits::UDP_IN_A_ROW && self.form == Form::Bare {
                        self.form = Form::LastBare;
                        self.multishot.cancel();
                    }
                    return Poll::Ready(arrived);
                }
                error if -error == libc::ENOBUFS => {
                    // There was more than there is room for: as good a sign as some in a row.
                    if self.form == Form::Bare {
                        self.form = Form::LastBare;
                    }
                    self.multishot.wait_for_buffer(Pool::Datagram, context);
                    return Poll::Pending;
                }
                error if -error == libc::ECANCELED => {}
                error => return Poll::Ready(Arrived::Failed(io::Error::from_raw_os_error(-error))),
            }
        }
    }

    fn read(&self, completion: Completion) -> Arrived {
        let ring = &self.multishot.ring;
        let len = completion.result.unsigned_abs();
        let chunk = cqueue::buffer_select(completion.flags)
            .map(|id| Chunk::new(ring.clone(), Pool::Datagram, id, len));
        let datagram = match self.form {
            // The kernel always writes a header, but no buffer for nothing.
            Form::Told(senders) => chunk.and_then(|chunk| Datagram::parse(chunk, senders)),
            Form::Bare | Form::LastBare => (chunk.is_some() || len == 0).then(|| Datagram::bare(chunk)),
        };
        datagram
            .map_or_else(|| Arrived::Failed(io::Error::from_raw_os_error(libc::EPROTO)), Arrived::Datagram)
    }
}

// === impl Datagram ===

impl Datagram {
    /// What the kernel has written into a buffer; `None` if that is not what it writes.
    fn parse(mut chunk: Chunk, senders: Senders) -> Option<Self> {
        let layout = layout(senders);
        let out = RecvMsgOut::parse(chunk.bytes(), &layout).ok()?;
        let control = Control::read(out.control_data());
        let from = address(out.name_data());
        let truncated = out.is_payload_truncated();
        let Control { to, segment, overflows } = control;
        let before = size_of::<[u32; 4]>() + layout.msg_namelen as usize + layout.msg_controllen;
        chunk.advance(before);
        let payload = Payload { chunk: Some(chunk), segment };
        Some(Self { payload, from, to, truncated, overflows })
    }

    /// A payload of which nothing else is known.
    fn bare(chunk: Option<Chunk>) -> Self {
        let payload = Payload { chunk, segment: None };
        Self { payload, from: None, to: None, truncated: false, overflows: None }
    }
}

impl Payload {
    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        self.chunk.as_ref().map_or(&[], Chunk::bytes)
    }

    /// How many datagrams it is.
    pub fn count(&self) -> u64 {
        let len = self.chunk.as_ref().map_or(0, Chunk::len);
        self.segment.map_or(1, |size| len.div_ceil(usize::from(size).max(1)).max(1)) as u64
    }
}

// === the layout of a buffer ===

/// The two layouts, at addresses that do not change.
pub(super) struct Layouts {
    anyone: libc::msghdr,
    peer: libc::msghdr,
}

impl Default for Layouts {
    fn default() -> Self {
        Self { anyone: layout(Senders::Anyone), peer: layout(Senders::Peer) }
    }
}

impl Layouts {
    fn of(&self, senders: Senders) -> &libc::msghdr {
        match senders {
            Senders::Anyone => &self.anyone,
            Senders::Peer => &self.peer,
        }
    }
}

/// A message with room for an address and control messages, and no memory of its own.
fn layout(senders: Senders) -> libc::msghdr {
    // SAFETY: a msghdr of zeros is one: no address, no buffers, no control messages.
    let mut layout: libc::msghdr = unsafe { std::mem::zeroed() };
    let number = space(size_of::<libc::c_int>());
    (layout.msg_namelen, layout.msg_controllen) = match senders {
        Senders::Anyone => (
            size_of::<libc::sockaddr_in6>() as libc::socklen_t,
            space(size_of::<libc::in6_pktinfo>()) + 2 * number,
        ),
        Senders::Peer => (0, 2 * number),
    };
    layout
}

/// CMSG_SPACE(3): the bytes that a control message with this much data takes.
const fn space(data: usize) -> usize {
    aligned(size_of::<libc::cmsghdr>()) + aligned(data)
}

/// CMSG_ALIGN(3)
const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(size_of::<usize>())
}

// === reading what the kernel wrote ===

/// The control messages that a socket may ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Control {
    to: Option<LocalAddr>,
    segment: Option<u16>,
    overflows: Option<u32>,
}

impl Control {
    fn read(mut bytes: &[u8]) -> Self {
        let mut control = Self::default();
        while let Some((level, kind, data, rest)) = message(bytes) {
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => control.to = pktinfo_v4(data).or(control.to),
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => control.to = pktinfo_v6(data).or(control.to),
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    control.segment =
                        take(data).and_then(|n| u16::try_from(i32::from_ne_bytes(n)).ok()).filter(|n| *n > 0);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    control.overflows = take(data).map(u32::from_ne_bytes)
                }
                _ => {}
            }
            bytes = rest;
        }
        control
    }
}

/// The first control message: level, type and data, and what follows it.
fn message(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    const SIZE: usize = size_of::<usize>();
    const DATA: usize = aligned(size_of::<libc::cmsghdr>());
    let length = usize::from_ne_bytes(take(bytes)?);
    let level = i32::from_ne_bytes(take(bytes.get(SIZE..)?)?);
    let kind = i32::from_ne_bytes(take(bytes.get(SIZE + 4..)?)?);
    let data = bytes.get(DATA..length)?;
    Some((level, kind, data, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// `struct in_pktinfo`: interface, the address to answer from, the address in the datagram. The two differ for
/// broadcast and multicast; then it is not an address of this node.
fn pktinfo_v4(data: &[u8]) -> Option<LocalAddr> {
    let ip = Ipv4Addr::from(take::<4>(data.get(8..)?)?);
    Some(LocalAddr { ip: ip.into(), interface: 0 })
}

/// `struct in6_pktinfo`: the address, the interface.
fn pktinfo_v6(data: &[u8]) -> Option<LocalAddr> {
    let ip = Ipv6Addr::from(take::<16>(data)?);
    let interface = u32::from_ne_bytes(take(data.get(16..)?)?);
    Some(LocalAddr { ip: ip.into(), interface: if ip.is_unicast_link_local() { interface } else { 0 } })
}

/// A `sockaddr_in` or `sockaddr_in6`.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(take(bytes)?);
    let port = u16::from_be_bytes(take(bytes.get(2..)?)?);
    match i32::from(family) {
        libc::AF_INET => Some((Ipv4Addr::from(take::<4>(bytes.get(4..)?)?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(take::<16>(bytes.get(8..)?)?);
            let scope = u32::from_ne_bytes(take(bytes.get(24..)?)?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests;
