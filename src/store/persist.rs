//! The state directory: what the API was given, in an ACID file (redb).
//!
//! A transaction is durable before its write is visible or acknowledged. Nothing else is kept here: files are
//! read again, and controllers make again what they made.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use crate::k8s::resource::Resource;
use crate::problem::{Origin, Problem};
use crate::types::NamespacedName;

/// `group/plural`, namespace and name, with NUL between them, to [`Record`].
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// Numbers by name.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// What the file looks like; a later ringport may read it, an earlier one must not.
const FORMAT: u64 = 1;

/// The name of the file in the state directory.
const FILE: &str = "objects.redb";

/// Bytes that redb may keep of the file in memory. All objects are in memory anyway.
const CACHE: usize = 4 << 20;

/// Versions that are reserved at once, so that those of files and controllers need no write each.
const BLOCK: u64 = 1 << 20;

/// Which object.
pub(super) type Id = (Resource, NamespacedName);

/// An object as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its place in the order of creation.
    pub(super) rank: u64,
    pub(super) json: Arc<str>,
}

/// What becomes of an object: its new record, or nothing.
pub(super) type Change = (Id, Option<Record>);

/// Opens the file: the first time, when it may be made, or again after an error.
type Open = Box<dyn Fn(Time) -> Result<Database, DatabaseError>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    First,
    Again,
}

/// The file, while this process has it.
pub(super) struct Disk {
    open: Open,
    /// None after an error, until it can be opened again.
    file: Option<Database>,
    /// Changes that may have reached the file though they were refused.
    doubtful: BTreeSet<Id>,
    /// Versions below this one may be used.
    reserved: u64,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("reserved", &self.reserved).finish_non_exhaustive()
    }
}

/// What a state directory holds.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) records: Vec<(Id, Record)>,
    /// No version up to this one may be given again.
    pub(super) version: u64,
}

impl Disk {
    /// Opens the state directory, which is made where it is not there.
    pub(super) fn open(dir: &Path) -> Result<(Self, Kept), Problem> {
        let place = |message: String, hint: &str| {
            let origin = Origin { file: dir.to_string_lossy().into(), line: 0, column: 0 };
            let problem = Problem::error(format!("the state directory {message}"));
            Problem { origin: Some(origin), hint: Some(hint.to_owned()), ..problem }
        };
        let unusable = "name a directory that this user may write with --state-dir";
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| place(format!("cannot be made: {error}"), unusable))?;
        let path: PathBuf = dir.join(FILE);
        let open = move |time| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
            if time == Time::First { builder.create(&path) } else { builder.open(&path) }
        };
        let opened = Self::with(Box::new(open)).map_err(|error| match error {
            Failure::InUse => {
                let hint = "stop the other ringport, or give this one a --state-dir of its own";
                place("is in use by another process".to_owned(), hint)
            }
            Failure::Newer(format) => {
                let hint = "run that ringport, or give this one a --state-dir of its own";
                place(format!("was written by a newer ringport (format {format})"), hint)
            }
            Failure::Damaged(why) => {
                let hint = "put a copy of it back, or move it away to begin without its objects; \
                            nothing was changed";
                place(format!("is damaged: {FILE}: {why}"), hint)
            }
            Failure::Unusable(why) => place(format!("cannot be used: {FILE}: {why}"), unusable),
        })?;
        // The name of a new file has to last as well.
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| place(format!("cannot be synchronised: {error}"), unusable))?;
        Ok(opened)
    }

    pub(super) fn with(open: Open) -> Result<(Self, Kept), Failure> {
        let file = open(Time::First)?;
        let mut disk = Self { open, file: Some(file), doubtful: BTreeSet::new(), reserved: 0 };
        let kept = disk.read()?;
        disk.reserved = kept.version;
        disk.reserve(kept.version, 0).map_err(Failure::Unusable)?;
        Ok((disk, kept))
    }

    fn read(&mut self) -> Result<Kept, Failure> {
        let Some(file) = &self.file else { return Err(Failure::Unusable("it is closed".into())) };
        // Makes the tables of a new file.
        let write = file.begin_write().map_err(damaged)?;
        {
            let mut numbers = write.open_table(NUMBERS).map_err(damaged)?;
            let format = numbers.get("format").map_err(damaged)?.map(|format| format.value());
            match format {
                Some(format) if format > FORMAT => return Err(Failure::Newer(format)),
                Some(_) => {}
                None => {
                    numbers.insert("format", FORMAT).map_err(damaged)?;
                }
            }
            write.open_table(OBJECTS).map_err(damaged)?;
        }
        write.commit().map_err(|error| Failure::Unusable(error.to_string()))?;

        let read = file.begin_read().map_err(damaged)?;
        let numbers = read.open_table(NUMBERS).map_err(damaged)?;
        let version = numbers.get("version").map_err(damaged)?.map_or(0, |version| version.value());
        let mut records = Vec::new();
        for entry in read.open_table(OBJECTS).map_err(damaged)?.iter().map_err(damaged)? {
            let (key, value) = entry.map_err(damaged)?;
            let record = parse(key.value(), value.value());
            records.push(record.ok_or_else(|| Failure::Damaged(format!("{:?} is no object", key.value())))?);
        }
        Ok(Kept { records, version })
    }

    /// Makes sure that `count` versions after `version` may be used and will not be given again, whatever
    /// happens.
    pub(super) fn reserve(&mut self, version: u64, count: u64) -> Result<(), String> {
        if version.saturating_add(count).saturating_add(BLOCK / 4) < self.reserved {
            return Ok(());
        }
        self.write(version.saturating_add(count), &[], |_| None)
    }

    /// Makes changes last, all or none; `version` is the highest that they use. An error changes nothing:
    /// should it turn out that the file has them, they are undone with what `now` says of an object before
    /// anything else is written.
    pub(super) fn write(
        &mut self,
        version: u64,
        changes: &[Change],
        now: impl Fn(&Id) -> Option<Record>,
    ) -> Result<(), String> {
        let reserved = match version + BLOCK / 4 < self.reserved {
            true => self.reserved,
            false => version.saturating_add(BLOCK),
        };
        let undo: Vec<Change> = self.doubtful.iter().map(|id| (id.clone(), now(id))).collect();
        match self.commit(reserved, undo.iter().chain(changes)) {
            Ok(()) => {
                self.reserved = reserved;
                self.doubtful.clear();
                Ok(())
            }
            Err(message) => {
                // redb wants to be opened again after an error.
                self.file = None;
                self.doubtful.extend(changes.iter().map(|(id, _)| id.clone()));
                Err(format!("the state directory cannot be written: {message}"))
            }
        }
    }

    fn commit<'a>(&mut self, reserved: u64, changes: impl Iterator<Item = &'a Change>) -> Result<(), String> {
        let file = match self.file.take() {
            Some(file) => file,
            None => (self.open)(Time::Again).map_err(|error| error.to_string())?,
        };
        let written = put(&file, reserved, self.reserved, changes);
        self.file = Some(file);
        written.map_err(|error| error.to_string())
    }
}

