//! One pass: the source is read, digested, decompressed and unpacked at once; nothing is stored in between.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::spawn_blocking;

use super::error::ImageError;
use crate::digest::{Digest, Hasher};
use crate::fetch::{Download, Piece};
use crate::progress::{Progress, PullEvent};
use crate::remove::remove_children;
use crate::store::{ROOTFS, TREE_RECORD, Work};
use crate::stream::{ByteReader, ByteSender, pipe};
use crate::unpack::{UnpackError, UnpackOptions, UnpackSummary, Unpacker};

/// Bytes of one read of a local file: below the size from which the allocator maps and unmaps each buffer.
const READ_BYTES: usize = 64 << 10;

/// Where the bytes come from.
pub(super) enum Source<'a> {
    File {
        file: File,
        path: PathBuf,
    },
    /// A part of a file: where it begins and how many bytes it has.
    Part {
        file: File,
        path: PathBuf,
        start: u64,
        bytes: u64,
    },
    /// What comes once, and by which name it is told.
    Stream {
        reader: Option<Box<dyn Read + Send>>,
        path: PathBuf,
    },
    Download(Box<Download<'a>>),
}

/// Where the tree goes.
pub(super) enum Target {
    /// Into the store, once it is complete.
    Store(Work),
    /// Into a directory of the user's; `keep` what was in it before and what came of a failure.
    Directory { path: PathBuf, handle: OwnedFd, keep: bool },
}

impl Target {
    /// Returns the directory to unpack into, and the file for the list of what it then has.
    fn open(&self) -> Result<(OwnedFd, Option<File>), ImageError> {
        match self {
            Target::Store(work) => Ok((work.make_rootfs()?, Some(work.create_file(TREE_RECORD)?))),
            Target::Directory { path, handle, .. } => {
                let handle = handle.try_clone().map_err(|source| ImageError::Path {
                    action: "open",
                    path: path.clone(),
                    source,
                })?;
                Ok((handle, None))
            }
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Target::Store(work) => work.path().join(ROOTFS),
            Target::Directory { path, .. } => path.clone(),
        }
    }

    /// Takes away what a failed pass has made.
    pub(super) fn discard(self, unpacker: &dyn Unpacker) {
        match self {
            Target::Store(work) => work.discard(unpacker),
            Target::Directory { keep: true, .. } => {}
            // The failure that led here is what the user must see, not a second one.
            Target::Directory { handle, .. } => drop(remove_children(&handle)),
        }
    }
}

/// What the passes of one transfer share.
pub(super) struct Transfer<'a> {
    pub(super) name: &'a str,
    pub(super) sha256: Option<Digest>,
    /// Whether what comes will be known by its digest, though none is asked for.
    pub(super) named_by_digest: bool,
    pub(super) unpacker: &'a Arc<dyn Unpacker>,
    pub(super) options: UnpackOptions,
    pub(super) progress: &'a Arc<dyn Progress>,
}

/// A pass that went through to the end.
pub(super) struct Transferred {
    pub(super) target: Target,
    pub(super) summary: UnpackSummary,
    /// Over the bytes as transferred; none if nobody wanted it.
    pub(super) digest: Option<Digest>,
    pub(super) bytes: u64,
}

/// How the feeding of a pass ended.
enum Fed {
    /// All bytes were handed over.
    End { digest: Option<Digest>, bytes: u64 },
    /// The server begins anew.
    Restart,
    /// The unpacker has stopped; it knows why.
    Closed,
}

