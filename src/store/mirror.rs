//! The EndpointSlice mirroring controller: v1 Endpoints that somebody wrote for a Service without selector
//! become slices (pkg/controller/endpointslicemirroring).

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use serde_json::{Value, json};

use super::registry::Owner;
use super::{Store, controller, render};
use crate::k8s::ip;
use crate::k8s::model::{EndpointSlice, SliceEndpoint, SlicePort};
use crate::k8s::resource::Resource;
use crate::k8s::service::{Family, protocol};
use crate::types::NamespacedName;

/// Label with which Endpoints ask to be left alone.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";

impl Store {
    /// The slices of the Endpoints that somebody wrote for a Service.
    pub(super) fn mirrored(&self, service: &NamespacedName) -> Vec<Arc<EndpointSlice>> {
        let of_api = |document: &&Arc<super::registry::Document>| {
            document.owner == Owner::Api && document.labels.get(SKIP_LABEL).is_none_or(|skip| skip != "true")
        };
        let (Some(document), Some(live)) = (
            self.registry.get(Resource::Endpoints, service).filter(of_api),
            self.live.get(service).filter(|live| live.service.selector.is_empty()),
        ) else {
            return Vec::new();
        };
        let Ok(endpoints) = serde_json::from_str::<v1::Endpoints>(&document.json) else { return Vec::new() };
        let subsets = endpoints.subsets.unwrap_or_default();
        let mut slices = Vec::new();
        for (index, subset) in subsets.iter().enumerate() {
            for family in [Family::V4, Family::V6] {
                let endpoints = endpoints_of(subset, family);
                if endpoints.is_empty() || live.request.external_name.is_some() {
                    continue;
                }
                slices.push(Arc::new(EndpointSlice {
                    key: controller::slice_name(service, &("mirror", index, family)),
                    service: service.clone(),
                    ports: subset.ports.iter().flatten().filter_map(port).collect(),
                    endpoints,
                }));
            }
        }
        slices
    }

    /// The same as the API shows them.
    pub(super) fn mirrored_objects(
        &self,
        service: &NamespacedName,
        slices: &[Arc<EndpointSlice>],
    ) -> Vec<(NamespacedName, Value)> {
        let Some(parent) = self.registry.get(Resource::Endpoints, service) else { return Vec::new() };
        let shown = slices.iter().map(|slice| {
            let mut object = render::slice_object(self, parent, slice, false);
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                let owner = json!([{
                    "apiVersion": "v1", "kind": "Endpoints", "name": &*service.name, "uid": &*parent.uid,
                    "controller": true, "blockOwnerDeletion": true,
                }]);
                metadata.insert("ownerReferences".into(), owner);
                if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
                    labels.insert(render::MANAGED_BY.into(), MANAGER.into());
                }
            }
            (slice.key.clone(), object)
        });
        shown.collect()
    }
}

fn endpoints_of(subset: &v1::EndpointSubset, family: Family) -> Vec<SliceEndpoint> {
    let lists = [(&subset.addresses, true), (&subset.not_ready_addresses, false)];
    let mut endpoints = Vec::new();
    for (list, ready) in lists {
        for address in list.iter().flatten() {
            let ip: Option<IpAddr> = ip::read(&address.ip, "", &mut Vec::new());
            let Some(ip) = ip.filter(|ip| Family::of(*ip) == family) else { continue };
            let target = address.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            endpoints.push(SliceEndpoint {
                address: ip,
                ready,
                serving: ready,
                terminating: false,
                node: address.node_name.as_deref().map(Into::into),
                zone_hints: Vec::new(),
                node_hints: Vec::new(),
                pod: target.and_then(|target| target.name.as_deref()).map(Into::into),
            });
        }
    }
    endpoints
}

fn port(port: &v1::EndpointPort) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: protocol(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
    })
}
