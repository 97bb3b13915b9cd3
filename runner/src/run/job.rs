//! One job from its plan to its end: image, room, steps in order, artifacts, clean-up.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use images::Rootfs;
use jobs::{JobPlan, StepPlan, When, Workspace as PlanWorkspace};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::artifacts::{self, ArtifactError, ArtifactLimits, CollectRequest, Patterns};
use super::command::{self, Surroundings};
use super::errands::Servants;
use super::error::RunError;
use super::feed::Feed;
use super::identity::Lease;
use super::record::{ArtifactRecord, NetworkRecord, RunDirectory, StepDirectory, timestamp};
use super::room::{Plans, Prepared, Room};
use super::step::{self, Cancel, Ended, Running};
use super::traces::{self, Traces, UsedWorkspace};
use super::verdict::{Facts, Stopped, judge};
use super::workspace::{self, Workspace};
use crate::cgroup::{Hierarchy, KmsgCursor};
use crate::event::What;
use crate::outcome::{Caps, LogSummary, Oom, Outcome, StepResult, Usage};
use crate::sandbox::ids::Identity;
use crate::sandbox::spawn::SandboxError;
use crate::sandbox::zygote::Zygote;

/// Blocked destinations named in a step's log; its record has all.
const BLOCKED_SHOWN_MAX: usize = 20;

/// What a job needs from the one who runs it.
pub struct Job<'j> {
    /// The plan.
    pub plan: &'j JobPlan,
    /// Its root filesystem.
    pub rootfs: &'j Rootfs,
    /// Directory of the job file: workspace and mounts start here.
    pub base: &'j Path,
    /// The home directory.
    pub home: &'j Path,
    /// The run's records.
    pub run: &'j RunDirectory,
    /// Who starts processes.
    pub zygote: &'j Zygote,
    /// Whose ids they have.
    pub lease: &'j Lease,
    /// Where cgroups go.
    pub hierarchy: &'j Hierarchy,
    /// What the steps read.
    pub stdin: &'j OwnedFd,
    /// Where events go.
    pub feed: &'j mut Feed,
    /// The user's wish.
    pub cancel: watch::Receiver<Cancel>,
}

/// How a job ended.
#[derive(Debug)]
pub struct JobEnd {
    /// The first outcome that was not a success.
    pub outcome: Outcome,
    /// All steps, those that never ran as `skipped`.
    pub steps: Vec<StepResult>,
    /// What was collected.
    pub artifacts: Vec<ArtifactRecord>,
    /// Why our own part failed, after which nothing more was started.
    pub error: Option<RunError>,
}

