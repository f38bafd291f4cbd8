//! Manifest files: read, read again when they change, watched.
//!
//! A file that cannot be read or does not parse keeps what it said before, and is reported once.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Metadata};
use std::hash::Hasher;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use siphasher::sip::SipHasher13;

use crate::k8s::decode;
use crate::k8s::ip::Trust;
use crate::limits;
use crate::limits::MANIFEST_BYTES;
use crate::problem::{Origin, Problem};
use crate::store::{Change, Store};

pub use super::watch::Watch;

/// One `-f`.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file, or a directory: then its `.yaml`, `.yml` and `.json` files, without its directories, as
    /// `kubectl apply -f DIR`.
    Path(PathBuf),
    /// `-`, read once.
    Stdin,
    /// Text that is part of the program.
    Text {
        /// Its name in messages.
        name: String,
        /// The manifests.
        text: String,
    },
}

/// The files of a process, and what is known of them.
#[derive(Debug)]
pub struct Manifests {
    inputs: Vec<Input>,
    files: BTreeMap<Arc<str>, Loaded>,
    problems: Vec<Problem>,
}

/// What is known of a file.
#[derive(Debug, Default)]
struct Loaded {
    /// Unless this changes, it is not read again.
    stamp: Option<Stamp>,
    /// Of its content, unless it has never been read.
    hash: Option<u64>,
    has_objects: bool,
    problems: Vec<Problem>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    /// Read once and never again: standard input, a pipe, embedded text.
    Once,
    File {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

/// A file to be read now.
struct Found<'a> {
    name: Arc<str>,
    source: Source<'a>,
}

enum Source<'a> {
    Path(PathBuf),
    Stdin,
    Text(&'a str),
}

impl Manifests {
    /// Nothing is read before [`Manifests::reload`].
    pub fn new(inputs: Vec<Input>) -> Self {
        Self { inputs, files: BTreeMap::new(), problems: Vec::new() }
    }

    /// Reads what has changed since the last time and puts it into the store, all at once. Returns the
    /// problems that were not there before. Call it a moment (10 ms) after the last change: some editors
    /// move a file away before they write the new one.
    pub fn reload(&mut self, store: &mut Store) -> Vec<Problem> {
        let inputs = std::mem::take(&mut self.inputs);
        let mut problems = Vec::new();
        let mut present = Vec::new();
        for input in &inputs {
            match find(input) {
                Ok(found) => present.extend(found),
                Err((problem, unreadable)) => {
                    problems.push(problem);
                    // What cannot be listed is not known to be gone.
                    present.extend(unreadable.into_iter().flat_map(|dir| self.known_in(&dir)));
                }
            }
        }
        let names: HashSet<&Arc<str>> = present.iter().map(|found| &found.name).collect();
        let mut changes = Vec::new();
        self.files.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                changes.push((Arc::clone(name), Change::Removed));
            }
            stays
        });
        for found in present {
            let file = self.files.entry(Arc::clone(&found.name)).or_default();
            if let Some(change) = file.refresh(&found) {
                changes.push((found.name, change));
            }
        }
        self.inputs = inputs;
        store.apply(changes);

        problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        problems.extend(store.problems());
        let new = problems.iter().filter(|problem| !self.problems.contains(problem)).cloned().collect();
        self.problems = problems;
        new
    }

    /// All problems in force.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }

    /// Calls `on_change`, on a thread of its own, whenever a file that [`Manifests::reload`] would read
    /// may have changed, come or gone.
    pub fn watch(&self, on_change: impl Fn() + Send + 'static) -> Result<Watch, Problem> {
        let paths = self.inputs.iter().filter_map(|input| match input {
            Input::Path(path) => Some(path.as_path()),
            _ => None,
        });
        Watch::start(paths, on_change)
    }

    fn known_in(&self, dir: &Path) -> Vec<Found<'static>> {
        let inside = self.files.keys().filter(|name| Path::new(&***name).parent() == Some(dir));
        let found = |name: &Arc<str>| {
            let source = Source::Path(PathBuf::from(&**name));
            Found { name: Arc::clone(name), source }
        };
        inside.map(found).collect()
    }
}

