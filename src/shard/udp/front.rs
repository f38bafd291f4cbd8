//! A frontend's socket on this shard, and the task that hears it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::Udp;
use super::ending::Ending;
use super::table::Key;
use crate::clock;
use crate::ring::{Arrived, Datagram, Datagrams, Outgoing, RingFd};
use crate::route::snapshot::{Frontend, FrontendKey};
use crate::types::{Direction, DropReason};

/// How long to leave a socket alone that fails.
const BACKOFF: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Front {
    /// Its number in the flow table.
    pub(super) number: u32,
    pub(super) key: FrontendKey,
    pub(super) socket: RingFd,
    /// As the last snapshot has it.
    frontend: RefCell<Arc<Frontend>>,
    pub(super) ending: Ending,
    overflows: Cell<u32>,
}

impl Front {
    pub(super) fn new(number: u32, frontend: Arc<Frontend>, socket: RingFd) -> Self {
        Self {
            number,
            key: frontend.key,
            socket,
            frontend: RefCell::new(frontend),
            ending: Ending::default(),
            overflows: Cell::new(0),
        }
    }

    pub(super) fn frontend(&self) -> Arc<Frontend> {
        self.frontend.borrow().clone()
    }

    /// Puts another form of the frontend in force. Gives the old one.
    pub(super) fn replace(&self, frontend: Arc<Frontend>) -> Arc<Frontend> {
        self.frontend.replace(frontend)
    }
}

/// Hears a socket until the frontend ends.
pub(super) async fn hear(udp: Rc<Udp>, front: Rc<Front>, mut datagrams: Datagrams) {
    while let Some(arrived) = next(&front.ending, &mut datagrams).await {
        match arrived {
            Arrived::Datagram(datagram) => udp.heard(&front, datagram),
            Arrived::Failed(error) => {
                if udp.shard.log_gate.may(clock::now()) {
                    tracing::warn!(shard = udp.shard.index, frontend = %front.key, %error, "cannot receive; trying again");
                }
                udp.shard.ring.sleep(BACKOFF).await;
            }
        }
    }
}

/// What arrives next; `None` once the task must end, whatever else has arrived.
async fn next(ending: &Ending, datagrams: &mut Datagrams) -> Option<Arrived> {
    poll_fn(|context| {
        if ending.is_set(context.waker()) {
            return Poll::Ready(None);
        }
        datagrams.poll_next(context).map(Some)
    })
    .await
}

impl Udp {
    /// A client has sent a datagram.
    fn heard(self: &Rc<Self>, front: &Rc<Front>, datagram: Datagram) {
        let frontend = front.frontend.borrow();
        let stats = frontend.port.stats.of(self.shard.index);
        if let Some(total) = datagram.overflows {
            let new = total.wrapping_sub(front.overflows.replace(total));
            stats.dropped_up.of(DropReason::ReceiveBuffer).add(u64::from(new));
        }
        let dropped = |reason| stats.dropped_up.of(reason).add(datagram.payload.count());
        let Some(client) = datagram.from else { return dropped(DropReason::LocalError) };
        if datagram.truncated {
            return dropped(DropReason::Truncated);
        }
        if datagram.to.is_some_and(|to| is_group(to.ip)) {
            return dropped(DropReason::NotUnicast);
        }
        let key = Key { front: front.number, client, local: datagram.to };
        let outgoing = Outgoing { payload: datagram.payload, direction: Direction::Up, tried: 0 };
        self.forward(front, &frontend, &key, outgoing);
    }
}

/// Whether many are meant: such an address cannot answer.
fn is_group(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}
