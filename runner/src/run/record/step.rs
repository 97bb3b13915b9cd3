//! `jobs/<job>/steps/NN-<id>/`: what one step was given and what came of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::write::{Durability, write_file_atomic, write_new};
use super::{NetworkRecord, RecordError, make_directory, read_json, service};
use crate::outcome::{ServiceResult, StepResult};
use crate::run::logs::{LogFiles, LogWriter};

/// What a step hands to those behind it: `handed.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedRecord {
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Directories for the front of PATH, in their order there.
    pub path: Vec<String>,
}

/// The directory of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDirectory {
    /// The job's id.
    pub job: String,
    /// The step's number, from 1; 0 of a service, which has a directory of the same kind.
    pub index: usize,
    /// The step's id, or the service's name.
    pub id: String,
    /// Relative to the run directory.
    pub relative: PathBuf,
    /// The same below the run directory's own path.
    pub path: PathBuf,
}

/// A step's directory made before its turn: hidden until then, its log open already. A turn may never come.
#[derive(Debug)]
pub struct StagedStep {
    directory: StepDirectory,
    hidden: Hidden,
    log: LogFiles,
}

/// A hidden directory, put away when it is dropped and still hidden: the step's turn does not come.
#[derive(Debug)]
struct Hidden(PathBuf);

impl Drop for Hidden {
    fn drop(&mut self) {
        // A remnant that cannot be removed goes with the run.
        let _rest = put_away(&self.0);
    }
}

impl StagedStep {
    pub(super) fn create(run: &Path, job: &str, index: usize, id: &str) -> Result<Self, RecordError> {
        let relative = steps_path(job).join(format!("{index:02}-{id}"));
        let path = run.join(&relative);
        Self::create_at(run, StepDirectory { job: job.to_owned(), index, id: id.to_owned(), relative, path })
    }

    /// Makes it where it will be shown, hidden.
    pub(super) fn create_at(run: &Path, directory: StepDirectory) -> Result<Self, RecordError> {
        let (parent, name) = (directory.relative.parent(), directory.relative.file_name());
        let name = name.unwrap_or_default().to_string_lossy();
        let hidden = run.join(parent.unwrap_or(Path::new(""))).join(format!(".{name}"));
        make_directory(&hidden)?;
        let hidden = Hidden(hidden);
        let log = LogFiles::create(&hidden.0)?;
        Ok(Self { directory, hidden, log })
    }

    /// Keeps the script exactly as the shell gets it.
    pub fn write_script(&self, text: &[u8]) -> Result<(), RecordError> {
        let path = self.hidden.0.join("script");
        write_new(&path, text, Durability::Cheap).map_err(|source| RecordError::io("write", path, source))
    }

    /// The step's turn has come: shows the directory under its name, and hands over its log. At most `log_bytes_max` bytes
    /// are kept, times count from `started`.
    pub fn publish(
        self,
        log_bytes_max: u64,
        started: Instant,
    ) -> Result<(StepDirectory, LogWriter), RecordError> {
        let Self { directory, hidden, log } = self;
        fs::rename(&hidden.0, &directory.path)
            .map_err(|source| RecordError::io("create", &directory.path, source))?;
        let log = LogWriter::start(log, &directory, log_bytes_max, started)?;
        Ok((directory, log))
    }

    /// Moves what an attempt before this one left, counted from 1, below this one's directory, with those before it.
    pub fn keep_attempt(&self, number: u32) -> Result<(), RecordError> {
        let from = &self.directory.path;
        let keep = |source: &Path, number: u32| match fs::rename(source, self.hidden.0.join(attempt(number)))
        {
            // One that never got as far as a log has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| RecordError::io("rename", source, error)),
        };
        for before in 1..number {
            keep(&from.join(attempt(before)), before)?;
        }
        keep(from, number)
    }
}

