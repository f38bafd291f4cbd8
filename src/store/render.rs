//! What the API shows of objects that do not come from it: those of files, those made by controllers.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use serde_json::{Value, json};

use super::registry::{Document, Owner};
use super::{Store, controller, draft, metadata};
use crate::k8s::decode::{Kind, ObjectId};
use crate::k8s::meta::FILE_ANNOTATION;
use crate::k8s::model::{EndpointSlice, SliceEndpoint};
use crate::k8s::resource::Resource;
use crate::k8s::service::{Family, defaults, families};
use crate::k8s::slice::SERVICE_NAME_LABEL;
use crate::types::NamespacedName;

/// Label of slices and Endpoints of a Service without clusterIP: no proxy looks at them.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Label of a slice: the controller that makes it.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Addresses of one Endpoints object, at most (pkg/controller/endpoint).
const ENDPOINTS_CAPACITY: usize = 1000;

impl Store {
    /// What a cluster has before anyone does anything.
    pub(super) fn show_initial(&mut self) {
        for name in metadata::NAMESPACES {
            self.show_namespace(name);
        }
        self.show_this_node();
    }

    /// Shows an object that comes from no client. One that comes out the same stays as it is.
    pub(super) fn show(&mut self, resource: Resource, key: &NamespacedName, owner: Owner, mut object: Value) {
        let old = self.registry.get(resource, key).cloned();
        if old.as_ref().is_some_and(|old| old.owner == Owner::Api && owner != Owner::Api) {
            return;
        }
        let before = old.as_ref().map(|old| old.value());
        metadata::continue_from(resource, &mut object, before.as_ref());
        let same_owner = old.as_ref().is_some_and(|old| old.owner == owner);
        if same_owner && before.as_ref() == Some(&object) {
            return;
        }
        if before.is_some() {
            metadata::count_generation(resource, &mut object);
        }
        self.registry.put(resource, key.clone(), owner, object);
    }

    /// Takes away what [`Store::show`] has shown.
    pub(super) fn hide(&mut self, resource: Resource, key: &NamespacedName) {
        if self.registry.get(resource, key).is_some_and(|old| old.owner != Owner::Api) {
            self.registry.remove(resource, key);
        }
    }

    fn show_namespace(&mut self, name: &str) {
        let key = NamespacedName::new("", name);
        if self.registry.get(Resource::Namespaces, &key).is_none() {
            let object = draft::namespace(json!({"metadata": {"name": name}}));
            self.show(Resource::Namespaces, &key, Owner::Controller, object);
        }
    }

