//! Waiting for the header of a trusted peer.

use std::io;
use std::os::fd::OwnedFd;

use super::header::{self, Header, Parsed};
use crate::clock;
use crate::limits::{PROXY_HEADER_BYTES, PROXY_HEADER_LOOK, PROXY_HEADER_TIME};
use crate::net::socket;
use crate::shard::connect::unless_stopping;
use crate::shard::run::Shard;
use crate::types::Refusal;

/// What most headers fit in.
const USUAL: usize = 256;

/// Takes the header off a connection, and nothing that follows it.
pub(in crate::shard) async fn receive(shard: &Shard, client: &OwnedFd) -> Result<Header, Refusal> {
    let until = clock::now().after(PROXY_HEADER_TIME);
    let whole = shard.ring.until(until, wait(shard, client));
    match unless_stopping(shard, whole).await {
        Some(result) => result,
        None if shard.stopping.get() => Err(Refusal::Draining),
        None => Err(Refusal::ProxyHeaderTimeout),
    }
}

/// Looks at the bytes without taking them, and sleeps until there are as many more as could change the answer.
async fn wait(shard: &Shard, client: &OwnedFd) -> Result<Header, Refusal> {
    let gone = |_: io::Error| Refusal::ClientGone;
    let mut buffer = vec![0; USUAL];
    let mut seen = 0;
    loop {
        let events = shard.ring.poll(client, libc::POLLIN | libc::POLLRDHUP).await.map_err(gone)?;
        let now = socket::peek(client, &mut buffer).map_err(gone)?;
        match header::parse(buffer.get(..now).unwrap_or_default()) {
            Parsed::Whole(header, len) => {
                socket::take(client, len).map_err(gone)?;
                socket::wake_at(client, 1).map_err(gone)?;
                return Ok(header);
            }
            Parsed::More(_) if now == 0 => return Err(Refusal::ClientGone),
            // These are all the bytes that there will be.
            Parsed::More(_) if events & i32::from(libc::POLLRDHUP) != 0 && now < buffer.len() => {
                return Err(Refusal::ProxyHeaderMalformed);
            }
            // Where the kernel is short of memory, it wakes for fewer bytes than were asked for.
            Parsed::More(_) if now == seen => shard.ring.sleep(PROXY_HEADER_LOOK).await,
            Parsed::More(wanted) => {
                seen = now;
                buffer.resize(wanted.clamp(USUAL, PROXY_HEADER_BYTES), 0);
                socket::wake_at(client, wanted).map_err(gone)?;
            }
            Parsed::None => return Err(Refusal::ProxyHeaderMissing),
            Parsed::Malformed => return Err(Refusal::ProxyHeaderMalformed),
        }
    }
}
