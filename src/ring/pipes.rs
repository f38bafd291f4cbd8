//! Pipes for splice(2), pooled per shard.
//!
//! A pipe goes back to the pool only when it is empty; one that holds a byte is closed: a leftover would
//! reach another customer. A pipe is lent only while bytes are in transit, so a few serve many sessions.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use super::RingCounters;
use crate::limits;

/// The pipes of a shard.
pub struct Pipes {
    free: RefCell<Vec<(OwnedFd, OwnedFd)>>,
    counters: Arc<RingCounters>,
    most: usize,
}

/// A pipe on loan. Empty when it is lent.
pub struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    holds: usize,
    pool: Rc<Pipes>,
}

impl Pipes {
    /// A pool of at most `most` pipes, made when they are first needed.
    pub fn new(most: usize, counters: Arc<RingCounters>) -> Rc<Self> {
        Rc::new(Self { free: RefCell::new(Vec::new()), counters, most })
    }

    /// A pipe, or `None` where the budget is spent or the system has none: then one copies.
    pub fn lend(self: &Rc<Self>) -> Option<Pipe> {
        let pooled = self.free.borrow_mut().pop();
        let ends = match pooled {
            Some(ends) => ends,
            None if self.open() < self.most => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                self.counters.pipes.add(1);
                (read, write)
            }
            None => return None,
        };
        Some(Pipe { ends: Some(ends), holds: 0, pool: self.clone() })
    }

    /// Pipes open, lent or not.
    pub fn open(&self) -> usize {
        self.counters.pipes.get() as usize
    }
}

impl Pipe {
    /// Moves bytes from a non-blocking socket into the pipe. Zero is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is empty, provided that the pipe was empty too. EINVAL where the
    /// socket cannot be spliced.
    pub fn fill(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let Some((_, write)) = &self.ends else { return Ok(0) };
        let n =
            splice(socket, None, write, None, limits::PIPE_FILL, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?;
        self.holds += n;
        Ok(n)
    }

    /// Moves bytes from the pipe to a non-blocking socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket's buffer is full.
    pub fn drain(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let Some((read, _)) = &self.ends else { return Ok(0) };
        let n = splice(read, None, socket, None, self.holds, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?;
        self.holds = self.holds.saturating_sub(n);
        Ok(n)
    }

    /// Bytes in the pipe.
    pub fn holds(&self) -> usize {
        self.holds
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        match self.ends.take() {
            Some(ends) if self.holds == 0 => self.pool.free.borrow_mut().push(ends),
            Some(_) => self.pool.counters.pipes.sub(1),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        (near, far)
    }

    #[test]
    fn p1_a_pipe_with_a_leftover_byte_never_returns_to_the_pool() {
        let pool = Pipes::new(4, Arc::default());
        let (mut near, far) = connected();
        near.write_all(b"secret").unwrap();
        let mut pipe = pool.lend().unwrap();
        assert_eq!(pipe.fill(&far).unwrap(), 6);
        drop(pipe);
        assert_eq!(pool.open(), 0);

        let mut pipe = pool.lend().unwrap();
        near.write_all(b"open").unwrap();
        pipe.fill(&far).unwrap();
        let (mut there, sink) = connected();
        assert_eq!(pipe.drain(&sink).unwrap(), 4);
        let mut got = [0; 4];
        there.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"open");
        drop(pipe);
        assert_eq!((pool.open(), pool.free.borrow().len()), (1, 1));
    }

    #[test]
    fn p2_the_budget_is_kept() {
        let pool = Pipes::new(1, Arc::default());
        let one = pool.lend();
        assert!(one.is_some() && pool.lend().is_none());
        drop(one);
        assert!(pool.lend().is_some());
    }
}
