//! Objects in the form that a client takes.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::media::Form;
use super::query::Query;
use crate::k8s::resource::Resource;
use crate::k8s::table;
use crate::store::registry::Document;

/// How objects are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printer {
    pub(super) form: Form,
    include: Include,
    pub(super) pretty: bool,
}

/// What a row of a table carries of its object.
#[derive(Clone, Copy, Debug)]
enum Include {
    None,
    Metadata,
    Object,
}

impl Printer {
    pub(super) fn new(form: Form, query: &Query, pretty: bool) -> Result<Self, Failure> {
        let include = match query.get("includeObject") {
            Some("None") => Include::None,
            None | Some("Metadata") => Include::Metadata,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Failure::bad_request(format!("unrecognized includeObject value: {other:?}")));
            }
        };
        Ok(Self { form, include, pretty })
    }

    /// One object as an answer.
    pub(super) fn object(&self, document: &Document) -> String {
        match self.form {
            Form::Whole if !self.pretty => document.json.as_ref().to_owned(),
            _ => super::reply::print(&self.tree(document, true), self.pretty),
        }
    }

    /// One object as an event of a watch. The columns of a table come with the first one only.
    pub(super) fn event(&self, kind: &str, document: &Document, columns: bool) -> String {
        let object = match self.form {
            Form::Whole => document.json.as_ref().to_owned(),
            _ => self.tree(document, columns).to_string(),
        };
        format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
    }

    fn tree(&self, document: &Document, columns: bool) -> Value {
        match self.form {
            Form::Whole => document.value(),
            Form::Metadata(version) => partial(&document.value(), version),
            Form::Table(version) => {
                let mut table = self.table(document.resource, version, document.version, columns);
                table.insert("rows".to_owned(), json!([self.row(document, version)]));
                table.into()
            }
        }
    }

    /// The bookmark of a version.
    pub(super) fn bookmark(&self, resource: Resource, version: u64, initial_end: bool) -> String {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if initial_end && let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let info = resource.info();
        let object = match self.form {
            Form::Whole => {
                json!({"kind": info.kind, "apiVersion": info.api_version(), "metadata": metadata})
            }
            Form::Metadata(form) => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{form}"), "metadata": metadata})
            }
            Form::Table(form) => json!({
                "kind": "Table", "apiVersion": format!("meta.k8s.io/{form}"), "metadata": metadata,
                "columnDefinitions": [], "rows": [],
            }),
        };
        format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n")
    }

    /// What stands before the objects of a list, between two of them, and after the last one.
    pub(super) fn frame(&self, resource: Resource, version: u64) -> (String, &'static str) {
        let (mut head, items) = match self.form {
            Form::Whole | Form::Metadata(_) => {
                let info = resource.info();
                let (kind, api_version) = match self.form {
                    Form::Metadata(form) => {
                        ("PartialObjectMetadataList".to_owned(), format!("meta.k8s.io/{form}"))
                    }
                    _ => (format!("{}List", info.kind), info.api_version().to_owned()),
                };
                let head = json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": version.to_string()}});
                (head, "items")
            }
            Form::Table(form) => (self.table(resource, form, version, true).into(), "rows"),
        };
        // The empty list is written last, so that the objects go between its brackets.
        if let Some(map) = head.as_object_mut() {
            map.remove(items);
        }
        let mut text = head.to_string();
        text.pop();
        text.push_str(&format!(",\"{items}\":["));
        (text, "]}\n")
    }

    /// One object of a list.
    pub(super) fn item(&self, document: &Document) -> String {
        match self.form {
            Form::Whole => document.json.as_ref().to_owned(),
            Form::Metadata(version) => partial(&document.value(), version).to_string(),
            Form::Table(version) => self.row(document, version).to_string(),
        }
    }

    fn table(&self, resource: Resource, form: &str, version: u64, columns: bool) -> Map<String, Value> {
        let definitions: Vec<Value> =
            if columns { table::columns(resource).iter().map(column).collect() } else { Vec::new() };
        let mut map = Map::new();
        map.insert("kind".to_owned(), "Table".into());
        map.insert("apiVersion".to_owned(), format!("meta.k8s.io/{form}").into());
        map.insert("metadata".to_owned(), json!({"resourceVersion": version.to_string()}));
        map.insert("columnDefinitions".to_owned(), definitions.into());
        map.insert("rows".to_owned(), json!([]));
        map
    }

    fn row(&self, document: &Document, version: &str) -> Value {
        let object = document.value();
        let cells = table::row(&object, document.resource, seconds_since_1970());
        let mut row = Map::new();
        row.insert("cells".to_owned(), cells.into());
        row.extend(table::conditions(&object, document.resource).map(|all| ("conditions".to_owned(), all)));
        match self.include {
            Include::None => None,
            Include::Metadata => row.insert("object".to_owned(), partial(&object, version)),
            Include::Object => row.insert("object".to_owned(), object),
        };
        row.into()
    }
}

fn column(column: &table::Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format, "description": "",
        "priority": column.priority,
    })
}

fn partial(object: &Value, version: &str) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
}

pub(super) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
