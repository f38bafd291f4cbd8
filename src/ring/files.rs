//! Descriptors that the kernel knows by a number of the ring's own ("fixed files", io_uring_register(2)): an operation
//! on one neither looks it up nor counts its uses.
//!
//! A number is given up by an entry, behind all that was queued for it, and is used again only after an enter has
//! taken that entry: no operation ever meets the next descriptor of its number.

use std::io;
use std::os::fd::RawFd;

use io_uring::{Submitter, opcode, squeue, types};

use crate::limits;

/// The numbers of a ring.
#[derive(Default)]
pub(super) struct Files {
    /// Registered so far.
    table: bool,
    /// Below this, all were used.
    next: u32,
    free: Vec<u32>,
    /// Given up, by entries that may still be queued.
    leaving: Vec<u32>,
}

impl Files {
    /// Gives a descriptor a number.
    ///
    /// # Errors
    /// ENFILE: there are no more. Those of io_uring_register(2): EMFILE under a limit lower than [`limits::RING_FILES`].
    pub(super) fn add(&mut self, submitter: &Submitter<'_>, fd: RawFd) -> io::Result<u32> {
        if !self.table {
            submitter.register_files_sparse(limits::RING_FILES)?;
            self.table = true;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.next < limits::RING_FILES => {
                self.next += 1;
                self.next - 1
            }
            None => return Err(io::Error::from_raw_os_error(libc::ENFILE)),
        };
        match submitter.register_files_update(number, &[fd]) {
            Ok(_) => Ok(number),
            Err(error) => {
                self.free.push(number);
                Err(error)
            }
        }
    }

    /// The entry that gives up a number, which the caller queues.
    pub(super) fn remove(&mut self, number: u32) -> squeue::Entry {
        self.leaving.push(number);
        opcode::Close::new(types::Fixed(number)).build()
    }

    /// An enter has taken all entries.
    pub(super) fn all_taken(&mut self) {
        self.free.append(&mut self.leaving);
    }
}
