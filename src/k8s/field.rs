//! What is wrong with a field, in the words of the API server
//! (apimachinery pkg/util/validation/field/errors.go).

use std::fmt;

use crate::problem::{Problem, Severity};

/// A problem with one field of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The path: `spec.ports[0].nodePort`; empty where the message names it.
    pub field: String,
    /// `Invalid value: 80: …`
    pub message: String,
    /// What to write instead, where the message does not say it.
    pub hint: Option<String>,
    /// A warning where the API server accepts the object and sends a `Warning:` header.
    pub severity: Severity,
}

impl FieldProblem {
    fn error(field: impl Into<String>, message: String) -> Self {
        Self { field: field.into(), message, hint: None, severity: Severity::Error }
    }

    /// Refused with a message of its own.
    pub fn rejected(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::error(field, message.into())
    }

    /// The value breaks a rule.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl fmt::Display) -> Self {
        Self::error(field, format!("Invalid value: {}: {detail}", value.into().0))
    }

    /// The field has to be there.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message =
            if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Self::error(field, message)
    }

    /// The value is none of the known ones; `supported` must be sorted, as the API server prints them.
    pub fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let known: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let message = format!("Unsupported value: {value:?}: supported values: {}", known.join(", "));
        let mut problem = Self::error(field, message);
        problem.hint = nearest(value, supported).map(|s| format!("did you mean \"{s}\"?"));
        problem
    }

    /// The value may be there only once.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::error(field, format!("Duplicate value: {}", value.into().0))
    }

    /// The field may not be there.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::error(field, format!("Forbidden: {detail}"))
    }

    /// The list is too long.
    pub fn too_many(field: impl Into<String>, count: usize, max: usize) -> Self {
        Self::error(field, format!("Too many: {count}: must have at most {max} items"))
    }

    /// Accepted, but doubtful.
    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(field, message.into()) }
    }

    /// With what to write instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<FieldProblem> for Problem {
    fn from(problem: FieldProblem) -> Self {
        Self {
            severity: problem.severity,
            field: Some(problem.field).filter(|field| !field.is_empty()),
            hint: problem.hint,
            ..Self::error(problem.message)
        }
    }
}

/// A value as Go prints it in a message: strings quoted, numbers bare, lists as `[]string{"a"}`.
#[derive(Debug)]
pub struct Value(String);

impl Value {
    /// Text that is not to be quoted.
    pub fn verbatim(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(format!("{text:?}"))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self(number.to_string())
    }
}

impl From<&[String]> for Value {
    fn from(list: &[String]) -> Self {
        let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
        Self(format!("[]string{{{}}}", items.join(", ")))
    }
}

/// The known word that `word` is most likely a slip of: same letters in another case, or at most two edits.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let distance = |candidate: &str| {
        if candidate.eq_ignore_ascii_case(word) { 0 } else { edits(word, candidate) }
    };
    known
        .iter()
        .map(|&candidate| (distance(candidate), candidate))
        .filter(|&(edits, candidate)| edits <= 2 && edits * 2 < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance of two short words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = i + 1;
        next.push(left);
        for (pair, y) in row.windows(2).zip(&b) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => continue,
            };
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_api_server() {
        let table = [
            (FieldProblem::invalid("f", 80, "no"), "Invalid value: 80: no"),
            (FieldProblem::invalid("f", "a\"b", "no"), "Invalid value: \"a\\\"b\": no"),
            (
                FieldProblem::invalid("f", ["10.1.2.3".to_owned()].as_slice(), "no"),
                "Invalid value: []string{\"10.1.2.3\"}: no",
            ),
            (FieldProblem::required("f", ""), "Required value"),
            (FieldProblem::required("f", "why"), "Required value: why"),
            (
                FieldProblem::unsupported("f", "ICMP", &["SCTP", "TCP", "UDP"]),
                "Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (FieldProblem::duplicate("f", "a"), "Duplicate value: \"a\""),
            (FieldProblem::forbidden("f", "why"), "Forbidden: why"),
            (FieldProblem::too_many("f", 1001, 1000), "Too many: 1001: must have at most 1000 items"),
        ];
        for (problem, message) in table {
            assert_eq!(problem.message, message);
        }
    }

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        assert_eq!(nearest("Nodeport", &types), Some("NodePort"));
        assert_eq!(nearest("NodePrt", &types), Some("NodePort"));
        assert_eq!(nearest("Ingress", &types), None);
        assert_eq!(nearest("ICMP", &["SCTP", "TCP", "UDP"]), None);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "ab"), 2);
    }
}
