//! Which objects a list or a watch is about: `labelSelector=` and `fieldSelector=`, with the words of the API
//! server where they are wrong (apimachinery pkg/labels, pkg/fields).

mod field;
mod label;

pub use self::field::FieldSelector;
pub use self::label::LabelSelector;

/// A selector that cannot be read: the message of a 400 BadRequest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl SelectorError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

#[cfg(test)]
mod tests;
