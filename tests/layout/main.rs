//! The import rules of docs/architecture.md, kept by reading the source: who may use whom, where the
//! runtimes and the system may be named, where unsafe code may stand, and how long a file may get.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod paths;
mod rules;

use std::path::{Path, PathBuf};

use rules::check;

#[test]
fn the_source_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, "rs", &mut files);
    assert!(files.len() > 10, "found only {} files under {}", files.len(), root.display());
    let map = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    let mut broken = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        if !only_for_tests(name, &map) {
            broken.extend(check(name, &text));
        }
    }
    assert!(broken.is_empty(), "{} rule(s) broken:\n{}", broken.len(), broken.join("\n"));
}

/// Whether `lib.rs` declares it under `#[cfg(test)]`.
fn only_for_tests(name: &str, map: &str) -> bool {
    map.contains(&format!("#[cfg(test)]\nmod {};", name.trim_end_matches(".rs")))
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    collect(&root.join("docs"), "md", &mut pages);
    let mut broken = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !target.contains("://") && !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links to nothing:\n{}", broken.join("\n"));
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, extension, files);
        } else if path.extension().is_some_and(|end| end == extension) {
            files.push(path);
        }
    }
}

/// Each line: a file, what stands in it, and a part of the complaint that is due; none where it is fine.
const CASES: &[(&str, &str, Option<&str>)] = &[
    // Layers.
    ("shard/accept.rs", "use crate::route::snapshot::Frontend;", None),
    ("shard/accept.rs", "use crate::control::publish;", Some("shard may not use control")),
    ("shard/accept.rs", "use crate::k8s::model::Service;", Some("shard may not use k8s")),
    ("shard/accept.rs", "fn f() { crate::store::get(); }", Some("shard may not use store")),
    ("shard/accept.rs", "use crate::{ring::{self, op}, source::manifests as m};", Some("may not use source")),
    ("shard/accept.rs", "use crate::{\n  api\n};", Some("shard/accept.rs:2: shard may not use api")),
    ("shard/accept.rs", "use super::relay::pump;", None),
    ("shard/relay/pump.rs", "use super::super::super::admin::serve;", Some("shard may not use admin")),
    ("shard/relay/mod.rs", "use super::super::admin::serve;", Some("shard may not use admin")),
    ("shard/relay/mod.rs", "mod a { use super::super::run; }", None),
    ("route/pick.rs", "use crate::metrics::counters::Counter;", None),
    ("metrics/render.rs", "use crate::route::plane::Plane;", Some("metrics may not use route")),
    ("k8s/decode.rs", "use crate::types::Protocol;", None),
    ("k8s/decode.rs", "use crate::config::Config;", Some("k8s may not use config")),
    ("types.rs", "use crate::limits::PIPES;", None),
    ("types.rs", "use crate::k8s::model;", Some("types may not use k8s")),
    ("control/mod.rs", "use crate::shard::run;", Some("control may not use shard")),
    ("main.rs", "use ringport::app;", None),
    ("k8s/decode.rs", "pub(crate) fn f(crate_name: u8) {}", None),
    ("k8s/decode.rs", "pub(in crate::k8s) fn f() {}", None),
    ("helpers/mod.rs", "", Some("helpers has no layer")),
    ("k8s/decode.rs", "use crate::helpers::x;", Some("helpers has no layer")),
    // Runtimes and the system.
    ("shard/run.rs", "use glommio::LocalExecutor;", None),
    ("ring/park.rs", "use ::glommio::io::BufferedFile;", None),
    ("control/mod.rs", "use glommio::LocalExecutor;", Some("glommio may only be named")),
    ("control/mod.rs", "fn f() { let x = glommio::executor(); }", Some("glommio may only be named")),
    ("control/mod.rs", "use tokio::sync::Notify;", Some("tokio may only be named")),
    ("shard/run.rs", "#[tokio::main] fn f() {}", Some("tokio may only be named")),
    ("shard/run.rs", "use {std::fmt, tokio_uring as t};", Some("tokio_uring may only be named")),
    ("source/manifests.rs", "use tokio::sync::Notify;", None),
    ("metrics/render.rs", "use hyper::Response;", Some("hyper may only be named")),
    ("route/plane.rs", "use arc_swap::ArcSwap;", None),
    ("route/pick.rs", "use arc_swap::ArcSwap;", Some("arc_swap may only be named")),
    ("shard/run.rs", "use io_uring::opcode;", Some("io_uring may only be named")),
    // Pure parts.
    ("k8s/decode.rs", "use std::net::IpAddr;", None),
    ("k8s/decode.rs", "use std::net::{IpAddr, TcpStream};", Some("k8s is pure")),
    ("k8s/decode.rs", "use std::{fmt, fs};", Some("k8s is pure")),
    ("k8s/decode.rs", "fn f() { std::fs::read(\"x\"); }", Some("k8s is pure")),
    ("route/pick.rs", "use std::thread;", Some("route is pure")),
    ("route/pick.rs", "use std::time::{Duration, Instant};", Some("route is pure")),
    ("route/pick.rs", "use std::time::Duration;", None),
    ("route/pick.rs", "use crate::clock::Millis;", None),
    ("route/pick.rs", "use crate::clock::now;", Some("route is pure")),
    ("route/pick.rs", "use crate::clock; fn f() { clock::now(); }", Some("route is pure")),
    ("route/pick.rs", "async fn f() {}", Some("route is pure")),
    ("route/pick.rs", "use rustix::time;", Some("route is pure")),
    ("shard/run.rs", "use std::fs;", None),
    // Tests may do what they like, but only tests.
    ("route/pick.rs", "#[cfg(test)]\nmod tests { use std::fs; async fn f() {} }", None),
    (
        "route/pick.rs",
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse std::fs;",
        Some("pick.rs:3: route is pure"),
    ),
    ("route/pick.rs", "#[cfg(test)]\nuse std::fs;", None),
    ("route/pick.rs", "#[cfg(not(test))]\nuse std::fs;", Some("route is pure")),
    ("route/tests.rs", "use std::fs;", None),
    // Words in comments and strings are no code.
    ("k8s/decode.rs", "// use std::fs;\n/* std::fs /* */ std::fs */ const A: &str = \"std::fs\";", None),
    ("k8s/decode.rs", "const A: &str = r#\"\" std::fs::read \"#; const B: char = '\"'; // \"", None),
    ("k8s/decode.rs", "const B: char = '\"'; use std::fs; const C: &str = \"\";", Some("k8s is pure")),
    ("k8s/decode.rs", "fn f<'a>(x: &'a str) { std::fs::read(x); } // 'a'", Some("k8s is pure")),
    ("k8s/decode.rs", "/// [`crate::shard`]\nfn f() {}", None),
    // Unsafe code.
    ("ring/op.rs", "fn f() { unsafe { g() } }", None),
    ("shard/op.rs", "fn f() { unsafe { g() } }", Some("unsafe code may only stand")),
    ("shard/op.rs", "#![allow(unsafe_code)]", Some("unsafe code may only stand")),
    ("shard/op.rs", "#![forbid(unsafe_code)]", None),
];

#[test]
fn the_checker_finds_what_it_should() {
    for (file, text, expected) in CASES {
        let found = check(file, text);
        match expected {
            None => assert!(found.is_empty(), "{file}: {text}\nshould be fine, but: {found:?}"),
            Some(part) => {
                assert!(
                    found.len() == 1 && found[0].contains(part),
                    "{file}: {text}\nwants '{part}', found {found:?}"
                );
            }
        }
    }
}

#[test]
fn modules_for_tests_are_left_out() {
    let map = "pub mod limits;\n#[cfg(test)]\nmod pages;\npub mod problem;\n";
    assert!(only_for_tests("pages.rs", map));
    assert!(!only_for_tests("problem.rs", map));
}

#[test]
fn the_checker_finds_long_files() {
    let line = "fn f() {}\n";
    assert_eq!(check("k8s/a.rs", &line.repeat(600)), Vec::<String>::new());
    let found = check("k8s/a.rs", &line.repeat(601));
    assert!(found.len() == 1 && found[0].contains("601 lines"), "{found:?}");
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(600), line.repeat(900));
    assert_eq!(check("k8s/a.rs", &tests), Vec::<String>::new());
}
