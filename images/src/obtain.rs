//! From a reference to a root filesystem: out of the store if it is there, else pulled in one pass.

//!
//! `tarball` obtains from files and URLs, `registry` and `archive` find an image's parts, `image` and `layer` make trees
//! of them, `seam` and `merge` settle what a stack of single layers cannot say.

mod archive;
mod copy;
mod error;
mod image;
mod layer;
mod local;
mod merge;
mod pull;
mod registry;
mod seam;
mod tarball;
mod transfer;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{fs, io};

use rustix::fs::{Mode, OFlags};

pub use copy::copy_image;
pub use error::{ImageError, ImageErrorKind};
pub use local::{ImportSource, import};

use pull::{Pull, finished, plain};
use tarball::open_file;
use transfer::{Source, Target, Transfer};

use crate::digest::Digest;
use crate::fetch::{Begun, Download, FetchSettings, Request};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::rootfs::{Rootfs, RootfsKind};
use crate::store::Store;
use crate::unpack::{InProcess, UnpackOptions, UnpackSummary, Unpacker};

/// Obtains the root filesystem behind `reference`.
///
/// With `sha256`, the tarball or the image's manifest must have that digest; a source is then not even asked if the store
/// has it. Two runs that want the same transfer it once. Needs a tokio runtime with time and IO.
pub async fn obtain(
    reference: &Reference,
    sha256: Option<Digest>,
    store: &Store,
    unpacker: Arc<dyn Unpacker>,
    settings: &FetchSettings,
    progress: Arc<dyn Progress>,
) -> Result<Rootfs, ImageError> {
    let name = reference.to_string();
    let pull = Pull {
        name: name.clone(),
        sha256,
        store: store.clone(),
        unpacker,
        settings: Arc::new(settings.clone()),
        progress,
    };
    match reference {
        Reference::Host | Reference::Directory(_) | Reference::Archive(_) | Reference::Local(_)
            if sha256.is_some() =>
        {
            Err(ImageError::NoDigest { reference: name })
        }
        Reference::Host => Ok(plain(name, Vec::new(), RootfsKind::Host)),
        Reference::Directory(path) => {
            let path = directory(path)?;
            Ok(plain(name, vec![path], RootfsKind::Directory))
        }
        Reference::Tarball(path) => pull.file(path).await,
        Reference::Url(url) => pull.url(url).await,
        Reference::Registry(registry) => pull.registry(registry).await,
        Reference::Layout { path, tag } => pull.layout(path, tag.as_deref()).await,
        Reference::Archive(path) => pull.archive(path).await,
        Reference::Local(local) => pull.local(local),
    }
}

/// Unpacks the tarball behind `reference` into the directory `dir`, which is created if it is missing.
///
/// The same rules as for the store. Unless `options.layer` is set, `dir` must be empty, and a failure leaves it so.
pub async fn unpack_to_directory(
    reference: &Reference,
    sha256: Option<Digest>,
    dir: &Path,
    options: &UnpackOptions,
    settings: &FetchSettings,
    progress: Arc<dyn Progress>,
) -> Result<UnpackSummary, ImageError> {
    let name = reference.to_string();
    let started = Instant::now();
    let unpacker: Arc<dyn Unpacker> = Arc::new(InProcess::new(options.ownership));
    let source = match reference {
        Reference::Host
        | Reference::Directory(_)
        | Reference::Registry(_)
        | Reference::Layout { .. }
        | Reference::Archive(_)
        | Reference::Local(_) => return Err(ImageError::NoArchive { reference: name }),
        Reference::Tarball(path) => Source::File { file: open_file(path)?, path: path.clone() },
        Reference::Url(_) if settings.offline => return Err(ImageError::Offline { name }),
        Reference::Url(url) => {
            match Download::begin(Request::plain(url), None, settings, &*progress).await? {
                Begun::Body(download) => Source::Download(download),
                Begun::NotModified => {
                    let what = "the server says \"not modified\" without having been asked".to_owned();
                    return Err(ImageError::Internal { name, what });
                }
            }
        }
    };
    let failed = |action| move |source| ImageError::Path { action, path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed("create"))?;
    let handle = open_directory(dir).map_err(failed("open"))?;
    if !options.layer && fs::read_dir(dir).map_err(failed("read"))?.next().is_some() {
        return Err(ImageError::NotEmpty { path: dir.to_owned() });
    }
    let transfer = Transfer {
        name: &name,
        sha256,
        named_by_digest: false,
        unpacker: &unpacker,
        options: options.clone(),
        progress: &progress,
    };
    let new_target = || {
        let handle = handle.try_clone().map_err(failed("open"))?;
        Ok(Target::Directory { path: dir.to_owned(), handle, keep: options.layer })
    };
    let done = transfer.run(source, new_target).await?;
    progress.event(finished(done.bytes, started, false));
    Ok(done.summary)
}

/// Returns the absolute path of a directory that can be read.
fn directory(path: &Path) -> Result<PathBuf, ImageError> {
    let failed = |source| ImageError::Path { action: "open", path: path.to_owned(), source };
    let path = path.canonicalize().map_err(failed)?;
    match path.metadata() {
        Ok(metadata) if !metadata.is_dir() => Err(ImageError::WrongKind { path, expected: "a directory" }),
        Ok(_) => open_directory(&path).map(|_| path.clone()).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
