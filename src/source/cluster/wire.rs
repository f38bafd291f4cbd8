//! Lists and watches as they come over HTTP. Everything is bounded.

use std::fmt;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use kube::Client;
use kube::api::{ListParams, Request as Requests, VersionMatch, WatchParams};
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

use super::object::{Entry, Object};
use crate::limits;
use crate::types::NamespacedName;

/// What is asked for: a path with selectors.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) path: String,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
}

/// How recent a list has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recent {
    /// Whatever the server has at hand.
    Any,
    /// At least this version.
    Since(String),
    /// As the database has it now.
    Now,
}

/// Why a request or a stream has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// 410: the version is too old, or the list has changed between two pages.
    Expired,
    /// 401: the credentials are old.
    Unauthorized(String),
    /// Another answer that is not what was asked for.
    Refused { code: u16, message: String, retry_after: Option<Duration> },
    /// No answer, or it broke off.
    Lost(String),
    /// An answer that makes no sense.
    Unreadable(String),
}

/// A whole list.
pub(super) struct Listed<O> {
    pub(super) entries: Vec<Entry<O>>,
    /// Of the list as a whole.
    pub(super) version: String,
}

/// What a watch says.
pub(super) enum Event<O> {
    /// An object is there, or different.
    Put(Entry<O>),
    /// It is gone; the version is that of its deletion.
    Gone(NamespacedName, Option<u64>),
    /// Nothing has happened up to this version.
    Bookmark(String),
}

// === impl Query ===

impl Query {
    /// All objects, page by page.
    pub(super) async fn list<O: Object>(
        &self,
        client: &Client,
        recent: &Recent,
        time: Duration,
    ) -> Result<Listed<O>, Failure> {
        let mut params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(limits::LIST_PAGE),
            ..ListParams::default()
        };
        match recent {
            Recent::Any => {
                // From a cache, which sends everything at once; `kube` drops the version where there is a limit.
                params.limit = None;
                params.resource_version = Some("0".to_owned());
                params.version_match = Some(VersionMatch::NotOlderThan);
            }
            Recent::Since(version) => {
                params.resource_version = Some(version.clone());
                params.version_match = Some(VersionMatch::NotOlderThan);
            }
            Recent::Now => {}
        }
        let mut entries = Vec::new();
        for _ in 0..limits::LIST_PAGES {
            let request =
                Requests::new(&*self.path).list(&params).map_err(|e| Failure::Lost(e.to_string()))?;
            let page: Page<O> = within(time, page(client, request)).await?;
            entries.extend(page.items.unwrap_or_default().into_iter().filter_map(|item| item.0));
            match page.metadata.token.filter(|token| !token.is_empty()) {
                None => return Ok(Listed { entries, version: page.metadata.version }),
                Some(token) => {
                    params.continue_token = Some(token);
                    // The token says which version it is.
                    params.resource_version = None;
                    params.version_match = None;
                }
            }
        }
        Err(Failure::Unreadable("the list never ends".to_owned()))
    }

    /// A stream of what happens after `version`.
    pub(super) async fn watch(
        &self,
        client: &Client,
        version: &str,
        seconds: u32,
        time: Duration,
    ) -> Result<Lines, Failure> {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: false,
        };
        let request =
            Requests::new(&*self.path).watch(&params, version).map_err(|e| Failure::Lost(e.to_string()))?;
        let response = within(time, send(client, request)).await?;
        Ok(Lines { body: response.into_body(), buffer: Vec::new(), searched: 0 })
    }
}

/// Makes or changes an object.
pub(super) async fn write(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    time: Duration,
) -> Result<(), Failure> {
    let request = request.map_err(|e| Failure::Lost(e.to_string()))?;
    within(time, send(client, request)).await.map(drop)
}

async fn within<T>(time: Duration, what: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure::Lost(format!("no answer within {} s", time.as_secs_f64()));
    tokio::time::timeout(time, what).await.unwrap_or_else(|_| Err(late()))
}

async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
    let response = client.send(request.map(Body::from)).await.map_err(|e| lost(&e))?;
    if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
}

