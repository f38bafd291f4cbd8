//! What is wrong with a text that should be JSON, in the words of Go (encoding/json, scanner.go), which users of
//! an API server know and search for.

/// The message about the first character that does not belong; nothing if the text is JSON.
pub(super) fn error(text: &str) -> Option<String> {
    let mut scanner = Scanner { rest: text, inside: Vec::new() };
    loop {
        match scanner.step() {
            Ok(true) => {}
            Ok(false) => return None,
            Err(Some((found, place))) => return Some(format!("invalid character {} {place}", quoted(found))),
            Err(None) => return Some("unexpected end of JSON input".to_owned()),
        }
    }
}

/// The character that does not belong and what was being read; none at the end of the text.
type Wrong = Option<(char, String)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Object,
    List,
}

struct Scanner<'a> {
    rest: &'a str,
    inside: Vec<Inside>,
}

impl Scanner<'_> {
    /// Reads one value, or the opening of a collection, with what follows it; false at the end.
    fn step(&mut self) -> Result<bool, Wrong> {
        match self.next_sign()? {
            '{' => {
                self.inside.push(Inside::Object);
                match self.next_sign()? {
                    '}' => {
                        self.inside.pop();
                    }
                    c => return self.key(c).map(|()| true),
                }
            }
            '[' => {
                if self.rest.trim_start_matches([' ', '\t', '\r', '\n']).starts_with(']') {
                    self.next_sign()?;
                } else {
                    self.inside.push(Inside::List);
                    return Ok(true);
                }
            }
            '"' => self.text()?,
            c @ ('-' | '0'..='9') => self.number(c)?,
            't' => self.literal("true")?,
            'f' => self.literal("false")?,
            'n' => self.literal("null")?,
            c => return Err(Some((c, "looking for beginning of value".into()))),
        }
        self.after_value()
    }

    fn after_value(&mut self) -> Result<bool, Wrong> {
        loop {
            let Some(inside) = self.inside.last().copied() else {
                return match self.next_sign() {
                    Ok(c) => Err(Some((c, "after top-level value".into()))),
                    Err(_) => Ok(false),
                };
            };
            match (self.next_sign()?, inside) {
                (',', Inside::List) => return Ok(true),
                (',', Inside::Object) => {
                    let c = self.next_sign()?;
                    return self.key(c).map(|()| true);
                }
                (']', Inside::List) | ('}', Inside::Object) => {
                    self.inside.pop();
                }
                (c, Inside::List) => return Err(Some((c, "after array element".into()))),
                (c, Inside::Object) => return Err(Some((c, "after object key:value pair".into()))),
            }
        }
    }

    fn key(&mut self, first: char) -> Result<(), Wrong> {
        if first != '"' {
            return Err(Some((first, "looking for beginning of object key string".into())));
        }
        self.text()?;
        match self.next_sign()? {
            ':' => Ok(()),
            c => Err(Some((c, "after object key".into()))),
        }
    }

    /// The rest of a text, after its quote.
    fn text(&mut self) -> Result<(), Wrong> {
        loop {
            match self.next()? {
                '"' => return Ok(()),
                '\\' => match self.next()? {
                    'b' | 'f' | 'n' | 'r' | 't' | '\\' | '/' | '"' => {}
                    'u' => {
                        for _ in 0..4 {
                            let c = self.next()?;
                            if !c.is_ascii_hexdigit() {
                                return Err(Some((c, "in \\u hexadecimal character escape".into())));
                            }
                        }
                    }
                    c => return Err(Some((c, "in string escape code".into()))),
                },
                c if c < ' ' => return Err(Some((c, "in string literal".into()))),
                _ => {}
            }
        }
    }

    /// The rest of a number, after its first character.
    fn number(&mut self, first: char) -> Result<(), Wrong> {
        let mut first = first;
        if first == '-' {
            first = self.next()?;
            if !first.is_ascii_digit() {
                return Err(Some((first, "in numeric literal".into())));
            }
        }
        if first != '0' {
            self.digits();
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            self.digit("after decimal point in numeric literal")?;
        }
        if let Some(rest) = self.rest.strip_prefix(['e', 'E']) {
            self.rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digit(&mut self, place: &str) -> Result<(), Wrong> {
        let c = self.next()?;
        if !c.is_ascii_digit() {
            return Err(Some((c, place.to_owned())));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
    }

    /// The rest of `true`, `false` or `null`, after its first character.
    fn literal(&mut self, word: &str) -> Result<(), Wrong> {
        for expected in word.chars().skip(1) {
            let c = self.next()?;
            if c != expected {
                return Err(Some((c, format!("in literal {word} (expecting '{expected}')"))));
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<char, Wrong> {
        let mut chars = self.rest.chars();
        let c = chars.next().ok_or(None)?;
        self.rest = chars.as_str();
        Ok(c)
    }

    fn next_sign(&mut self) -> Result<char, Wrong> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.next()
    }
}

fn quoted(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        '\n' | '\r' | '\t' | '\\' => format!("'{}'", c.escape_default()),
        // Go looks at bytes.
        c if !c.is_ascii() => {
            let mut bytes = [0; 4];
            let first = c.encode_utf8(&mut bytes).bytes().next().unwrap_or_default();
            format!("'{}'", char::from(first))
        }
        c if c.is_ascii_control() => format!("'\\x{:02x}'", c as u32),
        c => format!("'{c}'"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_of_go() {
        let table = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{bad", "invalid character 'b' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("[01]", "invalid character '1' after array element"),
            ("[-a]", "invalid character 'a' in numeric literal"),
            ("[1.]", "invalid character ']' after decimal point in numeric literal"),
            ("[1e]", "invalid character ']' in exponent of numeric literal"),
            ("[nul]", "invalid character ']' in literal null (expecting 'l')"),
            ("[\"\\x\"]", "invalid character 'x' in string escape code"),
            ("[\"\\u00g0\"]", "invalid character 'g' in \\u hexadecimal character escape"),
            ("[\"a\nb\"]", "invalid character '\\n' in string literal"),
        ];
        for (text, message) in table {
            assert_eq!(error(text).as_deref(), Some(message), "{text:?}");
        }
        for text in ["{}", " [ ] ", "{\"a\": [1, -2.5e+3, true, null, \"\\u00e4\\n\", {}, []]}\n", "0"] {
            assert_eq!(error(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_another_parser_finds(text in "[\\[\\]{}:,\"\\\\aeu0123.+-]{0,12}") {
            let other = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            prop_assert_eq!(error(&text).is_none(), other.is_ok(), "{:?}", other);
        }
    }
}
