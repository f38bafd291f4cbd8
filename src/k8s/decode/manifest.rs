//! Manifests as they were written, for sending them to an API server: it says what is wrong with them.

use std::fmt::Write as _;
use std::sync::Arc;

use super::tree::{Node, Value};
use super::{Origin, Problem};

/// One object of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `apiVersion`
    pub api_version: String,
    /// `kind`
    pub kind: String,
    /// `metadata.namespace`
    pub namespace: Option<String>,
    /// `metadata.name`
    pub name: Option<String>,
    /// All of it as JSON, with what is there twice.
    pub json: String,
}

/// The objects of a file, those of its Lists among them.
///
/// # Errors
/// The text is neither YAML nor JSON, or something in it is no object.
pub fn manifests(file: &Arc<str>, bytes: &[u8]) -> Result<Vec<Manifest>, Problem> {
    let mut manifests = Vec::new();
    for document in super::documents(file, bytes)? {
        add(file, &document, &mut manifests)?;
    }
    Ok(manifests)
}

fn add(file: &Arc<str>, node: &Node, manifests: &mut Vec<Manifest>) -> Result<(), Problem> {
    let text = |key: &str| node.text(key).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if let (true, Some(Value::List(items))) =
        (kind.ends_with("List"), node.get("items").map(|items| &items.value))
    {
        return items.iter().try_for_each(|item| add(file, item, manifests));
    }
    if api_version.is_empty() || kind.is_empty() {
        let problem = super::untyped(node, &api_version, &kind);
        let origin = Origin { file: Arc::clone(file), line: node.at.line, column: node.at.column };
        return Err(Problem { origin: Some(origin), ..problem.into() });
    }
    let metadata = |key| Some(node.get("metadata")?.text(key)?.to_owned()).filter(|text| !text.is_empty());
    let mut json = String::new();
    write(node, &mut json);
    manifests.push(Manifest {
        api_version,
        kind,
        namespace: metadata("namespace"),
        name: metadata("name"),
        json,
    });
    Ok(())
}

fn write(node: &Node, json: &mut String) {
    // Writing to a String does not fail.
    match &node.value {
        Value::Null => json.push_str("null"),
        Value::Bool(value) => drop(write!(json, "{value}")),
        Value::Int(value) => drop(write!(json, "{value}")),
        Value::Float(value) => match serde_json::Number::from_f64(*value) {
            Some(number) => drop(write!(json, "{number}")),
            None => drop(write!(json, "\"{value}\"")),
        },
        Value::Text(text) => json.push_str(&quoted(text)),
        Value::List(items) => {
            json.push('[');
            for (index, item) in items.iter().enumerate() {
                json.push_str(if index == 0 { "" } else { "," });
                write(item, json);
            }
            json.push(']');
        }
        Value::Map(entries) => {
            json.push('{');
            for (index, entry) in entries.iter().enumerate() {
                let _ = write!(json, "{}{}:", if index == 0 { "" } else { "," }, quoted(&entry.key));
                write(&entry.value, json);
            }
            json.push('}');
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Manifest>, String> {
        manifests(&"web.yml".into(), text.as_bytes()).map_err(|problem| problem.to_string())
    }

    #[test]
    fn objects_are_sent_as_they_were_written() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a}\nspec:\n  type: \"NodePort\"\n  \
                    type: ClusterIP\n  ports: [{port: 80}, {x: 1.5, y: null, z: yes}]\n";
        let [service] = &read(text).unwrap()[..] else { panic!() };
        assert_eq!((service.kind.as_str(), service.name.as_deref()), ("Service", Some("web")));
        assert_eq!(service.namespace.as_deref(), Some("a"));
        assert_eq!(
            service.json,
            "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\",\"namespace\":\"a\"},\
             \"spec\":{\"type\":\"NodePort\",\"type\":\"ClusterIP\",\"ports\":[{\"port\":80},\
             {\"x\":1.5,\"y\":null,\"z\":true}]}}"
        );
    }

    #[test]
    fn lists_are_taken_apart_and_what_is_no_object_is_an_error() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n- {apiVersion: v1, kind: Node}\n";
        let kinds: Vec<String> = read(list).unwrap().into_iter().map(|manifest| manifest.kind).collect();
        assert_eq!(kinds, ["Pod", "Node"]);
        assert!(read("kind: Pod\n").unwrap_err().contains("web.yml:1:1: apiVersion not set"));
        assert!(read("a: [").is_err());
    }
}
