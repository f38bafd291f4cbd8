//! `--transparent`: what it needs from this machine, or why it cannot be had.

use tokio::time::Instant;

use crate::config::Config;
use crate::limits;
use crate::net::replies::{self, Families, Replies};

/// Whether pods see the addresses of clients. Dropping it takes back what was set up.
pub(super) struct ClientAddress {
    replies: Option<Replies>,
    why_not: Option<String>,
    /// Why it could not be repaired the last time.
    broken: Option<String>,
    looked_at: Instant,
}

impl ClientAddress {
    /// Sets it up where it is asked for. What a former process has left is removed in any case.
    pub(super) fn set_up(config: &Config) -> Self {
        if !config.transparent {
            if let Err(error) = replies::remove_leftovers() {
                tracing::warn!("{error}");
            }
            return Self::of(None, Some("ringport runs without --transparent".to_owned()));
        }
        match Replies::set_up(config.transparent_mark, config.transparent_table) {
            Ok(replies) => {
                if !replies.families().v6 {
                    tracing::warn!("--transparent: for IPv4 only, as this node has no IPv6");
                }
                Self::of(Some(replies), None)
            }
            Err(error) => Self::of(None, Some(format!("--transparent is not possible: {error}"))),
        }
    }

    fn of(replies: Option<Replies>, why_not: Option<String>) -> Self {
        Self { replies, why_not, broken: None, looked_at: Instant::now() }
    }

    /// Makes anew what somebody has removed of it. To be called at any rate: a look takes some milliseconds, so it is not
    /// done more often than every [`limits::NODE_LOOK`].
    pub(super) fn repair(&mut self) {
        let Some(replies) = &self.replies else { return };
        if self.looked_at.elapsed() < limits::NODE_LOOK {
            return;
        }
        self.looked_at = Instant::now();
        let broken = match replies.repair() {
            Ok(repaired) if repaired.is_empty() => None,
            Ok(repaired) => {
                let what = repaired.join(", ");
                tracing::warn!("--transparent: made anew what somebody had removed: {what}");
                None
            }
            Err(why) => Some(why),
        };
        if let Some(why) = broken.as_ref().filter(|_| broken != self.broken) {
            tracing::error!(
                "--transparent: answers of pods do not come back, and that cannot be repaired: {why}"
            );
        }
        self.broken = broken;
    }

    /// Why pods see the addresses of this node, for each Service that it matters to.
    pub(super) fn why_not(&self) -> Option<String> {
        self.why_not.clone()
    }

    /// For which addresses of clients it works.
    pub(super) fn families(&self) -> Families {
        self.replies.as_ref().map(Replies::families).unwrap_or_default()
    }
}
