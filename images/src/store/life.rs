//! The life of what is in the store: what is there, since when it lies idle, and its removal.
//!
//! Nothing that a run uses is ever removed: a run holds a shared lock on each tree, and a pull holds one on the whole store
//! until its image is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, RenameFlags, renameat_with, unlinkat};
use rustix::io::Errno;

use super::lock::Locking;
use super::record::{Form, ImageRecord, RefRecord, Seen};
use super::work::Work;
use super::{BLOBS, IMAGES, LAYERS, REFS, ROOTFS, Store, StoreError, open_directory};
use crate::digest::Digest;
use crate::manifest::{Platform, chain_id};
use crate::rootfs::ImageConfig;
use crate::unpack::Unpacker;

/// The lock that pulls share and collection has for itself.
pub(crate) const COLLECT_LOCK: &str = "collect";

/// One image of the store.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// What it is known by.
    pub digest: Digest,
    /// The names that lead to it, safe to print.
    pub names: Vec<String>,
    /// Whether one of the names was given by an import.
    pub imported: bool,
    /// For which machines it is, if it says.
    pub platform: Option<Platform>,
    /// When it was made, as it says.
    pub created: Option<String>,
    /// Diff ids, low to high.
    pub layers: Vec<Digest>,
    /// Compressed bytes, as far as known.
    pub bytes: u64,
    /// Bytes of its trees, those that it shares with other images included.
    pub unpacked_bytes: u64,
    /// When a run used it last.
    pub used: SystemTime,
    /// What it says about running in it.
    pub config: ImageConfig,
    pub(crate) record: ImageRecord,
}

impl StoredImage {
    /// Returns the names of its trees, low to high, as this unpacker makes them.
    pub fn trees(&self, unpacker: &dyn Unpacker) -> Vec<String> {
        self.record.trees(unpacker.flavour())
    }
}

/// What is to be removed for lying idle.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneLimits {
    /// Images that no run has used for so long go.
    pub idle: Option<Duration>,
    /// The longest idle go until the trees have at most so many bytes.
    pub bytes_max: Option<u64>,
    /// Say what would go, and let it stay.
    pub dry_run: bool,
}

/// What a removal did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Images that are gone, or would be.
    pub images: Vec<StoredImage>,
    /// Images that stay because a run uses them.
    pub in_use: Vec<StoredImage>,
    /// Bytes of trees that are gone.
    pub bytes: u64,
    /// What could not be removed, in words.
    pub failed: Vec<String>,
}

/// A removal that did not begin.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pull is on its way, and what it brings belongs to no image yet.
    #[error("another run is pulling an image")]
    Pulling,
    /// No image has this name or digest.
    #[error("there is no image {0} in the store")]
    Unknown(String),
    /// The beginning of several digests.
    #[error("{0} is the beginning of several digests")]
    Ambiguous(String),
    /// A run uses it.
    #[error("a run uses the image {0}")]
    InUse(String),
}

impl Store {
    /// Returns all images, the one that was used last first.
    pub fn images(&self) -> Result<Vec<StoredImage>, StoreError> {
        let mut names: BTreeMap<Digest, (BTreeSet<String>, bool)> = BTreeMap::new();
        for (_, record) in self.references()? {
            let entry = names.entry(record.digest).or_default();
            entry.1 |= record.seen == Seen::Local;
            entry.0.insert(record.name);
        }
        let sizes = self.tree_sizes()?;
        let mut list = Vec::new();
        for (key, used) in self.keys(IMAGES)? {
            let Some(record) = key.parse().ok().map(|digest| self.image(digest)).transpose()?.flatten()
            else {
                continue;
            };
            let (names, imported) = names.remove(&record.digest).unwrap_or_default();
            let trees = tree_keys(&record);
            let unpacked = sizes.iter().filter(|(name, _)| trees.contains(&tree_key(name)));
            list.push(StoredImage {
                digest: record.digest,
                names: names.into_iter().collect(),
                imported,
                platform: record.platform.clone(),
                created: record.created.clone(),
                layers: record.layers.clone(),
                bytes: record.bytes,
                unpacked_bytes: unpacked.map(|(_, bytes)| bytes).sum(),
                used,
                config: record.config.clone(),
                record,
            });
        }
        list.sort_by(|one, other| other.used.cmp(&one.used).then(one.digest.cmp(&other.digest)));
        Ok(list)
    }

