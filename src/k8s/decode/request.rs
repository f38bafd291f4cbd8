//! The body of a request, or the outcome of a patch, as the API server reads it: strict problems are collected,
//! a value of the wrong type refuses it (apiserver pkg/endpoints/handlers, sigs.k8s.io/json).

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::tree::{self, Entry, Node, Place, Value};
use super::{gojson, read};
use crate::k8s::resource::{RESOURCES, Resource};
use crate::limits::STRICT_PROBLEMS;

/// An object of the right types.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// All that the schema knows of it, with `kind` and `apiVersion`; what is null or, as Go sees it, empty is
    /// not there.
    pub object: Json,
    /// `unknown field "spec.foo"`, `duplicate field "spec.type"`: an error, a warning or nothing, as
    /// `fieldValidation=` says.
    pub strict: Vec<String>,
}

/// The message of a 400 BadRequest, in full.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// A document that is no object of a kind yet: a patch, or options.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The document.
    pub value: Json,
    /// `duplicate field "spec.type"`
    pub strict: Vec<String>,
}

impl Request {
    /// The message of the 400 for `fieldValidation=Strict`.
    pub fn refusal(&self, resource: Resource) -> Option<Unreadable> {
        let all = self.strict.join(", ");
        (!all.is_empty()).then(|| unhandled(resource, None, &format!("strict decoding error: {all}")))
    }
}

/// Reads a body: JSON, or YAML of one object.
pub fn read(resource: Resource, body: &[u8]) -> Result<Request, Unreadable> {
    let tree = parse(body).map_err(|message| unrecognized(resource, body, &message))?;
    typed(resource, &tree, body)
}

/// Reads what a patch has made of an object.
pub fn check(resource: Resource, object: Json) -> Result<Request, Unreadable> {
    typed(resource, &plant(object), &[])
}

/// Reads a document of no kind; the error is the API server's text about what is wrong with it.
pub fn body(bytes: &[u8]) -> Result<Body, String> {
    let tree = parse(bytes)?;
    let mut strict = Vec::new();
    let value = harvest(&tree, &mut String::new(), &mut strict);
    strict.truncate(STRICT_PROBLEMS);
    Ok(Body { value, strict })
}

// === text to tree ===

fn parse(body: &[u8]) -> Result<Node, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the text is not UTF-8".to_owned())?;
    if is_json(text) {
        return tree::parse_json_one(text).map_err(|error| gojson::error(text).unwrap_or(error));
    }
    let mut documents =
        tree::parse(text).map_err(|error| format!("error converting YAML to JSON: {}", error.message))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(node), true) => Ok(node),
        (None, _) => Ok(Node { value: Value::Null, at: Place::default() }),
        (Some(_), false) => Err("the body holds several documents, write one".to_owned()),
    }
}

/// YAML in flow style begins with a brace too, but its keys need no quotes.
fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    let inner = text.strip_prefix('{').map(str::trim_start);
    text.starts_with('[') || inner.is_some_and(|inner| inner.is_empty() || inner.starts_with(['"', '}']))
}

/// A tree without places.
fn plant(value: Json) -> Node {
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i128() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(plant).collect()),
        Json::Object(entries) => {
            let entry = |(key, value)| Entry { key, key_at: Place::default(), value: plant(value) };
            Value::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { value, at: Place::default() }
}

/// The tree as JSON; of keys that are there twice the last one counts, as in Go.
fn harvest(node: &Node, path: &mut String, strict: &mut Vec<String>) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => (*number as f64).into(),
        },
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            let end = path.len();
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                list.push(harvest(item, path, strict));
                path.truncate(end);
            }
            Json::Array(list)
        }
        Value::Map(entries) => {
            let mut map = Map::new();
            let end = path.len();
            for entry in entries {
                path.push_str(if end == 0 { "" } else { "." });
                path.push_str(&entry.key);
                if map.contains_key(&entry.key) {
                    strict.push(format!("duplicate field \"{path}\""));
                }
                let value = harvest(&entry.value, path, strict);
                path.truncate(end);
                map.insert(entry.key.clone(), value);
            }
            Json::Object(map)
        }
    }
}

// === tree to object ===

