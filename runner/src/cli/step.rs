//! `runner step`: which script, in whose sandbox, and what of the workflow around us it sees.

use std::path::{Path, PathBuf};

use jobs::Overrides;

use super::environment::{Environment, GitHub};
use super::flags::{self, step::Export};
use super::settings::{self, ImageSources};
use super::{secrets, shown};
use crate::report::ReportSettings;

/// Variables of a workflow that a script in a sandbox sees: what GitHub documents as facts of the run and the repository.
/// Not among them: tokens and addresses that act for the workflow (`ACTIONS_*`, `GITHUB_TOKEN`), and paths of the machine
/// (`GITHUB_EVENT_PATH`, `RUNNER_TOOL_CACHE` and the like), which are not there inside.
const PASSED: [&str; 35] = [
    "GITHUB_ACTION",
    "GITHUB_ACTIONS",
    "GITHUB_ACTOR",
    "GITHUB_ACTOR_ID",
    "GITHUB_API_URL",
    "GITHUB_BASE_REF",
    "GITHUB_EVENT_NAME",
    "GITHUB_GRAPHQL_URL",
    "GITHUB_HEAD_REF",
    "GITHUB_JOB",
    "GITHUB_REF",
    "GITHUB_REF_NAME",
    "GITHUB_REF_PROTECTED",
    "GITHUB_REF_TYPE",
    "GITHUB_REPOSITORY",
    "GITHUB_REPOSITORY_ID",
    "GITHUB_REPOSITORY_OWNER",
    "GITHUB_REPOSITORY_OWNER_ID",
    "GITHUB_RETENTION_DAYS",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_NUMBER",
    "GITHUB_SERVER_URL",
    "GITHUB_SHA",
    "GITHUB_TRIGGERING_ACTOR",
    "GITHUB_WORKFLOW",
    "GITHUB_WORKFLOW_REF",
    "GITHUB_WORKFLOW_SHA",
    "ImageOS",
    "ImageVersion",
    "RUNNER_ARCH",
    "RUNNER_DEBUG",
    "RUNNER_ENVIRONMENT",
    "RUNNER_NAME",
    "RUNNER_OS",
];
/// The variable of the workflow that carries what scripts in sandboxes hand to one another.
pub const HANDED_VARIABLE: &str = "SANDBOX_HANDED";

/// `runner step`
#[derive(Debug)]
pub struct StepSettings {
    /// Where records and the store are.
    pub home: PathBuf,
    /// The job file.
    pub file: PathBuf,
    /// The job in it.
    pub job: Option<String>,
    /// The shell and its arguments.
    pub command: Vec<String>,
    /// What wins over the file.
    pub overrides: Overrides,
    /// The values of secrets, by name.
    pub secrets: Vec<(String, Vec<u8>)>,
    /// How images are come by.
    pub sources: ImageSources,
    /// The step of a workflow that we are.
    pub github: Option<GitHub>,
    /// What earlier scripts have handed on, as it was written down.
    pub handed: Option<String>,
    /// Hand variables to steps outside of sandboxes.
    pub export_env: bool,
    /// Hand them directories of PATH.
    pub export_path: bool,
    /// How the run is shown.
    pub report: ReportSettings,
}

/// Settles the flags.
pub(super) fn step(
    flags: flags::step::Step,
    home: PathBuf,
    environment: &Environment,
) -> Result<StepSettings, String> {
    if flags.overrides.untrusted {
        return Err(
            "--untrusted works on a copy, and a step works in place: leave one of them out".to_owned()
        );
    }
    let (file, job) = file_and_job(&flags.job, environment.github.as_ref());
    let passed = PASSED.iter().filter_map(|name| {
        let value = environment.variables.get(*name)?;
        Some(((*name).to_owned(), Some(value.clone())))
    });
    let mut env: Vec<(String, Option<String>)> = passed.collect();
    let pull = settings::pull(&flags.sources);
    let mut overrides = settings::overrides(flags.overrides, environment)?;
    env.append(&mut overrides.env);
    let output = shown::output_of_one(flags.output, environment);
    Ok(StepSettings {
        home,
        file,
        job,
        command: flags.command,
        overrides: Overrides { env, params: settings::params(&flags.param)?, pull, ..overrides },
        secrets: secrets::read(&flags.secret, &flags.secrets_file, environment)?,
        sources: settings::sources(flags.sources, environment)?,
        github: environment.github.clone(),
        handed: environment.variables.get(HANDED_VARIABLE).filter(|text| !text.is_empty()).cloned(),
        export_env: flags.export.contains(&Export::Env),
        export_path: flags.export.contains(&Export::Path),
        report: shown::report(output, environment.stderr_color, false, environment),
    })
}

/// Takes `FILE:JOB` apart, unless there is a file of that name. In a workflow, the path starts at the checkout: one `shell:` is
/// good for scripts in all directories.
fn file_and_job(text: &str, github: Option<&GitHub>) -> (PathBuf, Option<String>) {
    let root = github.and_then(|github| github.workspace.as_deref()).unwrap_or(Path::new(""));
    match text.rsplit_once(':') {
        Some((file, job)) if !root.join(text).exists() => (root.join(file), Some(job.to_owned())),
        Some(_) | None => (root.join(text), None),
    }
}
