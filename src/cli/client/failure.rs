//! Why a verb did not succeed, in kubectl's words.

use std::fmt;

use kube::core::Status;

/// It is printed as it is.
#[derive(Debug)]
pub(in crate::cli) enum Failure {
    /// The server refused.
    Refused {
        /// What it said.
        status: Box<Status>,
        /// What was being done: `error when creating "web.yml": `, or nothing.
        doing: String,
    },
    /// Everything else.
    Said(String),
    /// One after the other.
    Several(Vec<Failure>),
}

impl Failure {
    /// With what was being done.
    pub(super) fn when(self, doing: impl Into<String>) -> Self {
        match self {
            Self::Refused { status, .. } => Self::Refused { status, doing: doing.into() },
            other => other,
        }
    }

    /// Nothing, the only one, or all of them.
    pub(super) fn all(mut failures: Vec<Self>) -> Result<(), Self> {
        match failures.len() {
            0 | 1 => failures.pop().map_or(Ok(()), Err),
            _ => Err(Self::Several(failures)),
        }
    }

    /// On one line, as one of several.
    fn line(&self) -> String {
        match self {
            Self::Refused { status, doing } => line(status, doing),
            other => other.to_string(),
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.reason == "NotFound")
    }
}

fn line(status: &Status, doing: &str) -> String {
    match &*status.reason {
        "" => format!("Error from server: {doing}{}", status.message),
        reason => format!("Error from server ({reason}): {doing}{}", status.message),
    }
}

/// kubectl pkg/cmd/util/helpers.go
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, doing) = match self {
            Self::Said(text) => return f.write_str(text),
            Self::Several(failures) => {
                let lines: Vec<String> = failures.iter().map(Self::line).collect();
                return f.write_str(&lines.join("\n"));
            }
            Self::Refused { status, doing } => (status, doing),
        };
        let Some(details) = status.details.as_ref().filter(|_| status.reason == "Invalid") else {
            return f.write_str(&line(status, doing));
        };
        write!(f, "The {} {:?} is invalid", details.kind, details.name)?;
        let causes: Vec<String> = details
            .causes
            .iter()
            .map(|cause| match &*cause.field {
                "" => cause.message.clone(),
                field => format!("{field}: {}", cause.message),
            })
            .collect();
        match causes.as_slice() {
            [] => write!(f, ": {}", status.message),
            [one] => write!(f, ": {one}"),
            several => write!(f, ": \n* {}", several.join("\n* ")),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(status: serde_json::Value, doing: &str) -> String {
        let status = Box::new(serde_json::from_value(status).unwrap());
        Failure::Refused { status, doing: doing.to_owned() }.to_string()
    }

    #[test]
    fn refusals_read_as_kubectl_prints_them() {
        let cause = |field: &str, message: &str| serde_json::json!({"field": field, "message": message});
        let invalid = |causes: &[serde_json::Value]| {
            serde_json::json!({"status": "Failure", "reason": "Invalid", "code": 422,
                "message": "Service \"e1\" is invalid: …",
                "details": {"name": "e1", "kind": "Service", "causes": causes}})
        };
        assert_eq!(
            printed(invalid(&[cause("spec.ports", "Required value")]), "ignored"),
            "The Service \"e1\" is invalid: spec.ports: Required value"
        );
        assert_eq!(
            printed(invalid(&[cause("a", "b"), cause("c", "d")]), ""),
            "The Service \"e1\" is invalid: \n* a: b\n* c: d"
        );
        let exists = serde_json::json!({"status": "Failure", "reason": "AlreadyExists", "code": 409,
            "message": "services \"web\" already exists"});
        assert_eq!(
            printed(exists, "error when creating \"web.yml\": "),
            "Error from server (AlreadyExists): error when creating \"web.yml\": services \"web\" already exists"
        );
    }
}
