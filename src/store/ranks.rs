//! The order of creation, which decides between two Services that claim one address.

use std::collections::HashMap;

use super::seconds_since_1970;
use crate::types::NamespacedName;

/// The order of creation: by timestamp, or else by when an object was first seen. The lower one is older.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    by_key: HashMap<NamespacedName, u64>,
    last: u64,
}

/// Objects first seen in one second, in order.
const RANK_BITS: u32 = 20;

impl Ranks {
    pub(super) fn rank(&mut self, key: &NamespacedName, created: Option<u64>) -> u64 {
        if let Some(rank) = self.by_key.get(key) {
            return *rank;
        }
        let seen = seconds_since_1970() << RANK_BITS;
        self.last = (self.last + 1).max(seen);
        let rank = match created {
            // Within one second of creation, the order in which they were seen.
            Some(seconds) => (seconds.min(1 << 40) << RANK_BITS) + self.last % (1 << RANK_BITS),
            None => self.last,
        };
        self.by_key.insert(key.clone(), rank);
        rank
    }

    pub(super) fn created(&self, key: &NamespacedName) -> u64 {
        self.by_key.get(key).map_or(0, |rank| rank >> RANK_BITS)
    }

    /// Gives an object the rank that it had in an earlier life of the process.
    pub(super) fn restore(&mut self, key: &NamespacedName, rank: u64) {
        self.by_key.insert(key.clone(), rank);
        self.last = self.last.max(rank);
    }

    pub(super) fn get(&self, key: &NamespacedName) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    pub(super) fn forget(&mut self, key: &NamespacedName) {
        self.by_key.remove(key);
    }
}
