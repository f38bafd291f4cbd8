//! The idle clock of a session.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::State;
use super::wire::Flow;
use crate::clock::{self, Millis};
use crate::limits;
use crate::ring::{Ring, Sleep};
use crate::shard::run::Shard;

/// Ready when nothing has moved for the timeout: the idle timeout, or the half-closed one.
///
/// It looks eight times per timeout whether bytes have moved, so that moving bytes costs nothing; a
/// session ends between one timeout and an eighth more after its last byte.
pub(super) struct Idle<'a> {
    ring: &'a Ring,
    open: Duration,
    half_closed: Duration,
    moved: u64,
    quiet_since: Millis,
    timeout: Duration,
    next_look: Option<Sleep>,
}

impl<'a> Idle<'a> {
    pub(super) fn new(shard: &'a Shard, timeout: Option<Duration>) -> Self {
        Self {
            ring: &shard.ring,
            open: timeout.unwrap_or(shard.options.idle_timeout),
            half_closed: shard.options.half_closed_timeout,
            moved: 0,
            quiet_since: Millis::default(),
            timeout: Duration::ZERO,
            next_look: None,
        }
    }

    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        state: State,
        flows: [&Flow<'_>; 2],
    ) -> Poll<()> {
        let timeout = if state == State::HalfClosed { self.half_closed } else { self.open };
        if timeout != self.timeout {
            self.timeout = timeout;
            self.quiet_since = clock::now();
            self.next_look = None;
        }
        if timeout.is_zero() {
            return Poll::Pending;
        }
        loop {
            let look = self
                .next_look
                .get_or_insert_with(|| self.ring.sleep((timeout / 8).max(limits::IDLE_LOOK_LEAST)));
            if Pin::new(look).poll(context).is_pending() {
                return Poll::Pending;
            }
            self.next_look = None;
            let now = clock::now();
            let moved = flows.iter().map(|flow| flow.delivered()).sum();
            if moved != self.moved {
                self.moved = moved;
                self.quiet_since = now;
            } else if now.since(self.quiet_since) >= timeout {
                return Poll::Ready(());
            }
        }
    }
}
