//! The Kubernetes API over the store, so that kubectl and other clients work with no cluster.
//!
//! In the order of a request:
//!
//! - `server` a bounded number of connections, `pace` that nobody keeps for ever, `credentials` TLS and token
//! - `answer` who asks (`access`), for what (`path`, `query`), in which form (`media`, `body`)
//! - `change` create, replace, `patch`, delete; `list`, `watch` over what `select` means; `discovery`
//! - `render` objects as they are, as tables or as metadata; `failure` refusals; `reply` what is sent
//! - [`Hub`] the store between its writers, its watchers and the data plane
//!
//! Everything runs on the control thread, where nothing else waits: long lists are written in pieces.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod body;
mod change;
mod credentials;
mod discovery;
mod failure;
mod hub;
mod list;
mod media;
mod pace;
mod patch;
mod path;
mod query;
mod render;
mod reply;
mod select;
mod server;
mod watch;

pub use credentials::{Credentials, CredentialsError};
pub use hub::Hub;
pub use server::{Error, Server};
