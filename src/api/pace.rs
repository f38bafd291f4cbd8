//! A connection that a slow or silent client cannot keep for ever.
//!
//! hyper bounds the time between requests; here stand the head of a request once it has begun, and an
//! answer that the client does not take.

use std::cell::Cell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::limits;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// Reading a head.
    Head,
    /// From the end of the head to the end of the answer.
    Request,
}

/// Where a connection is, as told by who handles its requests.
#[derive(Clone, Debug)]
pub(super) struct Pace(Rc<Cell<Phase>>);

impl Pace {
    pub(super) fn new() -> Self {
        Self(Rc::new(Cell::new(Phase::Idle)))
    }

    /// A request begins; it ends when this is dropped.
    pub(super) fn request(&self) -> InRequest {
        self.0.set(Phase::Request);
        InRequest(self.clone())
    }
}

/// A request and its answer.
#[derive(Debug)]
pub(super) struct InRequest(Pace);

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.0.set(Phase::Idle);
    }
}

/// A stream that ends with an error when the other side is too slow.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    head: Option<Pin<Box<Sleep>>>,
    write: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Pace) -> Self {
        Self { stream, pace, head: None, write: None }
    }

    /// Starts the clock of a write that does not get on, and stops it otherwise.
    fn written<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write = None;
            return result;
        }
        expire(&mut self.write, limits::API_WRITE_TIME, context)
    }
}

/// Pending until so long after the first call.
fn expire<T>(
    clock: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    let clock = clock.get_or_insert_with(|| Box::pin(sleep(limit)));
    ready!(clock.as_mut().poll(context));
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before && self.pace.0.get() == Phase::Idle {
            self.pace.0.set(Phase::Head);
        }
        if self.pace.0.get() != Phase::Head {
            self.head = None;
            return result;
        }
        match result {
            // What was read may be the rest of the head, so the clock goes on.
            Poll::Ready(_) => result,
            Poll::Pending => expire(&mut self.head, limits::API_HEAD_TIME, context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
