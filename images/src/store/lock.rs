//! Locks of the store: `flock` on files that are never removed, so that a lock is never on a dead name.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use super::{Store, StoreError};

/// A lock that is held until it is dropped, or until the process dies.
#[derive(Debug)]
pub struct Lease {
    _file: OwnedFd,
}

/// The answer to a request that does not wait.
pub(crate) enum Locking {
    Held(Lease),
    Busy,
}

impl Store {
    /// Takes the exclusive lock `name`, or says that another holds it.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Locking, StoreError> {
        let file = self.lock_file(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locking::Held(Lease { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(Locking::Busy),
            Err(errno) => Err(StoreError::new("lock", self.lock_path(name), errno)),
        }
    }

    /// Takes a shared lock: what it protects is in use. Waits while somebody collects it.
    pub(crate) fn lease(&self, name: &str) -> Result<Lease, StoreError> {
        let file = self.lock_file(name)?;
        loop {
            match flock(&file, FlockOperation::LockShared) {
                Ok(()) => return Ok(Lease { _file: file }),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(StoreError::new("lock", self.lock_path(name), errno)),
            }
        }
    }

    fn lock_file(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let path = self.lock_path(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| StoreError::new("open the lock", path, errno))
    }
}
