//! `setup`: each entry's layer, from the store of layers or made now, by a job of its own with one step.

use std::cell::RefCell;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use images::Rootfs;
use jobs::{JobPlan, SetupPlan, Switch, Workspace};
use tokio::sync::watch;

use super::Conductor;
use crate::event::What;
use crate::outcome::{Keep, Outcome, Reused, StepResult};
use crate::run::artifacts::{self, CollectRequest, Patterns};
use crate::run::error::RunError;
use crate::run::hash_files::hash_files;
use crate::run::identity::Lease;
use crate::run::inside::Inside;
use crate::run::job::{self, Job, JobEnd};
use crate::run::room;
use crate::run::services::Company;
use crate::run::setup_layers::{Ingredients, Layer, Made, PASSING, SetupLayers, key};
use crate::run::step::Cancel;
use crate::run::step_files::Handed;

/// How long one waits between two looks at whether another run has made the layer.
const PAUSE: Duration = Duration::from_millis(100);

/// What a job's `setup` came to.
#[derive(Debug, Default)]
pub(super) struct SetUp {
    /// Held while the job runs.
    pub layers: Vec<Layer>,
    /// Those that no other run can use: the image has no digest.
    pub passing: Vec<Layer>,
    /// Each entry's end.
    pub results: Vec<StepResult>,
    /// One did not end well: the job is over.
    pub outcome: Option<Outcome>,
}

/// An entry, and what is known of it.
#[derive(Clone, Copy)]
struct Entry<'e> {
    index: usize,
    setup: &'e SetupPlan,
    /// The digest of what it reads.
    reads: &'e str,
    /// The key of its layer.
    known: &'e str,
    /// Other runs can use it: nobody else may be making it.
    shared: bool,
}

/// What the entries of one job share.
pub(super) struct Site<'s> {
    pub job: &'s JobPlan,
    pub at: usize,
    /// Names its cgroups and private directories.
    pub unit: String,
    pub attempt: u32,
    pub lease: &'s Rc<Lease>,
    pub cancel: watch::Receiver<Cancel>,
}

