//! `ringport check`: validate manifests and print what would be served. Touches no socket.

use std::fmt::Write as _;

use super::{Error, print};
use crate::app;
use crate::config::Config;
use crate::problem::{Problem, Severity};
use crate::route::compile::{Compiled, Compiler};
use crate::route::snapshot::Frontend;
use crate::source::manifests::{Input, Manifests};
use crate::store::Store;

pub(super) fn check(config: &Config) -> Result<(), Error> {
    let mut store = Store::for_files(app::store_options(config));
    let inputs = inputs(config);
    if inputs.is_empty() {
        return Err(Error::NoManifests(""));
    }
    let mut problems = Manifests::new(inputs).reload(&mut store);
    let options = app::compile_options(config);
    let compiled = Compiler::new(options, 1).compile(&store.world());
    problems.extend(compiled.problems.iter().cloned());
    print(&report(&compiled, &problems))?;
    match problems.iter().filter(|problem| problem.severity == Severity::Error).count() {
        0 => Ok(()),
        1 => Err(Error::Refused("1 thing is".to_owned())),
        n => Err(Error::Refused(format!("{n} things are"))),
    }
}

/// The manifests that were named.
pub(super) fn inputs(config: &Config) -> Vec<Input> {
    let input = |name: &String| match name.as_str() {
        "-" => Input::Stdin,
        path => Input::Path(path.into()),
    };
    config.filenames.iter().map(input).collect()
}

/// What would be served, then the problems.
fn report(compiled: &Compiled, problems: &[Problem]) -> String {
    let header = ["FRONTEND", "KIND", "SERVICE", "ENDPOINTS"].map(str::to_owned);
    let rows: Vec<[String; 4]> =
        std::iter::once(header).chain(compiled.frontends.values().map(|frontend| row(frontend))).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [frontend, kind, service, endpoints] in &rows {
        let [a, b, c] = widths;
        let _ = writeln!(text, "{frontend:a$}   {kind:b$}   {service:c$}   {endpoints}");
    }
    if compiled.frontends.is_empty() {
        text = "nothing would be served: no Service has a node port or an external IP\n".to_owned();
    }
    for problem in problems {
        let severity = match problem.severity {
            Severity::Error => "refused",
            Severity::Warning => "warning",
        };
        let _ = writeln!(text, "{severity}: {problem}");
    }
    text
}

fn row(frontend: &Frontend) -> [String; 4] {
    let endpoints: Vec<String> =
        frontend.targets.endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect();
    let endpoints = match endpoints.as_slice() {
        [] => "<none>: clients are refused".to_owned(),
        some => some.join(","),
    };
    [frontend.key.to_string(), frontend.kind.as_str().to_owned(), frontend.port.name.to_string(), endpoints]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(text: &str) -> (String, usize) {
        let config = Config::defaults().unwrap();
        let mut store = Store::for_files(app::store_options(&config));
        let inputs = vec![Input::Text { name: "web.yml".to_owned(), text: text.to_owned() }];
        let problems = Manifests::new(inputs).reload(&mut store);
        let compiled =
            Compiler::new(crate::route::compile::CompileOptions::default(), 1).compile(&store.world());
        (report(&compiled, &problems), problems.len())
    }

    #[test]
    fn the_report_names_frontends_endpoints_and_problems() {
        let sample = include_str!("../../configs/services/nodeport.yml");
        let (text, problems) = reported(sample);
        assert_eq!(
            text,
            "FRONTEND           KIND         SERVICE                     ENDPOINTS\n\
             TCP *:30008        nodePort     default/node-port-service   <none>: clients are refused\n\
             TCP 1.2.3.110:80   externalIP   default/node-port-service   <none>: clients are refused\n"
        );
        assert_eq!(problems, 0);
        let pods = include_str!("../../configs/pods/myapp.yml");
        assert!(
            reported(&format!("{sample}---\n{pods}")).0.contains("127.0.0.2:80,127.0.0.3:80,127.0.0.4:80")
        );
        let udp = reported(&sample.replace("port: 80\n", "port: 80\n      protocol: UDP\n")).0;
        assert!(udp.contains("UDP *:30008") && udp.contains("<none>: clients are refused"), "{udp}");
        let (text, problems) = reported(&sample.replace("port: 80\n", "prot: 80\n"));
        assert!(
            text.starts_with("nothing would be served") && text.contains("\nrefused: web.yml:"),
            "{text}"
        );
        assert!(problems > 0);
    }
}
