//! Where operations wait for their completions.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use io_uring::cqueue;
use slab::Slab;

use super::buffers::{Pool, Pools};

/// Names an operation: its slot and the slot's generation (O2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(super) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_user_data(user_data: u64) -> Self {
        Self { index: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// What the kernel said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// The result, or a negative errno.
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// What the completions of an operation bring, and so what must be given back if nobody takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brings {
    /// Nothing but a number.
    Number,
    /// A new descriptor.
    Descriptor,
    /// A receive buffer of this pool.
    Buffer(Pool),
}

/// All operations of a ring.
#[derive(Default)]
pub(super) struct Slots {
    slots: Slab<Slot>,
    generation: u32,
}

struct Slot {
    generation: u32,
    brings: Brings,
    state: State,
    /// Memory the kernel reads until the last completion (O1).
    #[allow(dead_code, reason = "owned for its address")]
    held: Option<Box<socket2::SockAddr>>,
}

enum State {
    /// The kernel has it, somebody waits; completions not yet taken are queued.
    Live { waker: Option<Waker>, queue: VecDeque<Completion> },
    /// The last completion has come; the queue is what is left to take.
    Over { queue: VecDeque<Completion> },
    /// The kernel has it, nobody waits.
    Orphan,
}

impl Slots {
    /// Operations that the kernel still has, or whose completions are not all taken.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn insert(&mut self, brings: Brings, held: Option<Box<socket2::SockAddr>>) -> Key {
        // A generation never equals the upper half of what `NOBODY` and sends carry.
        self.generation = if self.generation >= u32::MAX - 2 { 0 } else { self.generation + 1 };
        let slot = Slot {
            generation: self.generation,
            brings,
            state: State::Live { waker: None, queue: VecDeque::new() },
            held,
        };
        Key { index: self.slots.insert(slot) as u32, generation: self.generation }
    }

    /// Takes the next completion. `Ready(None)` after the last one, when the slot is gone.
    pub(super) fn poll_next(&mut self, key: Key, context: &Context<'_>) -> Poll<Option<Completion>> {
        let Some(slot) = self.get(key) else { return Poll::Ready(None) };
        match &mut slot.state {
            State::Live { waker, queue } => {
                if let Some(completion) = queue.pop_front() {
                    return Poll::Ready(Some(completion));
                }
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
            State::Over { queue } => match queue.pop_front() {
                Some(completion) => {
                    if queue.is_empty() {
                        self.slots.remove(key.index as usize);
                    }
                    Poll::Ready(Some(completion))
                }
                None => {
                    self.slots.remove(key.index as usize);
                    Poll::Ready(None)
                }
            },
            State::Orphan => Poll::Ready(None),
        }
    }

    /// The kernel is done with the operation: no completion of it is still to come.
    pub(super) fn is_over(&self, key: Key) -> bool {
        match self.slots.get(key.index as usize) {
            Some(slot) if slot.generation == key.generation => matches!(slot.state, State::Over { .. }),
            _ => true,
        }
    }

    /// Over, and all its completions taken.
    pub(super) fn is_gone(&self, key: Key) -> bool {
        self.slots.get(key.index as usize).is_none_or(|slot| slot.generation != key.generation)
    }

    /// Nobody waits any longer. Returns whether the kernel still has the operation, and the bytes that
    /// had been received and not taken.
    pub(super) fn abandon(&mut self, key: Key, buffers: &mut Pools) -> (bool, u64) {
        let Some(slot) = self.get(key) else { return (false, 0) };
        let brings = slot.brings;
        let (live, queue) = match std::mem::replace(&mut slot.state, State::Orphan) {
            State::Live { queue, .. } => (true, queue),
            State::Over { queue } => (false, queue),
            State::Orphan => (true, VecDeque::new()),
        };
        if !live {
            self.slots.remove(key.index as usize);
        }
        let unread = queue.into_iter().map(|completion| give_back(completion, brings, buffers)).sum();
        (live, unread)
    }

    /// Files one completion (O2, O3). Returns the bytes it has brought for nobody.
    pub(super) fn complete(&mut self, user_data: u64, result: i32, flags: u32, buffers: &mut Pools) -> u64 {
        let key = Key::from_user_data(user_data);
        let last = !cqueue::more(flags);
        let Some(slot) = self.get(key) else {
            debug_assert!(false, "a completion for no operation: {key:?}");
            return 0;
        };
        let completion = Completion { result, flags };
        if let Brings::Buffer(pool) = slot.brings
            && cqueue::buffer_select(flags).is_some()
            && let Some(buffers) = buffers.of(pool)
        {
            buffers.lend();
        }
        match &mut slot.state {
            State::Live { waker, queue } => {
                queue.push_back(completion);
                if last {
                    let queue = std::mem::take(queue);
                    if let Some(waker) = waker.take() {
                        waker.wake();
                    }
                    slot.state = State::Over { queue };
                } else if let Some(waker) = waker {
                    waker.wake_by_ref();
                }
            }
            State::Orphan => {
                let bytes = give_back(completion, slot.brings, buffers);
                if last {
                    self.slots.remove(key.index as usize);
                }
                return bytes;
            }
            State::Over { .. } => debug_assert!(false, "a completion after the last: {key:?}"),
        }
        0
    }

    pub(super) fn wake_all(&self) {
        for (_, slot) in &self.slots {
            if let State::Live { waker: Some(waker), .. } = &slot.state {
                waker.wake_by_ref();
            }
        }
    }

    fn get(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)
    }
}

/// Gives back what a completion brought that nobody takes. Returns the bytes it held.
fn give_back(completion: Completion, brings: Brings, buffers: &mut Pools) -> u64 {
    match brings {
        Brings::Descriptor if completion.result >= 0 => {
            use std::os::fd::FromRawFd;
            // SAFETY: an accept completed with this new descriptor, and nobody else has seen it.
            drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(completion.result) });
            0
        }
        Brings::Buffer(pool) => {
            if let Some(id) = cqueue::buffer_select(completion.flags) {
                buffers.give_back(pool, id);
            }
            u64::try_from(completion.result).unwrap_or(0)
        }
        Brings::Number | Brings::Descriptor => 0,
    }
}
