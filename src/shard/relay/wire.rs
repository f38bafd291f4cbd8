//! A direction between two real sockets.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

use super::State;
use super::backlog::Held;
use super::pump::{self, Bytes, Got, Line};
use crate::limits;
use crate::metrics::counters::{EndpointCounters, PortCounters};
use crate::ring::{Chunk, Pipe, Received, Receives};
use crate::shard::proxy::Guard;
use crate::shard::run::Shard;
use crate::types::Direction;

/// What one direction has moved.
pub(super) struct Flow<'a> {
    direction: Direction,
    /// Of the source's first bytes.
    guard: Guard,
    accepted: Cell<u64>,
    delivered: Cell<u64>,
    /// The error number with which the source has broken.
    source_fault: Cell<Option<i32>>,
    port: &'a PortCounters,
    endpoint: &'a EndpointCounters,
    state: &'a Cell<State>,
}

/// The sockets of one direction and what is on its way between them.
pub(super) struct Wire<'a> {
    shard: &'a Shard,
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    flow: &'a Flow<'a>,
    receives: Receives,
    pipe: Option<Pipe>,
}

// === impl Flow ===

impl<'a> Flow<'a> {
    pub(super) fn new(
        direction: Direction,
        port: &'a PortCounters,
        endpoint: &'a EndpointCounters,
        state: &'a Cell<State>,
        guard: Guard,
    ) -> Self {
        let (accepted, delivered) = (Cell::new(0), Cell::new(0));
        Self { direction, guard, accepted, delivered, source_fault: Cell::new(None), port, endpoint, state }
    }

    /// Bytes handed to the sink's socket.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.get()
    }

    /// Bytes taken from the source's socket and never handed to the sink's.
    pub(super) fn lost(&self) -> u64 {
        self.accepted.get().saturating_sub(self.delivered.get())
    }

    /// How the source has broken, although the direction goes on for what came before.
    pub(super) fn source_fault(&self) -> Option<io::Error> {
        self.source_fault.get().map(io::Error::from_raw_os_error)
    }

    fn accept(&self, n: usize) {
        self.accepted.set(self.accepted.get() + n as u64);
    }

    fn deliver(&self, n: usize) {
        let n = n as u64;
        self.delivered.set(self.delivered.get() + n);
        self.port.bytes.of(self.direction).add(n);
        self.endpoint.bytes.of(self.direction).add(n);
    }
}

// === impl Wire ===

impl<'a> Wire<'a> {
    pub(super) fn new(shard: &'a Shard, from: &'a OwnedFd, to: &'a OwnedFd, flow: &'a Flow<'a>) -> Self {
        Self { shard, from, to, flow, receives: shard.ring.receive(from), pipe: None }
    }
}

impl Wire<'_> {
    /// Waits until the sink takes bytes, or is broken. After a moment with an eye on the source, which may break
    /// while nobody receives from it (H8).
    async fn room(&self) -> io::Result<()> {
        let ring = &self.shard.ring;
        let mut room = ring.poll(self.to, libc::POLLOUT);
        if let Some(result) = ring.within(limits::BLOCKED_LOOK, &mut room).await {
            return result.map(drop);
        }
        // Errors and hang-ups complete every poll; so does FIN, and behind it nothing is of interest.
        let mut broken = Some(ring.poll(self.from, 0));
        std::future::poll_fn(|context| {
            if let Some(poll) = &mut broken
                && Pin::new(poll).poll(context).is_ready()
            {
                broken = None;
                self.look_at_source();
            }
            Pin::new(&mut room).poll(context).map(|result| result.map(drop))
        })
        .await
    }

    fn look_at_source(&self) {
        let error = rustix::net::sockopt::socket_error(self.from).map_or(None, Result::err);
        // A reset that came behind a FIN is EPIPE.
        if let Some(error) = error.filter(|error| *error != Errno::PIPE) {
            self.flow.source_fault.set(Some(error.raw_os_error()));
        }
    }
}

impl<'a> Line for Wire<'a> {
    type Chunk = Chunk;
    type Held = Held<'a>;

    async fn receive(&mut self) -> io::Result<Got<Chunk>> {
        if self.flow.guard.is_watching() {
            // Boxed: few Services ask for it.
            Box::pin(self.flow.guard.wait(self.shard, self.from)).await?;
        }
        let received = std::future::poll_fn(|context| {
            self.receives.spare(self.shard.backlog.is_used_up());
            self.receives.poll_next(context)
        });
        match received.await {
            Received::Data(chunk) => {
                self.flow.accept(chunk.len());
                Ok(Got::Data(chunk))
            }
            Received::Eof => Ok(Got::Eof),
            Received::Stopped => Ok(Got::Stopped),
            Received::Failed(error) => {
                self.flow.source_fault.set(error.raw_os_error());
                Err(error)
            }
        }
    }

    fn stop_receiving(&mut self) {
        self.receives.stop();
    }

    fn hold(&self) -> Held<'a> {
        Held::nothing(self.shard)
    }

    fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = rustix::net::send(self.to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        self.flow.deliver(n);
        Ok(n)
    }

    async fn writable(&mut self) -> io::Result<()> {
        // Boxed: at any time few sessions wait for this, and the others should not carry room for it.
        Box::pin(self.room()).await
    }

    async fn readable(&mut self) -> io::Result<()> {
        self.shard.ring.poll(self.from, libc::POLLIN).await.map(drop)
    }

    fn may_splice(&self) -> bool {
        self.shard.options.splice
    }

    fn open_pipe(&mut self) -> bool {
        if self.pipe.is_none() {
            self.pipe = self.shard.pipes.lend();
            if self.pipe.is_none() {
                self.shard.stats().pipes_refused.add(1);
            }
        }
        self.pipe.is_some()
    }

    fn close_pipe(&mut self) {
        self.pipe = None;
    }

    fn fill(&mut self) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return Err(io::ErrorKind::WouldBlock.into()) };
        let n = pipe.fill(self.from)?;
        self.flow.accept(n);
        Ok(n)
    }

    fn drain(&mut self) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        let n = pipe.drain(self.to)?;
        self.flow.deliver(n);
        self.flow.port.bytes_spliced.of(self.flow.direction).add(n as u64);
        Ok(pipe.holds())
    }

    fn finish(&mut self) {
        // Once the other direction has ended too, the close that follows says FIN.
        if self.flow.state.get() == State::Open {
            self.flow.state.set(State::HalfClosed);
            // Fails when the sink has broken; the other direction finds out why.
            let _ = rustix::net::shutdown(self.to, Shutdown::Write);
        }
    }

    fn abandon(&mut self) {
        self.pipe = None;
        // What was received and not asked for any more is accepted and lost.
        self.flow.accept(usize::try_from(self.receives.discard()).unwrap_or(usize::MAX));
    }
}

impl Drop for Wire<'_> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl pump::Held for Held<'_> {
    fn set(&mut self, bytes: usize) {
        Held::set(self, bytes);
    }
}

impl Bytes for Chunk {
    fn bytes(&self) -> &[u8] {
        Chunk::bytes(self)
    }

    fn advance(&mut self, n: usize) {
        Chunk::advance(self, n);
    }
}