impl Transfer<'_> {
    /// Runs passes until one goes through; `new_target` makes a place for each.
    pub(super) async fn run(
        &self,
        mut source: Source<'_>,
        mut new_target: impl FnMut() -> Result<Target, ImageError>,
    ) -> Result<Transferred, ImageError> {
        loop {
            let target = new_target()?;
            let (handle, record) = target.open()?;
            let (sender, reader) = pipe();
            let unpacking = spawn_blocking(unpack(
                target,
                handle,
                record,
                reader,
                self.unpacker.clone(),
                self.options.clone(),
            ));
            let fed = match &mut source {
                Source::File { file, path } => self.feed_file(file, path, None, sender).await,
                Source::Part { file, path, start, bytes } => {
                    self.feed_file(file, path, Some((*start, *bytes)), sender).await
                }
                Source::Stream { reader, path } => self.feed_stream(reader.take(), path, sender).await,
                Source::Download(download) => self.feed_download(download, sender).await,
            };
            let (target, unpacked) = unpacking.await.map_err(|error| self.internal(error.to_string()))?;
            match self.settle(fed, unpacked, &target) {
                Ok(Some((summary, digest, bytes))) => {
                    return Ok(Transferred { target, summary, digest, bytes });
                }
                Ok(None) => self.discard(target).await,
                Err(error) => {
                    self.discard(target).await;
                    return Err(error);
                }
            }
        }
    }

    /// Judges a pass; `None` means that another must follow.
    fn settle(
        &self,
        fed: Result<Fed, ImageError>,
        unpacked: Result<UnpackSummary, UnpackError>,
        target: &Target,
    ) -> Result<Option<(UnpackSummary, Option<Digest>, u64)>, ImageError> {
        let unpack_error =
            |source| ImageError::Unpack { name: self.name.to_owned(), target: target.path(), source };
        match (fed?, unpacked) {
            (Fed::Restart, _) => Ok(None),
            (Fed::End { digest, bytes }, unpacked) => {
                // First the digest: content that is not what was asked for need not be an archive.
                self.check(digest)?;
                Ok(Some((unpacked.map_err(unpack_error)?, digest, bytes)))
            }
            (Fed::Closed, Err(error)) => Err(unpack_error(error)),
            (Fed::Closed, Ok(_)) => Err(self.internal("the unpacker stopped before the end".to_owned())),
        }
    }

    /// Compares with the digest that was asked for, if one was.
    fn check(&self, found: Option<Digest>) -> Result<(), ImageError> {
        match (self.sha256, found) {
            (Some(expected), Some(found)) if expected != found => {
                Err(ImageError::Digest { name: self.name.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Digests what passes, if anybody wants to know.
    fn hasher(&self) -> Option<Hasher> {
        (self.named_by_digest || self.sha256.is_some()).then(Hasher::default)
    }

    async fn discard(&self, target: Target) {
        let unpacker = self.unpacker.clone();
        // Only a panic could make this fail; the sweep does the rest then.
        let _ = spawn_blocking(move || target.discard(&*unpacker)).await;
    }

    fn internal(&self, what: String) -> ImageError {
        ImageError::Internal { name: self.name.to_owned(), what }
    }

    async fn feed_download(
        &self,
        download: &mut Download<'_>,
        sender: ByteSender,
    ) -> Result<Fed, ImageError> {
        self.progress.event(PullEvent::Started { name: self.name.to_owned(), total: download.total() });
        let mut hasher = self.hasher();
        let mut bytes = 0;
        loop {
            match download.piece().await? {
                Piece::Restart => return Ok(Fed::Restart),
                Piece::End => {
                    sender.end().await;
                    return Ok(Fed::End { digest: hasher.map(Hasher::finish), bytes });
                }
                Piece::Bytes(chunk) => {
                    if let Some(hasher) = &mut hasher {
                        hasher.update(chunk.as_ref());
                    }
                    bytes += chunk.as_ref().len() as u64;
                    if sender.send(chunk).await.is_err() {
                        return Ok(Fed::Closed);
                    }
                    self.progress.event(PullEvent::Bytes { done: bytes });
                }
            }
        }
    }

    async fn feed_stream(
        &self,
        reader: Option<Box<dyn Read + Send>>,
        path: &std::path::Path,
        sender: ByteSender,
    ) -> Result<Fed, ImageError> {
        let failed = |source| ImageError::Path { action: "read", path: path.to_owned(), source };
        let reader = reader.ok_or_else(|| self.internal("a stream cannot be read twice".to_owned()))?;
        self.progress.event(PullEvent::Started { name: self.name.to_owned(), total: None });
        let progress = self.progress.clone();
        let stop = StopOnDrop::default();
        let stopped = stop.0.clone();
        let hasher = self.hasher();
        let feeding = spawn_blocking(move || feed_all(reader, hasher, sender, &stopped, &*progress));
        feeding.await.map_err(|error| self.internal(error.to_string()))?.map_err(failed)
    }

    async fn feed_file(
        &self,
        file: &File,
        path: &std::path::Path,
        part: Option<(u64, u64)>,
        sender: ByteSender,
    ) -> Result<Fed, ImageError> {
        let failed = |source| ImageError::Path { action: "read", path: path.to_owned(), source };
        let file = file.try_clone().map_err(failed)?;
        let total = match part {
            Some((_, bytes)) => bytes,
            None => file.metadata().map_err(failed)?.len(),
        };
        self.progress.event(PullEvent::Started { name: self.name.to_owned(), total: Some(total) });
        let progress = self.progress.clone();
        let stop = StopOnDrop::default();
        let stopped = stop.0.clone();
        let hasher = self.hasher();
        let feeding = spawn_blocking(move || feed(&file, part, hasher, sender, &stopped, &*progress));
        feeding.await.map_err(|error| self.internal(error.to_string()))?.map_err(failed)
    }
}

/// Reads the file, or a part of it, to its end, in a thread of its own.
fn feed(
    file: &File,
    part: Option<(u64, u64)>,
    hasher: Option<Hasher>,
    sender: ByteSender,
    stopped: &AtomicBool,
    progress: &dyn Progress,
) -> std::io::Result<Fed> {
    let source = match part {
        None => Positioned { file, at: 0, left: u64::MAX, whole: false },
        Some((at, left)) => Positioned { file, at, left, whole: true },
    };
    feed_all(source, hasher, sender, stopped, progress)
}

/// A part of a file, whoever else moves its cursor.
struct Positioned<'f> {
    file: &'f File,
    at: u64,
    left: u64,
    /// All of `left` must be there.
    whole: bool,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = (buffer.len() as u64).min(self.left) as usize;
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 && most > 0 && self.whole {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads to the end, in a thread of its own.
fn feed_all(
    mut reader: impl Read,
    mut hasher: Option<Hasher>,
    sender: ByteSender,
    stopped: &AtomicBool,
    progress: &dyn Progress,
) -> std::io::Result<Fed> {
    let mut bytes = 0;
    while !stopped.load(Ordering::Relaxed) {
        let mut chunk = vec![0; READ_BYTES];
        let count = match reader.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if count == 0 {
            sender.end_blocking();
            return Ok(Fed::End { digest: hasher.map(Hasher::finish), bytes });
        }
        chunk.truncate(count);
        if let Some(hasher) = &mut hasher {
            hasher.update(&chunk);
        }
        bytes += count as u64;
        if sender.send_blocking(chunk).is_err() {
            return Ok(Fed::Closed);
        }
        progress.event(PullEvent::Bytes { done: bytes });
    }
    Ok(Fed::Closed)
}

/// Tells a blocking thread that nobody waits for it any more: a pull that is dropped must end by itself.
#[derive(Default)]
pub(super) struct StopOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The blocking half of a pass. The target comes back, so that it dies here if nobody waits.
fn unpack(
    target: Target,
    handle: OwnedFd,
    record: Option<File>,
    reader: ByteReader,
    unpacker: Arc<dyn Unpacker>,
    options: UnpackOptions,
) -> impl FnOnce() -> (Target, Result<UnpackSummary, UnpackError>) {
    move || {
        let result = unpacker.unpack(Box::new(reader), handle, record, &options);
        (target, result)
    }
}
