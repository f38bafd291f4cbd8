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

#![allow(unsafe_code)]

mod buffers;
mod drive;
mod operations;
mod pipes;
mod slots;
mod timers;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

use crate::clock::{self, Millis};
use crate::counter::Counter;
use crate::limits;
use buffers::Buffers;
pub use buffers::Chunk;
pub use drive::drive;
pub use operations::{Accepted, Accepts, Operation, Received, Receives, Sleep};
pub use pipes::{Pipe, Pipes};
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
    buffers: Buffers,
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

/// What a completion that nobody waits for carries.
const NOBODY: u64 = u64::MAX;

// === impl RelayRing ===

impl RelayRing {
    /// A ring for the calling thread, the only one that may add to these counters.
    ///
    /// # Errors
    /// Those of io_uring_setup(2): EPERM and ENOSYS where it is forbidden, ENOMEM under a memory limit.
    pub fn new(counters: Arc<RingCounters>) -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(limits::RING_COMPLETIONS)
            .build(limits::RING_ENTRIES)?;
        Self::over(ring, counters)
    }

    fn over(ring: IoUring, counters: Arc<RingCounters>) -> io::Result<Ring> {
        let buffers = Buffers::new(&ring.submitter())?;
        Ok(Rc::new(Self {
            inner: RefCell::new(Inner { ring, slots: Slots::default(), buffers }),
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
        let inner = &mut *inner;
        let (want, batch_wait) = batch(self.last_batch.get(), inner.ring.params().is_feature_min_timeout());
        let timespec = at_most.map(types::Timespec::from);
        let mut args = types::SubmitArgs::new().min_wait_usec(batch_wait);
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        let result = inner.ring.submitter().submit_with_args(want, &args);
        self.counters.enters.add(1);
        if let Err(error) = result
            && !is_passing(&error)
        {
            tracing::error!(%error, "io_uring_enter failed");
        }
        let mut completions = 0;
        for entry in inner.ring.completion() {
            completions += 1;
            if entry.user_data() != NOBODY {
                let orphaned = inner.slots.complete(
                    entry.user_data(),
                    entry.result(),
                    entry.flags(),
                    &mut inner.buffers,
                );
                self.counters.bytes_orphaned.add(orphaned);
            }
        }
        self.last_batch.set(completions);
        self.counters.completions.add(completions);
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

/// How many completions to wait for after a turn that brought `last`, and for how many microseconds at
/// most before a single one is enough.
///
/// Under load completions come in crowds: to wait a moment for half as many as came the last time saves
/// sleeps and wakes, a fifth of the cost of a small request (docs/performance.md). Alone, one is awaited.
fn batch(last: u64, kernel_can: bool) -> (usize, u32) {
    if last >= limits::CROWD && kernel_can {
        ((last / 2).min(limits::CROWD_AWAITED) as usize, limits::CROWD_WAIT_MICROS)
    } else {
        (1, 0)
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
