//! Caches of jobs: directories that outlive them.
//!
//! `caches/` below the home directory. What a job has written into one is a layer, a directory of the overlay that its steps
//! shared; an entry says under which key which layers are found, the lowest first. So restoring costs nothing, and keeping a
//! rename. A layer is never changed; an entry is replaced as a whole, and the last one to be written counts. Whoever uses layers
//! holds shared locks on them, and what no entry names and nobody uses is removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat, syncfs};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::errands::Servants;
use super::record::{Durability, write_file_atomic};
use crate::sandbox::ids::Identity;

mod flatten;
mod look_after;
mod use_of;

pub use flatten::flatten;
pub use look_after::{CacheLimits, KeptCache, PrunedCaches, list, prune, remove};
pub use use_of::{Restored, Saved, Use};

/// Version of the entries.
const VERSION: u32 = 1;
/// Most layers of an entry: each costs a look at every name that is not there.
const LAYERS_MAX: usize = 12;
/// Hexadecimal digits of names made of digests.
const NAME_DIGITS: usize = 40;

/// A cache cannot be used.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct CacheError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl CacheError {
    fn of<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |error| Self { action, path, source: error.into() }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// What is kept under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    v: u32,
    /// The key.
    pub key: String,
    /// The cache's path as the job file has it.
    pub path: String,
    /// Whose ids its files have.
    pub flavour: String,
    /// How often it was replaced.
    pub generation: u64,
    /// RFC 3339, UTC, microseconds.
    pub created: String,
    /// Its layers, the lowest first.
    layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Layer {
    name: String,
    bytes: u64,
}

impl Entry {
    /// Bytes of all its layers.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }
}

/// Where all of them are.
#[derive(Debug, Clone)]
pub struct Caches {
    root: PathBuf,
}

/// What must not change while something is looked up or removed.
struct Held {
    _lock: File,
}

impl Caches {
    /// Those of a home directory; made when missing.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn open(home: &Path) -> Result<Self, CacheError> {
        let root = home.join("caches");
        for path in [root.join("entries"), root.join("layers")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(CacheError::of("create", &path))?;
        }
        Ok(Self { root })
    }

    fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.layers().join(name)
    }

    /// Entries of one path and one kind of ids lie beside each other.
    fn shelf(&self, path: &str, flavour: &str) -> PathBuf {
        self.root.join("entries").join(digest(&[path, flavour]))
    }

    fn entry_path(&self, path: &str, flavour: &str, key: &str) -> PathBuf {
        self.shelf(path, flavour).join(format!("{}.json", digest(&[key])))
    }

    /// Shared by those who look up and those who add; exclusive for those who remove.
    fn hold(&self, operation: FlockOperation) -> Result<Held, CacheError> {
        let path = self.root.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = openat(CWD, &path, flags, Mode::from_raw_mode(0o600));
        let file = File::from(file.map_err(CacheError::of("open", &path))?);
        flock(&file, operation).map_err(CacheError::of("lock", &path))?;
        Ok(Held { _lock: file })
    }

    /// All entries, with where they are and when they were used last; those that cannot be read are passed over.
    pub fn entries(&self) -> Result<Vec<(PathBuf, Entry, SystemTime)>, CacheError> {
        let all = self.root.join("entries");
        let mut found = Vec::new();
        for shelf in fs::read_dir(&all).map_err(CacheError::of("read", &all))?.flatten() {
            found.extend(read_shelf(&shelf.path()));
        }
        found.sort_by(|one, other| (&one.1.path, &one.1.key).cmp(&(&other.1.path, &other.1.key)));
        Ok(found)
    }

    /// Removes layers that no entry names and nobody uses. What cannot be removed now is left to the next time.
    fn collect(&self, servants: &Servants<'_>) -> Result<(), CacheError> {
        let Ok(_alone) = self.hold(FlockOperation::NonBlockingLockExclusive) else { return Ok(()) };
        let named: Vec<String> = self
            .entries()?
            .into_iter()
            .flat_map(|(_, entry, _)| entry.layers.into_iter().map(|layer| layer.name))
            .collect();
        let layers = self.layers();
        let parent = File::open(&layers).map_err(CacheError::of("open", &layers))?;
        for entry in fs::read_dir(&layers).map_err(CacheError::of("read", &layers))?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let free = || {
                let lock = File::open(entry.path()).ok()?;
                flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()
            };
            if !named.contains(&name) && free().is_some() {
                let _next_time = servants.remove(parent.as_fd(), &name);
            }
        }
        Ok(())
    }

    fn write(&self, entry: &Entry) -> Result<(), CacheError> {
        let shelf = self.shelf(&entry.path, &entry.flavour);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&shelf)
            .map_err(CacheError::of("create", &shelf))?;
        let path = self.entry_path(&entry.path, &entry.flavour, &entry.key);
        let bytes = serde_json::to_vec_pretty(entry).map_err(|error| CacheError {
            action: "write",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        let written = write_file_atomic(&path, &bytes, Durability::Flushed);
        written.map_err(|error| CacheError { action: "write", path, source: io::Error::other(error) })
    }

    /// Flushes what was written below, before an entry names it.
    fn flush(&self) -> Result<(), CacheError> {
        let root = File::open(&self.root).map_err(CacheError::of("open", &self.root))?;
        syncfs(&root).map_err(CacheError::of("flush", &self.root))
    }
}

/// The entries of one path.
fn read_shelf(shelf: &Path) -> Vec<(PathBuf, Entry, SystemTime)> {
    let entries = fs::read_dir(shelf).into_iter().flatten().flatten();
    let read = |found: fs::DirEntry| {
        let path = found.path();
        let is_entry = path.extension().is_some_and(|extension| extension == "json");
        let entry: Entry = serde_json::from_slice(&fs::read(&path).ok().filter(|_| is_entry)?).ok()?;
        let used = found.metadata().and_then(|metadata| metadata.modified()).ok()?;
        (entry.v == VERSION).then_some((path, entry, used))
    };
    entries.filter_map(read).collect()
}

/// Whose ids the files of a cache have: those of one kind cannot be read by another.
pub fn flavour(identity: Identity, user: (u32, u32)) -> String {
    match identity {
        Identity::Root { .. } => "root".to_owned(),
        Identity::Subids { .. } => format!("u{}-{}", user.0, user.1),
        Identity::Single => "one".to_owned(),
    }
}

/// A name of fixed length for any texts.
fn digest(texts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.get(..NAME_DIGITS).unwrap_or(&hex).to_owned()
}
