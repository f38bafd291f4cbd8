//! The store behind the API, and the API's start.

use std::path::Path;
use std::rc::Rc;

use super::{Error, store_options};
use crate::admin::State;
use crate::api::{Hub, Server};
use crate::config::Config;
use crate::store::Store;

/// The store: one that remembers, where there is an API to be asked.
pub(super) fn open_store(config: &Config) -> Result<Store, Error> {
    let options = store_options(config);
    if config.api.is_none() {
        return Ok(Store::for_files(options));
    }
    if config.state_dir.is_none() {
        tracing::warn!("--state-dir is not given: objects of the API are gone when this process ends");
    }
    let folder = config.state_dir.as_deref().map(Path::new);
    Store::open(options, folder).map_err(|problem| Error::State(Box::new(problem)))
}

/// Answers clients of the API from now on.
pub(super) fn start(api: Server, hub: &Rc<Hub>, state: &State) {
    let counted = hub.clone();
    state.set_api(move || counted.answers());
    tracing::info!("--api: a Kubernetes API at {}", api.url());
    let hub = hub.clone();
    tokio::task::spawn_local(async move {
        if let Err(error) = api.serve(hub).await {
            tracing::error!(%error, "the API has ended");
        }
    });
}
