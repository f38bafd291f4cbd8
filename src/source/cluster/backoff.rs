//! How long to wait after a failure.

use std::time::Duration;

/// Pauses that double, up to a longest, each made longer or shorter at random so that the nodes of a
/// cluster do not come back in step.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The pause before the next attempt. `random` is from 0 to 1.
    pub(super) fn pause(&mut self, random: f64) -> Duration {
        let base = self.next;
        self.next = self.next.saturating_mul(2).min(self.max);
        base.mul_f64(0.5 + random.clamp(0.0, 1.0))
    }

    /// Something worked.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(5));
        let mut pauses = || (0..5).map(|_| backoff.pause(0.5).as_millis()).collect::<Vec<_>>();
        assert_eq!(pauses(), [800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.pause(0.5).as_millis(), 800);
    }

    #[test]
    fn chance_spreads_them_by_half() {
        for (random, wanted) in [(0.0, 400), (1.0, 1200), (7.0, 1200)] {
            let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(5));
            assert_eq!(backoff.pause(random).as_millis(), wanted);
        }
    }
}
