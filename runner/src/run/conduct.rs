//! The jobs of a run: each started, attended and ended as the schedule says, side by side.

mod setup;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use images::Rootfs;
use jobs::expression::{Status, Value};
use jobs::{JobPlan, User};
use tokio::sync::watch;
use tokio::time::sleep_until;

use setup::{SetUp, Site};

use super::error::RunError;
use super::execute::Execution;
use super::feed::Feed;
use super::identity::{self, Lease};
use super::image::Images;
use super::job::{self, Job, JobEnd, Rest};
use super::record::{RecordError, ReportsRecord, RunDirectory, RunRecord, timestamp};
use super::reports::{self, Gathered};
use super::room::{self, OpenStage};
use super::schedule::{self, Action, Schedule, Space};
use super::services::{self, Company};
use super::setup_layers::SetupLayers;
use super::step::Cancel;
use super::traces::{self, Ledger};
use super::values::Values;
use crate::cgroup::Hierarchy;
use crate::event::What;
use crate::outcome::{Outcome, StepResult};
use crate::sandbox::ids::Identity;
use crate::sandbox::zygote::Zygote;

/// What all jobs of a run share.
pub struct Conductor<'r> {
    /// Who starts processes.
    pub zygote: &'r Arc<Zygote>,
    /// What is to be run.
    pub execution: &'r Execution,
    /// Where cgroups go.
    pub hierarchy: &'r Hierarchy,
    /// The records.
    pub run: &'r RunDirectory,
    /// Where events go.
    pub feed: &'r Feed,
    /// `run.json` as it stands.
    pub record: RefCell<RunRecord>,
    /// What the jobs leave.
    pub ledger: Ledger<'r>,
    /// The ids of an ordinary user, which all jobs share.
    lease: RefCell<Option<Rc<Lease>>>,
    /// What the reports of jobs that are over say, by job.
    reports: RefCell<Vec<(String, Gathered)>>,
    swept: Cell<bool>,
}

/// What a job has from the start: its ids, and a stage that makes its namespaces while we look at everything else.
pub struct Opened {
    lease: Rc<Lease>,
    stage: OpenStage,
}

impl Opened {
    /// Opens a stage with these ids, or with fresh ones.
    ///
    /// # Errors
    /// Those of the ids and of the clone.
    pub fn of(
        zygote: &Zygote,
        execution: &Execution,
        job: &JobPlan,
        lease: Option<Rc<Lease>>,
    ) -> Result<Self, RunError> {
        let lease = match lease {
            Some(lease) => lease,
            None => Rc::new(identity::establish(zygote, &execution.home)?),
        };
        let stage = room::open_stage(zygote, job, &execution.root, lease.identity)?;
        Ok(Self { lease, stage })
    }
}

/// How all jobs together have ended.
#[derive(Debug)]
pub struct Conducted {
    /// The first failure that counts, else what the most of them came to.
    pub outcome: Outcome,
    /// The whole run took longer than it may.
    pub timed_out: bool,
    /// Why our own part failed.
    pub error: Option<RunError>,
    /// The code of the step that decided it.
    pub step_exit_code: Option<u8>,
    /// What is left of the only job.
    pub rest: Option<Rest>,
    /// What could not be cleaned up, in words.
    pub left: Vec<String>,
}

/// What is known of the jobs that are over.
#[derive(Debug, Default)]
struct Results {
    /// The cells that are over, by the job's id in the file.
    jobs: HashMap<String, Vec<CellEnd>>,
}

/// How a cell counts, and its outputs.
type CellEnd = (Outcome, Vec<(String, String)>);

