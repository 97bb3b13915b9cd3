//! A whole run: records, image, job, summary. What `runner exec` and `runner run` have in common.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use images::FetchSettings;
use jobs::{JobPlan, Plan};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::conduct::{Conducted, Conductor, Opened};
use super::error::RunError;
use super::feed::{Feed, Show};
use super::inside::Inside;
use super::job::Rest;
use super::record::{
    HostRecord, ImageRecord, IncludedFile, JobRecord, RECORD_VERSION, RecordError, RunDirectory, RunRecord,
    RunState, WarningRecord, timestamp,
};
use super::schedule::Space;
use super::secrets::Secrets;
use super::step::Cancel;
use super::traces;
use crate::cgroup::Hierarchy;
use crate::event::What;
use crate::host::Host;
use crate::outcome::{Keep, Outcome};
use crate::sandbox::zygote::Zygote;

/// What is to be run, and how.
pub struct Execution {
    /// Every default settled.
    pub plan: Plan,
    /// The job file as named and its bytes; none for a single command.
    pub file: Option<(String, Vec<u8>)>,
    /// The files that it names.
    pub included: Vec<IncludedFile>,
    /// How images are come by.
    pub fetch: FetchSettings,
    /// Relative paths of the plan start here.
    pub base: PathBuf,
    /// The home directory.
    pub home: PathBuf,
    /// The run's id; fresh if none.
    pub run_id: Option<String>,
    /// What checking the job file had to say.
    pub warnings: Vec<WarningRecord>,
    /// Most jobs at once; as many as there is room for if none.
    pub jobs_max: Option<usize>,
    /// What the steps read.
    pub stdin: OwnedFd,
    /// The values of the plan's secrets.
    pub secrets: Secrets,
    /// Artifacts may have them in them.
    pub secrets_in_artifacts: bool,
    /// Of which steps the root filesystem is kept.
    pub keep: Keep,
    /// What earlier runs made for `setup` is used.
    pub reuse: bool,
    /// Where an earlier step left off, if this is a look at that. Then no records are kept.
    pub inside: Option<Inside>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// Its outcome.
    pub outcome: Outcome,
    /// The code of the run: docs/exit-codes.md.
    pub exit_code: u8,
    /// The code of the step that decided it.
    pub step_exit_code: Option<u8>,
    /// Its id.
    pub id: String,
    /// Its records.
    pub directory: PathBuf,
    /// Why our own part failed.
    pub error: Option<RunError>,
}

/// Runs a plan. `show` sees every event.
///
/// # Errors
/// When nothing could be recorded. Everything later is in [`Finished`].
pub async fn execute(zygote: Arc<Zygote>, execution: Execution, show: Show) -> Result<Finished, RunError> {
    let clock = Instant::now();
    // Of a single job everything is begun at once; several wait for each other anyway.
    let only = (execution.plan.jobs.len() == 1).then(|| execution.plan.jobs.first()).flatten();
    let opened = only.map(|job| Opened::of(&zygote, &execution, job, None));
    let run = match &execution.inside {
        None => RunDirectory::create(&execution.home, execution.run_id.as_deref())?,
        Some(_) => RunDirectory::create_passing(&execution.home)?,
    };
    let hierarchy = Hierarchy::discover()?;
    let host = Host::quick(&hierarchy);
    let mut record = first_record(&execution, run.id(), &host);
    run.write_run(&record)?;
    run.write_resolved(&execution.plan)?;
    if let Some((_, text)) = &execution.file {
        run.write_job_file(text)?;
    }
    run.write_included(&execution.included)?;
    let feed = Feed::new(run.id().to_owned(), Some(run.event_log()?), show);
    let directory = run.path().display().to_string();
    let file = execution.file.as_ref().map(|(name, _)| name.clone());
    let (name, count) = (execution.plan.name.clone(), execution.plan.jobs.len());
    feed.send(None, None, What::RunStart { file, name, jobs: count, directory: directory.clone() });
    record.warnings = warnings(&execution, &feed);
    let (cancel, signal) = listen(execution.file.is_none());
    let space = Space { jobs: execution.jobs_max, cpus: host.cpus as f64, memory_bytes: host.memory_bytes };
    let conductor = Conductor::new(&zygote, &execution, &hierarchy, &run, &feed, record);
    let conducted = conductor.conduct(space, opened, cancel).await;
    let Conducted { outcome, timed_out, mut error, step_exit_code, rest, left } = conducted;
    if let (true, Some(timeout)) = (timed_out, execution.plan.timeout) {
        let took = jobs::units::format_duration(timeout);
        let text = format!("the run took longer than its timeout of {took}: its jobs were cancelled");
        let hint = Some("raise `--timeout`, or run more jobs at once".to_owned());
        feed.send(None, None, What::Warning { code: None, text, hint });
    }
    let mut record = conductor.record.into_inner();
    let usage = error.as_ref().is_some_and(RunError::is_usage);
    let exit_code = match outcome {
        Outcome::Cancelled => signal.borrow().unwrap_or(outcome.run_exit_code()),
        Outcome::Error if usage => 2,
        other => other.run_exit_code(),
    };
    let wall_s = clock.elapsed().as_secs_f64();
    finish(&mut record, outcome, exit_code, wall_s);
    let (recorded, left) = conclude(&zygote, &run, &record, rest, left, &execution.home).await;
    for text in left {
        feed.send(None, None, What::Warning { code: None, text, hint: None });
    }
    feed.send(None, None, What::RunEnd { outcome, exit_code, wall_s, directory });
    if let Err(why) = recorded.or_else(|why| feed.failure().map_or(Err(why), Err)) {
        error.get_or_insert(why.into());
    }
    let exit_code = if error.is_some() && exit_code == 0 { 3 } else { exit_code };
    let (id, directory) = (run.id().to_owned(), run.path().to_path_buf());
    if let Err(why) = run.pass() {
        error.get_or_insert(why.into());
    }
    Ok(Finished { outcome, exit_code, step_exit_code, id, directory, error })
}

