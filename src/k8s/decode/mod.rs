//! Manifests: bytes → YAML or JSON → typed, defaulted and validated objects, each with its place.
//!
//! Strict as `kubectl --validate=strict`: unknown and repeated fields are errors that name the field.
//! A bad object does not lose the others of its file; only text that does not parse does.

mod go;
mod gojson;
mod manifest;
mod read;
pub mod request;
mod tree;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::manifest::{Manifest, manifests};
pub use self::tree::Place;
use self::tree::{Node as Tree, Value};
use super::field::{FieldProblem, nearest};
use super::ip::Trust;
use super::meta::DEFAULT_NAMESPACE;
use super::model::{EndpointSlice, Node, Pod};
use super::service::{self, ServiceRequest};
use super::{node, pod, slice};
use crate::problem::{Origin, Problem, Severity};
use crate::types::NamespacedName;

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The objects that may be served, in the order of the file.
    pub objects: Vec<Written>,
    /// Objects that are there but are refused: what is known of them from before stays in force.
    pub refused: Vec<ObjectId>,
    /// Everything to be said about the file.
    pub problems: Vec<Problem>,
    /// Documents and items of lists, whether served or not.
    pub documents: usize,
}

/// An object and where it was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// What it is.
    pub object: Object,
    /// Its first line.
    pub origin: Origin,
    /// The places of the fields that can still be refused when the object meets the others.
    pub places: Vec<(String, Place)>,
    /// All of it as JSON, for whoever shows it; what a proxy has no use for is in here only.
    pub json: Option<Box<str>>,
}

/// A valid object of one of the kinds that matter to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Arc<ServiceRequest>),
    /// A Pod.
    Pod(Arc<Pod>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<Node>),
}

/// The kinds of [`Object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 Service
    Service,
    /// v1 Pod
    Pod,
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlice,
    /// v1 Node
    Node,
}

/// Which object: unique in a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace (empty for a Node) and name.
    pub key: NamespacedName,
}

/// Reads one file. An error is text that is no YAML: then nothing of the file is known.
pub fn decode(file: &Arc<str>, bytes: &[u8], trust: Trust) -> Result<Decoded, Problem> {
    let documents = documents(file, bytes)?;
    let mut reader = FileReader { file, trust, decoded: Decoded::default() };
    for document in &documents {
        reader.read(document, None);
    }
    Ok(reader.decoded)
}

/// The documents of a file as trees.
fn documents(file: &Arc<str>, bytes: &[u8]) -> Result<Vec<Tree>, Problem> {
    let at = |place: Place| Origin { file: Arc::clone(file), line: place.line, column: place.column };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let place = Place { line: u32::try_from(line).unwrap_or(0), column: 0 };
        let problem = Problem::error("the text is not UTF-8");
        Problem { origin: Some(at(place)), hint: Some("save the file as UTF-8".into()), ..problem }
    })?;
    tree::parse(text).map_err(|error| {
        let problem = Problem::error(format!("error parsing: {}", error.message));
        Problem { origin: Some(at(error.at)), ..problem }
    })
}

struct FileReader<'a> {
    file: &'a Arc<str>,
    trust: Trust,
    decoded: Decoded,
}

impl FileReader<'_> {
    /// Reads one document or one item of a list of `default_kind`.
    fn read(&mut self, tree: &Tree, default_kind: Option<(&str, &str)>) {
        let kind = tree.text("kind").or(default_kind.map(|(_, kind)| kind)).unwrap_or_default();
        let version = tree.text("apiVersion").or(default_kind.map(|(version, _)| version));
        let version = version.unwrap_or_default();
        if let (Some(item_kind), Some(Value::List(items))) =
            (kind.strip_suffix("List"), tree.get("items").map(|items| &items.value))
        {
            let item = (!item_kind.is_empty()).then_some((version, item_kind));
            items.iter().for_each(|tree| self.read(tree, item));
            return;
        }
        self.decoded.documents += 1;
        if !matches!(tree.value, Value::Map(_)) || version.is_empty() || kind.is_empty() {
            self.problem(tree, "", untyped(tree, version, kind), tree.at);
            return;
        }
        let trust = self.trust;
        match (version, kind) {
            ("v1", "Service") => self.object(tree, Kind::Service, |object, problems| {
                service::read(object, trust, problems).map(|service| Object::Service(Arc::new(service)))
            }),
            ("v1", "Pod") => self.object(tree, Kind::Pod, |object: v1::Pod, problems| {
                if trust == Trust::File {
                    pod::doubts(&object, problems);
                }
                pod::read(&object, trust, problems).map(|pod| Object::Pod(Arc::new(pod)))
            }),
            ("v1", "Node") => self.object(tree, Kind::Node, |object, problems| {
                node::read(&object, problems).map(|node| Object::Node(Arc::new(node)))
            }),
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.object(tree, Kind::EndpointSlice, |object: discovery::EndpointSlice, problems| {
                    slice::read(&object, trust, problems).map(|slice| Object::EndpointSlice(Arc::new(slice)))
                });
            }
            _ => {
                let name = format!("{kind} {}", key_of(tree, true).name);
                self.problem(tree, name.trim_end(), unserved(version, kind), tree.locate("kind"));
            }
        }
    }

    /// Reads one object of a kind that is served.
    fn object<T: DeserializeOwned + Serialize>(
        &mut self,
        tree: &Tree,
        kind: Kind,
        accept: impl FnOnce(T, &mut Vec<FieldProblem>) -> Option<Object>,
    ) {
        let id = ObjectId { kind, key: key_of(tree, kind != Kind::Node) };
        let name = id.to_string();
        let reading = read::read::<T>(tree);
        let mut refused = !reading.problems.is_empty();
        for (problem, place) in reading.problems {
            self.problem(tree, &name, problem, place);
        }
        let mut found = Vec::new();
        let json = reading.object.as_ref().and_then(|object| serde_json::to_string(object).ok());
        let object = reading.object.and_then(|object| accept(object, &mut found));
        for problem in found {
            refused |= problem.severity == Severity::Error;
            let place = tree.locate(&problem.field);
            self.problem(tree, &name, problem, place);
        }
        match object {
            Some(object) if !refused => {
                let places = places(&object, tree);
                let origin = self.origin(tree.at);
                self.decoded.objects.push(Written { object, origin, places, json: json.map(Into::into) });
            }
            None if !refused => {}
            _ => self.decoded.refused.push(id),
        }
    }

    fn problem(&mut self, tree: &Tree, object: &str, problem: FieldProblem, place: Place) {
        let place = if place == Place::default() { tree.at } else { place };
        self.decoded.problems.push(Problem {
            origin: Some(self.origin(place)),
            object: Some(object.to_owned()).filter(|object| !object.is_empty()),
            ..Problem::from(problem)
        });
    }

    fn origin(&self, place: Place) -> Origin {
        Origin { file: Arc::clone(self.file), line: place.line, column: place.column }
    }
}

