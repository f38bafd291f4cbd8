//! The rules themselves.

use crate::paths::{self, Named};

/// The top modules, by layer. Imports go to a lower layer only, or along [`SAME_LAYER`].
const LAYERS: &[(u8, &[&str])] = &[
    (6, &["main", "app", "cli"]),
    (5, &["control", "shard", "admin", "api"]),
    (4, &["source", "store"]),
    (3, &["route", "metrics"]),
    (2, &["ring", "net"]),
    (1, &["k8s", "config"]),
    (0, &["types", "limits", "clock", "counter", "problem"]),
];

/// Imports within a layer. Besides these, layers 0 and 6 are free among themselves.
const SAME_LAYER: &[(&str, &str)] = &[("route", "metrics"), ("source", "store"), ("ring", "net")];

/// What `shard` never sees, though it lies below: the data plane knows the snapshot, not where it came from.
const HIDDEN_FROM_SHARD: &[&str] = &["k8s", "store", "source", "api"];

/// Crates that may be named in these places only.
const CONFINED: &[(&[&str], &[&str])] = &[
    (&["glommio"], &["shard/", "ring/"]),
    (&["io_uring"], &["ring/", "net/"]),
    (
        &["tokio", "tokio_uring", "hyper", "hyper_util", "http_body_util", "notify", "kube"],
        &["api/", "source/", "admin/", "cli/", "app/", "app.rs"],
    ),
    (&["arc_swap"], &["route/plane.rs", "shard/"]),
];

/// The modules without input, output, threads or a clock.
const PURE: &[&str] = &["k8s", "route"];

/// What those may not name. A prefix of a path.
const IMPURE: &[&str] = &[
    "crate::clock::now",
    "crate::clock::now_micros",
    "clock::now",
    "clock::now_micros",
    "fastrand::u32",
    "fastrand::u64",
    "fastrand::usize",
    "getrandom",
    "io_uring",
    "libc",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Where unsafe code may stand.
const UNSAFE: &[&str] = &["ring/", "net/"];

/// Lines of a file, tests left out.
const MAX_LINES: usize = 600;

/// One row after the other: these may be longer.
const TABLES: &[&str] = &["config/table.rs", "metrics/table.rs"];

/// What is wrong with a file of `src/`, whose name is given from there.
pub(crate) fn check(file: &str, text: &str) -> Vec<String> {
    if file.ends_with("/tests.rs") || file.contains("/tests/") || file == "lib.rs" {
        return Vec::new();
    }
    let module: Vec<&str> = file.trim_end_matches(".rs").split('/').filter(|&part| part != "mod").collect();
    let top = module[0];
    let Some(layer) = layer_of(top) else {
        return vec![format!("{file}: {top} has no layer: give it one in tests/layout/rules.rs")];
    };
    let source = paths::read(&module, text);
    let mut broken = Vec::new();
    for named in &source.paths {
        let complaint =
            layering(top, layer, named).or_else(|| confinement(file, named)).or_else(|| purity(top, named));
        broken.extend(complaint.map(|complaint| format!("{file}:{}: {complaint}", named.line)));
    }
    if PURE.contains(&top) {
        broken
            .extend(source.async_lines.first().map(|line| format!("{file}:{line}: {top} is pure: no async")));
    }
    if !UNSAFE.iter().any(|place| file.starts_with(place)) {
        let first = source.unsafe_lines.first();
        broken.extend(first.map(|line| format!("{file}:{line}: unsafe code may only stand in {UNSAFE:?}")));
    }
    if source.lines > MAX_LINES && !TABLES.contains(&file) {
        broken.push(format!("{file}: {} lines without tests, at most {MAX_LINES}: split it", source.lines));
    }
    broken
}

fn layering(top: &str, layer: u8, named: &Named) -> Option<String> {
    let [root, target, ..] = named.segments.as_slice() else { return None };
    if !(root == "crate" || top == "main" && root == "ringport") || target == top {
        return None;
    }
    let Some(below) = layer_of(target) else {
        return Some(format!("{target} has no layer: give it one in tests/layout/rules.rs"));
    };
    let free = layer == below && (layer == 0 || layer == 6);
    let allowed = below < layer || free || SAME_LAYER.contains(&(top, target.as_str()));
    let hidden = top == "shard" && HIDDEN_FROM_SHARD.contains(&target.as_str());
    (!allowed || hidden).then(|| format!("{top} may not use {target}"))
}

fn confinement(file: &str, named: &Named) -> Option<String> {
    let root = named.segments.first()?.as_str();
    let (_, places) = CONFINED.iter().find(|(crates, _)| crates.contains(&root))?;
    let fine = places.iter().any(|place| file.starts_with(place));
    (!fine).then(|| format!("{root} may only be named in {places:?}"))
}

fn purity(top: &str, named: &Named) -> Option<String> {
    let path = named.segments.join("::");
    let names = |impure: &&&str| path == **impure || path.starts_with(&format!("{impure}::"));
    let impure = PURE.contains(&top).then(|| IMPURE.iter().find(names)).flatten()?;
    Some(format!("{top} is pure: it may not name {impure}"))
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}
