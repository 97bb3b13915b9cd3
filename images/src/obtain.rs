//! From a reference to a root filesystem: out of the store if it is there, else pulled in one pass.

mod error;
mod transfer;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

pub use error::{ImageError, ImageErrorKind};

use transfer::{Source, StopOnDrop, Target, Transfer, Transferred};

use crate::digest::{Digest, Hasher};
use crate::fetch::{Begun, Download, FetchSettings, Validators};
use crate::progress::{Progress, PullEvent};
use crate::reference::{ImageUrl, Reference};
use crate::rootfs::{ImageConfig, Rootfs, RootfsKind};
use crate::store::{FileIdentity, ImageRecord, LayerRecord, Lease, Locking, RefRecord, Seen, Store, Work};
use crate::unpack::{InProcess, UnpackOptions, UnpackSummary, Unpacker};

/// Pauses between looks at a lock that another run holds: short first, then calm.
const LOCK_PAUSE_FIRST: Duration = Duration::from_millis(5);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(200);

/// Name of a layer's record beside its tree.
const LAYER_RECORD: &str = "layer.json";

/// Obtains the root filesystem behind `reference`.
///
/// With `sha256`, the tarball must have that digest; a URL is then not even asked if the store has it. Two runs that
/// want the same transfer it once. Needs a tokio runtime with time and IO.
pub async fn obtain(
    reference: &Reference,
    sha256: Option<Digest>,
    store: &Store,
    unpacker: Arc<dyn Unpacker>,
    settings: &FetchSettings,
    progress: Arc<dyn Progress>,
) -> Result<Rootfs, ImageError> {
    let name = reference.to_string();
    let pull = Pull { name: &name, sha256, store, unpacker: &unpacker, settings, progress: &progress };
    match reference {
        Reference::Host | Reference::Directory(_) if sha256.is_some() => {
            Err(ImageError::NoDigest { reference: name })
        }
        Reference::Host => Ok(plain(name, Vec::new(), RootfsKind::Host)),
        Reference::Directory(path) => {
            let path = directory(path)?;
            Ok(plain(name, vec![path], RootfsKind::Directory))
        }
        Reference::Tarball(path) => pull.file(path).await,
        Reference::Url(url) => pull.url(url).await,
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
        Reference::Host | Reference::Directory(_) => return Err(ImageError::NoArchive { reference: name }),
        Reference::Tarball(path) => Source::File { file: open_file(path)?, path: path.clone() },
        Reference::Url(_) if settings.offline => return Err(ImageError::Offline { name }),
        Reference::Url(url) => match Download::begin(url, None, settings, &*progress).await? {
            Begun::Body(download) => Source::Download(download),
            Begun::NotModified => {
                let what = "the server says \"not modified\" without having been asked".to_owned();
                return Err(ImageError::Internal { name, what });
            }
        },
    };
    let failed = |action| move |source| ImageError::Path { action, path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed("create"))?;
    let handle = open_directory(dir).map_err(failed("open"))?;
    if !options.layer && std::fs::read_dir(dir).map_err(failed("read"))?.next().is_some() {
        return Err(ImageError::NotEmpty { path: dir.to_owned() });
    }
    let transfer =
        Transfer { name: &name, sha256, unpacker: &unpacker, options: options.clone(), progress: &progress };
    let new_target = || {
        let handle = handle.try_clone().map_err(failed("open"))?;
        Ok(Target::Directory { path: dir.to_owned(), handle, keep: options.layer })
    };
    let done = transfer.run(source, new_target).await?;
    progress.event(finished(done.bytes, started, false));
    Ok(done.summary)
}

/// One request for a tarball.
struct Pull<'a> {
    name: &'a str,
    sha256: Option<Digest>,
    store: &'a Store,
    unpacker: &'a Arc<dyn Unpacker>,
    settings: &'a FetchSettings,
    progress: &'a Arc<dyn Progress>,
}

