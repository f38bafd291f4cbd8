//! PROXY headers (haproxy.org, doc/proxy-protocol.txt): what a peer in front of this one says of its client, and
//! what a pod is told of ours.
//!
//! | peer | its first bytes | what follows |
//! |---|---|---|
//! | inside the CIDRs | a header, whole and in time | its source is the client from then on |
//! | | `LOCAL`, `UNKNOWN`, a UNIX socket | the peer itself is the client |
//! | | anything else, or nothing in time | refused, counted by reason |
//! | outside | a header | reset as soon as its signature is whole; nothing of it reaches the pod |
//! | | anything else | an ordinary session |
//!
//! Of a trusted peer nothing is sent to a pod before the header is there, and no pod is connected. A session of any
//! other starts at once, since a protocol in which the server speaks first must not wait for the client: only
//! the client's own first bytes are looked at before they are passed on. Headers are no bytes of the client's: they
//! are not counted, and never relayed.

mod guard;
mod header;
mod receive;

pub(super) use guard::Guard;
pub use header::read;
pub(super) use header::{Header, write};
pub(super) use receive::receive;
