//! The kinds of objects that are followed, and what is kept of one.

use std::sync::Arc;

use k8s_openapi::api::{core::v1, discovery};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Kind;
use super::table::Table;
use super::view::View;
use crate::k8s::field::FieldProblem;
use crate::k8s::model::{EndpointSlice, Service};
use crate::k8s::node::{self, LiveNode};
use crate::k8s::{service, slice};
use crate::types::NamespacedName;

/// What is kept of an object.
pub(super) trait Object: Clone + 'static {
    /// The object of the API.
    type Raw: DeserializeOwned;
    const KIND: Kind;

    fn read(raw: &Self::Raw, problems: &mut Vec<FieldProblem>) -> Self;
    /// What is kept of one that cannot be read at all.
    fn broken() -> Self;
    /// Whether nothing about it is different.
    fn same(&self, other: &Self) -> bool;
    /// Where those of its kind are kept.
    fn table(view: &mut View) -> &mut Table<Self>;
    /// The object of this name is not what it was.
    fn changed(view: &mut View, key: &NamespacedName, old: Option<Self>);
}

/// An object as it was read.
pub(super) struct Entry<O> {
    pub(super) key: NamespacedName,
    /// `metadata.resourceVersion`, where it is a number.
    pub(super) version: Option<u64>,
    pub(super) object: O,
    pub(super) problems: Vec<FieldProblem>,
}

impl<O: Object> Entry<O> {
    /// Reads an object; `None` where it has not even a name.
    pub(super) fn read(value: Value) -> Option<Self> {
        let text = |field: &str| value.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
        let key = NamespacedName::new(text("namespace").unwrap_or_default(), text("name")?);
        let version = text("resourceVersion").and_then(number);
        let mut problems = Vec::new();
        let object = match serde_json::from_value::<O::Raw>(value) {
            Ok(raw) => O::read(&raw, &mut problems),
            Err(error) => {
                problems.push(FieldProblem::rejected("", format!("it cannot be read: {error}")));
                O::broken()
            }
        };
        Some(Self { key, version, object, problems })
    }
}

fn uid(of: Option<&str>) -> Arc<str> {
    of.unwrap_or_default().into()
}

/// Resource versions are opaque by contract, and numbers in every API server there is; those that are not
/// are not compared.
pub(super) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// A Service.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceObject {
    /// Unless it is not proxied.
    pub(super) service: Option<Arc<Service>>,
    pub(super) proxy_name: Option<Arc<str>>,
    pub(super) uid: Arc<str>,
}

impl Object for ServiceObject {
    type Raw = v1::Service;
    const KIND: Kind = Kind::Services;

    fn read(raw: &v1::Service, problems: &mut Vec<FieldProblem>) -> Self {
        let live = service::live(raw, problems);
        Self {
            service: live.service.map(Arc::new),
            proxy_name: live.proxy_name,
            uid: uid(raw.metadata.uid.as_deref()),
        }
    }

    fn broken() -> Self {
        Self::default()
    }

    fn same(&self, other: &Self) -> bool {
        self.service == other.service && self.proxy_name == other.proxy_name && self.uid == other.uid
    }

    fn table(view: &mut View) -> &mut Table<Self> {
        &mut view.services
    }

    fn changed(view: &mut View, key: &NamespacedName, _: Option<Self>) {
        view.service_changed(key);
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default)]
pub(super) struct SliceObject {
    /// Unless no proxy looks at it.
    pub(super) slice: Option<Arc<EndpointSlice>>,
    /// When its present content came about, in seconds since 1970.
    pub(super) triggered: Option<f64>,
    pub(super) uid: Arc<str>,
}

impl Object for SliceObject {
    type Raw = discovery::v1::EndpointSlice;
    const KIND: Kind = Kind::EndpointSlices;

    fn read(raw: &discovery::v1::EndpointSlice, problems: &mut Vec<FieldProblem>) -> Self {
        let slice = slice::live(raw, problems);
        Self {
            triggered: slice.as_ref().and_then(|_| slice::triggered(raw)),
            slice: slice.map(Arc::new),
            uid: uid(raw.metadata.uid.as_deref()),
        }
    }

    fn broken() -> Self {
        Self::default()
    }

    fn same(&self, other: &Self) -> bool {
        self.slice == other.slice && self.uid == other.uid
    }

    fn table(view: &mut View) -> &mut Table<Self> {
        &mut view.slices
    }

    fn changed(view: &mut View, key: &NamespacedName, old: Option<Self>) {
        view.slice_changed(key, old.and_then(|old| old.slice));
    }
}

/// A Node.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeObject {
    pub(super) node: Option<Arc<LiveNode>>,
}

impl Object for NodeObject {
    type Raw = v1::Node;
    const KIND: Kind = Kind::Nodes;

    fn read(raw: &v1::Node, _: &mut Vec<FieldProblem>) -> Self {
        Self { node: Some(Arc::new(node::live(raw))) }
    }

    fn broken() -> Self {
        Self::default()
    }

    fn same(&self, other: &Self) -> bool {
        self.node == other.node
    }

    fn table(view: &mut View) -> &mut Table<Self> {
        &mut view.nodes
    }

    fn changed(view: &mut View, key: &NamespacedName, _: Option<Self>) {
        view.node_changed(key);
    }
}
