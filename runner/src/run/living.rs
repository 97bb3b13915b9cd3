//! Runs that are under way, seen from outside: what they do just now, and how they are stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;

pub use super::processes::Portrait;
use super::processes::portraits;
use super::record::{RecordError, RunDirectory, RunRecord, StepDirectory};
use super::room::unit_of_service;
use super::traces;
use crate::cgroup::residents;

/// A run that is under way.
#[derive(Debug, Serialize)]
pub struct LivingRun {
    /// Its id.
    pub id: String,
    /// The plan's name.
    pub name: String,
    /// The job file as named; none for `runner run`.
    pub file: Option<String>,
    /// RFC 3339, UTC, microseconds.
    pub started: String,
    /// The jobs that are under way.
    pub jobs: Vec<LivingJob>,
}

/// A job that is under way.
#[derive(Debug, Serialize)]
pub struct LivingJob {
    /// Its id.
    pub id: String,
    /// The services that run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<LivingService>,
    /// The steps whose commands run.
    pub steps: Vec<LivingStep>,
}

/// A service that runs.
#[derive(Debug, Serialize)]
pub struct LivingService {
    /// Its name.
    pub name: String,
    /// How long it has run, in seconds.
    pub elapsed_s: Option<f64>,
    /// Its processes, parents before their children.
    pub processes: Vec<Portrait>,
}

/// A step whose command runs.
#[derive(Debug, Serialize)]
pub struct LivingStep {
    /// Its id.
    pub id: String,
    /// Its number, from 1.
    pub index: usize,
    /// How long it has run, in seconds.
    pub elapsed_s: Option<f64>,
    /// Its processes, parents before their children.
    pub processes: Vec<Portrait>,
}

/// Looks at every run that is under way, the oldest first.
///
/// # Errors
/// When the records cannot be read.
pub fn all(home: &Path) -> Result<Vec<LivingRun>, RecordError> {
    let runs = RunDirectory::all(home)?;
    // Most runs are over: the list of the living is short.
    let living = runs.iter().filter(|run| traces::is_remembered(home, run.id()) && run.is_live());
    Ok(living.filter_map(|run| Some(look(run, run.read_run().ok()?))).collect())
}

fn look(run: &RunDirectory, record: RunRecord) -> LivingRun {
    let cgroups = traces::cgroups(run);
    let directories = run.steps().unwrap_or_default();
    let under_way = record.jobs.iter().filter(|job| job.started.is_some() && job.outcome.is_none());
    let jobs = under_way.map(|job| {
        let of_job = cgroups.get(&job.id).map(Vec::as_slice).unwrap_or_default();
        let own = directories.iter().filter(|step| step.job == job.id);
        let running = own.filter(|step| matches!(step.read_result(), Ok(None)));
        let steps = running.map(|step| {
            let names = [format!("step-{}", step.index)].into_iter();
            let attempts =
                (2..=step.kept_attempts() + 1).map(|attempt| format!("step-{}-{attempt}", step.index));
            let processes: Vec<_> = names.chain(attempts).flat_map(|name| residents(of_job, &name)).collect();
            LivingStep {
                id: step.id.clone(),
                index: step.index,
                elapsed_s: since(&step.path.join("env.json")).map(|time| time.as_secs_f64()),
                processes: portraits(&processes),
            }
        });
        LivingJob { id: job.id.clone(), services: services(run, &job.id, of_job), steps: steps.collect() }
    });
    LivingRun {
        id: record.id.clone(),
        name: record.name.clone(),
        file: record.file.clone(),
        started: record.started.clone(),
        jobs: jobs.collect(),
    }
}

/// The services of a job that run, by name.
fn services(run: &RunDirectory, job: &str, cgroups: &[PathBuf]) -> Vec<LivingService> {
    let all = run.services().unwrap_or_default();
    let running = all.iter().filter(|one| one.job == job && matches!(one.read_service_result(), Ok(None)));
    let look = |one: &StepDirectory| LivingService {
        name: one.id.clone(),
        elapsed_s: since(&one.path.join("env.json")).map(|time| time.as_secs_f64()),
        processes: portraits(&residents(cgroups, &unit_of_service(&one.id))),
    };
    running.map(look).collect()
}

/// How long ago a file was written: what a step is given is, when its command begins.
fn since(path: &Path) -> Option<Duration> {
    let written = fs::metadata(path).and_then(|found| found.modified()).ok()?;
    SystemTime::now().duration_since(written).ok()
}

/// Asks the process whose run it is for an end: gently, or `now`. Returns false when it cannot be reached.
///
/// # Errors
/// When it may not be sent a signal.
pub fn stop(run: &RunDirectory, now: bool) -> Result<bool, RecordError> {
    let Some(holder) = run.holder() else { return Ok(false) };
    // The second wish means now. Two signals of one kind could arrive as one.
    let signals = if now { &[Signal::TERM, Signal::INT][..] } else { &[Signal::TERM][..] };
    for signal in signals {
        match pidfd_send_signal(&holder, *signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(errno) => {
                return Err(RecordError::io("signal the holder of", run.path().join("lock"), errno.into()));
            }
        }
    }
    Ok(true)
}
