//! Slices in force: those written by hand, and those made of Pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Store, controller, index};
use crate::k8s::model::{EndpointSlice, Pod, Service};
use crate::types::NamespacedName;

impl Store {
    /// Makes the slices of one Service anew; those that come out the same stay the same.
    pub(super) fn update_slices_of(&mut self, service: &NamespacedName) {
        let mut new: BTreeMap<NamespacedName, Arc<EndpointSlice>> =
            self.written_slices.get(service).cloned().unwrap_or_default();
        let mut made = Vec::new();
        if let Some(live) = self.live.get(service) {
            let pods = self.pods_of(&live.service);
            let families = live.families();
            let distribution = live.request.distribution;
            let slices = controller::slices(&live.service, &families, distribution, &pods, &self.zones);
            made.extend(slices.into_iter().map(Arc::new));
            // Those of a headless Service are for others than proxies.
            if live.request.headless.is_empty() {
                new.extend(made.iter().map(|slice| (slice.key.clone(), Arc::clone(slice))));
            }
        }
        let mirrored = self.mirrored(service);
        new.extend(mirrored.iter().map(|slice| (slice.key.clone(), Arc::clone(slice))));
        let old = self.world.slices.get(service);
        for kept in old.into_iter().flatten() {
            if let Some(slice) = new.get_mut(&kept.key).filter(|slice| *slice == kept) {
                *slice = Arc::clone(kept);
            }
        }
        if new.is_empty() {
            self.world.slices.remove(service);
        } else if !old.is_some_and(|old| old.len() == new.len() && old.iter().zip(new.values()).all(same)) {
            self.world.slices.insert(service.clone(), new.into_values().collect());
        }
        self.show_endpoints_of(service, &made, &mirrored);
    }

    /// The Pods that a Service selects, ordered by name.
    fn pods_of(&self, service: &Service) -> Vec<Arc<Pod>> {
        let names = self.index.pods_with(&service.key.namespace, &service.selector);
        let pods = names.iter().filter_map(|name| self.pods.get(name));
        pods.filter(|pod| index::matches(&service.selector, &pod.labels)).cloned().collect()
    }
}

pub(super) fn same((old, new): (&Arc<EndpointSlice>, &Arc<EndpointSlice>)) -> bool {
    Arc::ptr_eq(old, new)
}
