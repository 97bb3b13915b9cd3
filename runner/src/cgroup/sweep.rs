//! The removal of cgroups: one that is done with, and those that a dead run left.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::directory::Directory;
use super::error::CgroupError;
use super::hierarchy::PREFIX;
use super::processes;

/// How long a removal waits for the last processes of a cgroup to go.
pub const REMOVE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a drop waits: it may run where nothing must block.
pub(super) const DROP_DEADLINE: Duration = Duration::from_millis(20);
/// The first pause between two attempts; each is twice as long as the last, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(10));
/// How deep cgroups may be nested below one of ours, and how many there may be.
const DEPTH_MAX: usize = 64;
const INNER_MAX: usize = 100_000;
/// How many processes a message names.
const NAMED_MAX: usize = 3;

/// `statfs` magic numbers of the two cgroup filesystems (statfs(2)).
const CGROUP_MAGICS: [u64; 2] = [0x27e0eb, 0x6367_7270];

/// What a sweep has done.
#[derive(Debug, Default)]
pub struct SweepSummary {
    /// Directories that are gone now.
    pub removed: Vec<PathBuf>,
    /// Processes that were killed in them.
    pub killed: usize,
    /// What could not be removed, and why.
    pub left: Vec<CgroupError>,
}

/// Removes a cgroup below `parent`, and all below it, once nobody lives there any more.
pub(super) fn remove(parent: &Directory, name: &str, deadline: Duration) -> Result<(), CgroupError> {
    let started = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        match parent.remove(name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {
                // Cgroups of the step's own making; mostly there are none, and one process is on its way out.
                for inner in inner(&parent.at(name)) {
                    let _ = rustix::fs::rmdir(&inner);
                }
            }
            Err(source) => return Err(remove_error(parent, name, source)),
        }
        if started.elapsed() >= deadline {
            return parent.remove(name).map_err(|source| remove_error(parent, name, source));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn remove_error(parent: &Directory, name: &str, source: Errno) -> CgroupError {
    let living = processes::pids(parent, name);
    let mut holders: Vec<_> =
        living.iter().take(NAMED_MAX).map(|pid| processes::name_with_pid(*pid)).collect();
    if living.len() > NAMED_MAX {
        holders.push(format!("{} more", living.len() - NAMED_MAX));
    }
    let holders = if holders.is_empty() {
        "no process is in it".into()
    } else {
        format!("in it: {}", holders.join(", "))
    };
    CgroupError::Remove { path: parent.at(name), source, holders }
}

/// Returns the cgroups below a directory, inner ones first.
fn inner(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![(path.to_owned(), 0)];
    while let Some((directory, depth)) = next.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if depth < DEPTH_MAX
                && found.len() < INNER_MAX
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                found.push(entry.path());
                next.push((entry.path(), depth + 1));
            }
        }
    }
    // Each was found after the one that it lies in.
    found.reverse();
    found
}

/// Kills and removes run cgroups.
pub(super) fn sweep(paths: &[PathBuf]) -> SweepSummary {
    let mut summary = SweepSummary::default();
    let mut runs: Vec<_> = paths.iter().filter_map(|path| open_run(path)).collect();
    // Where the kernel kills at one word first: the others are then empty.
    runs.sort_by_key(|(_, run)| run.open_to_write("cgroup.kill").is_err());
    for (_, run) in &runs {
        summary.killed += kill(run);
    }
    for (base, run) in &runs {
        let name = run.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match remove(base, name, REMOVE_DEADLINE) {
            Ok(()) => summary.removed.push(run.path().to_owned()),
            Err(error) => summary.left.push(error),
        }
    }
    summary
}

/// Opens a run's cgroup and what it lies in, if that is what the path names.
fn open_run(path: &Path) -> Option<(Directory, Directory)> {
    let name = path.file_name()?.to_str()?;
    if !path.is_absolute() || name.len() <= PREFIX.len() || !name.starts_with(PREFIX) {
        return None;
    }
    let base = Directory::open(path.parent()?).ok()?;
    let run = base.below(name).ok()?;
    let magic = rustix::fs::fstatfs(&run).ok()?.f_type as u64;
    CGROUP_MAGICS.contains(&magic).then_some((base, run))
}

/// Kills everything in a run's cgroup and below, and returns how many it was.
fn kill(run: &Directory) -> usize {
    let mut all = inner(run.path());
    all.push(run.path().to_owned());
    let open: Vec<_> = all.iter().filter_map(|path| Directory::open(path).ok()).collect();
    let living = || open.iter().map(|cgroup| processes::pids(cgroup, ".").len()).sum::<usize>();
    let count = living();
    if count == 0 || run.write("cgroup.kill", "1").is_ok() {
        return count;
    }
    let started = Instant::now();
    while open.iter().map(|cgroup| processes::kill_once(cgroup, ".")).sum::<usize>() > 0
        && started.elapsed() < REMOVE_DEADLINE
    {
        std::thread::sleep(PAUSES.1);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_run_cgroups_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("runner-x");
        std::fs::create_dir(&plain).unwrap();
        let strangers = ["/sys/fs/cgroup", "/sys/fs/cgroup/runner-", "runner-x", "/"].map(PathBuf::from);
        let summary = sweep(&[&strangers[..], std::slice::from_ref(&plain)].concat());
        assert!(summary.removed.is_empty() && summary.left.is_empty());
        assert!(plain.exists());
    }

    #[test]
    fn inner_directories_come_first() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b/c")).unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        let found = inner(directory.path());
        assert_eq!(found.len(), 4);
        let position = |end: &str| found.iter().position(|path| path.ends_with(end)).unwrap();
        assert!(position("a/b/c") < position("a/b") && position("a/b") < position("a"));
    }
}
