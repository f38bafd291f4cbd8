//! JSON patch (RFC 6902) within the bounds of the API server.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::PatchError;
use crate::limits::{JSON_PATCH_COPIED, JSON_PATCH_DEPTH, JSON_PATCH_OPERATIONS, MANIFEST_DEPTH};

/// What `serde_json` reads is nested no deeper, and stored objects are far from it.
const JSON_DEPTH: usize = 128;

/// Applies all operations, or none.
pub fn json(object: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let operations: Vec<Value> =
        serde_json::from_slice(patch).map_err(|error| PatchError::BadRequest(error.to_string()))?;
    if operations.len() > JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut patched = object.clone();
    let mut copied = 0;
    // Never less than how deeply `patched` is nested.
    let mut depth = JSON_DEPTH;
    for operation in operations {
        // One that cannot be read is found where it is due, as the API server does.
        let Patch(operation) = serde_json::from_value(Value::Array(vec![operation]))
            .map_err(|error| PatchError::Unprocessable(format!("Unexpected operation: {error}")))?;
        copied += operation.first().map_or(0, |operation| copy_size(&patched, operation));
        if copied > JSON_PATCH_COPIED {
            return Err(PatchError::Unprocessable(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the \
                 limit {JSON_PATCH_COPIED}"
            )));
        }
        json_patch::patch_unsafe(&mut patched, &operation)
            .map_err(|error| refusal(&operation, &error.kind))?;
        // What is put at a path is at most as deep as the object was, or as what can be read.
        depth += operation.first().map_or(0, |operation| operation.path().tokens().count());
        if depth > JSON_PATCH_DEPTH {
            check_depth(&patched)?;
            depth = JSON_DEPTH;
        }
    }
    check_depth(&patched)?;
    *object = patched;
    Ok(())
}

fn check_depth(patched: &Value) -> Result<(), PatchError> {
    if is_deeper(patched, MANIFEST_DEPTH) {
        return Err(PatchError::Unprocessable("the patched object is nested too deeply".to_owned()));
    }
    Ok(())
}

fn copy_size(object: &Value, operation: &PatchOperation) -> usize {
    match operation {
        PatchOperation::Copy(copy) => {
            object.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len())
        }
        _ => 0,
    }
}

/// In the words of the library that the API server uses.
fn refusal(operation: &[PatchOperation], kind: &json_patch::PatchErrorKind) -> PatchError {
    let Some(operation) = operation.first() else {
        return PatchError::Unprocessable(kind.to_string());
    };
    let path = operation.path();
    let name = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    };
    PatchError::Unprocessable(match kind {
        json_patch::PatchErrorKind::TestFailed => format!("testing value {path} failed: test failed"),
        _ => format!("{name} operation does not apply: doc is missing path: \"{path}\": missing value"),
    })
}

/// Whether collections are nested deeper than `depth`.
pub(super) fn is_deeper(value: &Value, depth: usize) -> bool {
    let deeper = |value: &Value| depth == 0 || is_deeper(value, depth - 1);
    match value {
        Value::Array(items) => items.iter().any(deeper),
        Value::Object(map) => map.values().any(deeper),
        _ => false,
    }
}
