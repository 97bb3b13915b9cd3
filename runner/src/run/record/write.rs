//! Replacing files and links so that a reader sees the old or the new, never half of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RecordError;

/// What a write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process. Costs no flush.
    Cheap,
    /// The loss of power: the file is flushed before it takes its name, so that a reader finds the old one or the new one. Which
    /// of them, the file system decides within its commit interval: flushing the directory, too, would wait for it.
    Flushed,
}

/// Makes temporary names unique among the threads of this process.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

fn temporary_name(name: &str) -> String {
    format!(".{name}.{}-{}", std::process::id(), TEMPORARY.fetch_add(1, Ordering::Relaxed))
}

/// Writes `path` under another name, mode 0600, and renames it into place.
pub fn write_file_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), RecordError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let temporary = path.with_file_name(temporary_name(name));
    let written = write_new(&temporary, bytes, durability).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return Err(RecordError::io("write", path, source));
    }
    Ok(())
}

/// Writes a file that is not there yet, mode 0600.
pub(super) fn write_new(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    match durability {
        Durability::Cheap => Ok(()),
        Durability::Flushed => file.sync_all(),
    }
}

/// Points the link `name` in `directory` at `target`, replacing an older link in one step.
pub(super) fn replace_link(directory: &Path, name: &str, target: &str) -> Result<(), RecordError> {
    let temporary = directory.join(temporary_name(name));
    let path = directory.join(name);
    let linked = symlink(target, &temporary).and_then(|()| fs::rename(&temporary, &path));
    linked.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        RecordError::io("replace the link", path, source)
    })
}
