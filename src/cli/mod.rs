//! The commands: one file each.
#![forbid(unsafe_code)]

mod args;
mod check;
mod client;
mod demo;
mod pods;
mod run;

use std::error::Error as StdError;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::app::{self, logging};
use crate::config::{Config, ConfigError};
use args::{Asked, Verb};

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The options.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Serving.
    #[error(transparent)]
    App(#[from] app::Error),
    /// No manifests were named.
    #[error("there is nothing to read: name manifests with -f FILE, -f DIRECTORY or -f - for standard input")]
    NoManifests,
    /// `check` found that something is refused. It has been printed.
    #[error("{0} refused")]
    Refused(String),
    /// The demo has no free place for its pods.
    #[error("the demo cannot start its pods on 127.0.0.0/8")]
    Pods(#[source] io::Error),
    /// A request to an API.
    #[error("{0}")]
    Client(client::Failure),
    /// Standard output is gone.
    #[error("standard output cannot be written")]
    Stdout(#[source] io::Error),
}

/// Does what the command line says. Errors are printed here, and nowhere else.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let asked = match args::parse(args) {
        Ok(asked) => asked,
        Err(usage) => {
            // Also how --help and --version end, which go to standard output.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    match command(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Client(failure)) => {
            print_error(&format!("{failure}\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            print_error(&format!("ringport: {}\n", chain(&error)));
            // As clap: 2 is for what was written wrong on the command line or in the configuration.
            ExitCode::from(if matches!(error, Error::Config(_) | Error::NoManifests) { 2 } else { 1 })
        }
    }
}

fn command(asked: &Asked) -> Result<(), Error> {
    let (verb, flags) = match asked {
        Asked::Client(ask) => return client::run(ask).map_err(Error::Client),
        Asked::Serving(Verb::Version, _) => {
            return print(&format!("ringport {}\n", env!("CARGO_PKG_VERSION")));
        }
        Asked::Serving(verb, flags) => (verb, flags),
    };
    let config =
        Config::resolve(flags, |name| std::env::var(name).ok(), |file| std::fs::read_to_string(file))?;
    logging::start(&config);
    match verb {
        Verb::Run => run::run(&config),
        Verb::Check => check::check(&config),
        Verb::Demo | Verb::Version => demo::demo(&config),
    }
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Stdout)
}

/// Writes to standard error; there is nowhere to tell that it is gone.
fn print_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// An error and all that caused it, on one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let this = error.to_string();
        // Some errors repeat what caused them.
        if !text.ends_with(&this) {
            text.push_str(": ");
            text.push_str(&this);
        }
        cause = error.source();
    }
    text
}