    /// Returns the image of this name, or whose digest begins with these digits.
    pub fn find_image(&self, text: &str) -> Result<StoredImage, LifeError> {
        let list = self.images()?;
        if let Some(image) = list.iter().find(|image| image.names.iter().any(|name| name == text)) {
            return Ok(image.clone());
        }
        let digits = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
        let digits = digits.strip_prefix("sha256:").unwrap_or(digits);
        let mut found: Vec<&StoredImage> = Vec::new();
        if digits.len() >= DIGITS_MIN {
            found.extend(list.iter().filter(|image| image.digest.hex().starts_with(digits)));
        }
        match found[..] {
            [] => Err(LifeError::Unknown(text.to_owned())),
            [one] => Ok(one.clone()),
            _ => Err(LifeError::Ambiguous(text.to_owned())),
        }
    }

    /// Removes one image. By one of several names, only that name goes.
    pub fn remove_image(&self, text: &str, unpacker: &dyn Unpacker) -> Result<Pruned, LifeError> {
        let _alone = self.alone()?;
        let image = self.find_image(text)?;
        let by_name = image.names.iter().any(|name| name == text);
        if by_name && image.names.len() > 1 {
            self.forget_names(|record| record.name == text)?;
            return Ok(Pruned::default());
        }
        if self.is_used(&image)? {
            return Err(LifeError::InUse(text.to_owned()));
        }
        let mut pruned = Pruned::default();
        self.forget(&image)?;
        pruned.images.push(image);
        self.collect(unpacker, &mut pruned)?;
        Ok(pruned)
    }

    /// Removes what lies idle, and trees that belong to no image. Imported images stay: nothing could bring them back.
    pub fn prune(&self, limits: &PruneLimits, unpacker: &dyn Unpacker) -> Result<Pruned, LifeError> {
        let _alone = self.alone()?;
        let now = SystemTime::now();
        let mut total: u64 = self.tree_sizes()?.iter().map(|(_, bytes)| bytes).sum();
        let mut pruned = Pruned::default();
        let mut list = self.images()?;
        while let Some(image) = list.pop() {
            let idle = now.duration_since(image.used).unwrap_or_default();
            let too_old = limits.idle.is_some_and(|max| idle >= max);
            let too_much = limits.bytes_max.is_some_and(|max| total > max);
            if image.imported || !(too_old || too_much) {
                continue;
            }
            if self.is_used(&image)? {
                pruned.in_use.push(image);
                continue;
            }
            // What it shares with images that stay is not freed; counting it would remove too few.
            let rest: BTreeSet<String> = list.iter().flat_map(|image| tree_keys(&image.record)).collect();
            let own: Vec<String> =
                tree_keys(&image.record).into_iter().filter(|key| !rest.contains(key)).collect();
            let sizes = self.tree_sizes()?;
            total -= sizes
                .iter()
                .filter(|(name, _)| own.contains(&tree_key(name)))
                .map(|(_, bytes)| bytes)
                .sum::<u64>()
                .min(total);
            if !limits.dry_run {
                self.forget(&image)?;
            }
            pruned.images.push(image);
        }
        if !limits.dry_run {
            self.collect(unpacker, &mut pruned)?;
        }
        Ok(pruned)
    }

    /// Keeps pulls away.
    fn alone(&self) -> Result<super::Lease, LifeError> {
        match self.try_lock(COLLECT_LOCK)? {
            Locking::Held(lease) => Ok(lease),
            Locking::Busy => Err(LifeError::Pulling),
        }
    }

    /// Whether a run uses a tree that would go with the image. Those that other images have too stay anyway.
    fn is_used(&self, image: &StoredImage) -> Result<bool, StoreError> {
        let images = self.images()?;
        let others = images.iter().filter(|other| other.digest != image.digest);
        let shared: BTreeSet<String> = others.flat_map(|other| tree_keys(&other.record)).collect();
        let trees: Vec<String> =
            tree_keys(&image.record).into_iter().filter(|key| !shared.contains(key)).collect();
        let names = self.names(LAYERS)?;
        let mut of_image = names.iter().filter(|name| trees.contains(&tree_key(name)));
        // A lock that cannot be taken is held, whatever the reason.
        Ok(of_image.any(|name| !matches!(self.try_lock(&format!("layer-{name}")), Ok(Locking::Held(_)))))
    }

    /// Removes an image's record and names; its trees are then nobody's, unless another image has them too.
    fn forget(&self, image: &StoredImage) -> Result<(), StoreError> {
        self.forget_names(|record| record.digest == image.digest)?;
        self.unlink(IMAGES, &format!("{}.json", image.digest.hex()))
    }

    fn forget_names(&self, of: impl Fn(&RefRecord) -> bool) -> Result<(), StoreError> {
        for (key, record) in self.references()? {
            if of(&record) {
                self.unlink(REFS, &format!("{key}.json"))?;
            }
        }
        Ok(())
    }

