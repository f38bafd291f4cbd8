//! What is told to the outside over HTTP: `/metrics` and `/statusz` on one address; `/healthz`,
//! `/livez` and `/readyz` on another, as kube-proxy has them. Everything is read from [`State`].
#![forbid(unsafe_code)]

mod health;
mod http;
mod process;
mod scrape;
mod service_health;
mod state;
mod statusz;

use std::rc::Rc;

pub use http::bind;
pub use service_health::ServiceHealth;
pub use state::{Seen, State, ViewStanding};

use crate::limits;
use http::{Answer, Asked};

/// Answers on `--metrics-bind-address`, for ever. Runs on the control thread.
pub async fn serve_metrics(listener: std::net::TcpListener, state: Rc<State>) -> std::io::Result<()> {
    http::serve(listener, limits::ADMIN_HEADER_TIMEOUT, move |asked| metrics_page(&state, asked)).await
}

/// Answers on `--healthz-bind-address`, for ever. Runs on the control thread.
pub async fn serve_health(listener: std::net::TcpListener, state: Rc<State>) -> std::io::Result<()> {
    http::serve(listener, limits::ADMIN_HEADER_TIMEOUT, move |asked| health_page(&state, asked)).await
}

fn metrics_page(state: &State, asked: Asked<'_>) -> Answer {
    match asked.path {
        "/metrics" => Answer::new(200, "text/plain; version=0.0.4; charset=utf-8", scrape::page(state)),
        "/statusz" => Answer::text(200, statusz::page(state)),
        "/healthz" => Answer::text(200, "ok".to_owned()),
        // As kube-proxy names itself when it relays connections in user space.
        "/proxyMode" => Answer::text(200, "userspace".to_owned()),
        _ => Answer::not_found(&["/metrics", "/statusz", "/healthz", "/proxyMode"]),
    }
}

fn health_page(state: &State, asked: Asked<'_>) -> Answer {
    match asked.path {
        "/healthz" => health::healthz(state),
        "/livez" => health::livez(state),
        "/readyz" => health::readyz(state, asked.has("verbose")),
        _ => Answer::not_found(&["/healthz", "/livez", "/readyz"]),
    }
}

#[cfg(test)]
mod tests;
