//! What kubectl does, without kubectl: verbs that are plain clients of a Kubernetes API, ringport's own or any other.
//!
//! They print what kubectl prints, and end as it ends.

mod api;
pub(super) mod args;
mod connect;
mod describe;
mod failure;
mod files;
mod get;
mod write;
mod yaml;

use self::api::Api;
pub(super) use self::args::Ask;
pub(super) use self::failure::Failure;

/// Does what was asked. Everything is printed by the time it returns.
pub(super) fn run(ask: &Ask) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Said(format!("error: {error}")))?;
    runtime.block_on(async {
        let api = Api::new(connect::connect(&ask.target).await?, ask.target.namespace.clone());
        match &ask.verb {
            args::Verb::Create(files) => write::create(&api, files).await,
            args::Verb::Apply(files) => write::apply(&api, files).await,
            args::Verb::Delete(what) => write::delete(&api, what).await,
            args::Verb::Get(get) => get::get(&api, get).await,
            args::Verb::Describe(what) => describe::describe(&api, what).await,
        }
    })
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    super::print(text).map_err(|error| Failure::Said(error.to_string()))
}