    /// A Node for this machine, unless somebody has given one.
    pub(super) fn show_this_node(&mut self) {
        let key = NamespacedName::new("", Arc::clone(&self.world.node.name));
        if self.shows && !key.name.is_empty() && self.registry.get(Resource::Nodes, &key).is_none() {
            let labels = json!({"kubernetes.io/hostname": &*key.name, "kubernetes.io/os": "linux"});
            let object = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": &*key.name, "labels": labels},
                "spec": {},
                "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "RingportRuns",
                    "message": "ringport runs on this node"}]},
            });
            self.show(Resource::Nodes, &key, Owner::Controller, object);
        }
    }

    /// Brings what is shown of an object into line with the file whose word counts.
    pub(super) fn show_written(&mut self, id: &ObjectId) {
        let resource = resource_of(id.kind);
        if self.objects.is_of_api(id) {
            return;
        }
        let in_force = id.kind != Kind::Service || self.live.contains_key(&id.key);
        let Some(origin) = self.objects.get(id).filter(|_| in_force).map(|written| written.origin.clone())
        else {
            self.hide(resource, &id.key);
            if id.kind == Kind::Node {
                self.show_this_node();
            }
            self.forget_namespace(&id.key.namespace);
            return;
        };
        // It is gone when what is shown was made of it.
        let Some(json) = self.objects.take_json(id) else { return };
        let Ok(object) = serde_json::from_str::<Value>(&json) else { return };
        let mut object = match id.kind {
            Kind::Service => self.service_of_file(&id.key, object),
            Kind::Pod => draft::pod_of_file(object),
            Kind::EndpointSlice | Kind::Node => object,
        };
        if !id.key.namespace.is_empty() {
            self.show_namespace(&id.key.namespace.clone());
        }
        let place = format!("{}:{}", origin.file, origin.line);
        metadata::annotate(&mut object, FILE_ANNOTATION, &place);
        metadata::set(&mut object, "namespace", &id.key.namespace);
        self.show(resource, &id.key, Owner::File(place.into()), object);
    }

    /// With what it was given.
    fn service_of_file(&self, key: &NamespacedName, object: Value) -> Value {
        let (Some(live), Ok(mut service)) =
            (self.live.get(key), serde_json::from_value::<v1::Service>(object.clone()))
        else {
            return object;
        };
        defaults::set(&mut service);
        let spec = service.spec.get_or_insert_default();
        families::set(spec, None, self.primary_family());
        draft::fill(spec, &live.service, live.health_check);
        service.status.get_or_insert_default().load_balancer.get_or_insert_default();
        serde_json::to_value(&service).unwrap_or(object)
    }

    /// A namespace that only objects of files had, and that is neither needed nor anybody's.
    fn forget_namespace(&mut self, namespace: &str) {
        let key = NamespacedName::new("", namespace);
        let made = self.registry.get(Resource::Namespaces, &key).map(|document| document.owner.clone());
        if made == Some(Owner::Controller)
            && !metadata::NAMESPACES.contains(&namespace)
            && self.registry.is_empty(namespace)
        {
            self.registry.remove(Resource::Namespaces, &key);
        }
    }

    /// The family of `--service-cluster-ip-range`.
    pub(super) fn primary_family(&self) -> Family {
        self.addresses.primary_family()
    }

    // === Slices and Endpoints ===

    /// Shows the slices that were made for a Service, and the Endpoints of the same.
    pub(super) fn show_endpoints_of(
        &mut self,
        service: &NamespacedName,
        made: &[Arc<EndpointSlice>],
        mirrored: &[Arc<EndpointSlice>],
    ) {
        if !self.shows {
            return;
        }
        let parent = self.registry.get(Resource::Services, service).cloned();
        let mut shown = self.mirrored_objects(service, mirrored);
        if let (Some(parent), Some(live)) = (&parent, self.live.get(service))
            && !live.service.selector.is_empty()
        {
            let families = live.families();
            let headless = live.service.cluster_ips.is_empty();
            let endpoints = endpoints_object(self, parent, made, families.first().copied(), headless);
            for slice in made {
                let object = slice_object(self, parent, slice, headless);
                shown.push((slice.key.clone(), object));
            }
            for family in families {
                let is_of = |slice: &Arc<EndpointSlice>| family_of(slice) == Some(family);
                if !made.iter().any(is_of) {
                    let key = controller::slice_name(service, &(family, "none"));
                    let object = empty_slice(parent, &key, family, headless);
                    shown.push((key, object));
                }
            }
            self.show(Resource::Endpoints, service, Owner::Controller, endpoints);
        } else {
            self.hide(Resource::Endpoints, service);
        }
        let names: Vec<NamespacedName> = shown.iter().map(|(key, _)| key.clone()).collect();
        let before = match names.is_empty() {
            true => self.shown_slices.remove(service),
            false => self.shown_slices.insert(service.clone(), names.clone()),
        };
        for key in before.into_iter().flatten().filter(|key| !names.contains(key)) {
            self.hide(Resource::EndpointSlices, &key);
        }
        for (key, object) in shown {
            self.show(Resource::EndpointSlices, &key, Owner::Controller, object);
        }
    }
}

fn family_of(slice: &EndpointSlice) -> Option<Family> {
    slice.endpoints.first().map(|endpoint| Family::of(endpoint.address))
}

/// A slice that was made for `parent`, which gives it its labels.
pub(super) fn slice_object(store: &Store, parent: &Document, slice: &EndpointSlice, headless: bool) -> Value {
    let mut object = empty_slice(parent, &slice.key, family_of(slice).unwrap_or(Family::V4), headless);
    let protocols = app_protocols(parent);
    let ports = slice.ports.iter().map(|port| {
        let mut shown = json!({"name": &*port.name, "protocol": port.protocol.as_str(), "port": port.port});
        if let (Some(protocol), Some(shown)) = (protocols.get(&*port.name), shown.as_object_mut()) {
            shown.insert("appProtocol".into(), protocol.as_str().into());
        }
        shown
    });
    let endpoints = slice.endpoints.iter().map(|endpoint| endpoint_object(store, &slice.key, endpoint));
    if let Some(object) = object.as_object_mut() {
        object.insert("ports".into(), ports.collect());
        object.insert("endpoints".into(), endpoints.collect());
    }
    object
}

/// Without Pods there is one slice of each family that says so.
fn empty_slice(parent: &Document, key: &NamespacedName, family: Family, headless: bool) -> Value {
    let mut labels = parent.labels.clone();
    labels.insert(SERVICE_NAME_LABEL.into(), parent.key.name.to_string());
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), "endpointslice-controller.k8s.io".into());
    mark_headless(&mut labels, headless);
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": family.as_str(),
        "metadata": {
            "name": &*key.name,
            "generateName": format!("{}-", parent.key.name),
            "namespace": &*key.namespace,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": &*parent.key.name, "uid": &*parent.uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "endpoints": null,
        "ports": null,
    })
}

fn mark_headless(labels: &mut BTreeMap<String, String>, headless: bool) {
    if headless {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    } else {
        labels.remove(HEADLESS_LABEL);
    }
}

