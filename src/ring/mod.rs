//! The relay ring: one io_uring per shard, its operations as futures.
//!
//! ```text
//!   task ──poll──► Receives / Accepts / Operation ──push──► submission queue ─┐
//!    ▲                      │                                                 │ drive(): one enter
//!    └────── wake ─── slot of the operation ◄── completion queue ◄────────────┘ submits and sleeps
//! ```
//!
//! Invariants, named where they are kept:
//! - **O1** An operation's slot is free only after its last completion: memory that the kernel may still
//!   use (addresses, buffers) belongs to the slot, not to the future.
//! - **O2** `user_data` carries the slot's generation: a completion never reaches a later operation.
//! - **O3** A dropped future leaves its operation behind as an orphan: it is cancelled, and what its
//!   completions bring (a buffer, a descriptor) is given back.
//! - **O4** A descriptor is closed through the ring, behind everything that was queued for it before.
//! - **O5** A receive buffer is the kernel's or exactly one [`Chunk`]'s.
//! - **O6** A datagram that is sent stays with the ring until an enter has taken everything that was queued.

#![allow(unsafe_code)]

mod buffers;
mod datagrams;
mod drive;
mod files;
mod operations;
mod pipes;
mod sends;
mod slots;
mod timers;

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

use crate::clock::{self, Millis};
use crate::counter::Counter;
use crate::limits;
pub use buffers::Chunk;
use buffers::Pools;
pub use datagrams::{Arrived, Datagram, Datagrams, LocalAddr, Payload, Senders};
pub use drive::drive;
use files::Files;
pub use operations::{Accepted, Accepts, Operation, Received, Receives, Sleep};
pub use pipes::{Pipe, Pipes};
use sends::Sends;
pub use sends::{Outgoing, Sender};
use slots::{Key, Slots};
use timers::Timers;

/// A shard's relay ring; its operations hold a clone.
pub type Ring = Rc<RelayRing>;

/// See the module. Made on the thread that drives it, and never leaves it.
pub struct RelayRing {
    inner: RefCell<Inner>,
    timers: RefCell<Timers>,
    /// Counts every use by a task: [`drive()`] goes on letting tasks run while it moves.
    touches: Cell<u64>,
    /// Completions of the last turn.
    last_batch: Cell<u64>,
    counters: Arc<RingCounters>,
    stopped: Cell<bool>,
}

struct Inner {
    ring: IoUring,
    slots: Slots,
    buffers: Pools,
    /// What receives of datagrams name; the kernel has them for as long as it has the ring.
    layouts: Box<datagrams::Layouts>,
    files: Files,
    sends: Sends,
}

/// What a ring counts.
#[derive(Debug, Default)]
pub struct RingCounters {
    /// Enters of the kernel that submit and wait.
    pub enters: Counter,
    /// Completions taken.
    pub completions: Counter,
    /// Receives that found no free buffer (ENOBUFS) and were armed again.
    pub no_buffers: Counter,
    /// Bytes received for operations that were given up.
    pub bytes_orphaned: Counter,
    /// Pipes open: a gauge.
    pub pipes: Counter,
}

/// A descriptor that is closed in order behind all operations queued for it (O4), when this is dropped.
pub struct RingFd {
    ring: Ring,
    fd: ManuallyDrop<OwnedFd>,
    /// See [`RingFd::register`].
    number: Cell<Option<u32>>,
}

/// What a completion that nobody waits for carries.
const NOBODY: u64 = u64::MAX;

// === impl RelayRing ===

