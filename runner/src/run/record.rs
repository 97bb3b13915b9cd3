//! The run directory: where everything about one run is kept, and how it is found again.
//!
//! `runs/<id>/` below the home directory. A run is alive as long as its `lock` is held; nothing here trusts a
//! process id. While steps run, files are replaced by rename without an fsync (a step must not pay for a
//! disk's flush); the final `run.json` is flushed. docs/records.md describes every file.

mod events;
mod id;
mod lock;
mod model;
mod network;
mod select;
mod service;
mod step;
mod write;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use serde::Serialize;

use crate::outcome::{ServiceResult, StepResult};

pub use crate::outcome::ImageRecord;
pub use events::EventLog;
pub use id::timestamp;
pub use lock::RunLock;
pub use model::{
    ArtifactRecord, HostRecord, IncludedFile, JobAttempt, JobRecord, RECORD_VERSION, ReportsRecord,
    RunRecord, RunState, WarningRecord,
};
pub use network::{NETWORK_RECORD_VERSION, NetworkLine, NetworkRecord, suggestion};
pub use select::Selector;
pub use step::{HandedRecord, StagedStep, StepDirectory};
pub use write::{Durability, write_file_atomic};

/// Longest name that an included file is kept under, without its number.
const INCLUDED_NAME_MAX: usize = 100;
/// How often a fresh id is tried: two runs of one second collide once in 14 million.
const ID_ATTEMPTS_MAX: usize = 16;

/// Why a record could not be written, read or found.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk, or the caller's quota, is full.
    #[error("cannot {action} {}: no space left on its file system", path.display())]
    Full {
        /// What was tried: `write`, `create`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// ENOSPC or EDQUOT; the words above say it.
        error: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file does not say what a record says.
    #[error("cannot understand {}: it is not a record of version {RECORD_VERSION}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// No run matches.
    #[error("no run `{selector}` below {}", runs.display())]
    Unknown {
        /// What was asked for.
        selector: String,
        /// Where it was looked for.
        runs: PathBuf,
    },
    /// Several runs match.
    #[error("`{prefix}` is the beginning of {count} run ids, {first} and {last} among them")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many match.
        count: usize,
        /// The oldest of them.
        first: String,
        /// The newest of them.
        last: String,
    },
    /// The caller's id is taken.
    #[error("run `{id}` exists already in {}", runs.display())]
    Exists {
        /// The id.
        id: String,
        /// Where.
        runs: PathBuf,
    },
    /// The caller's id cannot be a directory's name.
    #[error(
        "`{id}` cannot be a run id: expected 1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit, and not `latest`"
    )]
    BadId {
        /// The id.
        id: String,
    },
}

impl RecordError {
    /// Words a failure of the file system; a full disk gets its own variant.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { action, path, error: source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Returns what the user can do about it, one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { .. } => Some(
                "free some space there, or set RUNNER_HOME to a directory on another file system".to_owned(),
            ),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("set RUNNER_HOME to a directory that you may write to".to_owned())
            }
            Self::Parse { .. } => Some("the run may come from another version of runner".to_owned()),
            Self::Unknown { .. } => Some("`runner runs` lists them".to_owned()),
            Self::Ambiguous { .. } => Some("give more of the id".to_owned()),
            Self::Exists { .. } => Some("choose another --run-id, or leave it out".to_owned()),
            Self::Io { .. } | Self::BadId { .. } => None,
        }
    }

    /// Whether the user asked for something that cannot be, rather than the machine failing.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::Ambiguous { .. } | Self::Exists { .. } | Self::BadId { .. }
        )
    }
}

/// One run's directory. Its creator holds the lock until it is dropped.
#[derive(Debug)]
pub struct RunDirectory {
    runs: PathBuf,
    id: String,
    path: PathBuf,
    lock: Option<RunLock>,
    /// It is removed when it is over.
    passing: bool,
}

impl RunDirectory {
    /// Makes a new run below `home` (made when missing, mode 0700), locks it, and points `latest` at it.
    ///
    /// With no `run_id` a fresh one is made. The directory appears under its name only when its lock is
    /// held, so nobody can take it for garbage in between.
    pub fn create(home: &Path, run_id: Option<&str>) -> Result<Self, RecordError> {
        let runs = home.join("runs");
        make_directory(&runs)?;
        let made = Self::create_in(&runs, run_id)?;
        write::replace_link(&runs, "latest", &made.id)?;
        Ok(made)
    }