fn endpoint_object(store: &Store, slice: &NamespacedName, endpoint: &SliceEndpoint) -> Value {
    let mut object = json!({
        "addresses": [endpoint.address.to_string()],
        "conditions": {
            "ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating,
        },
    });
    let Some(fields) = object.as_object_mut() else { return object };
    if let Some(node) = &endpoint.node {
        fields.insert("nodeName".into(), (**node).into());
        if let Some(zone) = store.zones.get(node) {
            fields.insert("zone".into(), (**zone).into());
        }
    }
    if let Some(pod) = &endpoint.pod {
        fields.insert("targetRef".into(), target(store, &slice.namespace, pod));
    }
    let named = |names: &[Arc<str>]| names.iter().map(|name| json!({"name": &**name})).collect::<Value>();
    let mut hints = serde_json::Map::new();
    if !endpoint.zone_hints.is_empty() {
        hints.insert("forZones".into(), named(&endpoint.zone_hints));
    }
    if !endpoint.node_hints.is_empty() {
        hints.insert("forNodes".into(), named(&endpoint.node_hints));
    }
    if !hints.is_empty() {
        fields.insert("hints".into(), hints.into());
    }
    object
}

fn target(store: &Store, namespace: &Arc<str>, pod: &Arc<str>) -> Value {
    let key = NamespacedName { namespace: Arc::clone(namespace), name: Arc::clone(pod) };
    let uid = store.registry.get(Resource::Pods, &key).map(|pod| &*pod.uid).unwrap_or_default();
    json!({"kind": "Pod", "namespace": &**namespace, "name": &**pod, "uid": uid})
}

fn app_protocols(parent: &Document) -> BTreeMap<String, String> {
    let mut protocols = BTreeMap::new();
    if parent.json.contains("appProtocol") {
        let service = parent.value();
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        for port in ports.into_iter().flatten() {
            let text = |field| port.get(field).and_then(Value::as_str);
            if let Some(protocol) = text("appProtocol") {
                protocols.insert(text("name").unwrap_or_default().to_owned(), protocol.to_owned());
            }
        }
    }
    protocols
}

/// v1 Endpoints as pkg/controller/endpoint makes them: the first family, without Pods that terminate.
fn endpoints_object(
    store: &Store,
    parent: &Document,
    made: &[Arc<EndpointSlice>],
    family: Option<Family>,
    headless: bool,
) -> Value {
    let mut subsets: BTreeMap<String, (Value, [Vec<&SliceEndpoint>; 2])> = BTreeMap::new();
    for slice in made.iter().filter(|slice| family_of(slice) == family) {
        let ports: Vec<Value> = slice.ports.iter().map(port_object).collect();
        let ports = Value::from(ports);
        let (_, [ready, unready]) =
            subsets.entry(ports.to_string()).or_insert_with(|| (ports, [Vec::new(), Vec::new()]));
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready || !endpoint.terminating) {
            if endpoint.ready { ready.push(endpoint) } else { unready.push(endpoint) }
        }
    }
    let mut left = ENDPOINTS_CAPACITY;
    let mut shown = Vec::new();
    for (ports, lists) in subsets.into_values() {
        let mut subset = json!({"ports": ports});
        for (field, mut endpoints) in ["addresses", "notReadyAddresses"].into_iter().zip(lists) {
            endpoints.sort_by_key(|endpoint| endpoint.address);
            endpoints.truncate(left);
            left -= endpoints.len();
            let addresses: Vec<Value> =
                endpoints.into_iter().map(|endpoint| address_object(store, parent, endpoint)).collect();
            if let (false, Some(subset)) = (addresses.is_empty(), subset.as_object_mut()) {
                subset.insert(field.into(), addresses.into());
            }
        }
        if subset.as_object().is_some_and(|subset| subset.len() > 1) {
            shown.push(subset);
        }
    }
    let mut labels = parent.labels.clone();
    labels.insert("endpoints.kubernetes.io/managed-by".into(), "endpoint-controller".into());
    mark_headless(&mut labels, headless);
    let mut object = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": &*parent.key.name, "namespace": &*parent.key.namespace, "labels": labels},
    });
    if left == 0 {
        metadata::annotate(&mut object, "endpoints.kubernetes.io/over-capacity", "truncated");
    }
    if let (false, Some(object)) = (shown.is_empty(), object.as_object_mut()) {
        object.insert("subsets".into(), shown.into());
    }
    object
}

fn port_object(port: &crate::k8s::model::SlicePort) -> Value {
    let mut object = json!({"port": port.port, "protocol": port.protocol.as_str()});
    if let (false, Some(object)) = (port.name.is_empty(), object.as_object_mut()) {
        object.insert("name".into(), (*port.name).into());
    }
    object
}

fn address_object(store: &Store, parent: &Document, endpoint: &SliceEndpoint) -> Value {
    let mut object = json!({"ip": endpoint.address.to_string()});
    let Some(fields) = object.as_object_mut() else { return object };
    if let Some(node) = &endpoint.node {
        fields.insert("nodeName".into(), (**node).into());
    }
    if let Some(pod) = &endpoint.pod {
        fields.insert("targetRef".into(), target(store, &parent.key.namespace, pod));
    }
    object
}

/// The kind as the API has it.
pub(super) fn resource_of(kind: Kind) -> Resource {
    match kind {
        Kind::Service => Resource::Services,
        Kind::Pod => Resource::Pods,
        Kind::EndpointSlice => Resource::EndpointSlices,
        Kind::Node => Resource::Nodes,
    }
}
