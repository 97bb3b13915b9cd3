//! What is behind the steps: results, of which the last one is recorded while the next step's command runs already.

use jobs::StepPlan;
use tokio::task::JoinSet;

use super::JobEnd;
use super::ahead::{Upper, throw_away};
use super::steps::skipped;
use crate::event::What;
use crate::outcome::{Outcome, StepResult, Usage};
use crate::run::error::RunError;
use crate::run::feed::Feed;
use crate::run::record::StepDirectory;
use crate::run::room::Prepared;

/// Where the job stands.
pub(super) struct Trail<'e> {
    pub(super) end: &'e mut JobEnd,
    /// Sandboxes that are being taken apart.
    pub(super) ending: &'e mut JoinSet<()>,
    /// The step that has ended last.
    pub(super) unrecorded: Option<Unrecorded>,
}

/// A step that is over and judged, but neither recorded nor taken apart.
pub(super) struct Unrecorded {
    pub(super) directory: StepDirectory,
    pub(super) result: StepResult,
    pub(super) sandbox: Option<(Prepared, Upper)>,
}

impl Unrecorded {
    /// Reads what it has used, and ends its sandbox.
    pub(super) fn take_apart(&mut self, ending: &mut JoinSet<()>) {
        let Some((prepared, upper)) = self.sandbox.take() else { return };
        measure(&prepared, &mut self.result.usage);
        throw_away(prepared, upper, ending);
    }
}

/// Reads what a step has used as far as its cgroup knows better.
pub(super) fn measure(prepared: &Prepared, usage: &mut Usage) {
    let used = prepared.cgroup.usage();
    *usage = Usage {
        cpu_s: used.cpu_s.unwrap_or(usage.cpu_s),
        mem_peak: used.mem_peak,
        io_r: used.io_r.or(usage.io_r),
        io_w: used.io_w.or(usage.io_w),
        pids_peak: used.pids_peak,
        throttled_s: used.throttled_s,
        ..*usage
    };
}

impl Trail<'_> {
    /// Records the step that has ended last.
    pub(super) fn record(&mut self, job: &str, feed: &Feed) -> Result<(), RunError> {
        let Some(mut unrecorded) = self.unrecorded.take() else { return Ok(()) };
        unrecorded.take_apart(self.ending);
        let Unrecorded { directory, result, .. } = unrecorded;
        let written = directory.write_result(&result);
        let what = What::StepEnd { result: Box::new(result.clone()) };
        feed.send(Some(job), Some(&result.id), what);
        self.end.steps.push(result);
        written?;
        feed.failure().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Our part failed in this step: nothing more starts.
    pub(super) fn fail(&mut self, step: &StepPlan, error: RunError, job: &str, feed: &Feed) {
        // Of two failures the first one is told.
        let _second = self.record(job, feed);
        let end = &mut *self.end;
        end.steps.push(errored(step, &error));
        end.outcome = Outcome::Error;
        end.error = Some(error);
    }
}

/// The result of a step in which our part failed.
pub(super) fn errored(step: &StepPlan, error: &RunError) -> StepResult {
    let mut result = skipped(step);
    (result.outcome, result.conclusion, result.attempts) = (Outcome::Error, Outcome::Error, 1);
    result.cause = Some(error.to_string());
    result.remedy = error.hint();
    result
}
