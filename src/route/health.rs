//! Passive ejection: an endpoint that keeps failing to accept connections rests for a growing time.
//!
//! - R7 after [`limits::EJECT_AFTER_FAILURES`] failures in a row an endpoint is ejected: for
//!   [`limits::EJECT_FIRST`], doubled with each ejection that follows, up to [`limits::EJECT_MAX`].
//! - R8 when that time is over, one connection probes it: success makes it healthy, failure ejects it
//!   again, and until either happens others keep away from it.
//! - R9 a success forgets everything.
//!
//! That no more than half of a list is ever treated as ejected is kept in `pick`, which knows the list.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Millis;
use crate::limits;

/// The health of one endpoint, as its connections show it. Shared by all shards.
#[derive(Debug, Default)]
pub struct Health {
    /// Failures in a row.
    failures: AtomicU32,
    /// Ejections in a row.
    ejections: AtomicU32,
    /// Ejected until this millisecond; zero when it is not ejected.
    until: AtomicU64,
    /// One connection is finding out whether it is back.
    probing: AtomicBool,
}

/// What [`Health`] says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Use it.
    Healthy,
    /// Keep away from it while there is another.
    Ejected,
    /// Its time is over: see [`Health::try_probe`].
    Due,
}

impl Health {
    /// Whether it may be used now.
    pub fn standing(&self, now: Millis) -> Standing {
        match self.until.load(Relaxed) {
            0 => Standing::Healthy,
            until if now.0 < until => Standing::Ejected,
            _ => Standing::Due,
        }
    }

    /// Takes the right to probe an endpoint that is due, until the probe ends or
    /// [`limits::EJECT_FIRST`] has passed. True for one caller.
    pub fn try_probe(&self, now: Millis) -> bool {
        let until = self.until.load(Relaxed);
        if until == 0 || now.0 < until {
            return false;
        }
        let won =
            self.until.compare_exchange(until, now.after(limits::EJECT_FIRST).0, Relaxed, Relaxed).is_ok();
        if won {
            self.probing.store(true, Relaxed);
        }
        won
    }

    /// A connection to it was established.
    pub fn on_connected(&self) {
        // Reads first: writing a shared line on every connection would cost all shards.
        if self.failures.load(Relaxed) != 0 || self.until.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.probing.store(false, Relaxed);
            self.until.store(0, Relaxed);
        }
    }

    /// A connection to it failed. True when that ejected it, which needs `may_eject`.
    pub fn on_failed(&self, now: Millis, may_eject: impl FnOnce() -> bool) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if self.until.load(Relaxed) != 0 {
            // Already ejected: only the probe's failure says something new.
            let probe_failed = self.probing.swap(false, Relaxed);
            if probe_failed {
                self.eject(now);
            }
            return probe_failed;
        }
        let eject = failures >= limits::EJECT_AFTER_FAILURES && may_eject();
        if eject {
            self.eject(now);
        }
        eject
    }

    /// Whether the last failure was the third in a row, or the sixth, and so on: the endpoint may be gone.
    pub fn keeps_failing(&self) -> bool {
        let failures = self.failures.load(Relaxed);
        failures > 0 && failures.is_multiple_of(limits::EJECT_AFTER_FAILURES)
    }

    fn eject(&self, now: Millis) {
        let before = self.ejections.fetch_add(1, Relaxed);
        self.until.store(now.after(ejection_time(before)).0, Relaxed);
    }
}