/// Ends a hidden directory: shown where it has taken over what earlier attempts left, else removed.
pub(super) fn put_away(hidden: &Path) -> io::Result<()> {
    let name = hidden.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
    let removed = match name {
        Some(name) if hidden.join(attempt(1)).is_dir() => fs::rename(hidden, hidden.with_file_name(name)),
        _ => match fs::remove_dir_all(hidden) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(hidden),
            other => other,
        },
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl StepDirectory {
    /// Keeps the environment that the command gets.
    pub fn write_environment(&self, variables: &BTreeMap<String, String>) -> Result<(), RecordError> {
        self.write_json("env.json", variables)
    }

    /// The environment that the command got, secrets hidden.
    pub fn read_environment(&self) -> Result<BTreeMap<String, String>, RecordError> {
        read_json(&self.path.join("env.json"))
    }

    /// Keeps the outputs it handed on.
    pub fn write_outputs(&self, outputs: &[(String, String)]) -> Result<(), RecordError> {
        let outputs: BTreeMap<&str, &str> =
            outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.write_json("outputs.json", &outputs)
    }

    /// Keeps the variables and the directories of PATH that it handed on.
    pub fn write_handed(&self, env: &[(String, String)], path: &[String]) -> Result<(), RecordError> {
        let env = env.iter().cloned().collect();
        self.write_json("handed.json", &HandedRecord { env, path: path.to_vec() })
    }

    /// Reads them; empty where there is nothing.
    pub fn read_handed(&self) -> Result<HandedRecord, RecordError> {
        self.read_if_there("handed.json").map(Option::unwrap_or_default)
    }

    /// Reads the outputs it handed on.
    pub fn read_outputs(&self) -> Result<BTreeMap<String, String>, RecordError> {
        self.read_if_there("outputs.json").map(Option::unwrap_or_default)
    }

    fn read_if_there<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RecordError> {
        match read_json(&self.path.join(name)) {
            Ok(record) => Ok(Some(record)),
            Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds its summary to the job's; one that does not end its last line gets that.
    pub fn append_summary(&self, text: &[u8]) -> Result<(), RecordError> {
        let job = self.path.ancestors().nth(2).unwrap_or(&self.path);
        let path = job.join("summary.md");
        let mut text = text.to_vec();
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&text))
            .map_err(|source| RecordError::io("write", &path, source))
    }

    /// Keeps how it ended.
    pub fn write_result(&self, result: &StepResult) -> Result<(), RecordError> {
        self.write_json("result.json", result)
    }

    /// Keeps where it went.
    pub fn write_network(&self, record: &NetworkRecord) -> Result<(), RecordError> {
        self.write_json("network.json", record)
    }

    /// Reads where it went; `None` when nothing was recorded.
    pub fn read_network(&self) -> Result<Option<NetworkRecord>, RecordError> {
        self.read_if_there("network.json")
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RecordError> {
        let path = self.path.join(name);
        write_file_atomic(&path, &super::to_json(&path, value)?, Durability::Cheap)
    }

    /// Reads how it ended; `None` when it has not, or when the run was killed before it did.
    pub fn read_result(&self) -> Result<Option<StepResult>, RecordError> {
        self.read_if_there("result.json")
    }

    /// Returns the path of the log.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the log of an attempt at the step is once it is kept, relative to the run directory.
    pub fn kept_log(&self, number: u32) -> String {
        self.relative.join(attempt(number)).join("log").display().to_string()
    }

    /// How many attempts before the present one are kept.
    pub fn kept_attempts(&self) -> u32 {
        let is_kept = |number: &u32| self.path.join(attempt(*number)).is_dir();
        u32::try_from((1..).take_while(is_kept).count()).unwrap_or(u32::MAX)
    }

    /// Returns the path of the log of an attempt, counted from 1: of the whole job's, else of the step's. `None`: there was no
    /// such attempt.
    pub fn attempt_log_path(&self, number: u32) -> Option<PathBuf> {
        let name = self.path.file_name()?;
        let job = self.path.ancestors().nth(2)?;
        let places =
            |number| [job.join(attempt(number)).join("steps").join(name), self.path.join(attempt(number))];
        if let Some(kept) = places(number).into_iter().find(|place| place.is_dir()) {
            return Some(kept.join("log"));
        }
        // The last one stands in the step's own directory.
        let is_last = number == 1 || places(number - 1).iter().any(|place| place.is_dir());
        is_last.then(|| self.log_path())
    }
}

/// Moves the records of a job's attempt into a directory of its own.
pub(super) fn keep_attempt(
    run: &Path,
    job: &str,
    number: u32,
    results: &mut [StepResult],
    services: &mut [ServiceResult],
) -> Result<(), RecordError> {
    let from = Path::new("jobs").join(job);
    let to = from.join(attempt(number));
    make_directory(&run.join(&to))?;
    for name in ["steps", "services", "summary.md"] {
        let source = run.join(&from).join(name);
        match fs::rename(&source, run.join(&to).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RecordError::io("rename", source, error));
            }
            _ => {}
        }
    }
    service::moved(run, &from, &to, services)?;
    for result in results {
        let moved = |log: &mut String| {
            if let Ok(below) = Path::new(log.as_str()).strip_prefix(&from) {
                *log = to.join(below).display().to_string();
            }
        };
        moved(&mut result.log.path);
        result.earlier.iter_mut().for_each(|attempt| moved(&mut attempt.log.path));
        if let Some(place) =
            run.join(&result.log.path).parent().filter(|place| place.join("result.json").exists())
        {
            let path = place.join("result.json");
            write_file_atomic(&path, &super::to_json(&path, result)?, Durability::Cheap)?;
        }
    }
    Ok(())
}

/// The directory of an attempt that was not the last.
fn attempt(number: u32) -> String {
    format!("attempt-{number}")
}

fn steps_path(job: &str) -> PathBuf {
    Path::new("jobs").join(job).join("steps")
}

/// Reads the results of a job's steps that are over, in order.
pub(super) fn read_results(run: &Path, job: &str) -> Result<Vec<StepResult>, RecordError> {
    let mut results = Vec::new();
    for step in of_job(run, job)? {
        results.extend(step.read_result()?);
    }
    Ok(results)
}

/// Lists the steps of all jobs, the jobs by name.
pub(super) fn all(run: &Path) -> Result<Vec<StepDirectory>, RecordError> {
    let mut steps = Vec::new();
    for job in names(&run.join("jobs"))? {
        steps.extend(of_job(run, &job)?);
    }
    Ok(steps)
}

fn of_job(run: &Path, job: &str) -> Result<Vec<StepDirectory>, RecordError> {
    let parent = steps_path(job);
    let mut steps: Vec<StepDirectory> = names(&run.join(&parent))?
        .into_iter()
        .filter_map(|name| {
            let (number, id) = name.split_once('-')?;
            let relative = parent.join(&name);
            Some(StepDirectory {
                job: job.to_owned(),
                index: number.parse().ok()?,
                id: id.to_owned(),
                path: run.join(&relative),
                relative,
            })
        })
        .collect();
    steps.sort_unstable_by_key(|step| step.index);
    Ok(steps)
}

pub(super) fn names(directory: &Path) -> Result<Vec<String>, RecordError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(RecordError::io("read", directory, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| RecordError::io("read", directory, source))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
