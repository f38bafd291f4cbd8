//! From the located tree to the types of the Kubernetes schema, with the API server's strictness.
//!
//! A deserializer of our own: it alone knows the place, the path and the Go type at once. It goes on
//! after a value of the wrong type, so that one pass finds every mistake of an object.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::go;
use super::tree::{Entry, Node, Place, Value};
use crate::k8s::field::{FieldProblem, nearest};
use crate::limits::PROBLEMS_PER_OBJECT;

/// What reading an object gives: its typed form, if every value had the right type, and what is wrong.
pub(super) struct Reading<T> {
    pub(super) object: Option<T>,
    pub(super) problems: Vec<(FieldProblem, Place)>,
    /// What Go's decoder would say: it stops at a value that refuses itself, else tells the first wrong type.
    pub(super) refusal: Option<String>,
}

/// Reads one object.
pub(super) fn read<T: DeserializeOwned>(node: &Node) -> Reading<T> {
    read_noting(node, Notes::default())
}

/// Reads one object and leaves out what Go would not write again: texts, lists and maps that are empty.
pub(super) fn read_as_go<T: DeserializeOwned>(node: &Node) -> Reading<T> {
    read_noting(node, Notes { as_go: true, ..Notes::default() })
}

fn read_noting<T: DeserializeOwned>(node: &Node, notes: Notes) -> Reading<T> {
    let at = At { parent: None, step: Step::Root };
    let result = T::deserialize(Reader { node, at: &at, record: "", notes: &notes });
    let (mut problems, mistyped) = (notes.problems.into_inner(), notes.mistyped.into_inner());
    match result {
        Ok(object) => Reading { object: mistyped.is_none().then_some(object), problems, refusal: mistyped },
        Err(Unreadable { message, field, place }) => {
            problems.push((FieldProblem::rejected(field, message.clone()), place));
            Reading { object: None, problems, refusal: Some(message) }
        }
    }
}

#[derive(Default)]
struct Notes {
    problems: RefCell<Vec<(FieldProblem, Place)>>,
    /// The first value of a wrong type.
    mistyped: RefCell<Option<String>>,
    /// Whether empty values count as missing, and the steps into maps are told with dots, as Go does.
    as_go: bool,
}

impl Notes {
    fn note(&self, problem: FieldProblem, place: Place) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_PER_OBJECT {
            problems.push((problem, place));
        }
    }
}

/// Where the reader is: a list that grows along its own stack.
#[derive(Clone, Copy)]
struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Key(&'p str),
    Item(usize),
}

impl At<'_> {
    /// `spec.ports.port`: Go prints neither indices nor the keys of maps.
    fn go_path(&self) -> String {
        let above = self.parent.map(At::go_path).unwrap_or_default();
        match self.step {
            Step::Field(name) if above.is_empty() => name.to_owned(),
            Step::Field(name) => format!("{above}.{name}"),
            _ => above,
        }
    }

    /// `metadata.labels.app`: strict problems of Go.
    fn dotted(&self) -> String {
        let above = self.parent.map(At::dotted).unwrap_or_default();
        match self.step {
            Step::Root => above,
            Step::Field(name) | Step::Key(name) if above.is_empty() => name.to_owned(),
            Step::Field(name) | Step::Key(name) => format!("{above}.{name}"),
            Step::Item(index) => format!("{above}[{index}]"),
        }
    }
}

/// `spec.ports[0].port`
impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let first = self.parent.is_none_or(|parent| matches!(parent.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if first => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Key(key) => write!(f, "[{key}]"),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value that its type refuses by its own rules (a time, a base64 text).
#[derive(Debug)]
struct Unreadable {
    message: String,
    field: String,
    place: Place,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unreadable {}

impl serde::de::Error for Unreadable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), field: String::new(), place: Place::default() }
    }
}

#[derive(Clone, Copy)]
struct Reader<'a, 'p> {
    node: &'a Node,
    at: &'p At<'p>,
    /// The Go struct that holds this field.
    record: &'static str,
    notes: &'a Notes,
}

