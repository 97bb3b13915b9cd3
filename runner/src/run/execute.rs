//! A whole run: records, image, job, summary. What `runner exec` and `runner run` have in common.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jobs::{JobPlan, Plan};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::error::RunError;
use super::feed::{Feed, Show};
use super::identity;
use super::image::Images;
use super::job::{Job, JobEnd};
use super::record::{
    HostRecord, ImageRecord, JobRecord, RECORD_VERSION, RunDirectory, RunRecord, RunState, WarningRecord,
    timestamp,
};
use super::step::Cancel;
use super::traces;
use crate::cgroup::Hierarchy;
use crate::event::What;
use crate::host::Host;
use crate::outcome::{Outcome, StepResult};
use crate::sandbox::zygote::Zygote;

/// What is to be run, and how.
pub struct Execution {
    /// Every default settled.
    pub plan: Plan,
    /// The job file as named and its bytes; none for a single command.
    pub file: Option<(String, Vec<u8>)>,
    /// Relative paths of the plan start here.
    pub base: PathBuf,
    /// The home directory.
    pub home: PathBuf,
    /// The run's id; fresh if none.
    pub run_id: Option<String>,
    /// What checking the job file had to say.
    pub warnings: Vec<WarningRecord>,
    /// What the steps read.
    pub stdin: OwnedFd,
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
    let run = RunDirectory::create(&execution.home, execution.run_id.as_deref())?;
    let hierarchy = Hierarchy::discover()?;
    let mut record = first_record(&execution, run.id(), &Host::quick(&hierarchy));
    run.write_run(&record)?;
    run.write_resolved(&execution.plan)?;
    if let Some((_, text)) = &execution.file {
        run.write_job_file(text)?;
    }
    let mut feed = Feed::new(run.id().to_owned(), Some(run.event_log()?), show);
    let directory = run.path().display().to_string();
    let file = execution.file.as_ref().map(|(name, _)| name.clone());
    let (name, jobs) = (execution.plan.name.clone(), execution.plan.jobs.len());
    feed.send(None, None, What::RunStart { file, name, jobs, directory: directory.clone() });
    let (cancel, signal) = listen();
    let mut ended = None;
    let mut error = None;
    for job in &execution.plan.jobs {
        let what = What::JobStart { image: job.image.reference.clone(), steps: job.steps.len() };
        feed.send(Some(&job.id), None, what);
        warnings(&execution, job, &mut feed, &mut record);
        let cancel = cancel.clone();
        let one =
            One { zygote: &zygote, execution: &execution, hierarchy: &hierarchy, job, run: &run, cancel };
        match one.run(&mut feed, &mut record).await {
            Ok(end) => ended = Some(end),
            Err(why) => error = Some(why),
        }
        let outcome = ended.as_ref().map_or(Outcome::Error, |end| end.outcome);
        feed.send(Some(&job.id), None, What::JobEnd { outcome });
    }
    let (outcome, steps) = ended.as_mut().map_or((Outcome::Error, Vec::new()), |end| {
        error = end.error.take();
        (end.outcome, std::mem::take(&mut end.steps))
    });
    let usage = error.as_ref().is_some_and(RunError::is_usage);
    let exit_code = match outcome {
        Outcome::Cancelled => signal.borrow().unwrap_or(outcome.run_exit_code()),
        Outcome::Error if usage => 2,
        other => other.run_exit_code(),
    };
    let wall_s = clock.elapsed().as_secs_f64();
    finish(&mut record, outcome, exit_code, wall_s);
    let step_exit_code = deciding(&steps).and_then(|step| step.exit_code);
    if let Some(job) = record.jobs.first_mut() {
        (job.steps, job.outcome, job.ended) = (steps, Some(outcome), Some(timestamp()));
    }
    if let Some(end) = ended {
        record.artifacts = end.artifacts;
    }
    let recorded = run.finish(&record);
    feed.send(None, None, What::RunEnd { outcome, exit_code, wall_s, directory });
    if let Err(why) = recorded.or_else(|why| feed.failure().map_or(Err(why), Err)) {
        error.get_or_insert(why.into());
    }
    let exit_code = if error.is_some() && exit_code == 0 { 3 } else { exit_code };
    let directory = run.path().to_path_buf();
    Ok(Finished { outcome, exit_code, step_exit_code, id: run.id().to_owned(), directory, error })
}

