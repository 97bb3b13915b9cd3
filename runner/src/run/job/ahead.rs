//! What a step is given before its turn comes, while the step before it runs; and its taking apart.

use std::fs;
use std::path::Path;

use tokio::task::JoinSet;

use super::Job;
use crate::run::error::RunError;
use crate::run::record::StagedStep;
use crate::run::room::{Prepared, Room};
use crate::run::step::Ears;
use crate::sandbox::spawn::SandboxError;

/// What is made for a step before its turn: its sandbox, what it is heard by, and the place of its records.
pub(super) struct Ahead {
    pub(super) prepared: Prepared,
    pub(super) ears: Ears,
    pub(super) records: StagedStep,
}

impl Ahead {
    /// Its turn does not come.
    pub(super) fn throw_away(self, ending: &mut JoinSet<()>) {
        throw_away(self.prepared, Upper::Removed, ending);
    }
}

impl Job<'_> {
    /// Makes what a step needs and its turn does not decide. `attempt`: from 1.
    pub(super) fn ahead(&self, room: &Room, index: usize, attempt: u32) -> Result<Ahead, RunError> {
        // The sandbox builds itself meanwhile.
        let prepared = room.prepare(index, attempt)?;
        let step = self.plan.steps.get(index).ok_or(SandboxError::Lost)?;
        let records = self.run.stage_step(&self.plan.id, step.index, &step.id)?;
        if let jobs::Command::Script { text, .. } = &step.command {
            records.write_script(text.as_bytes())?;
        }
        let ears = Ears::open(Some(&prepared.cgroup))?;
        Ok(Ahead { prepared, ears, records })
    }
}

/// What becomes of an upper directory when its sandbox ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upper {
    /// Removed at once: a long job must not fill the disk.
    Removed,
    /// Left to the removal of the whole scratch directory, which follows.
    Kept,
}

/// Ends a sandbox off the path of the steps: init, cgroup, upper directory.
pub(super) fn throw_away(mut prepared: Prepared, upper: Upper, ending: &mut JoinSet<()>) {
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
