//! What killed runs left in `tmp`: every work directory whose lock is free.

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;

use super::Store;
use super::work::LOCK_ENDING;
use crate::remove::{RemoveError, remove_tree};
use crate::unpack::Unpacker;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Trees removed.
    pub removed: u64,
    /// Trees in use by other runs.
    pub live: u64,
    /// Trees that could not be removed: often files of other ids, which need the unpacker's rights.
    pub failed: Vec<RemoveError>,
}

/// Removes every dead work directory of the store.
pub(super) fn sweep(store: &Store, unpacker: Option<&dyn Unpacker>) -> Swept {
    let mut swept = Swept::default();
    let Ok(entries) = Dir::read_from(&store.tmp) else { return swept };
    for entry in entries.filter_map(Result::ok) {
        // Names are ours, hence text; whatever else lies here is not touched.
        let Ok(file_name) = entry.file_name().to_str() else { continue };
        if let Some(name) = file_name.strip_suffix(LOCK_ENDING) {
            sweep_one(store, name, file_name, unpacker, &mut swept);
        }
    }
    swept
}

fn sweep_one(store: &Store, name: &str, lock_name: &str, unpacker: Option<&dyn Unpacker>, swept: &mut Swept) {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(lock) = openat(&store.tmp, lock_name, flags, Mode::empty()) else { return };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            swept.live += 1;
            return;
        }
        Err(_) => return,
    }
    let removed = match unpacker {
        Some(unpacker) => unpacker.remove(store.tmp.as_fd(), name),
        None => remove_tree(&store.tmp, name),
    };
    match removed {
        Ok(()) => {
            // Last, and with the lock held: from here on the name means nothing to anybody.
            let _ = unlinkat(&store.tmp, lock_name, AtFlags::empty());
            swept.removed += 1;
        }
        Err(error) => swept.failed.push(error),
    }
}
