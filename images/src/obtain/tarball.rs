//! Tarballs: files recognised by their attributes, URLs by what the server says of them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use tokio::task::spawn_blocking;

use super::error::ImageError;
use super::pull::{Pull, finished};
use super::transfer::{Source, StopOnDrop, Target, Transfer, Transferred};
use crate::digest::{Digest, Hasher};
use crate::fetch::{Begun, Download, Refresh, Request, Validators};
use crate::reference::ImageUrl;
use crate::rootfs::Rootfs;
use crate::store::{FileIdentity, ImageRecord, LAYER_RECORD, LayerRecord, RefRecord, Seen, Work, layer_name};
use crate::unpack::UnpackOptions;

impl Pull {
    pub(super) async fn file(&self, path: &Path) -> Result<Rootfs, ImageError> {
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
        let bytes = done.bytes;
        self.unchanged(&file, path, &identity)?;
        let (digest, rootfs) = self.publish(done).await?;
        self.remember_file(&file, path, &identity, digest)?;
        self.progress.event(finished(bytes, started, false));
        Ok(rootfs)
    }

    pub(super) async fn url(&self, url: &ImageUrl) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let key = Digest::of(format!("url {}", url.identity()).as_bytes()).hex();
        if let Some(rootfs) = self.sha256.map(|sha256| self.known(sha256)).transpose()?.flatten() {
            return Ok(self.cached(rootfs, started));
        }
        let before = self.store.reference(&key)?;
        if self.settings.refresh == Refresh::Missing
            && self.sha256.is_none()
            && let Some(rootfs) = self.known_reference(&key)?
        {
            return Ok(self.cached(rootfs, started));
        }
        if self.settings.offline {
            let digest = before.filter(|_| self.sha256.is_none()).map(|record| record.digest);
            let rootfs = digest.map(|digest| self.known(digest)).transpose()?.flatten();
            return rootfs
                .map(|rootfs| self.cached(rootfs, started))
                .ok_or_else(|| ImageError::Offline { name: self.name.clone() });
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
            match Download::begin(Request::plain(url), validators.as_ref(), &self.settings, &*self.progress)
                .await?
            {
                Begun::Body(download) => download,
                Begun::NotModified => {
                    let what = "the server says \"not modified\" of what is not here".to_owned();
                    let rootfs =
                        known.ok_or_else(|| ImageError::Internal { name: self.name.clone(), what })?;
                    return Ok(self.cached(rootfs, started));
                }
            };
        let Validators { etag, last_modified } = download.validators().clone();
        let done = self.transfer(Source::Download(download)).await?;
        let bytes = done.bytes;
        let (digest, rootfs) = self.publish(done).await?;
        self.store
            .put_reference(&key, &RefRecord::new(digest, Seen::Url { etag, last_modified }, &self.name))?;
        self.progress.event(finished(bytes, started, false));
        Ok(rootfs)
    }

    pub(super) async fn transfer(&self, source: Source<'_>) -> Result<Transferred, ImageError> {
        let options = UnpackOptions { ownership: self.unpacker.ownership(), ..UnpackOptions::default() };
        let transfer = Transfer {
            name: &self.name,
            sha256: self.sha256,
            named_by_digest: true,
            unpacker: &self.unpacker,
            options,
            progress: &self.progress,
        };
        transfer.run(source, || Ok(Target::Store(Work::new(&self.store)?))).await
    }

    /// Makes a finished transfer part of the store; returns by what it is known.
    pub(super) async fn publish(&self, done: Transferred) -> Result<(Digest, Rootfs), ImageError> {
        let Transferred { target, summary, digest, bytes } = done;
        let Target::Store(work) = target else {
            let what = "a directory cannot be published".to_owned();
            return Err(ImageError::Internal { name: self.name.clone(), what });
        };
        let digest = digest.ok_or_else(|| self.internal("a tarball is known by its digest"))?;
        let (store, unpacker, diff_id) = (self.store.clone(), self.unpacker.clone(), summary.tar_sha256);
        let notes = summary.notes.clone();
        spawn_blocking(move || {
            work.write_json(LAYER_RECORD, &LayerRecord::new(summary))?;
            work.publish(&layer_name(diff_id, unpacker.flavour()), &*unpacker)?;
            store.put_image(&ImageRecord::tarball(digest, diff_id, bytes))
        })
        .await
        .map_err(|error| ImageError::Internal { name: self.name.clone(), what: error.to_string() })??;
        let rootfs = self.known(digest)?.ok_or_else(|| ImageError::Internal {
            name: self.name.clone(),
            what: "what was published is not in the store".to_owned(),
        })?;
        Ok((digest, Rootfs { notes, ..rootfs }))
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
        Ok(self.store.put_reference(
            &identity.key(),
            &RefRecord::new(digest, Seen::File(identity.clone()), &self.name),
        )?)
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
            .map_err(|error| ImageError::Internal { name: self.name.clone(), what: error.to_string() })?;
        digest.map_err(failed)
    }
}

/// Opens a tarball; anything but a regular file could block for ever.
pub(super) fn open_file(path: &Path) -> Result<File, ImageError> {
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
