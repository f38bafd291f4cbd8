//! Time as an input: the one place that reads a clock.

use std::cell::Cell;
use std::time::Duration;

/// A moment on the monotonic clock, in milliseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The time from `earlier` to `self`, zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Now, from CLOCK_MONOTONIC_COARSE: 4 ms steps, a few nanoseconds a read.
pub fn now() -> Millis {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Millis(t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000)
}

/// Microseconds on CLOCK_MONOTONIC, for measuring short times.
pub fn now_micros() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

/// Lets something through once a second at most: for log lines that a peer could cause at will.
#[derive(Debug, Default)]
pub struct OncePerSecond(Cell<Option<Millis>>);

impl OncePerSecond {
    /// Whether it may happen now.
    pub fn may(&self, now: Millis) -> bool {
        let may = self.0.get().is_none_or(|last| now.since(last) >= Duration::from_secs(1));
        if may {
            self.0.set(Some(now));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_per_second_is_the_first_and_then_one_each_second() {
        let gate = OncePerSecond::default();
        let passed: Vec<u64> = (0..4000).step_by(300).filter(|&at| gate.may(Millis(at))).collect();
        assert_eq!(passed, [0, 1200, 2400, 3600]);
    }
}
