//! One job from its plan to its end: image, room, steps in order, artifacts, clean-up.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use images::Rootfs;
use jobs::expression::Value;
use jobs::{JobPlan, Workspace as PlanWorkspace};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::artifacts;
use super::errands::Servants;
use super::error::RunError;
use super::feed::Feed;
use super::git;
use super::identity::Lease;
use super::inside::Inside;
use super::kept::Kept;
use super::record::{ArtifactRecord, RunDirectory};
use super::reports::{Gathered, Tally};
use super::room::{self, OpenStage, Plans, Room};
use super::secrets::Secrets;
use super::services::{Company, Service};
use super::step::Cancel;
use super::step_files::Handed;
use super::traces::{self, Ledger, Traces, Used, UsedTree};
use super::workspace::Workspace;
use crate::cgroup::Hierarchy;
use crate::event::What;
use crate::outcome::{CacheRecord, Keep, Outcome, ServiceResult, StepResult};
use crate::sandbox::ids::Identity;
use crate::sandbox::sweep::Since;
use crate::sandbox::zygote::Zygote;

mod ahead;
mod attempts;
mod beside;
mod caches;
mod harvest;
mod hidden;
mod limit;
mod reports;
mod services;
mod steps;
mod trail;
mod watched;

pub use attempts::counts;
pub use steps::skipped;

/// What a job needs from the one who runs it.
pub struct Job<'j> {
    /// The plan.
    pub plan: &'j JobPlan,
    /// Its root filesystem.
    pub rootfs: &'j Rootfs,
    /// Directory of the job file: mounts start here.
    pub base: &'j Path,
    /// The workspace when it is used in place.
    pub root: &'j Path,
    /// The jobs whose artifacts it gets, by their ids, in the order of the plan.
    pub producers: Vec<String>,
    /// What steps before its first one have handed on.
    pub inherited: &'j Handed,
    /// The home directory.
    pub home: &'j Path,
    /// The run's records.
    pub run: &'j RunDirectory,
    /// Where it is written down what the jobs leave.
    pub ledger: &'j Ledger<'j>,
    /// Names its cgroup and its private directory: unique on this machine.
    pub unit: String,
    /// Its number among the run's jobs, from 0.
    pub number: usize,
    /// The attempt at all of it, from 1.
    pub attempt: u32,
    /// Who starts processes.
    pub zygote: &'j Zygote,
    /// Whose ids they have.
    pub lease: &'j Lease,
    /// Where cgroups go.
    pub hierarchy: &'j Hierarchy,
    /// What the steps read.
    pub stdin: &'j OwnedFd,
    /// Where events go.
    pub feed: &'j Feed,
    /// The user's wish.
    pub cancel: RefCell<watch::Receiver<Cancel>>,
    /// What steps may be shown, and nobody else.
    pub secrets: &'j Secrets,
    /// Artifacts may have them in them.
    pub secrets_in_artifacts: bool,
    /// What the attempts at steps said of their tests, by the step's number from 0.
    pub tallies: RefCell<HashMap<usize, Tally>>,
    /// Of which steps the root filesystem is kept.
    pub keep: Keep,
    /// Where an earlier step left off, if this is a look at that.
    pub inside: Option<&'j Inside>,
    /// The contexts of the plan and the run.
    pub contexts: Vec<(&'static str, Value)>,
    /// What runs beside its steps.
    pub services: Vec<Service<'j>>,
    /// How that stands.
    pub company: Company,
}

/// How a job ended.
#[derive(Debug)]
pub struct JobEnd {
    /// The first outcome that was not a success.
    pub outcome: Outcome,
    /// All steps, those that never ran as `skipped`.
    pub steps: Vec<StepResult>,
    /// Its failure does not count.
    pub forgiving: bool,
    /// Values for the jobs that need this one.
    pub outputs: Vec<(String, String)>,
    /// What was collected.
    pub artifacts: Vec<ArtifactRecord>,
    /// What its reports say.
    pub reports: Gathered,
    /// How its services ended.
    pub services: Vec<ServiceResult>,
    /// What became of its caches.
    pub caches: Vec<CacheRecord>,
    /// Why our own part failed, after which nothing more was started.
    pub error: Option<RunError>,
    /// The steps of which the root filesystem is kept, and where it is in the job's private directory.
    pub kept: Vec<(String, String)>,
    /// What has to be taken apart.
    pub rest: Rest,
    /// What could not be, in words.
    pub left: Vec<String>,
}

