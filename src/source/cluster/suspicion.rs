//! Slices that somebody doubts, because connections to what they name keep failing: those of one Service
//! are listed anew.

use std::rc::Rc;

use super::object::{Object, SliceObject, number};
use super::table::Outcome;
use super::wire::{Listed, Query, Recent};
use super::{Kind, Shared};
use crate::k8s::slice::SERVICE_NAME_LABEL;
use crate::types::NamespacedName;

/// Looks after doubts, for ever: one list at a time, with a pause after each.
pub(super) async fn recheck(shared: Rc<Shared>) {
    loop {
        let next = shared.doubts.borrow_mut().pop();
        let Some(service) = next else {
            shared.doubted.notified().await;
            continue;
        };
        let query = Query {
            path: format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", service.namespace),
            labels: Some(format!("{SERVICE_NAME_LABEL}={}", service.name)),
            fields: None,
        };
        let time = shared.timing.request;
        match query.list::<SliceObject>(&shared.link.client(), &Recent::Now, time).await {
            Ok(listed) => take_over(&shared, &service, listed),
            Err(failure) => tracing::debug!("slices of {service} cannot be listed anew: {failure}"),
        }
        tokio::time::sleep(shared.timing.recheck).await;
    }
}

/// Takes over what one Service has. The watch goes on beside it, and may know more.
fn take_over(shared: &Shared, service: &NamespacedName, listed: Listed<SliceObject>) {
    let mut view = shared.view.borrow_mut();
    let version = number(&listed.version);
    let mut missing = view.slice_names(service);
    missing.retain(|name| listed.entries.iter().all(|entry| entry.key != *name));
    let mut changed = Vec::new();
    for entry in listed.entries {
        if let Outcome::Changed(old) = view.slices.put(&entry.key, entry.version, entry.object) {
            view.note(Kind::EndpointSlices, &entry.key, entry.problems);
            changed.push((entry.key, old));
        }
    }
    for key in view.slices.not_newer(missing.iter(), version) {
        if let Outcome::Changed(old) = view.slices.remove(&key, version) {
            view.note(Kind::EndpointSlices, &key, Vec::new());
            changed.push((key, old));
        }
    }
    let different = changed.len();
    for (key, old) in changed {
        SliceObject::changed(&mut view, &key, old);
    }
    drop(view);
    if different > 0 {
        tracing::warn!(
            "{different} slices of {service} were not what the API server has: its watch had lost them"
        );
        shared.tell();
    }
}
