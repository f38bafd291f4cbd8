//! What is wrong with objects of the cluster, as Events of them: all that is ever written to its API server.
//!
//! What is wrong now is compared with what was told, so nothing is lost while the API server is away, and a
//! problem that comes and goes is told once in a while. Each node tells for itself, as kube-proxy does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use kube::api::{Patch, PatchParams, PostParams, Request as Requests};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::wire::{self, Failure};
use super::{Shared, reflector};
use crate::k8s::event::{Facts, Told};
use crate::limits;
use crate::problem::Problem;
use crate::types::NamespacedName;

/// What is to be told.
#[derive(Default)]
pub(super) struct Events {
    now: RefCell<Arc<[Told]>>,
    changed: Notify,
}

/// What was told, by the names of the Events.
type Before = HashMap<NamespacedName, Instant>;

impl Events {
    /// This is wrong now, and nothing else.
    pub(super) fn set(&self, problems: &[Problem]) {
        let now: Arc<[Told]> = problems.iter().filter_map(Told::of).take(limits::CLUSTER_EVENTS).collect();
        if *self.now.borrow() != now {
            self.now.replace(now);
            self.changed.notify_one();
        }
    }
}

/// Tells it, for ever.
pub(super) async fn tell(shared: Rc<Shared>) {
    let timing = &shared.timing;
    let mut before = Before::new();
    let mut backoff = Backoff::new(timing.backoff, timing.backoff_max);
    let mut said = None;
    loop {
        before.retain(|_, at| at.elapsed() < timing.tell_again);
        let outcome = tell_new(&shared, &mut before).await;
        let failure = outcome.as_ref().map_or_else(Some, Option::as_ref).map(Failure::to_string);
        if failure != said
            && let Some(why) = &failure
        {
            tracing::warn!("events of the API server: {why}; /statusz has what they would say");
        }
        said = failure;
        if let Err(failure) = outcome {
            reflector::pause(&mut backoff, failure.retry_after()).await;
            continue;
        }
        backoff.reset();
        // In vain is as good: what was told long ago is told again.
        let _ = timeout(timing.tell_again, shared.events.changed.notified()).await;
        sleep(limits::EVENTS_PAUSE).await;
    }
}

/// Tells what was not told before. Gives the last refusal: what is refused is not tried again soon.
async fn tell_new(shared: &Shared, before: &mut Before) -> Result<Option<Failure>, Failure> {
    let now = shared.events.now.borrow().clone();
    let mut refused = None;
    for told in now.iter() {
        let uid = shared.view.borrow().uid(told.resource, &told.key);
        let key = told.event_key(&uid, &shared.settings.node_name);
        if before.contains_key(&key) {
            continue;
        }
        match write(shared, told, &key, &uid).await {
            Ok(()) => {}
            Err(failure) if failure.is_final() => refused = Some(failure),
            Err(failure) => {
                if matches!(failure, Failure::Unauthorized(_)) {
                    shared.link.renew().await;
                }
                return Err(failure);
            }
        }
        before.insert(key, Instant::now());
        sleep(limits::EVENT_GAP).await;
    }
    Ok(refused)
}

/// Makes the Event, or says of the one that is there that it is so still.
async fn write(shared: &Shared, told: &Told, key: &NamespacedName, uid: &str) -> Result<(), Failure> {
    let (client, time) = (shared.link.client(), shared.timing.request);
    let last = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let node = &*shared.settings.node_name;
    let event = told.event(&Facts { uid, version: None, node, first: &last, last: &last, count: 1 });
    let requests = Requests::new(format!("/api/v1/namespaces/{}/events", key.namespace));
    let make = requests.create(&PostParams::default(), event.to_string().into_bytes());
    match wire::write(&client, make, time).await {
        Err(Failure::Refused { code: 409, .. }) => {
            let still = Patch::Merge(json!({ "lastTimestamp": last }));
            wire::write(&client, requests.patch(&key.name, &PatchParams::default(), &still), time).await
        }
        written => written,
    }
}
