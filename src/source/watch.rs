//! Notices that manifests change, by inotify on the directories that they are in.
//!
//! Directories rather than files: editors replace a file by renaming another one over it, and a
//! mounted ConfigMap swaps the symlink `..data`. A file that is still being written is not read:
//! what counts is that the writer closes it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::manifests::{is_manifest, list};
use crate::problem::Problem;

/// Watches as long as it lives.
#[derive(Debug)]
pub struct Watch {
    _watcher: RecommendedWatcher,
}

/// The symlink that a mounted ConfigMap swaps when its content changes.
const CONFIG_MAP_DATA: &str = "..data";

/// What is looked at.
#[derive(Debug, Default)]
struct Scope {
    /// Directories of which every manifest counts.
    whole: HashSet<PathBuf>,
    /// Directories of which only some files count.
    partial: HashSet<PathBuf>,
    /// The names of those files.
    names: HashSet<OsString>,
}

impl Watch {
    /// Watches files and directories; a file need not exist yet, its directory has to.
    pub(super) fn start<'a>(
        paths: impl Iterator<Item = &'a Path>,
        on_change: impl Fn() + Send + 'static,
    ) -> Result<Self, Problem> {
        let mut scope = Scope::default();
        paths.for_each(|path| scope.add(path));
        let dirs: Vec<PathBuf> = scope.whole.union(&scope.partial).cloned().collect();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| scope.concerns(&event)) {
                on_change();
            }
        })
        .map_err(|error| failed("files cannot be watched", &error))?;
        for dir in dirs {
            watcher
                .watch(&dir, RecursiveMode::NonRecursive)
                .map_err(|error| failed(&format!("{} cannot be watched", dir.display()), &error))?;
        }
        Ok(Self { _watcher: watcher })
    }
}

impl Scope {
    fn add(&mut self, path: &Path) {
        if path.is_dir() {
            // Events tell of absolute paths, whatever was asked for.
            self.whole.insert(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
            list(path).into_iter().flatten().for_each(|file| self.add_target(&file));
        } else {
            self.add_file(path);
            self.add_target(path);
        }
    }

    fn add_file(&mut self, path: &Path) {
        let Some(name) = path.file_name() else { return };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        self.partial.insert(dir.unwrap_or(Path::new(".")).to_owned());
        self.names.insert(name.to_owned());
    }

    /// The file behind a symlink is watched as well.
    fn add_target(&mut self, path: &Path) {
        if let (true, Ok(target)) = (path.is_symlink(), path.canonicalize()) {
            self.add_file(&target);
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        event.need_rescan()
            || event.paths.iter().any(|path| self.is_finished(&event.kind, path) && self.contains(path))
    }

    fn contains(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        name == OsStr::new(CONFIG_MAP_DATA)
            || self.names.contains(name)
            || self.whole.contains(path)
            || is_manifest(path) && path.parent().is_some_and(|dir| self.whole.contains(dir))
    }

    /// Whether the file is as its writer wants it.
    fn is_finished(&self, kind: &EventKind, path: &Path) -> bool {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
            // A new file is still to be written and closed; a new link is finished.
            EventKind::Create(CreateKind::File) => {
                fs::symlink_metadata(path).is_ok_and(|file| !file.is_file() || file.nlink() > 1)
            }
            _ => true,
        }
    }
}

fn failed(what: &str, error: &notify::Error) -> Problem {
    let hint = match error.kind {
        notify::ErrorKind::MaxFilesWatch => "raise the sysctl fs.inotify.max_user_watches",
        notify::ErrorKind::Io(_) => "raise the sysctl fs.inotify.max_user_instances, or run with fewer files",
        _ => "its directory has to exist",
    };
    Problem { hint: Some(hint.into()), ..Problem::error(format!("{what}: {error}")) }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn only_finished_changes_of_files_that_are_read_count() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["new.yml", "a.yml", "c"] {
            fs::write(path(name), "").unwrap();
        }
        fs::hard_link(path("c"), path("linked.yml")).unwrap();
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let created = EventKind::Create(CreateKind::File);
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let touched = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        let removed = EventKind::Remove(RemoveKind::File);
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        // (event, file, of the whole directory, of a.yml alone)
        let table = [
            (closed, "a.yml", true, true),
            (renamed, "a.yml", true, true),
            (removed, "a.yml", true, true),
            (touched, "a.yml", true, true),
            (written, "a.yml", false, false),
            (read, "a.yml", false, false),
            (created, "new.yml", false, false),
            (created, "linked.yml", true, false),
            (closed, "b.yml", true, false),
            (closed, "noise.log", false, false),
            (closed, ".a.yml.swp", false, false),
            (renamed, "..data", true, true),
        ];
        let (mut whole, mut alone) = (Scope::default(), Scope::default());
        whole.add(dir.path());
        alone.add(&path("a.yml"));
        for (kind, name, by_dir, by_name) in table {
            let event = Event::new(kind).add_path(path(name));
            assert_eq!((whole.concerns(&event), alone.concerns(&event)), (by_dir, by_name), "{event:?}");
        }
    }

    #[test]
    fn a_directory_may_be_named_from_where_the_process_is() {
        // That of this crate, which has these.
        let here = std::env::current_dir().unwrap();
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for name in ["src", "./src", "src/", "src/k8s", "."] {
            let mut scope = Scope::default();
            scope.add(Path::new(name));
            let event = Event::new(closed).add_path(here.join(name).join("a.yml"));
            assert!(scope.concerns(&event), "{name}: {scope:?}");
        }
    }
}
