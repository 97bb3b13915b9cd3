//! What a job leaves: artifacts, and the workspace back to its owner.

use std::os::fd::AsFd as _;

use jobs::{StepPlan, When};

use super::steps::{OneStep, conclusion};
use super::{Job, JobEnd};
use crate::event::What;
use crate::outcome::{Outcome, StepResult};
use crate::run::artifacts::{self, ArtifactError, ArtifactLimits, CollectRequest, Patterns};
use crate::run::error::RunError;
use crate::run::record::ArtifactRecord;
use crate::run::room::Room;
use crate::run::traces::Used;
use crate::run::workspace::Workspace;

impl Job<'_> {
    /// Collects what the step names. One that is missing makes a failure of a success (E261).
    pub(super) fn step_artifacts(
        &self,
        one: &OneStep<'_>,
        result: &mut StepResult,
    ) -> Result<Vec<ArtifactRecord>, RunError> {
        let success = result.outcome == Outcome::Success;
        let (records, problem) =
            self.collect(&one.step.artifacts, Some(one.step), success, one.workspace, (one.used, one.room));
        match problem {
            Some(error) if error.is_failure_of_step() => {
                if success {
                    result.outcome = if error.is_leak() { Outcome::Leak } else { Outcome::Failure };
                    result.conclusion = conclusion(one.turn.forgiving, result.outcome);
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
    pub(super) fn finish(&self, workspace: &Workspace, used: &Used, room: &Room, end: &mut JobEnd) {
        let success = end.outcome == Outcome::Success && end.error.is_none();
        self.hand_back(used);
        let plan = self.plan;
        let (records, problem) = self.collect(&plan.artifacts, None, success, workspace, (used, room));
        end.artifacts.extend(records);
        if let Some(error) = problem {
            self.warn(error.code(), error.to_string(), error.hint());
            let ours = !error.is_failure_of_step();
            if end.outcome == Outcome::Success {
                end.outcome = match ours {
                    true => Outcome::Error,
                    false if error.is_leak() => Outcome::Leak,
                    false => Outcome::Failure,
                };
            }
            if ours {
                end.error.get_or_insert(error.into());
            }
        }
        self.job_reports(workspace, room, end);
        if room.workspace_was_given {
            self.hand_back(used);
        }
    }

    pub(super) fn hand_back(&self, used: &Used) {
        for left in used.hand_back(self.zygote) {
            self.warn(None, format!("cannot hand back what steps gave away: {left}"), None);
        }
    }

    /// Collects artifacts after a step, or after all of them, up to the first problem.
    fn collect(
        &self,
        wanted: &[jobs::ArtifactPlan],
        step: Option<&StepPlan>,
        success: bool,
        workspace: &Workspace,
        (used, room): (&Used, &Room),
    ) -> (Vec<ArtifactRecord>, Option<ArtifactError>) {
        let due = |artifact: &&jobs::ArtifactPlan| match artifact.when {
            When::Always => true,
            When::Success => success,
            When::Failure => !success,
        };
        let mut records = Vec::new();
        let over = if wanted.is_empty() { Vec::new() } else { self.caches_in_workspace(room) };
        for (index, artifact) in wanted.iter().filter(due).enumerate() {
            if index == 0 && step.is_some() && self.lease.identity.is_subids() {
                self.hand_back(used);
            }
            let step_id = step.map(|step| step.id.as_str());
            let collected = artifacts::collect(&CollectRequest {
                workspace: workspace.handle.as_fd(),
                over: &over,
                name: &artifact.name,
                patterns: &Patterns::new(&artifact.paths),
                optional: artifact.optional,
                destination: &self.run.artifacts_path(),
                job: &self.plan.id,
                step: step_id,
                owner: None,
                limits: ArtifactLimits::default(),
                report: false,
                secrets: (!self.secrets_in_artifacts).then_some(self.secrets),
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
}
