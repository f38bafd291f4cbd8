//! `ringport run`: serve manifests, or an API of its own, until stopped.

use super::{Error, check};
use crate::app;
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<(), Error> {
    let inputs = check::inputs(config);
    if inputs.is_empty() && config.api.is_none() {
        return Err(Error::NoManifests(", or serve an API for kubectl with --api 127.0.0.1:8080"));
    }
    Ok(app::serve(config, inputs, |_, _| {})?)
}