impl Results {
    /// Returns the context `needs` of a job. Of a matrix, the last cell that says something to an output counts.
    fn needs(&self, job: &JobPlan) -> Value {
        let need = |id: &String| {
            let cells = self.jobs.get(id).map(Vec::as_slice).unwrap_or_default();
            let result = schedule::together(cells.iter().map(|(conclusion, _)| *conclusion));
            let mut outputs: Vec<(String, Value)> = Vec::new();
            for (name, value) in cells.iter().flat_map(|(_, outputs)| outputs) {
                match outputs.iter_mut().find(|(known, _)| known == name) {
                    Some(known) if !value.is_empty() => known.1 = Value::text(value),
                    Some(_) => {}
                    None => outputs.push((name.clone(), Value::text(value))),
                }
            }
            Value::map([("result", Value::text(result.as_str())), ("outputs", Value::map(outputs))])
        };
        Value::map(job.needs.iter().map(|need_of| (need_of.job.clone(), need(&need_of.job))))
    }
}

impl Conducted {
    /// Nothing has ended.
    fn new() -> Self {
        let (outcome, left) = (Outcome::Skipped, Vec::new());
        Self { outcome, timed_out: false, error: None, step_exit_code: None, rest: None, left }
    }

    /// What was cancelled because the time was over has taken too long; a failure before that stays one.
    fn settled(mut self) -> Self {
        if self.timed_out && matches!(self.outcome, Outcome::Success | Outcome::Cancelled) {
            self.outcome = Outcome::Timeout;
        }
        self
    }
}

impl<'r> Conductor<'r> {
    /// Nothing has begun.
    pub fn new(
        zygote: &'r Arc<Zygote>,
        execution: &'r Execution,
        hierarchy: &'r Hierarchy,
        run: &'r RunDirectory,
        feed: &'r Feed,
        record: RunRecord,
    ) -> Self {
        let ledger = Ledger::new(&execution.home, run);
        let (lease, reports, swept) = (RefCell::default(), RefCell::default(), Cell::new(false));
        let record = RefCell::new(record);
        Self { zygote, execution, hierarchy, run, feed, record, ledger, lease, reports, swept }
    }