impl RelayRing {
    /// A ring for the calling thread, the only one that may add to these counters.
    ///
    /// # Errors
    /// Those of io_uring_setup(2): EPERM and ENOSYS where it is forbidden, ENOMEM under a memory limit.
    pub fn new(counters: Arc<RingCounters>) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(limits::RING_COMPLETIONS);
        // Linux 6.6 does without the indirection of the submission queue.
        match builder.clone().setup_no_sqarray().build(limits::RING_ENTRIES) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Self::over(builder.build(limits::RING_ENTRIES)?, Files::new(false), counters)
            }
            ring => Self::over(ring?, Files::new(true), counters),
        }
    }

    fn over(ring: IoUring, files: Files, counters: Arc<RingCounters>) -> io::Result<Ring> {
        let buffers = Pools::new(&ring.submitter())?;
        Ok(Rc::new(Self {
            inner: RefCell::new(Inner {
                ring,
                slots: Slots::default(),
                buffers,
                layouts: Box::default(),
                files,
                sends: Sends::default(),
            }),
            timers: RefCell::new(Timers::default()),
            touches: Cell::new(0),
            last_batch: Cell::new(0),
            counters,
            stopped: Cell::new(false),
        }))
    }

    /// Tells [`drive()`] that a task of this shard was made or has work of its own.
    pub fn touch(&self) {
        self.touches.set(self.touches.get().wrapping_add(1));
    }

    /// Ends [`drive()`] once nothing is runnable.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.touch();
    }

    /// Wakes every task that waits for an operation, to look at what has changed.
    pub fn wake_all(&self) {
        self.inner.borrow().slots.wake_all();
        self.touch();
    }

    /// Closes a descriptor, in order behind all operations queued for it (O4).
    pub fn close(&self, fd: OwnedFd) {
        self.touch();
        let entry = opcode::Close::new(types::Fd(fd.as_raw_fd())).build().user_data(NOBODY);
        // SAFETY: CLOSE takes no memory; the descriptor is owned and given up here.
        if unsafe { self.push(entry) }.is_ok() {
            let _: RawFd = fd.into_raw_fd();
        }
    }

    /// Queues an entry.
    ///
    /// # Safety
    /// All memory the entry names must stay valid until its last completion (O1).
    unsafe fn push(&self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.inner.borrow_mut().push(&entry) }
    }

    /// Cancels the operation of `key`; its last completion still comes.
    fn cancel(&self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.user_data()).build().user_data(NOBODY);
        // SAFETY: ASYNC_CANCEL takes no memory.
        // Where it cannot be queued, the operation ends when its descriptor does.
        let _ = unsafe { self.push(entry) };
    }

    /// Submits what is queued, waits for completions, at most for `at_most`, and hands out what has come.
    fn turn(&self, at_most: Option<Duration>) {
        let mut inner = self.inner.borrow_mut();
        let can_batch = inner.ring.params().is_feature_min_timeout();
        let wait = Wait::after(self.last_batch.get(), can_batch, inner.sends.are_queued(), at_most);
        self.enter(&inner, &wait);
        let completions = self.reap(&mut inner);
        if wait.completions > 0 {
            self.last_batch.set(completions);
        }
        let queue = inner.ring.submission();
        // Refusals may be among completions that had no room.
        let submitted_all = queue.is_empty() && !queue.cq_overflow();
        drop(queue);
        if submitted_all {
            inner.files.all_taken();
        }
        if submitted_all && inner.sends.are_queued() {
            let mut sent = inner.sends.take();
            drop(inner);
            sent.drain(..).for_each(sends::Posted::tell);
            self.inner.borrow_mut().sends.reuse(sent);
        }
    }

    fn enter(&self, inner: &Inner, wait: &Wait) {
        let timespec = wait.at_most.map(types::Timespec::from);
        let mut args = types::SubmitArgs::new().min_wait_usec(wait.batch_micros);
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        let result = inner.ring.submitter().submit_with_args(wait.completions, &args);
        self.counters.enters.add(1);
        if let Err(error) = result
            && !is_passing(&error)
        {
            tracing::error!(%error, "io_uring_enter failed");
        }
    }

    /// Hands out what has come, and counts it.
    fn reap(&self, inner: &mut Inner) -> u64 {
        let mut completions = 0;
        for entry in inner.ring.completion() {
            completions += 1;
            if Sends::is_send(entry.user_data()) {
                inner.sends.refused(entry.user_data(), entry.result());
            } else if entry.user_data() != NOBODY {
                let orphaned = inner.slots.complete(
                    entry.user_data(),
                    entry.result(),
                    entry.flags(),
                    &mut inner.buffers,
                );
                self.counters.bytes_orphaned.add(orphaned);
            }
        }
        self.counters.completions.add(completions);
        completions
    }

    /// Wakes the tasks whose time has come. Returns whether there were any.
    fn fire_timers(&self) -> bool {
        let mut timers = self.timers.borrow_mut();
        !timers.is_empty() && timers.advance(clock::now()) > 0
    }

    /// When the next timer is due.
    fn next_timer(&self) -> Option<Millis> {
        self.timers.borrow().next()
    }
}