/// The files of an input, in the order in which they are read. With the error comes the directory that
/// is there but cannot be listed.
fn find(input: &Input) -> Result<Vec<Found<'_>>, (Problem, Option<PathBuf>)> {
    let path = match input {
        Input::Stdin => return Ok(vec![Found { name: "-".into(), source: Source::Stdin }]),
        Input::Text { name, text } => {
            return Ok(vec![Found { name: name.as_str().into(), source: Source::Text(text) }]);
        }
        Input::Path(path) => path,
    };
    let found = |path: PathBuf| {
        let name = path.to_string_lossy().into();
        Found { name, source: Source::Path(path) }
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let problem = unreadable(path, "the path does not exist");
            Err((Problem { hint: Some("name a file or a directory with -f".into()), ..problem }, None))
        }
        Ok(metadata) if metadata.is_dir() => match list(path) {
            Ok(paths) => Ok(paths.into_iter().map(found).collect()),
            Err(error) => {
                let message = format!("the directory cannot be read: {error}");
                Err((unreadable(path, &message), Some(path.clone())))
            }
        },
        // Reading says what is wrong with it.
        _ => Ok(vec![found(path.clone())]),
    }
}

/// The manifests of a directory, by name.
///
/// # Errors
/// It cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_manifest(&path) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file of a directory is read: by its extension, as kubectl does.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

fn unreadable(path: &Path, message: &str) -> Problem {
    let origin = Origin { file: path.to_string_lossy().into(), line: 0, column: 0 };
    Problem { origin: Some(origin), ..Problem::error(message) }
}

// === impl Loaded ===

impl Loaded {
    /// Reads the file if it may have changed; returns what it says if it says something else.
    fn refresh(&mut self, found: &Found<'_>) -> Option<Change> {
        let bytes = match self.read(&found.source) {
            Ok(bytes) => bytes?,
            Err(message) => {
                self.hash = None;
                self.keep(unreadable(Path::new(&*found.name), &message));
                return None;
            }
        };
        let mut hasher = SipHasher13::new();
        hasher.write(&bytes);
        let hash = Some(hasher.finish());
        if self.hash == hash {
            return None;
        }
        self.hash = hash;
        match decode::decode(&found.name, &bytes, Trust::File) {
            Err(problem) => {
                self.keep(problem);
                None
            }
            // An editor that empties the file before it writes, more often than a wish.
            Ok(decoded) if decoded.documents == 0 => {
                self.keep(unreadable(Path::new(&*found.name), "there are no objects in it"));
                None
            }
            Ok(decoded) => {
                self.has_objects = true;
                self.problems.clone_from(&decoded.problems);
                Some(Change::Replaced(decoded))
            }
        }
    }

    /// Reports a problem and leaves the objects of the file as they are.
    fn keep(&mut self, mut problem: Problem) {
        if self.has_objects {
            problem.hint = Some("what it held before stays in force".into());
        }
        self.problems = vec![problem];
    }

    /// The bytes, unless the file is known to be the same.
    fn read(&mut self, source: &Source<'_>) -> Result<Option<Vec<u8>>, String> {
        if self.stamp == Some(Stamp::Once) {
            return Ok(None);
        }
        let path = match source {
            Source::Text(text) => {
                self.stamp = Some(Stamp::Once);
                return Ok(Some(text.as_bytes().to_vec()));
            }
            Source::Stdin => {
                self.stamp = Some(Stamp::Once);
                return bounded(io::stdin().lock()).map(Some);
            }
            Source::Path(path) => path,
        };
        let failed = |error: io::Error| format!("cannot be read: {error}");
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.is_file() && self.stamp == Some(Stamp::of(&metadata)) {
            return Ok(None);
        }
        self.stamp = None;
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let bytes = bounded(file)?;
        self.stamp = match metadata.is_file() {
            true => Some(Stamp::of(&metadata)).filter(|_| is_settled(&metadata)),
            false => Some(Stamp::Once),
        };
        Ok(Some(bytes))
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self::File {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Whether a later change must get another timestamp.
fn is_settled(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age > limits::TIMESTAMP_STEP)
}

fn bounded(file: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MANIFEST_BYTES {
        return Err(format!("is larger than {} MiB", MANIFEST_BYTES >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