impl JobEnd {
    /// How it counts: forgiven is what the job did, not that somebody stopped it or that our part failed.
    pub fn conclusion(&self) -> Outcome {
        let ours = self.error.is_some() || self.outcome == Outcome::Cancelled;
        if self.forgiving && self.outcome.is_failure() && !ours { Outcome::Success } else { self.outcome }
    }

    /// A job of this outcome that has done nothing.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            forgiving: false,
            steps: Vec::new(),
            outputs: Vec::new(),
            artifacts: Vec::new(),
            reports: Gathered::default(),
            services: Vec::new(),
            caches: Vec::new(),
            error: None,
            kept: Vec::new(),
            rest: Rest::default(),
            left: Vec::new(),
        }
    }
}

/// What is left of a job when everything about it is known: taken apart while the last record is written.
#[derive(Debug, Default)]
pub struct Rest {
    room: Option<Room>,
    ending: JoinSet<()>,
    scratch: Option<Scratch>,
    kept: Option<Kept>,
}

/// A private directory to be removed, with whose rights.
#[derive(Debug)]
struct Scratch {
    unit: String,
    identity: Identity,
    user: (u32, u32),
}

impl Rest {
    /// Waits for the end of what used it, and returns the private directory of the step that was kept last, which is the
    /// caller's now.
    pub async fn take_upper(&mut self, home: &Path) -> Option<PathBuf> {
        let kept = self.kept.take()?;
        if let Some(room) = &self.room {
            room.dismiss();
        }
        while self.ending.join_next().await.is_some() {}
        let (_, name) = kept.steps.last()?;
        Some(kept.directory(home).join(name))
    }

    /// The steps' user inside.
    pub fn user(&self) -> (u32, u32) {
        self.scratch.as_ref().map_or((0, 0), |scratch| scratch.user)
    }

    /// Nothing of it is to be kept: it is tried again.
    pub fn keep_nothing(&mut self) {
        self.kept = None;
    }

    /// Takes it apart. Returns what could not be, in words.
    pub async fn clear(mut self, home: &Path, zygote: &Zygote) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(room) = &self.room {
            room.dismiss();
        }
        while self.ending.join_next().await.is_some() {}
        if let Some(room) = self.room
            && let Err(error) = room.close().await
        {
            left.push(format!("cannot clean up: {error}"));
        }
        if let Some(kept) = self.kept {
            match kept.keep(home, zygote) {
                Ok(failed) => left.extend(failed.into_iter().map(|text| format!("cannot clean up: {text}"))),
                Err(error) => left.push(format!("cannot keep what step left: {error}")),
            }
        } else if let Some(Scratch { unit, identity, user }) = self.scratch {
            let removed = traces::remove_scratch(home, &Servants { zygote, identity, user }, &unit);
            left.extend(removed.err().map(|text| format!("cannot clean up: {text}")));
        }
        left
    }
}

