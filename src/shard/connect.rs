//! Connecting to a pod: one candidate after the other, within one budget of time.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use rustix::net::SendFlags;

use super::run::Shard;
use super::source;
use crate::clock::{self, Millis};
use crate::limits;
use crate::net::socket;
use crate::route::endpoint::Endpoint;
use crate::route::snapshot::Frontend;
use crate::types::{ClientAddr, ConnectFailure, Refusal};

/// Whom a pod is connected for.
pub(super) struct Caller<'a> {
    pub(super) client: ClientAddr,
    /// Its accepted connection.
    pub(super) socket: &'a OwnedFd,
    /// What the pod gets before the first byte of the client.
    pub(super) preamble: &'a [u8],
}

/// An established connection to a pod.
pub(super) struct Connected {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) socket: OwnedFd,
    /// Candidates tried, this one included.
    pub(super) attempts: u32,
}

/// Connects a client to the first candidate that answers, and sends that its preamble, which is ours. Retrying is
/// safe: no byte of the client has been sent (S5).
pub(super) async fn connect(
    shard: &Shard,
    frontend: &Frontend,
    caller: &Caller<'_>,
) -> Result<Connected, Refusal> {
    let start = clock::now();
    let deadline = start.after(shard.options.connect_timeout);
    let random = shard.random.borrow_mut().u64(..);
    let is_target = |ip| socket::local(caller.socket).is_ok_and(|local| local.ip() == ip);
    let targets = frontend.targets_for(caller.client, |ip| is_target(ip) || source::is_own(shard, ip));
    let mut candidates = targets.candidates(caller.client, start, random);
    let mut refusal = Refusal::NoEndpoints;
    let mut attempts = 0;
    while let Some(endpoint) = candidates.next_endpoint() {
        attempts += 1;
        let until = share_of_budget(clock::now(), deadline, candidates.has_next());
        let attempt = Attempt { shard, frontend, endpoint: &endpoint, preamble: caller.preamble };
        let result = match source::of(shard, frontend, targets, caller.client, endpoint.addr) {
            // Boxed: few Services ask for it.
            Some(client) => Box::pin(attempt.as_client(client, until)).await,
            None => attempt.run(attempt.socket(None), until).await,
        };
        match result {
            Ok(socket) => {
                candidates.connected(&endpoint, clock::now());
                return Ok(Connected { endpoint, socket, attempts });
            }
            // The endpoint is not to blame.
            Err(_) if shard.stopping.get() => return Err(Refusal::Draining),
            Err(failure) => {
                endpoint.stats.of(shard.index).failed.of(failure).add(1);
                if matches!(failure, ConnectFailure::LocalError | ConnectFailure::NoLocalPort) {
                    refusal = Refusal::LocalError;
                } else {
                    refusal = Refusal::ConnectFailed;
                    if candidates.failed(&endpoint, clock::now()) {
                        endpoint.stats.of(shard.index).ejected.add(1);
                        tracing::info!(endpoint = %endpoint.addr, port = %frontend.port.name, "ejected for a while");
                    }
                    if endpoint.keeps_failing() {
                        shard.plane.doubt(&frontend.port.name.service);
                    }
                }
                tracing::debug!(endpoint = %endpoint.addr, failure = ?failure, "connect failed");
            }
        }
        if clock::now() >= deadline {
            break;
        }
    }
    Err(refusal)
}

/// A silent candidate gets a third of the time that is left, so that others still have a chance; the
/// last one gets all of it.
fn share_of_budget(now: Millis, deadline: Millis, others: bool) -> Millis {
    let left = deadline.since(now);
    now.after(if others { left / 3 } else { left }.max(limits::CONNECT_ATTEMPT_LEAST))
}

/// One attempt to connect to one pod.
struct Attempt<'a> {
    shard: &'a Shard,
    frontend: &'a Frontend,
    endpoint: &'a Endpoint,
    preamble: &'a [u8],
}

impl Attempt<'_> {
    /// From the address of the client; from this node's where the pod's answers to the client do not come back, which
    /// only time can tell: half of it.
    async fn as_client(&self, client: SocketAddr, until: Millis) -> Result<OwnedFd, ConnectFailure> {
        let now = clock::now();
        let half = now.after((until.since(now) / 2).max(limits::CONNECT_ATTEMPT_LEAST));
        let mut result = self.run(self.socket(Some(client)), half).await;
        if matches!(result, Err(ConnectFailure::NoLocalPort)) {
            // The client's port is busy towards this pod; another one of its address is not.
            result = self.run(self.socket(Some(SocketAddr::new(client.ip(), 0))), half).await;
        }
        let stats = self.frontend.port.stats.of(self.shard.index);
        if !matches!(result, Err(ConnectFailure::Timeout)) || self.shard.stopping.get() {
            stats.client_kept.add(1);
            return result;
        }
        stats.client_replaced.add(1);
        let result = self.run(self.socket(None), until).await;
        if result.is_ok() && self.shard.log_gate.may(clock::now()) {
            let (endpoint, port) = (self.endpoint.addr, &self.frontend.port.name);
            tracing::warn!(%endpoint, %port, %client, "the pod answers this node, but not the client's address: its packets \
                           may take a way around nftables; it now sees this node's address");
        }
        result
    }

    fn socket(&self, source: Option<SocketAddr>) -> io::Result<OwnedFd> {
        socket::towards(self.endpoint.addr.0, source, &self.shard.options.tcp)
    }

    async fn run(&self, socket: io::Result<OwnedFd>, until: Millis) -> Result<OwnedFd, ConnectFailure> {
        let socket = socket.map_err(|error| failure_of(&error))?;
        let shard = self.shard;
        let connecting = shard.ring.until(until, shard.ring.connect(&socket, self.endpoint.addr.0));
        let result = match unless_stopping(shard, connecting).await {
            // An ICMP error in answer to the first packet completes the operation too, as a success.
            Some(Ok(_)) if socket::is_connecting(&socket) => Err(ConnectFailure::Unreachable),
            Some(Ok(_)) => match send_all(&socket, self.preamble) {
                Ok(()) => return Ok(socket),
                Err(error) => Err(failure_of(&error)),
            },
            Some(Err(error)) => Err(failure_of(&error)),
            None => Err(ConnectFailure::Timeout),
        };
        shard.ring.close(socket);
        result
    }
}

/// Sends a few bytes on a new connection, whose send buffer has room for them.
fn send_all(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)? {
        n if n == bytes.len() => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
    }
}

/// What `wait` brings, or `None` once all sessions are cut.
pub(super) async fn unless_stopping<T>(shard: &Shard, wait: impl Future<Output = Option<T>>) -> Option<T> {
    let mut wait = pin!(wait);
    std::future::poll_fn(
        |context| {
            if shard.stopping.get() { Poll::Ready(None) } else { wait.as_mut().poll(context) }
        },
    )
    .await
}

fn failure_of(error: &io::Error) -> ConnectFailure {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::EPIPE) => ConnectFailure::Refused,
        Some(libc::ETIMEDOUT) => ConnectFailure::Timeout,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => {
            ConnectFailure::Unreachable
        }
        Some(libc::EADDRNOTAVAIL) => ConnectFailure::NoLocalPort,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => ConnectFailure::LocalError,
        _ => ConnectFailure::Other,
    }
}