    /// Runs all jobs to their ends. `opened`: a stage for the only job.
    pub async fn conduct(
        &self,
        space: Space,
        mut opened: Option<Result<Opened, RunError>>,
        mut cancel: watch::Receiver<Cancel>,
    ) -> Conducted {
        let jobs = &self.execution.plan.jobs;
        let mut schedule = Schedule::new(jobs, space);
        let mut results = Results::default();
        let mut wishes: HashMap<usize, watch::Sender<Cancel>> = HashMap::new();
        let mut running = FuturesUnordered::new();
        let mut deadline = self.execution.plan.timeout.map(|timeout| Instant::now() + timeout);
        let mut conducted = Conducted::new();
        loop {
            let actions = schedule.next(|at, status| self.holds(&jobs[at], status, &results));
            for action in actions {
                match action {
                    Action::Start(at) => {
                        let (wish, wished) = watch::channel(*cancel.borrow());
                        wishes.insert(at, wish);
                        let contexts = self.contexts(&jobs[at], &results);
                        running.push(self.one(at, opened.take(), contexts, wished));
                    }
                    Action::End(at, outcome) => {
                        let mut end = JobEnd::new(outcome);
                        end.steps = jobs[at].steps.iter().map(job::skipped).collect();
                        self.note(at, end, &mut results, &mut conducted);
                    }
                    Action::Cancel(at) => {
                        wishes.get(&at).map(|wish| wish.send_if_modified(gently));
                    }
                }
            }
            if running.is_empty() {
                return conducted.settled();
            }
            tokio::select! {
                Some((at, ended)) = running.next() => {
                    wishes.remove(&at);
                    let end = ended.unwrap_or_else(|error| {
                        JobEnd { error: Some(error), ..JobEnd::new(Outcome::Error) }
                    });
                    schedule.ended(at, end.conclusion());
                    self.note(at, end, &mut results, &mut conducted);
                }
                Ok(()) = cancel.changed() => {
                    let wish = *cancel.borrow_and_update();
                    schedule.cancel();
                    for job in wishes.values() {
                        job.send_replace(wish);
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    deadline = None;
                    conducted.timed_out = true;
                    schedule.cancel();
                    for job in wishes.values() {
                        job.send_if_modified(gently);
                    }
                }
            }
        }
    }

    /// What a job's expressions see that does not change while it runs.
    fn contexts(&self, job: &JobPlan, results: &Results) -> Vec<(&'static str, Value)> {
        let mut contexts = self.execution.plan.contexts.clone();
        contexts.push(("run", Value::map([("id", Value::text(self.run.id()))])));
        contexts.push(("needs", results.needs(job)));
        contexts
    }

    /// Whether a job's condition holds; `None` when it comes to nothing sensible, which is told.
    fn holds(&self, job: &JobPlan, status: Status, results: &Results) -> Option<bool> {
        if job.condition.is_none() {
            return Some(status == Status::Success);
        }
        let mut values = Values::new(self.contexts(job, results), job);
        values.set_status(status);
        values.holds(job.condition.as_ref()).map_err(|why| self.warn(job, why.to_string())).ok()
    }

    fn warn(&self, job: &JobPlan, text: String) {
        self.feed.send(Some(&job.id), None, What::Warning { code: None, text, hint: None });
    }

    /// Takes what a job that is over comes to: into the record, for the jobs that need it, for the run's end.
    fn note(&self, at: usize, mut end: JobEnd, results: &mut Results, conducted: &mut Conducted) {
        let job = &self.execution.plan.jobs[at];
        let conclusion = end.conclusion();
        self.feed.send(Some(&job.id), None, What::JobEnd { outcome: end.outcome });
        if !end.outputs.is_empty()
            && let Err(error) = self.run.write_outputs(&job.id, &end.outputs)
        {
            end.error.get_or_insert(error.into());
        }
        if decides(conducted.outcome, conclusion) {
            conducted.outcome = conclusion;
            conducted.step_exit_code = deciding(&end.steps).and_then(|step| step.exit_code);
        }
        if let Some(error) = end.error.take()
            && conducted.error.is_none()
        {
            conducted.error = Some(error);
        }
        conducted.left.append(&mut end.left);
        let reports = self.report(&job.id, std::mem::take(&mut end.reports));
        let mut record = self.record.borrow_mut();
        match reports {
            Ok(Some(reports)) => record.reports = Some(reports),
            Ok(None) => {}
            Err(error) => drop(conducted.error.get_or_insert(error.into())),
        }
        record.artifacts.append(&mut end.artifacts);
        if let Some(record) = record.jobs.get_mut(at) {
            record.steps = std::mem::take(&mut end.steps);
            record.services = std::mem::take(&mut end.services);
            record.caches = std::mem::take(&mut end.caches);
            (record.outcome, record.conclusion) = (Some(end.outcome), Some(conclusion));
            record.ended = Some(timestamp());
        }
        if self.execution.plan.jobs.len() > 1
            && let Err(error) = self.run.write_run(&record)
        {
            conducted.error.get_or_insert(error.into());
        }
        conducted.rest = Some(end.rest);
        results.jobs.entry(job.job.clone()).or_default().push((conclusion, end.outputs));
    }

    /// Keeps what a job's reports say. Returns what all of them say, when that has changed.
    fn report(&self, job: &str, reports: Gathered) -> Result<Option<ReportsRecord>, RecordError> {
        if reports.is_empty() {
            return Ok(None);
        }
        let mut all = self.reports.borrow_mut();
        all.push((job.to_owned(), reports));
        reports::write(self.run, &all, &self.execution.secrets).map(Some)
    }

    /// The ids of a job: as root a range of its own, else those that all share.
    fn lease(&self) -> Option<Rc<Lease>> {
        self.lease.borrow().clone()
    }

    /// One job, from its start to its end. Of several, each cleans up after itself.
    async fn one(
        &self,
        at: usize,
        opened: Option<Result<Opened, RunError>>,
        contexts: Vec<(&'static str, Value)>,
        cancel: watch::Receiver<Cancel>,
    ) -> (usize, Result<JobEnd, RunError>) {
        let job = &self.execution.plan.jobs[at];
        if let Some(record) = self.record.borrow_mut().jobs.get_mut(at) {
            record.started = Some(timestamp());
        }
        let what = What::JobStart { image: job.image.reference.clone(), steps: job.steps.len() };
        self.feed.send(Some(&job.id), None, what);
        let mut opened = opened;
        for number in 1_u32.. {
            let open = || Opened::of(self.zygote, self.execution, job, self.lease());
            let mut ended = match opened.take().unwrap_or_else(open) {
                Ok(opened) => self.attend(at, opened, contexts.clone(), number, cancel.clone()).await,
                Err(error) => Err(error),
            };
            let again = self.is_tried_again(job, &ended, number, &cancel);
            if let (Ok(end), true) = (&mut ended, again || self.execution.plan.jobs.len() > 1) {
                if again {
                    end.rest.keep_nothing();
                }
                end.left = std::mem::take(&mut end.rest).clear(&self.execution.home, self.zygote).await;
                if end.left.is_empty() {
                    self.ledger.gone(&job.id);
                }
            }
            if !again || !self.begins_again(at, &mut ended, number, &cancel).await {
                return (at, ended);
            }
        }
        (at, Err(crate::sandbox::spawn::SandboxError::Lost.into()))
    }

    async fn attend(
        &self,
        at: usize,
        Opened { lease, stage }: Opened,
        contexts: Vec<(&'static str, Value)>,
        attempt: u32,
        cancel: watch::Receiver<Cancel>,
    ) -> Result<JobEnd, RunError> {
        let (job, home) = (&self.execution.plan.jobs[at], &self.execution.home);
        if !matches!(lease.identity, Identity::Root { .. }) {
            self.lease.borrow_mut().get_or_insert_with(|| Rc::clone(&lease));
        }
        if !self.swept.replace(true) {
            for id in traces::sweep(home, self.zygote, Some(lease.identity))?.runs {
                self.warn(job, format!("cleaned up after run {id}, which was killed"));
            }
        }
        let images = Images {
            home,
            base: &self.execution.base,
            zygote: Arc::clone(self.zygote),
            identity: lease.identity,
            fetch: &self.execution.fetch,
        };
        let user = job.steps.first().and_then(|step| step.user.as_ref());
        let mut stopped = cancel.clone();
        let (rootfs, roots) = tokio::select! {
            found = all_roots(&images, job, user, self.feed) => found?,
            _ = stopped.wait_for(|wish| *wish != Cancel::No) => {
                let steps = job.steps.iter().map(job::skipped).collect();
                return Ok(JobEnd { steps, ..JobEnd::new(Outcome::Cancelled) });
            }
        };
        if let Some(digest) = &rootfs.digest {
            let mut record = self.record.borrow_mut();
            if let Some(job) = record.jobs.get_mut(at) {
                job.image.digest = Some(digest.to_string());
                job.image.platform = rootfs.platform.as_ref().map(ToString::to_string);
            }
            self.run.write_run(&record)?;
        }
        let several = self.execution.plan.jobs.len() > 1;
        let id = self.run.id();
        let unit = if several { format!("{id}.{at}") } else { id.to_owned() };
        let site = Site { job, at, unit: unit.clone(), attempt, lease: &lease, cancel: cancel.clone() };
        let mut rootfs = rootfs;
        let mut set_up = SetUp::default();
        let ended = async {
            self.set_up(&site, &mut rootfs, &mut set_up).await?;
            let results = std::mem::take(&mut set_up.results);
            if let Some(outcome) = set_up.outcome {
                let steps = results.into_iter().chain(job.steps.iter().map(job::skipped)).collect();
                return Ok(JobEnd { steps, ..JobEnd::new(outcome) });
            }
            let job = Job {
                plan: job,
                rootfs: &rootfs,
                base: &self.execution.base,
                root: &self.execution.root,
                producers: producers(&self.execution.plan.jobs, job),
                inherited: &self.execution.inherited,
                home,
                run: self.run,
                ledger: &self.ledger,
                unit,
                number: at,
                attempt,
                zygote: self.zygote,
                lease: &lease,
                hierarchy: self.hierarchy,
                stdin: &self.execution.stdin,
                feed: self.feed,
                secrets: &self.execution.secrets,
                secrets_in_artifacts: self.execution.secrets_in_artifacts,
                tallies: RefCell::default(),
                keep: self.execution.keep,
                inside: self.execution.inside.as_ref(),
                contexts,
                cancel: RefCell::new(cancel),
                services: services::muster(&job.services, &roots)?,
                company: Company::new(&job.services),
            };
            let mut end = job.run(stage).await?;
            end.steps.splice(0..0, results);
            Ok::<_, RunError>(end)
        };
        let mut ended = ended.await;
        // However the job ended.
        for layer in set_up.passing {
            let removed = SetupLayers::of(home).remove(layer, self.zygote);
            if let (Ok(end), Err(text)) = (&mut ended, removed) {
                end.left.push(format!("cannot clean up: {text}"));
            }
        }
        ended
    }
}

/// The jobs whose artifacts a job gets, cells one by one.
fn producers(jobs: &[JobPlan], of: &JobPlan) -> Vec<String> {
    let needed = |job: &&JobPlan| of.needs.iter().any(|need| need.artifacts && need.job == job.job);
    jobs.iter().filter(needed).map(|job| job.id.clone()).collect()
}

/// The root filesystems of a job and of its services: different images at the same time, one that several have once, and then
/// in silence from the store.
async fn all_roots(
    images: &Images<'_>,
    job: &JobPlan,
    user: Option<&User>,
    feed: &Feed,
) -> Result<(Rootfs, Vec<Rootfs>), RunError> {
    let of_services = job.services.iter().map(|service| (&service.image, service.user.as_ref()));
    let wanted: Vec<_> = std::iter::once((&job.image, user)).chain(of_services).collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, (image, _)) in wanted.iter().enumerate() {
        match groups.iter_mut().find(|group| wanted[group[0]].0 == *image) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    let silent = Feed::new(String::new(), None, Box::new(|_| {}));
    let obtain = async |group: Vec<usize>| {
        let mut roots = Vec::with_capacity(group.len());
        for (number, at) in group.into_iter().enumerate() {
            let (image, user) = wanted[at];
            let obtained = images.obtain(image, user, if number == 0 { feed } else { &silent }).await;
            let of = at.checked_sub(1).and_then(|at| job.services.get(at));
            let root = obtained.map_err(|error| match of {
                Some(service) => RunError::InService { name: service.name.clone(), error: Box::new(error) },
                None => error,
            })?;
            roots.push((at, root));
        }
        Ok::<_, RunError>(roots)
    };
    let mut roots: Vec<(usize, Rootfs)> =
        try_join_all(groups.into_iter().map(obtain)).await?.into_iter().flatten().collect();
    roots.sort_by_key(|(at, _)| *at);
    let mut roots = roots.into_iter().map(|(_, root)| root);
    // The job's own is always among them.
    let own = roots.next().ok_or(crate::sandbox::spawn::SandboxError::Lost)?;
    Ok((own, roots.collect()))
}

/// Whether a job's end changes what the run comes to: the first failure stays, and any end is more than none.
fn decides(so_far: Outcome, next: Outcome) -> bool {
    match so_far {
        Outcome::Skipped => true,
        Outcome::Success => next.is_failure(),
        Outcome::Cancelled => next.is_failure() && next != Outcome::Cancelled,
        Outcome::Failure
        | Outcome::Signal
        | Outcome::Timeout
        | Outcome::Oom
        | Outcome::Pids
        | Outcome::Leak
        | Outcome::Disk
        | Outcome::Error => false,
    }
}

/// A wish for an end that was not there before.
pub(super) fn gently(wish: &mut Cancel) -> bool {
    let first = *wish == Cancel::No;
    if first {
        *wish = Cancel::Gently;
    }
    first
}

/// The step whose end decided the job: the first one that counts as a failure, else the last that ran.
pub(super) fn deciding(steps: &[StepResult]) -> Option<&StepResult> {
    steps
        .iter()
        .find(|step| step.conclusion.is_failure())
        .or_else(|| steps.iter().rfind(|step| step.exit_code.is_some()))
}
