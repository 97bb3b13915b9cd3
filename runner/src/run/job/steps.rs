//! The steps of a job in order: whose turn comes, what it is given, what it hands on, what its end is called.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jobs::StepPlan;
use jobs::expression::{FileHasher, Status};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ahead::{Ahead, Upper};
use super::beside::Beside;
use super::trail::{Trail, Unrecorded};
use super::{Job, JobEnd};
use crate::cgroup::KmsgCursor;
use crate::event::What;
use crate::outcome::{Caps, LogSummary, Oom, Outcome, StepResult, Usage};
use crate::run::caps;
use crate::run::command::{self, Surroundings};
use crate::run::error::RunError;
use crate::run::git;
use crate::run::hash_files::hash_files;
use crate::run::record::{NetworkRecord, StepDirectory, timestamp};
use crate::run::rights;
use crate::run::room::{Prepared, Room};
use crate::run::services::Fallen;
use crate::run::step::{self, Cancel, Ended, Running};
use crate::run::step_files::{self, Handed};
use crate::run::traces::Used;
use crate::run::values::{Turn, Unsettled, Values};
use crate::run::verdict::{Facts, Stopped, judge};
use crate::run::workspace::Workspace;
use crate::sandbox::ids::Identity;
use crate::sandbox::spawn::SandboxError;
use crate::sandbox::spec::Go;
use crate::sandbox::wire::TERMINATE;

/// Blocked destinations named in a step's log; its record has all.
const BLOCKED_SHOWN_MAX: usize = 20;
/// Time for the steps that run after a cancel or the job's timeout, all together.
const CLEANUP: Duration = Duration::from_secs(60);