/// One job of a run.
struct One<'o> {
    zygote: &'o Arc<Zygote>,
    execution: &'o Execution,
    hierarchy: &'o Hierarchy,
    job: &'o JobPlan,
    run: &'o RunDirectory,
    cancel: watch::Receiver<Cancel>,
}

impl One<'_> {
    async fn run(self, feed: &mut Feed, record: &mut RunRecord) -> Result<JobEnd, RunError> {
        let home = &self.execution.home;
        let lease = identity::establish(self.zygote, home)?;
        for id in traces::sweep(home, self.zygote, Some(lease.identity))?.runs {
            let text = format!("cleaned up after run {id}, which was killed");
            feed.send(Some(&self.job.id), None, What::Warning { code: None, text, hint: None });
        }
        let images = Images {
            home,
            base: &self.execution.base,
            zygote: Arc::clone(self.zygote),
            identity: lease.identity,
        };
        let user = self.job.steps.first().and_then(|step| step.user.as_ref());
        let mut cancel = self.cancel.clone();
        let rootfs = tokio::select! {
            rootfs = images.obtain(&self.job.image, user, feed) => rootfs?,
            _ = cancel.wait_for(|wish| *wish != Cancel::No) => return Ok(cancelled()),
        };
        if let Some(job) = record.jobs.first_mut() {
            job.image.digest = rootfs.digest.as_ref().map(ToString::to_string);
            self.run.write_run(record)?;
        }
        let job = Job {
            plan: self.job,
            rootfs: &rootfs,
            base: &self.execution.base,
            home,
            run: self.run,
            zygote: self.zygote,
            lease: &lease,
            hierarchy: self.hierarchy,
            stdin: &self.execution.stdin,
            feed,
            cancel: self.cancel,
        };
        job.run().await
    }
}

fn cancelled() -> JobEnd {
    JobEnd { outcome: Outcome::Cancelled, steps: Vec::new(), artifacts: Vec::new(), error: None }
}

/// The step whose end decided the run: the last one that did not count as a success, else the last that ran.
fn deciding(steps: &[StepResult]) -> Option<&StepResult> {
    steps
        .iter()
        .find(|step| step.conclusion.is_failure())
        .or_else(|| steps.iter().rfind(|step| step.exit_code.is_some()))
}

/// What the job file's check said.
fn warnings(execution: &Execution, job: &JobPlan, feed: &mut Feed, record: &mut RunRecord) {
    for warning in &execution.warnings {
        let WarningRecord { code, text, hint } = warning.clone();
        feed.send(Some(&job.id), None, What::Warning { code, text, hint });
    }
    record.warnings.clone_from(&execution.warnings);
}

fn first_record(execution: &Execution, id: &str, host: &Host) -> RunRecord {
    let job = |job: &JobPlan| JobRecord {
        id: job.id.clone(),
        image: ImageRecord { reference: job.image.reference.clone(), digest: None, platform: None },
        outcome: None,
        started: Some(timestamp()),
        ended: None,
        steps: Vec::new(),
    };
    RunRecord {
        v: RECORD_VERSION,
        id: id.to_owned(),
        state: RunState::Running,
        file: execution.file.as_ref().map(|(name, _)| name.clone()),
        file_sha256: execution.file.as_ref().map(|(_, text)| hex(&Sha256::digest(text))),
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
fn listen() -> (watch::Receiver<Cancel>, watch::Receiver<Option<u8>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (wish, wishes) = watch::channel(Cancel::No);
    let (first, code) = watch::channel(None);
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return (wishes, code);
    };
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
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
