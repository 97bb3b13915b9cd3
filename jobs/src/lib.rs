//! The job file: text in, values out. No files, network, clock or environment.
//!
//! ```text
//! bytes -> Source -> Node tree -> JobFile -> Job -> Plan
//!          source    yaml         read,file  check  settle,plan
//! ```
//!
//! Every room adds what it finds wrong to one list and goes on, so that a user sees all of it at once, sorted
//! by position, each with an excerpt and a remedy (`diagnostic`, `render`, `codes`). `units`, `glob`, `image`,
//! `mount`, `user` and `names` hold the rules of single values; command-line flags use the same ones.

pub mod bounds;
pub mod codes;
pub mod glob;
pub mod image;
pub mod mount;
pub mod names;
pub mod network;
pub mod plan;
pub mod units;
pub mod user;

mod check;
mod diagnostic;
mod file;
mod job;
mod overrides;
mod read;
mod render;
mod settle;
mod shell;
mod source;
mod suggest;
mod yaml;

use std::sync::Arc;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use image::ImageSpec;
pub use mount::Mount;
pub use network::{AllowedHost, HostPattern, NetworkRules};
pub use overrides::{LimitsOverride, Overrides};
pub use plan::{ArtifactPlan, Command, JobPlan, Limits, Network, Plan, StepPlan, When, Workspace};
pub use settle::{
    DEFAULT_GRACE, DEFAULT_HOSTNAME, DEFAULT_LOG_BYTES, DEFAULT_NETWORK, DEFAULT_PIDS, DEFAULT_SWAP_BYTES,
    DEFAULT_TIMEOUT, JOB_ID, VERSION,
};
pub use shell::SCRIPT_PLACEHOLDER;
pub use source::Position;
pub use user::User;

/// The keys that exist, by the map in which they stand.
pub mod keys {
    pub use crate::read::{
        ARTIFACT_KEYS, IMAGE_KEYS, JOB_KEYS, LIMITS_KEYS, MOUNT_KEYS, NET_LIMITS_KEYS, NETWORK_KEYS,
        STEP_KEYS,
    };
}

/// The JSON schema of the format (draft 2020-12), for editors.
pub const SCHEMA: &str = include_str!("../../docs/job-file.schema.json");

/// What a job file comes to.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What to run.
    pub plan: Plan,
    /// What the user should know; no errors among them.
    pub warnings: Diagnostics,
}

/// Reads a job file from text to plan. `file_name` is only shown; `default_name`, the file's stem, names the
/// run when the file does not. Errors: everything that is wrong with the file and the overrides, and the
/// warnings too.
pub fn plan(
    file_name: &str,
    default_name: &str,
    text: &[u8],
    overrides: &Overrides,
) -> Result<Planned, Diagnostics> {
    let mut problems = diagnostic::Problems::default();
    let source = Arc::new(source::Source::decode(file_name, text, &mut problems));
    let valid = check::overrides(overrides, &mut problems);
    let text_is_good = !problems.has_errors_of_file();
    let root = if text_is_good { yaml::parse(&source.text, &mut problems) } else { None };
    let job = root.and_then(|root| {
        let file = read::job_file(&root, &source, &mut problems);
        check::job(file, &mut problems)
    });
    match job {
        Some(job) if !problems.has_errors() => {
            let plan = settle::plan(job, overrides, valid, default_name, &source);
            Ok(Planned { plan, warnings: Diagnostics::new(source, problems) })
        }
        Some(_) | None => Err(Diagnostics::new(source, problems)),
    }
}
