//! The content-addressed store: what is in it is whole, what is not whole is not in it.
//!
//! ```text
//! layers/sha256/<diff id>.<flavour>/rootfs/   an unpacked layer, never written again
//! layers/sha256/<diff id>.<flavour>/layer.json  what came out of it; written before the layer appears
//! layers/sha256/<diff id>.<flavour>/tree.zst  the list of what is in it, by which it is verified
//! blobs/sha256/<digest>                       manifests and configurations, as they came
//! images/<digest>.json                        what an image consists of: its layers
//! refs/<key>.json                             what a path or a URL was last time
//! locks/<name>.lock                           flocks, never removed
//! tmp/<random>/, tmp/<random>.lock            work in progress; garbage once its lock is free
//! ```
//!
//! Readers need no lock but the lease on what they use. Everything appears by a rename after `syncfs`.

mod life;
mod lock;
mod record;
mod sweep;
mod verify;
mod work;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, IFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, ioctl_getflags, ioctl_setflags,
    mkdirat, openat, utimensat,
};
use rustix::io::Errno;

pub use life::{LifeError, PruneLimits, Pruned, StoredImage};
pub use lock::Lease;
pub use sweep::Swept;
pub use verify::Verified;

pub(crate) use life::COLLECT_LOCK;

pub(crate) use lock::Locking;
pub(crate) use record::{FileIdentity, Form, ImageRecord, LayerRecord, RefRecord, Seen};
pub(crate) use work::Work;

use crate::digest::Digest;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

const LAYERS: &str = "layers/sha256";
const IMAGES: &str = "images";
const REFS: &str = "refs";
const LOCKS: &str = "locks";
const TMP: &str = "tmp";
const BLOBS: &str = "blobs/sha256";

/// Name of the tree inside a layer's directory: the directory itself stays ours and private.
pub(crate) const ROOTFS: &str = "rootfs";
/// Name of the record of how a layer came to be, beside its tree.
pub(crate) const LAYER_RECORD: &str = "layer.json";
/// Name of the list of what a layer consists of, beside its tree.
pub(crate) const TREE_RECORD: &str = "tree.zst";

/// A store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StoreError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

impl StoreError {
    pub(crate) fn new(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> StoreError {
        StoreError { action, path: path.into(), source: source.into() }
    }
}

/// A directory of unpacked layers. Clones share the open handles.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<Path>,
    root_handle: Arc<OwnedFd>,
    tmp: Arc<OwnedFd>,
    layers: Arc<OwnedFd>,
}

impl Store {
    /// Opens the store at `dir`, creating what is missing, and sweeps what killed runs left.
    ///
    /// The store is private (0700): the files in it may be setuid, and their owners mean something only inside.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let root = std::path::absolute(dir).map_err(|error| StoreError::new("find", dir, error))?;
        std::fs::create_dir_all(&root).map_err(|error| StoreError::new("create", &root, error))?;
        let root_handle =
            open_directory(CWD, &root).map_err(|errno| StoreError::new("open", &root, errno))?;
        rustix::fs::fchmod(&root_handle, Mode::RWXU)
            .map_err(|errno| StoreError::new("make private", &root, errno))?;
        for name in ["layers", LAYERS, "blobs", BLOBS, IMAGES, REFS, LOCKS, TMP] {
            match mkdirat(&root_handle, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(StoreError::new("create", root.join(name), errno)),
            }
        }
        let below = |name: &str| {
            open_directory(&root_handle, name)
                .map_err(|errno| StoreError::new("open", root.join(name), errno))
        };
        let (tmp, layers) = (below(TMP)?, below(LAYERS)?);
        spread(&tmp);
        let store = Store {
            root: root.into(),
            root_handle: root_handle.into(),
            tmp: tmp.into(),
            layers: layers.into(),
        };
        store.sweep();
        Ok(store)
    }

    /// Returns the store's directory, absolute.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Removes what killed runs left in `tmp`, as far as this process may.
    pub fn sweep(&self) -> Swept {
        sweep::sweep(self, None)
    }

    /// Removes what killed runs left in `tmp`, with the unpacker's rights where those of this process do not do.
    pub fn sweep_with(&self, unpacker: &dyn crate::Unpacker) -> Swept {
        sweep::sweep(self, Some(unpacker))
    }

    /// Returns the tree of a layer and a lease on it, if the layer is there.
    pub(crate) fn layer(&self, name: &str) -> Result<Option<(PathBuf, Lease)>, StoreError> {
        let container = self.root.join(LAYERS).join(name);
        // A missing layer, the common case of a first pull, shall not make a lock file.
        if !container.join(ROOTFS).is_dir() {
            return Ok(None);
        }
        // First the lease, then the look: whoever collects holds the lock while it deletes.
        let lease = self.lease(&format!("layer-{name}"))?;
        let path = container.join(ROOTFS);
        Ok(path.is_dir().then_some((path, lease)))
    }

    /// Whether a layer is there, without a lease on it.
    pub(crate) fn has_layer(&self, name: &str) -> bool {
        self.layer_file(name, ROOTFS).is_dir()
    }

    /// Returns the path of a file beside a layer's tree.
    pub(crate) fn layer_file(&self, name: &str, file: &str) -> PathBuf {
        self.root.join(LAYERS).join(name).join(file)
    }

    /// Returns what was recorded when the tree at this path was made.
    pub(crate) fn layer_record(&self, tree: &Path) -> Option<LayerRecord> {
        let bytes = std::fs::read(tree.with_file_name(LAYER_RECORD)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Notes that an image was used now.
    pub(crate) fn touch(&self, digest: Digest) {
        let path = self.root.join(IMAGES).join(format!("{}.json", digest.hex()));
        let now = Timestamps { last_access: NOW, last_modification: NOW };
        // The time only decides what is pruned first.
        let _ = utimensat(CWD, path, &now, AtFlags::empty());
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.root.join(LOCKS).join(format!("{name}.lock"))
    }
}

/// The name of a layer's directory: one per content and ownership.
pub(crate) fn layer_name(id: Digest, flavour: &str) -> String {
    format!("{}.{flavour}", id.hex())
}

fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Asks ext4 to place each new subdirectory in a group of its own (`chattr +T`): creating thousands of files is 5
/// to 15 times slower next to inodes that were deleted a moment ago. Other filesystems refuse; that is all right.
fn spread(directory: &OwnedFd) {
    if let Ok(flags) = ioctl_getflags(directory)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(directory, flags | IFlags::TOPDIR);
    }
}