    /// Makes a run that is removed when it is over: neither `latest` nor `latest-failed` ever names it.
    pub fn create_passing(home: &Path) -> Result<Self, RecordError> {
        let runs = home.join("runs");
        make_directory(&runs)?;
        Ok(Self { passing: true, ..Self::create_in(&runs, None)? })
    }

    fn create_in(runs: &Path, run_id: Option<&str>) -> Result<Self, RecordError> {
        if let Some(id) = run_id {
            if !id::is_valid(id) {
                return Err(RecordError::BadId { id: id.to_owned() });
            }
            return Self::create_as(runs, id);
        }
        let mut attempt = 1;
        loop {
            match Self::create_as(runs, &id::fresh()) {
                Err(RecordError::Exists { .. }) if attempt < ID_ATTEMPTS_MAX => attempt += 1,
                other => return other,
            }
        }
    }

    fn create_as(runs: &Path, id: &str) -> Result<Self, RecordError> {
        let hidden = runs.join(format!("{}{}", select::UNPUBLISHED_PREFIX, id::fresh()));
        make_directory(&hidden)?;
        let published = RunLock::create(&hidden.join("lock"))
            .and_then(|lock| publish(&hidden, runs, id).map(|path| (lock, path)));
        let (lock, path) = match published {
            Ok(done) => done,
            Err(error) => {
                // The first error is the one to tell; a remnant is swept by the next call.
                let _ = fs::remove_dir_all(&hidden);
                return Err(error);
            }
        };
        let (runs, id) = (runs.to_path_buf(), id.to_owned());
        let made = Self { runs, id, path, lock: Some(lock), passing: false };
        make_directory(&made.path.join("jobs"))?;
        Ok(made)
    }

    /// Finds a run that exists: by id, by a unique beginning of one, or by `latest` and `latest-failed`.
    pub fn open(home: &Path, selector: &Selector) -> Result<Self, RecordError> {
        let runs = home.join("runs");
        let id = selector.resolve(&runs)?;
        Ok(Self { path: runs.join(&id), id, runs, lock: None, passing: false })
    }

    /// Lists all runs, the oldest first.
    pub fn all(home: &Path) -> Result<Vec<Self>, RecordError> {
        let runs = home.join("runs");
        let mut ids = select::ids(&runs)?;
        ids.sort_unstable();
        Ok(ids
            .into_iter()
            .map(|id| Self { path: runs.join(&id), id, runs: runs.clone(), lock: None, passing: false })
            .collect())
    }

    /// Removes directories of runs whose process died in the moment of making them; nothing is known of them.
    pub fn remove_remnants(home: &Path) -> Result<(), RecordError> {
        let runs = home.join("runs");
        for name in select::remnants(&runs)? {
            let path = runs.join(name);
            fs::remove_dir_all(&path).map_err(|source| RecordError::io("remove", path, source))?;
        }
        Ok(())
    }

    /// Removes the run's directory, and the links that named it. Returns false when the run lives, or is being swept.
    pub fn remove(self) -> Result<bool, RecordError> {
        let Some(_lock) = self.adopt()? else { return Ok(false) };
        self.put_away()?;
        Ok(true)
    }

    /// Removes a run of ours that is over and that nobody is to see.
    pub fn pass(self) -> Result<(), RecordError> {
        if self.passing { self.put_away() } else { Ok(()) }
    }

    fn put_away(&self) -> Result<(), RecordError> {
        // Gone at once for whoever looks; how long the rest takes is nobody's business.
        let name = format!("{}{}", select::REMOVED_PREFIX, self.id);
        let gone = self.runs.join(&name);
        fs::rename(&self.path, &gone).map_err(|source| RecordError::io("rename", &self.path, source))?;
        for link in ["latest", "latest-failed"].map(|link| self.runs.join(link)) {
            if fs::read_link(&link).is_ok_and(|target| target == Path::new(&self.id)) {
                fs::remove_file(&link).map_err(|source| RecordError::io("remove", link, source))?;
            }
        }
        let runs =
            fs::File::open(&self.runs).map_err(|source| RecordError::io("open", &self.runs, source))?;
        images::remove_tree(&runs, &name)
            .map_err(|error| RecordError::io("remove", gone, io::Error::other(error)))
    }