/// Namespace and name as they are written, before anything is known to be valid.
fn key_of(tree: &Tree, namespaced: bool) -> NamespacedName {
    let metadata = tree.get("metadata");
    let text = |key| metadata.and_then(|metadata| metadata.text(key)).unwrap_or_default();
    let namespace = match text("namespace") {
        _ if !namespaced => "",
        "" => DEFAULT_NAMESPACE,
        namespace => namespace,
    };
    NamespacedName::new(namespace, text("name"))
}

fn untyped(tree: &Tree, version: &str, kind: &str) -> FieldProblem {
    let message = match (&tree.value, version, kind) {
        (Value::Map(_), "", "") => "apiVersion not set, kind not set",
        (Value::Map(_), "", _) => "apiVersion not set",
        (Value::Map(_), _, _) => "kind not set",
        _ => "the document is not an object",
    };
    FieldProblem::rejected("", message).with_hint("an object begins like apiVersion: v1, kind: Service")
}

/// A kind that ringport has no use for is ignored; one that is misspelt is not.
fn unserved(version: &str, kind: &str) -> FieldProblem {
    const SERVED: [&str; 4] = ["EndpointSlice", "Node", "Pod", "Service"];
    let right = |kind: &str| if kind == "EndpointSlice" { "discovery.k8s.io/v1" } else { "v1" };
    let message = format!("no kind \"{kind}\" is registered for version \"{version}\"");
    if SERVED.contains(&kind) && (!version.contains('/') || version.starts_with("discovery.k8s.io/")) {
        let hint = format!("write apiVersion: {}", right(kind));
        return FieldProblem::rejected("apiVersion", message).with_hint(hint);
    }
    match nearest(kind, &SERVED) {
        Some(meant) if right(meant) == version => {
            FieldProblem::rejected("kind", message).with_hint(format!("did you mean {meant}?"))
        }
        _ => {
            FieldProblem::warning("", format!("{kind} ({version}) is not served by ringport and is ignored"))
        }
    }
}

/// What allocation may refuse.
fn places(object: &Object, tree: &Tree) -> Vec<(String, Place)> {
    let Object::Service(service) = object else { return Vec::new() };
    let ports = (0..service.node_ports.len()).map(|index| format!("spec.ports[{index}].nodePort"));
    let addresses = ["spec.clusterIP", "spec.clusterIPs"].into_iter().filter(|field| {
        tree.get("spec").is_some_and(|spec| spec.get(field.trim_start_matches("spec.")).is_some())
    });
    let fields = addresses.map(str::to_owned).chain(ports);
    fields.map(|field| (field.clone(), tree.locate(&field))).collect()
}

// === impl Written, Object, ObjectId ===

impl Written {
    /// A problem with a field of it, with its place as far as it is known.
    pub fn problem(&self, field: &str, problem: FieldProblem) -> Problem {
        // `spec.clusterIP` may be where `spec.clusterIPs` was meant.
        let place = self.places.iter().find(|(known, _)| known == field || field == format!("{known}s"));
        let mut origin = self.origin.clone();
        if let Some((_, place)) = place {
            (origin.line, origin.column) = (place.line, place.column);
        }
        Problem { origin: Some(origin), object: Some(self.object.id().to_string()), ..Problem::from(problem) }
    }
}

impl Object {
    /// Which object it is.
    pub fn id(&self) -> ObjectId {
        let (kind, key) = match self {
            Self::Service(service) => (Kind::Service, service.service.key.clone()),
            Self::Pod(pod) => (Kind::Pod, pod.key.clone()),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, slice.key.clone()),
            Self::Node(node) => (Kind::Node, NamespacedName::new("", Arc::clone(&node.name))),
        };
        ObjectId { kind, key }
    }
}

/// `Service default/web`
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.key.name.is_empty()) {
            (kind, true) => write!(f, "{kind:?}"),
            (Kind::Node, _) => write!(f, "Node {}", self.key.name),
            (kind, _) => write!(f, "{kind:?} {}", self.key),
        }
    }
}

#[cfg(test)]
mod tests;
