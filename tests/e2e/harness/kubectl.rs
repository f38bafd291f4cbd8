//! The real kubectl, in every version that is installed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::http::Api;
use super::world::World;

/// The oldest version whose commands are expected to work.
const OLDEST: u32 = 29;

/// A kubectl.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    path: PathBuf,
    pub(crate) minor: u32,
}

/// What a command has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// All that are new enough, the newest last. Says what it has found, past the test's capture.
pub(crate) fn installed() -> Vec<Kubectl> {
    let mut found: BTreeMap<u32, Kubectl> = BTreeMap::new();
    for path in candidates() {
        if let Some(kubectl) = Kubectl::at(&path).filter(|kubectl| kubectl.minor >= OLDEST) {
            found.entry(kubectl.minor).or_insert(kubectl);
        }
    }
    let mut stderr = std::io::stderr();
    let _ = match found.is_empty() {
        true => writeln!(stderr, "SKIPPED: no kubectl of 1.{OLDEST} or newer on PATH or in the usual places"),
        false => {
            let names: Vec<String> =
                found.values().map(|k| format!("1.{} ({})", k.minor, k.path.display())).collect();
            writeln!(stderr, "kubectl: {}", names.join(", "))
        }
    };
    found.into_values().collect()
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(
        ["/usr/local/bin", "/usr/lib/google-cloud-sdk/bin", "/snap/bin", "/opt/homebrew/bin"]
            .map(PathBuf::from),
    );
    folders.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join("google-cloud-sdk/bin")));
    // A kubectl that is a link into another folder has its sisters there.
    let linked: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| Some(folder.join("kubectl").canonicalize().ok()?.parent()?.to_owned()))
        .collect();
    folders.extend(linked);
    folders.sort();
    folders.dedup();
    let mut candidates = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let ours = names.filter(|name| name == "kubectl" || name.starts_with("kubectl.1."));
        candidates.extend(ours.map(|name| folder.join(name)));
    }
    // `kubectl` after `kubectl.1.NN`: where there is both, the first may be a dispatcher.
    candidates.sort_by_key(|path| (path.file_name() == Some("kubectl".as_ref()), path.clone()));
    candidates
}

impl Kubectl {
    fn at(path: &Path) -> Option<Self> {
        let output = Command::new(path)
            .args(["version", "--client", "-o", "json"])
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let said: Value = serde_json::from_slice(&output.stdout).ok()?;
        let minor: String =
            said["clientVersion"]["minor"].as_str()?.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { path: path.to_owned(), minor: minor.parse().ok()? })
    }

    /// A command against this API, with a home and a cache of its own.
    pub(crate) fn command(&self, world: &World, api: Api, args: &[&str]) -> Command {
        let home = world.path(&format!("home-{}", self.minor));
        let mut command = Command::new(&self.path);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("KUBECACHEDIR", home.join("cache"))
            .args(["--server", &format!("http://{}", api.0)])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs one, whose words are separated by spaces.
    pub(crate) fn run(&self, world: &World, api: Api, line: &str) -> Said {
        self.run_args(world, api, &line.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn run_args(&self, world: &World, api: Api, args: &[&str]) -> Said {
        let output = self.command(world, api, args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// A table with one space between its columns, and `AGE` for ages below ten minutes.
pub(crate) fn plainly(text: &str) -> String {
    let word = |word: &str| {
        let age = word.strip_suffix('s').is_some_and(|n| n.rsplit('m').all(|n| n.parse::<u32>().is_ok()));
        if age { "AGE".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n";
    text.lines().map(line).collect()
}