impl Job<'_> {
    /// Runs the job. Always cleans up; what cannot be cleaned is a warning.
    ///
    /// # Errors
    /// When the job could not be begun: its workspace, ids, room. Later errors are in [`JobEnd::error`].
    pub async fn run(mut self) -> Result<JobEnd, RunError> {
        let scratch = self.home.join("scratch").join(self.run.id());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&scratch)
            .map_err(RunError::io("create", &scratch))?;
        spread(&self.home.join("scratch"));
        let mut traces = Traces {
            cgroups: self.hierarchy.paths(self.run.id())?,
            scratch: Some(self.run.id().to_owned()),
            workspace: None,
        };
        traces::leave(self.home, self.run, &traces)?;
        let ended = self.in_scratch(&scratch, &mut traces).await;
        let user = traces.workspace.as_ref().map_or((0, 0), |used| used.user);
        let servants = Servants { zygote: self.zygote, identity: self.lease.identity, user };
        match traces::remove_scratch(self.home, &servants, self.run.id()) {
            Ok(()) => traces::forget(self.home, self.run),
            Err(text) => self.warn(None, format!("cannot clean up: {text}"), None),
        }
        ended
    }

    async fn in_scratch(&mut self, scratch: &Path, traces: &mut Traces) -> Result<JobEnd, RunError> {
        let workspace = self.open_workspace(scratch)?;
        let plans = Plans {
            job: self.plan,
            rootfs: self.rootfs,
            workspace: &workspace,
            base: self.base,
            scratch,
            identity: self.lease.identity,
            run_id: self.run.id(),
        };
        let stat = rustix::fs::fstat(&workspace.handle)
            .map_err(|errno| RunError::io("stat", &workspace.path)(errno.into()))?;
        let mut used = UsedWorkspace {
            path: workspace.path.clone(),
            id: (stat.st_dev, stat.st_ino),
            owner: workspace.owner,
            identity: self.lease.identity,
            user: (0, 0),
        };
        // Before anything can change there, and again when the user is known.
        traces.workspace = Some(used.clone());
        traces::leave(self.home, self.run, traces)?;
        let room = Room::open(self.zygote, self.hierarchy, &plans)?;
        used.user = room.users.first().map_or((0, 0), |user| (user.uid, user.gid));
        if used.user != (0, 0) {
            traces.workspace = Some(used.clone());
            traces::leave(self.home, self.run, traces)?;
        }
        for (text, hint) in room.warnings.clone() {
            self.warn(None, text, hint);
        }
        let mut end =
            JobEnd { outcome: Outcome::Success, steps: Vec::new(), artifacts: Vec::new(), error: None };
        let mut ending = JoinSet::new();
        self.steps(&room, &workspace, &used, &mut end, &mut ending).await;
        // Meanwhile the kernel takes the last sandbox apart.
        self.finish(&workspace, &used, &room, &mut end);
        while ending.join_next().await.is_some() {}
        if let Err(error) = room.close().await {
            self.warn(None, format!("cannot clean up: {error}"), None);
        }
        Ok(end)
    }

    fn open_workspace(&self, scratch: &Path) -> Result<Workspace, RunError> {
        let root = workspace::root_of(self.base);
        let at = scratch.join("workspace");
        Ok(match self.plan.workspace {
            PlanWorkspace::InPlace => Workspace::open(&root)?,
            PlanWorkspace::Copy => Workspace::copy(&root, &at)?,
            PlanWorkspace::Empty => Workspace::empty(&at)?,
        })
    }

    /// The steps in order. The next one's sandbox is built while the current one runs.
    async fn steps(
        &mut self,
        room: &Room,
        workspace: &Workspace,
        used: &UsedWorkspace,
        end: &mut JobEnd,
        ending: &mut JoinSet<()>,
    ) {
        let deadline = Instant::now() + self.plan.timeout;
        let git = workspace::git_head(&workspace.path);
        let mut kmsg = KmsgCursor::open();
        let mut ahead: Option<Result<Prepared, RunError>> = None;
        for (index, step) in self.plan.steps.iter().enumerate() {
            if end.outcome != Outcome::Success || end.error.is_some() || *self.cancel.borrow() != Cancel::No {
                if end.outcome == Outcome::Success && end.error.is_none() {
                    end.outcome = Outcome::Cancelled;
                }
                end.steps.push(skipped(step));
                continue;
            }
            let prepared = ahead.take().unwrap_or_else(|| room.prepare(index));
            let prepared = match prepared {
                Ok(prepared) => prepared,
                Err(error) => {
                    fail(end, step, error);
                    continue;
                }
            };
            let one = OneStep { step, index, room, deadline, git: git.as_ref(), workspace, used };
            let next = (index + 1 < self.plan.steps.len()).then_some(&mut ahead);
            match self.step(&one, prepared, kmsg.as_mut(), next, ending).await {
                Ok((result, artifacts)) => {
                    if result.conclusion != Outcome::Success {
                        end.outcome = result.conclusion;
                    }
                    end.steps.push(result);
                    end.artifacts.extend(artifacts);
                }
                Err(error) => fail(end, step, error),
            }
        }
        if let Some(Ok(prepared)) = ahead {
            throw_away(prepared, ending);
        }
    }

    async fn step(
        &mut self,
        one: &OneStep<'_>,
        mut prepared: Prepared,
        kmsg: Option<&mut KmsgCursor>,
        next: Option<&mut Option<Result<Prepared, RunError>>>,
        ending: &mut JoinSet<()>,
    ) -> Result<(StepResult, Vec<ArtifactRecord>), RunError> {
        let step = one.step;
        let in_step = |error| RunError::Step { index: step.index, step: step.id.clone(), error };
        let directory = self.run.step_directory(&self.plan.id, step.index, &step.id)?;
        let user = one.room.users.get(one.index).ok_or_else(|| in_step(SandboxError::Lost))?;
        let surroundings = Surroundings {
            run: self.run.id(),
            job: &self.plan.id,
            image: &self.rootfs.config.env,
            cpus: cpus(one.room.limits().cpus),
            git: one.git,
        };
        let environment = command::environment(step, user, &surroundings);
        if let jobs::Command::Script { text, .. } = &step.command {
            directory.write_script(text.as_bytes())?;
        }
        directory.write_environment(&environment)?;
        let single = self.lease.identity == Identity::Single;
        let go = command::go(step, user, &environment, self.plan.limits.files, single);
        prepared.sandbox.ready().await.map_err(in_step)?;
        if let Some(next) = next {
            *next = Some(one.room.prepare(one.index + 1));
        }
        let started = timestamp();
        let what =
            What::StepStart { name: step.name.clone(), index: step.index, steps: self.plan.steps.len() };
        self.feed.send(Some(&self.plan.id), Some(&step.id), what);
        let running = Running {
            job: &self.plan.id,
            step: &step.id,
            log: directory.log_writer(self.plan.limits.log_bytes, Instant::now())?,
            feed: self.feed,
            deadline: Some(deadline(step.timeout, one.deadline, self.plan.timeout)),
            grace: self.plan.grace,
            cancel: self.cancel.clone(),
            cgroup: Some(&prepared.cgroup),
            kmsg,
            egress: one.room.egress.as_ref(),
        };
        let ran = step::run(&mut prepared.sandbox, &go, self.stdin, running).await;
        let argv = command::argv(step);
        let (ended, exec) = match ran {
            Ok(ended) => (ended, None),
            Err(SandboxError::Exec { errno, existing }) => {
                (never_ran(&directory), Some((errno, existing > 0)))
            }
            Err(error) => return Err(in_step(error)),
        };
        let lost = ended.lost_egress;
        let mut result = self.result(one, &prepared, ended, exec, &argv, started)?;
        throw_away(prepared, ending);
        self.network(one, &directory, lost, &mut result).await?;
        let artifacts = self.step_artifacts(one, &mut result)?;
        directory.write_result(&result)?;
        let what = What::StepEnd { result: Box::new(result.clone()) };
        self.feed.send(Some(&self.plan.id), Some(&step.id), what);
        self.feed.failure().map_or(Ok((result, artifacts)), |error| Err(error.into()))
    }

    /// Asks where the step went, keeps it, and names what it was not let to.
    async fn network(
        &mut self,
        one: &OneStep<'_>,
        directory: &StepDirectory,
        lost: bool,
        result: &mut StepResult,
    ) -> Result<(), RunError> {
        let Some(egress) = &one.room.egress else { return Ok(()) };
        if lost {
            return Err(egress.why().into());
        }
        let record = NetworkRecord::of(egress.report().await?, egress.record);
        (result.usage.net_r, result.usage.net_w) = (Some(record.received), Some(record.sent));
        for line in record.blocked.iter().take(BLOCKED_SHOWN_MAX) {
            let reason = line.reason.as_deref().unwrap_or("not allowed");
            let text = format!("network: blocked {} (step {}): {reason}", line.target(), one.step.id);
            let hint = reason
                .contains("network.allow")
                .then(|| "add it to `network.allow` if the step needs it".into());
            self.feed.send(Some(&self.plan.id), Some(&one.step.id), What::Warning { code: None, text, hint });
        }
        if !record.is_empty() {
            directory.write_network(&record)?;
        }
        Ok(())
    }

    /// Gathers the facts and has them judged.
    fn result(
        &self,
        one: &OneStep<'_>,
        prepared: &Prepared,
        ended: Ended,
        exec: Option<(rustix::io::Errno, bool)>,
        argv: &[String],
        started: String,
    ) -> Result<StepResult, RunError> {
        let step = one.step;
        let (events, used) = (prepared.cgroup.events(), prepared.cgroup.usage());
        let limits = one.room.limits();
        let oom = (events.oom_kills > 0).then(|| Oom {
            limit_bytes: limits.memory_bytes.unwrap_or_default(),
            kills: events.oom_kills,
            victim: ended.victim.clone(),
        });
        let verdict = judge(&Facts {
            status: ended.status,
            stopped: ended.stopped,
            ignored_term: ended.ignored_term,
            exec,
            command: argv.first().map_or("", String::as_str),
            expect_exit: &step.expect_exit,
            oom: oom.as_ref(),
            mem_peak: used.mem_peak,
            pids: (events.pids_hits, limits.pids),
            grace: self.plan.grace,
            leftovers: &ended.leftovers,
        });
        let usage = Usage {
            cpu_s: used.cpu_s.unwrap_or(ended.usage.cpu_us as f64 / 1e6),
            wall_s: ended.wall.as_secs_f64(),
            mem_peak: used.mem_peak,
            io_r: used.io_r,
            io_w: used.io_w,
            net_r: None,
            net_w: None,
            pids_peak: used.pids_peak,
            throttled_s: used.throttled_s,
        };
        Ok(StepResult {
            id: step.id.clone(),
            name: step.name.clone(),
            index: step.index,
            outcome: verdict.outcome,
            conclusion: conclusion(step, verdict.outcome),
            exit_code: verdict.exit_code,
            signal: verdict.signal,
            killed_by: verdict.killed_by.map(str::to_owned),
            attempts: 1,
            started,
            ended: timestamp(),
            usage,
            limits: Caps { cpus: limits.cpus, memory_bytes: limits.memory_bytes, pids: limits.pids },
            oom,
            leftovers: ended.leftovers,
            log: ended.log?,
            cause: verdict.cause,
            remedy: verdict.remedy,
        })
    }

    /// Collects what the step names. One that is missing makes a failure of a success (E261).
    fn step_artifacts(
        &mut self,
        one: &OneStep<'_>,
        result: &mut StepResult,
    ) -> Result<Vec<ArtifactRecord>, RunError> {
        let success = result.outcome == Outcome::Success;
        let (records, problem) =
            self.collect(&one.step.artifacts, Some(one.step), success, one.workspace, one.used);
        match problem {
            Some(error) if error.is_failure_of_step() => {
                if success {
                    result.outcome = Outcome::Failure;
                    result.conclusion = conclusion(one.step, Outcome::Failure);
                    let code = error.code().map_or_else(String::new, |code| format!("error[{code}]: "));
                    (result.cause, result.remedy) = (Some(format!("{code}{error}")), error.hint());
                }
                Ok(records)
            }
            Some(error) => Err(error.into()),
            None => Ok(records),
        }
    }

    /// The job's own artifacts, and the workspace back to its owner.
    fn finish(&mut self, workspace: &Workspace, used: &UsedWorkspace, room: &Room, end: &mut JobEnd) {
        let success = end.outcome == Outcome::Success && end.error.is_none();
        self.hand_over(workspace, used);
        let plan = self.plan;
        let (records, problem) = self.collect(&plan.artifacts, None, success, workspace, used);
        end.artifacts.extend(records);
        if let Some(error) = problem {
            self.warn(error.code(), error.to_string(), error.hint());
            let ours = !error.is_failure_of_step();
            if end.outcome == Outcome::Success {
                end.outcome = if ours { Outcome::Error } else { Outcome::Failure };
            }
            if ours {
                end.error.get_or_insert(error.into());
            }
        }
        if room.workspace_was_given {
            self.hand_over(workspace, used);
        }
    }

    fn hand_over(&mut self, workspace: &Workspace, used: &UsedWorkspace) {
        let servants = Servants { zygote: self.zygote, identity: used.identity, user: used.user };
        if let Err(error) = servants.hand_over(workspace.handle.as_fd(), used.as_seen()) {
            self.warn(None, format!("cannot hand the workspace to its owner: {error}"), None);
        }
    }

    /// Collects artifacts after a step, or after all of them, up to the first problem.
    fn collect(
        &mut self,
        wanted: &[jobs::ArtifactPlan],
        step: Option<&StepPlan>,
        success: bool,
        workspace: &Workspace,
        used: &UsedWorkspace,
    ) -> (Vec<ArtifactRecord>, Option<ArtifactError>) {
        let due = |artifact: &&jobs::ArtifactPlan| match artifact.when {
            When::Always => true,
            When::Success => success,
            When::Failure => !success,
        };
        let mut records = Vec::new();
        for (index, artifact) in wanted.iter().filter(due).enumerate() {
            if index == 0 && step.is_some() && self.lease.identity == Identity::Subids {
                self.hand_over(workspace, used);
            }
            let step_id = step.map(|step| step.id.as_str());
            let collected = artifacts::collect(&CollectRequest {
                workspace: workspace.handle.as_fd(),
                name: &artifact.name,
                patterns: &Patterns::new(&artifact.paths),
                optional: artifact.optional,
                destination: &self.run.artifacts_path(),
                job: &self.plan.id,
                step: step_id,
                owner: None,
                limits: ArtifactLimits::default(),
            });
            match collected {
                Ok(collected) if collected.files > 0 => {
                    let (name, files, bytes) = (artifact.name.clone(), collected.files, collected.bytes);
                    let (job, step) = (self.plan.id.clone(), step_id.map(str::to_owned));
                    records.push(ArtifactRecord { name: name.clone(), job, step, files, bytes });
                    self.feed.send(Some(&self.plan.id), step_id, What::Artifact { name, files, bytes });
                }
                Ok(_) => {}
                Err(error) => return (records, Some(error)),
            }
        }
        (records, None)
    }

    fn warn(&mut self, code: Option<&str>, text: String, hint: Option<String>) {
        let what = What::Warning { code: code.map(str::to_owned), text, hint };
        self.feed.send(Some(&self.plan.id), None, what);
    }
}

