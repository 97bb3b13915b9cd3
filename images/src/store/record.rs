//! The small JSON files of the store. One that cannot be read is treated as absent: it is made again.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{fsync, renameat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::work::Work;
use super::{BLOBS, IMAGES, REFS, Store, StoreError, StoredImage, layer_name, open_directory};
use crate::digest::Digest;
use crate::manifest::{ConfigFile, Document, Manifest, Platform, chain_id, read};
use crate::rootfs::ImageConfig;
use crate::unpack::UnpackSummary;

/// Version of all records; one of another version counts as absent.
const VERSION: u32 = 2;

/// A file whose last change is younger than this may change again without a trace in its times: the clock that
/// stamps files ticks every few milliseconds, on some filesystems every two seconds.
const RACY_NANOSECONDS: i128 = 2_000_000_000;

/// What an image consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    version: u32,
    pub(crate) digest: Digest,
    /// Diff ids, low to high.
    pub(crate) layers: Vec<Digest>,
    pub(crate) form: Form,
    pub(crate) config: ImageConfig,
    /// None of tarballs.
    pub(crate) platform: Option<Platform>,
    /// When it was made, as it says.
    pub(crate) created: Option<String>,
    /// Compressed bytes of all layers, as far as known.
    pub(crate) bytes: u64,
    /// Manifest and configuration among the blobs.
    pub(crate) documents: Vec<Digest>,
}

/// How the trees of an image lie in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    /// One tree, from a tarball without whiteouts.
    Tarball,
    /// One tree for each layer, with the marks of overlayfs.
    Stacked,
    /// The same, and on top the directories whose attributes come from further below.
    Seamed,
    /// All layers in one tree: what overlayfs cannot say.
    Merged,
}

impl ImageRecord {
    /// Of a tarball.
    pub(crate) fn tarball(digest: Digest, diff_id: Digest, bytes: u64) -> ImageRecord {
        ImageRecord {
            version: VERSION,
            digest,
            layers: vec![diff_id],
            form: Form::Tarball,
            config: ImageConfig::default(),
            platform: None,
            created: None,
            bytes,
            documents: Vec::new(),
        }
    }

    /// Of an image with layers.
    pub(crate) fn image(digest: Digest, config: ConfigFile, form: Form, bytes: u64) -> ImageRecord {
        ImageRecord {
            version: VERSION,
            digest,
            layers: config.diff_ids,
            form,
            config: config.config,
            platform: Some(config.platform),
            created: config.created,
            bytes,
            documents: Vec::new(),
        }
    }

    /// Returns the names of its trees in the store, low to high, for layers of this flavour.
    pub(crate) fn trees(&self, flavour: &str) -> Vec<String> {
        let stacked = || self.layers.iter().map(|id| layer_name(*id, &format!("{flavour}-layer")));
        let of_all = |suffix: &str| layer_name(chain_id(&self.layers), &format!("{flavour}-{suffix}"));
        match self.form {
            Form::Tarball => self.layers.iter().map(|id| layer_name(*id, flavour)).collect(),
            Form::Stacked => stacked().collect(),
            Form::Seamed => stacked().chain([of_all("seam")]).collect(),
            Form::Merged => vec![of_all("merged")],
        }
    }
}

/// What is known of an unpacked layer; it lies beside the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    version: u32,
    pub(crate) summary: UnpackSummary,
    /// The boot in which it was written: a tree of another boot may predate a power failure.
    boot_id: String,
}

impl LayerRecord {
    pub(crate) fn new(summary: UnpackSummary) -> LayerRecord {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        LayerRecord { version: VERSION, summary, boot_id: boot_id.trim().to_owned() }
    }
}

/// What a path or a URL was when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefRecord {
    version: u32,
    pub(crate) digest: Digest,
    pub(crate) seen: Seen,
    /// What the user called it, safe to print.
    pub(crate) name: String,
}

/// By what a change would be noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Seen {
    File(FileIdentity),
    Url {
        etag: Option<String>,
        last_modified: Option<String>,
    },
    /// A name whose meaning its source tells: a registry's tag or digest, a layout, an archive.
    Named,
    /// A name that was given by an import.
    Local,
}

impl RefRecord {
    pub(crate) fn new(digest: Digest, seen: Seen, name: &str) -> RefRecord {
        RefRecord { version: VERSION, digest, seen, name: name.to_owned() }
    }
}

/// A file in one state, as far as its attributes tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    pub(crate) bytes: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    /// It had changed so shortly before that a further change might not show.
    racy: bool,
}

