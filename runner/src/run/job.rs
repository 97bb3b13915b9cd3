//! One job from its plan to its end: image, room, steps in order, artifacts, clean-up.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use images::Rootfs;
use jobs::expression::{Status, Value};
use jobs::{JobPlan, StepPlan, When, Workspace as PlanWorkspace};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::artifacts::{self, ArtifactError, ArtifactLimits, CollectRequest, Patterns};
use super::command::{self, Surroundings};
use super::errands::Servants;
use super::error::RunError;
use super::feed::Feed;
use super::identity::Lease;
use super::record::{ArtifactRecord, RunDirectory, StepDirectory, timestamp};
use super::room::{self, Plans, Prepared, Room};
use super::step::{self, Cancel, Ended, Running};
use super::step_files::{self, Handed};
use super::traces::{self, Traces, Used, UsedTree};
use super::values::{Turn, Unsettled, Values};
use super::verdict::{Facts, Stopped, judge};
use super::workspace::{self, Workspace};
use crate::cgroup::{Hierarchy, KmsgCursor};
use crate::event::What;
use crate::outcome::{Caps, LogSummary, Oom, Outcome, StepResult, Usage};
use crate::sandbox::ids::Identity;
use crate::sandbox::spawn::{SandboxError, Stage};
use crate::sandbox::sweep::Since;
use crate::sandbox::zygote::Zygote;

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
    /// The contexts of the plan and the run.
    pub contexts: Vec<(&'static str, Value)>,
}

/// Time for the steps that run after a cancel or the job's timeout, all together.
const CLEANUP: Duration = Duration::from_secs(60);

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
    /// What has to be taken apart.
    pub rest: Rest,
}

impl JobEnd {
    /// A job of this outcome that has done nothing.
    pub fn new(outcome: Outcome) -> Self {
        Self { outcome, steps: Vec::new(), artifacts: Vec::new(), error: None, rest: Rest::default() }
    }
}

/// What is left of a job when everything about it is known: taken apart while the last record is written.
#[derive(Debug, Default)]
pub struct Rest {
    room: Option<Room>,
    ending: JoinSet<()>,
    scratch: Option<Scratch>,
}

/// A private directory to be removed, with whose rights.
#[derive(Debug)]
struct Scratch {
    run_id: String,
    identity: Identity,
    user: (u32, u32),
}

impl Rest {
    /// Takes it apart. Returns what could not be, in words.
    pub async fn clear(mut self, home: &Path, zygote: &Zygote) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(room) = &self.room {
            room.dismiss();
        }
        while self.ending.join_next().await.is_some() {}
        if let Some(Err(error)) = self.room.map(Room::close) {
            left.push(format!("cannot clean up: {error}"));
        }
        if let Some(Scratch { run_id, identity, user }) = self.scratch {
            match traces::remove_scratch(home, &Servants { zygote, identity, user }, &run_id) {
                Ok(()) => traces::forget(home, &run_id),
                Err(text) => left.push(format!("cannot clean up: {text}")),
            }
        }
        left
    }
}

