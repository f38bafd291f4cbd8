//! The query of a request, and the options that it holds (apimachinery pkg/apis/meta/v1 ListOptions …).

use std::time::Duration;

use super::failure::Failure;
use crate::k8s::field::FieldProblem;

/// Names and values, decoded, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(name), form_decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of this name; `None` also where it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|value| !value.is_empty())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// As the API server reads booleans: there, and neither `false` nor `0`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// `resourceVersion`: `None` where it does not say.
    pub(super) fn version(&self) -> Result<Option<u64>, Failure> {
        let Some(text) = self.get("resourceVersion") else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let problem = FieldProblem::invalid("resourceVersion", text, "must be a number");
            Failure::invalid_other("ListOptions", "meta.k8s.io", &[problem])
        })
    }

    /// `timeoutSeconds` of a watch.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.get("timeoutSeconds") else { return Ok(None) };
        let seconds: u64 =
            text.parse().map_err(|_| Failure::bad_request(format!("invalid timeoutSeconds: {text:?}")))?;
        Ok(Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero()))
    }

    /// `dryRun`, whose only value is `All`.
    pub(super) fn dry_run(&self, options: &'static str) -> Result<bool, Failure> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(refuse(options, "dryRun", other, &["All"])),
        }
    }

    /// `fieldValidation`
    pub(super) fn validation(&self, options: &'static str) -> Result<Validation, Failure> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(Validation::Warn),
            Some("Strict") => Ok(Validation::Strict),
            Some("Ignore") => Ok(Validation::Ignore),
            Some(other) => Err(refuse(options, "fieldValidation", other, &["Ignore", "Strict", "Warn"])),
        }
    }
}

/// What happens to fields that are unknown or written twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and a `Warning` header says so.
    Warn,
    /// The request is refused.
    Strict,
}

fn refuse(options: &str, field: &str, value: &str, supported: &[&str]) -> Failure {
    Failure::invalid_other(options, "meta.k8s.io", &[FieldProblem::unsupported(field, value, supported)])
}

/// Undoes the encoding of forms, where a space may be a plus.
fn form_decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

/// Undoes percent encoding. What is not one stays as it is.
pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        // Rust would read a sign as part of a number.
        let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_the_api_server_reads_them() {
        let query = Query::parse("&limit=500&watch=&a=1+2%3d&labelSelector=app%20in%20(a%2Cb)&b=0&c=True");
        assert_eq!(query.get("limit"), Some("500"));
        assert_eq!(query.get("a"), Some("1 2="));
        assert_eq!(query.get("labelSelector"), Some("app in (a,b)"));
        assert!(query.flag("watch") && query.flag("c") && !query.flag("b") && !query.flag("absent"));
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%+4"), "%+4");
    }

    #[test]
    fn options_that_are_not_known_are_named() {
        let query = Query::parse("dryRun=Some&fieldValidation=Loose");
        assert_eq!(
            query.dry_run("CreateOptions").unwrap_err().message,
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\""
        );
        assert_eq!(
            query.validation("PatchOptions").unwrap_err().message,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Loose\": supported values: \"Ignore\", \"Strict\", \"Warn\""
        );
    }
}
