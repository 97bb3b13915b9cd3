//! `lock`: held by the process whose run it is. Free means that the process is gone, whatever it left behind.
//!
//! The kernel drops a flock with its last descriptor, on SIGKILL too; no process id is ever compared. The file
//! is never unlinked while its directory stands: two processes could then hold two different locks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::RecordError;
use super::id::timestamp;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct RunLock {
    // Held for its flock alone.
    _file: File,
}

impl RunLock {
    /// Makes and locks the file, and notes in it, for people, who holds it.
    pub(super) fn create(path: &Path) -> Result<Self, RecordError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| RecordError::io("create", path, source))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| RecordError::io("lock", path, errno.into()))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let holder = serde_json::json!({
            "pid": std::process::id(),
            "started": timestamp(),
            "boot": boot.trim(),
        });
        file.write_all(format!("{holder}\n").as_bytes())
            .map_err(|source| RecordError::io("write", path, source))?;
        Ok(Self { _file: file })
    }

    /// Whether somebody holds it. A file that cannot be opened is held by nobody.
    pub(super) fn is_held(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
    }

    /// Waits until nobody holds it.
    pub(super) fn wait_until_free(path: &Path) -> Result<(), RecordError> {
        let wrong = |error: io::Error| RecordError::io("lock", path, error);
        let file = File::open(path).map_err(wrong)?;
        loop {
            match flock(&file, FlockOperation::LockShared) {
                Err(Errno::INTR) => {}
                result => return result.map_err(|errno| wrong(errno.into())),
            }
        }
    }

    /// A handle on the process that holds it, for signals; `None` when it is gone, or cannot be seen from here.
    ///
    /// The process id in the file only says where to look. What counts is that the process, held fast by its handle, has this
    /// very file open, and that the lock is held: then the id was not given to somebody else meanwhile.
    pub(super) fn holder(path: &Path) -> Option<OwnedFd> {
        let file = File::open(path).ok()?;
        let note: serde_json::Value = serde_json::from_reader(&file).ok()?;
        let pid = i32::try_from(note["pid"].as_i64()?).ok()?;
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let own = file.metadata().ok()?;
        let mut open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let same = |found: std::fs::Metadata| (found.dev(), found.ino()) == (own.dev(), own.ino());
        let has_it = open.any(|entry| std::fs::metadata(entry.path()).is_ok_and(same));
        (has_it && Self::is_held(path)).then_some(handle)
    }

    /// Takes it over from a process that is gone; `None` while somebody holds it. A run that died before it
    /// had a lock file gets one.
    pub(super) fn adopt(path: &Path) -> Result<Option<Self>, RecordError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| RecordError::io("open", path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(RecordError::io("lock", path, io::Error::from(errno))),
        }
    }
}
