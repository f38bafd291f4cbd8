//! Maglev hashing (Eisenbud et al., NSDI 2016, §3.4): a table that gives every endpoint nearly the same
//! share of all clients, and moves few clients when the endpoints change.

use crate::route::endpoint::{Endpoint, Salt, hash_endpoint};
use crate::types::EndpointAddr;

/// A lookup table over a list of endpoints. A slot is a place in that list, as small as the list allows.
#[derive(Debug, PartialEq, Eq)]
pub enum Maglev {
    /// Up to 256 endpoints.
    Bytes(Box<[u8]>),
    /// Up to 65,536.
    Words(Box<[u16]>),
    /// More.
    Longs(Box<[u32]>),
}

/// Prime table sizes. More than 100 slots for each endpoint keep the shares within about one percent;
/// beyond 6,553 endpoints the last one serves all the same, less evenly.
const SIZES: [usize; 4] = [2039, 16381, 65537, 655_373];

impl Maglev {
    /// The table of these endpoints, which are sorted by address and port; so it does not depend on the
    /// order in which they came. `None` for none.
    pub fn build<'a>(endpoints: impl ExactSizeIterator<Item = &'a Endpoint>) -> Option<Self> {
        let count = endpoints.len();
        if count == 0 {
            return None;
        }
        let size = table_size(count);
        let walks = endpoints.map(|e| Walk::new(e.addr, size)).collect();
        Some(match count {
            0..=0x100 => Self::Bytes(populate(walks, size, |i| i as u8)),
            0x101..=0x1_0000 => Self::Words(populate(walks, size, |i| i as u16)),
            _ => Self::Longs(populate(walks, size, |i| i as u32)),
        })
    }

    /// The place of the endpoint for a client's hash.
    pub fn lookup(&self, hash: u64) -> usize {
        fn slot<T: Copy + Into<u32>>(slots: &[T], hash: u64) -> usize {
            // The remainder is below the length, which is never zero.
            slots.get((hash % slots.len().max(1) as u64) as usize).map_or(0, |&slot| slot.into() as usize)
        }
        match self {
            Self::Bytes(slots) => slot(slots, hash),
            Self::Words(slots) => slot(slots, hash),
            Self::Longs(slots) => slot(slots, hash),
        }
    }
}

/// The smallest size with more than 100 slots for each endpoint.
fn table_size(endpoints: usize) -> usize {
    let [.., largest] = SIZES;
    SIZES.into_iter().find(|&size| size > endpoints.saturating_mul(100)).unwrap_or(largest)
}

/// One endpoint's permutation of the slots: every `skip`-th, from `at` on. The size is prime, so it comes
/// by every slot.
struct Walk {
    at: usize,
    skip: usize,
}

impl Walk {
    fn new(addr: EndpointAddr, size: usize) -> Self {
        let below = |salt, n: usize| (hash_endpoint(addr, salt) % n as u64) as usize;
        Self { at: below(Salt::MaglevOffset, size), skip: below(Salt::MaglevSkip, size - 1) + 1 }
    }

    fn step(&mut self, size: usize) {
        self.at += self.skip;
        if self.at >= size {
            self.at -= size;
        }
    }
}

/// The paper's population: the endpoints take turns, and each takes the next slot of its permutation
/// that is still free.
fn populate<T: Copy + Default>(mut walks: Vec<Walk>, size: usize, slot: impl Fn(usize) -> T) -> Box<[T]> {
    let mut slots = vec![T::default(); size].into_boxed_slice();
    let mut taken = vec![false; size];
    let mut free = size;
    while free > 0 {
        for (i, walk) in walks.iter_mut().enumerate() {
            if free == 0 {
                break;
            }
            while taken.get(walk.at).is_some_and(|taken| *taken) {
                walk.step(size);
            }
            if let (Some(slot_at), Some(taken)) = (slots.get_mut(walk.at), taken.get_mut(walk.at)) {
                *slot_at = slot(i);
                *taken = true;
            }
            walk.step(size);
            free -= 1;
        }
    }
    slots
}

#[cfg(test)]
mod tests;
