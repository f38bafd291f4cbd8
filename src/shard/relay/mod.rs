//! The relay of one session: two pumps, and the rules for how they end.
//!
//! | | what happens | what is done |
//! |---|---|---|
//! | H1 | FIN from one side | its bytes are delivered, then the other side's write half is shut |
//! | H2 | the other direction | goes on, under the half-closed timeout instead of the idle one |
//! | H3 | FIN from both sides | both are closed: complete |
//! | H4 | a side resets or times out | what it had sent is delivered, then the other side is reset |
//! | H5 | the direction towards a side that broke | stops at once; what was accepted and not delivered is counted as lost |
//! | H6 | nothing moves for the timeout | both sides are reset |
//! | H7 | the process stops | both sides are reset |
//! | H8 | a side resets while the other takes no bytes | seen although nobody receives from it; then as H4 |
//!
//! H4 has [`limits::FLUSH_TIME`] in all. A reset behind a FIN leaves that direction alone: its stream is whole.
//! The idle clock covers the session, not a direction.

mod backlog;
mod idle;
mod meter;
mod pump;
mod wire;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::proxy::Guard;
use super::run::Shard;
use crate::net::socket;
use crate::ring::Ring;
use crate::route::endpoint::Endpoint;
use crate::route::port::PortRoute;
use crate::types::{Direction, EndReason};
use crate::{clock, limits};
pub(super) use backlog::Backlog;
use idle::Idle;
use pump::{Fault, Place, pump};
use wire::{Flow, Wire};

/// How a relay ended, and what it moved.
pub(super) struct Ending {
    pub(super) reason: EndReason,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) lost_up: u64,
    pub(super) lost_down: u64,
    resets: Resets,
}

/// Which sides are closed with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resets {
    Neither,
    /// The one that did not break.
    Only(Side),
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Endpoint,
}

/// Relays until both directions have ended, by the rules of the module.
pub(super) async fn relay(
    shard: &Shard,
    port: &PortRoute,
    pod: &Endpoint,
    client: &OwnedFd,
    endpoint: &OwnedFd,
    guard: Guard,
) -> Ending {
    let state = Cell::new(State::Open);
    let (port_stats, pod_stats) = (port.stats.of(shard.index), pod.stats.of(shard.index));
    let up = Flow::new(Direction::Up, port_stats, pod_stats, &state, guard);
    let down = Flow::new(Direction::Down, port_stats, pod_stats, &state, Guard::default());
    let (reason, resets) = {
        let mut upwards = Wire::new(shard, client, endpoint, &up);
        let mut downwards = Wire::new(shard, endpoint, client, &down);
        // Each owns its wire, so that to drop one is to let go of all that it receives into.
        let mut pumps = Pumps {
            shard,
            sockets: [client, endpoint],
            state: &state,
            flows: [&up, &down],
            up: pin!(Some(async move { pump(&mut upwards).await })),
            down: pin!(Some(async move { pump(&mut downwards).await })),
            idle: Idle::new(shard, port.idle_timeout),
        };
        pumps.run().await
    };
    Ending {
        reason,
        bytes_up: up.delivered(),
        bytes_down: down.delivered(),
        lost_up: up.lost(),
        lost_down: down.lost(),
        resets,
    }
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Both directions run.
    Open,
    /// One has ended with FIN.
    HalfClosed,
    /// A side broke: no FIN may follow, it would make a truncated stream look whole.
    Broken,
}

/// The two pumps; one that has ended is gone.
struct Pumps<'a, U, D> {
    shard: &'a Shard,
    /// The client's and the endpoint's.
    sockets: [&'a OwnedFd; 2],
    state: &'a Cell<State>,
    /// Up and down.
    flows: [&'a Flow<'a>; 2],
    up: Pin<&'a mut Option<U>>,
    down: Pin<&'a mut Option<D>>,
    idle: Idle<'a>,
}

/// What ends a wait for the pumps.
enum Event {
    Ended(Direction, Result<(), Fault>),
    /// The source has broken, and what it had sent is still being delivered (H8).
    SourceBroke(Direction, io::Error),
    Idle,
    Stopped,
}

// === impl Pumps ===

