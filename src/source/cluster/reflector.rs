//! One kind of objects: list, then watch, then begin again where that is needed.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::object::{Entry, Object, number};
use super::table::Outcome;
use super::wire::{Event, Failure, Lines, Listed, Query, Recent};
use super::{Kind, Shared, bump};
use crate::limits;

/// Why a watch is over.
enum Ended {
    /// It came to its end.
    Closed,
    /// Nothing came for too long (W5).
    Silent,
    /// It is time for a whole list.
    Due,
    /// The server's events are not in order (W2).
    Disordered,
    /// It failed.
    Failed(Failure),
}

/// Follows one kind, for ever.
pub(super) async fn follow<O: Object>(shared: Rc<Shared>, query: Query) {
    let mut backoff = Backoff::new(shared.timing.backoff, shared.timing.backoff_max);
    let mut recent = Recent::Any;
    // The last list was not believed: the next one decides (W4).
    let mut doubted = false;
    loop {
        let listed = query.list::<O>(&shared.link.client(), &recent, shared.timing.request).await;
        let version = match listed {
            Err(failure) => {
                fail(&shared, O::KIND, &failure).await;
                pause(&mut backoff, failure.retry_after()).await;
                // Whatever was asked for before, this the server can always answer.
                recent = Recent::Now;
                continue;
            }
            Ok(listed) => {
                shared.follow(O::KIND).heard();
                if !doubted && is_doubtful(&shared, &listed) {
                    (doubted, recent) = (true, Recent::Now);
                    tokio::time::sleep(shared.timing.doubt).await;
                    continue;
                }
                doubted = false;
                take_over(&shared, listed)
            }
        };
        recent = watch::<O>(&shared, &query, version, &mut backoff).await;
    }
}

/// Watches from `version` on, until everything has to be listed again; then says how recent that list has
/// to be.
async fn watch<O: Object>(
    shared: &Rc<Shared>,
    query: &Query,
    mut version: String,
    backoff: &mut Backoff,
) -> Recent {
    let due = Instant::now() + shared.timing.relist.mul_f64(0.9 + fastrand::f64() / 5.0);
    loop {
        let before = version.clone();
        let began = Instant::now();
        let ended = stream::<O>(shared, query, &mut version, due).await;
        let worked = version != before || began.elapsed() > shared.timing.backoff_max;
        if worked {
            backoff.reset();
        }
        match ended {
            Ended::Due => return Recent::Since(version),
            Ended::Disordered => {
                tracing::warn!(
                    "{} of the API server came out of order: they are listed anew",
                    O::KIND.plural()
                );
                pause(backoff, Duration::ZERO).await;
                return Recent::Now;
            }
            Ended::Closed if worked => {}
            Ended::Closed => pause(backoff, Duration::ZERO).await,
            Ended::Silent => {
                let seconds = shared.timing.silence.as_secs_f64();
                let why = format!("nothing came for {seconds} s, so the stream is begun anew");
                shared.follow(O::KIND).failed(O::KIND, &why);
            }
            Ended::Failed(Failure::Expired) => {
                tracing::info!(
                    "{} of the API server: version {version} is too old, listing",
                    O::KIND.plural()
                );
                // All nodes are told so at once, and a sick server says it again and again.
                pause(backoff, Duration::ZERO).await;
                return Recent::Now;
            }
            Ended::Failed(failure) => {
                fail(shared, O::KIND, &failure).await;
                pause(backoff, failure.retry_after()).await;
                if matches!(failure, Failure::Refused { .. } | Failure::Unreadable(_)) {
                    return Recent::Now;
                }
            }
        }
    }
}

/// One stream, from its beginning to its end.
async fn stream<O: Object>(shared: &Rc<Shared>, query: &Query, version: &mut String, due: Instant) -> Ended {
    let timing = &shared.timing;
    bump(&shared.follow(O::KIND).watches);
    // The server ends it by itself after some minutes, not that of all nodes at once.
    let seconds = fastrand::u32(limits::WATCH_SECONDS);
    let opened = query.watch(&shared.link.client(), version, seconds, timing.request).await;
    let mut lines: Lines = match opened {
        Ok(lines) => lines,
        Err(failure) => return Ended::Failed(failure),
    };
    shared.follow(O::KIND).heard();
    loop {
        let silent = Instant::now() + timing.silence;
        let event = match tokio::time::timeout_at(silent.min(due), lines.next::<O>()).await {
            Err(_) if due <= silent => return Ended::Due,
            Err(_) => return Ended::Silent,
            Ok(Err(failure)) => return Ended::Failed(failure),
            Ok(Ok(None)) => return Ended::Closed,
            Ok(Ok(Some(event))) => event,
        };
        shared.follow(O::KIND).heard();
        if !take(shared, event, version) {
            return Ended::Disordered;
        }
    }
}

