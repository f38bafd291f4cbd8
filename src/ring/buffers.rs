//! The receive buffers of a ring: a provided-buffer ring that the kernel takes from.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::{Submitter, types::BufRingEntry};

use super::Ring;
use crate::limits::{RECV_BUFFER_BYTES, RECV_BUFFERS};

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

const PAGE: usize = 4096;

/// The shared ring of free buffers, and the memory behind it. Lives as long as the io_uring, which
/// is dropped first (field order in `Inner`).
pub(super) struct Buffers {
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
    id: u16,
    start: u32,
    end: u32,
}

// === impl Buffers ===

impl Buffers {
    pub(super) fn new(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = allocate(entries_layout()).cast::<BufRingEntry>();
        let memory = allocate(memory_layout());
        let mut buffers = Self { entries, memory, tail: 0, lent: RECV_BUFFERS, starved: Vec::new() };
        // SAFETY: the entries are page-aligned, zeroed, and stay until `buffers` is dropped, which is
        // after the io_uring.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, RECV_BUFFERS, GROUP, 0)?;
        }
        for id in 0..RECV_BUFFERS {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// Hands a buffer to the kernel.
    pub(super) fn give_back(&mut self, id: u16) {
        debug_assert!(id < RECV_BUFFERS);
        let place = usize::from(self.tail & (RECV_BUFFERS - 1));
        // SAFETY: `place` is below the number of entries, a power of two. The kernel does not read this
        // entry before the tail has moved past it. The fields are written one by one since the tail
        // lives in an unused field of the first entry.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * RECV_BUFFER_BYTES) as u64);
            entry.set_len(RECV_BUFFER_BYTES as u32);
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
        if self.lent < RECV_BUFFERS {
            waker.wake_by_ref();
        } else {
            self.starved.push(waker.clone());
        }
    }

    fn bytes(&self, id: u16) -> *const u8 {
        // SAFETY: the id is below RECV_BUFFERS, so this stays inside the memory.
        unsafe { self.memory.as_ptr().add(usize::from(id) * RECV_BUFFER_BYTES) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in new() with the same layouts; the kernel no longer has the ring.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout());
            dealloc(self.memory.as_ptr(), memory_layout());
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout is empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

const fn entries_layout() -> Layout {
    const BYTES: usize = RECV_BUFFERS as usize * size_of::<BufRingEntry>();
    // SAFETY: the alignment is a power of two and the size does not overflow.
    unsafe { Layout::from_size_align_unchecked(BYTES, PAGE) }
}

const fn memory_layout() -> Layout {
    const BYTES: usize = RECV_BUFFERS as usize * RECV_BUFFER_BYTES;
    // SAFETY: the alignment is a power of two and the size does not overflow.
    unsafe { Layout::from_size_align_unchecked(BYTES, PAGE) }
}

// === impl Chunk ===

impl Chunk {
    /// The first `len` bytes of buffer `id`, which a completion has just handed over.
    pub(super) fn new(ring: Ring, id: u16, len: u32) -> Self {
        debug_assert!(id < RECV_BUFFERS && len as usize <= RECV_BUFFER_BYTES);
        Self { ring, id, start: 0, end: len }
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
        let base = self.ring.inner.borrow().buffers.bytes(self.id);
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
        self.ring.inner.borrow_mut().buffers.give_back(self.id);
    }
}