/// A step and what it is run with.
struct OneStep<'s> {
    step: &'s StepPlan,
    index: usize,
    room: &'s Room,
    deadline: Instant,
    git: Option<&'s (String, Option<String>)>,
    workspace: &'s Workspace,
    used: &'s UsedWorkspace,
}

/// `continue-on-error` forgives what the step did, not that the user stopped it.
fn conclusion(step: &StepPlan, outcome: Outcome) -> Outcome {
    let forgiven = step.continue_on_error && outcome.is_failure();
    if forgiven && outcome != Outcome::Cancelled { Outcome::Success } else { outcome }
}

/// The earlier of the step's and the job's deadline, and whose it is.
fn deadline(step: Option<Duration>, job: Instant, job_timeout: Duration) -> (Instant, Stopped) {
    match step.map(|timeout| (Instant::now() + timeout, Stopped::StepTimeout(timeout))) {
        Some((at, why)) if at <= job => (at, why),
        _ => (job, Stopped::JobTimeout(job_timeout)),
    }
}

fn cpus(limit: Option<f64>) -> u64 {
    let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    limit.map_or(usable, |limit| (limit.ceil() as u64).clamp(1, usable))
}

fn skipped(step: &StepPlan) -> StepResult {
    StepResult {
        id: step.id.clone(),
        name: step.name.clone(),
        index: step.index,
        outcome: Outcome::Skipped,
        conclusion: Outcome::Skipped,
        exit_code: None,
        signal: None,
        killed_by: None,
        attempts: 0,
        started: timestamp(),
        ended: timestamp(),
        usage: Usage::default(),
        limits: Caps::default(),
        oom: None,
        leftovers: Vec::new(),
        log: LogSummary::default(),
        cause: None,
        remedy: None,
    }
}

