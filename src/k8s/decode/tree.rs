//! YAML or JSON text as a tree that knows where each of its parts was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::DuplicateKeyPolicy;
use serde_yaml::{Location, Spanned};

use crate::limits::{MANIFEST_ALIASED, MANIFEST_DEPTH, MANIFEST_DOCUMENTS, MANIFEST_NODES};

/// Line and column, from one; zero where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The value.
    pub(super) value: Value,
    /// Its first character.
    pub(super) at: Place,
}

/// A value as JSON knows it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `null`, `~`, or nothing at all.
    Null,
    /// `true`, and with YAML 1.1, which Kubernetes reads, also `yes` and `on`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the text; a key may be there twice.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Its first character.
    pub(super) key_at: Place,
    /// The value.
    pub(super) value: Node,
}

/// Why a text is neither YAML nor JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The parser's words.
    pub(super) message: String,
    /// Where it stopped.
    pub(super) at: Place,
}

/// The documents of `text`, without the empty ones.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let yaml = serde_yaml::from_multiple_with_options::<Node>(text, options());
    yaml.or_else(|error| {
        // Several JSON objects one after the other, or surrogate pairs, are JSON and not YAML.
        let json = text.trim_start().starts_with('{').then(|| parse_json(text)).flatten();
        json.ok_or_else(|| syntax_error(&error))
    })
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        // Repeated keys are reported by path, with the object they are in.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_yaml::budget! {
            max_depth: MANIFEST_DEPTH,
            flow_nesting_limit: MANIFEST_DEPTH,
            max_nodes: MANIFEST_NODES,
            max_events: MANIFEST_NODES * 2,
            max_documents: MANIFEST_DOCUMENTS,
            max_recorded_anchor_events: MANIFEST_ALIASED,
        },
    }
}

fn parse_json(text: &str) -> Option<Vec<Node>> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Unplaced>();
    values.map(|value| value.map(|Unplaced(node)| node)).collect::<Result<_, _>>().ok()
}

/// One JSON value, without places. The error is the parser's.
pub(super) fn parse_json_one(text: &str) -> Result<Node, String> {
    let Unplaced(node) = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(node)
}

fn syntax_error(error: &serde_yaml::Error) -> SyntaxError {
    let at = error.location().map(Place::from).unwrap_or_default();
    let text = error.without_snippet().to_string();
    // The place is printed in front of the message, not in it.
    let end = text.find(" at line ").or_else(|| text.find("; line ")).unwrap_or(text.len());
    let message = text.get(..end).unwrap_or(&text).lines().next().unwrap_or_default();
    SyntaxError { message: message.to_owned(), at }
}

// === impl Node ===

impl Node {
    /// The value of a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The text of a key of a mapping.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is in messages of Go's JSON decoder.
    pub(super) fn go_kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Float(_) => "number",
            Value::Text(_) => "string",
            Value::List(_) => "array",
            Value::Map(_) => "object",
        }
    }

    /// Where the field `path` (`spec.ports[0].nodePort`, `metadata.annotations[a.b/c]`) is written, or
    /// the nearest thing around it that is.
    pub(super) fn locate(&self, path: &str) -> Place {
        let (mut node, mut place) = (self, self.at);
        for step in steps(path) {
            match &node.value {
                Value::Map(entries) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == step) else { break };
                    node = &entry.value;
                    place = if node.is_collection() { entry.key_at } else { node.at };
                }
                Value::List(items) => {
                    let Some(item) = step.parse().ok().and_then(|i: usize| items.get(i)) else { break };
                    node = item;
                    place = node.at;
                }
                _ => break,
            }
        }
        place
    }

    fn is_collection(&self) -> bool {
        matches!(self.value, Value::List(_) | Value::Map(_))
    }
}

/// The steps of a field path: names between dots, and whatever is between brackets.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        let (step, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        rest = after;
        Some(step)
    })
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(0);
        Self { line: small(location.line()), column: small(location.column()) }
    }
}

// === Deserialize ===

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value, at: referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor::<true>)
    }
}

/// A node from a parser that knows no places.
struct Unplaced(Node);

impl<'de> Deserialize<'de> for Unplaced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(ValueVisitor::<false>)?;
        Ok(Self(Node { value, at: Place::default() }))
    }
}

struct ValueVisitor<const PLACED: bool>;

