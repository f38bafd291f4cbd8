//! The `--config` file: a YAML mapping from keys to a value or a list of values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use super::{ConfigError, ROWS, Row};

/// One key of the file.
pub(super) struct Entry {
    pub(super) row: &'static Row,
    /// The line it is on, from one.
    pub(super) line: u64,
    pub(super) values: Vec<String>,
}

/// Reads the file; each key once, each one known.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let nothing = text.lines().all(|line| matches!(line.trim().chars().next(), None | Some('#')));
    if nothing {
        return Ok(Vec::new());
    }
    let mapping: Mapping = serde_yaml::from_str(text).map_err(|e| {
        let place = e.location().map(|l| format!("line {}, column {}: ", l.line(), l.column()));
        // The parser repeats the place and draws the line; one line is enough here.
        let reason = e.without_snippet().to_string();
        ConfigError::File { file: file.to_owned(), reason: place.unwrap_or_default() + first_line(&reason) }
    })?;
    mapping.0.into_iter().map(|(key, values)| entry(file, key, values)).collect()
}

fn entry(file: &str, key: Spanned<String>, values: Values) -> Result<Entry, ConfigError> {
    let line = key.referenced.line();
    let keys = || ROWS.iter().filter(|row| !row.key.is_empty());
    match keys().find(|row| row.key == key.value) {
        Some(row) => Ok(Entry { row, line, values: values.0 }),
        None => Err(ConfigError::UnknownKey {
            file: file.to_owned(),
            line,
            nearest: nearest(&key.value, keys().map(|row| row.key)),
            key: key.value,
        }),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The candidate that a person most likely meant: one that differs only in case, dashes and
/// underscores, or by few letters.
fn nearest(key: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let key = plain(key);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&key, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The mapping, in the order of the file, with the place of each key.
struct Mapping(Vec<(Spanned<String>, Values)>);

/// A scalar, or a list of scalars, as text.
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Mapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Mapping;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of options, as in drainTimeout: 30s")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Mapping, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Mapping(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Values, E> {
                Ok(Values(vec![text.to_owned()]))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }
            fn visit_unit<E: Error>(self) -> Result<Values, E> {
                Ok(Values(vec![String::new()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut all = Vec::new();
                while let Some(Values(one)) = list.next_element()? {
                    all.extend(one);
                }
                Ok(Values(all))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
