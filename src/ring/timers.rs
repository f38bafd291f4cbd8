//! Times at which tasks want to be woken, driven by the relay ring's own loop.
//!
//! An ordered map rather than a wheel: a timer costs about 0.1 µs, and only connects, half-closed and
//! idle-limited sessions have one.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::clock::Millis;

/// Names a timer: when it is due, and a number to tell equal ones apart.
pub(super) type TimerId = (Millis, u64);

#[derive(Default)]
pub(super) struct Timers {
    due: BTreeMap<TimerId, Waker>,
    last: u64,
}

impl Timers {
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn insert(&mut self, at: Millis, waker: &Waker) -> TimerId {
        self.last += 1;
        self.due.insert((at, self.last), waker.clone());
        (at, self.last)
    }

    /// Another task waits for the timer now. False when it has been due already.
    pub(super) fn update(&mut self, id: TimerId, waker: &Waker) -> bool {
        self.due.get_mut(&id).is_some_and(|held| {
            held.clone_from(waker);
            true
        })
    }

    pub(super) fn remove(&mut self, id: TimerId) {
        self.due.remove(&id);
    }

    /// When the first is due.
    pub(super) fn next(&self) -> Option<Millis> {
        self.due.first_key_value().map(|(id, _)| id.0)
    }

    /// Wakes all that are due. Returns how many there were.
    pub(super) fn advance(&mut self, now: Millis) -> usize {
        let mut fired = 0;
        while let Some(first) = self.due.first_entry() {
            if first.key().0 > now {
                break;
            }
            first.remove().wake();
            fired += 1;
        }
        fired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_due_fire_and_a_removed_one_never() {
        let mut timers = Timers::default();
        let waker = Waker::noop();
        let late = timers.insert(Millis(30), waker);
        let early = timers.insert(Millis(10), waker);
        let gone = timers.insert(Millis(10), waker);
        timers.remove(gone);
        assert_eq!(timers.next(), Some(Millis(10)));
        assert_eq!(timers.advance(Millis(9)), 0);
        assert_eq!(timers.advance(Millis(10)), 1);
        assert!(!timers.update(early, waker));
        assert!(timers.update(late, waker));
        assert_eq!(timers.advance(Millis(1000)), 1);
        assert!(timers.is_empty());
    }
}