impl<'a, 'p> Reader<'a, 'p> {
    /// Notes that the value has the wrong type for `V`; the caller goes on with an empty value.
    fn mistyped(&self, go_type: &str) {
        let field = self.at.to_string();
        let found = match &self.node.value {
            Value::Int(number) if go_type.starts_with("int") => format!("number {number}"),
            Value::Float(number) if go_type.starts_with("int") => format!("number {number}"),
            _ => self.node.go_kind().to_owned(),
        };
        let target = match self.record {
            "" => "value".to_owned(),
            record => format!("struct field {record}.{}", self.at.go_path()),
        };
        let message = format!("json: cannot unmarshal {found} into Go {target} of type {go_type}");
        self.notes.mistyped.borrow_mut().get_or_insert_with(|| message.clone());
        let mut problem = FieldProblem::rejected(field, message);
        problem.hint = self.wanted(go_type);
        self.notes.note(problem, self.node.at);
    }

    /// What to write instead.
    fn wanted(&self, go_type: &str) -> Option<String> {
        match (&self.node.value, go_type) {
            (Value::Bool(value), "string") => Some(format!("write it in quotes, \"{value}\"")),
            (Value::Int(value), "string") => Some(format!("write it in quotes, \"{value}\"")),
            (Value::Float(value), "string") => Some(format!("write it in quotes, \"{value}\"")),
            (Value::Text(text), "int32" | "int64") if text.parse::<i64>().is_ok() => {
                Some(format!("write it without quotes, {text}"))
            }
            (Value::Map(_), list) if list.starts_with("[]") => Some("begin each item with \"- \"".into()),
            _ => None,
        }
    }

    /// Whether Go leaves the field away when it writes: an empty text, list or map, zero or false, but not where
    /// its type is a pointer.
    fn is_empty<T>(&self) -> bool {
        let Step::Field(field) = self.at.step else { return false };
        match &self.node.value {
            Value::Text(text) => {
                text.is_empty() && go::type_of::<T>() == "string" && !go::is_pointer(self.record, field)
            }
            Value::List(items) => items.is_empty() && go::type_of::<T>().starts_with("[]"),
            Value::Map(entries) => entries.is_empty() && go::type_of::<T>().starts_with("map["),
            Value::Int(0) | Value::Bool(false) => go::is_plain(self.record, field),
            _ => false,
        }
    }

    fn number<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        bits: u32,
        go_type: &str,
    ) -> Result<V::Value, Unreadable> {
        let limit = 1i128 << (bits - 1);
        match self.node.value {
            Value::Int(number) if (-limit..limit).contains(&number) => {
                visitor.visit_i64(i64::try_from(number).unwrap_or(0))
            }
            Value::Null => visitor.visit_i64(0),
            _ => {
                self.mistyped(go_type);
                visitor.visit_i64(0)
            }
        }
    }

    /// Adds the place to an error of a type's own rules.
    fn placed<T>(self, result: Result<T, Unreadable>) -> Result<T, Unreadable> {
        result.map_err(|mut error| {
            if error.field.is_empty() {
                error.field = self.at.to_string();
                error.place = self.node.at;
            }
            error
        })
    }

    fn entries(self, fields: Option<&'static [&'static str]>, record: &'static str) -> Entries<'a, 'p> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        Entries { reader: self, entries, seen: HashSet::new(), fields, record, current: None }
    }
}

