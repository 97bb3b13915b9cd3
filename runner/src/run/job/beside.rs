//! Steps that run beside those that follow: started and left, waited for, ended; and their results once they are over.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jobs::StepPlan;
use tokio::sync::watch;

use super::Job;
use super::ahead::{Ahead, Upper};
use super::steps::{OneStep, Ran, conclusion, skipped};
use super::trail::{Trail, Unrecorded};
use crate::cgroup::KmsgCursor;
use crate::outcome::{Outcome, StepResult};
use crate::run::error::RunError;
use crate::run::record::timestamp;
use crate::run::step::Cancel;
use crate::run::values::Values;

/// A step that has run beside others to its end.
struct Done<'f> {
    one: OneStep<'f>,
    ran: Result<Ran, RunError>,
}

/// A step on its way there.
type Course<'f> = Pin<Box<dyn Future<Output = Done<'f>> + 'f>>;

/// The steps of a job that run beside the one whose turn it is.
pub(super) struct Beside<'f> {
    running: FuturesUnordered<Course<'f>>,
    /// How each that runs is asked for an end, by its place.
    wishes: BTreeMap<usize, watch::Sender<Cancel>>,
    /// Those that were asked by a step, or by the job's end: that they obey is no failure.
    asked: BTreeSet<usize>,
    over: Vec<Done<'f>>,
    /// How those that are over count, as long as nobody has waited for them.
    ends: BTreeMap<usize, Outcome>,
    /// What the user wants.
    wish: watch::Receiver<Cancel>,
}

impl<'f> Beside<'f> {
    /// None yet.
    pub(super) fn new(wish: watch::Receiver<Cancel>) -> Self {
        Self {
            running: FuturesUnordered::new(),
            wishes: BTreeMap::new(),
            asked: BTreeSet::new(),
            over: Vec::new(),
            ends: BTreeMap::new(),
            wish,
        }
    }

    /// Does work while the others go on.
    pub(super) async fn with<T>(&mut self, work: impl Future<Output = T>) -> T {
        if self.running.is_empty() {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.go_on() => {}
            }
        }
    }

    /// Waits until one of them is over, or the user wants something.
    async fn go_on(&mut self) {
        tokio::select! {
            Some(done) = self.running.next() => {
                self.wishes.remove(&done.one.index);
                self.over.push(done);
            }
            Ok(()) = self.wish.changed() => {
                let wish = *self.wish.borrow_and_update();
                for step in self.wishes.values() {
                    step.send_replace(wish);
                }
            }
            else => std::future::pending().await,
        }
    }

    /// Asks a step for an end, if it still runs.
    fn ask(&mut self, index: usize) {
        if let Some(step) = self.wishes.get(&index) {
            self.asked.insert(index);
            step.send_if_modified(|wish| {
                let first = *wish == Cancel::No;
                if first {
                    *wish = Cancel::Gently;
                }
                first
            });
        }
    }

    /// Waits until none of these runs any more.
    async fn ended(&mut self, indices: &[usize]) {
        while indices.iter().any(|index| self.wishes.contains_key(index)) {
            self.go_on().await;
        }
    }
}

