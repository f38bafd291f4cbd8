//! The store between those who change it, those who watch it, and the data plane.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::store::Store;

/// One store, and how far the others are.
#[derive(Debug)]
pub struct Hub {
    store: RefCell<Store>,
    /// The store's version; watch streams wait for it.
    version: watch::Sender<u64>,
    /// The version that the data plane was told.
    applied: watch::Sender<u64>,
    /// Answers that were begun, by status code.
    answers: RefCell<BTreeMap<u16, u64>>,
}

impl Hub {
    /// A hub around a store that nothing has been told of yet.
    pub fn new(store: Store) -> Self {
        let version = store.version();
        Self {
            store: RefCell::new(store),
            version: watch::Sender::new(version),
            applied: watch::Sender::new(0),
            answers: RefCell::default(),
        }
    }

    /// Looks at the store.
    pub fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.store.borrow())
    }

    /// Changes the store, and tells those who wait for that.
    pub fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let outcome = change(&mut self.store.borrow_mut());
        let version = self.store.borrow().version();
        self.version.send_if_modified(|known| std::mem::replace(known, version) != version);
        outcome
    }

    /// Counts an answer.
    pub(super) fn answered(&self, code: u16) {
        *self.answers.borrow_mut().entry(code).or_default() += 1;
    }

    /// Answers that were begun, by status code.
    pub fn answers(&self) -> BTreeMap<u16, u64> {
        self.answers.borrow().clone()
    }

    /// Tells when the version of the store has moved.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until there is a version that the data plane was not told.
    pub async fn changed(&self) {
        let mut version = self.version.subscribe();
        // The sender is this hub's own, so this ends with a new version only.
        let _ = version.wait_for(|version| *version != *self.applied.borrow()).await;
    }

    /// The data plane was told everything up to this version.
    pub fn set_applied(&self, version: u64) {
        self.applied.send_replace(version);
    }

    /// Waits until the data plane was told this version, though not for ever: the change stands anyway.
    pub async fn in_force(&self, version: u64, limit: Duration) {
        let mut applied = self.applied.subscribe();
        let _ = tokio::time::timeout(limit, applied.wait_for(|applied| *applied >= version)).await;
    }
}