fn typed(resource: Resource, tree: &Node, body: &[u8]) -> Result<Request, Unreadable> {
    let interpreted = |key: &str| match tree.get(key).map(|node| &node.value) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::Text(text)) => Ok(text.as_str()),
        Some(_) => {
            let found = tree.get(key).map_or("null", Node::go_kind);
            Err(format!("json: cannot unmarshal {found} into Go struct field .{key} of type string"))
        }
    };
    let whole = |message: String| {
        let message = format!("couldn't get version/kind; json parse error: {message}");
        unrecognized(resource, body, &message)
    };
    if !matches!(tree.value, Value::Map(_) | Value::Null) {
        let target = "value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
                      Kind string \"json:\\\"kind,omitempty\\\"\" }";
        return Err(whole(format!("json: cannot unmarshal {} into Go {target}", tree.go_kind())));
    }
    let info = resource.info();
    let version = interpreted("apiVersion").map_err(whole)?;
    let kind = interpreted("kind").map_err(whole)?;
    let version = if version.is_empty() { info.api_version() } else { version };
    let kind = if kind.is_empty() { info.kind } else { kind };
    if (version, kind) != (info.api_version(), info.kind) {
        return Err(unhandled(resource, Some((version, kind)), &mismatch(resource, version, kind)));
    }
    match resource {
        Resource::Services => object::<v1::Service>(resource, tree),
        Resource::Pods => object::<v1::Pod>(resource, tree),
        Resource::Nodes => object::<v1::Node>(resource, tree),
        Resource::Namespaces => object::<v1::Namespace>(resource, tree),
        Resource::Endpoints => object::<v1::Endpoints>(resource, tree),
        Resource::Events => object::<v1::Event>(resource, tree),
        Resource::EndpointSlices => object::<discovery::EndpointSlice>(resource, tree),
    }
}

fn object<T: DeserializeOwned + Serialize>(resource: Resource, tree: &Node) -> Result<Request, Unreadable> {
    let reading = read::read_as_go::<T>(tree);
    if let Some(refusal) = reading.refusal {
        return Err(unhandled(resource, None, &refusal));
    }
    let object = reading.object.map(serde_json::to_value);
    let Some(Ok(object)) = object else {
        return Err(unhandled(resource, None, "it has no form as JSON"));
    };
    let mut strict: Vec<String> = Vec::new();
    for (problem, _) in reading.problems {
        if !strict.contains(&problem.message) && strict.len() < STRICT_PROBLEMS {
            strict.push(problem.message);
        }
    }
    Ok(Request { object, strict })
}

// === messages ===

fn unhandled(resource: Resource, given: Option<(&str, &str)>, message: &str) -> Unreadable {
    let info = resource.info();
    let (version, kind) = given.unwrap_or((info.api_version(), info.kind));
    let version = version.rsplit('/').next().unwrap_or(version);
    Unreadable(format!("{kind} in version {version:?} cannot be handled as a {}: {message}", info.kind))
}

fn mismatch(resource: Resource, version: &str, kind: &str) -> String {
    // What an API server converts between: its own types of each group.
    let internal = |group: &str| if group.is_empty() { "core".to_owned() } else { package(group) };
    let known = RESOURCES.iter().any(|info| (info.api_version(), info.kind) == (version, kind));
    if known {
        let target = resource.info();
        return format!(
            "converting (v1.{kind}) to ({}.{}): unknown conversion",
            internal(target.group),
            target.kind
        );
    }
    format!("no kind {kind:?} is registered for version {version:?} in scheme \"{SCHEME}\"")
}

/// As the API server names its table of types.
const SCHEME: &str = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30";

fn package(group: &str) -> String {
    group.split('.').next().unwrap_or(group).to_owned()
}

fn unrecognized(resource: Resource, body: &[u8], message: &str) -> Unreadable {
    let kind = resource.info().kind;
    let message = match message.starts_with("couldn't get") || message.starts_with("error converting") {
        true => message.to_owned(),
        false => format!("couldn't get version/kind; json parse error: {message}"),
    };
    let shown = summary(body);
    Unreadable(format!("the object provided is unrecognized (must be of type {kind}): {message} ({shown})"))
}

/// The beginning of a body, in hexadecimal unless it looks like JSON.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let start = body.get(..SHOWN).unwrap_or(body);
    let text = if start.starts_with(b"{") {
        String::from_utf8_lossy(start).into_owned()
    } else {
        start.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    if body.len() > SHOWN { text + " ..." } else { text }
}

#[cfg(test)]
mod tests;