    /// Removes trees and documents that belong to no image.
    fn collect(&self, unpacker: &dyn Unpacker, pruned: &mut Pruned) -> Result<(), StoreError> {
        let list = self.images()?;
        let trees: BTreeSet<String> = list.iter().flat_map(|image| tree_keys(&image.record)).collect();
        for (name, bytes) in self.tree_sizes()? {
            if trees.contains(&tree_key(&name)) {
                continue;
            }
            match self.remove_tree(&name, unpacker) {
                Ok(true) => pruned.bytes += bytes,
                Ok(false) => {}
                Err(error) => pruned.failed.push(error.to_string()),
            }
        }
        let documents: BTreeSet<String> =
            list.iter().flat_map(|image| image.record.documents.iter().map(Digest::hex)).collect();
        for name in self.names(BLOBS)? {
            if !documents.contains(&name) {
                self.unlink(BLOBS, &name)?;
            }
        }
        // What a name led to was removed by hand, or is of an older version.
        let digests: BTreeSet<Digest> = list.iter().map(|image| image.digest).collect();
        self.forget_names(|record| !digests.contains(&record.digest))
    }

    /// Removes a tree unless a run uses it. First it gets another name, so that half of it is never a layer.
    fn remove_tree(&self, name: &str, unpacker: &dyn Unpacker) -> Result<bool, StoreError> {
        let Locking::Held(_lease) = self.try_lock(&format!("layer-{name}"))? else { return Ok(false) };
        let work = Work::new(self)?;
        let path = self.root.join(LAYERS).join(name);
        renameat_with(&self.layers, name, work.handle(), ROOTFS, RenameFlags::NOREPLACE)
            .map_err(|errno| StoreError::new("remove", path, errno))?;
        work.discard(unpacker);
        Ok(true)
    }

    /// Names of trees with the bytes that were unpacked to them.
    fn tree_sizes(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let names = self.names(LAYERS)?.into_iter();
        Ok(names
            .map(|name| {
                let record = self.layer_record(&self.layer_file(&name, ROOTFS));
                let bytes = record.map_or(0, |record| record.summary.bytes);
                (name, bytes)
            })
            .collect())
    }

    fn references(&self) -> Result<Vec<(String, RefRecord)>, StoreError> {
        let mut list = Vec::new();
        for (key, _) in self.keys(REFS)? {
            if let Some(record) = self.reference(&key)? {
                list.push((key, record));
            }
        }
        Ok(list)
    }

    /// Keys of the records in a folder, with the time of the last use.
    fn keys(&self, folder: &str) -> Result<Vec<(String, SystemTime)>, StoreError> {
        let names = self.names(folder)?.into_iter();
        Ok(names
            .filter_map(|name| {
                let used =
                    fs::metadata(self.root.join(folder).join(&name)).and_then(|found| found.modified());
                Some((name.strip_suffix(".json")?.to_owned(), used.ok()?))
            })
            .collect())
    }

    /// Names in a folder, sorted.
    pub(crate) fn names(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.root.join(folder);
        let failed = |error: io::Error| StoreError::new("read", &path, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            // Whatever is not text is not ours.
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn unlink(&self, folder: &str, name: &str) -> Result<(), StoreError> {
        let failed = |errno| StoreError::new("remove", self.root.join(folder).join(name), errno);
        let handle = open_directory(&*self.root_handle, folder).map_err(failed)?;
        match unlinkat(&handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// Digits of a digest that may stand for it: as many as git asks for, more than chance could make alike.
const DIGITS_MIN: usize = 7;

/// What a tree's name says whatever the flavour: its digest and which kind of tree it is.
fn tree_key(name: &str) -> String {
    let (digest, flavour) = name.split_once('.').unwrap_or((name, ""));
    let kind = ["layer", "seam", "merged"].into_iter().find(|kind| flavour.ends_with(&format!("-{kind}")));
    format!("{digest} {}", kind.unwrap_or("tarball"))
}

/// The keys of an image's trees.
fn tree_keys(record: &ImageRecord) -> Vec<String> {
    let each = |kind: &str| record.layers.iter().map(|id| format!("{} {kind}", id.hex())).collect::<Vec<_>>();
    let chain = |kind: &str| vec![format!("{} {kind}", chain_id(&record.layers).hex())];
    match record.form {
        Form::Tarball => each("tarball"),
        Form::Stacked => each("layer"),
        Form::Seamed => [each("layer"), chain("seam")].concat(),
        Form::Merged => chain("merged"),
    }
}
