//! Field selectors: `metadata.name=web,spec.type!=ClusterIP`. Each kind has its own short list of fields.

use serde_json::Value;

use super::SelectorError;
use crate::k8s::resource::Resource;

/// What some fields of an object have to be; the default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// One of the fields of its kind.
    field: &'static str,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads a selector for objects of a kind; the empty text selects everything.
    pub fn parse(resource: Resource, text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split(text).filter(|part| !part.is_empty()) {
            let (field, equal, value) = term(part).ok_or_else(|| {
                SelectorError::new(format!("invalid selector: '{text}'; can't understand '{part}'"))
            })?;
            let value = unescape(value)?;
            let field = known(resource, field).ok_or_else(|| unknown(resource, field))?;
            terms.push(Term { field, equal, value });
        }
        Ok(Self { terms })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether this object is selected. A field that is not there counts as empty.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| (text_of(object, term.field) == term.value) == term.equal)
    }

    /// The value that a field must have, if only one will do: `metadata.name` of a watch on one object.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

/// The fields of a kind (kubernetes pkg/apis/core/v1/conversion.go and the strategies of the registry).
fn fields(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Services => &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"],
        Resource::Pods => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        Resource::Nodes => &["metadata.name", "spec.unschedulable"],
        Resource::Namespaces => &["metadata.name", "status.phase"],
        Resource::Events => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
            "metadata.namespace",
            "metadata.name",
        ],
        Resource::Endpoints | Resource::EndpointSlices => &["metadata.name", "metadata.namespace"],
    }
}

fn known(resource: Resource, field: &str) -> Option<&'static str> {
    // The name that it had in old clients.
    let field = if resource == Resource::Pods && field == "spec.host" { "spec.nodeName" } else { field };
    fields(resource).iter().find(|known| **known == field).copied()
}

fn unknown(resource: Resource, field: &str) -> SelectorError {
    SelectorError::new(match resource {
        Resource::Endpoints | Resource::EndpointSlices => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    })
}

/// The parts between commas that no backslash precedes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let ends = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
}

/// Field, whether it is to be equal, and the value as it is written.
fn term(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.find("!=").into_iter().chain(part.find('=')).min()?;
    let (field, rest) = part.split_at(at);
    ["!=", "==", "="]
        .into_iter()
        .find_map(|sign| rest.strip_prefix(sign).map(|value| (field, sign != "!=", value)))
}

/// `\,`, `\=` and `\\` stand for the sign itself.
fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => escaped,
                other => {
                    let sequence: String = [Some('\\'), other].into_iter().flatten().collect();
                    let message = format!("invalid field selector: invalid escape sequence: {sequence}");
                    return Err(SelectorError::new(message));
                }
            },
            ',' | '=' => {
                let message = format!("invalid field selector: unescaped character in value: {}", c as u32);
                return Err(SelectorError::new(message));
            }
            c => c,
        });
    }
    Ok(text)
}

fn text_of(object: &Value, field: &str) -> String {
    let at = |path: &str| path.split('.').try_fold(object, |value, step| value.get(step));
    let found = match field {
        "status.podIP" => at("status.podIPs").and_then(|ips| ips.get(0)?.get("ip")).or_else(|| at(field)),
        "status.podIPs" => {
            let ips = at(field).and_then(Value::as_array).into_iter().flatten();
            return ips.filter_map(|ip| ip.get("ip")?.as_str()).collect::<Vec<_>>().join(",");
        }
        "source" => match at("source.component") {
            Some(Value::String(component)) if !component.is_empty() => return component.clone(),
            _ => at("reportingComponent"),
        },
        "spec.unschedulable" | "spec.hostNetwork" => {
            return at(field).and_then(Value::as_bool).unwrap_or_default().to_string();
        }
        field => at(field),
    };
    match found {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(value) => value.to_string(),
    }
}
