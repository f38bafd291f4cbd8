//! The addresses that the node has now: node ports listen on some of them (`--nodeport-addresses`), and those that
//! it has need no route.

use std::io;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::Instant;

use crate::config::{Config, NodePortAddresses};
use crate::limits;
use crate::net::addresses::{self, Listen};
use crate::net::changes;
use crate::route::compile;

/// Follows the addresses of the node.
pub(super) struct Addresses<'a> {
    wanted: &'a NodePortAddresses,
    changes: Option<UnixDatagram>,
    /// How often to look though nothing was heard: where nothing can be, or something on the node is ours.
    every: Option<Duration>,
    look_at: Option<Instant>,
    /// Something has changed and was not yet told.
    changed: bool,
}

/// Which addresses that is now.
///
/// # Errors
/// As getifaddrs(3).
fn node_port_addresses(wanted: &NodePortAddresses) -> io::Result<compile::NodePortAddresses> {
    let listen = match wanted {
        NodePortAddresses::All => Listen::Everywhere,
        NodePortAddresses::Primary => Listen::On(addresses::primary()),
        NodePortAddresses::Cidrs(cidrs) => addresses::select(cidrs, &addresses::all()?),
    };
    Ok(match listen {
        Listen::Everywhere => compile::NodePortAddresses::All,
        Listen::On(addresses) => compile::NodePortAddresses::Only(addresses),
    })
}

/// The same, none where they cannot be read; and says so.
pub(super) fn at_start(wanted: &NodePortAddresses) -> compile::NodePortAddresses {
    let found = node_port_addresses(wanted).unwrap_or_else(|error| {
        tracing::error!(%error, "the addresses of this node cannot be read");
        compile::NodePortAddresses::Only(Vec::new())
    });
    warn_if_none(&found);
    found
}

fn warn_if_none(found: &compile::NodePortAddresses) {
    if matches!(found, compile::NodePortAddresses::Only(addresses) if addresses.is_empty()) {
        tracing::warn!("no address of this node matches --nodeport-addresses: no node port is served");
    }
}

impl<'a> Addresses<'a> {
    /// Follows them.
    pub(super) fn follow(config: &'a Config) -> Self {
        let wanted = &config.nodeport_addresses;
        // To tokio one datagram socket is like another.
        let changes = changes::watch(*wanted == NodePortAddresses::Primary)
            .and_then(|socket| UnixDatagram::from_std(socket.into()))
            .inspect_err(|error| tracing::warn!(%error, "no word of new addresses: looking every second"))
            .ok();
        let is_ours = config.manage_addresses || config.reserve_ports || config.transparent;
        let every = match changes {
            None => Some(limits::RETRY_INTERVAL),
            Some(_) => is_ours.then_some(limits::NODE_LOOK),
        };
        Self { wanted, changes, every, look_at: every.map(|every| Instant::now() + every), changed: false }
    }

    /// Waits until the addresses may be others, or what was set up may be gone, and reads them. May be dropped at any
    /// time.
    pub(super) async fn next(&mut self) -> compile::NodePortAddresses {
        loop {
            if !self.changed {
                tokio::select! {
                    () = heard(self.changes.as_ref()) => {}
                    () = until(self.look_at) => {}
                }
                self.changed = true;
            }
            // An address seldom comes alone: its route follows, or the next one.
            tokio::time::sleep(limits::ADDRESS_PAUSE).await;
            if let Some(changes) = &self.changes {
                take_all(changes);
            }
            self.changed = false;
            self.look_at = self.every.map(|every| Instant::now() + every);
            match node_port_addresses(self.wanted) {
                Ok(found) => return found,
                Err(error) => tracing::error!(%error, "the addresses of this node cannot be read"),
            }
        }
    }
}

/// Waits for a message, or an error.
async fn heard(changes: Option<&UnixDatagram>) {
    let Some(changes) = changes else { return std::future::pending().await };
    while changes.readable().await.is_ok() && !take_all(changes) {}
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Takes all messages. Returns whether there was one, or an error: then some may have been lost.
fn take_all(changes: &UnixDatagram) -> bool {
    let mut any = false;
    loop {
        match changes.try_recv(&mut [0]) {
            Ok(_) => any = true,
            Err(error) => return any || error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}
