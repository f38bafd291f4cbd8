//! The accept loop of one listener: it never waits for a connection it has accepted, and never ends by
//! an error.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use rustix::fs::{Mode, OFlags};

use super::connection;
use super::listeners::Listener;
use super::run::Shard;
use crate::net::socket;
use crate::ring::{Accepted, Accepts};
use crate::types::Refusal;
use crate::{clock, limits};

/// Accepts until the listener is closed, then serves what still waits in its queue (S3).
pub(super) async fn accept(shard: Rc<Shard>, listener: Rc<Listener>, socket: OwnedFd) {
    let mut accepts = shard.ring.accept(&socket);
    while let Some(accepted) = next(&listener, &mut accepts).await {
        match accepted {
            Accepted::Connection(client) => admit(&shard, &listener, client),
            Accepted::Failed(error) => match on_error(&error) {
                // The connection is gone, or was never there; there may be others.
                OnError::Continue => shard.stats().accept_errors.add(1),
                OnError::Backoff => {
                    shard.stats().accept_errors.add(1);
                    shard.stats().accept_backoffs.add(1);
                    if shard.log_gate.may(clock::now()) {
                        tracing::warn!(shard = shard.index, %error, "cannot accept; refusing what waits");
                    }
                    shed(&shard, &listener, &socket);
                    back_off(&shard, &listener).await;
                }
            },
        }
    }
    drop(accepts);
    while let Ok(client) = socket::accept_waiting(&socket) {
        admit(&shard, &listener, client);
    }
    shard.ring.close(socket);
}

/// The next connection; `None` when the listener closes and all that came before are taken (S3).
async fn next(listener: &Listener, accepts: &mut Accepts) -> Option<Accepted> {
    std::future::poll_fn(|context| match accepts.poll_next(context) {
        Poll::Pending if listener.is_closing(context.waker()) => Poll::Ready(None),
        accepted => accepted.map(Some),
    })
    .await
}

/// Leaves the queue alone for a while, unless the listener closes: whoever waits for that lets no timer fire.
async fn back_off(shard: &Shard, listener: &Listener) {
    let mut sleep = shard.ring.sleep(limits::ACCEPT_BACKOFF);
    std::future::poll_fn(|context| {
        if listener.is_closing(context.waker()) {
            return Poll::Ready(());
        }
        Pin::new(&mut sleep).poll(context)
    })
    .await;
}

/// Refuses what waits, with the descriptor kept in reserve: clients get an answer instead of a hang.
fn shed(shard: &Shard, listener: &Listener, socket: &OwnedFd) {
    drop(shard.reserve.take());
    for _ in 0..limits::SHED_PER_BACKOFF {
        let Ok(client) = socket::accept_waiting(socket) else { break };
        shard.stats().accepted.add(1);
        let Some(frontend) = shard.frontend(&listener.key) else {
            socket::reset(client);
            continue;
        };
        frontend.port.stats.of(shard.index).accepted.add(1);
        connection::refuse(shard, &frontend, client, Refusal::LocalError);
    }
    shard.reserve.replace(reserve());
}

/// A descriptor to give up when there are no others.
pub(super) fn reserve() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// What an error of accept4(2) asks for (S2).
enum OnError {
    /// Only this connection failed.
    Continue,
    /// The machine is out of descriptors or memory, or worse: trying at once would spin.
    Backoff,
}

fn on_error(error: &io::Error) -> OnError {
    match error.raw_os_error() {
        // accept(2): errors already pending on the new socket must be treated like EAGAIN.
        Some(
            libc::ECONNABORTED
            | libc::EAGAIN
            | libc::EINTR
            | libc::ENETDOWN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::EPERM,
        ) => OnError::Continue,
        _ => OnError::Backoff,
    }
}

/// Starts serving a connection, or refuses it.
fn admit(shard: &Rc<Shard>, listener: &Listener, client: OwnedFd) {
    let stats = shard.stats();
    stats.accepted.add(1);
    // A listener that is closing may have outlived its frontend.
    let Some(frontend) = shard.frontend(&listener.key) else {
        socket::reset(client);
        return;
    };
    frontend.port.stats.of(shard.index).accepted.add(1);
    let most = shard.plane.max_connections();
    if shard.sessions() >= most {
        stats.limited.add(1);
        if shard.log_gate.may(clock::now()) {
            tracing::warn!(shard = shard.index, most, "--max-connections is reached; refusing");
        }
        connection::refuse(shard, &frontend, client, Refusal::MaxConnections);
        return;
    }
    connection::start(shard, frontend, client);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::ring::{self, RelayRing, RingCounters};
    use crate::route::snapshot::FrontendKey;
    use crate::types::Protocol;

    #[test]
    fn s3_what_the_kernel_has_accepted_is_served_before_the_listener_closes() {
        glommio::LocalExecutor::default().run(async {
            let counters = std::sync::Arc::<RingCounters>::default();
            let ring = RelayRing::new(counters.clone()).unwrap();
            let driver = glommio::spawn_local(ring::drive(ring.clone()));
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            let listener =
                Listener::new(FrontendKey { address: None, port: address.port(), protocol: Protocol::Tcp });
            let mut accepts = ring.accept(&socket);
            assert!(accepts.poll_next(&Context::from_waker(Waker::noop())).is_pending());
            let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
            // Until all completions have come; the loop has not looked at them yet.
            while counters.completions.get() < 3 {
                ring.sleep(Duration::from_millis(1)).await;
            }
            listener.close();
            let mut served = 0;
            while let Some(Accepted::Connection(_)) = next(&listener, &mut accepts).await {
                served += 1;
            }
            assert_eq!(served, 3);
            drop(accepts);
            ring.stop();
            driver.await;
        });
    }
}
