//! Removing runs: by age, by the bytes that all of them may take. What lives, or was killed and not yet cleaned up, stays.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::kept::{self, Kept};
use super::record::{RecordError, RunDirectory, RunState};
use super::traces;

/// Bytes of a block as stat(2) counts them.
const BLOCK_BYTES: u64 = 512;

/// Which runs go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunLimits {
    /// Those that ended so long ago.
    pub older: Option<Duration>,
    /// The oldest, until all together take no more than this.
    pub bytes_max: Option<u64>,
    /// Only say which.
    pub dry_run: bool,
}

/// A run that is removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedRun {
    /// Its id.
    pub id: String,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
    /// How long ago it ended, in seconds.
    pub age_s: u64,
}

/// What a pruning came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PrunedRuns {
    /// What went, or would go.
    pub removed: Vec<PrunedRun>,
    /// How many stay.
    pub kept: u64,
    /// What these take, in bytes.
    pub kept_bytes: u64,
    /// Runs that could not be removed, in words.
    pub failed: Vec<String>,
}

/// Removes runs, the oldest first. `release`: removes what is kept of a run's job, or says why it cannot.
///
/// # Errors
/// When the records cannot be listed. What cannot be removed is in [`PrunedRuns::failed`].
pub fn prune(
    home: &Path,
    limits: RunLimits,
    now: SystemTime,
    release: &mut dyn FnMut(&Kept) -> Result<(), String>,
) -> Result<PrunedRuns, RecordError> {
    let all_kept = kept::all(home)?;
    let mut runs: Vec<(RunDirectory, PrunedRun)> = Vec::new();
    let mut pruned = PrunedRuns::default();
    for run in RunDirectory::all(home)? {
        let kept = all_kept.iter().filter(|kept| kept.run == run.id());
        let kept: u64 = kept.map(|kept| bytes_below(&kept.directory(home))).sum();
        let bytes = bytes_below(run.path()) + kept;
        let stays = traces::is_remembered(home, run.id()) || run.is_live();
        match ended(&run).filter(|_| !stays) {
            Some(ended) => {
                let age_s = now.duration_since(ended).unwrap_or_default().as_secs();
                let id = run.id().to_owned();
                runs.push((run, PrunedRun { id, bytes, age_s }));
            }
            None => {
                pruned.kept += 1;
                pruned.kept_bytes += bytes;
            }
        }
    }
    runs.sort_by_key(|(_, run)| std::cmp::Reverse(run.age_s));
    let mut total = pruned.kept_bytes + runs.iter().map(|(_, run)| run.bytes).sum::<u64>();
    for (directory, run) in runs {
        let old = limits.older.is_some_and(|older| run.age_s >= older.as_secs());
        let goes = old || limits.bytes_max.is_some_and(|max| total > max);
        if goes && !limits.dry_run {
            let kept = all_kept.iter().filter(|kept| kept.run == run.id);
            pruned.failed.extend(kept.filter_map(|kept| release(kept).err()));
        }
        let removed = if goes && !limits.dry_run { directory.remove() } else { Ok(goes) };
        match removed {
            Ok(true) => {
                total -= run.bytes;
                pruned.removed.push(run);
            }
            Ok(false) => {
                pruned.kept += 1;
                pruned.kept_bytes += run.bytes;
            }
            Err(error) => pruned.failed.push(format!("{}: {error}", run.id)),
        }
    }
    Ok(pruned)
}

/// When a run ended: of one that was killed, when its record was last written. `None`: nothing is known of it.
fn ended(run: &RunDirectory) -> Option<SystemTime> {
    let record = run.read_run();
    if let Ok(record) = &record
        && record.state == RunState::Finished
        && let Some(ended) = record.ended.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok())
    {
        return Some(ended.into());
    }
    let places = [run.path().join("run.json"), run.path().to_path_buf()];
    places.iter().find_map(|place| fs::metadata(place).and_then(|found| found.modified()).ok())
}

/// What a directory and everything below it takes on the disk. Links are not followed.
pub(super) fn bytes_below(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    let own = found.blocks() * BLOCK_BYTES;
    if !found.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| bytes_below(&entry.path())).sum::<u64>()
}
