//! A step attempt by attempt: each in a sandbox and with a log of its own, up to one that counts.

use std::time::{Duration, Instant};

use jobs::{Retry, RetryOn};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Job;
use super::ahead::{Ahead, Upper, throw_away};
use super::steps::{OneStep, Ran};
use super::trail::{Trail, errored, measure};
use crate::cgroup::KmsgCursor;
use crate::event::What;
use crate::outcome::{Attempt, Outcome, StepResult};
use crate::run::error::RunError;
use crate::run::step::Cancel;

impl Job<'_> {
    /// Runs a step until an attempt succeeds, or must not be followed by another. Returns the last one.
    ///
    /// # Errors
    /// Why our own part failed in the last attempt.
    pub(super) async fn attempts(
        &self,
        one: &OneStep<'_>,
        mut ahead: Ahead,
        mut kmsg: Option<&mut KmsgCursor>,
        mut next: Option<&mut Option<Result<Ahead, RunError>>>,
        mut trail: Option<&mut Trail<'_>>,
    ) -> Result<Ran, RunError> {
        let mut earlier: Vec<Attempt> = Vec::new();
        // Of a step that runs beside others, here: they have their own.
        let mut own = JoinSet::new();
        for number in 1_u32.. {
            let tried = self
                .attempt(one, ahead, number, kmsg.as_deref_mut(), next.as_deref_mut(), trail.as_deref_mut())
                .await;
            let mut result = match &tried {
                Ok(ran) => ran.result.clone(),
                Err(error) => errored(one.step, error),
            };
            result.attempts = number;
            if let (Ok(ran), Some(_)) = (&tried, &one.step.retry) {
                measure(&ran.prepared, &mut result.usage);
            }
            if !self.is_tried_again(one, &result, number).await {
                own.detach_all();
                return tried.map(|ran| Ran { result: StepResult { earlier, ..result }, ..ran });
            }
            self.attempt_reports(one);
            let next_one = self.ahead(one.room, one.index, number + 1);
            if let Ok(ran) = tried {
                result.log.path = ran.directory.kept_log(number);
                ran.directory.write_result(&result)?;
                let ending = trail.as_deref_mut().map_or(&mut own, |trail| &mut *trail.ending);
                throw_away(ran.prepared, Upper::Removed, ending);
            }
            ahead = next_one?;
            ahead.records.keep_attempt(number)?;
            earlier.push(Attempt::of(result));
        }
        Err(crate::sandbox::spawn::SandboxError::Lost.into())
    }

    /// Decides whether there is another attempt, says so, and waits for its time.
    async fn is_tried_again(&self, one: &OneStep<'_>, result: &StepResult, number: u32) -> bool {
        let retry = one.step.retry.as_ref().filter(|retry| number <= retry.max);
        let Some(retry) = retry.filter(|retry| counts(retry, result.outcome, result.exit_code)) else {
            return false;
        };
        let pause = retry.pause_after(number);
        let ends = one.cancel.has_changed().unwrap_or(true) || one.falls.has_changed().unwrap_or(true);
        if Instant::now() + pause >= one.limit.0 || ends {
            return false;
        }
        let what = What::StepRetry {
            result: Box::new(result.clone()),
            attempts_max: retry.max + 1,
            pause_s: pause.as_secs_f64(),
        };
        self.feed.send(Some(&self.plan.id), Some(&one.step.id), what);
        let mut falls = one.falls.clone();
        tokio::select! {
            biased;
            _ = falls.changed() => false,
            waited = wait(pause, one.cancel.clone()) => waited,
        }
    }
}

/// Waits. Returns false when somebody wants an end meanwhile.
async fn wait(pause: Duration, mut cancel: watch::Receiver<Cancel>) -> bool {
    tokio::select! {
        biased;
        _ = cancel.changed() => false,
        () = tokio::time::sleep(pause) => true,
    }
}

/// Whether an end is one after which it is tried again.
pub fn counts(retry: &Retry, outcome: Outcome, exit_code: Option<u8>) -> bool {
    let kind = match outcome {
        Outcome::Success | Outcome::Skipped | Outcome::Cancelled | Outcome::Leak => return false,
        Outcome::Failure | Outcome::Pids | Outcome::Disk => RetryOn::Failure,
        Outcome::Signal => RetryOn::Signal,
        Outcome::Oom => RetryOn::Oom,
        Outcome::Timeout => RetryOn::Timeout,
        Outcome::Error => RetryOn::Infra,
    };
    let by_code =
        kind == RetryOn::Failure && exit_code.is_some_and(|code| retry.on.contains(&RetryOn::Exit(code)));
    by_code || retry.on.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ends_that_are_named_count() {
        let retry = |on: &[RetryOn]| Retry { max: 1, on: on.to_vec(), delay: Duration::ZERO, backoff: 1.0 };
        let sevens = retry(&[RetryOn::Exit(7), RetryOn::Exit(137)]);
        assert!(counts(&sevens, Outcome::Failure, Some(7)) && !counts(&sevens, Outcome::Failure, Some(8)));
        assert!(!counts(&sevens, Outcome::Signal, Some(137)), "a signal is no exit code");
        assert!(!counts(&sevens, Outcome::Timeout, Some(137)));
        let kinds = [
            (RetryOn::Failure, Outcome::Failure),
            (RetryOn::Failure, Outcome::Pids),
            (RetryOn::Failure, Outcome::Disk),
            (RetryOn::Signal, Outcome::Signal),
            (RetryOn::Oom, Outcome::Oom),
            (RetryOn::Timeout, Outcome::Timeout),
            (RetryOn::Infra, Outcome::Error),
        ];
        for (on, outcome) in kinds {
            for (other, _) in kinds {
                assert_eq!(counts(&retry(&[other]), outcome, None), on == other, "{outcome:?} by {other}");
            }
            for never in [Outcome::Success, Outcome::Skipped, Outcome::Cancelled] {
                assert!(!counts(&retry(&[on]), never, Some(0)));
            }
        }
    }
}
