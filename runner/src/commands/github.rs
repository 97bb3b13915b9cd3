//! What a workflow of GitHub Actions around us is told: where steps stand before the run, how it went after it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jobs::Plan;

use crate::cli::{Command, GitHub};
use crate::github::files::{self, FILE_BYTES_MAX};
use crate::github::summary;
use crate::report::{Briefing, StepPlace};
use crate::run::artifacts::Manifest;
use crate::run::record::{RunDirectory, RunRecord, Selector, StepDirectory};
use crate::run::secrets::Secrets;
use crate::run::workspace;

/// What can be told that is in no event.
pub(super) fn briefing(file: &Path, github: Option<&GitHub>, plan: &Plan, secrets: &Secrets) -> Briefing {
    let steps = plan.jobs.iter().flat_map(|job| job.steps.iter().map(move |step| (job, step)));
    let own = relative(file, github);
    let place = |(job, step): (&jobs::JobPlan, &jobs::StepPlan)| {
        let file = match &step.file {
            Some(other) => relative(Path::new(other), github),
            None => own.clone(),
        };
        let place = StepPlace { file, line: step.line, background: step.background };
        ((job.id.clone(), step.id.clone()), place)
    };
    Briefing {
        steps: steps.map(place).collect(),
        // To a terminal, to another service or in a file, they would be shown and not hidden.
        masks: if github.is_some_and(|github| github.reads_stdout) { secrets.lines() } else { Vec::new() },
    }
}

/// The job file of a command as a service knows it.
pub(super) fn file_of(command: &Command) -> Option<String> {
    match command {
        Command::Exec(settings) => relative(&settings.file, settings.github.as_deref()),
        Command::Step(settings) => relative(&settings.file, settings.github.as_ref()),
        Command::Run(_)
        | Command::Shell(_)
        | Command::Check(_)
        | Command::Logs(_)
        | Command::Show(_)
        | Command::Artifacts(_)
        | Command::ImageUnpack(_)
        | Command::Image(_)
        | Command::Cache(_)
        | Command::Doctor(_)
        | Command::Runs(_)
        | Command::Init(_)
        | Command::Explain(_)
        | Command::Print(_) => None,
    }
}

/// The job file from the root of the repository on.
fn relative(file: &Path, github: Option<&GitHub>) -> Option<String> {
    let file = file.canonicalize().ok()?;
    let checkout = github.and_then(|github| github.workspace.as_ref()?.canonicalize().ok());
    let root = checkout.filter(|root| file.starts_with(root));
    let root = root.unwrap_or_else(|| workspace::root_of(file.parent().unwrap_or(&file)));
    Some(file.strip_prefix(root).ok()?.to_str()?.to_owned())
}

/// Writes the summary and the outputs of the workflow's step. `run`: there may be none, when the file was wrong.
///
/// # Errors
/// A file that cannot be written, or a record that cannot be read, in words.
pub(super) fn tell(
    github: &GitHub,
    home: &Path,
    run: Option<&str>,
    artifacts: Option<&Path>,
    exit_code: u8,
) -> Result<(), String> {
    let run = run.map(|id| RunDirectory::open(home, &Selector::Prefix(id.to_owned())));
    let run = run.transpose().map_err(|error| error.to_string())?;
    let record = run.as_ref().map(RunDirectory::read_run).transpose().map_err(|error| error.to_string())?;
    let mut outputs: Vec<(String, String)> = Vec::new();
    if let (Some(run), Some(record)) = (&run, &record) {
        outputs = declared(run, record);
        if let Some(file) = &github.summary {
            write_summary(file, run, record)?;
        }
    }
    let artifacts = artifacts.and_then(|path| std::path::absolute(path).ok());
    let artifacts = artifacts.or_else(|| Some(run.as_ref()?.artifacts_path()));
    let result =
        record.as_ref().and_then(|record| record.outcome).map_or("error", crate::outcome::Outcome::as_str);
    // Ours last: of a name that is given twice, the last counts.
    outputs.extend(
        [
            ("exit-code", exit_code.to_string()),
            ("result", result.to_owned()),
            ("run", run.as_ref().map_or_else(String::new, |run| run.id().to_owned())),
            ("artifacts-dir", artifacts.map_or_else(String::new, |path| path.display().to_string())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    match &github.output {
        Some(file) => files::append_values(file, &outputs).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// The outputs that the jobs declare: by their names, of several jobs behind the job's.
fn declared(run: &RunDirectory, record: &RunRecord) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for job in &record.jobs {
        let path = run.path().join("jobs").join(&job.id).join("outputs.json");
        let Some(outputs) = limited(&path).and_then(|bytes| serde_json::from_slice(&bytes).ok()) else {
            continue;
        };
        let outputs: BTreeMap<String, String> = outputs;
        let name = |name: String| match record.jobs.len() {
            1 => name,
            _ => files::output_name(&format!("{}-{name}", job.id)),
        };
        all.extend(outputs.into_iter().map(|(key, value)| (name(key), value)));
    }
    all
}

fn write_summary(file: &Path, run: &RunDirectory, record: &RunRecord) -> Result<(), String> {
    let manifest = Manifest::load(&run.artifacts_path()).map(|manifest| manifest.files).unwrap_or_default();
    let of_job = |job: &crate::run::record::JobRecord| {
        let path: PathBuf = run.path().join("jobs").join(&job.id).join("summary.md");
        Some((job.id.clone(), limited(&path)?))
    };
    let own: Vec<(String, Vec<u8>)> = record.jobs.iter().filter_map(of_job).collect();
    let room = files::room(file);
    files::append(file, summary::markdown(record, &manifest, &own, room).as_bytes())
        .map_err(|error| error.to_string())
}

/// The beginning of a record; a larger one has no place in the summary.
fn limited(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What the job of a step has for the summary; there may be nothing.
pub(super) fn summary_of(step: &StepDirectory) -> Option<Vec<u8>> {
    limited(&step.path.ancestors().nth(2)?.join("summary.md"))
}
