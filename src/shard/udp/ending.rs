//! How a task that waits for datagrams is told to end.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// Set once.
#[derive(Default)]
pub(super) struct Ending {
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Ending {
    /// Ends the task.
    pub(super) fn set(&self) {
        self.over.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it was set.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether the task must end; if not, `waker` is woken when it must.
    pub(super) fn is_set(&self, waker: &Waker) -> bool {
        let over = self.over.get();
        if !over {
            let mut held = self.waker.borrow_mut();
            if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
                *held = Some(waker.clone());
            }
        }
        over
    }
}
