//! Images leave the store: as an OCI layout that other tools load, or as one tar of the root filesystem.
//!
//! Deterministic: the same image gives the same bytes. What is written appears by one rename when it is whole.

mod layout;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::random;
use crate::store::{Store, StoreError, StoredImage, Work};
use crate::unpack::{UnpackError, UnpackOptions, Unpacker};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportForm {
    /// An OCI layout in a directory.
    LayoutDirectory,
    /// The same in a tar, with what `docker load` of old wants to find as well.
    LayoutTar,
    /// One tar of all files, without the image's configuration.
    Rootfs,
}

/// An image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The place to write to.
    #[error("cannot {action} {}: {source}", path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A tree of the image is not in the store, or belongs to other ids.
    #[error("a layer of the image is not in the store: {tree}")]
    Missing {
        /// Its name.
        tree: String,
    },
    /// A tree cannot be read.
    #[error("cannot read the layer {tree}: {source}")]
    Read {
        /// Its name.
        tree: String,
        /// Why.
        source: io::Error,
    },
    /// Layers could not be put together.
    #[error("cannot put the layers together: {0}")]
    Merge(#[from] UnpackError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes an image to `target`, which must not exist.
pub fn export(
    store: &Store,
    image: &StoredImage,
    form: ExportForm,
    target: &Path,
    unpacker: &dyn Unpacker,
) -> Result<(), ExportError> {
    let failed = |action| move |source| ExportError::Path { action, path: target.to_owned(), source };
    if target.symlink_metadata().is_ok() {
        return Err(failed("write")(io::ErrorKind::AlreadyExists.into()));
    }
    let mut trees = Vec::new();
    for name in image.record.trees(unpacker.flavour()) {
        let found = store.layer(&name)?.ok_or_else(|| ExportError::Missing { tree: name.clone() })?;
        trees.push((name, found.0, found.1));
    }
    let beside = Beside::new(target).map_err(failed("write beside"))?;
    match form {
        ExportForm::LayoutDirectory => {
            layout::write(store, image, &trees, &beside.path, unpacker)?;
            beside.rename(&beside.path, target)
        }
        ExportForm::LayoutTar => {
            let directory = beside.path.join("layout");
            layout::write(store, image, &trees, &directory, unpacker)?;
            let file = beside.path.join("tar");
            let tar = File::create_new(&file).map_err(failed("write beside"))?;
            let handle = open_directory(&directory).map_err(failed("read beside"))?;
            crate::pack::pack_reproducible(handle.as_fd(), &tar).map_err(failed("write"))?;
            tar.sync_all().map_err(failed("write"))?;
            beside.rename(&file, target)
        }
        ExportForm::Rootfs => {
            let file = beside.path.join("tar");
            let tar = File::create_new(&file).map_err(failed("write beside"))?;
            rootfs(store, &trees, tar.try_clone().map_err(failed("write"))?, unpacker)?;
            tar.sync_all().map_err(failed("write"))?;
            beside.rename(&file, target)
        }
    }
}

/// A tree with its name and the lease that keeps it.
type Tree = (String, PathBuf, crate::store::Lease);

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Writes one tar of all trees: of a single one directly, else of a merged copy.
fn rootfs(store: &Store, trees: &[Tree], out: File, unpacker: &dyn Unpacker) -> Result<(), ExportError> {
    if let [(name, path, _)] = trees
        && !name.ends_with("-layer")
    {
        return pack(name, path, out, unpacker);
    }
    let work = Work::new(store)?;
    let merged = work.make_rootfs()?;
    let options = UnpackOptions { ownership: unpacker.ownership(), layer: true, ..UnpackOptions::default() };
    let failed = |source: io::Error| ExportError::Read { tree: "merged".to_owned(), source };
    let filled = trees.iter().try_for_each(|(name, path, _)| {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let target = merged.try_clone().map_err(failed)?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| pack(name, path, File::from(writer), unpacker));
            let unpacked = unpacker.unpack(Box::new(File::from(reader)), target, None, &options);
            // A packer that failed explains an archive that broke off.
            packing.join().map_err(|_| failed(io::Error::other("a thread of ours panicked")))??;
            unpacked?;
            Ok::<(), ExportError>(())
        })
    });
    let packed = filled.and_then(|()| {
        unpacker.pack(merged, out).map_err(|source| ExportError::Read { tree: "merged".to_owned(), source })
    });
    work.discard(unpacker);
    packed
}

fn pack(name: &str, path: &Path, out: File, unpacker: &dyn Unpacker) -> Result<(), ExportError> {
    let failed = |source| ExportError::Read { tree: name.to_owned(), source };
    let tree = open_directory(path).map_err(failed)?;
    unpacker.pack(tree, out).map_err(failed)
}

/// A directory beside the target, on its filesystem; gone on drop unless it became the target.
struct Beside {
    path: PathBuf,
}

impl Beside {
    fn new(target: &Path) -> io::Result<Beside> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:016x}", random::number()));
        let path = target.with_file_name(hidden);
        fs::create_dir(&path)?;
        Ok(Beside { path })
    }

    fn rename(&self, from: &Path, target: &Path) -> Result<(), ExportError> {
        let failed = |source| ExportError::Path { action: "write", path: target.to_owned(), source };
        fs::rename(from, target).map_err(failed)?;
        let parent =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Became the target, or holds what is not wanted any more.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Writes a file and syncs it.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let failed = |source| ExportError::Path { action: "write", path: path.to_owned(), source };
    let mut file = File::create_new(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
