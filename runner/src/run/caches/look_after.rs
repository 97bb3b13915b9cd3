//! Caches seen from outside of runs: removed by key, by age, by the bytes that all of them may take.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use serde::Serialize;

use super::{CacheError, Caches, Entry};
use crate::run::errands::Servants;

/// Which caches go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// Those that were not used for so long.
    pub older: Option<Duration>,
    /// Those that were not used for the longest time, until all together take no more than this.
    pub bytes_max: Option<u64>,
    /// Only say which.
    pub dry_run: bool,
}

/// A cache as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptCache {
    /// Its path.
    pub path: String,
    /// Its key.
    pub key: String,
    /// Bytes of its layers; some may be shared.
    pub bytes: u64,
    /// How long ago it was used last, in seconds.
    pub age_s: u64,
}

/// What a pruning came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PrunedCaches {
    /// What went, or would go.
    pub removed: Vec<KeptCache>,
    /// How many stay.
    pub kept: u64,
    /// What these take, in bytes.
    pub kept_bytes: u64,
}

/// Lists all of them, by path and key.
///
/// # Errors
/// Those of the file system.
pub fn list(caches: &Caches, now: SystemTime) -> Result<Vec<KeptCache>, CacheError> {
    let all = caches.entries()?;
    Ok(all.iter().map(|(_, entry, used)| described(entry, *used, now)).collect())
}

/// Removes the caches under these keys. Returns what went.
///
/// # Errors
/// Those of the file system.
pub fn remove(
    caches: &Caches,
    keys: &[String],
    servants: &Servants<'_>,
) -> Result<Vec<KeptCache>, CacheError> {
    let all = caches.entries()?.into_iter();
    let chosen: Vec<_> = all.filter(|(_, entry, _)| keys.contains(&entry.key)).collect();
    take_away(caches, &chosen, servants)?;
    let now = SystemTime::now();
    Ok(chosen.iter().map(|(_, entry, used)| described(entry, *used, now)).collect())
}

/// Removes caches, those that were not used for the longest time first. What a run uses stays until it ends.
///
/// # Errors
/// Those of the file system.
pub fn prune(
    caches: &Caches,
    limits: CacheLimits,
    now: SystemTime,
    servants: &Servants<'_>,
) -> Result<PrunedCaches, CacheError> {
    let mut all = caches.entries()?;
    all.sort_by_key(|(_, _, used)| *used);
    let mut bytes: u64 = all.iter().map(|(_, entry, _)| entry.bytes()).sum();
    let (mut chosen, mut kept) = (Vec::new(), 0);
    for one in all {
        let (_, entry, used) = &one;
        let age = now.duration_since(*used).unwrap_or_default();
        let is_old = limits.older.is_some_and(|older| age >= older);
        if is_old || limits.bytes_max.is_some_and(|most| bytes > most) {
            bytes -= entry.bytes();
            chosen.push(one);
        } else {
            kept += 1;
        }
    }
    if !limits.dry_run {
        take_away(caches, &chosen, servants)?;
    }
    let removed = chosen.iter().map(|(_, entry, used)| described(entry, *used, now)).collect();
    Ok(PrunedCaches { removed, kept, kept_bytes: bytes })
}

fn take_away(
    caches: &Caches,
    chosen: &[(PathBuf, Entry, SystemTime)],
    servants: &Servants<'_>,
) -> Result<(), CacheError> {
    {
        let _nobody_looks_up = caches.hold(FlockOperation::LockExclusive)?;
        for (path, _, _) in chosen {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CacheError::of("remove", path)(error));
                }
                _ => {}
            }
        }
    }
    caches.collect(servants)
}

fn described(entry: &Entry, used: SystemTime, now: SystemTime) -> KeptCache {
    KeptCache {
        path: entry.path.clone(),
        key: entry.key.clone(),
        bytes: entry.bytes(),
        age_s: now.duration_since(used).unwrap_or_default().as_secs(),
    }
}