// === impl RingFd ===

impl RingFd {
    /// A descriptor for operations of this ring.
    pub fn new(ring: &Ring, fd: OwnedFd) -> Self {
        Self { ring: ring.clone(), fd: ManuallyDrop::new(fd), number: Cell::new(None) }
    }

    /// Makes sending on it cheaper from now on, where the kernel is new enough and the ring has numbers left: for one
    /// that is used much. It costs a system call.
    pub fn register(&self) {
        if self.number.get().is_none() {
            let mut inner = self.ring.inner.borrow_mut();
            let inner = &mut *inner;
            self.number.set(inner.files.add(&inner.ring.submitter(), raw(&**self)).ok());
        }
    }

    /// As entries name it.
    fn target(&self) -> (types::Fd, squeue::Flags) {
        match self.number.get() {
            Some(number) => (types::Fd(number as RawFd), squeue::Flags::FIXED_FILE),
            None => (types::Fd(raw(&**self)), squeue::Flags::empty()),
        }
    }
}

impl Deref for RingFd {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Drop for RingFd {
    fn drop(&mut self) {
        if let Some(number) = self.number.get() {
            let mut inner = self.ring.inner.borrow_mut();
            let entry = inner.files.remove(number).user_data(NOBODY);
            // SAFETY: CLOSE takes no memory. Where it cannot be queued, the next one of this number closes it.
            let _ = unsafe { inner.push(&entry) };
        }
        // SAFETY: taken once, as this is dropped once, and not used after.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        self.ring.close(fd);
    }
}

impl Inner {
    /// See [`RelayRing::push`].
    ///
    /// # Errors
    /// Those of io_uring_enter(2) that do not pass; the entry is not queued then.
    ///
    /// # Safety
    /// As there.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: passed on to the caller.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // The queue is full: let the kernel take it. It takes all entries or reports why not.
            if let Err(error) = self.ring.submit()
                && !is_passing(&error)
            {
                tracing::error!(%error, "the submission queue is stuck; an operation fails");
                return Err(error);
            }
        }
        Ok(())
    }
}

/// How long to stay in the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Wait {
    /// Completions to wait for.
    completions: usize,
    /// Microseconds after which a single one is enough.
    batch_micros: u32,
    /// At most so long.
    at_most: Option<Duration>,
}

impl Wait {
    /// After a turn that brought `last` completions.
    ///
    /// Under load completions come in crowds: to wait a moment for half as many as came the last time saves
    /// sleeps and wakes, a fifth of the cost of a small request (docs/performance.md). Alone, one is awaited.
    ///
    /// Senders hear after the turn. Alone, they do before the ring sleeps; in a crowd, which goes on, soon.
    fn after(last: u64, can_batch: bool, sending: bool, at_most: Option<Duration>) -> Self {
        if last >= limits::CROWD && can_batch {
            let soon = sending.then_some(limits::CROWD_PAUSE);
            Self {
                completions: (last / 2).min(limits::CROWD_AWAITED) as usize,
                batch_micros: limits::CROWD_WAIT_MICROS,
                at_most: at_most.into_iter().chain(soon).min(),
            }
        } else {
            Self { completions: usize::from(!sending), batch_micros: 0, at_most }
        }
    }
}

/// Errors of io_uring_enter(2) after which one simply goes on.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

/// The descriptor as io_uring takes it.
fn raw(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests;
