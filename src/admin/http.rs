//! A small HTTP server: GET and HEAD, no bodies, everything bounded.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::limits;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    query: &'a str,
}

impl Asked<'_> {
    /// Whether the query has this name, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }
}

/// A page.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, body }
    }

    pub(super) fn text(status: u16, body: String) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    pub(super) fn not_found(pages: &[&str]) -> Self {
        Self::text(404, format!("there are {}\n", pages.join(", ")))
    }
}

/// Opens a listener.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    // Sets SO_REUSEADDR, so that a restart does not wait for TIME_WAIT.
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers requests, for ever. Connections beyond the limit wait in the backlog; one on which no whole
/// head arrives for `header_timeout` is closed, so an idle one is too.
pub(super) async fn serve(
    listener: StdListener,
    header_timeout: Duration,
    answer: impl Fn(Asked<'_>) -> Answer + 'static,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let answer = Rc::new(answer);
    let room = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                tokio::task::spawn_local(async move {
                    converse(stream, header_timeout, &*answer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection; it tries again in a second");
                tokio::time::sleep(limits::RETRY_INTERVAL).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, header_timeout: Duration, answer: &dyn Fn(Asked<'_>) -> Answer) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, answer);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(limits::ADMIN_REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that leaves, stalls or speaks no HTTP concerns nobody.
    let _ = tokio::time::timeout(limits::ADMIN_CONNECTION_TIME, connection).await;
}

fn respond(request: &Request<Incoming>, answer: &dyn Fn(Asked<'_>) -> Answer) -> Response<Full<Bytes>> {
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let Answer { status, content_type, body } = if !readable {
        Answer::text(405, "only GET and HEAD\n".to_owned())
    } else if !request.body().is_end_stream() {
        Answer::text(413, "requests have no body here\n".to_owned())
    } else {
        answer(Asked { path: request.uri().path(), query: request.uri().query().unwrap_or_default() })
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if !readable {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if status == 405 || status == 413 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
