//! One task hears the pods of all flows of a shard: a task for each would cost more than what it does.

use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::flow::Flow;
use super::table::Id;
use super::{Place, Udp};
use crate::net::udp;
use crate::ring::Arrived;

/// The places of flows that may have something, for the task. Only this thread uses it; wakers must be fit for others.
#[derive(Default)]
pub(super) struct Ready(Mutex<Places>);

#[derive(Default)]
struct Places {
    ready: Vec<Id>,
    /// The task, while it waits for the first of them.
    task: Option<Waker>,
}

/// Wakes the task for the flow in a place. The place may be another flow's by then: that is looked at in vain.
struct Called {
    place: Id,
    ready: Arc<Ready>,
}

impl Ready {
    /// A waker for the flow in a place.
    pub(super) fn waker(self: &Arc<Self>, place: Id) -> Waker {
        Waker::from(Arc::new(Called { place, ready: self.clone() }))
    }

    fn call(&self, place: Id) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What one flow hears in a turn comes in a row.
        if places.ready.last() != Some(&place) {
            places.ready.push(place);
        }
        let task = places.task.take();
        drop(places);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Wakes the task, to see that there is nothing more to do.
    pub(super) fn end(&self) {
        let task = self.0.lock().unwrap_or_else(PoisonError::into_inner).task.take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Puts the places that are ready into an empty list.
    fn poll(&self, list: &mut Vec<Id>, context: &Context<'_>) -> Poll<()> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.ready.is_empty() {
            places.task = Some(context.waker().clone());
            return Poll::Pending;
        }
        mem::swap(&mut places.ready, list);
        Poll::Ready(())
    }
}

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.call(self.place);
    }
}

/// Passes on what pods answer until the shard stops.
pub(super) async fn hear(udp: Rc<Udp>) {
    let mut places = Vec::new();
    std::future::poll_fn(|context| {
        while !udp.stopped.get() {
            if udp.ready.poll(&mut places, context).is_pending() {
                return Poll::Pending;
            }
            for place in places.drain(..) {
                let flow = match udp.table.borrow().get(place) {
                    Some(Place::Flow(flow)) => flow.clone(),
                    _ => continue,
                };
                udp.hear(&flow);
            }
        }
        Poll::Ready(())
    })
    .await;
}

impl Udp {
    /// Passes on what the pod of a flow has sent, and listens on.
    pub(super) fn hear(self: &Rc<Self>, flow: &Rc<Flow>) {
        while let Some(Poll::Ready(arrived)) = flow.poll_next() {
            match arrived {
                Arrived::Datagram(datagram) => self.answered(flow, datagram),
                // The way is narrower than it was; from now on the kernel sends what fits it.
                Arrived::Failed(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    udp::forget_errors(&flow.socket);
                }
                Arrived::Failed(error) => self.broken(flow, &error),
            }
        }
    }
}
