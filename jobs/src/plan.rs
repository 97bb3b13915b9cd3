//! The plan: a job with every default settled, so that nothing is left to decide. Its JSON is a record
//! (`job.resolved.json`): snake case, times in milliseconds, sizes in bytes.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::cache::CachePlan;
use crate::expression::{Expression, Template, Value};
use crate::image::ImageSpec;
use crate::mount::Mount;
use crate::network::NetworkRules;
use crate::retry::Retry;
use crate::rights::{Privileges, Seccomp};
use crate::service::ServicePlan;
use crate::user::User;

/// Everything that one file asks for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The format's version.
    pub version: u32,
    /// The run's label.
    pub name: String,
    /// Longest time of the whole run, where it has several jobs and the command line says; each job has its own besides.
    #[serde(rename = "timeout_ms", serialize_with = "some_millis")]
    pub timeout: Option<Duration>,
    /// What expressions see of the run's inputs, the machine and the work tree: `params`, `git`, `host`.
    #[serde(serialize_with = "contexts")]
    pub contexts: Vec<(&'static str, Value)>,
    /// The jobs in the order of the file, the cells of one beside each other. At least one; a file without `jobs` has
    /// one with the id `job`.
    pub jobs: Vec<JobPlan>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobPlan {
    /// Names the job in records, unique: its id in the file, and of a matrix `@` and the cell.
    pub id: String,
    /// Its id in the file, which all cells of a matrix share.
    pub job: String,
    /// The cell's values, a map; null without a matrix.
    pub matrix: Value,
    /// A failure cancels the other cells.
    pub fail_fast: bool,
    /// Most cells at once; `None`: as many as there is room for.
    pub max_parallel: Option<usize>,
    /// Jobs that must be over first.
    pub needs: Vec<Need>,
    /// Whether it runs at all; `None` is `success()`.
    #[serde(rename = "if")]
    pub condition: Option<Expression>,
    /// Where the root filesystem comes from.
    pub image: ImageSpec,
    /// What the steps find in their working directory.
    pub workspace: Workspace,
    /// Host paths shown inside; no two have the same path inside.
    pub mounts: Vec<Mount>,
    /// The host name inside.
    pub hostname: String,
    /// What the steps can reach.
    pub network: Network,
    /// Neither the file nor the command line chose the network.
    pub network_defaulted: bool,
    /// Nobody vouches for the job: it was checked more strictly, and is watched more closely.
    pub untrusted: bool,
    /// What the job may use.
    pub limits: Limits,
    /// Longest time of the whole job.
    #[serde(rename = "timeout_ms", serialize_with = "millis")]
    pub timeout: Duration,
    /// Time between SIGTERM and SIGKILL; zero kills at once.
    #[serde(rename = "grace_ms", serialize_with = "millis")]
    pub grace: Duration,
    /// Variables of every step: one for each param, then the job's own, each name once; `None` unsets.
    #[serde(serialize_with = "map")]
    pub env: Vec<(String, Option<Template>)>,
    /// The steps in order; at least one.
    pub steps: Vec<StepPlan>,
    /// Collected after the last step.
    pub artifacts: Vec<ArtifactPlan>,
    /// For jobs that need this one.
    #[serde(serialize_with = "named")]
    pub outputs: Vec<(String, Template)>,
    /// Its failure does not count.
    pub continue_on_error: Switch,
    /// Whether it is tried again as a whole when it does not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The secrets that its steps may name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretPlan>,
    /// What runs beside all its steps, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePlan>,
    /// Directories that outlive it; no two have the same path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CachePlan>,
    /// What makes the root filesystem that all steps start from, each on what the one before came to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<SetupPlan>,
}

/// A command that makes a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetupPlan {
    /// What runs; its `index` is 0.
    pub step: StepPlan,
    /// Patterns for `glob::GlobSet`: what it sees of the workspace.
    pub reads: Vec<String>,
    /// What it can reach.
    pub network: Network,
    /// Longest time that its layer is used without being made again.
    #[serde(rename = "max_age_ms", serialize_with = "some_millis")]
    pub max_age: Option<Duration>,
}

/// A secret that a job knows; its value is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretPlan {
    /// `[A-Za-z_][A-Za-z0-9_]*`, unique in the job.
    pub name: String,
    /// The job does not run without it.
    pub required: bool,
    /// The variable that steps find it in, unless they say otherwise; none: only the file.
    pub env: Option<String>,
}

/// A secret that a step sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepSecret {
    /// One of the job's.
    pub name: String,
    /// The variable that the step finds it in, besides the file.
    pub env: Option<String>,
}

/// A job that must be over first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Its id in the file; all its cells are meant.
    pub job: String,
    /// After which end the needing job may run; `None` leaves it to that job's `if`.
    #[serde(rename = "if")]
    pub on: Option<When>,
    /// What it has collected is put where it came from, in a workspace of the job's own.
    #[serde(skip_serializing_if = "is_true")]
    pub artifacts: bool,
}

/// What the steps find in their working directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workspace {
    /// The project's directory itself; what steps write stays.
    InPlace,
    /// A copy of it, thrown away afterwards.
    Copy,
    /// What is committed of it, thrown away afterwards.
    Git,
    /// An empty directory, thrown away afterwards.
    Empty,
}

/// What the steps can reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Their own loopback interface.
    None,
    /// The same, on which the job's services are.
    Services,
    /// The world, from an interface of their own; nothing of this machine.
    Full,
    /// The same under rules.
    Rules(NetworkRules),
    /// All that this machine reaches: its network namespace is shared.
    Host,
}

