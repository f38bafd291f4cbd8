//! One pod address and port behind one service port.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::clock::Millis;
use crate::metrics::counters::EndpointStats;
use crate::route::health::{Health, Standing};
use crate::types::EndpointAddr;

/// One pod address and port behind one service port. The same one is the same `Arc` in every snapshot
/// that has it (R3).
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: EndpointAddr,
    /// The pod's name where it is known.
    pub pod: Option<Arc<str>>,
    /// Its counters.
    pub stats: EndpointStats,
    /// What connections to it have shown.
    pub(in crate::route) health: Health,
    /// A hash of `addr` that is the same on every node and in every process.
    pub(in crate::route) hash: u64,
}

impl Endpoint {
    /// A healthy endpoint.
    pub fn new(addr: EndpointAddr, pod: Option<Arc<str>>, stats: EndpointStats) -> Self {
        Self { addr, pod, stats, health: Health::default(), hash: hash_endpoint(addr, Salt::Identity) }
    }

    /// Whether connections keep away from it for now, because it kept failing.
    pub fn ejected(&self, now: Millis) -> bool {
        self.health.standing(now) != Standing::Healthy
    }

    /// It has answered: whatever went wrong before is forgotten.
    pub fn answered(&self) {
        self.health.on_connected();
    }

    /// Whether connections to it have just failed several times in a row.
    pub fn keeps_failing(&self) -> bool {
        self.health.keeps_failing()
    }

    /// Sessions that it has now, all shards together.
    pub fn active(&self) -> u64 {
        self.stats.iter().map(|shard| shard.active.get()).sum()
    }
}

/// What a hash is for; different ones are independent of each other.
#[derive(Clone, Copy, Debug)]
pub(in crate::route) enum Salt {
    Identity = 0,
    MaglevOffset = 1,
    MaglevSkip = 2,
    Client = 3,
    Flow = 4,
}

/// The key of all routing hashes. Fixed, so that every node, shard and restart answers the same.
const KEY: (u64, u64) = (0x7269_6e67_706f_7274, 0x4d61_676c_6576_3136);

/// A keyed hash of an endpoint's address and port.
pub(in crate::route) fn hash_endpoint(addr: EndpointAddr, salt: Salt) -> u64 {
    let mut hasher = hasher(addr.0.ip(), salt);
    hasher.write_u16(addr.0.port().to_le());
    hasher.finish()
}

/// A keyed hash of a client's address.
pub(in crate::route) fn hash_client(client: IpAddr) -> u64 {
    hasher(client, Salt::Client).finish()
}

/// A keyed hash of a client's address and port.
pub(in crate::route) fn hash_flow(client: IpAddr, port: u16) -> u64 {
    let mut hasher = hasher(client, Salt::Flow);
    hasher.write_u16(port.to_le());
    hasher.finish()
}

fn hasher(ip: IpAddr, salt: Salt) -> SipHasher13 {
    let mut hasher = SipHasher13::new_with_keys(KEY.0, KEY.1 ^ salt as u64);
    match ip {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
    hasher
}
