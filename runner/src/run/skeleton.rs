//! Keeps the job's own layer on disk from run to run: it is nearly always the same, and making it costs more than the rest
//! of a step. `skeletons/<digest>/` below the home directory, one per content and owner.
//!
//! Whoever uses one holds a shared lock on the directory; whoever removes one holds the exclusive lock. One of another boot
//! counts as absent: nothing here is flushed to the disk.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat_with};
use sha2::{Digest as _, Sha256};

use super::errands::Servants;
use super::error::RunError;
use super::layer::{Entry, Layer};
use crate::sandbox::sweep::Since;

/// Most that are kept: one for each combination of host name, mounts and user that is in use here.
const KEPT_MAX: usize = 64;
/// Names of those that are being made or removed begin so.
const UNPUBLISHED: &str = ".";

/// A layer in use.
#[derive(Debug)]
pub struct Skeleton {
    /// The directory.
    pub path: PathBuf,
    _lease: File,
}

/// Returns the layer's directory, which is made if it is not there.
///
/// # Errors
/// Those of the file system; those of a servant that gives it to root inside.
pub fn obtain(home: &Path, layer: &Layer, servants: &Servants<'_>) -> Result<Skeleton, RunError> {
    let all = home.join("skeletons");
    let path = all.join(key(layer, servants));
    if let Some(skeleton) = leased(&path) {
        return Ok(skeleton);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(RunError::io(WRITE, &all))?;
    let skeleton = make(&all, path, layer, servants)?;
    collect(home, servants);
    Ok(skeleton)
}

/// What is tried, for an error message.
const WRITE: &str = "write the job's layer";

/// Makes one under a hidden name and publishes it.
fn make(all: &Path, path: PathBuf, layer: &Layer, servants: &Servants<'_>) -> Result<Skeleton, RunError> {
    // No collection while somebody makes one.
    let making = open(all).map_err(RunError::io(WRITE, all))?;
    lock(&making, FlockOperation::LockShared).map_err(RunError::io(WRITE, all))?;
    let hidden = all.join(format!("{UNPUBLISHED}{}-{:x}", std::process::id(), unique()));
    fs::create_dir(&hidden).map_err(RunError::io(WRITE, &hidden))?;
    write(&hidden, layer).map_err(RunError::io(WRITE, &hidden))?;
    let lease = open(&hidden).map_err(RunError::io(WRITE, &hidden))?;
    lock(&lease, FlockOperation::LockShared).map_err(RunError::io(WRITE, &hidden))?;
    // With subids the keeper is the step's user inside: what it wrote must be root's there, or a step could change /etc.
    if servants.identity.is_subids() && servants.user.0 != 0 {
        servants.hand_over(lease.as_fd(), (0, 0), Since::EVER)?;
    }
    match renameat_with(CWD, &hidden, CWD, &path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Skeleton { path, _lease: lease }),
        // Another was faster; ours goes with the next collection.
        Err(errno) => leased(&path).ok_or_else(|| RunError::io(WRITE, &path)(errno.into())),
    }
}

fn lock(directory: &File, operation: FlockOperation) -> io::Result<()> {
    Ok(flock(directory, operation)?)
}

/// Removes what killed runs left half made or half removed, and all but the newest [`KEPT_MAX`]. What is in use stays;
/// while one is being made, everything does.
pub fn collect(home: &Path, servants: &Servants<'_>) {
    let all = home.join("skeletons");
    let Ok(lock) = open(&all) else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let mut published: Vec<(SystemTime, OsString)> = Vec::new();
    for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(UNPUBLISHED) {
            remove(&all, &name, servants);
        } else if let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) {
            published.push((modified, name));
        }
    }
    published.sort_unstable_by(|one, other| other.cmp(one));
    for (_, name) in published.iter().skip(KEPT_MAX) {
        remove(&all, name, servants);
    }
}

/// Removes one that nobody uses. Nobody can begin to while its lock is held here: they look again once they have it.
fn remove(all: &Path, name: &OsStr, servants: &Servants<'_>) {
    let Ok(lock) = open(&all.join(name)) else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let (Ok(parent), Some(name)) = (open(all), name.to_str()) else { return };
    // What stays is found again by the next collection.
    let _rest = servants.remove(parent.as_fd(), name);
}

/// Opens one that is there and takes its lock, if it still is there then.
fn leased(path: &Path) -> Option<Skeleton> {
    let lease = open(path).ok()?;
    flock(&lease, FlockOperation::NonBlockingLockShared).ok()?;
    let (held, named) = (lease.metadata().ok()?, fs::metadata(path).ok()?);
    let same = (held.dev(), held.ino()) == (named.dev(), named.ino());
    same.then(|| Skeleton { path: path.to_path_buf(), _lease: lease })
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
}

/// Names a layer by its content, its owner and this boot.
fn key(layer: &Layer, servants: &Servants<'_>) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // Only subids make a difference: there the owner depends on the step's user.
    let owner = servants.identity.is_subids().then_some(servants.user);
    let mut hasher = Sha256::new();
    hasher.update(format!("{boot}{owner:?}"));
    for (path, entry) in &layer.entries {
        hasher.update(format!("{path:?} {entry:?}\n"));
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn unique() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}

/// Writes the layer into an empty directory, for every user inside whatever the caller's umask is.
fn write(directory: &Path, layer: &Layer) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for (path, entry) in &layer.entries {
        let at = directory.join(path);
        match entry {
            Entry::Directory(mode) => {
                fs::create_dir(&at)?;
                fs::set_permissions(&at, Permissions::from_mode(*mode))?;
            }
            Entry::File(text) => {
                fs::write(&at, text)?;
                fs::set_permissions(&at, Permissions::from_mode(0o644))?;
            }
            Entry::Form => {
                fs::write(&at, "")?;
                fs::set_permissions(&at, Permissions::from_mode(0o666))?;
            }
            Entry::Link(target) => symlink(target, &at)?,
        }
    }
    Ok(())
}
