//! The ways to change a part of an object: JSON merge patch, JSON patch, strategic merge patch, and server-side
//! apply.

pub mod apply;
mod json;
mod schema;
mod strategic;

use serde_json::Value;

pub use self::json::json;
pub use self::strategic::strategic;

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400 BadRequest: the patch is no patch.
    #[error("{0}")]
    BadRequest(String),
    /// 413 RequestEntityTooLarge.
    #[error("{0}")]
    TooLarge(String),
    /// 422 Invalid: it does not fit the object. The message to clients is
    /// [`PatchError::UNPROCESSABLE`], this is its cause (`UnexpectedServerResponse`).
    #[error("{0}")]
    Unprocessable(String),
    /// 500 without a reason, as the API server has it for a list item without its merge key.
    #[error("{0}")]
    Internal(String),
}

impl PatchError {
    /// What clients are told of a patch that does not fit.
    pub const UNPROCESSABLE: &str = "the server rejected our request due to an error in our request";
}

/// JSON merge patch (RFC 7386).
pub fn merge(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

/// A value as Go's `%v` prints it, for messages.
fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}:{}", go_print(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
