//! Just enough of Rust's grammar to list the paths that a file names. Comments, strings and code that
//! is only compiled for tests are left out.

/// A path such as `crate::route::pick`, with the names that `use` brings in spelt out in full.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

/// What a file says, as far as the rules are concerned.
pub(crate) struct Source {
    /// Paths of two segments and more, those in `use` declarations of one and more. A leading `self` or
    /// `super` is replaced by what it stands for, beginning with `crate`.
    pub(crate) paths: Vec<Named>,
    /// Lines with `unsafe` or `allow(unsafe_code`.
    pub(crate) unsafe_lines: Vec<usize>,
    /// Lines with the word `async`.
    pub(crate) async_lines: Vec<usize>,
    /// Lines that are not compiled for tests only.
    pub(crate) lines: usize,
}

/// Reads a file, given the module it is: `["shard", "relay", "pump"]`.
pub(crate) fn read(module: &[&str], text: &str) -> Source {
    let tokens = tokens(text);
    let (kept, test_lines) = without_tests(&tokens);
    let lines_with = |words: &[&str]| {
        let found =
            kept.windows(words.len()).filter(|tokens| tokens.iter().map(|token| &token.text).eq(words));
        found.map(|tokens| tokens[0].line).collect::<Vec<_>>()
    };
    Source {
        unsafe_lines: [lines_with(&["unsafe"]), lines_with(&["allow", "(", "unsafe_code"])].concat(),
        async_lines: lines_with(&["async"]),
        lines: text.lines().count() - test_lines,
        paths: Walk { tokens: &kept, at: 0, module: module.iter().map(|&m| m.into()).collect() }.paths(),
    }
}

// === tokens ===

#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

/// Identifiers, `::` and single punctuation marks; comments and literals become nothing, `""` or `0`.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let next = chars.get(i + 1).copied().unwrap_or(' ');
        let mut found = None;
        match chars[i] {
            '/' if next == '/' => i = until(&chars, i, |c| c == '\n'),
            '/' if next == '*' => i = block_comment(&chars, i),
            '"' => (i, found) = (string_end(&chars, i + 1), Some("\"\"".into())),
            '\'' => {
                // A lifetime unless the quote is closed after one character or an escape.
                if next == '\\' || chars.get(i + 2) == Some(&'\'') {
                    i = until(&chars, i + if next == '\\' { 3 } else { 2 }, |c| c == '\'') + 1;
                    found = Some("0".into());
                } else {
                    i = until(&chars, i + 1, |c| !is_word(c));
                }
            }
            ':' if next == ':' => (i, found) = (i + 2, Some("::".into())),
            c if is_word(c) => {
                i = until(&chars, i, |c| !is_word(c));
                let word: String = chars[start..i].iter().collect();
                if let Some(end) = literal_end(&word, &chars, i) {
                    (i, found) = (end, Some("\"\"".into()));
                } else {
                    found = Some(word);
                }
            }
            c if c.is_whitespace() => i += 1,
            c => (i, found) = (i + 1, Some(c.to_string())),
        }
        if let Some(text) = found {
            tokens.push(Token { text, line });
        }
        line += chars[start..i.min(chars.len())].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn until(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&i| stop(chars[i])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The end of `b"…"`, `r"…"`, `r#"…"#` and their relatives, of which `prefix` ends at `i`.
fn literal_end(prefix: &str, chars: &[char], i: usize) -> Option<usize> {
    match prefix {
        "b" | "c" if chars.get(i) == Some(&'"') => Some(string_end(chars, i + 1)),
        "r" | "br" | "cr" => {
            let quote = until(chars, i, |c| c != '#');
            let hashes = quote - i;
            (chars.get(quote) == Some(&'"')).then(|| {
                let closes = |&at: &usize| {
                    chars[at] == '"'
                        && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
                };
                (quote + 1..chars.len()).find(closes).map_or(chars.len(), |at| at + 1 + hashes)
            })
        }
        _ => None,
    }
}

// === what is only for tests ===

/// The tokens without the items under `#[cfg(test)]`, and how many lines those items take.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, usize) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut lines, mut i) = (Vec::new(), 0, 0);
    while i < tokens.len() {
        if tokens[i..].len() > MARK.len()
            && MARK.iter().zip(&tokens[i..]).all(|(mark, token)| *mark == token.text)
        {
            let end = item_end(tokens, i + MARK.len());
            lines += tokens[end - 1].line + 1 - tokens[i].line;
            i = end;
        } else {
            kept.push(tokens[i].clone());
            i += 1;
        }
    }
    (kept, lines)
}