impl<U, D> Pumps<'_, U, D>
where
    U: Future<Output = Result<(), Fault>>,
    D: Future<Output = Result<(), Fault>>,
{
    async fn run(&mut self) -> (EndReason, Resets) {
        loop {
            let (direction, fault) = match self.next().await {
                Event::Ended(_, Ok(())) if self.up.is_none() && self.down.is_none() => {
                    return (EndReason::Complete, Resets::Neither); // H3
                }
                Event::Ended(_, Ok(())) => continue, // H2
                Event::Ended(direction, Err(fault)) => (direction, fault),
                Event::SourceBroke(direction, error) => (direction, Fault { place: Place::Source, error }),
                Event::Idle if self.state.get() == State::HalfClosed => {
                    return (EndReason::HalfClosed, Resets::Both);
                }
                Event::Idle => return (EndReason::Idle, Resets::Both), // H6
                Event::Stopped => return (EndReason::Drained, Resets::Both), // H7
            };
            self.state.set(State::Broken);
            // Boxed, as all rare waits: an idle session should not carry room for them.
            return Box::pin(self.broken(direction, fault)).await;
        }
    }

    /// H4, H5: a side broke. Stops the direction towards it, delivers what it had sent, and waits until that
    /// has arrived: a reset would overtake and destroy what is still on its way.
    async fn broken(&mut self, direction: Direction, fault: Fault) -> (EndReason, Resets) {
        let side = match (direction, fault.place) {
            (Direction::Up, Place::Source) | (Direction::Down, Place::Sink) => Side::Client,
            (Direction::Up, Place::Sink) | (Direction::Down, Place::Source) => Side::Endpoint,
        };
        let other = match side {
            Side::Client => {
                self.down.set(None);
                Side::Endpoint
            }
            Side::Endpoint => {
                self.up.set(None);
                Side::Client
            }
        };
        let ring = self.shard.ring.clone();
        let deadline = clock::now().after(limits::FLUSH_TIME);
        if self.up.is_some() || self.down.is_some() {
            // Whether this ends with an end of stream or an error, and whose, changes nothing any more.
            let _ = ring.until(deadline, self.next()).await;
        }
        let reason = reason_of(side, &fault.error);
        let resets = resets_after(reason, other);
        if resets == Resets::Only(other) {
            let [client, endpoint] = self.sockets;
            let socket = if other == Side::Client { client } else { endpoint };
            ring.until(deadline, acknowledged(self.shard, socket)).await;
        }
        (reason, resets)
    }

    async fn next(&mut self) -> Event {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if self.shard.stopping.get() {
            return Poll::Ready(Event::Stopped);
        }
        if let Some(up) = self.up.as_mut().as_pin_mut()
            && let Poll::Ready(result) = up.poll(context)
        {
            self.up.set(None);
            return Poll::Ready(Event::Ended(Direction::Up, result));
        }
        if let Some(down) = self.down.as_mut().as_pin_mut()
            && let Poll::Ready(result) = down.poll(context)
        {
            self.down.set(None);
            return Poll::Ready(Event::Ended(Direction::Down, result));
        }
        for (flow, direction) in self.flows.into_iter().zip([Direction::Up, Direction::Down]) {
            if let Some(error) = flow.source_fault().filter(|_| self.state.get() != State::Broken) {
                return Poll::Ready(Event::SourceBroke(direction, error));
            }
        }
        self.idle.poll(context, self.state.get(), self.flows).map(|()| Event::Idle)
    }
}

/// Which sides are reset after a side has broken, when `other` is the other one. One that has failed only here
/// is alive, and would take a FIN for the end of a whole stream.
fn resets_after(reason: EndReason, other: Side) -> Resets {
    if matches!(reason, EndReason::LocalError | EndReason::ProxyHeader) {
        Resets::Both
    } else {
        Resets::Only(other)
    }
}

fn reason_of(side: Side, error: &io::Error) -> EndReason {
    if Guard::is_refusal(error) {
        return EndReason::ProxyHeader;
    }
    let local = matches!(
        error.raw_os_error(),
        Some(libc::ENOMEM | libc::ENOBUFS | libc::EMFILE | libc::ENFILE | libc::EPROTO)
    );
    let timeout = matches!(
        error.raw_os_error(),
        Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN)
    );
    match (side, local, timeout) {
        (_, true, _) => EndReason::LocalError,
        (Side::Client, _, true) => EndReason::ClientTimeout,
        (Side::Endpoint, _, true) => EndReason::EndpointTimeout,
        (Side::Client, ..) => EndReason::ClientReset,
        (Side::Endpoint, ..) => EndReason::EndpointReset,
    }
}

/// Waits until the peer has acknowledged everything sent to it, or all sessions are cut.
async fn acknowledged(shard: &Shard, socket: &OwnedFd) {
    while socket::unacknowledged(socket) > 0 && !shard.stopping.get() {
        shard.ring.sleep(limits::FLUSH_LOOK).await;
    }
}

// === impl Ending ===

impl Ending {
    /// Closes both sockets as the ending wants it.
    pub(super) fn close(&self, ring: &Ring, client: OwnedFd, endpoint: OwnedFd) {
        for (side, socket) in [(Side::Client, client), (Side::Endpoint, endpoint)] {
            if self.resets == Resets::Both || self.resets == Resets::Only(side) {
                socket::linger_none(&socket);
            }
            ring.close(socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h4_a_side_that_failed_only_here_gets_no_fin() {
        let reason = |code| reason_of(Side::Client, &io::Error::from_raw_os_error(code));
        assert_eq!(resets_after(reason(libc::ENOMEM), Side::Endpoint), Resets::Both);
        assert_eq!(resets_after(reason(libc::ECONNRESET), Side::Endpoint), Resets::Only(Side::Endpoint));
        assert_eq!(resets_after(reason(libc::ETIMEDOUT), Side::Endpoint), Resets::Only(Side::Endpoint));
    }
}
