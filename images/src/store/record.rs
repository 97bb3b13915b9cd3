//! The small JSON files of the store. One that cannot be read is treated as absent: it is made again.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, fsync, openat, renameat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::work::Work;
use super::{IMAGES, REFS, Store, StoreError, open_directory};
use crate::digest::Digest;
use crate::rootfs::ImageConfig;
use crate::unpack::UnpackSummary;

/// Version of all records; one of another version counts as absent.
const VERSION: u32 = 1;

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
    pub(crate) config: ImageConfig,
}

impl ImageRecord {
    pub(crate) fn new(digest: Digest, layers: Vec<Digest>, config: ImageConfig) -> ImageRecord {
        ImageRecord { version: VERSION, digest, layers, config }
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
}

/// By what a change would be noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Seen {
    File(FileIdentity),
    Url { etag: Option<String>, last_modified: Option<String> },
}

impl RefRecord {
    pub(crate) fn new(digest: Digest, seen: Seen) -> RefRecord {
        RefRecord { version: VERSION, digest, seen }
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
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(self.handle(), name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed(errno.into()))?;
        let mut file = std::fs::File::from(file);
        io::Write::write_all(&mut file, &json).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}
