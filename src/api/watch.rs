//! Watches: the history of a kind from a version on, as lines of JSON, for as long as the client wants.
//!
//! A watch holds no events of its own: it remembers its version and reads the store's log when that has moved
//! and the client has taken what came before. A client that is slower than the log is told so (410).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::failure::Failure;
use super::hub::Hub;
use super::list::documents;
use super::query::Query;
use super::render::Printer;
use super::reply::{self, Reply};
use super::select::Select;
use crate::k8s::resource::Resource;
use crate::limits;
use crate::store::registry::{Document, Event};

/// `GET` of a collection with `watch`.
pub(super) fn watch(
    hub: &Rc<Hub>,
    room: &Arc<Semaphore>,
    resource: Resource,
    namespace: Option<&str>,
    query: &Query,
    printer: Printer,
) -> Result<Response<Reply>, Failure> {
    let select = Select::parse(resource, query)?;
    let start = Start::read(query)?;
    let timeout = query.timeout()?.unwrap_or_else(default_timeout).min(limits::API_WATCH_TIME);
    let place = room.clone().try_acquire_owned().map_err(|_| Failure::too_many_watches())?;
    let (sender, receiver) = mpsc::channel(1);
    let watch = Watch {
        hub: hub.clone(),
        sender,
        resource,
        namespace: namespace.map(str::to_owned),
        select,
        printer,
        bookmarks: query.flag("allowWatchBookmarks"),
        version: 0,
        told_columns: false,
        _place: place,
    };
    tokio::task::spawn_local(watch.run(start, timeout));
    Ok(reply::pieces(receiver))
}

/// Without `timeoutSeconds` a watch ends after half an hour to an hour, as the API server's do.
fn default_timeout() -> Duration {
    limits::API_WATCH_TIME.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// With everything there is, and a bookmark after it where that is asked for.
    Now { end_bookmark: bool },
    /// With what has happened after this version.
    After(u64),
}

impl Start {
    fn read(query: &Query) -> Result<Self, Failure> {
        let version = query.version()?;
        if query.get("sendInitialEvents").is_some() {
            if query.get("resourceVersionMatch") != Some("NotOlderThan") {
                let problem = crate::k8s::field::FieldProblem::forbidden(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
                return Err(Failure::invalid_other("ListOptions", "meta.k8s.io", &[problem]));
            }
            if query.flag("sendInitialEvents") {
                return Ok(Self::Now { end_bookmark: query.flag("allowWatchBookmarks") });
            }
        }
        Ok(match version {
            None | Some(0) => Self::Now { end_bookmark: false },
            Some(version) => Self::After(version),
        })
    }
}

/// One watch.
struct Watch {
    hub: Rc<Hub>,
    sender: mpsc::Sender<Bytes>,
    resource: Resource,
    namespace: Option<String>,
    select: Select,
    printer: Printer,
    bookmarks: bool,
    /// Everything up to this version has been told.
    version: u64,
    told_columns: bool,
    _place: OwnedSemaphorePermit,
}

/// The client has left, or was told the end.
struct Over;

impl Watch {
    async fn run(mut self, start: Start, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        if self.begin(start).await.is_ok() && self.follow(deadline).await.is_ok() && self.bookmarks {
            let _ = self.bookmark(false).await;
        }
    }

    async fn begin(&mut self, start: Start) -> Result<(), Over> {
        match start {
            Start::After(version) => self.version = version,
            Start::Now { end_bookmark } => {
                self.version = self.hub.read(|store| store.version());
                let all = documents(&self.hub, self.resource, self.namespace.as_deref());
                for some in all.chunks(limits::API_LIST_PIECE) {
                    let mut text = String::new();
                    for document in some {
                        if self.select.matches(document) {
                            text.push_str(&self.print("ADDED", document));
                        }
                    }
                    self.send(text).await?;
                    tokio::task::yield_now().await;
                }
                if end_bookmark {
                    self.bookmark(true).await?;
                }
            }
        }
        Ok(())
    }

    /// Tells what happens until the time is over.
    async fn follow(&mut self, deadline: Instant) -> Result<(), Over> {
        let mut changed = self.hub.watch();
        let mut bookmarks = tokio::time::interval_at(
            Instant::now() + limits::API_BOOKMARK_INTERVAL,
            limits::API_BOOKMARK_INTERVAL,
        );
        bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            changed.borrow_and_update();
            self.catch_up().await?;
            tokio::select! {
                () = self.sender.closed() => return Err(Over),
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                // Its sender lives in the hub, which this watch holds.
                _ = changed.changed() => {}
                _ = bookmarks.tick(), if self.bookmarks => self.bookmark(false).await?,
            }
        }
    }

    /// Tells everything up to the present version.
    async fn catch_up(&mut self) -> Result<(), Over> {
        let (current, events) =
            self.hub.read(|store| (store.version(), store.events_since(self.resource, self.version)));
        let events = match events {
            // A version from before a restart that lost it: the client has to list again, too.
            Ok(_) if self.version > current => return self.expire(current).await,
            Ok(events) => events,
            Err(expired) => return self.expire(expired.oldest).await,
        };
        for some in events.chunks(limits::API_LIST_PIECE) {
            let mut text = String::new();
            for event in some {
                text.push_str(&self.tell(event));
            }
            self.send(text).await?;
            tokio::task::yield_now().await;
        }
        self.version = current;
        Ok(())
    }

    /// What an event is to someone who sees only the objects that were asked for.
    fn tell(&mut self, event: &Event) -> String {
        if self.namespace.as_ref().is_some_and(|namespace| **namespace != *event.object.key.namespace) {
            return String::new();
        }
        let before = event.before.as_ref().filter(|document| self.select.matches(document));
        let now = !event.deleted && self.select.matches(&event.object);
        match (before, now) {
            (None, false) => String::new(),
            (None, true) => self.print("ADDED", &event.object),
            (Some(_), true) => self.print("MODIFIED", &event.object),
            (Some(_), false) if event.deleted => self.print("DELETED", &event.object),
            // It has left the selection: the last state that was in it, at the version that took it out.
            (Some(before), false) => {
                let last = at_version(before, event.version);
                self.print("DELETED", &last)
            }
        }
    }

    fn print(&mut self, kind: &str, document: &Document) -> String {
        let columns = !std::mem::replace(&mut self.told_columns, true);
        self.printer.event(kind, document, columns)
    }

    async fn bookmark(&mut self, initial_end: bool) -> Result<(), Over> {
        let text = self.printer.bookmark(self.resource, self.version, initial_end);
        self.send(text).await
    }

    async fn expire(&mut self, oldest: u64) -> Result<(), Over> {
        let failure = Failure::expired(format!("too old resource version: {} ({oldest})", self.version));
        let text = format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", failure.status());
        self.send(text).await?;
        Err(Over)
    }

    async fn send(&self, text: String) -> Result<(), Over> {
        if text.is_empty() {
            return Ok(());
        }
        self.sender.send(Bytes::from(text)).await.map_err(|_| Over)
    }
}

fn at_version(document: &Document, version: u64) -> Document {
    let mut value = document.value();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    }
    Document { version, json: value.to_string().into(), ..document.clone() }
}