/// Flushes the last record to the disk, which waits for the disk, while the job is taken apart, which waits for the kernel.
async fn conclude(
    zygote: &Zygote,
    run: &RunDirectory,
    record: &RunRecord,
    rest: Option<Rest>,
    mut left: Vec<String>,
    home: &Path,
) -> (Result<(), RecordError>, Vec<String>) {
    let writing = match run.conclusion(record) {
        Ok(conclusion) => tokio::task::spawn_blocking(move || conclusion.write()),
        Err(error) => return (Err(error), left),
    };
    if let Some(rest) = rest {
        left.append(&mut rest.clear(home, zygote).await);
    }
    if left.is_empty() {
        traces::forget(home, run.id());
    }
    zygote.dismiss();
    // Only a panic ends the thread without a word.
    (writing.await.unwrap_or(Ok(())), left)
}

/// What the job file's check said.
fn warnings(execution: &Execution, feed: &Feed) -> Vec<WarningRecord> {
    for warning in &execution.warnings {
        let WarningRecord { code, text, hint } = warning.clone();
        feed.send(None, None, What::Warning { code, text, hint });
    }
    execution.warnings.clone()
}

fn first_record(execution: &Execution, id: &str, host: &Host) -> RunRecord {
    let job = |job: &JobPlan| JobRecord {
        id: job.id.clone(),
        matrix: serde_json::to_value(&job.matrix).unwrap_or_default(),
        image: ImageRecord { reference: job.image.reference.clone(), digest: None, platform: None },
        untrusted: job.untrusted,
        outcome: None,
        conclusion: None,
        started: None,
        ended: None,
        steps: Vec::new(),
        services: Vec::new(),
        caches: Vec::new(),
        earlier: Vec::new(),
    };
    RunRecord {
        v: RECORD_VERSION,
        id: id.to_owned(),
        state: RunState::Running,
        file: execution.file.as_ref().map(|(name, _)| name.clone()),
        file_sha256: execution.file.as_ref().map(|(_, text)| hex(&Sha256::digest(text))),
        included: execution.included.clone(),
        name: execution.plan.name.clone(),
        started: timestamp(),
        ended: None,
        wall_s: None,
        outcome: None,
        conclusion: None,
        exit_code: None,
        host: HostRecord {
            kernel: host.kernel.clone(),
            arch: host.arch.clone(),
            cpus: host.cpus,
            memory: host.memory_bytes,
            cgroup: host.cgroup.kind.to_string(),
            userns: host.userns,
            runner_version: host.runner_version.to_owned(),
        },
        jobs: execution.plan.jobs.iter().map(job).collect(),
        artifacts: Vec::new(),
        warnings: Vec::new(),
    }
}

fn finish(record: &mut RunRecord, outcome: Outcome, exit_code: u8, wall_s: f64) {
    record.state = RunState::Finished;
    record.ended = Some(timestamp());
    record.wall_s = Some(wall_s);
    (record.outcome, record.conclusion) = (Some(outcome), Some(outcome));
    record.exit_code = Some(exit_code);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Listens for INT, TERM and HUP: once is gently, twice is now, thrice ends us at once; the kernel then ends the steps.
/// Also tells which exit code the first one stands for.
///
/// A single command is one part of somebody's pipeline: it ends when nobody reads what it says any more, as it would outside.
fn listen(single: bool) -> (watch::Receiver<Cancel>, watch::Receiver<Option<u8>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (wish, wishes) = watch::channel(Cancel::No);
    let (first, code) = watch::channel(None);
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return (wishes, code);
    };
    let mut pipe = if single { signal(SignalKind::pipe()).ok() } else { None };
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
                () = broken(&mut pipe) => 141,
            };
            let next = match *wish.borrow() {
                Cancel::No => Cancel::Gently,
                Cancel::Gently => Cancel::Now,
                Cancel::Now => std::process::exit(i32::from(number)),
            };
            if next == Cancel::Gently {
                first.send_replace(Some(number));
            }
            wish.send_replace(next);
        }
    });
    (wishes, code)
}

/// Waits for SIGPIPE, if it counts; the first one is enough.
async fn broken(pipe: &mut Option<tokio::signal::unix::Signal>) {
    match pipe {
        Some(signal) => {
            let _first = signal.recv().await;
            *pipe = None;
        }
        None => std::future::pending().await,
    }
}