    /// Returns the run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a process holds the run's lock.
    pub fn is_live(&self) -> bool {
        self.lock.is_some() || RunLock::is_held(&self.path.join("lock"))
    }

    /// Waits until no process holds the run's lock.
    pub fn wait(&self) -> Result<(), RecordError> {
        RunLock::wait_until_free(&self.path.join("lock"))
    }

    /// A handle on the process whose run it is; `None` when it is gone, or cannot be seen from here.
    pub fn holder(&self) -> Option<OwnedFd> {
        RunLock::holder(&self.path.join("lock"))
    }

    /// Takes the lock of a run whose process is gone, to sweep it; `None` while it is alive or being swept.
    pub fn adopt(&self) -> Result<Option<RunLock>, RecordError> {
        RunLock::adopt(&self.path.join("lock"))
    }

    /// Writes `relative` in one step: readers see the old bytes or the new ones.
    pub fn write_file_atomic(
        &self,
        relative: &str,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), RecordError> {
        write_file_atomic(&self.path.join(relative), bytes, durability)
    }

    /// Keeps the job file exactly as it was read.
    pub fn write_job_file(&self, text: &[u8]) -> Result<(), RecordError> {
        self.write_file_atomic("job.yml", text, Durability::Cheap)
    }

    /// Keeps the files that the job file names, as `include/NUMBER-NAME` in the order in which they were read.
    pub fn write_included(&self, files: &[IncludedFile]) -> Result<(), RecordError> {
        if files.is_empty() {
            return Ok(());
        }
        make_directory(&self.path().join("include"))?;
        for (at, file) in files.iter().enumerate() {
            let name = file.name.rsplit('/').next().unwrap_or_default();
            let plain =
                |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
            let name: String = name.chars().map(plain).take(INCLUDED_NAME_MAX).collect();
            self.write_file_atomic(&format!("include/{}-{name}", at + 1), &file.text, Durability::Cheap)?;
        }
        Ok(())
    }

    /// Keeps the plan: every default settled.
    pub fn write_resolved(&self, plan: &impl Serialize) -> Result<(), RecordError> {
        self.write_json("job.resolved.json", plan, Durability::Cheap)
    }

    /// Writes `run.json` while the run goes on: replaced atomically, not flushed.
    pub fn write_run(&self, record: &RunRecord) -> Result<(), RecordError> {
        self.write_json("run.json", record, Durability::Cheap)
    }

    /// Makes the last record of the run, to be written by whoever has the time to wait for the disk.
    pub fn conclusion(&self, record: &RunRecord) -> Result<Conclusion, RecordError> {
        let path = self.path.join("run.json");
        let failed = record.conclusion.is_some_and(crate::outcome::Outcome::is_failure) && !self.passing;
        Ok(Conclusion {
            bytes: to_json(&path, record)?,
            path,
            failed: failed.then(|| (self.runs.clone(), self.id.clone())),
        })
    }

    fn write_json(
        &self,
        relative: &str,
        value: &impl Serialize,
        durability: Durability,
    ) -> Result<(), RecordError> {
        let path = self.path.join(relative);
        write_file_atomic(&path, &to_json(&path, value)?, durability)
    }

    /// Reads `run.json`. Of a run that has not finished (alive, or killed), the steps are read from their own
    /// `result.json` files, so that what is known is there.
    pub fn read_run(&self) -> Result<RunRecord, RecordError> {
        let path = self.path.join("run.json");
        let mut record: RunRecord = read_json(&path)?;
        if record.state == RunState::Running {
            if !self.is_live() {
                record.state = RunState::Died;
            }
            for job in &mut record.jobs {
                job.steps = step::read_results(&self.path, &job.id)?;
                job.services = service::read_results(&self.path, &job.id)?;
            }
        }
        Ok(record)
    }

    /// Opens `events.ndjson` for appending.
    pub fn event_log(&self) -> Result<EventLog, RecordError> {
        EventLog::open(&self.path.join("events.ndjson"))
    }

    /// Makes the directory of a step before its turn; `index` counts from 1.
    pub fn stage_step(&self, job: &str, index: usize, id: &str) -> Result<StagedStep, RecordError> {
        StagedStep::create(&self.path, job, index, id)
    }

    /// Makes the directory of a service before it starts.
    pub fn stage_service(&self, job: &str, name: &str) -> Result<StagedStep, RecordError> {
        service::stage(&self.path, job, name)
    }

