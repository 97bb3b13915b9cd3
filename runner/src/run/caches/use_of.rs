//! One job's use of a cache: what it begins with, and what is kept of what it wrote.

use std::fs::{self, DirBuilder, File, FileTimes};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jobs::{CacheMode, CachePlan};
use rustix::fs::{FlockOperation, flock};

use super::{CacheError, Caches, Entry, LAYERS_MAX, Layer, VERSION, flatten};
use crate::run::errands::Servants;
use crate::run::prune::bytes_below;
use crate::run::record::timestamp;

/// What a cache began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// What is kept under its key.
    Hit,
    /// What is kept under a key that begins like one of the others.
    Partial,
    /// Nothing.
    Miss,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It is kept now, so many bytes in all.
    Kept(u64),
    /// There was nothing new in it.
    Unchanged,
    /// It has so many bytes, more than it may have.
    TooLarge(u64),
}

/// A cache of a job that runs. Its layers stay where they are as long as this value lives.
#[derive(Debug)]
pub struct Use {
    /// Where steps find it.
    pub to: String,
    /// The path as the job file has it.
    pub path: String,
    /// The key.
    pub key: String,
    /// Which way it goes.
    pub mode: CacheMode,
    /// It is kept although the job has failed.
    pub always: bool,
    /// Its directory in the job's own, with what steps write.
    pub name: String,
    bytes_max: Option<u64>,
    flavour: String,
    /// What it began with.
    entry: Option<Entry>,
    layers: Vec<PathBuf>,
    _locks: Vec<File>,
}

impl Use {
    /// One that begins with nothing. `index`: its place among the job's caches; `to`: absolute inside.
    pub fn empty(plan: &CachePlan, index: usize, to: String, key: String, flavour: &str) -> Self {
        Self {
            to,
            path: plan.path.clone(),
            key,
            mode: plan.mode,
            always: plan.always,
            name: format!("cache-{index}"),
            bytes_max: plan.bytes_max,
            flavour: flavour.to_owned(),
            entry: None,
            layers: Vec::new(),
            _locks: Vec::new(),
        }
    }

    /// Its layers, the highest first.
    pub fn layers(&self) -> impl Iterator<Item = &Path> {
        self.layers.iter().rev().map(PathBuf::as_path)
    }

    /// What it began with, and the key under which that was.
    pub fn restored(&self) -> (Restored, Option<&Entry>) {
        match &self.entry {
            None => (Restored::Miss, None),
            Some(entry) if entry.key == self.key => (Restored::Hit, Some(entry)),
            Some(entry) => (Restored::Partial, Some(entry)),
        }
    }

