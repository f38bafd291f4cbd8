//! What a shard holds for sinks that are slower than their sources, and its bound.
//!
//! A direction that copies has one receive's worth of bytes on its hands when its sink stops taking them: 32
//! buffers. Once all that amounts to [`limits::BACKLOG_BYTES`], the shard receives sparingly, one buffer at a time,
//! until half of it is gone: the least that a direction can hold. Nothing is lost by it, and nobody waits for it.

use std::cell::Cell;

use crate::clock;
use crate::limits;
use crate::shard::run::Shard;

/// Whether a shard holds as much as it may.
#[derive(Default)]
pub(in crate::shard) struct Backlog {
    used_up: Cell<bool>,
}

impl Backlog {
    /// Whether to receive sparingly.
    pub(super) fn is_used_up(&self) -> bool {
        self.used_up.get()
    }
}

/// The share of one direction.
pub(super) struct Held<'a> {
    shard: &'a Shard,
    bytes: usize,
}

impl<'a> Held<'a> {
    pub(super) fn nothing(shard: &'a Shard) -> Self {
        Self { shard, bytes: 0 }
    }

    /// The direction now holds this many bytes.
    pub(super) fn set(&mut self, bytes: usize) {
        let stats = self.shard.stats();
        stats.backlog_bytes.add(bytes as u64);
        stats.backlog_bytes.sub(self.bytes as u64);
        self.bytes = bytes;
        let (held, used_up) = (stats.backlog_bytes.get(), &self.shard.backlog.used_up);
        if used_up.get() {
            used_up.set(held > limits::BACKLOG_BYTES / 2);
        } else if held > limits::BACKLOG_BYTES {
            used_up.set(true);
            stats.backlog_used_up.add(1);
            if self.shard.log_gate.may(clock::now()) {
                tracing::warn!(shard = self.shard.index, held, "receiving sparingly: many peers do not read");
            }
            // Receives that are armed for all that comes are armed anew.
            self.shard.ring.wake_all();
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}
