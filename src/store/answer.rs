//! What the store answers to a write.

use std::sync::Arc;

use super::registry::Document;
use crate::k8s::field::FieldProblem;

/// A write that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The object as it is now, or would be.
    pub document: Arc<Document>,
    /// The texts of `Warning:` headers.
    pub warnings: Vec<String>,
}

/// Which part of an object a write changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but its status.
    Main,
    /// The status subresource.
    Status,
}

/// What must be so for a deletion to happen (`DeleteOptions.preconditions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Its `metadata.uid`.
    pub uid: Option<String>,
    /// Its `metadata.resourceVersion`.
    pub version: Option<u64>,
}

/// Why a write was refused; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404: there is no such object.
    #[error("not found")]
    NotFound,
    /// 409: there is one of this name.
    #[error("already exists")]
    AlreadyExists,
    /// 404: `namespaces "x" not found`
    #[error("namespaces {0:?} not found")]
    NamespaceNotFound(String),
    /// 422: the fields, and what is wrong with each.
    #[error("is invalid")]
    Invalid(Vec<FieldProblem>),
    /// 409: what follows `Operation cannot be fulfilled on services "web": `.
    #[error("{0}")]
    Conflict(String),
    /// 403: what follows `services "web" is forbidden: `.
    #[error("is forbidden: {0}")]
    Forbidden(String),
    /// 400: the whole message.
    #[error("{0}")]
    BadRequest(String),
    /// 500: what follows `Internal error occurred: `.
    #[error("{0}")]
    Internal(String),
}
