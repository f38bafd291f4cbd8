//! Descriptors that the kernel knows by a number of the ring's own ("fixed files", io_uring_register(2)): an operation
//! on one does not look it up among the process's, and counts its uses without atomics.
//!
//! A number is given up by an entry, behind all that was queued for it, and is used again only after an enter has
//! taken that entry: no operation ever meets the next descriptor of its number.
//!
//! Kernels before Linux 6.4 may keep a file whose number is given up for a second. A UDP socket that nobody reads
//! would go on taking datagrams meant for its address and port, so numbers are used from Linux 6.6 on, which the ring
//! can tell.

use std::io;
use std::os::fd::RawFd;

use io_uring::{Submitter, opcode, squeue, types};

use crate::limits;

/// The numbers of a ring.
pub(super) struct Files {
    /// Whether a file is closed as soon as its number is given up.
    closes_at_once: bool,
    /// Not in use; `None` before the first is.
    free: Option<Vec<u32>>,
    /// Given up, by entries that may still be queued.
    leaving: Vec<u32>,
}

impl Files {
    pub(super) fn new(closes_at_once: bool) -> Self {
        Self { closes_at_once, free: None, leaving: Vec::new() }
    }

    /// Gives a descriptor a number.
    ///
    /// # Errors
    /// ENOSYS: this kernel is too old. ENFILE: there are no more. Those of io_uring_register(2): EMFILE under a limit
    /// lower than [`limits::RING_FILES`].
    pub(super) fn add(&mut self, submitter: &Submitter<'_>, fd: RawFd) -> io::Result<u32> {
        if !self.closes_at_once {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let free = match &mut self.free {
            Some(free) => free,
            none => {
                submitter.register_files_sparse(limits::RING_FILES)?;
                none.insert((0..limits::RING_FILES).rev().collect())
            }
        };
        let number = free.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))?;
        submitter.register_files_update(number, &[fd]).inspect_err(|_| free.push(number))?;
        Ok(number)
    }

    /// The entry that gives up a number, which the caller queues.
    pub(super) fn remove(&mut self, number: u32) -> squeue::Entry {
        self.leaving.push(number);
        opcode::Close::new(types::Fixed(number)).build()
    }

    /// An enter has taken all entries.
    pub(super) fn all_taken(&mut self) {
        if let Some(free) = &mut self.free {
            free.append(&mut self.leaving);
        }
    }
}