impl Job<'_> {
    /// Runs the job on a stage opened for it. What it leaves is in [`JobEnd::rest`].
    ///
    /// # Errors
    /// When not even its traces could be written down. Later errors are in [`JobEnd::error`].
    pub async fn run(mut self, stage: Stage) -> Result<JobEnd, RunError> {
        let all = self.home.join("scratch");
        let scratch = all.join(self.run.id());
        // Private: what lies below has set-uid files and other users' directories.
        DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(RunError::io("create", &all))?;
        room::make_directory(&scratch).map_err(RunError::io("create", &scratch))?;
        spread(&all);
        let mut traces = Traces {
            cgroups: self.hierarchy.paths(self.run.id())?,
            scratch: Some(self.run.id().to_owned()),
            used: None,
        };
        traces::leave(self.home, self.run, &traces)?;
        let mut end = JobEnd::new(Outcome::Success);
        if let Err(error) = self.in_scratch(stage, &scratch, &mut traces, &mut end).await {
            end.outcome = Outcome::Error;
            end.error = Some(error);
        }
        let user = traces.used.as_ref().map_or((0, 0), |used| used.user);
        let run_id = self.run.id().to_owned();
        end.rest.scratch = Some(Scratch { run_id, identity: self.lease.identity, user });
        Ok(end)
    }

    async fn in_scratch(
        &mut self,
        stage: Stage,
        scratch: &Path,
        traces: &mut Traces,
        end: &mut JobEnd,
    ) -> Result<(), RunError> {
        let since = Since::now();
        let workspace = self.open_workspace(scratch)?;
        let plans = Plans {
            job: self.plan,
            rootfs: self.rootfs,
            workspace: &workspace,
            base: self.base,
            home: self.home,
            scratch,
            identity: self.lease.identity,
            run_id: self.run.id(),
            since,
        };
        let mut used =
            Used { identity: self.lease.identity, user: (0, 0), since, trees: self.trees(&workspace)? };
        // Before anything can change there, and again when the user is known.
        traces.used = Some(used.clone());
        traces::leave(self.home, self.run, traces)?;
        let room = Room::open(self.zygote, stage, self.hierarchy, &plans)?;
        used.user = room.users.first().map_or((0, 0), |user| (user.uid, user.gid));
        if used.user != (0, 0) {
            traces.used = Some(used.clone());
            traces::leave(self.home, self.run, traces)?;
        }
        for (text, hint) in room.warnings.clone() {
            self.warn(None, text, hint);
        }
        let mut ending = JoinSet::new();
        self.steps(&room, &workspace, &used, end, &mut ending).await;
        // Meanwhile the kernel takes the last sandbox apart.
        self.finish(&workspace, &used, &room, end);
        (end.rest.room, end.rest.ending) = (Some(room), ending);
        Ok(())
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

    /// What of the host the steps can change.
    fn trees(&self, workspace: &Workspace) -> Result<Vec<UsedTree>, RunError> {
        let mounts = self.plan.mounts.iter().filter(|mount| !mount.read_only);
        let mut trees = Vec::new();
        for path in
            std::iter::once(workspace.path.clone()).chain(mounts.map(|mount| self.base.join(&mount.host)))
        {
            let wrong = |source| RunError::Mount { path: path.clone(), source };
            let canonical = fs::canonicalize(&path).map_err(wrong)?;
            trees.push(UsedTree::at(&canonical).map_err(wrong)?);
        }
        Ok(trees)
    }

    /// The steps in order. The next one's sandbox is built while the current one runs.
    async fn steps(
        &mut self,
        room: &Room,
        workspace: &Workspace,
        used: &Used,
        end: &mut JobEnd,
        ending: &mut JoinSet<()>,
    ) {
        let mut limit = Limit::of_the_job(self.plan.timeout);
        let git = workspace::git_head(&workspace.path);
        let mut kmsg = KmsgCursor::open();
        let mut ahead: Option<Result<Prepared, RunError>> = None;
        let values = Values::new(std::mem::take(&mut self.contexts), self.plan);
        let mut values = values.with_env(self.plan);
        for (index, step) in self.plan.steps.iter().enumerate() {
            let turn = match &mut values {
                Ok(values) => self.turn(step, values, &mut limit, end),
                // Of the job's own variables, for which its first step answers.
                Err(_) if index > 0 => Ok(None),
                Err(unsettled) => Err(unsettled.clone()),
            };
            let (Ok(values), Ok(Some(turn))) = (&mut values, &turn) else {
                if let Some(Ok(prepared)) = ahead.take() {
                    throw_away(prepared, Upper::Removed, ending);
                }
                let result = self.not_run(step, turn, end);
                if let Ok(values) = &mut values {
                    values.ended(&step.id, result.outcome, result.conclusion, &[]);
                }
                end.steps.push(result);
                continue;
            };
            let prepared = ahead.take().unwrap_or_else(|| room.prepare(index));
            let prepared = match prepared {
                Ok(prepared) => prepared,
                Err(error) => {
                    fail(end, step, error);
                    continue;
                }
            };
            let one = OneStep { step, index, room, limit: limit.0, turn, git: git.as_ref(), workspace, used };
            // One with a condition may never run, and then it would only have to be thrown away.
            let next = self.plan.steps.get(index + 1).filter(|next| next.condition.is_none());
            let next = next.map(|_| &mut ahead);
            match self.step(&one, prepared, kmsg.as_mut(), next, values, ending).await {
                Ok((result, artifacts)) => {
                    if end.outcome == Outcome::Success {
                        end.outcome = result.conclusion;
                    }
                    end.steps.push(result);
                    end.artifacts.extend(artifacts);
                }
                Err(error) => fail(end, step, error),
            }
        }
        if let Some(Ok(prepared)) = ahead {
            throw_away(prepared, Upper::Removed, ending);
        }
    }

    /// Settles whether a step runs, and with what.
    fn turn(
        &mut self,
        step: &StepPlan,
        values: &mut Values,
        limit: &mut Limit,
        end: &mut JobEnd,
    ) -> Result<Option<Turn>, Unsettled> {
        // Seen here, the first wish no longer ends what runs because of it; the second one does.
        let wish = *self.cancel.borrow_and_update();
        if wish != Cancel::No && end.outcome == Outcome::Success && end.error.is_none() {
            end.outcome = Outcome::Cancelled;
        }
        if end.error.is_some() || wish == Cancel::Now {
            return Ok(None);
        }
        if wish != Cancel::No || limit.has_passed() {
            limit.begin_cleanup();
        }
        values.set_status(match end.outcome {
            _ if wish != Cancel::No => Status::Cancelled,
            Outcome::Success => Status::Success,
            _ => Status::Failure,
        });
        values.turn(step)
    }

    /// The result of a step whose turn did not come, or could not be settled.
    fn not_run(
        &mut self,
        step: &StepPlan,
        turn: Result<Option<Turn>, Unsettled>,
        end: &mut JobEnd,
    ) -> StepResult {
        let mut result = skipped(step);
        if let Err(unsettled) = turn {
            (result.outcome, result.conclusion) = (Outcome::Failure, Outcome::Failure);
            result.cause = Some(unsettled.to_string());
            if end.outcome == Outcome::Success {
                end.outcome = Outcome::Failure;
            }
        } else if step.condition.is_none() {
            // That nothing more runs after the end is no news.
            return result;
        }
        let what = What::StepEnd { result: Box::new(result.clone()) };
        self.feed.send(Some(&self.plan.id), Some(&step.id), what);
        result
    }

    async fn step(
        &mut self,
        one: &OneStep<'_>,
        mut prepared: Prepared,
        kmsg: Option<&mut KmsgCursor>,
        next: Option<&mut Option<Result<Prepared, RunError>>>,
        values: &mut Values,
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
        let environment = command::environment(step, user, &surroundings, &one.turn.env, &one.turn.path);
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
            deadline: Some(deadline(step.timeout, one.limit)),
            grace: self.plan.grace,
            cancel: self.cancel.clone(),
            cgroup: Some(&prepared.cgroup),
            kmsg,
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
        let mut result = self.result(one, &prepared, ended, exec, &argv, started)?;
        let handed = self.hand_on(one, &prepared, values, &directory, &mut result)?;
        // The last one's upper directory goes with the scratch directory.
        let keep = if one.index + 1 == self.plan.steps.len() { Upper::Kept } else { Upper::Removed };
        throw_away(prepared, keep, ending);
        let artifacts = self.step_artifacts(one, &mut result)?;
        values.ended(&step.id, result.outcome, result.conclusion, &handed.outputs);
        directory.write_result(&result)?;
        let what = What::StepEnd { result: Box::new(result.clone()) };
        self.feed.send(Some(&self.plan.id), Some(&step.id), what);
        self.feed.failure().map_or(Ok((result, artifacts)), |error| Err(error.into()))
    }

    /// Takes what the step hands on, whatever its end. What cannot be understood makes a failure of a success.
    fn hand_on(
        &mut self,
        one: &OneStep<'_>,
        prepared: &Prepared,
        values: &mut Values,
        directory: &StepDirectory,
        result: &mut StepResult,
    ) -> Result<Handed, RunError> {
        let problem = match step_files::read(&prepared.upper) {
            Ok(handed) if values.take(&handed) => {
                for name in &handed.refused {
                    let text = format!("{name} of step {} is not taken from $RUNNER_ENV", one.step.id);
                    let hint = "with such a name, one line changes what later steps run; `env` can set it";
                    self.warn(None, text, Some(hint.to_owned()));
                }
                if !handed.outputs.is_empty() {
                    directory.write_outputs(&handed.outputs)?;
                }
                if !handed.summary.is_empty() {
                    directory.append_summary(&handed.summary)?;
                }
                return Ok(handed);
            }
            Ok(_) => {
                ("the job's steps hand on more than is kept".to_owned(), "hand large things on as files")
            }
            Err(error) => (error.to_string(), error.hint()),
        };
        if result.outcome == Outcome::Success {
            result.outcome = Outcome::Failure;
            result.conclusion = conclusion(one.turn.forgiving, Outcome::Failure);
            (result.cause, result.remedy) = (Some(problem.0), Some(problem.1.to_owned()));
        }
        Ok(Handed::default())
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
            pids_peak: used.pids_peak,
            throttled_s: used.throttled_s,
        };
        Ok(StepResult {
            id: step.id.clone(),
            name: step.name.clone(),
            index: step.index,
            outcome: verdict.outcome,
            conclusion: conclusion(one.turn.forgiving, verdict.outcome),
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
                    result.conclusion = conclusion(one.turn.forgiving, Outcome::Failure);
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
    fn finish(&mut self, workspace: &Workspace, used: &Used, room: &Room, end: &mut JobEnd) {
        let success = end.outcome == Outcome::Success && end.error.is_none();
        self.hand_back(used);
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
            self.hand_back(used);
        }
    }

    fn hand_back(&mut self, used: &Used) {
        for left in used.hand_back(self.zygote) {
            self.warn(None, format!("cannot hand back what steps gave away: {left}"), None);
        }
    }

    /// Collects artifacts after a step, or after all of them, up to the first problem.
    fn collect(
        &mut self,
        wanted: &[jobs::ArtifactPlan],
        step: Option<&StepPlan>,
        success: bool,
        workspace: &Workspace,
        used: &Used,
    ) -> (Vec<ArtifactRecord>, Option<ArtifactError>) {
        let due = |artifact: &&jobs::ArtifactPlan| match artifact.when {
            When::Always => true,
            When::Success => success,
            When::Failure => !success,
        };
        let mut records = Vec::new();
        for (index, artifact) in wanted.iter().filter(due).enumerate() {
            if index == 0 && step.is_some() && self.lease.identity == Identity::Subids {
                self.hand_back(used);
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
    /// When it has to end at the latest, and why.
    limit: (Instant, Stopped),
    turn: &'s Turn,
    git: Option<&'s (String, Option<String>)>,
    workspace: &'s Workspace,
    used: &'s Used,
}

/// `continue-on-error` forgives what the step did, not that the user stopped it.
fn conclusion(forgiving: bool, outcome: Outcome) -> Outcome {
    let forgiven = forgiving && outcome.is_failure();
    if forgiven && outcome != Outcome::Cancelled { Outcome::Success } else { outcome }
}

/// When all steps have to be over, and why.
#[derive(Debug, Clone, Copy)]
struct Limit((Instant, Stopped));

impl Limit {
    fn of_the_job(timeout: Duration) -> Self {
        Self((Instant::now() + timeout, Stopped::JobTimeout(timeout)))
    }

    fn has_passed(self) -> bool {
        Instant::now() >= self.0.0
    }

    /// From the first step on that runs in spite of the end.
    fn begin_cleanup(&mut self) {
        if !matches!(self.0.1, Stopped::Cleanup(_)) {
            self.0 = (Instant::now() + CLEANUP, Stopped::Cleanup(CLEANUP));
        }
    }
}

/// The earlier of the step's deadline and the limit of all, and whose it is.
fn deadline(step: Option<Duration>, limit: (Instant, Stopped)) -> (Instant, Stopped) {
    match step.map(|timeout| (Instant::now() + timeout, Stopped::StepTimeout(timeout))) {
        Some((at, why)) if at <= limit.0 => (at, why),
        _ => limit,
    }
}

fn cpus(limit: Option<f64>) -> u64 {
    let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    limit.map_or(usable, |limit| (limit.ceil() as u64).clamp(1, usable))
}

/// The result of a step that never ran.
pub fn skipped(step: &StepPlan) -> StepResult {
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

/// What becomes of an upper directory when its sandbox ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upper {
    /// Removed at once: a long job must not fill the disk.
    Removed,
    /// Left to the removal of the whole scratch directory, which follows.
    Kept,
}

/// Ends a sandbox off the path of the steps: init, cgroup, upper directory.
fn throw_away(mut prepared: Prepared, upper: Upper, ending: &mut JoinSet<()>) {
    prepared.sandbox.kill();
    ending.spawn(async move {
        prepared.sandbox.gone().await;
        let _swept_with_the_run = prepared.cgroup.remove();
        if upper == Upper::Kept {
            return;
        }
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