impl<'de, const PLACED: bool> Visitor<'de> for ValueVisitor<PLACED> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.is_finite() { Ok(Value::Float(value)) } else { Err(E::custom("a number has to be finite")) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        if PLACED {
            while let Some(item) = items.next_element()? {
                list.push(item);
            }
        } else {
            while let Some(Unplaced(item)) = items.next_element()? {
                list.push(item);
            }
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        if PLACED {
            while let Some(key) = entries.next_key::<Spanned<String>>()? {
                let value = entries.next_value()?;
                map.push(Entry { key: key.value, key_at: key.referenced.into(), value });
            }
        } else {
            while let Some((key, Unplaced(value))) = entries.next_entry()? {
                map.push(Entry { key, key_at: Place::default(), value });
            }
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    fn place(line: u32, column: u32) -> Place {
        Place { line, column }
    }

    #[test]
    fn every_part_knows_its_line_and_column() {
        let node =
            one("kind: Service\nspec:\n  ports:\n    # the pod's\n    - port: 80\n      nodePort: 30008\n");
        assert_eq!(node.locate("kind"), place(1, 7));
        assert_eq!(node.locate("spec"), place(2, 1));
        assert_eq!(node.locate("spec.ports[0]"), place(5, 7));
        assert_eq!(node.locate("spec.ports[0].nodePort"), place(6, 17));
        assert_eq!(node.locate("spec.ports[0].name"), place(5, 7), "the nearest thing around it");
        assert_eq!(node.locate("spec.ports[7].name"), place(3, 3));
        assert_eq!(node.locate("status.x"), place(1, 1));
    }

    #[test]
    fn keys_with_dots_are_found_between_brackets() {
        let node = one("metadata:\n  annotations:\n    ringport.io/algorithm: x\n");
        assert_eq!(node.locate("metadata.annotations[ringport.io/algorithm]"), place(3, 28));
    }

    #[test]
    fn scalars_as_kubernetes_reads_them() {
        let table = [
            ("yes", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("True", Value::Bool(true)),
            ("\"true\"", Value::Text("true".into())),
            ("~", Value::Null),
            ("", Value::Null),
            ("80", Value::Int(80)),
            ("-1", Value::Int(-1)),
            ("0o17", Value::Int(15)),
            ("010", Value::Int(8)),
            ("0x10", Value::Int(16)),
            ("1.5", Value::Float(1.5)),
            ("1.2.3.110", Value::Text("1.2.3.110".into())),
            ("10.0.0.0/8", Value::Text("10.0.0.0/8".into())),
            ("2026-01-02T03:04:05Z", Value::Text("2026-01-02T03:04:05Z".into())),
            ("!!str 80", Value::Text("80".into())),
        ];
        for (text, value) in table {
            assert_eq!(one(&format!("a: {text}\n")).get("a").unwrap().value, value, "{text}");
        }
    }

    #[test]
    fn empty_documents_do_not_count() {
        for text in ["", "\n", "---\n", "# nothing\n", "---\n---\n# nothing\n", "null\n", "\u{feff}"] {
            assert_eq!(parse(text), Ok(vec![]), "{text:?}");
        }
        assert_eq!(parse("a: 1\n---\n---\nb: 2\n...\n").unwrap().len(), 2);
    }

    #[test]
    fn aliases_and_merge_keys_are_expanded() {
        let node = one("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2\n");
        assert_eq!(node.get("c").unwrap().get("b").unwrap().value, Value::Int(1));
        assert_eq!(node.get("d").unwrap().get("b").unwrap().value, Value::Int(1));
        assert_eq!(node.get("d").unwrap().get("e").unwrap().value, Value::Int(2));
    }

    #[test]
    fn json_is_read_too_and_so_is_a_stream_of_it() {
        let node = one("{\n\t\"kind\": \"Service\",\n\t\"n\": [1, 2.5, null, true]\n}");
        assert_eq!(node.text("kind"), Some("Service"));
        assert_eq!(parse("{\"a\":1}{\"b\":\"\\ud83d\\ude00\"}").unwrap().len(), 2);
    }

    #[test]
    fn syntax_errors_have_a_place() {
        for (text, at) in
            [("a: 1\nb: [1\nc: 2\n", 3), ("a: 1\n b: 2\n", 2), ("a:\n\t- b\n", 2), ("a: 'x\n", 1)]
        {
            let error = parse(text).unwrap_err();
            assert!(error.at.line >= 1 && error.at.line <= at + 1, "{text:?} {error:?}");
            assert!(!error.message.is_empty() && !error.message.contains(" line "), "{error:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..10 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        let bombs = [
            laughs,
            "[".repeat(10_000),
            "{\"a\":".repeat(10_000),
            "- ".repeat(10_000),
            "a: &a [*a]\n".to_owned(),
            "a: *nowhere\n".to_owned(),
        ];
        for bomb in bombs {
            assert!(parse(&bomb).is_err(), "{:?}", bomb.get(..40));
        }
    }
}