impl Conductor<'_> {
    /// Puts the layers of a job's `setup` over its image's.
    pub(super) async fn set_up(
        &self,
        site: &Site<'_>,
        rootfs: &mut Rootfs,
        set_up: &mut SetUp,
    ) -> Result<(), RunError> {
        let root = &self.execution.root;
        let mut parent = rootfs.digest.map(|digest| digest.to_string());
        for (index, setup) in site.job.setup.iter().enumerate() {
            if *site.cancel.borrow() != Cancel::No {
                set_up.outcome = Some(Outcome::Cancelled);
                break;
            }
            let project = File::open(root).map_err(RunError::io("open", root))?.into();
            let reads =
                if setup.reads.is_empty() { String::new() } else { hash_files(&project, &setup.reads)? };
            let ingredients = Ingredients {
                parent: parent.as_deref().unwrap_or_default(),
                reads: &reads,
                identity: site.lease.identity,
            };
            let known = match &parent {
                Some(_) => key(setup, &ingredients),
                // What an image without a digest holds can change at any time.
                None => format!("{PASSING}{}-{index}", site.unit),
            };
            let entry = Entry { index, setup, reads: &reads, known: &known, shared: parent.is_some() };
            let layer = self.layer(site, &entry, rootfs, set_up).await?;
            let Some(layer) = layer else { break };
            rootfs.layers.push(layer.path());
            match parent.as_mut() {
                Some(parent) => *parent = known,
                None => {
                    set_up.passing.push(layer);
                    continue;
                }
            }
            set_up.layers.push(layer);
        }
        Ok(())
    }

    /// An entry's layer. `None`: there is none, and the job is over.
    async fn layer(
        &self,
        site: &Site<'_>,
        entry: &Entry<'_>,
        rootfs: &Rootfs,
        set_up: &mut SetUp,
    ) -> Result<Option<Layer>, RunError> {
        let Entry { setup, known, shared, .. } = *entry;
        let layers = SetupLayers::of(&self.execution.home);
        let mut cancel = site.cancel.clone();
        let _right_to_make = loop {
            if !shared {
                break None;
            }
            if self.execution.reuse
                && let Some(layer) = layers.find(known, setup.max_age)
            {
                let result = reused(setup, &layer, known);
                let what = What::StepEnd { result: Box::new(result.clone()) };
                self.feed.send(Some(&site.job.id), Some(&setup.step.id), what);
                set_up.results.push(result);
                return Ok(Some(layer));
            }
            match layers.try_make(known)? {
                Some(right) => break Some(right),
                None => {
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        _ = cancel.wait_for(|wish| *wish != Cancel::No) => {
                            set_up.outcome = Some(Outcome::Cancelled);
                            return Ok(None);
                        }
                    }
                }
            }
        };
        let (mut end, reads) = self.make(site, entry, rootfs).await?;
        set_up.results.append(&mut end.steps);
        let step =
            end.rest.take_upper(&self.execution.home).await.filter(|_| end.outcome == Outcome::Success);
        let user = end.rest.user();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let made = Made { run: self.run.id().to_owned(), at_ms, identity: site.lease.identity, user };
        let layer = step.map(|step| layers.publish(known, &step, made)).transpose();
        let left = std::mem::take(&mut end.rest).clear(&self.execution.home, self.zygote).await;
        if left.is_empty() {
            self.ledger.gone(&site.job.id);
        }
        let _gone = fs::remove_dir_all(&reads);
        if let Some(error) = end.error {
            return Err(error);
        }
        if end.outcome != Outcome::Success {
            set_up.outcome = Some(end.outcome);
        }
        Ok(layer?)
    }

    /// Runs an entry in a job of its own, which sees of the project what it reads.
    async fn make(
        &self,
        site: &Site<'_>,
        entry: &Entry<'_>,
        rootfs: &Rootfs,
    ) -> Result<(JobEnd, PathBuf), RunError> {
        let Entry { index, setup, .. } = *entry;
        let plan = JobPlan {
            steps: vec![setup.step.clone()],
            setup: Vec::new(),
            workspace: Workspace::Empty,
            mounts: Vec::new(),
            network: setup.network.clone(),
            env: Vec::new(),
            needs: Vec::new(),
            condition: None,
            artifacts: Vec::new(),
            reports: Vec::new(),
            outputs: Vec::new(),
            continue_on_error: Switch::Is(false),
            retry: None,
            secrets: Vec::new(),
            services: Vec::new(),
            caches: Vec::new(),
            ..site.job.clone()
        };
        let stage = room::open_stage(self.zygote, &plan, &self.execution.base, site.lease.identity)?;
        let reads = self.run.path().join("jobs").join(&site.job.id).join(format!(".reads-{}", index + 1));
        let workspace = self.copy_reads(entry, &reads)?;
        let inside = Inside { upper: None, workspace: Some(workspace), terminal: None };
        let job = Job {
            plan: &plan,
            rootfs,
            base: &self.execution.base,
            root: &self.execution.root,
            producers: Vec::new(),
            inherited: &Handed::default(),
            home: &self.execution.home,
            run: self.run,
            ledger: &self.ledger,
            unit: format!("{}.s{}", site.unit, index + 1),
            number: site.at,
            attempt: site.attempt,
            zygote: self.zygote,
            lease: site.lease,
            hierarchy: self.hierarchy,
            stdin: &self.execution.stdin,
            feed: self.feed,
            secrets: &self.execution.secrets,
            secrets_in_artifacts: self.execution.secrets_in_artifacts,
            keep: Keep::Always,
            inside: Some(&inside),
            contexts: Vec::new(),
            services: Vec::new(),
            tallies: RefCell::default(),
            company: Company::new(&[]),
            cancel: RefCell::new(site.cancel.clone()),
        };
        Ok((job.run(stage).await?, reads))
    }

    /// Copies what an entry reads, and nothing else, to a directory that is its workspace.
    fn copy_reads(&self, entry: &Entry<'_>, destination: &Path) -> Result<PathBuf, RunError> {
        let Entry { setup, reads, .. } = *entry;
        let _of_an_attempt_before = fs::remove_dir_all(destination);
        let root = &self.execution.root;
        let project = File::open(root).map_err(RunError::io("open", root))?;
        let request = CollectRequest {
            workspace: std::os::fd::AsFd::as_fd(&project),
            name: "reads",
            over: &[],
            patterns: &Patterns::new(&setup.reads),
            optional: true,
            destination,
            job: "",
            step: None,
            owner: None,
            limits: artifacts::ArtifactLimits::default(),
            report: false,
            secrets: None,
        };
        artifacts::collect(&request)?;
        let workspace = destination.join("reads");
        fs::create_dir_all(&workspace).map_err(RunError::io("create", &workspace))?;
        let copied = File::open(&workspace).map_err(RunError::io("open", &workspace))?.into();
        // The layer would be known by something else than what it was made of.
        if !setup.reads.is_empty() && hash_files(&copied, &setup.reads)? != reads {
            return Err(RunError::ReadsChanged { entry: setup.step.id.clone() });
        }
        Ok(workspace)
    }
}

/// The result of an entry whose layer was there.
fn reused(setup: &SetupPlan, layer: &Layer, known: &str) -> StepResult {
    let reused = Reused { run: layer.made.run.clone(), key: known.to_owned() };
    StepResult {
        outcome: Outcome::Success,
        conclusion: Outcome::Success,
        reused: Some(reused),
        ..job::skipped(&setup.step)
    }
}
