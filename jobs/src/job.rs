//! A valid job: every value has been read and judged, none has been settled. Only `check` makes one, so a
//! `Job` cannot be invalid; what the file leaves open is `None` here and decided by `plan`.

use std::time::Duration;

use crate::cache::CachePlan;
use crate::expression::{Expression, Template, Value};
use crate::file::At;
use crate::image::ImageSpec;
use crate::mount::Mount;
use crate::plan::{IoLimits, Need, Network, SecretPlan, StepSecret, Switch, When, Workspace};
use crate::retry::Retry;
use crate::rights::{Privileges, Seccomp};
use crate::service::{PublishedPort, Ready};
use crate::shell::Shell;
use crate::user::User;

/// Variables in the order of the file; `None` unsets one.
pub(crate) type Env = Vec<(String, Option<Template>)>;

/// A valid job.
#[derive(Debug)]
pub(crate) struct Job {
    pub condition: Option<Expression>,
    pub image: ImageSpec,
    pub env: Env,
    /// At least one.
    pub steps: Vec<Step>,
    pub limits: JobLimits,
    pub timeout: Option<Duration>,
    pub grace: Option<Duration>,
    pub user: Option<User>,
    pub shell: Option<Shell>,
    pub workdir: Option<String>,
    pub hostname: Option<String>,
    pub mounts: Vec<Mount>,
    pub workspace: Option<Workspace>,
    pub network: Option<Network>,
    pub seccomp: Option<Seccomp>,
    pub privileges: Option<Privileges>,
    pub artifacts: Vec<Artifact>,
    pub outputs: Vec<(String, Template)>,
    pub continue_on_error: Switch,
    pub retry: Option<Retry>,
    /// Zero is off.
    pub quiet_timeout: Option<Duration>,
    pub secrets: Vec<SecretPlan>,
    pub services: Vec<Service>,
    pub caches: Vec<CachePlan>,
    pub setup: Vec<Setup>,
}

/// A valid entry of `setup`.
#[derive(Debug)]
pub(crate) struct Setup {
    pub step: Step,
    /// Patterns for `glob::GlobSet`.
    pub reads: Vec<String>,
    pub network: Option<Network>,
    /// Zero: it never is too old.
    pub max_age: Option<Duration>,
}

/// A valid service; what it needs exists, and is not in a circle.
#[derive(Debug)]
pub(crate) struct Service {
    pub name: String,
    pub image: ImageSpec,
    pub env: Env,
    pub command: Option<Vec<String>>,
    pub user: Option<User>,
    pub mounts: Vec<Mount>,
    pub limits: JobLimits,
    pub secrets: Vec<StepSecret>,
    pub ready: Ready,
    pub stop_signal: Option<u8>,
    pub shm_bytes: u64,
    pub optional: bool,
    pub needs: Vec<String>,
    pub ports: Vec<PublishedPort>,
}

/// What of a valid job is settled before its matrix is multiplied out.
#[derive(Debug)]
pub(crate) struct Early {
    pub needs: Vec<Need>,
    /// One without a name where there is no matrix; none where it is not known how many there are.
    pub cells: Vec<Cell>,
    pub fail_fast: bool,
    pub max_parallel: Option<usize>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
}

/// One cell of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    /// Tells it from the others of its job; `None` where there is no matrix.
    pub name: Option<String>,
    /// The context `matrix`.
    pub matrix: Value,
}

/// Limits that are given; each within its bounds.
#[derive(Debug, Default)]
pub(crate) struct JobLimits {
    pub cpus: Option<f64>,
    pub cpu_weight: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub pids: Option<u64>,
    pub files: Option<u64>,
    pub log_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub io: IoLimits,
    pub net_receive_bytes: Option<u64>,
    pub net_send_bytes: Option<u64>,
}

/// A valid step.
#[derive(Debug)]
pub(crate) struct Step {
    /// The byte at which it starts.
    pub start: usize,
    pub run: Run,
    /// It runs beside those that follow.
    pub background: bool,
    pub id: Option<String>,
    pub name: Option<String>,
    pub env: Env,
    pub shell: Option<Shell>,
    pub workdir: Option<String>,
    pub user: Option<User>,
    pub timeout: Option<Duration>,
    pub seccomp: Option<Seccomp>,
    pub privileges: Option<Privileges>,
    pub condition: Option<Expression>,
    pub continue_on_error: Switch,
    /// Not empty when given.
    pub expect_exit: Option<Vec<u8>>,
    pub artifacts: Vec<Artifact>,
    pub retry: Option<Retry>,
    /// Zero is off.
    pub quiet_timeout: Option<Duration>,
    pub secrets: Vec<StepSecret>,
    /// The place among the steps of the `uses` that it came by.
    pub within: Option<usize>,
}

/// What a step runs; neither is empty.
#[derive(Debug)]
pub(crate) enum Run {
    Script(String),
    Argv(Vec<String>),
    /// Nothing: it waits for these steps.
    Wait(Vec<String>),
    /// Nothing: it ends this step.
    Cancel(String),
    /// Nothing: it says how the steps of a file behind it run.
    Uses {
        file: String,
        /// The number of its params.
        params: usize,
        outputs: Vec<(String, Template)>,
    },
}

/// A valid artifact; its patterns can be compiled and at least one includes.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub name: Option<At<String>>,
    pub paths: Vec<String>,
    pub when: When,
    pub optional: bool,
}
