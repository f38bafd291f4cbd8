//! The loop that drives a relay ring inside a glommio executor.
//!
//! It lets all runnable tasks run, enters the kernel once for everything they queued, and sleeps there
//! until the first completion or timer. glommio's own reactor so never gets to sleep: a shard uses
//! glommio's tasks and placement, and nothing that its reactor would have to wake (its timers, sockets,
//! files and channels). See docs/decisions/0001-relay-ring.md.

use std::time::Duration;

use super::Ring;
use crate::clock;

/// Drives `ring` until [`super::RelayRing::stop`].
pub async fn drive(ring: Ring) {
    loop {
        run_tasks(&ring).await;
        if ring.stopped.get() {
            // What was closed last is still queued: a listener that stays open takes connections for nobody.
            ring.turn(Some(Duration::ZERO));
            return;
        }
        if !ring.fire_timers() {
            let until_timer = ring.next_timer().map(|due| due.since(clock::now()));
            ring.turn(until_timer);
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
