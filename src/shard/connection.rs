//! The life of a connection, on one screen: accept → pick → connect → relay → account.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::connect::{Caller, Connected, connect};
use super::proxy::{self, Guard, Header};
use super::relay::{Ending, relay};
use super::run::Shard;
use crate::clock;
use crate::metrics::counters::PortCounters;
use crate::net::{addresses, socket};
use crate::route::endpoint::Endpoint;
use crate::route::plane::{Outcome, SessionRecord};
use crate::route::port::Admission;
use crate::route::snapshot::Frontend;
use crate::types::{ClientAddr, Refusal};

/// Serves a connection in a task of its own.
pub(super) fn start(shard: &Rc<Shard>, frontend: Arc<Frontend>, client: OwnedFd) {
    begin(shard, &frontend);
    shard.ring.touch();
    glommio::spawn_local(serve(shard.clone(), frontend, client)).detach();
}

/// Refuses a connection at once, with a reset.
pub(super) fn refuse(shard: &Shard, frontend: &Frontend, client: OwnedFd, why: Refusal) {
    begin(shard, frontend);
    let mut session = Session::new(shard, frontend);
    if shard.plane.wants_sessions()
        && let Ok(peer) = socket::peer(&client)
    {
        session.client = ClientAddr(peer);
    }
    session.log(&client, Outcome::Refused(why));
    socket::reset(client);
}

/// Counts a connection among the active ones; the end of its [`Session`] takes it out again.
fn begin(shard: &Shard, frontend: &Frontend) {
    shard.stats().active.add(1);
    frontend.port.stats.of(shard.index).active.add(1);
}

async fn serve(shard: Rc<Shard>, frontend: Arc<Frontend>, client: OwnedFd) {
    let mut session = Session::new(&shard, &frontend);
    match session.reach(&client).await {
        Err(refusal) => {
            session.log(&client, Outcome::Refused(refusal));
            socket::reset(client);
        }
        Ok((connected, guard)) => {
            session.connected(&connected);
            let ending =
                relay(&shard, &frontend.port, &connected.endpoint, &client, &connected.socket, guard).await;
            session.ended(&ending);
            session.log(&client, Outcome::Ended(ending.reason));
            ending.close(&shard.ring, client, connected.socket);
        }
    }
}

/// What an admitted client begins with.
struct Start {
    /// What the pod gets before the first byte of the client.
    preamble: Vec<u8>,
    guard: Guard,
}

/// What is known of a connection beside its sockets. Dropping it is the end of the accounting (S1).
struct Session<'a> {
    shard: &'a Shard,
    frontend: &'a Frontend,
    client: ClientAddr,
    endpoint: Option<Arc<Endpoint>>,
    accepted_micros: u64,
    connect_micros: u64,
    attempts: u32,
    bytes: (u64, u64, u64),
    /// Its place under the limits of its Service.
    admission: Option<Admission>,
}