impl Job<'_> {
    /// The steps in order. The next one's sandbox is built while the current one runs.
    pub(super) async fn steps(
        &self,
        began: Instant,
        room: &Room,
        workspace: &Workspace,
        used: &Used,
        end: &mut JobEnd,
        ending: &mut JoinSet<()>,
    ) {
        let mut limit = Limit::of_the_job(began, self.plan.timeout);
        let (git, cpus) = (git::head(&workspace.path), cpus(room.limits().cpus));
        let mut kmsg = KmsgCursor::open();
        let mut ahead: Option<Result<Ahead, RunError>> = None;
        let mut trail = Trail { end, ending, unrecorded: None };
        let mut beside = Beside::new(self.wish());
        let values = Values::new(self.contexts.clone(), self.plan);
        let mut values = values.with_env(self.plan).map(|values| values.with_files(hasher(workspace)));
        for (index, step) in self.plan.steps.iter().enumerate() {
            let ready = ahead.take();
            if let Ok(values) = &mut values {
                self.settle_beside(&mut beside, values, &mut trail);
            }
            let turn = match &mut values {
                Ok(values) => self.turn(step, values, &mut limit, trail.end),
                // Of the job's own variables, for which its first step answers.
                Err(_) if index > 0 => Ok(None),
                Err(unsettled) => Err(unsettled.clone()),
            };
            let (Ok(values), Ok(Some(turn))) = (&mut values, &turn) else {
                if let Some(Ok(unused)) = ready {
                    unused.throw_away(trail.ending);
                }
                self.pass_over(step, turn, values.as_mut().ok(), &mut trail);
                continue;
            };
            let (limit, git, turn) = (limit.0, git.as_ref(), Rc::clone(turn));
            let (cancel, falls) = (self.wish(), self.company.falls());
            let one = OneStep { step, index, room, limit, turn, cancel, falls, git, cpus, workspace, used };
            let ran = if !step.command.is_run() {
                self.wait_for(&one, &mut beside, values, &mut trail).await
            } else {
                match ready.unwrap_or_else(|| self.ahead(room, index, 1)) {
                    Ok(ready) if step.background => {
                        self.begin_beside(one, ready, &mut beside);
                        Ok(())
                    }
                    Ok(ready) => {
                        let next = self.comes_next(index).then_some(&mut ahead);
                        let work = self.step(&one, ready, kmsg.as_mut(), next, values, &mut trail);
                        beside.with(work).await
                    }
                    Err(error) => Err(error),
                }
            };
            if let Err(error) = ran {
                trail.fail(step, error, &self.plan.id, self.feed);
            }
        }
        if let Ok(values) = &mut values {
            self.end_beside(&mut beside, values, &mut trail).await;
        }
        if let Err(error) = trail.record(&self.plan.id, self.feed) {
            trail.end.outcome = Outcome::Error;
            trail.end.error.get_or_insert(error);
        }
        ahead.and_then(Result::ok).into_iter().for_each(|unused| unused.throw_away(ending));
        if let Ok(values) = &values {
            self.conclude(values, end);
        }
    }

    /// What the user wants, as far as it has been seen.
    fn wish(&self) -> watch::Receiver<Cancel> {
        self.cancel.borrow().clone()
    }

    /// Records a step that does not run.
    fn pass_over(
        &self,
        step: &StepPlan,
        turn: Result<Option<Rc<Turn>>, Unsettled>,
        values: Option<&mut Values>,
        trail: &mut Trail<'_>,
    ) {
        if let Err(error) = trail.record(&self.plan.id, self.feed) {
            trail.fail(step, error, &self.plan.id, self.feed);
            return;
        }
        let result = self.not_run(step, turn, trail.end);
        if let Some(values) = values {
            values.ended(step, result.outcome, result.conclusion, &[]);
        }
        trail.end.steps.push(result);
    }

    /// Whether the step behind this one can be made ready ahead. One with a condition may never run, and then it would only
    /// have to be thrown away.
    fn comes_next(&self, index: usize) -> bool {
        let next = self.plan.steps.get(index + 1);
        next.is_some_and(|next| next.condition.is_none() && next.command.is_run())
    }

    /// Settles what the job comes to for others. What cannot be settled makes a failure of a success.
    fn conclude(&self, values: &Values, end: &mut JobEnd) {
        let settled = values.outputs(self.plan).and_then(|outputs| {
            end.outputs = outputs;
            values.switch(&self.plan.continue_on_error)
        });
        match settled {
            Ok(forgiving) => end.forgiving = forgiving,
            Err(unsettled) => {
                self.warn(None, unsettled.to_string(), None);
                if end.outcome == Outcome::Success {
                    end.outcome = Outcome::Failure;
                }
            }
        }
    }

    /// Settles whether a step runs, and with what.
    fn turn(
        &self,
        step: &StepPlan,
        values: &mut Values,
        limit: &mut Limit,
        end: &mut JobEnd,
    ) -> Result<Option<Rc<Turn>>, Unsettled> {
        // Seen here, the first wish no longer ends what runs because of it; the second one does.
        let wish = *self.cancel.borrow_mut().borrow_and_update();
        if wish != Cancel::No && end.outcome == Outcome::Success && end.error.is_none() {
            end.outcome = Outcome::Cancelled;
        }
        self.blame_fallen(end);
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
        Ok(values.turn(step)?.map(Rc::new))
    }

    /// The result of a step whose turn did not come, or could not be settled.
    fn not_run(
        &self,
        step: &StepPlan,
        turn: Result<Option<Rc<Turn>>, Unsettled>,
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
        self.say_ended(step, &result);
        result
    }

    async fn step(
        &self,
        one: &OneStep<'_>,
        ahead: Ahead,
        kmsg: Option<&mut KmsgCursor>,
        next: Option<&mut Option<Result<Ahead, RunError>>>,
        values: &mut Values,
        trail: &mut Trail<'_>,
    ) -> Result<(), RunError> {
        let step = one.step;
        let ran = self.attempts(one, ahead, kmsg, next, Some(&mut *trail)).await?;
        let Ran { prepared, directory, mut result } = ran;
        let handed = self.hand_on(one, &prepared, values, &directory, &mut result)?;
        // The last one's upper directory goes with the scratch directory.
        let last = one.index + 1 == self.plan.steps.len();
        result.kept = self.keeps(one, &prepared, result.outcome, trail.end);
        let keep = if last || result.kept { Upper::Kept } else { Upper::Removed };
        let mut unrecorded = Unrecorded { directory, result, sandbox: Some((prepared, keep)) };
        if !step.artifacts.is_empty() {
            unrecorded.take_apart(trail.ending);
            trail.end.artifacts.extend(self.step_artifacts(one, &mut unrecorded.result)?);
        }
        let (outcome, conclusion) = (unrecorded.result.outcome, unrecorded.result.conclusion);
        values.ended(step, outcome, conclusion, &handed.outputs);
        if trail.end.outcome == Outcome::Success {
            trail.end.outcome = conclusion;
        }
        trail.unrecorded = Some(unrecorded);
        Ok(())
    }

    /// Whether a step's root filesystem is kept, which is noted.
    pub(super) fn keeps(
        &self,
        one: &OneStep<'_>,
        prepared: &Prepared,
        outcome: Outcome,
        end: &mut JobEnd,
    ) -> bool {
        let name = prepared.upper.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|_| self.keep.wants(outcome)) else { return false };
        end.kept.push((one.step.id.clone(), name.to_owned()));
        true
    }

    /// One attempt of a step, counted from 1. When its command runs, what comes next is made ready.
    pub(super) async fn attempt(
        &self,
        one: &OneStep<'_>,
        ahead: Ahead,
        number: u32,
        kmsg: Option<&mut KmsgCursor>,
        next: Option<&mut Option<Result<Ahead, RunError>>>,
        trail: Option<&mut Trail<'_>>,
    ) -> Result<Ran, RunError> {
        let step = one.step;
        let in_step = |error| RunError::Step { index: step.index, step: step.id.clone(), error };
        let Ahead { mut prepared, ears, records } = ahead;
        let (go, environment) = self.go(one, number).map_err(in_step)?;
        prepared.sandbox.ready().await.map_err(in_step)?;
        let disk = self.disk_watch(one, &prepared).await?;
        let (started, deadline) = (timestamp(), deadline(step.timeout, one.limit));
        let began = Instant::now();
        let terminal = self.inside.and_then(|inside| inside.terminal.as_ref());
        let begun = step::begin(&mut prepared.sandbox, &go, (self.stdin, terminal), ears).await;
        // From here on the command runs, and what it need not wait for is done beside it.
        trail.map_or(Ok(()), |trail| trail.record(&self.plan.id, self.feed))?;
        let (directory, log) = records.publish(self.plan.limits.log_bytes, began)?;
        self.say_started(step, number);
        directory.write_environment(&self.shown(environment))?;
        if let (Some(next @ None), Ok(_)) = (next, &begun) {
            *next = Some(self.ahead(one.room, one.index + 1, 1));
        }
        let running = Running {
            job: &self.plan.id,
            step: Some(&step.id),
            log,
            feed: self.feed,
            deadline: Some(deadline),
            grace: self.plan.grace,
            ask: TERMINATE,
            cancel: one.cancel.clone(),
            falls: Some(one.falls.clone()),
            ear: None,
            cgroup: Some(&prepared.cgroup),
            kmsg,
            disk: disk.as_ref(),
            egress: one.room.egress.as_ref(),
            quiet: step.quiet_timeout,
            secrets: self.secrets,
        };
        let (mut ended, exec) = match begun {
            Ok(begun) => (step::finish(&mut prepared.sandbox, begun, running).await, None),
            Err(SandboxError::Exec { errno, existing }) => {
                (never_ran(&directory), Some((errno, existing > 0)))
            }
            Err(error) => return Err(in_step(error)),
        };
        let used_disk = self.end_disk_watch(disk, &mut ended).await?;
        let mut result = self.result(one, &prepared, ended, exec, &command::argv(step), started)?;
        result.usage.disk = used_disk;
        self.network(one, &directory, &mut result).await?;
        Ok(Ran { prepared, directory, result })
    }

    /// What the step's command is and what it finds. `attempt`: from 1.
    fn go(&self, one: &OneStep<'_>, attempt: u32) -> Result<(Go, BTreeMap<String, String>), SandboxError> {
        let step = one.step;
        let user = one.room.users.get(one.index).ok_or(SandboxError::Lost)?;
        let surroundings = Surroundings {
            run: self.run.id(),
            job: &self.plan.id,
            image: &self.rootfs.config.env,
            cpus: one.cpus,
            git: one.git,
            // What is tried again for the job's sake is no first attempt either.
            attempt: self.attempt + attempt - 1,
            secrets: &self.secret_variables(step),
        };
        let environment = command::environment(step, user, &surroundings, &one.turn.env, &one.turn.path);
        let single = self.lease.identity == Identity::Single;
        // Steps work in the workspace, but in an empty one there is nothing to work on.
        let own = self.plan.workspace == jobs::Workspace::Empty;
        let start = self.rootfs.config.workdir.as_deref().filter(|path| own && path.starts_with('/'));
        let rights = one.room.rights(one.index);
        let mut go = command::go(step, user, rights, &environment, start, self.plan.limits.files, single);
        go.terminal = self.inside.is_some_and(|inside| inside.terminal.is_some());
        Ok((go, environment))
    }

    pub(super) fn say_started(&self, step: &StepPlan, attempt: u32) {
        let (name, steps) = (step.name.clone(), self.plan.steps.len());
        let what = What::StepStart { name, index: step.index, steps, attempt };
        self.feed.send(Some(&self.plan.id), Some(&step.id), what);
    }

    pub(super) fn say_ended(&self, step: &StepPlan, result: &StepResult) {
        let what = What::StepEnd { result: Box::new(result.clone()) };
        self.feed.send(Some(&self.plan.id), Some(&step.id), what);
    }

    /// Asks where the step went, keeps it, and names what it was not let to.
    async fn network(
        &self,
        one: &OneStep<'_>,
        directory: &StepDirectory,
        result: &mut StepResult,
    ) -> Result<(), RunError> {
        let Some(egress) = &one.room.egress else { return Ok(()) };
        // One that has ended under the step says so here.
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

    /// Takes what the step hands on, whatever its end. What cannot be understood makes a failure of a success.
    pub(super) fn hand_on(
        &self,
        one: &OneStep<'_>,
        prepared: &Prepared,
        values: &mut Values,
        directory: &StepDirectory,
        result: &mut StepResult,
    ) -> Result<Handed, RunError> {
        let problem = match step_files::read(&prepared.upper) {
            Ok(handed) if self.leaked(&handed).is_some() => (
                format!(
                    "$RUNNER_OUTPUT, $RUNNER_ENV or $RUNNER_PATH holds the secret {}",
                    self.leaked(&handed).unwrap_or_default()
                ),
                "name the secret in the step that needs it",
            ),
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
                    directory.append_summary(&self.shown_bytes(&handed.summary))?;
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
        let events = prepared.cgroup.events();
        let limits = one.room.limits();
        let oom = (events.oom_kills > 0).then(|| Oom {
            limit_bytes: limits.memory_bytes.unwrap_or_default(),
            kills: events.oom_kills,
            victim: ended.victim.clone(),
        });
        let disk = ended.disk.map(|used| used.over(self.plan.limits.disk_bytes.unwrap_or_default()));
        let verdict = judge(&Facts {
            disk: disk.as_ref(),
            status: ended.status,
            stopped: ended.stopped,
            ignored_term: ended.ignored_term,
            exec,
            command: argv.first().map_or("", String::as_str),
            expect_exit: &step.expect_exit,
            oom: oom.as_ref(),
            mem_peak: oom.as_ref().and_then(|_| prepared.cgroup.usage().mem_peak),
            pids: (events.pids_hits, limits.pids),
            grace: self.plan.grace,
            leftovers: &ended.leftovers,
        });
        // The rest of it is read when there is time.
        let usage = Usage {
            cpu_s: ended.usage.cpu_us as f64 / 1e6,
            wall_s: ended.wall.as_secs_f64(),
            // cgroup v1 counts a disk only once it is throttled.
            io_r: Some(ended.usage.read_bytes),
            io_w: Some(ended.usage.write_bytes),
            ..Usage::default()
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
            earlier: Vec::new(),
            started,
            ended: timestamp(),
            usage,
            limits: caps::recorded(limits, self.plan.limits.disk_bytes),
            rights: rights::record(step),
            oom,
            disk,
            leftovers: ended.leftovers,
            log: ended.log?,
            cause: self.because(ended.stopped, verdict.cause),
            remedy: verdict.remedy,
            kept: false,
            reused: None,
        })
    }
}