/// What a job may use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limits {
    /// CPUs' worth of time; `None` is the whole machine.
    pub cpus: Option<f64>,
    /// Share of the CPUs where others want them too, 1 to 10,000; `None` is the machine's 100.
    pub cpu_weight: Option<u64>,
    /// Memory in bytes; `None` is the whole machine.
    pub memory_bytes: Option<u64>,
    /// Swap in bytes beyond the memory.
    pub swap_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Open files of one process; `None` leaves the machine's.
    pub files: Option<u64>,
    /// Bytes kept of one step's log.
    pub log_bytes: u64,
    /// Bytes that a step's writes may take on the disk.
    pub disk_bytes: Option<u64>,
    /// What a step may ask of the disks.
    pub io: IoLimits,
    /// Bytes a second that all steps together receive; `None` is as many as come.
    pub net_receive_bytes: Option<u64>,
    /// Bytes a second that they send.
    pub net_send_bytes: Option<u64>,
}

/// What a step may ask of the disks below the workspace and the runner's home, in a second; `None` is as much as comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct IoLimits {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub read_ops: Option<u64>,
    /// Writes.
    pub write_ops: Option<u64>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepPlan {
    /// The number in the job, from 1.
    pub index: usize,
    /// Unique in the job: `[a-z][a-z0-9_-]{0,62}`.
    pub id: String,
    /// For people; one line.
    pub name: String,
    /// The line of the file at which the step starts, from 1.
    pub line: usize,
    /// The file that it stands in, where that is not the job file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The step that takes it from a file, by id: whether it runs, and with which variables and params besides its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// What runs.
    pub command: Command,
    /// It runs beside the steps that follow, until one waits for it or ends it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// The step's variables, then the command line's, each name once; they win over the job's. `None` unsets.
    #[serde(serialize_with = "map")]
    pub env: Vec<(String, Option<Template>)>,
    /// Where it runs; `None` is the workspace, and a relative path starts there.
    pub workdir: Option<String>,
    /// Who runs it; `None` is the image's user, else root.
    pub user: Option<User>,
    /// Which of its system calls reach the kernel.
    pub seccomp: Seccomp,
    /// Its rights beyond those of every step.
    pub privileges: Privileges,
    /// Longest time of this step; the job's own runs on.
    #[serde(rename = "timeout_ms", serialize_with = "some_millis")]
    pub timeout: Option<Duration>,
    /// Whether it runs; `None` is `success()`.
    #[serde(rename = "if")]
    pub condition: Option<Expression>,
    /// A failure does not stop the job.
    pub continue_on_error: Switch,
    /// The exit codes that are success; ascending, not empty.
    pub expect_exit: Vec<u8>,
    /// Collected after this step.
    pub artifacts: Vec<ArtifactPlan>,
    /// Whether it is tried again when it does not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Longest time without output.
    #[serde(
        rename = "quiet_timeout_ms",
        serialize_with = "some_millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub quiet_timeout: Option<Duration>,
    /// The secrets that it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<StepSecret>,
}

/// True, false, or what an expression says while the job runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Switch {
    /// Known.
    Is(bool),
    /// To be asked when its time comes.
    When(Template),
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A script, written to a file.
    Script {
        /// The file's text.
        text: String,
        /// The program; in one argument, `{0}` stands for the file's path.
        argv: Vec<String>,
        /// The ending of the file's name: `.sh`, `.py` or nothing.
        suffix: String,
    },
    /// A program and its arguments, without a shell.
    Argv(Vec<String>),
    /// Nothing of its own: it waits for the ends of these steps, by id.
    Wait(Vec<String>),
    /// Nothing of its own: it ends this step, by id.
    Cancel(String),
    /// Nothing of its own: it says how the steps behind it run that are within it.
    Uses {
        /// The file that they come from, as written.
        file: String,
        /// What they see as the context `params`.
        params: Value,
        /// What of theirs others see as the outputs of this step.
        #[serde(serialize_with = "named")]
        outputs: Vec<(String, Template)>,
    },
}

impl Command {
    /// Whether something is executed.
    pub fn is_run(&self) -> bool {
        match self {
            Command::Script { .. } | Command::Argv(_) => true,
            Command::Wait(_) | Command::Cancel(_) | Command::Uses { .. } => false,
        }
    }
}

/// Files to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactPlan {
    /// Unique in the job; usable as a directory's name.
    pub name: String,
    /// Patterns for `glob::GlobSet`, relative to the workspace.
    pub paths: Vec<String>,
    /// After which end it is collected.
    pub when: When,
    /// Finding nothing is no failure.
    pub optional: bool,
}

/// After which end an artifact is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// After success.
    Success,
    /// After any other end.
    Failure,
    /// After both.
    Always,
}

// Serde passes a reference to the field.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_true(value: &bool) -> bool {
    *value
}

/// Writes a duration in whole milliseconds.
pub(crate) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

// Serde passes a reference to the field.
#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn some_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes variables as a map in their order.
pub(crate) fn map<S: Serializer>(
    env: &[(String, Option<Template>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(env.iter().map(|(name, value)| (name, value)))
}

fn contexts<S: Serializer>(contexts: &[(&'static str, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(contexts.iter().map(|(name, value)| (name, value)))
}

fn named<S: Serializer>(outputs: &[(String, Template)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(outputs.iter().map(|(name, value)| (name, value)))
}
