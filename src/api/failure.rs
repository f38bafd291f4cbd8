//! Refusals as the API server words them: `Status` objects (apimachinery pkg/api/errors).

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::k8s::field::FieldProblem;
use crate::k8s::patch::PatchError;
use crate::k8s::resource::{Info, Resource};
use crate::store::Refusal;

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: StatusCode,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// `details`, unless it has none.
    pub(super) details: Option<Value>,
}

/// The place of an object in a message: its kind, and its name where it has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) resource: Resource,
    pub(super) name: &'a str,
}

impl Failure {
    pub(super) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).with(json!({}))
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// A path inside a known group and version that leads nowhere.
    pub(super) fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).with(json!({}))
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).with(json!({}))
    }

    pub(super) fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(super) fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::too_large_because(&format!("limit is {limit}"))
    }

    pub(super) fn too_large_because(why: &str) -> Self {
        let message = format!("Request entity is too large: {why}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(super) fn too_many_watches() -> Self {
        let message = "too many watches at a time, please try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
            .with(json!({"retryAfterSeconds": 1}))
    }

    pub(super) fn not_found(subject: Subject<'_>) -> Self {
        let info = subject.resource.info();
        let message = format!("{} \"{}\" not found", info.qualified(), subject.name);
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).with(details(info, info.plural, subject.name))
    }

    fn already_exists(subject: Subject<'_>) -> Self {
        let info = subject.resource.info();
        let message = format!("{} \"{}\" already exists", info.qualified(), subject.name);
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).with(details(
            info,
            info.plural,
            subject.name,
        ))
    }

    fn conflict(subject: Subject<'_>, why: &str) -> Self {
        let info = subject.resource.info();
        let message =
            format!("Operation cannot be fulfilled on {} \"{}\": {why}", info.qualified(), subject.name);
        Self::new(StatusCode::CONFLICT, "Conflict", message).with(details(info, info.plural, subject.name))
    }

    fn object_forbidden(subject: Subject<'_>, why: &str) -> Self {
        let info = subject.resource.info();
        let message = format!("{} \"{}\" is forbidden: {why}", info.qualified(), subject.name);
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).with(details(info, info.plural, subject.name))
    }

    /// The history that a list or watch asks for is gone, or the continuation is not one of ours.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// A list at a version that does not exist yet.
    pub(super) fn too_new(wanted: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .with(json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// Fields that break a rule: `Service "web" is invalid: …`.
    pub(super) fn invalid(subject: Subject<'_>, problems: &[FieldProblem]) -> Self {
        let info = subject.resource.info();
        let kind = if info.group.is_empty() {
            info.kind.to_owned()
        } else {
            format!("{}.{}", info.kind, info.group)
        };
        let mut details = details(info, info.kind, subject.name);
        if let Some(map) = details.as_object_mut() {
            map.insert("causes".to_owned(), problems.iter().map(cause).collect());
        }
        Self::unprocessable(&kind, subject.name, problems).with(details)
    }

    /// The same for what has no kind of its own: options and patches.
    pub(super) fn invalid_other(kind: &str, group: &str, problems: &[FieldProblem]) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut details = Map::new();
        for (key, value) in [("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), value.into());
            }
        }
        details.insert("causes".to_owned(), problems.iter().map(cause).collect());
        Self::unprocessable(&qualified, "", problems).with(details.into())
    }

    fn unprocessable(kind: &str, name: &str, problems: &[FieldProblem]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for text in problems.iter().map(aggregate) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let message = format!("{kind} \"{name}\" is invalid: {list}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// A patch that does not fit the object. The API server does not say why.
    pub(super) fn unprocessable_patch() -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", PatchError::UNPROCESSABLE).with(json!({}))
    }

    /// Field managers that own what an apply wants to set.
    pub(super) fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message).with(json!({"causes": causes}))
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let details = json!({"causes": [{"message": message}]});
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
        .with(details)
    }

    /// What the store says to a change of this object.
    pub(super) fn refused(subject: Subject<'_>, refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::not_found(subject),
            Refusal::AlreadyExists => Self::already_exists(subject),
            Refusal::NamespaceNotFound(namespace) => {
                Self::not_found(Subject { resource: Resource::Namespaces, name: &namespace })
            }
            Refusal::Invalid(problems) => Self::invalid(subject, &problems),
            Refusal::Conflict(why) => Self::conflict(subject, &why),
            Refusal::Forbidden(why) => Self::object_forbidden(subject, &why),
            Refusal::BadRequest(message) => Self::bad_request(message),
            Refusal::Internal(message) => Self::internal(message),
        }
    }

    /// The `Status` object.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        if let Some(map) = status.as_object_mut() {
            if let Some(details) = &self.details {
                map.insert("details".to_owned(), details.clone());
            }
            map.insert("code".to_owned(), self.code.as_u16().into());
        }
        status
    }
}

/// `details` of an object: `kind` is the kind in some answers and the resource in others.
fn details(info: &Info, kind: &str, name: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", info.group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), value.into());
        }
    }
    details.into()
}

/// `spec.type: Unsupported value: …`
fn aggregate(problem: &FieldProblem) -> String {
    if problem.field.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.field, problem.message)
    }
}

/// One of `details.causes`. The reason follows from the first words, which are fixed.
fn cause(problem: &FieldProblem) -> Value {
    let reason = REASONS.iter().find(|(start, _)| problem.message.starts_with(start));
    let reason = reason.map_or("FieldValueInvalid", |(_, reason)| reason);
    json!({"reason": reason, "message": problem.message, "field": problem.field})
}

const REASONS: [(&str, &str); 6] = [
    ("Required value", "FieldValueRequired"),
    ("Duplicate value", "FieldValueDuplicate"),
    ("Unsupported value", "FieldValueNotSupported"),
    ("Forbidden", "FieldValueForbidden"),
    ("Too long", "FieldValueTooLong"),
    ("Too many", "FieldValueTooMany"),
];
