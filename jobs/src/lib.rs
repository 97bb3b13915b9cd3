//! The job file: text in, values out. No files, network, clock or environment.
//!
//! ```text
//! bytes -> Source -> Node tree -> Node tree -> Node tree  -> JobFile -> Job -> Plan
//!          source    yaml         include      expand        read,file  check  settle,plan
//!                                 (merge)      (expression)
//! ```
//!
//! Every room adds what it finds wrong to one list and goes on, so that a user sees all of it at once, sorted
//! by position, each with an excerpt and a remedy (`diagnostic`, `render`, `codes`). `units`, `glob`, `image`,
//! `mount`, `user` and `names` hold the rules of single values; command-line flags use the same ones.

pub mod bounds;
pub mod cache;
pub mod codes;
pub mod glob;
pub mod image;
pub mod mount;
pub mod names;
pub mod network;
pub mod plan;
pub mod retry;
pub mod rights;
pub mod service;
pub mod units;
pub mod user;

mod check;
mod diagnostic;
mod expand;
pub mod expression;
mod file;
mod include;
mod job;
mod merge;
mod overrides;
mod read;
mod render;
mod select;
mod settle;
mod shell;
mod source;
mod suggest;
mod yaml;

use std::sync::Arc;

use bounds::{JOBS_MAX, PLANNED_NODES_MAX, PROBLEMS_MAX};
use expression::{Shape, Value};

pub use cache::{CacheMode, CachePlan};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use image::{ImageSpec, Pull};
pub use include::{Files, NoFiles, Wanted};
pub use mount::Mount;
pub use network::{AllowedHost, HostPattern, NetworkRules};
pub use overrides::{Facts, LimitsOverride, Overrides, WorkTree};
pub use plan::{
    ArtifactPlan, Command, IoLimits, JobPlan, Limits, Need, Network, Plan, SecretPlan, SetupPlan, StepPlan,
    StepSecret, Switch, When, Workspace,
};
pub use retry::{Retry, RetryOn};
pub use rights::{Privileges, Seccomp};
pub use select::{SelectError, Selection, StepChoice, select};
pub use service::{Probe, PublishedPort, Ready, ServicePlan};
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
        ARTIFACT_KEYS, CACHE_KEYS, DEFAULT_KEYS, FILE_KEYS, IMAGE_KEYS, INCLUDE_KEYS, IO_LIMITS_KEYS,
        JOB_KEYS, LIMITS_KEYS, MOUNT_KEYS, NEED_KEYS, NET_LIMITS_KEYS, NETWORK_KEYS, PARAM_KEYS, READY_KEYS,
        RETRY_KEYS, SECRET_KEYS, SERVICE_KEYS, SERVICE_LIMITS_KEYS, SETUP_KEYS, STEP_FILE_KEYS, STEP_KEYS,
        STEP_SECRET_KEYS,
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

/// Reads a job file that names no others from text to plan. `file_name` is only shown; `default_name`, the file's stem,
/// names the run when the file does not.
///
/// # Errors
/// Everything that is wrong with the file and the overrides, and the warnings too.
pub fn plan(
    file_name: &str,
    default_name: &str,
    text: &[u8],
    overrides: &Overrides,
) -> Result<Planned, Diagnostics> {
    plan_with(file_name, default_name, text, overrides, &mut NoFiles)
}

/// Reads a job file and those that it names, as [`plan`] does. Paths in it start where `file_name` lies.
///
/// # Errors
/// Those of [`plan`], for all the files.
pub fn plan_with(
    file_name: &str,
    default_name: &str,
    text: &[u8],
    overrides: &Overrides,
    files: &mut dyn Files,
) -> Result<Planned, Diagnostics> {
    let mut problems = diagnostic::Problems::default();
    let valid = check::overrides(overrides, &mut problems);
    let asker = Asker { given: check::Given::CommandLine(&overrides.params), overrides, valid: &valid };
    let (source, found) = read_all(file_name, text, &asker, files, &mut problems);
    match found {
        Some((head, jobs)) if !problems.has_errors() => {
            let plan = settle::plan(head, jobs, overrides, default_name);
            Ok(Planned { plan, warnings: Diagnostics::new(source, problems) })
        }
        Some(_) | None => Err(Diagnostics::new(source, problems)),
    }
}

/// Reads a job file and returns what is wrong with it, without asking for values of its params. What depends on a
/// param without a default cannot be judged and is passed over.
pub fn check(file_name: &str, text: &[u8], files: &mut dyn Files) -> Diagnostics {
    let mut problems = diagnostic::Problems::default();
    let (overrides, valid) = (Overrides::default(), check::ValidOverrides::default());
    let asker = Asker { given: check::Given::Nobody, overrides: &overrides, valid: &valid };
    let (source, _) = read_all(file_name, text, &asker, files, &mut problems);
    Diagnostics::new(source, problems)
}

