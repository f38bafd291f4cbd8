//! The bytes of a header. Where it ends is found here; what it says is read by a crate, strictly.

use std::net::{IpAddr, SocketAddr};

use ppp::{PartialResult, v1, v2};

use crate::limits::PROXY_HEADER_BYTES;
use crate::types::ProxyVersion;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Header {
    /// It carries a client's connection.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where the client has connected to.
        destination: SocketAddr,
    },
    /// The peer's own connection (version 2, LOCAL), or one whose addresses it cannot tell (version 1, UNKNOWN).
    Local,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A header of this many bytes.
    Whole(Header, usize),
    /// The beginning of one; with fewer bytes than this in all there is no more to say.
    More(usize),
    /// No header.
    None,
    /// A header that is not valid.
    Malformed,
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = v2::PROTOCOL_PREFIX;

/// Of version 1, CR and LF included.
const V1_BYTES: usize = 107;

/// Of version 2, before the addresses.
const V2_FIXED: usize = 16;

/// The bytes of both that tell a header from anything else.
pub(super) const SIGNATURE_BYTES: usize = 12;

/// Whether these first bytes are those of a header; `None` while more are needed to tell.
pub(super) fn is_header(first: &[u8]) -> Option<bool> {
    for signature in [V1_SIGNATURE, V2_SIGNATURE] {
        if first.starts_with(signature) {
            return Some(true);
        }
        if signature.starts_with(first) {
            return None;
        }
    }
    Some(false)
}

/// Reads the first bytes of a connection, of which more may follow.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    match is_header(bytes) {
        None => Parsed::More(bytes.len() + 1),
        Some(false) => Parsed::None,
        Some(true) if bytes.starts_with(V2_SIGNATURE) => parse_v2(bytes),
        Some(true) => parse_v1(bytes),
    }
}

/// The header that the first bytes of a connection are: who its client is, unless that is the peer itself, and its length.
/// `Ok(None)` where there is none that is valid.
///
/// # Errors
/// How many bytes it takes at least to tell.
pub fn read(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, usize> {
    match parse(bytes) {
        Parsed::Whole(Header::Proxied { source, .. }, len) => Ok(Some((Some(source), len))),
        Parsed::Whole(Header::Local, len) => Ok(Some((None, len))),
        Parsed::More(len) => Err(len),
        Parsed::None | Parsed::Malformed => Ok(None),
    }
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let line = bytes.get(..V1_BYTES).unwrap_or(bytes);
    let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < V1_BYTES { Parsed::More(bytes.len() + 1) } else { Parsed::Malformed };
    };
    let line = line.get(..=end).unwrap_or_default();
    let read = v1::Header::try_from(line).ok();
    // The crate reads numbers as Rust does, which takes a sign.
    match read.filter(|header| header.header.len() == line.len() && !line.contains(&b'+')) {
        Some(header) => match header.addresses {
            v1::Addresses::Unknown => Parsed::Whole(Header::Local, line.len()),
            v1::Addresses::Tcp4(ip) => proxied(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
                line.len(),
            ),
            v1::Addresses::Tcp6(ip) => proxied(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
                line.len(),
            ),
        },
        None => Parsed::Malformed,
    }
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let len = match bytes.get(V2_FIXED - 2..V2_FIXED) {
        Some(&[high, low]) => V2_FIXED + usize::from(u16::from_be_bytes([high, low])),
        _ => V2_FIXED,
    };
    if len > PROXY_HEADER_BYTES {
        return Parsed::Malformed;
    }
    let read = v2::Header::try_from(bytes.get(..len).unwrap_or(bytes));
    if read.is_incomplete() {
        return Parsed::More(len);
    }
    // What follows the addresses is not used, but it has to be well-formed.
    let Some(header) = read.ok().filter(|header| header.tlvs().all(|tlv| tlv.is_ok())) else {
        return Parsed::Malformed;
    };
    match (header.command, header.protocol, header.addresses) {
        (v2::Command::Local, ..) => Parsed::Whole(Header::Local, len),
        (_, v2::Protocol::Stream, v2::Addresses::IPv4(ip)) => proxied(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
            len,
        ),
        (_, v2::Protocol::Stream, v2::Addresses::IPv6(ip)) => proxied(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
            len,
        ),
        (_, v2::Protocol::Stream, v2::Addresses::Unix(_))
        | (_, v2::Protocol::Unspecified, v2::Addresses::Unspecified) => Parsed::Whole(Header::Local, len),
        // Datagrams in a stream, or half of what has to be said.
        _ => Parsed::Malformed,
    }
}

/// A header with addresses; nobody connects from an address that is nobody's.
fn proxied(source: (IpAddr, u16), destination: (IpAddr, u16), len: usize) -> Parsed {
    let (from, to) = (source.0.to_canonical(), destination.0.to_canonical());
    let broadcast = matches!(from, IpAddr::V4(v4) if v4.is_broadcast());
    if from.is_unspecified() || from.is_multicast() || broadcast {
        return Parsed::Malformed;
    }
    let header = Header::Proxied {
        source: SocketAddr::new(from, source.1),
        destination: SocketAddr::new(to, destination.1),
    };
    Parsed::Whole(header, len)
}

/// The bytes of a header.
pub(in crate::shard) fn write(header: Header, version: ProxyVersion) -> Vec<u8> {
    match (version, header) {
        (ProxyVersion::V1, Header::Local) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyVersion::V1, Header::Proxied { source, destination }) => {
            let (from, to) = one_family(source.ip(), destination.ip());
            let family = if from.is_ipv4() { 4 } else { 6 };
            format!("PROXY TCP{family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        (ProxyVersion::V2, Header::Local) => [V2_SIGNATURE, &[0x20, 0, 0, 0]].concat(),
        (ProxyVersion::V2, Header::Proxied { source, destination }) => {
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
            match one_family(source.ip(), destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    [V2_SIGNATURE, &[0x21, 0x11, 0, 12], &from.octets(), &to.octets(), &ports].concat()
                }
                (from, to) => {
                    let (from, to) = (as_v6(from), as_v6(to));
                    [V2_SIGNATURE, &[0x21, 0x21, 0, 36], &from, &to, &ports].concat()
                }
            }
        }
    }
}

/// A header has one family: where the two addresses differ, both are told as IPv6.
fn one_family(source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (IpAddr::from(as_v6(source)), IpAddr::from(as_v6(destination)))
    }
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests;