impl Job<'_> {
    /// Runs the job on a stage opened for it. What it leaves is in [`JobEnd::rest`].
    ///
    /// # Errors
    /// When not even its traces could be written down. Later errors are in [`JobEnd::error`].
    pub async fn run(self, stage: OpenStage) -> Result<JobEnd, RunError> {
        let all = self.home.join("scratch");
        let scratch = all.join(&self.unit);
        let mut traces = Traces {
            cgroups: self.hierarchy.paths(&self.unit)?,
            scratch: Some(self.unit.clone()),
            used: None,
        };
        // Before anything is made: a run can be killed at any moment.
        self.ledger.leave(&self.plan.id, traces.clone())?;
        // Private: what lies below has set-uid files and other users' directories.
        DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(RunError::io("create", &all))?;
        room::make_directory(&scratch).map_err(RunError::io("create", &scratch))?;
        spread(&all);
        let mut end = JobEnd::new(Outcome::Success);
        if let Err(error) = self.in_scratch(stage, &scratch, &mut traces, &mut end).await {
            end.outcome = Outcome::Error;
            end.error = Some(error);
        }
        let user = traces.used.as_ref().map_or((0, 0), |used| used.user);
        let unit = self.unit.clone();
        end.rest.kept = (!end.kept.is_empty()).then(|| self.kept(std::mem::take(&mut end.kept), user));
        end.rest.scratch = Some(Scratch { unit, identity: self.lease.identity, user });
        Ok(end)
    }

    fn kept(&self, steps: Vec<(String, String)>, user: (u32, u32)) -> Kept {
        Kept {
            run: self.run.id().to_owned(),
            job: self.plan.id.clone(),
            scratch: self.unit.clone(),
            identity: self.lease.identity,
            user,
            base: self.base.to_path_buf(),
            workspace: Kept::own_workspace(self.plan.workspace),
            steps,
        }
    }

    async fn in_scratch(
        &self,
        stage: OpenStage,
        scratch: &Path,
        traces: &mut Traces,
        end: &mut JobEnd,
    ) -> Result<(), RunError> {
        let since = Since::now();
        let workspace = self.open_workspace(scratch)?;
        self.take_artifacts(&workspace)?;
        let uses = self.restore_caches(&workspace, scratch, end)?;
        let plans = Plans {
            job: self.plan,
            rootfs: self.rootfs,
            workspace: &workspace,
            base: self.base,
            home: self.home,
            scratch,
            identity: self.lease.identity,
            unit: &self.unit,
            number: self.number,
            since,
            secrets: self.secrets,
            above: self.inside.and_then(|inside| inside.upper.as_deref()),
            services: &self.services,
            caches: &uses,
        };
        let mut used =
            Used { identity: self.lease.identity, user: (0, 0), since, trees: self.trees(&workspace)? };
        // Before anything can change there, and again when the user is known.
        traces.used = Some(used.clone());
        self.ledger.leave(&self.plan.id, traces.clone())?;
        let room = Room::open(self.zygote, stage, self.hierarchy, &plans)?;
        used.user = room.users.first().map_or((0, 0), |user| (user.uid, user.gid));
        if used.user != (0, 0) {
            traces.used = Some(used.clone());
            self.ledger.leave(&self.plan.id, traces.clone())?;
        }
        for (text, hint) in room.warnings.clone() {
            self.warn(None, text, hint);
        }
        let mut ending = JoinSet::new();
        self.among_services(&room, &workspace, &used, end, &mut ending).await?;
        // Meanwhile the kernel takes the last sandbox apart.
        self.finish(&workspace, &used, &room, end);
        self.save_caches(&uses, scratch, used.user, end).await;
        (end.rest.room, end.rest.ending) = (Some(room), ending);
        Ok(())
    }

    fn open_workspace(&self, scratch: &Path) -> Result<Workspace, RunError> {
        let root = self.root;
        let at = scratch.join("workspace");
        if let Some(kept) = self.inside.and_then(|inside| inside.workspace.as_deref()) {
            return Ok(Workspace::open(kept)?);
        }
        Ok(match self.plan.workspace {
            PlanWorkspace::InPlace => Workspace::open(root)?,
            PlanWorkspace::Copy => Workspace::copy(root, &at, self.home)?,
            PlanWorkspace::Git => {
                git::checkout(root, &at)?;
                Workspace::open(&at)?
            }
            PlanWorkspace::Empty => Workspace::empty(&at)?,
        })
    }

    /// Puts what the needed jobs have collected where it came from, in a workspace of the job's own: in one that they share it
    /// is there already.
    fn take_artifacts(&self, workspace: &Workspace) -> Result<(), RunError> {
        if self.producers.is_empty() || !Kept::own_workspace(self.plan.workspace) {
            return Ok(());
        }
        let place = (&workspace.handle, workspace.path.as_path());
        artifacts::hand_on(&self.run.artifacts_path(), &self.producers, place)?;
        Ok(())
    }

    /// What of the host the steps can change.
    fn trees(&self, workspace: &Workspace) -> Result<Vec<UsedTree>, RunError> {
        let of_services = self.plan.services.iter().flat_map(|service| &service.mounts);
        let mounts = self.plan.mounts.iter().chain(of_services).filter(|mount| !mount.read_only);
        let mut trees = Vec::new();
        for path in
            std::iter::once(workspace.path.clone()).chain(mounts.map(|mount| self.base.join(&mount.host)))
        {
            let wrong = |source| RunError::Mount { path: path.clone(), source };
            let canonical = fs::canonicalize(&path).map_err(wrong)?;
            trees.push(UsedTree::at(&canonical).map_err(wrong)?);
        }
        Ok(trees)
    }
    fn warn(&self, code: Option<&str>, text: String, hint: Option<String>) {
        let what = What::Warning { code: code.map(str::to_owned), text, hint };
        self.feed.send(Some(&self.plan.id), None, what);
    }
}

/// ext4 then spreads new directories over the disk: creating files where many were just deleted is several times slower.
fn spread(directory: &Path) {
    if let Ok(handle) = fs::File::open(directory)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&handle)
    {
        let _other_filesystem = rustix::fs::ioctl_setflags(&handle, flags | rustix::fs::IFlags::TOPDIR);
    }
}
