//! The operations, as futures and streams.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::buffers::Pool;
use super::slots::{Brings, Completion, Key};
use super::timers::TimerId;
use super::{Chunk, RelayRing, Ring, raw};
use crate::clock::{self, Millis};
use crate::limits::RECV_BUFFER_BYTES;

/// An operation that completes once, with its result.
#[must_use]
pub struct Operation(Submitted);

/// Connections accepted on one listener.
pub struct Accepts {
    listener: RawFd,
    multishot: Multishot,
}

/// See [`Accepts::poll_next`].
#[derive(Debug)]
pub enum Accepted {
    /// A new connection, non-blocking and close-on-exec.
    Connection(OwnedFd),
    /// This accept failed; the next call tries again.
    Failed(io::Error),
}

/// Bytes received from one socket.
pub struct Receives {
    socket: RawFd,
    multishot: Multishot,
    stopping: bool,
    sparing: bool,
}

/// See [`Receives::poll_next`].
pub enum Received {
    /// Bytes, in order.
    Data(Chunk),
    /// The peer has said FIN.
    Eof,
    /// As asked with [`Receives::stop`]; everything received before has been returned. The next call
    /// starts again.
    Stopped,
    /// The connection is broken.
    Failed(io::Error),
}

/// A wait for a moment; see [`RelayRing::sleep_until`].
pub struct Sleep {
    ring: Ring,
    until: Millis,
    timer: Option<TimerId>,
}

// === starting operations ===

impl RelayRing {
    /// Connects a socket. Resolves to zero.
    pub fn connect(self: &Ring, socket: &impl AsRawFd, to: SocketAddr) -> Operation {
        let address = Box::new(socket2::SockAddr::from(to));
        let entry =
            opcode::Connect::new(types::Fd(raw(socket)), address.as_ptr().cast(), address.len()).build();
        // SAFETY: the address is boxed and held by the slot until the completion (O1).
        Operation(unsafe { self.submit(entry, Brings::Number, Some(address)) })
    }

    /// Waits until one of the poll(2) `events` or an error holds. Resolves to the events.
    pub fn poll(self: &Ring, socket: &impl AsRawFd, events: libc::c_short) -> Operation {
        let entry = opcode::PollAdd::new(types::Fd(raw(socket)), events as u16 as u32).build();
        // SAFETY: POLL_ADD takes no memory.
        Operation(unsafe { self.submit(entry, Brings::Number, None) })
    }

    /// All connections of a listening socket, which must stay open until the stream is dropped.
    pub fn accept(self: &Ring, listener: &impl AsRawFd) -> Accepts {
        Accepts { listener: raw(listener), multishot: Multishot::new(self) }
    }

    /// All bytes of a socket, which must stay open until the stream is dropped.
    pub fn receive(self: &Ring, socket: &impl AsRawFd) -> Receives {
        Receives { socket: raw(socket), multishot: Multishot::new(self), stopping: false, sparing: false }
    }

    /// Waits until a moment, to the steps of [`clock::now`].
    pub fn sleep_until(self: &Ring, until: Millis) -> Sleep {
        Sleep { ring: self.clone(), until, timer: None }
    }

    /// Waits for a time.
    pub fn sleep(self: &Ring, time: Duration) -> Sleep {
        self.sleep_until(clock::now().after(time))
    }

