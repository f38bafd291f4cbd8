//! The body of a request: bounded, and in one of the forms that are understood.

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use serde_json::Value;

use super::failure::Failure;
use crate::k8s::decode::request::{self, Request, Unreadable};
use crate::k8s::protobuf;
use crate::k8s::resource::Resource;
use crate::limits;

/// What objects may be written in.
const OBJECTS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Reads it whole.
pub(super) async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let limited = Limited::new(body, limits::API_BODY_BYTES);
    match tokio::time::timeout(limits::API_BODY_TIME, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(limits::API_BODY_BYTES)),
        Ok(Err(error)) => Err(Failure::bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => {
            let message = "the body did not arrive in time";
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message))
        }
    }
}

/// An object of this kind, of the right types.
pub(super) fn object(resource: Resource, content_type: &str, body: &[u8]) -> Result<Request, Failure> {
    let read = match content_type {
        "" | "application/json" | "application/yaml" => request::read(resource, body),
        "application/vnd.kubernetes.protobuf" => protobuf::decode(body)
            .map_err(|error| Unreadable(error.to_string()))
            .and_then(|object| request::check(resource, object)),
        _ => return Err(Failure::unsupported_media_type(&OBJECTS)),
    };
    read.map_err(|unreadable| Failure::bad_request(unreadable.0))
}

/// `DeleteOptions`; a request without them has an empty body.
pub(super) fn delete_options(content_type: &str, body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    match content_type {
        "" | "application/json" | "application/yaml" => {
            request::body(body).map(|body| body.value).map_err(Failure::bad_request)
        }
        "application/vnd.kubernetes.protobuf" => {
            protobuf::decode(body).map_err(|error| Failure::bad_request(error.to_string()))
        }
        _ => Err(Failure::unsupported_media_type(&OBJECTS)),
    }
}
