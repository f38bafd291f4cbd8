//! The one place where a test waits: for a condition, with a deadline.

use std::time::Duration;

use ringport::clock;

/// Long enough for a loaded machine; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until the answer is something, for [`PATIENCE`] at most.
pub(crate) fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// Asks until the answer is something, for `limit` at most.
pub(crate) fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = clock::now_micros();
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        let waited = Duration::from_micros(clock::now_micros() - start);
        assert!(waited < limit, "waited {waited:?} in vain: {what}");
        pause(Duration::from_millis(2));
    }
}

/// Lets time pass, where it is time that is measured.
pub(crate) fn measure_for(time: Duration) {
    pause(time);
}

/// How long `f` takes.
pub(crate) fn time<T>(f: impl FnOnce() -> T) -> (Duration, T) {
    let start = clock::now_micros();
    let result = f();
    (Duration::from_micros(clock::now_micros() - start), result)
}

#[allow(clippy::disallowed_methods, reason = "between two looks at a condition, or to measure over a time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
