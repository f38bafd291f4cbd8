//! The command lines of the client verbs: kubectl's, as far as they go.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::k8s::resource::{Info, RESOURCES, Resource};

/// A verb and the API it is said to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Ask {
    pub(super) target: Target,
    pub(super) verb: Verb,
}

/// Which API, and which namespace of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `http://…`, `https://…` or `unix:/…`
    pub(super) server: String,
    /// Says everything about the server instead.
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) namespace: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create(Files),
    Apply(Files),
    Delete(Chosen),
    Get(Get),
    Describe(Wanted),
}

/// Manifests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Files, directories, or `-`.
    pub(super) names: Vec<String>,
    /// Ask the server what it would do.
    pub(super) dry_run: bool,
}

/// Objects by file or by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    Files(Files),
    Named(Wanted),
}

/// Objects by kind and name, or by labels, or all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kinds: Vec<Resource>,
    pub(super) names: Vec<String>,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
    pub(super) everywhere: bool,
    pub(super) all: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Get {
    pub(super) wanted: Wanted,
    pub(super) output: Output,
    pub(super) watch: bool,
    pub(super) headers: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Output {
    #[default]
    Table,
    Wide,
    Yaml,
    Json,
    Name,
}

const OUTPUTS: [(&str, Output); 4] =
    [("json", Output::Json), ("name", Output::Name), ("wide", Output::Wide), ("yaml", Output::Yaml)];

/// The verbs, for the command line.
pub(in crate::cli) fn commands() -> [Command; 5] {
    let files = |doc: &'static str| Arg::new("filename").short('f').long("filename").help(doc);
    let files = |doc| files(doc).value_name("FILE").action(ArgAction::Append);
    let dry_run =
        || switch("dry-run", "Ask the server what it would do, and change nothing (--dry-run=server)");
    let dry_run = || dry_run().num_args(0..=1).require_equals(true).default_missing_value("server");
    let dry_run = || dry_run().action(ArgAction::Set).value_parser(["server"]);
    let read = "Manifests: a file, a directory, or - for standard input";
    [
        verb("create", "Create the objects of manifests through an API")
            .arg(files(read).required(true))
            .arg(dry_run()),
        verb("apply", "Make the objects of an API what manifests say")
            .arg(files(read).required(true))
            .arg(dry_run()),
        verb("delete", "Delete objects through an API, by file or by kind and name")
            .arg(files(read))
            .args(wanted())
            .arg(switch("all", "All objects of the kind in the namespace")),
        verb("get", "Print objects of an API")
            .args(wanted())
            .arg(everywhere())
            .arg(
                Arg::new("output")
                    .short('o')
                    .long("output")
                    .value_name("FORMAT")
                    .value_parser(OUTPUTS.map(|(name, _)| name))
                    .help("How"),
            )
            .arg(switch("watch", "Go on printing what changes").short('w'))
            .arg(switch("no-headers", "Leave out the names of the columns")),
        verb("describe", "Print a Service of an API in detail, with its events")
            .args(wanted())
            .arg(everywhere()),
    ]
}

fn verb(name: &'static str, about: &'static str) -> Command {
    let env = |name: &'static str| Arg::new(name).long(name);
    Command::new(name)
        .about(about)
        .arg(
            env("server")
                .short('s')
                .env("RINGPORT_SERVER")
                .value_name("URL")
                .default_value("http://127.0.0.1:8080")
                .help("The API: http://…, https://… or unix:/PATH; --api of ringport run"),
        )
        .arg(
            env("kubeconfig")
                .env("RINGPORT_KUBECONFIG")
                .value_name("FILE")
                .help("How to reach the API, instead of --server; ringport kubeconfig prints one"),
        )
        .arg(Arg::new("namespace").short('n').long("namespace").value_name("NAMESPACE").help("The namespace"))
}

fn wanted() -> [Arg; 3] {
    [
        Arg::new("what").value_name("KIND [NAME]").num_args(0..).help(
            "services, endpointslices, pods, nodes, namespaces, endpoints or events, and names; KIND/NAME",
        ),
        Arg::new("selector")
            .short('l')
            .long("selector")
            .value_name("LABELS")
            .help("Only those with these labels"),
        Arg::new("field-selector")
            .long("field-selector")
            .value_name("FIELDS")
            .help("Only those with these fields"),
    ]
}

fn everywhere() -> Arg {
    switch("all-namespaces", "Those of all namespaces").short('A')
}

fn switch(name: &'static str, doc: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(doc)
}

/// Reads the command line of a verb; `None` when it is none of these.
pub(in crate::cli) fn ask(name: &str, matches: &ArgMatches) -> Option<Result<Ask, String>> {
    let verb = match name {
        "create" => Ok(Verb::Create(files(matches))),
        "apply" => Ok(Verb::Apply(files(matches))),
        "delete" => chosen(matches).map(Verb::Delete),
        "get" => get(matches).map(Verb::Get),
        "describe" => wish(matches).map(Verb::Describe),
        _ => return None,
    };
    let text = |name| matches.get_one::<String>(name).cloned();
    let target = Target {
        server: text("server").unwrap_or_default(),
        kubeconfig: text("kubeconfig").map(PathBuf::from),
        namespace: text("namespace"),
    };
    Some(verb.map(|verb| Ask { target, verb }))
}

fn files(matches: &ArgMatches) -> Files {
    let names = matches.get_many::<String>("filename").into_iter().flatten().cloned().collect();
    let dry_run = matches.try_get_one::<String>("dry-run").is_ok_and(|value| value.is_some());
    Files { names, dry_run }
}

fn chosen(matches: &ArgMatches) -> Result<Chosen, String> {
    let files = files(matches);
    if !files.names.is_empty() {
        return Ok(Chosen::Files(files));
    }
    let wanted = wish(matches)?;
    if wanted.names.is_empty() && wanted.labels.is_none() && !wanted.all {
        return Err("resource(s) were provided, but no name was specified".to_owned());
    }
    Ok(Chosen::Named(wanted))
}

fn get(matches: &ArgMatches) -> Result<Get, String> {
    let output = matches.get_one::<String>("output");
    let output = OUTPUTS.iter().find(|(name, _)| output.is_some_and(|output| output == name));
    Ok(Get {
        wanted: wish(matches)?,
        output: output.map_or(Output::Table, |(_, output)| *output),
        watch: matches.get_flag("watch"),
        headers: !matches.get_flag("no-headers"),
    })
}

/// `services`, `svc web api`, `svc/web`, `services,pods`.
fn wish(matches: &ArgMatches) -> Result<Wanted, String> {
    let flag = |name| matches.try_get_one::<bool>(name).is_ok_and(|flag| flag == Some(&true));
    let text = |name| matches.get_one::<String>(name).cloned();
    let mut wanted = Wanted {
        labels: text("selector"),
        fields: text("field-selector"),
        everywhere: flag("all-namespaces"),
        all: flag("all"),
        ..Wanted::default()
    };
    let mut words = matches.get_many::<String>("what").into_iter().flatten().peekable();
    let Some(first) = words.next() else {
        return Err("say which kind: services, endpointslices, pods, …".to_owned());
    };
    match first.split_once('/') {
        Some((kind, name)) => {
            wanted.kinds = vec![known(kind)?];
            wanted.names.push(name.to_owned());
            for word in words {
                match word.split_once('/') {
                    Some((kind, name)) if wanted.kinds == [known(kind)?] => {
                        wanted.names.push(name.to_owned())
                    }
                    _ => {
                        return Err(format!("{word}: name objects of one kind at a time, each as {first}"));
                    }
                }
            }
        }
        None => {
            for kind in first.split(',') {
                match kind {
                    "all" => wanted.kinds.extend(in_category("all")),
                    kind => wanted.kinds.push(known(kind)?),
                }
            }
            wanted.names = words.cloned().collect();
        }
    }
    Ok(wanted)
}

fn in_category(category: &str) -> impl Iterator<Item = Resource> {
    RESOURCES.iter().filter(move |info| info.categories.contains(&category)).map(|info| info.resource)
}

/// A kind by any of its names.
fn known(word: &str) -> Result<Resource, String> {
    let lower = word.to_lowercase();
    let is = |info: &Info| {
        info.plural == lower
            || info.singular == lower
            || info.short.contains(&&*lower)
            || info.qualified() == lower
    };
    let found = RESOURCES.iter().find(|info| is(info)).map(|info| info.resource);
    found.ok_or_else(|| format!("the server doesn't have a resource type {word:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Verb, String> {
        let command = Command::new("ringport").subcommands(commands());
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.to_string())?;
        let (name, matches) = matches.subcommand().unwrap();
        ask(name, matches).unwrap().map(|ask| ask.verb)
    }

    fn wanted(line: &str) -> Result<Wanted, String> {
        match parsed(line)? {
            Verb::Get(get) => Ok(get.wanted),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kinds_go_by_all_their_names() {
        for line in ["svc", "services", "service", "Service", "SVC"] {
            assert_eq!(
                wanted(&format!("ringport get {line}")).unwrap().kinds,
                [Resource::Services],
                "{line}"
            );
        }
        let slices = wanted("ringport get endpointslices.discovery.k8s.io").unwrap();
        assert_eq!(slices.kinds, [Resource::EndpointSlices]);
        let all = wanted("ringport get all").unwrap();
        assert_eq!(all.kinds, [Resource::Services, Resource::Pods]);
        assert!(wanted("ringport get deployments").unwrap_err().contains("doesn't have a resource type"));
        assert!(wanted("ringport get").is_err());
    }

    #[test]
    fn names_stand_behind_the_kind_or_a_slash() {
        let both = ["web", "api"];
        assert_eq!(wanted("ringport get svc web api").unwrap().names, both);
        assert_eq!(wanted("ringport get svc/web service/api").unwrap().names, both);
        assert!(wanted("ringport get svc/web po/api").is_err());
    }

    #[test]
    fn deleting_everything_has_to_be_said() {
        assert!(parsed("ringport delete svc").is_err());
        for line in ["svc web", "svc --all", "svc -l a=b", "-f x.yml"] {
            assert!(parsed(&format!("ringport delete {line}")).is_ok(), "{line}");
        }
    }

    #[test]
    fn outputs_and_dry_runs() {
        let Verb::Get(get) = parsed("ringport get svc -o wide -w -A --no-headers").unwrap() else { panic!() };
        assert_eq!(
            (get.output, get.watch, get.headers, get.wanted.everywhere),
            (Output::Wide, true, false, true)
        );
        assert!(parsed("ringport get svc -o pretty").is_err());
        let dry = |line| match parsed(line).unwrap() {
            Verb::Create(files) => files.dry_run,
            other => panic!("{other:?}"),
        };
        assert!(!dry("ringport create -f x"));
        assert!(dry("ringport create -f x --dry-run=server"));
        assert!(parsed("ringport create").is_err());
    }
}