    /// Looks for what it is to begin with: what is under its key, else the newest that begins with the first of the others
    /// that has any.
    ///
    /// # Errors
    /// When the caches cannot be read; then it begins with nothing.
    pub fn restore(&mut self, caches: &Caches, beginnings: &[String]) -> Result<(), CacheError> {
        if self.mode == CacheMode::PushOnly {
            return Ok(());
        }
        let _nothing_goes = caches.hold(FlockOperation::LockShared)?;
        let known = super::read_shelf(&caches.shelf(&self.path, &self.flavour));
        let exact = known.iter().find(|(_, entry, _)| entry.key == self.key);
        let newest = |beginning: &String| {
            let like = known.iter().filter(|(_, entry, _)| entry.key.starts_with(beginning.as_str()));
            like.max_by(|one, other| one.1.created.cmp(&other.1.created))
        };
        let Some((at, entry, _)) = exact.or_else(|| beginnings.iter().find_map(newest)) else {
            return Ok(());
        };
        let mut locks = Vec::with_capacity(entry.layers.len());
        let layers: Vec<PathBuf> = entry.layers.iter().map(|layer| caches.layer(&layer.name)).collect();
        for layer in &layers {
            let lock = File::open(layer).map_err(CacheError::of("open", layer))?;
            flock(&lock, FlockOperation::LockShared).map_err(CacheError::of("lock", layer))?;
            locks.push(lock);
        }
        // When it was used last: what is not used goes first.
        if let Ok(file) = File::options().append(true).open(at) {
            let _cosmetic = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
        self.layers = layers.into_iter().map(|layer| layer.join("u")).collect();
        (self.entry, self._locks) = (Some(entry.clone()), locks);
        Ok(())
    }

    /// Keeps what the steps have made of it, once nothing of them lives any more. `scratch`: the job's own directory.
    ///
    /// # Errors
    /// Those of the file system; what was kept before stays as it was.
    pub async fn save(
        &self,
        caches: &Caches,
        scratch: &Path,
        servants: &Servants<'_>,
    ) -> Result<Saved, CacheError> {
        let upper = scratch.join(&self.name).join("u");
        let mut written = fs::read_dir(&upper).map_err(CacheError::of("read", &upper))?;
        let is_changed = written.next().is_some();
        let before = self.entry.as_ref().filter(|_| self.mode != CacheMode::PushOnly);
        let is_there = before.is_none_or(|entry| entry.key == self.key);
        if !is_changed && is_there {
            return Ok(Saved::Unchanged);
        }
        let mut layers = before.map_or_else(Vec::new, |entry| entry.layers.clone());
        let bytes = if is_changed { measured(&upper).await } else { 0 };
        let all = bytes + layers.iter().map(|layer| layer.bytes).sum::<u64>();
        if self.bytes_max.is_some_and(|most| all > most) {
            return Ok(Saved::TooLarge(all));
        }
        {
            let _nothing_goes = caches.hold(FlockOperation::LockShared)?;
            if is_changed {
                layers.push(take_over(caches, &upper, bytes)?);
            }
            if layers.len() > LAYERS_MAX {
                layers = vec![flat(caches, &layers, servants).await?];
            }
            let all = caches.clone();
            elsewhere(move || all.flush()).await.map_err(CacheError::of("flush", &caches.root))??;
            let known = super::read_shelf(&caches.shelf(&self.path, &self.flavour));
            let generation = known.iter().find(|(_, entry, _)| entry.key == self.key);
            caches.write(&Entry {
                v: VERSION,
                key: self.key.clone(),
                path: self.path.clone(),
                flavour: self.flavour.clone(),
                generation: generation.map_or(0, |(_, entry, _)| entry.generation) + 1,
                created: timestamp(),
                layers,
            })?;
        }
        // What was replaced is named no more.
        caches.collect(servants)?;
        Ok(Saved::Kept(all))
    }
}

/// A new layer's directory, empty.
fn new_layer(caches: &Caches) -> Result<(String, PathBuf), CacheError> {
    use std::hash::{BuildHasher as _, RandomState};
    let name = format!("{:016x}", RandomState::new().hash_one(0));
    let path = caches.layer(&name);
    DirBuilder::new().mode(0o700).create(&path).map_err(CacheError::of("create", &path))?;
    Ok((name, path))
}

/// Makes a layer of what steps have written.
fn take_over(caches: &Caches, upper: &Path, bytes: u64) -> Result<Layer, CacheError> {
    let (name, path) = new_layer(caches)?;
    fs::rename(upper, path.join("u")).map_err(CacheError::of("take over", upper))?;
    Ok(Layer { name, bytes })
}

/// Does what takes long where nobody waits for it: other jobs go on meanwhile.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The bytes that a tree takes on the disk.
async fn measured(tree: &Path) -> u64 {
    let tree = tree.to_path_buf();
    elsewhere(move || bytes_below(&tree)).await.unwrap_or_default()
}

/// Makes one layer of several, whose files it shares.
async fn flat(caches: &Caches, layers: &[Layer], servants: &Servants<'_>) -> Result<Layer, CacheError> {
    let (name, path) = new_layer(caches)?;
    let target = path.join("u");
    crate::run::room::make_directory(&target).map_err(CacheError::of("create", &target))?;
    let open = |path: &Path| File::open(path).map_err(CacheError::of("open", path));
    let sources = layers
        .iter()
        .map(|layer| open(&caches.layer(&layer.name).join("u")))
        .collect::<Result<Vec<_>, _>>()?;
    let merged = open(&target)?;
    let flattened = if servants.are_needed() {
        let fds: Vec<_> = sources.iter().map(|source| source.as_fd()).collect();
        servants.flatten(&fds, merged.as_fd()).map_err(io::Error::other)
    } else {
        let work = move || {
            let fds: Vec<_> = sources.iter().map(|source| source.as_fd()).collect();
            flatten(&fds, merged.as_fd())
        };
        elsewhere(work).await.and_then(|merged| Ok(merged?))
    };
    flattened.map_err(CacheError::of("merge", &target))?;
    let bytes = measured(&target).await;
    Ok(Layer { name, bytes })
}