/// One past the item that begins at `i`: behind its block, or its semicolon if that comes first.
fn item_end(tokens: &[Token], mut i: usize) -> usize {
    let (mut depth, mut block) = (0, false);
    let is_use = tokens[i].text == "use";
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "{" | "(" | "[" => {
                block |= depth == 0 && tokens[i].text == "{" && !is_use;
                depth += 1;
            }
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
        if block && depth == 0 {
            break;
        }
    }
    i
}

// === paths ===

struct Walk<'a> {
    tokens: &'a [Token],
    at: usize,
    module: Vec<String>,
}

impl Walk<'_> {
    fn paths(mut self) -> Vec<Named> {
        let mut found = Vec::new();
        // The depth of braces at which each inline module ends.
        let (mut depth, mut inline) = (0, Vec::new());
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "use" => {
                    self.at += 1;
                    self.tree(&[], &mut found);
                    continue;
                }
                "mod" if self.text(2) == "{" => {
                    self.module.push(self.text(1).into());
                    inline.push(depth);
                    depth += 1;
                    self.at += 3;
                    continue;
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        self.module.pop();
                    }
                }
                word if is_name(word) => {
                    let line = token.line;
                    let segments = self.path();
                    // A method or a field after a dot is no path.
                    if segments.len() > 1 {
                        found.push(Named { line, segments: self.resolve(segments) });
                    }
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        found
    }

    /// One tree of a `use` declaration: `a::{b, c::*, d as e}`, after `prefix`.
    fn tree(&mut self, prefix: &[String], found: &mut Vec<Named>) {
        if self.text(0) == "::" {
            self.at += 1;
        }
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut full = prefix.to_owned();
        while is_name(self.text(0)) {
            full.push(self.text(0).into());
            self.at += 1;
            if self.text(0) != "::" {
                break;
            }
            self.at += 1;
        }
        match self.text(0) {
            "{" => loop {
                self.at += 1;
                if self.text(0) != "}" {
                    self.tree(&full, found);
                }
                match self.text(0) {
                    "," => {}
                    "}" => {
                        self.at += 1;
                        return;
                    }
                    _ => return,
                }
            },
            "*" => self.at += 1,
            "as" => self.at += 2,
            _ => {}
        }
        if full.last().is_some_and(|last| last == "self") {
            full.pop();
        }
        if !full.is_empty() {
            found.push(Named { line, segments: self.resolve(full) });
        }
    }

    fn path(&mut self) -> Vec<String> {
        let mut segments = Vec::new();
        while is_name(self.text(0)) {
            segments.push(self.text(0).into());
            self.at += 1;
            if self.text(0) != "::" || !is_name(self.text(1)) {
                break;
            }
            self.at += 1;
        }
        segments
    }

    /// Replaces a leading `self` and `super` by the module that is meant.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        let ups = segments.iter().take_while(|segment| *segment == "super" || *segment == "self").count();
        if ups == 0 {
            return segments;
        }
        let supers = segments.iter().take(ups).filter(|segment| *segment == "super").count();
        let base = self.module.len().saturating_sub(supers);
        let mut full = vec!["crate".to_owned()];
        full.extend_from_slice(&self.module[..base]);
        full.extend_from_slice(&segments[ups..]);
        full
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| &token.text)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text != "as"
}