impl Pull<'_> {
    async fn file(&self, path: &Path) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let file = open_file(path)?;
        let failed = |source| ImageError::Path { action: "read", path: path.to_owned(), source };
        let identity = FileIdentity::new(&file.metadata().map_err(failed)?);
        let key = identity.key();
        if let Some(rootfs) = self.known_file(&identity, &key)? {
            return Ok(self.cached(rootfs, started));
        }
        let _lock = self.lock(&key).await?;
        if let Some(rootfs) = self.known_file(&identity, &key)? {
            return Ok(self.cached(rootfs, started));
        }
        // To digest a file is several times cheaper than to unpack it: worth it where the content may well be here.
        let pinned_here = self.sha256.map(|sha256| self.store.image(sha256)).transpose()?.flatten().is_some();
        if pinned_here || self.store.reference(&key)?.is_some() {
            let digest = self.digest_file(&file, path).await?;
            self.check(digest)?;
            if let Some(rootfs) = self.known(digest)? {
                self.remember_file(&file, path, &identity, digest)?;
                return Ok(self.cached(rootfs, started));
            }
        }
        io::Seek::rewind(&mut &file).map_err(failed)?;
        let same = file.try_clone().map_err(failed)?;
        let done = self.transfer(Source::File { file: same, path: path.to_owned() }).await?;
        let digest = done.digest;
        let bytes = done.bytes;
        self.unchanged(&file, path, &identity)?;
        let rootfs = self.publish(done).await?;
        self.remember_file(&file, path, &identity, digest)?;
        self.progress.event(finished(bytes, started, false));
        Ok(rootfs)
    }

    async fn url(&self, url: &ImageUrl) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let key = Digest::of(format!("url {}", url.identity()).as_bytes()).hex();
        if let Some(rootfs) = self.sha256.map(|sha256| self.known(sha256)).transpose()?.flatten() {
            return Ok(self.cached(rootfs, started));
        }
        let before = self.store.reference(&key)?;
        if self.settings.offline {
            let digest = before.filter(|_| self.sha256.is_none()).map(|record| record.digest);
            let rootfs = digest.map(|digest| self.known(digest)).transpose()?.flatten();
            return rootfs
                .map(|rootfs| self.cached(rootfs, started))
                .ok_or_else(|| ImageError::Offline { name: self.name.to_owned() });
        }
        let lock_key = self.sha256.map_or_else(|| key.clone(), |sha256| sha256.hex());
        let _lock = self.lock(&lock_key).await?;
        if let Some(rootfs) = self.sha256.map(|sha256| self.known(sha256)).transpose()?.flatten() {
            return Ok(self.cached(rootfs, started));
        }
        let record = self.store.reference(&key)?;
        let known = match &record {
            Some(record) if self.sha256.is_none() => self.known(record.digest)?,
            _ => None,
        };
        // What another run fetched while we waited for it is as fresh as what we would fetch now.
        if record != before
            && let Some(rootfs) = known
        {
            return Ok(self.cached(rootfs, started));
        }
        let validators = match (record.map(|record| record.seen), &known) {
            (Some(Seen::Url { etag, last_modified }), Some(_)) => Some(Validators { etag, last_modified }),
            _ => None,
        };
        let download =
            match Download::begin(url, validators.as_ref(), self.settings, &**self.progress).await? {
                Begun::Body(download) => download,
                Begun::NotModified => {
                    let what = "the server says \"not modified\" of what is not here".to_owned();
                    let rootfs =
                        known.ok_or_else(|| ImageError::Internal { name: self.name.to_owned(), what })?;
                    return Ok(self.cached(rootfs, started));
                }
            };
        let Validators { etag, last_modified } = download.validators().clone();
        let done = self.transfer(Source::Download(download)).await?;
        let (digest, bytes) = (done.digest, done.bytes);
        let rootfs = self.publish(done).await?;
        self.store.put_reference(&key, &RefRecord::new(digest, Seen::Url { etag, last_modified }))?;
        self.progress.event(finished(bytes, started, false));
        Ok(rootfs)
    }

    async fn transfer(&self, source: Source<'_>) -> Result<Transferred, ImageError> {
        let options = UnpackOptions { ownership: self.unpacker.ownership(), ..UnpackOptions::default() };
        let transfer = Transfer {
            name: self.name,
            sha256: self.sha256,
            unpacker: self.unpacker,
            options,
            progress: self.progress,
        };
        transfer.run(source, || Ok(Target::Store(Work::new(self.store)?))).await
    }

    /// Makes a finished transfer part of the store.
    async fn publish(&self, done: Transferred) -> Result<Rootfs, ImageError> {
        let Transferred { target, summary, digest, .. } = done;
        let Target::Store(work) = target else {
            let what = "a directory cannot be published".to_owned();
            return Err(ImageError::Internal { name: self.name.to_owned(), what });
        };
        let (store, unpacker, diff_id) = (self.store.clone(), self.unpacker.clone(), summary.tar_sha256);
        let notes = summary.notes.clone();
        spawn_blocking(move || {
            work.write_json(LAYER_RECORD, &LayerRecord::new(summary))?;
            work.publish(diff_id, unpacker.flavour(), &*unpacker)?;
            store.put_image(&ImageRecord::new(digest, vec![diff_id], ImageConfig::default()))
        })
        .await
        .map_err(|error| ImageError::Internal { name: self.name.to_owned(), what: error.to_string() })??;
        let rootfs = self.known(digest)?.ok_or_else(|| ImageError::Internal {
            name: self.name.to_owned(),
            what: "what was published is not in the store".to_owned(),
        })?;
        Ok(Rootfs { notes, ..rootfs })
    }

    /// Returns the image with this digest if all its layers are here, in the unpacker's flavour.
    fn known(&self, digest: Digest) -> Result<Option<Rootfs>, ImageError> {
        let Some(record) = self.store.image(digest)? else { return Ok(None) };
        let (mut layers, mut leases) = (Vec::new(), Vec::new());
        for diff_id in &record.layers {
            let Some((path, lease)) = self.store.layer(*diff_id, self.unpacker.flavour())? else {
                return Ok(None);
            };
            layers.push(path);
            leases.push(lease);
        }
        let mut rootfs = plain(self.name.to_owned(), layers, RootfsKind::Layers);
        (rootfs.digest, rootfs.config, rootfs._leases) = (Some(digest), record.config, leases);
        Ok(Some(rootfs))
    }

    /// Returns the image of a file that has surely not changed since it was digested.
    fn known_file(&self, identity: &FileIdentity, key: &str) -> Result<Option<Rootfs>, ImageError> {
        match self.store.reference(key)? {
            Some(RefRecord { digest, seen: Seen::File(recorded), .. }) if identity.is_still(&recorded) => {
                self.check(digest)?;
                self.known(digest)
            }
            _ => Ok(None),
        }
    }

    fn remember_file(
        &self,
        file: &File,
        path: &Path,
        identity: &FileIdentity,
        digest: Digest,
    ) -> Result<(), ImageError> {
        self.unchanged(file, path, identity)?;
        Ok(self
            .store
            .put_reference(&identity.key(), &RefRecord::new(digest, Seen::File(identity.clone())))?)
    }

    /// Fails if the file is no longer as it was when the reading began.
    fn unchanged(&self, file: &File, path: &Path, identity: &FileIdentity) -> Result<(), ImageError> {
        let failed = |source| ImageError::Path { action: "read", path: path.to_owned(), source };
        let now = FileIdentity::new(&file.metadata().map_err(failed)?);
        if now.is_same_state(identity) { Ok(()) } else { Err(ImageError::Changed { path: path.to_owned() }) }
    }

    async fn digest_file(&self, file: &File, path: &Path) -> Result<Digest, ImageError> {
        let failed = |source| ImageError::Path { action: "read", path: path.to_owned(), source };
        let file = file.try_clone().map_err(failed)?;
        let stop = StopOnDrop::default();
        let stopped = stop.0.clone();
        let digesting = spawn_blocking(move || digest_file(&file, &stopped));
        let digest = digesting
            .await
            .map_err(|error| ImageError::Internal { name: self.name.to_owned(), what: error.to_string() })?;
        digest.map_err(failed)
    }

    fn check(&self, found: Digest) -> Result<(), ImageError> {
        match self.sha256 {
            Some(expected) if expected != found => {
                Err(ImageError::Digest { name: self.name.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock of a pull; waits for another run that has it. Its death frees the lock.
    async fn lock(&self, key: &str) -> Result<Lease, ImageError> {
        let lock = format!("pull-{key}");
        let started = Instant::now();
        let mut pause = LOCK_PAUSE_FIRST;
        let mut told = false;
        loop {
            if let Locking::Held(lease) = self.store.try_lock(&lock)? {
                return Ok(lease);
            }
            if !told {
                self.progress.event(PullEvent::Waiting { name: self.name.to_owned() });
                told = true;
            }
            let waited = started.elapsed();
            if waited > self.settings.lock_wait_max {
                return Err(ImageError::Busy { name: self.name.to_owned(), waited });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOCK_PAUSE_MAX);
        }
    }

    fn cached(&self, rootfs: Rootfs, started: Instant) -> Rootfs {
        self.progress.event(finished(0, started, true));
        rootfs
    }
}

fn finished(bytes: u64, started: Instant, cached: bool) -> PullEvent {
    PullEvent::Finished { bytes, seconds: started.elapsed().as_secs_f64(), cached }
}

fn plain(reference: String, layers: Vec<PathBuf>, kind: RootfsKind) -> Rootfs {
    let config = ImageConfig::default();
    Rootfs { reference, digest: None, layers, config, kind, notes: Vec::new(), _leases: Vec::new() }
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

/// Opens a tarball; anything but a regular file could block for ever.
fn open_file(path: &Path) -> Result<File, ImageError> {
    let failed = |source| ImageError::Path { action: "open", path: path.to_owned(), source };
    let metadata = path.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(ImageError::WrongKind { path: path.to_owned(), expected: "a regular file" });
    }
    File::open(path).map_err(failed)
}

fn digest_file(mut file: &File, stopped: &std::sync::atomic::AtomicBool) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
        match io::Read::read(&mut file, &mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}
