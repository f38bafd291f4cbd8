//! YAML as kubectl writes it (sigs.k8s.io/yaml): lists not indented, strings quoted only where they would be read as
//! something else.

use serde_json::Value;

/// An object, with a line end.
pub(super) fn write(object: &Value) -> String {
    let mut text = String::new();
    block(&mut text, object, 0);
    text
}

/// A value from where the line stands, whose further lines are indented so far.
fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    pad(text, indent);
                }
                text.push_str(&string(key));
                text.push(':');
                match value {
                    Value::Object(fields) if !fields.is_empty() => {
                        text.push('\n');
                        pad(text, indent + 2);
                        block(text, value, indent + 2);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        text.push('\n');
                        pad(text, indent);
                        block(text, value, indent);
                    }
                    _ => {
                        text.push(' ');
                        scalar(text, value, indent + 2);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    pad(text, indent);
                }
                text.push_str("- ");
                block(text, item, indent + 2);
            }
        }
        _ => scalar(text, value, indent),
    }
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// What fits on a line, and texts of several.
fn scalar(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(said) if is_literal(said) => literal(text, said, indent),
        Value::String(said) => text.push_str(&(string(said) + "\n")),
        Value::Array(_) => text.push_str("[]\n"),
        other => text.push_str(&format!("{other}\n")),
    }
}

fn is_literal(said: &str) -> bool {
    said.contains('\n') && !said.contains(" \n") && !said.ends_with(' ') && !said.chars().any(is_special)
}

fn literal(text: &mut String, said: &str, indent: usize) {
    let hint = if said.starts_with([' ', '\n']) { "2" } else { "" };
    let chomp = match said.strip_suffix('\n') {
        None => "-",
        Some(rest) if rest.is_empty() || rest.ends_with('\n') => "+",
        Some(_) => "",
    };
    text.push_str(&format!("|{hint}{chomp}\n"));
    for line in said.strip_suffix('\n').unwrap_or(said).split('\n') {
        if !line.is_empty() {
            pad(text, indent);
        }
        text.push_str(line);
        text.push('\n');
    }
}

/// What cannot stand in a text as it is.
fn is_special(letter: char) -> bool {
    letter.is_control() && letter != '\n' || matches!(letter, '\u{feff}' | '\u{2028}' | '\u{2029}')
}

/// A text on one line.
fn string(said: &str) -> String {
    if said.contains('\n') || said.chars().any(is_special) || is_something_else(said) {
        // JSON is YAML.
        return Value::from(said).to_string();
    }
    if is_plain(said) { said.to_owned() } else { format!("'{}'", said.replace('\'', "''")) }
}

fn is_plain(said: &str) -> bool {
    let indicators = ['#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`'];
    let starts = said.starts_with(indicators)
        || said.starts_with("---")
        || said.starts_with("...")
        || said.starts_with("- ")
        || said.starts_with("? ")
        || matches!(said, "-" | "?");
    let separates = said.contains(": ") || said.ends_with(':') || said.contains(" #");
    !starts && !separates && !said.starts_with(' ') && !said.ends_with(' ')
}

/// Would be read as null, a truth value, a number or a time.
fn is_something_else(said: &str) -> bool {
    const WORDS: [&str; 12] = ["", "~", "null", "true", "false", "yes", "no", "y", "n", "on", "off", "<<"];
    let lower = said.to_lowercase();
    let capital = said.chars().skip(1).all(|letter| !letter.is_uppercase());
    if WORDS.contains(&&*lower) && (capital || said.to_uppercase() == said) {
        return true;
    }
    let number = lower.trim_start_matches(['-', '+']);
    if matches!(number, ".inf") || lower == ".nan" {
        return true;
    }
    if !number.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
        return false;
    }
    let radix = |prefix: &str, radix| {
        let digits = number.strip_prefix(prefix).filter(|digits| !digits.is_empty());
        digits.is_some_and(|digits| digits.chars().all(|letter| letter == '_' || letter.is_digit(radix)))
    };
    let plain = number.replace('_', "");
    plain.parse::<f64>().is_ok()
        || radix("0x", 16)
        || radix("0o", 8)
        || radix("0b", 2)
        || is_base_60(number)
        || is_time(said)
}

/// `1:30`, which was once a number.
fn is_base_60(number: &str) -> bool {
    let mut parts = number.split(':');
    let digits = |part: &str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_digit());
    let first = parts.next().is_some_and(digits);
    let rest: Vec<&str> = parts.collect();
    first
        && !rest.is_empty()
        && rest.iter().all(|part| digits(part) && part.parse::<u8>().is_ok_and(|n| n < 60))
}

/// `2026-11-22` and what begins so.
fn is_time(said: &str) -> bool {
    let day = said.split(['T', 't', ' ']).next().unwrap_or_default();
    let mut parts = day.split('-');
    let year = parts.next().is_some_and(|year| year.len() == 4);
    year && day.parse::<jiff::civil::Date>().is_ok()
        && (day == said || said.parse::<jiff::Timestamp>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_kubectl_quotes_them() {
        for (said, written) in [
            ("10.96.0.1", "10.96.0.1"),
            ("80:30081/TCP", "80:30081/TCP"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("No", "\"No\""),
            ("nO", "nO"),
            ("12", "\"12\""),
            ("1e3", "\"1e3\""),
            ("0x1f", "\"0x1f\""),
            ("1:30", "\"1:30\""),
            ("2026-11-22T20:00:00Z", "\"2026-11-22T20:00:00Z\""),
            ("2024-01-01", "\"2024-01-01\""),
            ("a: b", "'a: b'"),
            ("*x", "'*x'"),
            (" x", "' x'"),
            ("it's", "it's"),
            ("'a'", "'''a'''"),
            ("-x", "-x"),
            ("a\tb", "\"a\\tb\""),
        ] {
            assert_eq!(string(said), written, "{said:?}");
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let object = serde_json::json!({
            "a": {"b": [], "c": {}, "d": null, "e": [1, "1", [true, "x"], {"k": "v", "l": [2]}]},
            "lines": "one\ntwo\n", "open": "one\ntwo", "more": "one\n\n", "odd": " one\ntwo", "tail": "one \ntwo",
            "n": 1.5, "s": "#x", "t": "x #y", "u": "x#y", "v": "- x", "w": "é", "x": "\u{7}", "y": "1_000",
        });
        let text = write(&object);
        let read: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(read, object, "{text}");
    }
}
