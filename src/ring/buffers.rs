//! The receive buffers of a ring: provided-buffer rings that the kernel takes from, one for streams and one
//! for datagrams.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::{Submitter, types::BufRingEntry};

use super::Ring;
use crate::limits::{DATAGRAM_BUFFER_BYTES, DATAGRAM_BUFFERS, RECV_BUFFER_BYTES, RECV_BUFFERS};

const PAGE: usize = 4096;

/// Which buffers an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    /// For bytes of a stream.
    Stream,
    /// Large enough for any datagram.
    Datagram,
}

/// The pools of a ring. Live as long as the io_uring, which is dropped first (field order in `Inner`).
pub(super) struct Pools {
    stream: Buffers,
    /// Made with the first socket for datagrams.
    datagram: Option<Buffers>,
}

/// One shared ring of free buffers, and the memory behind it.
pub(super) struct Buffers {
    pool: Pool,
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
    /// Buffers that completions have brought and that were not given back.
    lent: u16,
    /// Tasks whose receive found no buffer.
    starved: Vec<Waker>,
}

/// Bytes received, in a buffer of the ring. Given back when dropped (O5).
pub struct Chunk {
    ring: Ring,
    pool: Pool,
    id: u16,
    start: u32,
    end: u32,
}

// === impl Pool ===

impl Pool {
    /// The buffer group of the ring.
    pub(super) fn group(self) -> u16 {
        self as u16
    }

    /// How many buffers: a power of two.
    const fn count(self) -> u16 {
        match self {
            Self::Stream => RECV_BUFFERS,
            Self::Datagram => DATAGRAM_BUFFERS,
        }
    }

    /// Bytes of each.
    const fn bytes(self) -> usize {
        match self {
            Self::Stream => RECV_BUFFER_BYTES,
            Self::Datagram => DATAGRAM_BUFFER_BYTES,
        }
    }

    const fn entries_layout(self) -> Layout {
        // SAFETY: the alignment is a power of two and the size does not overflow.
        unsafe { Layout::from_size_align_unchecked(self.count() as usize * size_of::<BufRingEntry>(), PAGE) }
    }

    const fn memory_layout(self) -> Layout {
        // SAFETY: the alignment is a power of two and the size does not overflow.
        unsafe { Layout::from_size_align_unchecked(self.count() as usize * self.bytes(), PAGE) }
    }
}

// === impl Pools ===

impl Pools {
    pub(super) fn new(submitter: &Submitter<'_>) -> io::Result<Self> {
        Ok(Self { stream: Buffers::new(Pool::Stream, submitter)?, datagram: None })
    }

    /// Makes the buffers for datagrams, unless they are there.
    pub(super) fn allow_datagrams(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        if self.datagram.is_none() {
            self.datagram = Some(Buffers::new(Pool::Datagram, submitter)?);
        }
        Ok(())
    }

    /// The buffers of a pool; `None` before there are any.
    pub(super) fn of(&mut self, pool: Pool) -> Option<&mut Buffers> {
        match pool {
            Pool::Stream => Some(&mut self.stream),
            Pool::Datagram => self.datagram.as_mut(),
        }
    }

    /// Hands a buffer back to the kernel.
    pub(super) fn give_back(&mut self, pool: Pool, id: u16) {
        if let Some(buffers) = self.of(pool) {
            buffers.give_back(id);
        }
    }
}

// === impl Buffers ===

impl Buffers {
    fn new(pool: Pool, submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = allocate(pool.entries_layout()).cast::<BufRingEntry>();
        let memory = allocate(pool.memory_layout());
        let mut buffers = Self { pool, entries, memory, tail: 0, lent: pool.count(), starved: Vec::new() };
        // SAFETY: the entries are page-aligned, zeroed, and stay until `buffers` is dropped, which is
        // after the io_uring, or now if they could not be registered.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, pool.count(), pool.group(), 0)?;
        }
        for id in 0..pool.count() {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// Hands a buffer to the kernel.
    pub(super) fn give_back(&mut self, id: u16) {
        debug_assert!(id < self.pool.count());
        let place = usize::from(self.tail & (self.pool.count() - 1));
        // SAFETY: `place` is below the number of entries, a power of two. The kernel does not read this
        // entry before the tail has moved past it. The fields are written one by one since the tail
        // lives in an unused field of the first entry.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * self.pool.bytes()) as u64);
            entry.set_len(self.pool.bytes() as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the address of the tail inside the registered, page-aligned entries; it is shared with
        // the kernel, hence atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
        self.lent = self.lent.saturating_sub(1);
        for waker in self.starved.drain(..) {
            waker.wake();
        }
    }

    /// A completion has brought a buffer.
    pub(super) fn lend(&mut self) {
        self.lent += 1;
    }

    /// Wakes the task when there is a free buffer: at once, where some have been given back since the kernel
    /// found none. There may be nobody left then to give back another.
    pub(super) fn wake_when_free(&mut self, waker: &Waker) {
        if self.lent < self.pool.count() {
            waker.wake_by_ref();
        } else {
            self.starved.push(waker.clone());
        }
    }

    fn bytes(&self, id: u16) -> *const u8 {
        // SAFETY: the id is below the number of buffers, so this stays inside the memory.
        unsafe { self.memory.as_ptr().add(usize::from(id) * self.pool.bytes()) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in new() with the same layouts; the kernel no longer has the ring.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), self.pool.entries_layout());
            dealloc(self.memory.as_ptr(), self.pool.memory_layout());
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout is empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

// === impl Chunk ===

impl Chunk {
    /// The first `len` bytes of buffer `id`, which a completion has just handed over.
    pub(super) fn new(ring: Ring, pool: Pool, id: u16, len: u32) -> Self {
        debug_assert!(id < pool.count() && len as usize <= pool.bytes());
        Self { ring, pool, id, start: 0, end: len }
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes left.
    pub fn bytes(&self) -> &[u8] {
        let Some(base) = self.ring.inner.borrow_mut().buffers.of(self.pool).map(|pool| pool.bytes(self.id))
        else {
            return &[];
        };
        // SAFETY: the buffer is this chunk's alone until it is dropped (O5): neither the kernel nor
        // another chunk writes it; the memory lives as long as the ring, which the chunk holds.
        unsafe { std::slice::from_raw_parts(base.add(self.start as usize), self.len()) }
    }

    /// Drops the first `n` bytes.
    pub fn advance(&mut self, n: usize) {
        self.start = self.end.min(self.start.saturating_add(u32::try_from(n).unwrap_or(u32::MAX)));
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.ring.inner.borrow_mut().buffers.give_back(self.pool, self.id);
    }
}
