//! `runner exec`: a job file from text to exit code.

use std::path::Path;

use jobs::{Facts, Network, Overrides, Planned, SelectError};

use super::check::read_job_file;
use super::files::NamedFiles;
use super::launch::{fetch_settings, launch, no_input};
use super::secrets;
use super::{Class, CommandError, RUN_ERROR_EXIT_CODE};
use crate::cli::{ExecSettings, ExitCodeOf};
use crate::host;
use crate::report::{self, Sink};
use crate::run::artifacts;
use crate::run::execute::{Execution, Finished};
use crate::run::git;
use crate::run::record::{IncludedFile, RunDirectory, Selector, WarningRecord, suggestion};
use crate::run::workspace;
use crate::sandbox::zygote::Zygote;

/// Runs the file and returns what to exit with.
///
/// # Errors
/// A file that cannot be read or is wrong; a machine that cannot do its part.
pub fn exec(zygote: Zygote, settings: ExecSettings) -> Result<u8, CommandError> {
    let Loaded { text, included, planned } = load(&settings)?;
    let planned = Planned { plan: jobs::select(planned.plan, &settings.selection)?, ..planned };
    if settings.dry_run {
        report::plan::plan(&mut Sink::results(), &planned.plan);
        return Ok(0);
    }
    let secrets = secrets::of(&planned.plan, settings.secrets)?;
    if settings.suggest_network {
        must_be_recorded(&planned.plan)?;
    }
    let warnings = planned.warnings.iter().map(|warning| WarningRecord {
        code: Some(warning.code.id().to_owned()),
        text: warning.text.clone(),
        hint: warning.hint.clone(),
    });
    let execution = Execution {
        fetch: fetch_settings(&settings.sources),
        base: base_of(&settings.file)?,
        home: settings.home.clone(),
        run_id: settings.run_id,
        warnings: warnings.collect(),
        jobs_max: settings.jobs_max,
        stdin: no_input()?,
        secrets,
        secrets_in_artifacts: settings.secrets_in_artifacts,
        keep: settings.keep,
        reuse: settings.reuse,
        inside: None,
        file: Some((settings.file.display().to_string(), text)),
        included,
        plan: planned.plan,
    };
    let json = settings.report.json;
    let finished = launch(zygote, execution, settings.report)?;
    if settings.suggest_network {
        suggest(&settings.home, &finished.id, json)?;
    }
    if let Some(directory) = &settings.artifacts_dir {
        artifacts::extract(&finished.directory.join("artifacts"), &[], directory, true)?;
    }
    Ok(exit_code(&finished, settings.exit_code))
}

/// Only what is recorded can be suggested from.
fn must_be_recorded(plan: &jobs::Plan) -> Result<(), CommandError> {
    let recorded = plan.jobs.iter().all(|job| match &job.network {
        Network::Full => true,
        Network::Rules(rules) => rules.record,
        Network::None | Network::Services | Network::Host => false,
    });
    if recorded {
        return Ok(());
    }
    let text = "cannot suggest a network: this job's is not recorded";
    let hint = "use `network: full`, or rules without `record: false`";
    Err(CommandError::new(Class::Usage, text).with_hint(hint))
}

/// Prints what the run's steps reached, behind everything else.
fn suggest(home: &Path, id: &str, json: bool) -> Result<(), CommandError> {
    let run = RunDirectory::open(home, &Selector::Prefix(id.to_owned()))?;
    let mut records = Vec::new();
    for step in run.steps()? {
        records.extend(step.read_network()?);
    }
    let mut sink = if json { Sink::words() } else { Sink::results() };
    report::network::suggestion(&mut sink, &suggestion(records.iter()));
    Ok(())
}

fn exit_code(finished: &Finished, whose: ExitCodeOf) -> u8 {
    match whose {
        ExitCodeOf::Run => finished.exit_code,
        ExitCodeOf::Step => finished.step_exit_code.unwrap_or(RUN_ERROR_EXIT_CODE),
    }
}

impl From<SelectError> for CommandError {
    fn from(error: SelectError) -> Self {
        let hint = error.hint();
        Self::new(Class::Usage, error).with_hint(hint)
    }
}

/// A job file, read.
struct Loaded {
    text: Vec<u8>,
    included: Vec<IncludedFile>,
    planned: Planned,
}

fn load(settings: &ExecSettings) -> Result<Loaded, CommandError> {
    let (file, text) = read_job_file(&settings.file)?;
    let base = base_of(&settings.file)?;
    let overrides = Overrides { facts: facts(&base), ..settings.overrides.clone() };
    let root = workspace::root_of(&base);
    let mut files = NamedFiles::new(fetch_settings(&settings.sources), root, overrides.untrusted);
    let planned = jobs::plan_with(&file.name, &file.stem, &text, &overrides, &mut files)?;
    Ok(Loaded { text, included: files.read, planned })
}

/// What expressions see of this machine and of the work tree around the job file.
pub(super) fn facts(base: &Path) -> Facts {
    let (host_arch, host_cpus, host_kernel) = host::facts();
    let (git_commit, git_branch) = git::head(&workspace::root_of(base)).unwrap_or_default();
    let git_branch = git_branch.unwrap_or_default();
    Facts { git_commit, git_branch, host_arch, host_cpus, host_kernel, ..Facts::default() }
}

/// The directory of the job file.
pub(super) fn base_of(file: &Path) -> Result<std::path::PathBuf, CommandError> {
    let absolute = std::path::absolute(file).map_err(|error| CommandError::new(Class::Usage, error))?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_path_buf())
}
