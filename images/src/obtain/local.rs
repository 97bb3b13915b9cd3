//! Imported images: whatever can be named, or a stream, gets a name of the user's own.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::error::ImageError;
use super::pull::{Pull, finished};
use super::transfer::Source;
use super::{directory, obtain, open_directory};
use crate::digest::Digest;
use crate::fetch::FetchSettings;
use crate::progress::Progress;
use crate::reference::{LocalName, Reference};
use crate::rootfs::Rootfs;
use crate::store::{RefRecord, Seen, Store};
use crate::unpack::Unpacker;

/// What is imported.
pub enum ImportSource {
    /// Anything that can be obtained; of a directory a copy is made.
    Reference(Reference),
    /// A tarball as it comes.
    Stream(Box<dyn Read + Send>),
}

/// Brings an image into the store and gives it a name; a name that was given before now means the new one.
pub async fn import(
    source: ImportSource,
    name: &LocalName,
    store: &Store,
    unpacker: Arc<dyn Unpacker>,
    settings: &FetchSettings,
    progress: Arc<dyn Progress>,
) -> Result<Rootfs, ImageError> {
    let pull = Pull {
        name: format!("local:{}", name.as_str()),
        sha256: None,
        store: store.clone(),
        unpacker: unpacker.clone(),
        settings: Arc::new(settings.clone()),
        progress: progress.clone(),
    };
    let rootfs = match source {
        ImportSource::Reference(Reference::Host) => {
            return Err(ImageError::NoArchive { reference: "host".to_owned() });
        }
        ImportSource::Reference(Reference::Directory(path)) => {
            let path = directory(&path)?;
            let failed = |source| ImageError::Path { action: "open", path: path.clone(), source };
            let handle = open_directory(&path).map_err(failed)?;
            pull.stream(Box::new(crate::pack::pack_directory(handle)), path).await?
        }
        ImportSource::Reference(reference) => {
            obtain(&reference, None, store, unpacker, settings, progress).await?
        }
        ImportSource::Stream(reader) => pull.stream(reader, PathBuf::from("standard input")).await?,
    };
    let digest = rootfs.digest.ok_or_else(|| pull.internal("what was imported has no digest"))?;
    store.put_reference(&local_key(name), &RefRecord::new(digest, Seen::Local, &pull.name))?;
    Ok(rootfs)
}

fn local_key(name: &LocalName) -> String {
    Digest::of(format!("local {}", name.as_str()).as_bytes()).hex()
}

impl Pull {
    /// Obtains an image that was imported.
    pub(super) fn local(&self, name: &LocalName) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let rootfs = self.known_reference(&local_key(name))?;
        let rootfs = rootfs.ok_or_else(|| ImageError::NotImported { name: self.name.clone() })?;
        Ok(self.cached(rootfs, started))
    }

    /// Obtains a tarball that comes once and is not seen again.
    async fn stream(&self, reader: Box<dyn Read + Send>, path: PathBuf) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let done = self.transfer(Source::Stream { reader: Some(reader), path }).await?;
        let bytes = done.bytes;
        let (_, rootfs) = self.publish(done).await?;
        self.progress.event(finished(bytes, started, false));
        Ok(rootfs)
    }
}