    /// The result of an operation, or `None` if it does not come by a moment; then it is given up.
    pub async fn until<T>(self: &Ring, moment: Millis, operation: impl Future<Output = T>) -> Option<T> {
        let mut operation = pin!(operation);
        let mut sleep = pin!(self.sleep_until(moment));
        std::future::poll_fn(|context| match operation.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// As [`RelayRing::until`], for a time from now.
    pub async fn within<T>(self: &Ring, time: Duration, operation: impl Future<Output = T>) -> Option<T> {
        self.until(clock::now().after(time), operation).await
    }

    /// # Safety
    /// Memory that the entry names must be in `held`, or need none.
    unsafe fn submit(
        self: &Ring,
        entry: squeue::Entry,
        brings: Brings,
        held: Option<Box<socket2::SockAddr>>,
    ) -> Submitted {
        self.touch();
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let key = inner.slots.insert(brings, held);
        // SAFETY: passed on to the caller.
        if let Err(error) = unsafe { inner.push(&entry.user_data(key.user_data())) } {
            // The kernel never sees it, and so says nothing of it: its waiter is told here.
            let code = error.raw_os_error().unwrap_or(libc::EIO);
            inner.slots.complete(key.user_data(), -code, 0, &mut inner.buffers);
        }
        Submitted { ring: self.clone(), key }
    }
}

/// An operation in a slot, given up when dropped (O3).
struct Submitted {
    ring: Ring,
    key: Key,
}

impl Submitted {
    fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Completion>> {
        self.ring.touch();
        self.ring.inner.borrow_mut().slots.poll_next(self.key, context)
    }

    fn is_over(&self) -> bool {
        self.ring.inner.borrow().slots.is_over(self.key)
    }

    /// Gives the operation up. Returns the bytes it had received that nobody took.
    fn abandon(&self) -> u64 {
        let (live, unread) = {
            let mut inner = self.ring.inner.borrow_mut();
            let inner = &mut *inner;
            inner.slots.abandon(self.key, &mut inner.buffers)
        };
        if live {
            self.ring.cancel(self.key);
        }
        unread
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        self.abandon();
    }
}

// === impl Operation ===

impl Future for Operation {
    type Output = io::Result<i32>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_next(context).map(|completion| match completion {
            Some(completion) => number(completion),
            None => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
        })
    }
}

// === multishot operations ===

/// An operation with many completions that is armed again whenever the kernel has ended it.
pub(super) struct Multishot {
    pub(super) ring: Ring,
    armed: Option<Submitted>,
}

impl Multishot {
    pub(super) fn new(ring: &Ring) -> Self {
        Self { ring: ring.clone(), armed: None }
    }

    /// Cancels what the kernel has of it; what it has brought still comes.
    pub(super) fn cancel(&self) {
        if let Some(armed) = &self.armed
            && !armed.is_over()
        {
            self.ring.cancel(armed.key);
        }
    }

    /// The kernel has ended it, and all that it has brought was taken.
    pub(super) fn is_idle(&self) -> bool {
        self.armed.as_ref().is_none_or(Submitted::is_over_and_empty)
    }

    /// The kernel found no free buffer and has ended the operation (ENOBUFS): wakes the task when there is one,
    /// to arm it again.
    pub(super) fn wait_for_buffer(&mut self, pool: Pool, context: &Context<'_>) {
        self.ring.counters.no_buffers.add(1);
        self.armed = None;
        // All buffers were with tasks that are sending; one of them gives one back, or has.
        if let Some(buffers) = self.ring.inner.borrow_mut().buffers.of(pool) {
            buffers.wake_when_free(context.waker());
        }
    }

