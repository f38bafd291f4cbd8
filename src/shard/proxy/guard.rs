//! Looking at the first bytes of those who may not send a header.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;

use super::header::{self, SIGNATURE_BYTES};
use crate::limits::PROXY_HEADER_TIME;
use crate::net::socket;
use crate::shard::run::Shard;

/// Keeps the bytes of a client back until it is certain that they do not begin with a header.
#[derive(Debug, Default)]
pub(in crate::shard) struct Guard {
    watching: Cell<bool>,
}

impl Guard {
    /// A guard of a client that is not trusted.
    pub(in crate::shard) fn watching() -> Self {
        Self { watching: Cell::new(true) }
    }

    /// Whether the client still has to be watched.
    pub(in crate::shard) fn is_watching(&self) -> bool {
        self.watching.get()
    }

    /// Waits until the first bytes are there, and no header. The connection itself is left as it is.
    ///
    /// # Errors
    /// Those of the connection; [`Guard::is_refusal`] where the client has to be refused.
    pub(in crate::shard) async fn wait(&self, shard: &Shard, client: &OwnedFd) -> io::Result<()> {
        let mut first = [0; SIGNATURE_BYTES];
        shard.ring.poll(client, libc::POLLIN).await?;
        let mut seen = 0;
        loop {
            let now = socket::peek(client, &mut first)?;
            match header::is_header(first.get(..now).unwrap_or_default()) {
                Some(true) => return Err(refusal()),
                // The same as before: the end of what the client had to say.
                None if now > seen => seen = now,
                Some(false) | None => break,
            }
            socket::wake_at(client, seen + 1)?;
            // Someone who stops in the middle of a signature is not waited for: the rest would come later.
            let more = shard.ring.within(PROXY_HEADER_TIME, shard.ring.poll(client, libc::POLLIN));
            more.await.ok_or_else(refusal)??;
        }
        self.watching.set(false);
        if seen > 0 { socket::wake_at(client, 1) } else { Ok(()) }
    }

    /// Whether an error of [`Guard::wait`] means that the client has sent a header, or a part of one.
    pub(in crate::shard) fn is_refusal(error: &io::Error) -> bool {
        error.raw_os_error() == Some(REFUSAL)
    }
}

/// Nothing that a socket answers.
const REFUSAL: i32 = libc::EBADMSG;

fn refusal() -> io::Error {
    io::Error::from_raw_os_error(REFUSAL)
}
