//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.

use std::collections::{BTreeMap, BTreeSet};

use super::SelectorError;
use crate::k8s::names::{self, Broken};

/// What the labels of an object have to be; the default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Reads a selector; the empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: scan(text), next: 0 };
        let mut requirements = parser.requirements().map_err(SelectorError::new)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::Greater(bound) => number().is_some_and(|number| number > *bound),
            Test::Less(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

// === the words of a selector ===

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A key or a value; `in` and `notin` too, which are operators only where one is due.
    Word(String),
    /// `=`, `==`, `!=`, `>`, `<`, `!`, `(`, `)`, `,`
    Sign(&'static str),
    /// Signs that are none together.
    Strange(String),
    End,
}

impl Token {
    /// As messages show it.
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Strange(text) => text,
            Self::Sign(sign) => sign,
            Self::End => "",
        }
    }

    fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Sign(sign) if *sign == wanted)
    }
}

const SIGNS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", "(", ")", ","];

fn scan(text: &str) -> Vec<Token> {
    // The API server's scanner ends at a NUL byte.
    let mut rest = text.split('\0').next().unwrap_or_default();
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            tokens.push(Token::End);
            return tokens;
        }
        let end = rest.find(|c| "=!(),>< \t\r\n".contains(c)).unwrap_or(rest.len());
        if end > 0 {
            let (word, after) = rest.split_at(end);
            tokens.push(Token::Word(word.to_owned()));
            rest = after;
            continue;
        }
        let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
            tokens.push(Token::Strange(format!("error expected: keyword found '{rest}'")));
            rest = "";
            continue;
        };
        tokens.push(Token::Sign(sign));
        rest = rest.get(sign.len()..).unwrap_or_default();
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn look(&self) -> &Token {
        self.tokens.get(self.next).unwrap_or(&Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.look().clone();
        self.next += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.look() {
                Token::End => return Ok(requirements),
                token if begins_requirement(token) => {}
                token => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        token.text()
                    ));
                }
            }
            let requirement =
                self.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
            requirements.push(requirement);
            match self.take() {
                Token::End => return Ok(requirements),
                token if token.is(",") => {
                    if !begins_requirement(self.look()) {
                        let found = self.look().text();
                        return Err(format!("found '{found}', expected: identifier after ','"));
                    }
                }
                token => {
                    return Err(format!("found '{}', expected: ',' or 'end of string'", token.text()));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.look().is("!");
        if negated {
            self.take();
        }
        let key = match self.take() {
            Token::Word(key) => key,
            token => return Err(format!("found '{}', expected: identifier", token.text())),
        };
        valid("<nil>", &key, names::qualified_name(&key))?;
        if matches!(self.look(), Token::End) || self.look().is(",") {
            return Ok(Requirement { key, test: if negated { Test::Missing } else { Test::Exists } });
        }
        let operator = self.take();
        let test = match operator.text() {
            "in" => Test::In(self.values(&key)?),
            "notin" => Test::NotIn(self.values(&key)?),
            "=" | "==" => Test::In(BTreeSet::from([self.value(&key)?])),
            "!=" => Test::NotIn(BTreeSet::from([self.value(&key)?])),
            ">" => Test::Greater(self.number(&key)?),
            "<" => Test::Less(self.number(&key)?),
            found => {
                return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        Ok(Requirement { key, test })
    }

    fn value(&mut self, key: &str) -> Result<String, String> {
        if matches!(self.look(), Token::End) || self.look().is(",") {
            return Ok(String::new());
        }
        match self.take() {
            Token::Word(value) => {
                valid(&format!("values[0][{key}]"), &value, names::label_value(&value))?;
                Ok(value)
            }
            token => Err(format!("found '{}', expected: identifier", token.text())),
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, String> {
        let value = self.value(key)?;
        value.parse().map_err(|_| {
            format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        })
    }

    /// `(a,b)`; two commas in a row, or one at an end, hold the empty value.
    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        let open = self.take();
        if !open.is("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        if !matches!(self.look(), Token::Word(_)) && !self.look().is(",") && !self.look().is(")") {
            return Err(format!("found '{}', expected: ',', ')' or identifier", self.look().text()));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(match self.look() {
                Token::Word(value) => {
                    let value = value.clone();
                    self.take();
                    value
                }
                token if token.is(",") || token.is(")") => String::new(),
                token => return Err(format!("found '{}', expected: ',', or identifier", token.text())),
            });
            match self.take() {
                token if token.is(")") => break,
                token if token.is(",") => {}
                token => return Err(format!("found '{}', expected: ',' or ')'", token.text())),
            }
        }
        for (index, value) in values.iter().enumerate() {
            valid(&format!("values[{index}][{key}]"), value, names::label_value(value))?;
        }
        Ok(values)
    }
}

fn begins_requirement(token: &Token) -> bool {
    matches!(token, Token::Word(_)) || token.is("!")
}

fn valid(field: &str, value: &str, broken: Broken) -> Result<(), String> {
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("{field}: Invalid value: {value:?}: {}", broken.join("; ")))
}
