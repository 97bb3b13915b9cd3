//! The reports of a job and its steps: copied out of the workspace, read, and summed up.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use jobs::{ReportKind, ReportPlan};

use super::steps::{OneStep, conclusion};
use super::{Job, JobEnd};
use crate::event::{FailedTest, What};
use crate::outcome::{Outcome, StepResult};
use crate::run::artifacts::{self, ArtifactError, ArtifactLimits, CollectRequest, Collected, Patterns};
use crate::run::error::RunError;
use crate::run::record::ArtifactRecord;
use crate::run::reports::{Gathered, Tally, TestOutcome, gather};
use crate::run::room::Room;
use crate::run::workspace::Workspace;

/// What of a workspace is taken for a report: far more than any tool writes.
const LIMITS: ArtifactLimits = ArtifactLimits { files_max: 5_000, bytes_max: 512 << 20, depth_max: 128 };
/// Failed tests that are named at once.
const FAILED_SHOWN_MAX: usize = 10;
/// Characters of what is said of each.
const SHOWN_CHARS_MAX: usize = 300;

/// Where reports are looked for.
struct Ground<'g> {
    workspace: &'g Workspace,
    /// The caches in it.
    over: Vec<(String, OwnedFd)>,
}

impl Job<'_> {
    fn ground<'g>(&self, workspace: &'g Workspace, room: &Room, wanted: &[ReportPlan]) -> Ground<'g> {
        let over = if wanted.is_empty() { Vec::new() } else { self.caches_in_workspace(room) };
        Ground { workspace, over }
    }

    /// Reads and keeps a step's reports. What is wrong with them is a warning, but for a secret in one.
    pub(super) fn step_reports(
        &self,
        one: &OneStep<'_>,
        result: &mut StepResult,
        end: &mut JobEnd,
    ) -> Result<(), RunError> {
        if one.step.reports.is_empty() {
            return Ok(());
        }
        if self.lease.identity.is_subids() {
            self.hand_back(one.used);
        }
        let tally = self.tallies.borrow_mut().remove(&one.index).unwrap_or_default();
        let ground = self.ground(one.workspace, one.room, &one.step.reports);
        let leak = self.reports(&one.step.reports, Some(&one.step.id), &ground, tally, end)?;
        if let Some(error) = leak.filter(|_| result.outcome == Outcome::Success) {
            result.outcome = Outcome::Leak;
            result.conclusion = conclusion(one.turn.forgiving, Outcome::Leak);
            (result.cause, result.remedy) = (Some(format!("error[E310]: {error}")), error.hint());
        }
        Ok(())
    }

    /// The job's own reports, and a line about all of them.
    pub(super) fn job_reports(&self, workspace: &Workspace, room: &Room, end: &mut JobEnd) {
        let ground = self.ground(workspace, room, &self.plan.reports);
        match self.reports(&self.plan.reports, None, &ground, Tally::default(), end) {
            Ok(Some(error)) => {
                self.warn(error.code(), error.to_string(), error.hint());
                if end.outcome == Outcome::Success {
                    end.outcome = Outcome::Leak;
                }
            }
            Ok(None) => {}
            Err(error) => {
                end.outcome = Outcome::Error;
                end.error.get_or_insert(error);
            }
        }
        if !end.reports.is_empty() {
            self.feed.send(Some(&self.plan.id), None, self.told(&end.reports));
        }
    }

    /// What an attempt at a step says of its tests, before the next one begins: a test that failed here and passes there is
    /// flaky. Nothing of it is kept.
    pub(super) fn attempt_reports(&self, one: &OneStep<'_>) {
        let tests = one.step.reports.iter().filter(|report| report.kind == ReportKind::Junit);
        let mut tallies = self.tallies.borrow_mut();
        let tally = tallies.entry(one.index).or_default();
        let place = self.run.path().join(format!(".attempt-{}-{}", self.number, one.index));
        let ground = self.ground(one.workspace, one.room, &one.step.reports);
        for report in tests {
            if let Ok(collected) = self.copied(report, Some(&one.step.id), &ground, &place) {
                let from = place.join(&report.artifact.name);
                // It is told when the last attempt's is read, if it is still so then.
                let _faults = gather(report.kind, &from, &collected, tally, &mut Gathered::default());
            }
            let _nothing_more = fs::remove_dir_all(&place);
        }
    }

    fn copied(
        &self,
        report: &ReportPlan,
        step: Option<&str>,
        ground: &Ground<'_>,
        place: &Path,
    ) -> Result<Collected, ArtifactError> {
        use std::os::fd::AsFd as _;
        artifacts::collect(&CollectRequest {
            workspace: ground.workspace.handle.as_fd(),
            over: &ground.over,
            name: &report.artifact.name,
            patterns: &Patterns::new(&report.artifact.paths),
            optional: true,
            destination: place,
            job: &self.plan.id,
            step,
            owner: None,
            limits: LIMITS,
            report: true,
            secrets: (!self.secrets_in_artifacts).then_some(self.secrets),
        })
    }

    /// Reads and keeps reports. Returns that a secret was in one; nothing more is read then.
    fn reports(
        &self,
        wanted: &[ReportPlan],
        step: Option<&str>,
        ground: &Ground<'_>,
        mut tally: Tally,
        end: &mut JobEnd,
    ) -> Result<Option<ArtifactError>, RunError> {
        let mut leak = None;
        for report in wanted {
            let place = self.run.artifacts_path();
            match self.copied(report, step, ground, &place) {
                Ok(collected) if collected.files > 0 => {
                    let name = report.artifact.name.clone();
                    let faults =
                        gather(report.kind, &place.join(&name), &collected, &mut tally, &mut end.reports);
                    for (path, error) in faults {
                        let text = format!("cannot read `{path}` as {}: {error}", kind_in_words(report.kind));
                        let hint = "it is kept as it is; docs/job-file.md says what is understood".to_owned();
                        self.warn(Some("W462"), text, Some(hint));
                    }
                    let (files, bytes) = (collected.files, collected.bytes);
                    let (job, of) = (self.plan.id.clone(), step.map(str::to_owned));
                    end.artifacts.push(ArtifactRecord { name: name.clone(), job, step: of, files, bytes });
                    self.feed.send(Some(&self.plan.id), step, What::Artifact { name, files, bytes });
                }
                Ok(_) => self.nothing_there(report, step, ground.workspace),
                Err(error) if error.is_leak() => {
                    leak = Some(error);
                    break;
                }
                Err(error) if error.is_failure_of_step() => {
                    self.warn(Some("W462"), format!("no report was read: {error}"), error.hint());
                }
                Err(error) => return Err(error.into()),
            }
        }
        end.reports.settle(tally);
        Ok(leak)
    }

    fn nothing_there(&self, report: &ReportPlan, step: Option<&str>, workspace: &Workspace) {
        use std::os::fd::AsFd as _;
        let patterns = Patterns::new(&report.artifact.paths);
        let of = step.map(|step| format!(" of step {step}")).unwrap_or_default();
        let text = format!(
            "nothing in the workspace matches `reports.{}`{of}: {}",
            report.kind.as_str(),
            patterns.show()
        );
        self.warn(Some("W461"), text, Some(patterns.nearest(workspace.handle.as_fd())));
    }

    /// The event about all reports of the job.
    fn told(&self, reports: &Gathered) -> What {
        let shown = |text: &str| {
            let text: String =
                text.lines().next().unwrap_or_default().chars().take(SHOWN_CHARS_MAX).collect();
            self.secrets.masked(&text).into_owned()
        };
        let failed = reports.cases.iter().filter(|case| case.outcome == TestOutcome::Failed);
        let failed = failed.take(FAILED_SHOWN_MAX).map(|case| FailedTest {
            name: shown(&case.full_name()),
            message: case.message.as_deref().map(shown),
            file: case.file.as_deref().map(shown),
            line: case.line,
        });
        What::Reports {
            tests: reports.tests,
            failed: failed.collect(),
            coverage: reports.coverage,
            findings: reports.findings,
        }
    }
}

fn kind_in_words(kind: ReportKind) -> &'static str {
    match kind {
        ReportKind::Junit => "JUnit's XML",
        ReportKind::Coverage => "coverage",
        ReportKind::Sarif => "SARIF",
    }
}