    pub(super) fn poll_next(
        &mut self,
        context: &Context<'_>,
        brings: Brings,
        arm: impl Fn() -> squeue::Entry,
    ) -> Poll<Completion> {
        loop {
            // SAFETY: accept and receive take no memory of the caller's here: buffers and layouts are the ring's, and
            // outlive its io_uring.
            let armed = self.armed.get_or_insert_with(|| unsafe { self.ring.submit(arm(), brings, None) });
            match armed.poll_next(context) {
                Poll::Ready(Some(completion)) => return Poll::Ready(completion),
                Poll::Ready(None) => self.armed = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

// === impl Accepts ===

impl Accepts {
    /// The next connection. An error is never the end: the caller decides when to go on.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Accepted> {
        let listener = types::Fd(self.listener);
        let arm =
            || opcode::AcceptMulti::new(listener).flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).build();
        self.multishot.poll_next(context, Brings::Descriptor, arm).map(|completion| {
            match number(completion) {
                // SAFETY: the accept completed with this new descriptor, which is handed out once.
                Ok(fd) => Accepted::Connection(unsafe { OwnedFd::from_raw_fd(fd) }),
                Err(error) => Accepted::Failed(error),
            }
        })
    }
}

// === impl Receives ===

impl Receives {
    /// The next bytes. Waits for a free buffer where there is none.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Received> {
        loop {
            if self.stopping && self.multishot.is_idle() {
                self.stopping = false;
                self.multishot.armed = None;
                return Poll::Ready(Received::Stopped);
            }
            let (socket, sparing) = (types::Fd(self.socket), self.sparing);
            let arm = || if sparing { one_buffer(socket) } else { all_that_comes(socket) };
            let brings = Brings::Buffer(Pool::Stream);
            let Poll::Ready(completion) = self.multishot.poll_next(context, brings, arm) else {
                return Poll::Pending;
            };
            match completion.result {
                0 => {
                    if let Some(id) = cqueue::buffer_select(completion.flags) {
                        self.multishot.ring.inner.borrow_mut().buffers.give_back(Pool::Stream, id);
                    }
                    return Poll::Ready(Received::Eof);
                }
                len if len > 0 => {
                    let Some(id) = cqueue::buffer_select(completion.flags) else {
                        return Poll::Ready(Received::Failed(io::Error::from_raw_os_error(libc::EPROTO)));
                    };
                    return Poll::Ready(Received::Data(Chunk::new(
                        self.multishot.ring.clone(),
                        Pool::Stream,
                        id,
                        len as u32,
                    )));
                }
                error if -error == libc::ENOBUFS => {
                    self.multishot.wait_for_buffer(Pool::Stream, context);
                    return Poll::Pending;
                }
                error if -error == libc::ECANCELED => {}
                error => return Poll::Ready(Received::Failed(io::Error::from_raw_os_error(-error))),
            }
        }
    }

    /// The next bytes; see [`Receives::poll_next`].
    pub async fn next(&mut self) -> Received {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Asks for the stream to stop: what has been received still comes, then [`Received::Stopped`].
    pub fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.multishot.cancel();
        }
    }

    /// Whether to take one buffer at a time from now on, instead of all that has come: dearer, and less to keep
    /// where it cannot be passed on.
    pub fn spare(&mut self, sparing: bool) {
        if sparing && !self.sparing {
            self.multishot.cancel();
        }
        self.sparing = sparing;
    }

    /// Gives the stream up. Returns the bytes received that nobody took.
    pub fn discard(&mut self) -> u64 {
        self.multishot.armed.take().map_or(0, |armed| armed.abandon())
    }
}

fn all_that_comes(socket: types::Fd) -> squeue::Entry {
    opcode::RecvMulti::new(socket, Pool::Stream.group()).build()
}

fn one_buffer(socket: types::Fd) -> squeue::Entry {
    opcode::Recv::new(socket, std::ptr::null_mut(), RECV_BUFFER_BYTES as u32)
        .buf_group(Pool::Stream.group())
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}

impl Submitted {
    /// Over, and every completion taken: the slot is gone.
    fn is_over_and_empty(&self) -> bool {
        self.ring.inner.borrow().slots.is_gone(self.key)
    }
}

// === impl Sleep ===

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.until {
            return Poll::Ready(());
        }
        if self.timer.is_none() {
            self.ring.touch();
            let id = self.ring.timers.borrow_mut().insert(self.until, context.waker());
            self.timer = Some(id);
        } else if let Some(id) = self.timer
            && !self.ring.timers.borrow_mut().update(id, context.waker())
        {
            self.timer = None;
            return self.poll(context);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            self.ring.timers.borrow_mut().remove(id);
        }
    }
}

fn number(completion: Completion) -> io::Result<i32> {
    if completion.result < 0 {
        Err(io::Error::from_raw_os_error(-completion.result))
    } else {
        Ok(completion.result)
    }
}
