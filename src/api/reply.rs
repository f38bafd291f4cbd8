//! The body of an answer: whole, or in pieces as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

use super::failure::Failure;
use super::pace::InRequest;

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Reply {
    content: Content,
    /// The request is over when its answer has been read to the end, or dropped.
    _request: Option<InRequest>,
}

#[derive(Debug)]
enum Content {
    /// All of it.
    Whole(Option<Bytes>),
    /// Pieces; the end is when their sender goes.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Reply {
    fn new(content: Content) -> Self {
        Self { content, _request: None }
    }

    /// With the request that it answers.
    pub(super) fn until(self, request: InRequest) -> Self {
        Self { _request: Some(request), ..self }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Pieces(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

/// An answer with a body of JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Reply> {
    typed(status, "application/json", body)
}

/// An answer with a body of this type.
pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Reply> {
    with_body(status, content_type, Reply::new(Content::Whole(Some(body.into()))))
}

/// An answer whose body comes in pieces.
pub(super) fn pieces(pieces: mpsc::Receiver<Bytes>) -> Response<Reply> {
    with_body(StatusCode::OK, "application/json", Reply::new(Content::Pieces(pieces)))
}

fn with_body(status: StatusCode, content_type: &'static str, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

/// A refusal.
pub(super) fn failure(failure: &Failure) -> Response<Reply> {
    let mut response = json(failure.code, print(&failure.status(), false));
    let after = failure.details.as_ref().and_then(|details| details.get("retryAfterSeconds"));
    if let Some(seconds) = after.and_then(Value::as_u64) {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    if failure.code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
    }
    response
}

/// A tree as text, for people or for programs.
pub(super) fn print(value: &Value, pretty: bool) -> String {
    if pretty { format!("{value:#}") } else { value.to_string() }
}

/// Adds `Warning: 299 - "text"` for each text (RFC 7234 §5.5).
pub(super) fn warn(response: &mut Response<Reply>, warnings: &[String]) {
    let name = HeaderName::from_static("warning");
    for text in warnings {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{clean}\"")) {
            response.headers_mut().append(name.clone(), value);
        }
    }
}
