//! `ringport run`: serve manifests until stopped.

use super::{Error, check};
use crate::app;
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<(), Error> {
    let inputs = check::inputs(config)?;
    Ok(app::serve(config, inputs, |_, _| {})?)
}
