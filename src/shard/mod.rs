//! The data plane: one shard per core, each a glommio executor with a relay ring of its own.
//!
//! ```text
//!   listeners ── accept ── connection: pick → connect → relay → account
//!       ▲   udp/: front ── flow table ── flow               │
//!   run: apply a snapshot, drain, stop                      └─ relay/: pump (copy ⇄ splice), half-close, resets
//! ```
//!
//! Invariants, named where they are kept:
//! - **S1** Every accepted connection ends in exactly one outcome, counted and, if asked for, logged.
//! - **S2** No error of accept ends or spins an accept loop.
//! - **S3** A listener that closes first serves what waits in its queue.
//! - **S4** A new connection uses the newest snapshot that its shard has seen; a running one needs none.
//! - **S5** A connect is retried only while no byte of the client has been sent to a pod. A PROXY header is ours.

mod accept;
mod connect;
mod connection;
mod listeners;
mod proxy;
mod relay;
mod run;
mod source;
mod udp;

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use rustix::event::EventfdFlags;

use crate::limits;
use crate::net::replies::Families;
use crate::net::socket::TcpOptions;
use crate::route::plane::Plane;
pub use proxy::read as read_proxy_header;
pub use udp::Timeouts as UdpTimeouts;

/// What the data plane is told once, at start.
#[derive(Clone, Debug)]
pub struct Options {
    /// CPUs to pin the shards to, one each; as many shards as entries. `None` leaves a shard unpinned.
    pub placement: Vec<Option<usize>>,
    /// For all attempts to connect one client to a pod.
    pub connect_timeout: Duration,
    /// End of a session in which nothing has moved for this long; zero is never.
    pub idle_timeout: Duration,
    /// End of a session of which one side has said FIN, when nothing has moved for this long; zero is never.
    pub half_closed_timeout: Duration,
    /// End of a UDP flow in which nothing has moved for this long.
    pub udp: UdpTimeouts,
    /// UDP flows of a shard at a time.
    pub udp_flows: usize,
    /// Socket options.
    pub tcp: TcpOptions,
    /// Whether bulk directions are spliced.
    pub splice: bool,
    /// Pipes for splicing, per shard.
    pub pipes: usize,
    /// Where pods on this node can answer to the addresses of clients.
    pub transparent: Families,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            placement: vec![None],
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::ZERO,
            half_closed_timeout: Duration::from_secs(3600),
            udp: UdpTimeouts::default(),
            udp_flows: usize::MAX,
            tcp: TcpOptions::default(),
            splice: true,
            pipes: limits::PIPES_PER_SHARD,
            transparent: Families::default(),
        }
    }
}

/// The running shards.
pub struct Shards(Vec<ExecutorJoinHandle<io::Result<()>>>);

/// Why the data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The executor could not be made: memory lock limit, forbidden io_uring, no such CPU.
    #[error("shard {shard}: cannot start its executor: {reason}")]
    Executor {
        /// The shard.
        shard: usize,
        /// glommio's reason.
        reason: String,
    },
    /// No descriptor for the shard's wake.
    #[error("no eventfd: {0}")]
    Wake(#[from] io::Error),
}

/// Starts the shards; they serve what `plane` says until it enters [`crate::route::plane::Phase::Stop`], or
/// `Drain` and their last session ends.
///
/// # Errors
/// See [`StartError`]; shards already started are told to stop.
pub fn start(options: &Options, plane: &Arc<Plane>) -> Result<Shards, StartError> {
    let mut bells = Vec::new();
    for _ in &options.placement {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        bells.push(Arc::new(bell.map_err(io::Error::from)?));
    }
    let ringers = bells.clone();
    plane.set_wake(move || {
        for bell in &ringers {
            // Fails only when the counter is full, and then the shard wakes anyway.
            let _ = rustix::io::write(&**bell, &1u64.to_ne_bytes());
        }
    });
    let mut shards = Vec::new();
    for (shard, (cpu, bell)) in options.placement.iter().zip(bells).enumerate() {
        let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
        let (options, for_shard) = (options.clone(), plane.clone());
        let started = LocalExecutorBuilder::new(placement)
            .name(&format!("shard-{shard}"))
            .io_memory(limits::EXECUTOR_MEMORY)
            .spawn(move || run::run(shard, options, for_shard, bell));
        match started {
            Ok(handle) => shards.push(handle),
            Err(error) => {
                plane.enter(crate::route::plane::Phase::Stop);
                return Err(StartError::Executor { shard, reason: error.to_string() });
            }
        }
    }
    Ok(Shards(shards))
}

impl Shards {
    /// Waits until all shards have ended, or one has failed. Blocks the calling thread.
    ///
    /// # Errors
    /// Of the first shard that failed: its relay ring could not be made, or it panicked.
    pub fn join(self) -> io::Result<()> {
        let (sender, ended) = mpsc::channel();
        for handle in self.0 {
            let sender = sender.clone();
            // On a thread each: whoever joins one after the other learns nothing of the second.
            std::thread::spawn(move || {
                let joined = handle.join();
                sender.send(joined.unwrap_or_else(|error| Err(io::Error::other(error.to_string()))))
            });
        }
        drop(sender);
        ended.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_of_one_shard_is_told_while_the_others_run() {
        let (stop, stopped) = mpsc::channel::<()>();
        let runs = LocalExecutorBuilder::default()
            .spawn(move || async move {
                let _ = stopped.recv();
                Ok(())
            })
            .unwrap();
        let fails = LocalExecutorBuilder::default()
            .spawn(|| async { Err(io::ErrorKind::OutOfMemory.into()) })
            .unwrap();
        let (sender, result) = mpsc::channel();
        std::thread::spawn(move || sender.send(Shards(vec![runs, fails]).join()));
        let error = result.recv_timeout(Duration::from_secs(10)).expect("nothing was told").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        drop(stop);
    }
}
