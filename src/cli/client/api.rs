//! Requests to a Kubernetes API and what comes back.

use std::error::Error as StdError;
use std::io;

use http_body_util::BodyExt as _;
use hyper::header::{ACCEPT, CONTENT_TYPE, WARNING};
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde_json::Value;

use super::Failure;
use crate::k8s::resource::Resource;

/// What is wanted of an answer.
pub(super) const JSON: &str = "application/json";
/// Rows, as the server would print them.
pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// An API and the namespace of those who name none.
pub(super) struct Api {
    client: Client,
    pub(super) namespace: String,
    /// Whether the command line names it, so that objects may be in no other.
    required: bool,
}

/// The body of a request.
pub(super) struct Content<'a> {
    pub(super) media: &'static str,
    pub(super) text: &'a str,
}

impl Api {
    pub(super) fn new(client: Client, namespace: Option<String>) -> Self {
        let required = namespace.is_some();
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        Self { client, namespace, required }
    }

    /// The namespace of an object that says this one, or none.
    pub(super) fn namespace_of<'a>(&'a self, said: Option<&'a str>) -> Result<&'a str, Failure> {
        match said.filter(|said| !said.is_empty()) {
            Some(said) if self.required && said != self.namespace => Err(Failure::Said(format!(
                "error: the namespace from the provided object {said:?} does not match the namespace {:?}. You must \
                 pass '--namespace={said}' to perform this operation.",
                self.namespace
            ))),
            said => Ok(said.unwrap_or(&self.namespace)),
        }
    }

    /// The path of a kind, in a namespace or in all, and of one object of it.
    pub(super) fn path(resource: Resource, namespace: Option<&str>, name: Option<&str>) -> String {
        let info = resource.info();
        let mut path = match info.group {
            "" => "/api/v1".to_owned(),
            _ => format!("/apis/{}", info.api_version()),
        };
        if let Some(namespace) = namespace.filter(|_| info.namespaced) {
            path = format!("{path}/namespaces/{}", escape(namespace));
        }
        path = format!("{path}/{}", info.plural);
        name.map_or(path.clone(), |name| format!("{path}/{}", escape(name)))
    }

    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
    ) -> Result<Value, Failure> {
        self.call(Method::GET, path, query, accept, None).await
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
        content: Option<Content<'_>>,
    ) -> Result<Value, Failure> {
        let response = self.send(method, path, query, accept, content).await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect_bytes().await.map_err(|error| self.unreachable(&error))?;
        if !(200..300).contains(&code) {
            return Err(refused(code, &body));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Failure::Said(format!("error: the server's answer is no JSON: {error}")))
    }

    /// A watch: gives one event after the other, until the server ends it.
    pub(super) async fn watch(
        &self,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
        mut on_event: impl FnMut(&str, Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let response = self.send(Method::GET, path, query, accept, None).await?;
        let code = response.status().as_u16();
        let mut body = response.into_body();
        if code != 200 {
            let body = body.collect_bytes().await.map_err(|error| self.unreachable(&error))?;
            return Err(refused(code, &body));
        }
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unreachable(&error))?;
            pending.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { continue };
                let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
                let object = event.get_mut("object").map(Value::take).unwrap_or_default();
                if kind == "ERROR" {
                    return Err(refused(0, object.to_string().as_bytes()));
                }
                on_event(&kind, object)?;
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
        content: Option<Content<'_>>,
    ) -> Result<Response<Body>, Failure> {
        let pairs: Vec<String> =
            query.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
        let uri = if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) };
        let mut request = Request::builder().method(method).uri(uri).header(ACCEPT, accept);
        if let Some(content) = &content {
            request = request.header(CONTENT_TYPE, content.media);
        }
        let body = content.map_or(Body::empty(), |content| Body::from(content.text.as_bytes().to_vec()));
        let request = request.body(body).map_err(|error| Failure::Said(format!("error: {error}")))?;
        let response = self.client.send(request).await.map_err(|error| self.unreachable(&error))?;
        for warning in response.headers().get_all(WARNING) {
            warn(warning.to_str().unwrap_or_default());
        }
        Ok(response)
    }

    fn unreachable(&self, error: &(dyn StdError + 'static)) -> Failure {
        let mut cause = Some(error);
        let mut last = error;
        while let Some(error) = cause {
            last = error;
            if let Some(error) = error.downcast_ref::<io::Error>()
                && matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
            {
                return Failure::Said(
                    "The connection to the server was refused - is ringport running with --api, and is this its \
                     --server?"
                        .to_owned(),
                );
            }
            cause = error.source();
        }
        Failure::Said(format!("Unable to connect to the server: {last}"))
    }
}

/// `299 - "text"` → `Warning: text`, as kubectl prints it.
fn warn(header: &str) {
    let text =
        header.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or(header, |(text, _)| text);
    super::super::print_error(&format!("Warning: {}\n", text.replace("\\\"", "\"").replace("\\\\", "\\")));
}

fn refused(code: u16, body: &[u8]) -> Failure {
    let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body);
        Status { code, message: format!("HTTP {code}: {}", text.trim()), ..Status::default() }
    });
    Failure::Refused { status: status.boxed(), doing: String::new() }
}

/// For a path segment or the value of a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let path = |resource, namespace, name| Api::path(resource, namespace, name);
        assert_eq!(path(Resource::Services, Some("a"), Some("b")), "/api/v1/namespaces/a/services/b");
        assert_eq!(path(Resource::Services, None, None), "/api/v1/services");
        assert_eq!(path(Resource::Nodes, Some("a"), Some("b/c")), "/api/v1/nodes/b%2Fc");
        let slices = path(Resource::EndpointSlices, Some("a"), None);
        assert_eq!(slices, "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices");
    }

    #[test]
    fn what_is_no_status_is_told_as_it_is() {
        let text = refused(502, b"bad gateway\n").to_string();
        assert_eq!(text, "Error from server: HTTP 502: bad gateway");
    }
}
