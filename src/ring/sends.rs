//! Sending datagrams: queued, and given to the kernel together with the next enter.
//!
//! A send never waits (MSG_DONTWAIT): when the enter that submits it is back, the kernel has taken the datagram or refused
//! it. So only a refusal has a completion (IOSQE_CQE_SKIP_SUCCESS), and an enter that leaves nothing in the submission
//! queue is the completion of all others. Until then nothing that an entry names is freed or changed; payloads, in the
//! ring's buffers, and messages, which are used again, even outlive the io_uring.

use std::io;
use std::mem;
use std::rc::Rc;

use io_uring::{opcode, squeue};
use socket2::SockAddr;

use super::{Payload, RelayRing, Ring, RingFd};
use crate::net::udp::{Control, Route};
use crate::types::Direction;

/// Who sends a datagram, and hears what became of it at the end of the turn.
pub trait Sender {
    /// The kernel has taken it.
    fn sent(&self, sent: &Outgoing);

    /// It has not. Errors are those of [`crate::net::udp::send`].
    fn failed(self: Rc<Self>, failed: Outgoing, error: io::Error);
}

/// A datagram on its way out.
pub struct Outgoing {
    /// What arrived, as one datagram or as several.
    pub payload: Payload,
    /// Its way, for the sender.
    pub direction: Direction,
    /// How often it was tried before, for the sender.
    pub tried: u8,
}

/// The datagrams of one turn.
#[derive(Default)]
pub(super) struct Sends {
    /// Counts turns that have sent: a completion that comes late finds nobody.
    turn: u8,
    /// By the number in their entries.
    posted: Vec<Posted>,
    /// To be used again.
    #[allow(clippy::vec_box, reason = "the kernel has their addresses")]
    messages: Vec<Box<Message>>,
}

pub(super) struct Posted {
    sender: Rc<dyn Sender>,
    outgoing: Outgoing,
    message: Option<Box<Message>>,
    #[allow(dead_code, reason = "owned for its address")]
    to: Option<Rc<SockAddr>>,
    errno: i32,
}

/// What sendmsg(2) takes; the parts stay at their places.
struct Message {
    head: libc::msghdr,
    payload: libc::iovec,
    control: Control,
}

/// Marks entries of sends: the upper half of their `user_data`, which no slot has. Below are 8 bits for the turn and 24
/// for the number: a datagram takes a buffer, or is an empty one, of which a socket brings one in a turn.
const MARK: u64 = (u32::MAX as u64 - 1) << 32;

const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl RelayRing {
    /// Sends a datagram with the next turn: to the peer of a connected socket, or as `route` says. What is sent on one
    /// socket goes in this order. The sender keeps the socket open until it has heard.
    pub fn send(self: &Ring, socket: &RingFd, route: &Route<'_>, sender: Rc<dyn Sender>, outgoing: Outgoing) {
        debug_assert!(Rc::ptr_eq(self, &socket.ring), "its number is of another ring");
        self.touch();
        let bytes = outgoing.payload.bytes();
        let (payload, length) = (bytes.as_ptr(), bytes.len());
        let segment = outgoing.payload.segment.filter(|size| usize::from(*size) < length);
        let mut inner = self.inner.borrow_mut();
        let (fd, known) = socket.target();
        let send = opcode::Send::new(fd, payload, length as u32).flags(FLAGS);
        let (entry, message) = match (route.to, route.from, segment) {
            (None, _, None) => (send.build(), None),
            (Some(to), None, None) => {
                (send.dest_addr(to.as_ptr().cast()).dest_addr_len(to.len()).build(), None)
            }
            (to, from, segment) => {
                let mut message = inner.sends.messages.pop().unwrap_or_default();
                message.fill(to, (payload, length), Control::of(from, segment));
                let entry = opcode::SendMsg::new(fd, &raw const message.head).flags(FLAGS as u32);
                (entry.build(), Some(message))
            }
        };
        let entry = entry.user_data(inner.sends.next_name()).flags(known | squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the payload is in a buffer of this ring, and message and address are in its `sends`. They stay there and
        // do not change until an enter has taken this entry; by then a send, which never waits, is done with them.
        let pushed = unsafe { inner.push(&entry) };
        let errno = pushed.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
        let to = route.to.cloned();
        inner.sends.posted.push(Posted { sender, outgoing, message, to, errno });
    }
}

impl Sends {
    /// Whether there are any.
    pub(super) fn are_queued(&self) -> bool {
        !self.posted.is_empty()
    }

    /// Whether a completion is of a send.
    pub(super) fn is_send(user_data: u64) -> bool {
        user_data >> 32 == MARK >> 32
    }

    fn next_name(&self) -> u64 {
        MARK | u64::from(self.turn) << 24 | self.posted.len() as u64
    }

    /// Notes a refusal.
    pub(super) fn refused(&mut self, user_data: u64, result: i32) {
        let (turn, number) = ((user_data >> 24) as u8, user_data as usize & 0xff_ffff);
        if turn == self.turn
            && let Some(posted) = self.posted.get_mut(number)
        {
            posted.errno = -result;
        }
    }

    /// All that the kernel is done with, after an enter that took everything (O6).
    pub(super) fn take(&mut self) -> Vec<Posted> {
        let mut done = mem::take(&mut self.posted);
        self.turn = self.turn.wrapping_add(1);
        self.messages.extend(done.iter_mut().filter_map(|posted| posted.message.take()));
        done
    }

    /// Gives the memory of a list back.
    pub(super) fn reuse(&mut self, empty: Vec<Posted>) {
        if self.posted.is_empty() {
            self.posted = empty;
        }
    }
}

impl Message {
    fn fill(&mut self, to: Option<&Rc<SockAddr>>, payload: (*const u8, usize), control: Control) {
        self.payload = libc::iovec { iov_base: payload.0.cast_mut().cast(), iov_len: payload.1 };
        self.control = control;
        // SAFETY: a msghdr of zeros is one without an address, a payload and control messages.
        self.head = unsafe { mem::zeroed() };
        if let Some(to) = to {
            self.head.msg_name = to.as_ptr().cast_mut().cast();
            self.head.msg_namelen = to.len();
        }
        self.head.msg_iov = &raw mut self.payload;
        self.head.msg_iovlen = 1;
        if !self.control.bytes().is_empty() {
            self.head.msg_control = self.control.bytes().as_ptr().cast_mut().cast();
            self.head.msg_controllen = self.control.bytes().len();
        }
    }
}

impl Posted {
    /// Tells the sender. The ring must not be borrowed.
    pub(super) fn tell(self) {
        match self.errno {
            0 => self.sender.sent(&self.outgoing),
            errno => self.sender.failed(self.outgoing, io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self {
            // SAFETY: as in `Message::fill`.
            head: unsafe { mem::zeroed() },
            payload: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            control: Control::of(None, None),
        }
    }
}

#[cfg(test)]
mod tests;
