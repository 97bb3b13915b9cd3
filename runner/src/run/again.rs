//! A job that did not succeed and is tried again as a whole: whether, when, and what becomes of the attempt before.

use std::time::Duration;

use jobs::JobPlan;
use tokio::sync::watch;

use super::artifacts;
use super::conduct::{Conductor, deciding};
use super::error::RunError;
use super::job::{JobEnd, counts};
use super::record::{JobAttempt, timestamp};
use super::step::Cancel;
use crate::event::What;
use crate::outcome::Outcome;

/// How a job's attempt ended.
type Ended = Result<JobEnd, RunError>;

impl Conductor<'_> {
    /// Whether this attempt, counted from 1, is followed by another one.
    pub(super) fn is_tried_again(
        &self,
        job: &JobPlan,
        ended: &Ended,
        number: u32,
        cancel: &watch::Receiver<Cancel>,
    ) -> bool {
        let Some(retry) = job.retry.as_ref().filter(|retry| number <= retry.max) else { return false };
        let (outcome, exit_code) = match ended {
            // What the job file asks for in vain, it asks for in vain again.
            Err(error) if error.is_usage() => return false,
            Err(_) => (Outcome::Error, None),
            Ok(end) => (end.outcome, deciding(&end.steps).and_then(|step| step.exit_code)),
        };
        *cancel.borrow() == Cancel::No && counts(retry, outcome, exit_code)
    }

    /// Puts the attempt away and waits for the next one's time. Returns false when it must not begin: what the attempt left
    /// could not be cleaned up, or somebody wants an end.
    pub(super) async fn begins_again(
        &self,
        at: usize,
        ended: &mut Ended,
        number: u32,
        cancel: &watch::Receiver<Cancel>,
    ) -> bool {
        let job = &self.execution.plan.jobs[at];
        let Some(retry) = &job.retry else { return false };
        if matches!(ended, Ok(end) if !end.left.is_empty()) {
            return false;
        }
        let pause = retry.pause_after(number);
        let what = What::JobRetry {
            outcome: ended.as_ref().map_or(Outcome::Error, |end| end.outcome),
            attempt: number,
            attempts_max: retry.max + 1,
            pause_s: pause.as_secs_f64(),
        };
        self.feed.send(Some(&job.id), None, what);
        if !wait(pause, cancel.clone()).await {
            return false;
        }
        match self.put_away(at, ended, number) {
            Ok(()) => true,
            Err(error) => {
                *ended = Err(error);
                false
            }
        }
    }

    /// Keeps the records of an attempt beside the next one's, and drops what it collected.
    fn put_away(&self, at: usize, ended: &mut Ended, number: u32) -> Result<(), RunError> {
        let job = &self.execution.plan.jobs[at];
        let (outcome, steps) = (Outcome::Error, Vec::new());
        let services = Vec::new();
        let mut attempt = JobAttempt { outcome, cause: None, started: None, ended: None, steps, services };
        match ended {
            Ok(end) => {
                attempt.outcome = end.outcome;
                attempt.steps = std::mem::take(&mut end.steps);
                attempt.services = std::mem::take(&mut end.services);
                attempt.cause = end.error.take().map(|error| error.to_string());
                let names: Vec<String> = end.artifacts.drain(..).map(|artifact| artifact.name).collect();
                artifacts::discard(&self.run.artifacts_path(), &names)?;
            }
            Err(error) => attempt.cause = Some(error.to_string()),
        }
        self.run.keep_attempt(&job.id, number, &mut attempt.steps, &mut attempt.services)?;
        let now = timestamp();
        let mut record = self.record.borrow_mut();
        if let Some(record) = record.jobs.get_mut(at) {
            (attempt.started, attempt.ended) = (record.started.replace(now.clone()), Some(now));
            record.earlier.push(attempt);
        }
        Ok(self.run.write_run(&record)?)
    }
}

/// Returns false when somebody wants an end meanwhile.
async fn wait(pause: Duration, mut cancel: watch::Receiver<Cancel>) -> bool {
    tokio::select! {
        biased;
        _ = cancel.wait_for(|wish| *wish != Cancel::No) => false,
        () = tokio::time::sleep(pause) => true,
    }
}