/// From bytes to settled jobs, as far as one comes.
fn read_all(
    file_name: &str,
    text: &[u8],
    asker: &Asker<'_>,
    files: &mut dyn Files,
    problems: &mut diagnostic::Problems,
) -> (Arc<source::Source>, Option<(settle::Head, Vec<JobPlan>)>) {
    let mut source = source::Source::decode(file_name, text, problems);
    let own = source.span_at(0);
    let text_is_good = !problems.has_errors_of_file();
    let root = if text_is_good { yaml::parse(&source.text[own], 0, problems) } else { None };
    let Some(root) = root else { return (Arc::new(source), None) };
    let gathered = include::gather(&root, &mut source, files, problems);
    let mut facts = asker.overrides.facts.clone();
    if names_the_work_tree(&source.text) {
        match files.work_tree() {
            Ok(work_tree) => facts.work_tree = work_tree,
            Err(why) => {
                let text = format!("`git.tag`, `git.dirty` and `git.changed` cannot be told: {why}");
                problems.add(codes::Code::Evaluation, None, text);
            }
        }
    }
    let found =
        gathered.and_then(|(root, step_files)| jobs(&root, &source, &step_files, &facts, asker, problems));
    (Arc::new(source), found)
}

/// Whether something in the texts may be `git.tag`, `git.dirty`, `git.changed` or all of `git`.
fn names_the_work_tree(text: &str) -> bool {
    const BEHIND: [&str; 6] = [".tag", ".dirty", ".changed", "[", ")", "}}"];
    let text = text.to_ascii_lowercase();
    let behind = |at: usize| text[at + "git".len()..].trim_start();
    text.match_indices("git").any(|(at, _)| BEHIND.iter().any(|end| behind(at).starts_with(end)))
}

/// Who wants to know, and with what.
struct Asker<'a> {
    /// Values of params.
    given: check::Given<'a>,
    overrides: &'a Overrides,
    valid: &'a check::ValidOverrides,
}

/// From a tree to settled jobs. Of a job with problems, its other cells are not looked at: they have the same ones.
fn jobs(
    root: &yaml::Node,
    source: &source::Source,
    step_files: &include::StepFiles,
    facts: &Facts,
    asker: &Asker<'_>,
    problems: &mut diagnostic::Problems,
) -> Option<(settle::Head, Vec<JobPlan>)> {
    let document = read::document(root, source, problems)?;
    let check::Params { values, missing } = check::params(&document.params, &asker.given, problems);
    let params = Value::map(values);
    let mut known = vec![("params", params.clone())];
    known.extend(facts.contexts());
    let mut expander = expand::Expander::new(source, step_files, known);
    expander.params_missing = missing;
    let name = document.name.map(|node| expander.value(&node, "name"));
    problems.append(&mut expander.problems);
    let name = name.and_then(|node| read::name(&node, source, problems));
    let name = check::head(document.version.as_ref(), name, problems);
    let early = early(&document.jobs, &mut expander, problems);
    let alone = early.iter().map(|early| early.cells.len()).sum::<usize>() == 1;
    let mut jobs = Vec::new();
    let mut nodes = 0;
    for (at, file_job) in document.jobs.iter().enumerate() {
        let needs = needs_of(&early[at], &document.jobs, &early);
        expander.enter_job(&early[at].cells);
        for cell in &early[at].cells {
            nodes += file_job.entries.iter().map(|entry| entry.value.weight()).sum::<usize>();
            if nodes > PLANNED_NODES_MAX {
                let text = format!("all jobs and cells together have more than {PLANNED_NODES_MAX} values");
                problems.add(codes::Code::FileTooBig, &file_job.span, text);
                return None;
            }
            let before = problems.len();
            expander.enter(cell);
            let entries = expander.job(&file_job.entries, &needs);
            problems.append(&mut expander.problems);
            let file = read::job(file_job, &entries, source, problems);
            let job = check::job(file, file_job, asker.valid, problems);
            if let Some(job) = job {
                let (early, used) = (&early[at], expander.used.as_slice());
                let place =
                    settle::Place { id: &file_job.id.value, early, cell, alone, params: &params, used };
                jobs.push(settle::job(&place, job, asker.overrides, asker.valid, source));
            } else if problems.len() > before {
                break;
            }
        }
        if problems.len() > PROBLEMS_MAX {
            break;
        }
    }
    let contexts = std::iter::once(("params", params)).chain(facts.contexts()).collect();
    Some((settle::Head { name, contexts }, jobs))
}

/// Settles and checks what of the jobs comes before their matrices.
fn early(
    jobs: &[file::JobSource],
    expander: &mut expand::Expander<'_>,
    problems: &mut diagnostic::Problems,
) -> Vec<job::Early> {
    let mut read_early = |job: &file::JobSource| {
        let entries = expander.early(&job.entries);
        problems.append(&mut expander.problems);
        let mut fields = read::early(job, &entries, expander.source, problems);
        fields.outputs = expand::members_of(&job.entries, "outputs");
        fields
    };
    let fields = jobs.iter().map(&mut read_early).collect();
    let mut early = check::early(jobs, fields, problems);
    let count: usize = early.iter().map(|early| early.cells.len()).sum();
    if count > JOBS_MAX {
        let text = format!("the jobs have {count} cells together; at most {JOBS_MAX} are accepted");
        problems.add(codes::Code::MatrixTooBig, None, text);
        early.iter_mut().for_each(|early| early.cells.clear());
    }
    early
}

/// What the context `needs` has in a job.
fn needs_of(early: &job::Early, jobs: &[file::JobSource], all: &[job::Early]) -> Shape {
    let needed = jobs.iter().zip(all).filter(|(job, _)| early.needs.iter().any(|n| n.job == job.id.value));
    let members = needed.map(|(job, early)| {
        let outputs = Shape::members(early.outputs.iter().map(String::as_str));
        let need = vec![("result".to_owned(), Shape::Any), ("outputs".to_owned(), outputs)];
        (job.id.value.clone(), Shape::Members(need))
    });
    Shape::Members(members.collect())
}