/// A step's command has run to its end.
pub(super) struct Ran {
    pub(super) prepared: Prepared,
    pub(super) directory: StepDirectory,
    pub(super) result: StepResult,
}

/// A step and what it is run with.
pub(super) struct OneStep<'s> {
    pub(super) step: &'s StepPlan,
    pub(super) index: usize,
    pub(super) room: &'s Room,
    /// When it has to end at the latest, and why.
    pub(super) limit: (Instant, Stopped),
    pub(super) turn: Rc<Turn>,
    /// How it is asked for an end.
    pub(super) cancel: watch::Receiver<Cancel>,
    /// Tells that a service has fallen.
    pub(super) falls: watch::Receiver<Option<Fallen>>,
    pub(super) git: Option<&'s (String, Option<String>)>,
    pub(super) cpus: u64,
    pub(super) workspace: &'s Workspace,
    pub(super) used: &'s Used,
}

/// `continue-on-error` forgives what the step did, not that the user stopped it.
pub(super) fn conclusion(forgiving: bool, outcome: Outcome) -> Outcome {
    let forgiven = forgiving && outcome.is_failure();
    if forgiven && outcome != Outcome::Cancelled { Outcome::Success } else { outcome }
}

/// When all steps have to be over, and why.
#[derive(Debug, Clone, Copy)]
struct Limit((Instant, Stopped));

impl Limit {
    fn of_the_job(began: Instant, timeout: Duration) -> Self {
        Self((began + timeout, Stopped::JobTimeout(timeout)))
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

/// Who reads the workspace for expressions, as it is when they are settled.
pub(super) fn hasher(workspace: &Workspace) -> FileHasher {
    let root = workspace.handle.try_clone();
    FileHasher::new(move |globs| {
        let root = root.as_ref().map_err(ToString::to_string)?;
        hash_files(root, globs).map_err(|error| error.to_string())
    })
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
        earlier: Vec::new(),
        started: timestamp(),
        ended: timestamp(),
        usage: Usage::default(),
        limits: Caps::default(),
        rights: None,
        oom: None,
        disk: None,
        leftovers: Vec::new(),
        log: LogSummary::default(),
        cause: None,
        remedy: None,
        kept: false,
        reused: None,
    }
}

/// What is known of a command that was never executed.
fn never_ran(directory: &StepDirectory) -> Ended {
    let path = directory.relative.join("log").display().to_string();
    Ended { log: Ok(LogSummary { path, ..LogSummary::default() }), ..Ended::default() }
}
