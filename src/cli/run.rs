//! `ringport run`: serve manifests or a cluster until stopped.

use super::{Error, check};
use crate::app;
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<(), Error> {
    if config.kubeconfig.is_some() || config.in_cluster {
        let both = config.kubeconfig.is_some() && config.in_cluster;
        if both || !config.filenames.is_empty() {
            return Err(Error::ManySources);
        }
        return Ok(app::serve_cluster(config)?);
    }
    let inputs = check::inputs(config)?;
    Ok(app::serve(config, inputs, |_, _| {})?)
}
