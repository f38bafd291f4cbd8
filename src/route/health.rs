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
