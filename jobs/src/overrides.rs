//! What the command line says over the file.

use std::time::Duration;

use crate::expression::Value;
use crate::image::Pull;
use crate::plan::Network;

/// Values that win over the file's. The default overrides nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// Values of the file's params.
    pub params: Vec<(String, String)>,
    /// What expressions see of the machine and the work tree.
    pub facts: Facts,
    /// Set (or with `None` unset) in every step, after the file's own.
    pub env: Vec<(String, Option<String>)>,
    /// Limits that win one by one.
    pub limits: LimitsOverride,
    /// The network.
    pub network: Option<Network>,
    /// The whole job's time.
    pub timeout: Option<Duration>,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Option<Duration>,
    /// The user of every step, as in the file: `root`, `me`, `1000:100`, a name.
    pub user: Option<String>,
    /// The working directory of every step.
    pub workdir: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// Nobody vouches for the file: what reaches beyond the sandbox is refused.
    pub untrusted: bool,
    /// When the source of the image is asked.
    pub pull: Option<Pull>,
    /// What runs in the place of each job's steps.
    pub instead: Option<Instead>,
}

/// A script that runs in the place of a job's steps: in the job's sandbox, with all that its steps inherit from it, and with
/// nothing that only its own steps can mean: conditions, artifacts, outputs, attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instead {
    /// The program; in one argument, `{0}` stands for the script's path.
    pub argv: Vec<String>,
    /// The script.
    pub script: String,
    /// The ending of its file's name.
    pub suffix: String,
    /// Which of the job's secrets it sees.
    pub secrets: Vec<String>,
}

/// Limits from the command line; `None` leaves the file's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LimitsOverride {
    /// CPUs' worth of time.
    pub cpus: Option<f64>,
    /// Share of the CPUs.
    pub cpu_weight: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap in bytes.
    pub swap_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Open files of one process.
    pub files: Option<u64>,
    /// Bytes kept of one step's log.
    pub log_bytes: Option<u64>,
    /// Bytes that a step's writes may take on the disk.
    pub disk_bytes: Option<u64>,
}

/// What expressions see of the machine and the work tree; gathered by the caller, for this crate looks at neither.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// The commit that is checked out; empty outside a work tree.
    pub git_commit: String,
    /// The branch that is checked out; empty where there is none.
    pub git_branch: String,
    /// The rest of the context `git`.
    pub work_tree: WorkTree,
    /// The machine's architecture, as `uname -m` has it.
    pub host_arch: String,
    /// CPUs that may be used.
    pub host_cpus: u64,
    /// The kernel's release, as `uname -r` has it.
    pub host_kernel: String,
}

/// What costs a look at the whole work tree, and is asked only for a file that names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkTree {
    /// The tag of the commit, of several the highest version; empty where there is none.
    pub tag: String,
    /// Something that is tracked differs from the commit.
    pub dirty: bool,
    /// The paths that differ from where the branch began.
    pub changed: Vec<String>,
}

impl Facts {
    /// Returns them as contexts.
    pub(crate) fn contexts(&self) -> [(&'static str, Value); 2] {
        let WorkTree { tag, dirty, changed } = &self.work_tree;
        let git = [
            ("commit", Value::text(&self.git_commit)),
            ("branch", Value::text(&self.git_branch)),
            ("tag", Value::text(tag)),
            ("dirty", Value::Bool(*dirty)),
            ("changed", Value::List(changed.iter().map(Value::text).collect())),
        ];
        let host = [
            ("arch", Value::text(&self.host_arch)),
            ("cpus", Value::Number(self.host_cpus as f64)),
            ("kernel", Value::text(&self.host_kernel)),
        ];
        [("git", Value::map(git)), ("host", Value::map(host))]
    }
}
