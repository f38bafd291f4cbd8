//! Bodies in the protobuf form of Kubernetes, which `kubectl create service` and `kubectl create namespace` send
//! since 1.32 (apimachinery pkg/runtime/serializer/protobuf).

mod messages;

use prost::Message;
use serde_json::Value;

use self::messages::{DeleteOptions, Namespace, Service, Unknown};

/// What such a body begins with.
const MAGIC: [u8; 4] = *b"k8s\0";

/// A body that cannot be read: the message of a 400 BadRequest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It does not begin as it should.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    /// The bytes are no message of their kind.
    #[error("unable to decode {what}: {problem}")]
    Broken {
        /// What they should be.
        what: String,
        /// The decoder's words.
        problem: String,
    },
    /// It is packed in a way that no client uses.
    #[error("the content encoding {0:?} of the protobuf message is not supported: send it as it is")]
    Encoding(String),
    /// A kind that is not read in this form.
    #[error(
        "{kind} in version {version:?} is not read as application/vnd.kubernetes.protobuf: send it as application/json"
    )]
    Kind {
        /// `kind` of the envelope.
        kind: String,
        /// `apiVersion` of the envelope.
        version: String,
    },
}

/// Reads a body as the JSON that says the same. Services, Namespaces and DeleteOptions are read.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC.as_slice()).ok_or(ProtobufError::NoEnvelope)?;
    let envelope: Unknown = message("the envelope", envelope)?;
    if !envelope.content_encoding.is_empty() {
        return Err(ProtobufError::Encoding(envelope.content_encoding));
    }
    let meta = envelope.type_meta.unwrap_or_default();
    let raw = envelope.raw.as_slice();
    let mut object = match (meta.api_version.as_str(), meta.kind.as_str()) {
        ("v1", "Service") => message::<Service>("Service", raw)?.json(),
        ("v1", "Namespace") => message::<Namespace>("Namespace", raw)?.json(),
        // Clients name it in the version of the object or in that of the options.
        (_, "DeleteOptions") => message::<DeleteOptions>("DeleteOptions", raw)?.json(),
        _ => return Err(ProtobufError::Kind { kind: meta.kind, version: meta.api_version }),
    };
    object.insert("kind".to_owned(), meta.kind.into());
    object.insert("apiVersion".to_owned(), meta.api_version.into());
    Ok(Value::Object(object))
}

fn message<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M, ProtobufError> {
    M::decode(bytes)
        .map_err(|error| ProtobufError::Broken { what: what.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests;
