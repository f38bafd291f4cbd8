//! The command line, from the rows of the options.

use std::ffi::OsString;

use clap::{Arg, ArgAction};

use super::client::{self, Ask};
use crate::config::{Flags, Kind, ROWS, Row, Scope};

/// A command line.
pub(super) enum Asked {
    /// A command with the options of the program.
    Serving(Verb, Flags),
    /// A verb of an API client.
    Client(Ask),
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Serve manifests.
    Run,
    /// Validate manifests and print what would be served.
    Check,
    /// Serve a sample, with pods inside the process.
    Demo,
    /// Print the version.
    Version,
}

const VERBS: &[(Verb, &str, &str)] = &[
    (Verb::Run, "run", "Serve the Services of Kubernetes manifests, until stopped"),
    (Verb::Check, "check", "Validate manifests and print what would be served"),
    (Verb::Demo, "demo", "Serve a sample Service with pods inside this process, to try"),
    (Verb::Version, "version", "Print the version"),
];

/// Reads the command line. The error is also how `--help` ends.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    // clap has made sure that there is one of them.
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(Asked::Serving(Verb::Version, Flags::new()));
    };
    if let Some(ask) = client::args::ask(name, matches) {
        return ask
            .map(Asked::Client)
            .map_err(|text| clap::Error::raw(clap::error::ErrorKind::ValueValidation, text + "\n"));
    }
    let verb = VERBS.iter().find(|(_, verb, _)| *verb == name).map_or(Verb::Version, |(verb, ..)| *verb);
    let given = |row: &'static Row| Some((row, matches.get_many::<String>(row.flag)?.cloned().collect()));
    Ok(Asked::Serving(verb, rows(verb).filter_map(given).collect()))
}

fn command() -> clap::Command {
    let verbs = VERBS.iter().map(|(verb, name, about)| {
        let command = clap::Command::new(*name).about(*about).args(rows(*verb).map(arg));
        match verb {
            Verb::Version => command,
            _ => command.after_help(
                "Each option may also be set in the environment (as RINGPORT_DRAIN_TIMEOUT) and in the --config file.",
            ),
        }
    });
    clap::Command::new("ringport")
        .about("A user-space L4 load balancer for Kubernetes Services, on io_uring")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(110)
        .subcommands(verbs)
        .subcommands(client::args::commands())
}

/// The options of a command.
fn rows(verb: Verb) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| match (verb, row.scope) {
        (Verb::Version, _) => false,
        (_, Scope::All) => true,
        (Verb::Check, Scope::Serving) | (Verb::Demo, Scope::Manifests) => false,
        (Verb::Run | Verb::Check | Verb::Demo, _) => true,
    })
}

fn arg(row: &'static Row) -> Arg {
    let default = match row.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let arg =
        Arg::new(row.flag).long(row.flag).value_name(row.value_name()).help(format!("{}{default}", row.doc));
    let arg = match row.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match row.kind {
        Kind::Texts(..) => arg.action(ArgAction::Append),
        // A switch may stand alone, and `--pin=false` turns it off, as in Go.
        Kind::Switch(_) => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = (Verb, Vec<(&'static str, String)>);

    fn parsed(line: &str) -> Result<Parsed, clap::Error> {
        let Asked::Serving(verb, flags) = parse(line.split(' ').map(OsString::from))? else {
            panic!("{line} is for an API")
        };
        Ok((verb, flags.into_iter().map(|(row, values)| (row.flag, values.join(" "))).collect()))
    }

    #[test]
    fn clap_accepts_the_definition() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_given_as_they_were_written() {
        let (verb, flags) =
            parsed("ringport run -f a.yaml --filename b --pin=false --splice --shards 3").unwrap();
        assert_eq!(verb, Verb::Run);
        let wanted = [("filename", "a.yaml b"), ("shards", "3"), ("pin", "false"), ("splice", "true")];
        assert_eq!(flags, wanted.map(|(flag, values)| (flag, values.to_owned())));
        assert_eq!(parsed("ringport version").unwrap(), (Verb::Version, vec![]));
    }

    #[test]
    fn each_command_has_the_options_that_it_uses() {
        assert!(parsed("ringport check --drain-timeout 3s").is_err());
        assert!(parsed("ringport demo -f x").is_err());
        assert!(parsed("ringport demo --drain-timeout 3s --cluster-ips").is_ok());
        assert!(parsed("ringport").is_err());
        assert!(parsed("ringport run --bananas").is_err());
    }
}