    /// Removes what a killed run has made and not published: steps whose turn never came, artifacts it was collecting,
    /// records it was writing. All of them are hidden, and nothing else is.
    pub fn discard_unpublished(&self) -> Result<(), RecordError> {
        let mut directories = vec![self.path.clone(), self.artifacts_path()];
        let jobs = self.path.join("jobs");
        for job in step::names(&jobs)? {
            let job = jobs.join(job);
            directories.extend([job.join("steps"), job.join("services"), job]);
        }
        directories.extend(self.steps()?.into_iter().chain(self.services()?).map(|one| one.path));
        for directory in directories {
            discard_hidden(&directory)?;
        }
        Ok(())
    }

    /// Moves what an attempt at a job left, counted from 1, out of the next one's way. Its results then say where that is.
    pub fn keep_attempt(
        &self,
        job: &str,
        number: u32,
        steps: &mut [StepResult],
        services: &mut [ServiceResult],
    ) -> Result<(), RecordError> {
        step::keep_attempt(&self.path, job, number, steps, services)
    }

    /// Keeps what a job hands to those that need it.
    pub fn write_outputs(&self, job: &str, outputs: &[(String, String)]) -> Result<(), RecordError> {
        let outputs: std::collections::BTreeMap<_, _> = outputs.iter().cloned().collect();
        let directory = self.path.join("jobs").join(job);
        make_directory(&directory)?;
        self.write_json(&format!("jobs/{job}/outputs.json"), &outputs, Durability::Cheap)
    }

    /// Returns the directories of all steps that were started, job by job, in order.
    pub fn steps(&self) -> Result<Vec<StepDirectory>, RecordError> {
        step::all(&self.path)
    }

    /// Returns the directories of all services that were started, job by job.
    pub fn services(&self) -> Result<Vec<StepDirectory>, RecordError> {
        service::all(&self.path)
    }

    /// Returns the directory of collected artifacts; it is made by the first collection.
    pub fn artifacts_path(&self) -> PathBuf {
        self.path.join("artifacts")
    }
}

/// The last record of a run.
#[derive(Debug)]
pub struct Conclusion {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where to point `latest-failed`, and at what.
    failed: Option<(PathBuf, String)>,
}

impl Conclusion {
    /// Writes the final `run.json`, flushed to the disk, and points `latest-failed` at the run if it failed.
    pub fn write(&self) -> Result<(), RecordError> {
        write_file_atomic(&self.path, &self.bytes, Durability::Flushed)?;
        match &self.failed {
            Some((runs, id)) => write::replace_link(runs, "latest-failed", id),
            None => Ok(()),
        }
    }
}

/// Removes the entries of a directory whose names begin with a dot.
fn discard_hidden(directory: &Path) -> Result<(), RecordError> {
    for name in step::names(directory)?.into_iter().filter(|name| name.starts_with('.')) {
        let path = directory.join(name);
        step::put_away(&path).map_err(|source| RecordError::io("remove", path, source))?;
    }
    Ok(())
}

/// The text of a record; `path` is for the error.
fn to_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, RecordError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| RecordError::io("write", path, io::Error::other(source)))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Gives the finished directory its name, refusing to replace another run.
fn publish(hidden: &Path, runs: &Path, id: &str) -> Result<PathBuf, RecordError> {
    let path = runs.join(id);
    let renamed = match rustix::fs::renameat_with(CWD, hidden, CWD, &path, RenameFlags::NOREPLACE) {
        // A file system without RENAME_NOREPLACE: rename(2) replaces an empty directory at most, and a
        // run's directory is never empty.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            rustix::fs::renameat(CWD, hidden, CWD, &path)
        }
        other => other,
    };
    match renamed {
        Ok(()) => Ok(path),
        Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {
            Err(RecordError::Exists { id: id.to_owned(), runs: runs.to_path_buf() })
        }
        Err(errno) => Err(RecordError::io("create", path, errno.into())),
    }
}

/// Makes a directory and what is missing above it, for its owner only.
pub(crate) fn make_directory(path: &Path) -> Result<(), RecordError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| RecordError::io("create the directory", path, source))
}

/// Reads a JSON file of a record.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let bytes = fs::read(path).map_err(|source| RecordError::io("read", path, source))?;
    serde_json::from_slice(&bytes).map_err(|source| RecordError::Parse { path: path.to_path_buf(), source })
}
