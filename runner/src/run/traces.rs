//! What a run leaves on the machine while it lives, written down before it is made, and how the next call removes what
//! a killed keeper left. No process ids: a run is dead when nobody holds its lock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::errands::Servants;
use super::record::{Durability, RecordError, RunDirectory, Selector};
use super::setup_layers::SetupLayers;
use super::skeleton;
use crate::cgroup::Hierarchy;
use crate::sandbox::ids::Identity;
use crate::sandbox::sweep::Since;
use crate::sandbox::zygote::Zygote;

/// Name of the file in the run directory.
const FILE: &str = "sweep.json";

/// Everything of one job that outlives a killed keeper.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traces {
    /// Its cgroups' directories.
    pub cgroups: Vec<PathBuf>,
    /// Its private directory below the home's `scratch`.
    pub scratch: Option<String>,
    /// What of the host its steps could change.
    pub used: Option<Used>,
}

/// Trees of the host that steps could change, and who the steps were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Where the steps' ids came from.
    pub identity: Identity,
    /// The steps' user and group inside.
    pub user: (u32, u32),
    /// When the job began.
    pub since: Since,
    /// The workspace, and the sources of writable mounts.
    pub trees: Vec<UsedTree>,
}

/// A directory, or a file, in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedTree {
    /// Where it is, canonical.
    pub path: PathBuf,
    /// Its identity, so that nothing else is touched: `st_dev`, `st_ino`.
    pub id: (u64, u64),
    /// Whose it is.
    pub owner: (u32, u32),
}

impl UsedTree {
    /// The tree at a canonical path.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        let (id, owner) = ((found.dev(), found.ino()), (found.uid(), found.gid()));
        Ok(Self { path: path.to_path_buf(), id, owner })
    }
}

impl Used {
    /// Hands what the steps gave away back to its owners. Returns what could not be, in words.
    pub fn hand_back(&self, zygote: &Zygote) -> Vec<String> {
        let failed = |tree: &UsedTree| {
            let outcome = self.hand_back_tree(zygote, tree);
            outcome.err().map(|error| format!("{}: {error}", tree.path.display()))
        };
        self.trees.iter().filter_map(failed).collect()
    }

    fn hand_back_tree(&self, zygote: &Zygote, tree: &UsedTree) -> Result<(), String> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(handle) = openat(CWD, &tree.path, flags, Mode::empty()) else { return Ok(()) };
        let stat = rustix::fs::fstat(&handle).map_err(|errno| errno.to_string())?;
        if (stat.st_dev, stat.st_ino) != tree.id {
            return Ok(());
        }
        let servants = Servants { zygote, identity: self.identity, user: self.user };
        // With subids the step's user is the caller outside.
        let owner = if self.identity.is_subids() { self.user } else { tree.owner };
        servants
            .hand_over(std::os::fd::AsFd::as_fd(&handle), owner, self.since)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SweepSummary {
    /// Ids of the dead runs that were cleaned up.
    pub runs: Vec<String>,
    /// Cgroups and directories that were removed.
    pub removed: u64,
    /// Processes that were killed.
    pub killed: u64,
    /// What could not be removed, in words.
    pub left: Vec<String>,
}

/// Where runs that live, or were killed, are listed: the next call looks only there.
fn live(home: &Path) -> PathBuf {
    home.join("live")
}

/// What all jobs of a run leave, by the job's id.
#[derive(Debug)]
pub struct Ledger<'r> {
    home: &'r Path,
    run: &'r RunDirectory,
    jobs: RefCell<BTreeMap<String, Traces>>,
}

impl<'r> Ledger<'r> {
    /// An empty one.
    pub fn new(home: &'r Path, run: &'r RunDirectory) -> Self {
        Self { home, run, jobs: RefCell::default() }
    }

    /// Writes down what a job will leave, before it is made.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn leave(&self, job: &str, traces: Traces) -> Result<(), RecordError> {
        let mut jobs = self.jobs.borrow_mut();
        jobs.insert(job.to_owned(), traces);
        leave(self.home, self.run, &jobs)
    }

    /// Forgets what a job left: it is gone. The file is written with the next job's.
    pub fn gone(&self, job: &str) {
        self.jobs.borrow_mut().remove(job);
    }
}

