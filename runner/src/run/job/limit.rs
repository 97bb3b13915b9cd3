//! When the steps of a job have to be over.

use std::time::{Duration, Instant};

use crate::run::verdict::Stopped;

/// Time for the steps that run after a cancel or the job's timeout, all together.
const CLEANUP: Duration = Duration::from_secs(60);

/// When all steps have to be over, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(pub(super) (Instant, Stopped));

impl Limit {
    pub(super) fn of_the_job(began: Instant, timeout: Duration) -> Self {
        Self((began + timeout, Stopped::JobTimeout(timeout)))
    }

    pub(super) fn has_passed(self) -> bool {
        Instant::now() >= self.0.0
    }

    /// From the first step on that runs in spite of the end.
    pub(super) fn begin_cleanup(&mut self) {
        if !matches!(self.0.1, Stopped::Cleanup(_)) {
            self.0 = (Instant::now() + CLEANUP, Stopped::Cleanup(CLEANUP));
        }
    }
}

/// The earlier of the step's deadline and the limit of all, and whose it is.
pub(super) fn deadline(step: Option<Duration>, limit: (Instant, Stopped)) -> (Instant, Stopped) {
    match step.map(|timeout| (Instant::now() + timeout, Stopped::StepTimeout(timeout))) {
        Some((at, why)) if at <= limit.0 => (at, why),
        _ => limit,
    }
}
