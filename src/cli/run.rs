//! `ringport run`: serve manifests, an API of its own, or a cluster, until stopped.

use super::{Error, check};
use crate::app;
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<(), Error> {
    if config.kubeconfig.is_some() || config.in_cluster {
        let both = config.kubeconfig.is_some() && config.in_cluster;
        if both || !config.filenames.is_empty() || config.api.is_some() {
            return Err(Error::ManySources);
        }
        return Ok(app::serve_cluster(config)?);
    }
    let inputs = check::inputs(config);
    if inputs.is_empty() && config.api.is_none() {
        return Err(Error::NoManifests(", or serve an API for kubectl with --api 127.0.0.1:8080"));
    }
    Ok(app::serve(config, inputs, |_, _| {})?)
}
