//! The log on standard error, and problems that are told in it.

use std::collections::HashMap;
use std::io::IsTerminal as _;

use crate::clock::Millis;
use crate::config::{Config, LogFormat};
use crate::limits;
use crate::problem::{Problem, Severity};

/// Sends everything that is logged from now on to standard error.
pub fn start(config: &Config) {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(config.log_level)
        .with_target(false);
    // Fails only where a log is already set up, and then that one is used.
    let _ = match config.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Logs problems, each at most once a second.
#[derive(Default)]
pub(super) struct Reporter {
    told: HashMap<String, Millis>,
}

impl Reporter {
    /// Logs those that were not logged within the last second.
    pub(super) fn report(&mut self, problems: &[Problem], now: Millis) {
        for problem in problems {
            let text = problem.to_string();
            if self.due(&text, now) {
                match problem.severity {
                    Severity::Error => tracing::error!("{text}"),
                    Severity::Warning => tracing::warn!("{text}"),
                }
            }
        }
    }

    fn due(&mut self, text: &str, now: Millis) -> bool {
        let recent = |told: &Millis| now.since(*told) < limits::LOG_INTERVAL;
        if self.told.get(text).is_some_and(recent) {
            return false;
        }
        // Old ones go when there is something new, so nothing gathers.
        self.told.retain(|_, told| recent(told));
        self.told.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_at_most_once_a_second() {
        let mut reporter = Reporter::default();
        assert!(reporter.due("a", Millis(1000)));
        assert!(!reporter.due("a", Millis(1999)));
        assert!(reporter.due("b", Millis(1999)));
        assert!(reporter.due("a", Millis(2000)));
        assert!(!reporter.due("b", Millis(2000)));
        assert!(reporter.due("c", Millis(9000)));
        assert_eq!(reporter.told.len(), 1, "old ones are forgotten");
    }
}
