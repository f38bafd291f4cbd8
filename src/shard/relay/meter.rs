//! When a direction copies and when it splices.
//!
//! Copying is cheaper for small messages, splicing from somewhat below 16 KiB (docs/performance.md). A
//! direction changes only when several messages in a row say so: each change costs a cancelled receive.

use crate::limits;

/// Judges a direction by what it has moved lately.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Grows with each large piece while copying.
    bulk: u8,
    /// Grows with each small burst while splicing.
    chatter: u8,
    /// Bytes of the burst under way while splicing.
    burst: usize,
    /// Splicing is off, or the sockets cannot be spliced.
    never: bool,
}

impl Meter {
    /// A direction that copies, and may be spliced or not.
    pub(super) fn new(may_splice: bool) -> Self {
        Self { never: !may_splice, ..Self::default() }
    }

    /// A piece of this many bytes has been copied.
    pub(super) fn copied(&mut self, bytes: usize) {
        if bytes >= limits::LARGE_PIECE {
            self.bulk = (self.bulk + 2).min(limits::SPLICE_FROM);
        } else if bytes < limits::SMALL_PIECE {
            self.bulk = self.bulk.saturating_sub(1);
        }
    }

    /// The receiver was slower than the sender: a sign of bulk.
    pub(super) fn blocked(&mut self) {
        self.bulk = limits::SPLICE_FROM;
    }

    /// Whether to splice from now on.
    pub(super) fn wants_splice(&self) -> bool {
        self.bulk >= limits::SPLICE_FROM && !self.never
    }

    /// Bytes have been spliced.
    pub(super) fn spliced(&mut self, bytes: usize) {
        self.burst = self.burst.saturating_add(bytes);
    }

    /// The sender has nothing more for now.
    pub(super) fn dry(&mut self) {
        if self.burst < limits::SMALL_BURST {
            self.chatter = (self.chatter + 1).min(limits::SPLICE_UNTIL);
        } else {
            self.chatter = 0;
        }
        self.burst = 0;
    }

    /// Whether to copy from now on.
    pub(super) fn wants_copy(&self) -> bool {
        self.chatter >= limits::SPLICE_UNTIL || self.never
    }

    /// The direction now copies.
    pub(super) fn start_copying(&mut self) {
        *self = Self::new(!self.never);
    }

    /// The sockets cannot be spliced.
    pub(super) fn never_splice(&mut self) {
        self.never = true;
    }
}