impl<'de, 'a: 'de> Deserializer<'de> for Reader<'a, '_> {
    type Error = Unreadable;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        if go::type_of::<V::Value>() == "v1.IntOrString" && !matches!(self.node.value, Value::Text(_)) {
            return self.number(visitor, 32, "int32");
        }
        let result = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(number) => match i64::try_from(*number) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => visitor.visit_f64(*number as f64),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items { reader: self, items, next: 0 }),
            Value::Map(_) => visitor.visit_map(self.entries(None, self.record)),
        };
        self.placed(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ if self.notes.as_go && self.is_empty::<V::Value>() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Null => visitor.visit_bool(false),
            _ => {
                self.mistyped("bool");
                visitor.visit_bool(false)
            }
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.number(visitor, 32, "int32")
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.number(visitor, 64, "int64")
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let result = match &self.node.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Null => visitor.visit_str(""),
            _ => {
                self.mistyped("string");
                visitor.visit_str("")
            }
        };
        self.placed(result)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let items = match &self.node.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            _ => {
                self.mistyped(&go::type_of::<V::Value>());
                &[]
            }
        };
        visitor.visit_seq(Items { reader: self, items, next: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        if !matches!(self.node.value, Value::Map(_) | Value::Null) {
            self.mistyped(&go::type_of::<V::Value>());
        }
        visitor.visit_map(self.entries(None, self.record))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        if !matches!(self.node.value, Value::Map(_) | Value::Null) {
            self.mistyped(&format!("v1.{name}"));
        }
        let result = visitor.visit_map(self.entries(Some(fields), name));
        self.placed(result)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        visitor.visit_newtype_struct(self)
    }

    /// Only fields that the schema does not have are ignored by its types.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        enum identifier
    }
}

/// The items of a list.
struct Items<'a, 'p> {
    reader: Reader<'a, 'p>,
    items: &'a [Node],
    next: usize,
}

impl<'de, 'a: 'de> SeqAccess<'de> for Items<'a, '_> {
    type Error = Unreadable;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unreadable> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let at = At { parent: Some(self.reader.at), step: Step::Item(self.next) };
        self.next += 1;
        seed.deserialize(Reader { node, at: &at, ..self.reader }).map(Some)
    }
}

/// The entries of a struct (then `fields` are its known fields) or of a map.
struct Entries<'a, 'p> {
    reader: Reader<'a, 'p>,
    entries: &'a [Entry],
    seen: HashSet<&'a str>,
    fields: Option<&'static [&'static str]>,
    record: &'static str,
    current: Option<&'a Entry>,
}

impl<'a> Entries<'a, '_> {
    /// The next entry whose key is known; those that are not, or are there again, are noted. For Go the last
    /// one counts.
    fn next_entry(&mut self) -> Option<&'a Entry> {
        loop {
            let (entry, rest) = self.entries.split_first()?;
            self.entries = rest;
            let at = At { parent: Some(self.reader.at), step: self.step(&entry.key) };
            let notes = self.reader.notes;
            let path = || if notes.as_go { at.dotted() } else { at.to_string() };
            let first = self.seen.insert(&entry.key);
            match self.fields {
                Some(fields) if !fields.contains(&entry.key.as_str()) => {
                    let mut problem = FieldProblem::rejected("", format!("unknown field \"{}\"", path()));
                    problem.hint = nearest(&entry.key, fields).map(|name| format!("did you mean {name}?"));
                    notes.note(problem, entry.key_at);
                }
                _ if !first => {
                    let message = format!("duplicate field \"{}\"", path());
                    notes.note(FieldProblem::rejected("", message), entry.key_at);
                    if notes.as_go {
                        return Some(entry);
                    }
                }
                _ => return Some(entry),
            }
        }
    }

    fn step<'k>(&self, key: &'k str) -> Step<'k> {
        if self.fields.is_some() { Step::Field(key) } else { Step::Key(key) }
    }
}

impl<'de, 'a: 'de> MapAccess<'de> for Entries<'a, '_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unreadable> {
        self.current = self.next_entry();
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Unreadable> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unreadable> {
        let Some(entry) = self.current.take() else {
            return Err(serde::de::Error::custom("a value without a key"));
        };
        let at = At { parent: Some(self.reader.at), step: self.step(&entry.key) };
        let reader = Reader { node: &entry.value, at: &at, record: self.record, notes: self.reader.notes };
        seed.deserialize(reader)
    }
}
