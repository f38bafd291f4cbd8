//! One direction of a session, used twice: from a source to a sink, in order, all of it, then FIN.
//!
//! What it does to sockets goes through [`Line`], so that tests can run it against a model that fails in
//! any order.

use std::io;

use super::meter::Meter;
use crate::limits;

/// The two ends of one direction, and the two ways to move bytes between them.
pub(super) trait Line {
    /// Bytes received.
    type Chunk: Bytes;
    /// Keeps account of bytes on the heap.
    type Held: Held;

    /// Waits for the next bytes of the source.
    async fn receive(&mut self) -> io::Result<Got<Self::Chunk>>;
    /// Asks the receiving to stop; what has come still comes, then [`Got::Stopped`].
    fn stop_receiving(&mut self);
    /// An account for bytes that wait for the sink.
    fn hold(&self) -> Self::Held;
    /// Sends some bytes to the sink without waiting.
    fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until the sink takes bytes, or is broken.
    async fn writable(&mut self) -> io::Result<()>;
    /// Waits until the source has bytes, an end, or is broken. Not while receiving.
    async fn readable(&mut self) -> io::Result<()>;
    /// Whether splicing is allowed at all.
    fn may_splice(&self) -> bool;
    /// Gets an empty pipe; false where there is none.
    fn open_pipe(&mut self) -> bool;
    /// Gives the pipe back.
    fn close_pipe(&mut self);
    /// Moves bytes from the source into the pipe, which is empty. Zero is the end of the stream.
    fn fill(&mut self) -> io::Result<usize>;
    /// Moves bytes from the pipe to the sink. Returns how many are left in the pipe.
    fn drain(&mut self) -> io::Result<usize>;
    /// Says FIN to the sink.
    fn finish(&mut self);
    /// Takes nothing from the source any more: the direction has failed, and may outlive that for a while.
    fn abandon(&mut self);
}

/// A buffer that is consumed from its front.
pub(super) trait Bytes {
    fn bytes(&self) -> &[u8];
    fn advance(&mut self, n: usize);
}

/// An account of heap; empty when it is dropped.
pub(super) trait Held {
    fn set(&mut self, bytes: usize);
}

/// See [`Line::receive`].
pub(super) enum Got<C> {
    Data(C),
    Eof,
    Stopped,
}

/// The end of a direction by an error.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) error: io::Error,
}

/// Where an error happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Source,
    Sink,
}

/// What follows a phase of copying or splicing.
#[derive(PartialEq, Eq)]
enum Next {
    Change,
    End,
}

/// Moves everything from source to sink, then says FIN to the sink.
pub(super) async fn pump(line: &mut impl Line) -> Result<(), Fault> {
    let mut meter = Meter::new(line.may_splice());
    loop {
        let fault = match copy(line, &mut meter).await {
            Ok(Next::End) => break,
            Ok(Next::Change) => splice(line, &mut meter).await.err(),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            line.abandon();
            return Err(fault);
        }
    }
    line.finish();
    Ok(())
}

/// Copies through receive buffers until the stream ends or should be spliced.
async fn copy(line: &mut impl Line, meter: &mut Meter) -> Result<Next, Fault> {
    meter.start_copying();
    let (mut stopping, mut leaving) = (false, false);
    loop {
        match line.receive().await.map_err(source)? {
            Got::Data(mut chunk) => {
                meter.copied(chunk.bytes().len());
                send_now(line, &mut chunk).map_err(sink)?;
                if !chunk.bytes().is_empty() {
                    meter.blocked();
                    // Boxed: most sessions never need the room.
                    if Box::pin(flush(line, chunk)).await? == Next::End {
                        return Ok(Next::End);
                    }
                    if meter.wants_splice() {
                        return Ok(Next::Change);
                    }
                    stopping = false;
                }
                // Once decided, small pieces on the way do not change it: they are the end of a large message.
                leaving |= meter.wants_splice();
                if leaving && !stopping {
                    line.stop_receiving();
                    stopping = true;
                }
            }
            Got::Eof => return Ok(Next::End),
            Got::Stopped if leaving => return Ok(Next::Change),
            Got::Stopped => stopping = false,
        }
    }
}

/// Sends as much as the sink takes now.
fn send_now(line: &mut impl Line, bytes: &mut impl Bytes) -> io::Result<()> {
    while !bytes.bytes().is_empty() {
        match line.try_send(bytes.bytes()) {
            Ok(n) => bytes.advance(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The sink is slower than the source: stops receiving, and sends what has come. While it waits it holds
/// none of the shard's receive buffers, so that stuck sessions cannot starve the others, but heap: what one
/// receive delivers at once (32 buffers), within a bound for all (see `backlog`).
async fn flush<L: Line>(line: &mut L, first: L::Chunk) -> Result<Next, Fault> {
    let mut backlog = Backlog::new(line.hold());
    backlog.push(first);
    line.stop_receiving();
    let end = loop {
        match line.receive().await {
            Ok(Got::Data(chunk)) => backlog.push(chunk),
            Ok(Got::Stopped) => break Ok(Next::Change),
            Ok(Got::Eof) => break Ok(Next::End),
            Err(error) => break Err(source(error)),
        }
    };
    loop {
        send_now(line, &mut backlog).map_err(sink)?;
        if backlog.bytes().is_empty() {
            return end;
        }
        line.writable().await.map_err(sink)?;
    }
}

/// Bytes on the heap that wait for a slow sink.
struct Backlog<H> {
    bytes: Vec<u8>,
    sent: usize,
    held: H,
}

impl<H: Held> Backlog<H> {
    fn new(held: H) -> Self {
        Self { bytes: Vec::new(), sent: 0, held }
    }

    /// Takes over what is left of a chunk, which is given back.
    fn push(&mut self, chunk: impl Bytes) {
        self.bytes.extend_from_slice(chunk.bytes());
        self.held.set(self.bytes.capacity());
    }
}

impl<H> Bytes for Backlog<H> {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    fn advance(&mut self, n: usize) {
        self.sent += n;
    }
}

/// Splices through a pipe until the stream seems to end or should be copied. The pipe is filled only when it is
/// empty, so an empty source and a full pipe are never mistaken for each other.
async fn splice(line: &mut impl Line, meter: &mut Meter) -> Result<(), Fault> {
    loop {
        if !line.open_pipe() {
            return Ok(());
        }
        for _ in 0..limits::SPLICE_FILLS {
            let filled = match line.fill() {
                // The end, or after FIN an urgent byte that splice(2) does not pass: a receive knows.
                Ok(0) => {
                    line.close_pipe();
                    return Ok(());
                }
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    meter.never_splice();
                    break;
                }
                Err(error) => return Err(source(error)),
            };
            meter.spliced(filled);
            while drain(line).await? {}
            if filled < limits::SPLICE_LIKELY_ALL {
                break;
            }
        }
        line.close_pipe();
        meter.dry();
        if meter.wants_copy() {
            return Ok(());
        }
        line.readable().await.map_err(source)?;
    }
}

/// Drains the pipe by one step. Returns whether bytes are left.
async fn drain(line: &mut impl Line) -> Result<bool, Fault> {
    match line.drain() {
        Ok(left) => Ok(left > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            line.writable().await.map_err(sink)?;
            Ok(true)
        }
        Err(error) => Err(sink(error)),
    }
}

fn source(error: io::Error) -> Fault {
    Fault { place: Place::Source, error }
}

fn sink(error: io::Error) -> Fault {
    Fault { place: Place::Sink, error }
}

#[cfg(test)]
mod tests;