/// Our part failed in this step: nothing more starts.
fn fail(end: &mut JobEnd, step: &StepPlan, error: RunError) {
    let mut result = skipped(step);
    (result.outcome, result.conclusion, result.attempts) = (Outcome::Error, Outcome::Error, 1);
    result.cause = Some(error.to_string());
    result.remedy = error.hint();
    end.steps.push(result);
    end.outcome = Outcome::Error;
    end.error = Some(error);
}

/// What is known of a command that was never executed.
fn never_ran(directory: &StepDirectory) -> Ended {
    let path = directory.relative.join("log").display().to_string();
    Ended { log: Ok(LogSummary { path, ..LogSummary::default() }), ..Ended::default() }
}

/// Ends a sandbox off the path of the steps: init, cgroup, upper directory.
fn throw_away(mut prepared: Prepared, ending: &mut JoinSet<()>) {
    prepared.sandbox.kill();
    ending.spawn(async move {
        prepared.sandbox.gone().await;
        let _swept_with_the_run = prepared.cgroup.remove();
        let upper = prepared.upper;
        // An ordinary user's own rights may not reach everything: the rest goes with the scratch directory.
        let _rest = tokio::task::spawn_blocking(move || remove_upper(&upper)).await;
    });
}

fn remove_upper(upper: &Path) {
    if let (Some(parent), Some(name)) = (upper.parent(), upper.file_name())
        && let Ok(handle) = fs::File::open(parent)
    {
        let _rest = images::remove_tree(&handle, name);
    }
}

/// ext4 then spreads new directories over the disk: creating files where many were just deleted is several times slower.
fn spread(directory: &Path) {
    if let Ok(handle) = fs::File::open(directory)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&handle)
    {
        let _other_filesystem = rustix::fs::ioctl_setflags(&handle, flags | rustix::fs::IFlags::TOPDIR);
    }
}