impl Job<'_> {
    /// Starts a step and leaves it to itself.
    pub(super) fn begin_beside<'f>(&'f self, one: OneStep<'f>, ready: Ahead, beside: &mut Beside<'f>) {
        // What the user wanted before it began does not concern it.
        beside.wish.borrow_and_update();
        let (wish, cancel) = watch::channel(Cancel::No);
        beside.wishes.insert(one.index, wish);
        let one = OneStep { cancel, ..one };
        beside.running.push(Box::pin(async move {
            let mut kmsg = KmsgCursor::open();
            let ran = self.attempts(&one, ready, kmsg.as_mut(), None, None).await;
            Done { one, ran }
        }));
    }

    /// Takes what those that are over hand on, and records them.
    pub(super) fn settle_beside(&self, beside: &mut Beside<'_>, values: &mut Values, trail: &mut Trail<'_>) {
        for Done { one, ran } in std::mem::take(&mut beside.over) {
            let asked = beside.asked.contains(&one.index);
            match ran.and_then(|ran| self.settle_one(&one, ran, asked, values, trail)) {
                Ok(conclusion) => {
                    beside.ends.insert(one.index, conclusion);
                }
                Err(error) => trail.fail(one.step, error, &self.plan.id, self.feed),
            }
        }
    }

    /// Returns how it counts.
    fn settle_one(
        &self,
        one: &OneStep<'_>,
        ran: Ran,
        asked: bool,
        values: &mut Values,
        trail: &mut Trail<'_>,
    ) -> Result<Outcome, RunError> {
        trail.record(&self.plan.id, self.feed)?;
        let Ran { prepared, directory, mut result } = ran;
        let handed = self.hand_on(one, &prepared, values, &directory, &mut result)?;
        if asked && result.outcome == Outcome::Cancelled {
            result.conclusion = Outcome::Success;
        }
        result.kept = self.keeps(one, &prepared, result.outcome, trail.end);
        let keep = if result.kept { Upper::Kept } else { Upper::Removed };
        let mut unrecorded = Unrecorded { directory, result, sandbox: Some((prepared, keep)) };
        unrecorded.take_apart(trail.ending);
        trail.end.artifacts.extend(self.step_artifacts(one, &mut unrecorded.result)?);
        self.step_reports(one, &mut unrecorded.result, trail.end)?;
        let (outcome, conclusion) = (unrecorded.result.outcome, unrecorded.result.conclusion);
        values.ended(one.step, outcome, conclusion, &handed.outputs);
        trail.unrecorded = Some(unrecorded);
        trail.record(&self.plan.id, self.feed)?;
        Ok(conclusion)
    }

    /// A step that runs nothing: it waits for others, having asked them for an end if it is one that cancels, and ends as the
    /// first of them that failed; or the steps within it have their turn now.
    pub(super) async fn wait_for(
        &self,
        one: &OneStep<'_>,
        beside: &mut Beside<'_>,
        values: &mut Values,
        trail: &mut Trail<'_>,
    ) -> Result<(), RunError> {
        trail.record(&self.plan.id, self.feed)?;
        self.say_started(one.step, 1);
        let (started, clock) = (timestamp(), Instant::now());
        let indices = self.places(one.step);
        if matches!(one.step.command, jobs::Command::Cancel(_)) {
            indices.iter().for_each(|index| beside.ask(*index));
        }
        beside.ended(&indices).await;
        self.settle_beside(beside, values, trail);
        let entered = values.enter(one.step);
        let mut result = StepResult { outcome: Outcome::Success, started, attempts: 1, ..skipped(one.step) };
        if let Err(unsettled) = entered {
            (result.outcome, result.cause) = (Outcome::Failure, Some(unsettled.to_string()));
        }
        for index in indices {
            let Some(end) = beside.ends.remove(&index).filter(|end| end.is_failure()) else { continue };
            if result.outcome == Outcome::Success {
                let id = &self.plan.steps[index].id;
                (result.outcome, result.cause) = (end, Some(format!("step `{id}` ended so")));
            }
        }
        result.usage.wall_s = clock.elapsed().as_secs_f64();
        result.ended = timestamp();
        result.conclusion = conclusion(one.turn.forgiving, result.outcome);
        values.ended(one.step, result.outcome, result.conclusion, &[]);
        if trail.end.outcome == Outcome::Success {
            trail.end.outcome = result.conclusion;
        }
        self.say_ended(one.step, &result);
        trail.end.steps.push(result);
        Ok(())
    }

    /// The places of the steps that a step waits for or ends.
    fn places(&self, step: &StepPlan) -> Vec<usize> {
        let ids: &[String] = match &step.command {
            jobs::Command::Wait(ids) => ids,
            jobs::Command::Cancel(id) => std::slice::from_ref(id),
            jobs::Command::Script { .. } | jobs::Command::Argv(_) | jobs::Command::Uses { .. } => &[],
        };
        ids.iter().filter_map(|id| self.plan.steps.iter().position(|other| other.id == *id)).collect()
    }

    /// The job's last step is over: those that still run are ended, and a failure that nobody has waited for counts.
    pub(super) async fn end_beside(
        &self,
        beside: &mut Beside<'_>,
        values: &mut Values,
        trail: &mut Trail<'_>,
    ) {
        let running: Vec<usize> = beside.wishes.keys().copied().collect();
        if !running.is_empty()
            && let Err(error) = trail.record(&self.plan.id, self.feed)
        {
            // Told with the job, not with a step: all of them have ended, or are ending.
            trail.end.outcome = Outcome::Error;
            trail.end.error.get_or_insert(error);
        }
        running.iter().for_each(|index| beside.ask(*index));
        beside.ended(&running).await;
        self.settle_beside(beside, values, trail);
        for end in beside.ends.values().filter(|end| end.is_failure()) {
            if trail.end.outcome == Outcome::Success {
                trail.end.outcome = *end;
            }
        }
        // Each was recorded when it was over.
        trail.end.steps.sort_by_key(|step| step.index);
    }
}