impl FileIdentity {
    /// Reads the identity from attributes that were taken just now.
    pub(crate) fn new(metadata: &Metadata) -> FileIdentity {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        let mtime_ns = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
        let ctime_ns = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128);
        let racy = now - i128::from(mtime_ns.max(ctime_ns)) < RACY_NANOSECONDS;
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            mtime_ns,
            ctime_ns,
            racy,
        }
    }

    /// Returns the name of the file's record.
    pub(crate) fn key(&self) -> String {
        Digest::of(format!("file {} {}", self.device, self.inode).as_bytes()).hex()
    }

    /// Whether the file of `self`, as it is now, surely has the content it had when `recorded` was made.
    pub(crate) fn is_still(&self, recorded: &FileIdentity) -> bool {
        !recorded.racy && self.is_same_state(recorded)
    }

    /// Whether no attribute differs.
    pub(crate) fn is_same_state(&self, other: &FileIdentity) -> bool {
        let state = |this: &FileIdentity| (this.device, this.inode, this.bytes, this.mtime_ns, this.ctime_ns);
        state(self) == state(other)
    }
}

/// Only records of this version count.
trait Versioned {
    fn version(&self) -> u32;
}

impl Versioned for ImageRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for RefRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Store {
    /// Returns what is known of the image with this digest.
    pub(crate) fn image(&self, digest: Digest) -> Result<Option<ImageRecord>, StoreError> {
        self.read_record(IMAGES, &digest.hex())
    }

    /// Remembers an image.
    pub(crate) fn put_image(&self, record: &ImageRecord) -> Result<(), StoreError> {
        self.write_record(IMAGES, &record.digest.hex(), record)
    }

    /// Returns what is known of a path or URL.
    pub(crate) fn reference(&self, key: &str) -> Result<Option<RefRecord>, StoreError> {
        self.read_record(REFS, key)
    }

    /// Remembers what a path or URL is.
    pub(crate) fn put_reference(&self, key: &str, record: &RefRecord) -> Result<(), StoreError> {
        self.write_record(REFS, key, record)
    }

    /// Returns a document that was kept.
    pub(crate) fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.root.join(BLOBS).join(digest.hex());
        match std::fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(Some(bytes)),
            // Damaged: as good as absent, and fetched again.
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::new("read", path, error)),
        }
    }

    /// Returns the manifest of an image that came with one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn manifest(&self, image: &StoredImage) -> Result<Option<Manifest>, StoreError> {
        let bytes = self.blob(image.digest)?;
        Ok(bytes.and_then(|bytes| match read(&bytes, None) {
            Ok(Document::Manifest(manifest)) => Some(manifest),
            // Of an archive, this is the configuration.
            Ok(Document::Index(_)) | Err(_) => None,
        }))
    }

    /// Keeps documents; returns their digests.
    pub(crate) fn put_blobs(&self, documents: &[Vec<u8>]) -> Result<Vec<Digest>, StoreError> {
        let work = Work::new(self)?;
        let path = self.root.join(BLOBS);
        let failed = |errno: rustix::io::Errno| StoreError::new("write", &path, errno);
        let folder = open_directory(&self.root_handle, BLOBS).map_err(failed)?;
        let mut digests = Vec::new();
        for bytes in documents {
            let digest = Digest::of(bytes);
            if !digests.contains(&digest) {
                work.write_file(&digest.hex(), bytes)?;
                renameat(work.handle(), digest.hex(), &folder, digest.hex()).map_err(failed)?;
                digests.push(digest);
            }
        }
        fsync(&folder).map_err(failed)?;
        Ok(digests)
    }

    fn read_record<T: DeserializeOwned + Versioned>(
        &self,
        folder: &str,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        let path = self.root.join(folder).join(format!("{key}.json"));
        match std::fs::read(&path) {
            Ok(bytes) => {
                Ok(serde_json::from_slice(&bytes).ok().filter(|record: &T| record.version() == VERSION))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::new("read", path, error)),
        }
    }

    /// Writes beside, syncs, renames: a reader sees the old record or the new one.
    fn write_record<T: Serialize>(&self, folder: &str, key: &str, record: &T) -> Result<(), StoreError> {
        let name = format!("{key}.json");
        let path = self.root.join(folder).join(&name);
        let failed = |errno: rustix::io::Errno| StoreError::new("write", &path, errno);
        let work = Work::new(self)?;
        work.write_json(&name, record)?;
        let folder = open_directory(&self.root_handle, folder).map_err(failed)?;
        renameat(work.handle(), &name, &folder, &name).map_err(failed)?;
        fsync(&folder).map_err(failed)
    }
}

impl Work {
    /// Writes a JSON file into the work directory and syncs it.
    pub(crate) fn write_json<T: Serialize>(&self, name: &str, record: &T) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::new("write", self.path().join(name), error);
        let json = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        self.write_file(name, &json)
    }

    /// Writes a file into the work directory and syncs it.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::new("write", self.path().join(name), error);
        let mut file = self.create_file(name)?;
        io::Write::write_all(&mut file, bytes).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}