/// Takes an event over; false where it came too late.
fn take<O: Object>(shared: &Shared, event: Event<O>, resume: &mut String) -> bool {
    let mut view = shared.view.borrow_mut();
    let table = O::table(&mut view);
    let (key, version, outcome, problems) = match event {
        Event::Bookmark(version) => {
            table.heard(number(&version));
            *resume = version;
            return true;
        }
        Event::Put(Entry { key, version, object, problems }) => {
            let outcome = table.put(&key, version, object);
            (key, version, outcome, Some(problems))
        }
        Event::Gone(key, version) => {
            let outcome = table.remove(&key, version);
            (key, version, outcome, None)
        }
    };
    let in_order = !table.disordered(version);
    table.heard(version);
    if let Some(version) = version.filter(|_| in_order) {
        *resume = version.to_string();
    }
    let Outcome::Changed(old) = outcome else { return true };
    view.note(O::KIND, &key, problems.unwrap_or_default());
    O::changed(&mut view, &key, old);
    drop(view);
    shared.tell();
    in_order
}

/// Takes a whole list over (W3), and says where to watch from.
fn take_over<O: Object>(shared: &Shared, listed: Listed<O>) -> String {
    let mut view = shared.view.borrow_mut();
    let mut noted = Vec::new();
    let entries = listed.entries.into_iter().map(|entry| {
        if !entry.problems.is_empty() {
            noted.push((entry.key.clone(), entry.problems));
        }
        (entry.key, entry.version, entry.object)
    });
    let changed = O::table(&mut view).replace(entries, number(&listed.version));
    let different = changed.len();
    for (key, old) in changed {
        view.note(O::KIND, &key, Vec::new());
        O::changed(&mut view, &key, old);
    }
    for (key, problems) in noted {
        view.note(O::KIND, &key, problems);
    }
    let count = O::table(&mut view).len();
    drop(view);
    let follow = shared.follow(O::KIND);
    let first = follow.lists.get() == 0;
    bump(&follow.lists);
    tracing::info!("{count} {} listed, {different} of them different", O::KIND.plural());
    if different > 0 || first {
        shared.tell();
    }
    listed.version
}

/// Whether a list has lost too much to be believed at once (W4).
fn is_doubtful<O: Object>(shared: &Shared, listed: &Listed<O>) -> bool {
    // There is one Node of this name or none.
    if O::KIND == Kind::Nodes && !shared.settings.via_node_ports {
        return false;
    }
    let mut view = shared.view.borrow_mut();
    let table = O::table(&mut view);
    let (had, lost) = (table.len(), table.lost(listed.entries.iter().map(|entry| &entry.key)));
    let doubtful = too_much(had, lost, listed.entries.is_empty());
    if doubtful {
        let pause = shared.timing.doubt.as_secs_f64();
        tracing::error!(
            "a list of {} lacks {lost} of the {had} that there were: what is known stays in force until another list, \
             in {pause} s, says the same",
            O::KIND.plural()
        );
    }
    doubtful
}

/// All of them, or more than half of many.
fn too_much(had: usize, lost: usize, empty: bool) -> bool {
    had > 0 && empty || had >= limits::DOUBT_FROM && lost * 2 > had
}

async fn fail(shared: &Shared, kind: Kind, failure: &Failure) {
    shared.follow(kind).failed(kind, &failure.to_string());
    if matches!(failure, Failure::Unauthorized(_)) {
        shared.link.renew().await;
    }
}

pub(super) async fn pause(backoff: &mut Backoff, at_least: Duration) {
    tokio::time::sleep(backoff.pause(fastrand::f64()).max(at_least)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_all_or_more_than_half_of_many() {
        for (had, lost, empty, wanted) in [
            (0, 0, true, false),
            (1, 1, true, true),
            (1, 1, false, false),
            (19, 18, false, false),
            (20, 10, false, false),
            (20, 11, false, true),
            (1000, 1000, true, true),
        ] {
            assert_eq!(too_much(had, lost, empty), wanted, "{lost} of {had}");
        }
    }
}