/// How long an ejection lasts that follows this many others.
fn ejection_time(before: u32) -> Duration {
    limits::EJECT_FIRST
        .saturating_mul(1u32.checked_shl(before.min(16)).unwrap_or(u32::MAX))
        .min(limits::EJECT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail_until_ejected(health: &Health, now: Millis) {
        for i in 1..=limits::EJECT_AFTER_FAILURES {
            assert_eq!(health.standing(now), Standing::Healthy);
            assert_eq!(health.on_failed(now, || true), i == limits::EJECT_AFTER_FAILURES);
        }
        assert_eq!(health.standing(now), Standing::Ejected);
    }

    /// When the present ejection is over, as seen from `now`.
    fn end_of_ejection(health: &Health, now: Millis) -> Duration {
        let until = Millis(health.until.load(Relaxed));
        assert_eq!(health.standing(Millis(until.0 - 1)), Standing::Ejected);
        assert_eq!(health.standing(until), Standing::Due);
        until.since(now)
    }

    #[test]
    fn r7_failures_in_a_row_eject_for_a_growing_time() {
        let health = Health::default();
        let mut now = Millis(1_000);
        fail_until_ejected(&health, now);
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            let time = end_of_ejection(&health, now);
            assert_eq!(time, Duration::from_secs(seconds));
            now = now.after(time);
            assert!(health.try_probe(now));
            assert!(health.on_failed(now, || unreachable!("a probe's failure needs no permission")));
        }
    }

    #[test]
    fn r7_failures_with_a_success_between_do_not() {
        let health = Health::default();
        for _ in 0..10 {
            for _ in 1..limits::EJECT_AFTER_FAILURES {
                assert!(!health.on_failed(Millis(1), || true));
            }
            health.on_connected();
        }
        assert_eq!(health.standing(Millis(1)), Standing::Healthy);
    }

    #[test]
    fn r7_without_permission_it_stays() {
        let health = Health::default();
        assert!((0..10).all(|_| !health.on_failed(Millis(1), || false)));
        assert_eq!(health.standing(Millis(1)), Standing::Healthy);
        assert!(health.on_failed(Millis(1), || true), "and goes at the next failure with it");
    }

    #[test]
    fn an_endpoint_that_may_not_be_ejected_is_doubted_at_every_third_failure() {
        let health = Health::default();
        let doubted: Vec<u32> = (1..=7)
            .filter(|_| {
                health.on_failed(Millis(1), || false);
                health.keeps_failing()
            })
            .collect();
        assert_eq!(doubted, [3, 6]);
        health.on_connected();
        assert!(!health.keeps_failing());
    }

    #[test]
    fn r8_one_connection_probes() {
        let health = Health::default();
        fail_until_ejected(&health, Millis(0));
        let due = Millis(0).after(limits::EJECT_FIRST);
        assert!(!health.try_probe(Millis(due.0 - 1)), "not before its time");
        assert!(health.try_probe(due));
        assert!(!health.try_probe(due), "only one");
        assert_eq!(health.standing(due), Standing::Ejected, "the others keep away");
        // The prober never came back with an answer: another may try.
        assert!(health.try_probe(due.after(limits::EJECT_FIRST)));
    }

    #[test]
    fn r8_failures_of_those_who_had_no_other_choice_do_not_lengthen_it() {
        let health = Health::default();
        fail_until_ejected(&health, Millis(0));
        assert!((0..10).all(|_| !health.on_failed(Millis(5_000), || true)));
        assert_eq!(end_of_ejection(&health, Millis(0)), limits::EJECT_FIRST);
    }

    #[test]
    fn r8_a_probe_fails_once() {
        let health = Health::default();
        fail_until_ejected(&health, Millis(0));
        let due = Millis(0).after(limits::EJECT_FIRST);
        assert!(health.try_probe(due));
        assert!(health.on_failed(due, || true));
        assert!(!health.on_failed(due, || true), "that was somebody's last resort");
        assert_eq!(end_of_ejection(&health, due), 2 * limits::EJECT_FIRST);
    }

    #[test]
    fn r9_a_success_forgets_everything() {
        let health = Health::default();
        fail_until_ejected(&health, Millis(0));
        let due = Millis(0).after(limits::EJECT_FIRST);
        assert!(health.try_probe(due));
        assert!(health.on_failed(due, || true));
        health.on_connected();
        fail_until_ejected(&health, due);
        assert_eq!(end_of_ejection(&health, due), limits::EJECT_FIRST);
    }
}
