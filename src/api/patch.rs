//! The patches: merge, JSON and strategic, and server-side apply.

use serde_json::{Value, json};

use super::change::{Change, Made};
use super::failure::Failure;
use super::query::Validation;
use crate::k8s::decode::request;
use crate::k8s::field::FieldProblem;
use crate::k8s::patch::apply::{self, ApplyError};
use crate::k8s::patch::{self, PatchError};
use crate::store::Refusal;

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// RFC 6902
    Json,
    /// RFC 7386
    Merge,
    /// Kubernetes' own, which knows the keys of lists.
    Strategic,
    /// Server-side apply.
    Apply,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Json, "application/json-patch+json"),
    (Kind::Merge, "application/merge-patch+json"),
    (Kind::Strategic, "application/strategic-merge-patch+json"),
    (Kind::Apply, "application/apply-patch+yaml"),
];

const OPTIONS: &str = "PatchOptions";

impl Change<'_> {
    /// Does what a patch says.
    pub(super) fn patched(&self, body: &[u8], dry_run: bool) -> Result<Made, Failure> {
        let kind = KINDS.iter().find(|(_, name)| *name == self.asked.content_type);
        let Some((kind, _)) = kind else {
            return Err(Failure::unsupported_media_type(&KINDS.map(|(_, name)| name)));
        };
        let validation = self.asked.query.validation(OPTIONS)?;
        self.check_options(*kind)?;
        if *kind == Kind::Apply {
            return self.applied(body, dry_run, validation);
        }
        let base = self.found().ok_or_else(|| self.refuse(Refusal::NotFound))?;
        let mut object = base.value();
        let (shown, mut strict) = self.transform(*kind, &mut object, body)?;
        let request = request::check(self.target.resource, object)
            .map_err(|unreadable| impossible(&shown, after_prefix(&unreadable.0)))?;
        strict.extend(request.strict);
        if validation == Validation::Strict && !strict.is_empty() {
            return Err(impossible(&shown, &format!("strict decoding error: {}", strict.join(", "))));
        }
        let mut object = request.object;
        self.place(&mut object)?;
        self.track(Some(&base), &mut object);
        let accepted = self.store_over(object, dry_run)?;
        let strict = if validation == Validation::Warn { strict } else { Vec::new() };
        Ok(Made { accepted, strict, created: false })
    }

    /// Changes the object. Gives what a refusal shows of the patch, and what is written twice in it.
    fn transform(
        &self,
        kind: Kind,
        object: &mut Value,
        body: &[u8],
    ) -> Result<(String, Vec<String>), Failure> {
        if kind == Kind::Json {
            patch::json(object, body).map_err(refused)?;
            return Ok((object.to_string(), Vec::new()));
        }
        let given = request::body(body).map_err(Failure::bad_request)?;
        let shown = match kind {
            Kind::Strategic => {
                patch::strategic(self.target.resource, object, &given.value).map_err(refused)?;
                go_print(&given.value)
            }
            _ => {
                patch::merge(object, &given.value);
                object.to_string()
            }
        };
        Ok((shown, given.strict))
    }

    /// Server-side apply: what this manager wants of the object, and no more.
    fn applied(&self, body: &[u8], dry_run: bool, validation: Validation) -> Result<Made, Failure> {
        let resource = self.target.resource;
        let mut request = request::read(resource, body)
            .map_err(|unreadable| Failure::bad_request(format!("error decoding YAML: {}", unreadable.0)))?;
        if let Some(unknown) = request.strict.iter().find_map(|problem| unknown_field(problem)) {
            return Err(Failure::bad_request(format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): .{unknown}: field not declared in schema",
                self.target.key.namespace,
                self.target.key.name,
                resource.info().api_version(),
                resource.info().kind,
            )));
        }
        match validation {
            Validation::Strict if !request.strict.is_empty() => {
                let all = request.strict.join(", ");
                return Err(Failure::bad_request(format!("error strict decoding YAML: {all}")));
            }
            Validation::Strict | Validation::Warn => {}
            Validation::Ignore => request.strict.clear(),
        }
        self.place(&mut request.object)?;
        let live = self.found();
        let tree = live.as_ref().map(|document| document.value());
        let force = self.asked.query.flag("force");
        let object = self
            .as_manager(|manager| apply::apply(resource, tree.as_ref(), &request.object, manager, force))
            .map_err(conflicting)?;
        let accepted = match live {
            Some(_) => self.store_over(object, dry_run)?,
            None if self.target.status => return Err(self.refuse(Refusal::NotFound)),
            None => self.store_new(&self.target.key.name, object, dry_run)?,
        };
        Ok(Made { accepted, strict: request.strict, created: tree.is_none() })
    }

    fn check_options(&self, kind: Kind) -> Result<(), Failure> {
        let query = &self.asked.query;
        let problem = match kind {
            Kind::Apply if query.get("fieldManager").is_none() => {
                FieldProblem::required("fieldManager", "is required for apply patch")
            }
            Kind::Apply => return Ok(()),
            _ if query.get("force").is_some() => {
                FieldProblem::forbidden("force", "may not be specified for non-apply patch")
            }
            _ => return Ok(()),
        };
        Err(Failure::invalid_other(OPTIONS, "meta.k8s.io", &[problem]))
    }
}

/// `unknown field "spec.foo"`
fn unknown_field(problem: &str) -> Option<&str> {
    problem.strip_prefix("unknown field \"")?.strip_suffix('"')
}

fn conflicting(error: ApplyError) -> Failure {
    match error {
        ApplyError::BadRequest(message) => Failure::bad_request(message),
        ApplyError::Conflicts(conflicts) => {
            let cause = |conflict: &apply::Conflict| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {}", conflict.manager),
                    "field": conflict.field,
                })
            };
            Failure::apply_conflict(conflicts.to_string(), conflicts.0.iter().map(cause).collect())
        }
    }
}

fn refused(error: PatchError) -> Failure {
    match error {
        PatchError::BadRequest(message) => Failure::bad_request(message),
        PatchError::TooLarge(message) => Failure::too_large_because(&message),
        PatchError::Unprocessable(_) => Failure::unprocessable_patch(),
        PatchError::Internal(message) => Failure::internal(message),
    }
}

/// A patch whose outcome is no object of its kind.
fn impossible(shown: &str, why: &str) -> Failure {
    Failure::invalid_other("", "", &[FieldProblem::invalid("patch", shown, why)])
}

/// `Service in version "v1" cannot be handled as a Service: json: …` without what is known anyway.
fn after_prefix(message: &str) -> &str {
    const END: &str = " cannot be handled as a ";
    let rest = message.split_once(END).and_then(|(_, rest)| rest.split_once(": "));
    rest.map_or(message, |(_, rest)| rest)
}

/// A tree as Go's `%+v` prints a map.
fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go_print).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key}:{}", go_print(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}