fn put<'a>(
    file: &Database,
    reserved: u64,
    before: u64,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<(), redb::Error> {
    let write = file.begin_write()?;
    {
        let mut objects = write.open_table(OBJECTS)?;
        for (id, record) in changes {
            let key = name(id);
            match record {
                Some(record) => {
                    let mut bytes = record.rank.to_le_bytes().to_vec();
                    bytes.extend_from_slice(record.json.as_bytes());
                    objects.insert(key.as_str(), bytes.as_slice())?;
                }
                None => {
                    objects.remove(key.as_str())?;
                }
            }
        }
        if reserved != before {
            write.open_table(NUMBERS)?.insert("version", reserved)?;
        }
    }
    write.commit()?;
    Ok(())
}

fn name((resource, key): &Id) -> String {
    let info = resource.info();
    format!("{}/{}\0{}\0{}", info.group, info.plural, key.namespace, key.name)
}

fn parse(key: &str, value: &[u8]) -> Option<(Id, Record)> {
    let mut parts = key.splitn(3, '\0');
    let (group, plural) = parts.next()?.split_once('/')?;
    let resource = Resource::named(group, plural)?;
    let key = NamespacedName::new(parts.next()?, parts.next()?);
    let (rank, json) = value.split_first_chunk()?;
    let json = std::str::from_utf8(json).ok()?;
    Some(((resource, key), Record { rank: u64::from_le_bytes(*rank), json: json.into() }))
}

/// Why a state directory is not used.
#[derive(Debug)]
pub(super) enum Failure {
    InUse,
    Newer(u64),
    Damaged(String),
    Unusable(String),
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Self::InUse,
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                Self::Unusable(error.to_string())
            }
            DatabaseError::UpgradeRequired(format) => Self::Newer(format.into()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

fn damaged(error: impl Into<redb::Error>) -> Failure {
    Failure::Damaged(error.into().to_string())
}

#[cfg(test)]
pub(super) mod tests;
