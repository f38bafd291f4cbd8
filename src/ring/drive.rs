//! The loop that drives a relay ring inside a glommio executor.
//!
//! While there is work it never gives the thread back to glommio's reactor: it lets all runnable tasks
//! run, enters the kernel once for everything they queued, and waits there. Only when nothing has
//! happened for [`LINGER`] does it park in glommio, woken by an eventfd that the ring signals.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use glommio::io::BufferedFile;
use rustix::event::EventfdFlags;

use super::{Ring, RingStats};
use crate::clock;

/// How long the ring waits by itself before it parks. Parking costs several system calls; a shorter
/// wait parks between the requests of a lightly loaded shard (measured at 5,000 requests a second).
/// glommio's own timers and channels may be late by as much, so the data plane uses none.
const LINGER: Duration = Duration::from_millis(2);

/// Drives `ring` until [`super::RelayRing::stop`].
///
/// # Errors
/// Those of making the eventfd.
pub async fn drive(ring: Ring) -> io::Result<()> {
    let doorbell = Doorbell::new(&ring)?;
    loop {
        run_tasks(&ring).await;
        if ring.stopped.get() {
            doorbell.close().await;
            return Ok(());
        }
        if ring.fire_timers() {
            continue;
        }
        let linger = until_timer(&ring).map_or(LINGER, |due| due.min(LINGER));
        if ring.turn(Some(linger)) == 0 && !ring.fire_timers() && !ring.is_due() {
            doorbell.park(&ring).await;
        }
    }
}

/// Lets tasks run until a pass over the run queue in which none of them used the ring: then all of
/// them wait, and what they queued goes to the kernel together.
async fn run_tasks(ring: &Ring) {
    loop {
        let before = ring.touches.get();
        glommio::executor().yield_now().await;
        if ring.touches.get() == before {
            return;
        }
    }
}

fn until_timer(ring: &Ring) -> Option<Duration> {
    ring.next_timer().map(|due| due.since(clock::now()))
}

impl super::RelayRing {
    /// A timer is due.
    fn is_due(&self) -> bool {
        self.next_timer().is_some_and(|due| due <= clock::now())
    }
}

/// What wakes the executor when the ring has something: an eventfd, read through glommio's reactor.
struct Doorbell {
    file: BufferedFile,
}

impl Doorbell {
    fn new(ring: &Ring) -> io::Result<Self> {
        let eventfd: OwnedFd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        let mut inner = ring.inner.borrow_mut();
        inner.ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        inner.ring.completion().disable_eventfd();
        // SAFETY: the descriptor is owned and given up here.
        let file = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
        Ok(Self { file })
    }

    /// Sleeps in glommio until the ring has a completion or a timer is due.
    async fn park(&self, ring: &Ring) {
        ring.inner.borrow_mut().ring.completion().enable_eventfd();
        // What completed before the eventfd was enabled has not rung: look once more.
        if ring.turn(None) == 0 {
            RingStats::count(&ring.stats.parks, 1);
            match until_timer(ring) {
                None => self.rung().await,
                Some(due) => {
                    let _ = glommio::timer::timeout(due.max(Duration::from_millis(1)), async {
                        self.rung().await;
                        Ok(())
                    })
                    .await;
                }
            }
        }
        ring.inner.borrow_mut().ring.completion().disable_eventfd();
    }

    async fn rung(&self) {
        if let Err(error) = self.file.read_at(0, 8).await {
            tracing::error!(%error, "the relay ring's doorbell is broken");
        }
    }

    async fn close(self) {
        let _ = self.file.close().await;
    }
}
