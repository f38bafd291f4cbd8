//! Looking at the first bytes of those who may not send a header.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;

use super::header::{self, SIGNATURE_BYTES};
use crate::limits::{PROXY_HEADER_LOOK, PROXY_HEADER_TIME};
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
        shard.ring.poll(client, libc::POLLIN).await?;
        if self.is_undecided(client)? {
            // Someone who stops in the middle of a signature is not waited for: the rest would come later.
            let decided = shard.ring.within(PROXY_HEADER_TIME, self.decided(shard, client));
            decided.await.ok_or_else(refusal)??;
            socket::wake_at(client, 1)?;
        }
        self.watching.set(false);
        Ok(())
    }

    /// Waits for bytes, or the end, that tell.
    async fn decided(&self, shard: &Shard, client: &OwnedFd) -> io::Result<()> {
        let mut wanted = 2;
        loop {
            socket::wake_at(client, wanted)?;
            let events = shard.ring.poll(client, libc::POLLIN | libc::POLLRDHUP).await?;
            if !self.is_undecided(client)? || events & i32::from(libc::POLLRDHUP) != 0 {
                return Ok(());
            }
            let seen = socket::peek(client, &mut [0; SIGNATURE_BYTES])?;
            if seen < wanted {
                // Where the kernel is short of memory, it wakes for fewer bytes than were asked for.
                shard.ring.sleep(PROXY_HEADER_LOOK).await;
            }
            wanted = seen + 1;
        }
    }

    /// Whether the first bytes may still become those of a header; the end of all bytes may not.
    fn is_undecided(&self, client: &OwnedFd) -> io::Result<bool> {
        let mut first = [0; SIGNATURE_BYTES];
        let seen = socket::peek(client, &mut first)?;
        match header::is_header(first.get(..seen).unwrap_or_default()) {
            Some(true) => Err(refusal()),
            None => Ok(seen > 0),
            Some(false) => Ok(false),
        }
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