/// Makes the run known to the next call, and writes down what it will leave.
fn leave(home: &Path, run: &RunDirectory, jobs: &BTreeMap<String, Traces>) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec_pretty(jobs)
        .map_err(|error| RecordError::io("write", run.path().join(FILE), io::Error::other(error)))?;
    run.write_file_atomic(FILE, &bytes, Durability::Cheap)?;
    let directory = live(home);
    fs::create_dir_all(&directory).map_err(|error| RecordError::io("create", &directory, error))?;
    let mark = directory.join(run.id());
    match symlink(Path::new("../runs").join(run.id()), &mark) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(RecordError::io("create", mark, error))
        }
        _ => Ok(()),
    }
}

/// Whether a run lives, or left something that the next run cleans up.
pub fn is_remembered(home: &Path, run_id: &str) -> bool {
    fs::symlink_metadata(live(home).join(run_id)).is_ok()
}

/// The cgroups of a run's jobs, by the job's id.
pub fn cgroups(run: &RunDirectory) -> BTreeMap<String, Vec<PathBuf>> {
    let bytes = fs::read(run.path().join(FILE)).unwrap_or_default();
    let jobs: BTreeMap<String, Traces> = serde_json::from_slice(&bytes).unwrap_or_default();
    jobs.into_iter().map(|(job, traces)| (job, traces.cgroups)).collect()
}

/// Forgets a run that has cleaned up after itself.
pub fn forget(home: &Path, run_id: &str) {
    let _twice = fs::remove_file(live(home).join(run_id));
}

/// Cleans up after every dead run. What lives is left alone.
///
/// # Errors
/// Only when the home directory cannot be read; what cannot be removed is in the summary.
pub fn sweep(home: &Path, zygote: &Zygote, own: Option<Identity>) -> Result<SweepSummary, RecordError> {
    let mut summary = SweepSummary::default();
    RunDirectory::remove_remnants(home)?;
    let directory = live(home);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(summary),
        other => other.map_err(|error| RecordError::io("read", &directory, error))?,
    };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let selector = name.parse::<Selector>().unwrap_or(Selector::Latest);
        let Ok(run) = RunDirectory::open(home, &selector) else {
            // Its records were deleted by hand.
            let _gone = fs::remove_file(directory.join(&name));
            continue;
        };
        let Ok(Some(_lock)) = run.adopt() else { continue };
        let before = summary.left.len();
        clean(home, &run, zygote, own, &mut summary);
        if summary.left.len() == before {
            forget(home, run.id());
            summary.runs.push(name);
        }
    }
    Ok(summary)
}

fn clean(
    home: &Path,
    run: &RunDirectory,
    zygote: &Zygote,
    own: Option<Identity>,
    summary: &mut SweepSummary,
) {
    summary.left.extend(run.discard_unpublished().err().map(|error| error.to_string()));
    let (removed, left) = SetupLayers::of(home).discard(run.id(), zygote);
    summary.removed += removed;
    summary.left.extend(left);
    let bytes = fs::read(run.path().join(FILE)).unwrap_or_default();
    let Ok(jobs) = serde_json::from_slice::<BTreeMap<String, Traces>>(&bytes) else { return };
    for traces in jobs.values() {
        clean_job(home, traces, zygote, own, summary);
    }
}

fn clean_job(
    home: &Path,
    traces: &Traces,
    zygote: &Zygote,
    own: Option<Identity>,
    summary: &mut SweepSummary,
) {
    let cgroups = Hierarchy::sweep(&traces.cgroups);
    summary.removed += cgroups.removed.len() as u64;
    summary.killed += cgroups.killed as u64;
    summary.left.extend(cgroups.left.iter().map(ToString::to_string));
    let used = traces.used.as_ref();
    let Some(identity) = used.map(|used| used.identity).or(own) else { return };
    let user = used.map_or((0, 0), |used| used.user);
    let servants = Servants { zygote, identity, user };
    if let Some(used) = used {
        summary.left.extend(used.hand_back(zygote));
    }
    if let Some(name) = &traces.scratch {
        match remove_scratch(home, &servants, name) {
            Ok(()) => summary.removed += 1,
            Err(error) => summary.left.push(error),
        }
    }
    skeleton::collect(home, &servants);
}

/// Removes a job's private directory: upper directories, the job's layer, a copied workspace.
///
/// # Errors
/// What could not be removed, in words.
pub fn remove_scratch(home: &Path, servants: &Servants<'_>, name: &str) -> Result<(), String> {
    servants.remove_below(&home.join("scratch"), name)
}
