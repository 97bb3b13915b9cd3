//! Work in progress: a directory under a random name that its owner's lock keeps alive.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, fsync, mkdirat, openat, renameat_with,
    syncfs, unlinkat,
};
use rustix::io::Errno;

use super::{LAYERS, ROOTFS, Store, StoreError, TMP, open_directory};
use crate::random;
use crate::remove::remove_tree;
use crate::unpack::Unpacker;

/// Ending of the lock file beside each work directory.
pub(super) const LOCK_ENDING: &str = ".lock";

/// Tries at a random name; the second is needed only when a sweep came between.
const TRIES_MAX: u32 = 16;

/// A directory below `tmp`; removed on drop unless it was published.
#[derive(Debug)]
pub(crate) struct Work {
    store: Store,
    name: String,
    handle: OwnedFd,
    _lock: OwnedFd,
}

impl Work {
    /// Makes a new one. The lock comes first, so that no sweep ever sees it without.
    pub(crate) fn new(store: &Store) -> Result<Work, StoreError> {
        let tmp = store.root.join(TMP);
        for _ in 0..TRIES_MAX {
            let name = format!("{:016x}", random::number());
            let Some(lock) = new_lock(&store.tmp, &name)
                .map_err(|errno| StoreError::new("create a lock in", &tmp, errno))?
            else {
                continue;
            };
            mkdirat(&store.tmp, &name, Mode::RWXU)
                .map_err(|errno| StoreError::new("create a directory in", &tmp, errno))?;
            let handle = open_directory(&store.tmp, &name)
                .map_err(|errno| StoreError::new("open a directory in", &tmp, errno))?;
            return Ok(Work { store: store.clone(), name, handle, _lock: lock });
        }
        Err(StoreError::new("find a free name in", tmp, Errno::EXIST))
    }

    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.store.root.join(TMP).join(&self.name)
    }

    /// Makes the directory that a layer is unpacked into.
    pub(crate) fn make_rootfs(&self) -> Result<OwnedFd, StoreError> {
        let failed = |errno| StoreError::new("create", self.path().join(ROOTFS), errno);
        mkdirat(&self.handle, ROOTFS, Mode::RWXU).map_err(failed)?;
        let rootfs = open_directory(&self.handle, ROOTFS).map_err(failed)?;
        // What an archive without an entry for its root gets; such an entry changes it.
        let everyone = Mode::from_raw_mode(0o755);
        rustix::fs::fchmod(&rootfs, everyone).map_err(failed)?;
        Ok(rootfs)
    }

    /// Makes a file beside the tree.
    pub(crate) fn create_file(&self, name: &str) -> Result<File, StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR);
        file.map(File::from).map_err(|errno| StoreError::new("create", self.path().join(name), errno))
    }

    /// Makes all of it durable, then visible as a layer. If another run was faster, its layer stays.
    pub(crate) fn publish(self, name: &str, unpacker: &dyn Unpacker) -> Result<(), StoreError> {
        let path = self.store.root.join(LAYERS).join(name);
        let failed = |action| move |errno: Errno| StoreError::new(action, path.clone(), errno);
        syncfs(&self.store.root_handle).map_err(failed.clone()("write to disk, for"))?;
        let renamed =
            renameat_with(&self.store.tmp, &self.name, &self.store.layers, name, RenameFlags::NOREPLACE);
        match renamed {
            Ok(()) => fsync(&self.store.layers).map_err(failed("sync the directory of")),
            Err(Errno::EXIST) => {
                self.discard(unpacker);
                Ok(())
            }
            Err(errno) => Err(failed("publish")(errno)),
        }
    }

    /// Removes it with the rights of the unpacker. What cannot be removed waits for a sweep.
    pub(crate) fn discard(self, unpacker: &dyn Unpacker) {
        let _ = unpacker.remove(self.store.tmp.as_fd(), &self.name);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Published or discarded ones are gone already, which is no error. What needs other rights than ours stays,
        // with its lock file, for a sweep that has them.
        if remove_tree(&self.store.tmp, &self.name).is_ok() {
            let lock = format!("{}{LOCK_ENDING}", self.name);
            let _ = unlinkat(&self.store.tmp, lock, AtFlags::empty());
        }
    }
}

/// Creates and takes the lock of a work directory; `None` if a sweep took it for a dead one in between.
fn new_lock(tmp: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let lock = openat(tmp, format!("{name}{LOCK_ENDING}"), flags, Mode::RUSR | Mode::WUSR)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let unlinked = fstat(&lock)?.st_nlink == 0;
    Ok((!unlinked).then_some(lock))
}
