//! `--transparent`: what it needs from this machine, or why it cannot be had.

use crate::config::Config;
use crate::net::replies::{self, Families, Replies};

/// Whether pods see the addresses of clients. Dropping it takes back what was set up.
pub(super) struct ClientAddress {
    replies: Option<Replies>,
    why_not: Option<String>,
}

impl ClientAddress {
    /// Sets it up where it is asked for. What a former process has left is removed in any case.
    pub(super) fn set_up(config: &Config) -> Self {
        if !config.transparent {
            if let Err(error) = replies::remove_leftovers() {
                tracing::warn!("{error}");
            }
            return Self { replies: None, why_not: Some("ringport runs without --transparent".to_owned()) };
        }
        match Replies::set_up(config.transparent_mark, config.transparent_table) {
            Ok(replies) => {
                if !replies.families().v6 {
                    tracing::warn!("--transparent: for IPv4 only, as this node has no IPv6");
                }
                Self { replies: Some(replies), why_not: None }
            }
            Err(error) => {
                Self { replies: None, why_not: Some(format!("--transparent is not possible: {error}")) }
            }
        }
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