/// What the server says instead of what it was asked for: a `Status`, or any text.
async fn refusal(response: Response<Body>) -> Failure {
    let code = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = whole(response.into_body(), limits::API_MESSAGE_BYTES).await.unwrap_or_default();
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(status) => status.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    match code {
        StatusCode::GONE => Failure::Expired,
        StatusCode::UNAUTHORIZED => Failure::Unauthorized(message),
        _ => Failure::Refused { code: code.as_u16(), message, retry_after: header.map(Duration::from_secs) },
    }
}

fn lost(error: &dyn std::error::Error) -> Failure {
    // The innermost cause says most: "connection refused".
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Failure::Lost(cause.to_string())
}

async fn whole(mut body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|e| lost(&e))?.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(Failure::Unreadable(format!("an answer of more than {limit} bytes")));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

async fn page<O: Object>(client: &Client, request: Request<Vec<u8>>) -> Result<Page<O>, Failure> {
    let response = send(client, request).await?;
    let bytes = whole(response.into_body(), limits::LIST_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::Unreadable(error.to_string()))
}

#[derive(Deserialize)]
#[serde(bound = "O: Object")]
struct Page<O> {
    metadata: PageMeta,
    items: Option<Vec<Item<O>>>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(rename = "resourceVersion", default)]
    version: String,
    #[serde(rename = "continue", default)]
    token: Option<String>,
}

/// Read one at a time, so that the whole list is never there twice.
struct Item<O>(Option<Entry<O>>);

impl<'de, O: Object> Deserialize<'de> for Item<O> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(Entry::read(value)))
    }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// As far as this there is no end of a line.
    searched: usize,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

impl Lines {
    /// The next event; `None` at the end of the stream. What it drops when it is cancelled is nothing.
    pub(super) async fn next<O: Object>(&mut self) -> Result<Option<Event<O>>, Failure> {
        while let Some(line) = self.line().await? {
            if !line.iter().all(u8::is_ascii_whitespace)
                && let Some(event) = read(&line)?
            {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let unread = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > limits::WATCH_EVENT_BYTES {
                return Err(Failure::Unreadable("an endless event".to_owned()));
            }
            match self.body.frame().await {
                // A half line is what a cut stream leaves: it will be sent again.
                None => return Ok(None),
                Some(Err(error)) => return Err(lost(&error)),
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().into_iter().flatten()),
            }
        }
    }
}

/// One line; `None` for what is of no concern.
fn read<O: Object>(line: &[u8]) -> Result<Option<Event<O>>, Failure> {
    let line: Line = serde_json::from_slice(line).map_err(|e| Failure::Unreadable(e.to_string()))?;
    Ok(match line.kind.as_str() {
        "ADDED" | "MODIFIED" => Entry::read(line.object).map(Event::Put),
        "DELETED" => Entry::<O>::read(line.object).map(|entry| Event::Gone(entry.key, entry.version)),
        "BOOKMARK" => {
            let version = line.object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            version.map(|version| Event::Bookmark(version.to_owned()))
        }
        "ERROR" => return Err(error_event(&line.object)),
        _ => None,
    })
}

fn error_event(status: &Value) -> Failure {
    let code = status.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let text = |field: &str| status.get(field).and_then(Value::as_str).unwrap_or_default();
    if code == Some(410) || text("reason") == "Expired" {
        return Failure::Expired;
    }
    Failure::Refused { code: code.unwrap_or(0), message: text("message").to_owned(), retry_after: None }
}

// === impl Failure ===

impl Failure {
    /// What the server asks for.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after: Some(time), .. } => (*time).min(limits::RETRY_AFTER_MAX),
            _ => Duration::ZERO,
        }
    }

    /// Whether the server would say the same again.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused { code: 400..500, .. })
            && !matches!(self, Self::Refused { code: 429, .. })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the version asked for is too old"),
            Self::Unauthorized(message) => write!(f, "it refuses the credentials: {message}"),
            Self::Refused { code: 403, message, .. } => {
                write!(f, "it forbids this: {message} (deploy/base/rbac.yaml has what is needed)")
            }
            Self::Refused { code, message, .. } => write!(f, "it answers {code}: {message}"),
            Self::Lost(why) => write!(f, "it cannot be reached: {why}"),
            Self::Unreadable(why) => write!(f, "its answer cannot be read: {why}"),
        }
    }
}