impl<'a> Session<'a> {
    fn new(shard: &'a Shard, frontend: &'a Frontend) -> Self {
        Self {
            shard,
            frontend,
            client: ClientAddr(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            endpoint: None,
            accepted_micros: clock::now_micros(),
            connect_micros: 0,
            attempts: 0,
            bytes: (0, 0, 0),
            admission: None,
        }
    }

    /// Admits the client and connects it to a pod. The guard is for its first bytes.
    async fn reach(&mut self, client: &OwnedFd) -> Result<(Connected, Guard), Refusal> {
        let Start { preamble, guard } = self.admit(client).await?;
        let caller = Caller { client: self.client, socket: client, preamble: &preamble };
        let connected = connect(self.shard, self.frontend, &caller).await?;
        Ok((connected, guard))
    }

    /// Learns who the client is, and takes a place for it. Waiting for a header takes a place of the Service.
    async fn admit(&mut self, client: &OwnedFd) -> Result<Start, Refusal> {
        let port = &self.frontend.port;
        self.client = ClientAddr(socket::peer(client).map_err(|_| Refusal::ClientGone)?);
        let trusted = port.proxy.trusts(self.client.0.ip());
        if !trusted && !self.frontend.admits(self.client, addresses::is_own) {
            return Err(Refusal::SourceRange);
        }
        let mut admission = port.try_enter()?;
        let told = if trusted { Some(Box::pin(proxy::receive(self.shard, client)).await?) } else { None };
        if let Some(Header::Proxied { source, .. }) = told {
            self.client = ClientAddr(source);
            if !self.frontend.admits(self.client, addresses::is_own) {
                return Err(Refusal::SourceRange);
            }
        }
        admission.settle(port, self.client)?;
        self.admission = Some(admission);
        // Who may not send a header is watched.
        let guard =
            if told.is_some() || port.proxy.accept.is_empty() { Guard::default() } else { Guard::watching() };
        Ok(Start { preamble: self.preamble(told, client), guard })
    }

    /// What the pod gets before the first byte of the client.
    fn preamble(&self, told: Option<Header>, client: &OwnedFd) -> Vec<u8> {
        let Some(version) = self.frontend.port.proxy.send else { return Vec::new() };
        let header = told.or_else(|| {
            let destination = socket::local(client).ok()?;
            Some(Header::Proxied { source: self.client.0, destination })
        });
        proxy::write(header.unwrap_or(Header::Local), version)
    }

    fn connected(&mut self, connected: &Connected) {
        self.connect_micros = clock::now_micros().saturating_sub(self.accepted_micros);
        self.attempts = connected.attempts;
        let stats = self.stats();
        stats.times.connected(self.connect_micros);
        if connected.attempts > 1 {
            stats.retried.add(1);
        }
        let endpoint = connected.endpoint.stats.of(self.shard.index);
        endpoint.connected.add(1);
        endpoint.active.add(1);
        self.endpoint = Some(connected.endpoint.clone());
    }

    fn ended(&mut self, ending: &Ending) {
        let stats = self.stats();
        stats.ended.of(ending.reason).add(1);
        stats.times.ended(clock::now_micros().saturating_sub(self.accepted_micros));
        stats.bytes_lost.up.add(ending.lost_up);
        stats.bytes_lost.down.add(ending.lost_down);
        self.bytes = (ending.bytes_up, ending.bytes_down, ending.lost_up + ending.lost_down);
    }

    /// Counts a refusal, and reports the session to whoever listens.
    fn log(&self, client: &OwnedFd, outcome: Outcome) {
        if let Outcome::Refused(refusal) = outcome {
            self.stats().refused.of(refusal).add(1);
        }
        if !self.shard.plane.wants_sessions() {
            return;
        }
        let (bytes_up, bytes_down, bytes_lost) = self.bytes;
        let record = SessionRecord {
            service: self.frontend.port.name.clone(),
            client: self.client,
            frontend: socket::local(client).unwrap_or_else(|_| self.frontend.key.socket_addr()),
            endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.addr),
            pod: self.endpoint.as_ref().and_then(|endpoint| endpoint.pod.clone()),
            outcome,
            attempts: self.attempts,
            connect_micros: self.connect_micros,
            session_micros: clock::now_micros().saturating_sub(self.accepted_micros),
            bytes_up,
            bytes_down,
            bytes_lost,
            datagrams: None,
            shard: self.shard.index,
        };
        if !self.shard.plane.session(record) {
            self.shard.stats().access_log_dropped.add(1);
        }
    }

    fn stats(&self) -> &'a PortCounters {
        self.frontend.port.stats.of(self.shard.index)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.stats().active.sub(1);
        self.shard.stats().active.sub(1);
        if let Some(endpoint) = &self.endpoint {
            endpoint.stats.of(self.shard.index).active.sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        fn size<F>(_: fn(Rc<Shard>, Arc<Frontend>, OwnedFd) -> F) -> usize {
            size_of::<F>()
        }
        // Most of what an idle connection costs this process; box what is rare rather than raise this.
        assert!(size(serve) <= 1200, "{} bytes", size(serve));
    }
}
