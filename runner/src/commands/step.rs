//! `runner step`: one script of a workflow in a job's sandbox.
//!
//! The agent writes the script to a file and names it among our arguments. It is read here and lies inside as scripts of steps
//! do; nothing else of the agent's directories is there.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jobs::{Instead, Overrides};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::check::read_job_file;
use super::exec::{base_of, facts};
use super::files::NamedFiles;
use super::launch::{fetch_settings, launch, no_input, ours};
use super::{Class, CommandError, RUN_ERROR_EXIT_CODE, github, secrets};
use crate::cli::{GitHub, HANDED_VARIABLE, StepSettings};
use crate::github::files;
use crate::outcome::Keep;
use crate::report::{self, Sink};
use crate::run::command::WORKSPACE;
use crate::run::execute::Execution;
use crate::run::record::{HandedRecord, IncludedFile, RunDirectory, Selector, StepDirectory, WarningRecord};
use crate::run::step_files::{Handed, is_handed};
use crate::run::workspace;
use crate::sandbox::zygote::Zygote;

/// Bytes of a script.
const SCRIPT_BYTES_MAX: u64 = 1 << 20;
/// Bytes that can be handed to later scripts: the kernel takes no variable of more than 128 KiB.
const HANDED_BYTES_MAX: usize = 100 << 10;
/// A cancelled workflow kills us ten seconds after its first signal. By then the step must be gone.
const GRACE_MAX: Duration = Duration::from_secs(7);

/// Runs the script and returns its exit code.
///
/// # Errors
/// Everything that is not the script's own doing; all of it exits with 125.
pub fn step(zygote: Zygote, settings: StepSettings) -> Result<u8, CommandError> {
    let base = base_of(&settings.file)?;
    let root = match settings.github.as_ref().and_then(|github| github.workspace.clone()) {
        Some(root) => root,
        None => workspace::root_of(&base),
    };
    let mut earlier = earlier(settings.handed.as_deref())?;
    let Planned { plan, included, warnings } = plan(&settings, &base, &root, &mut earlier)?;
    let secrets = secrets::of(&plan, settings.secrets)?;
    let briefing = github::briefing(&settings.file, settings.github.as_ref(), &plan, &secrets);
    let execution = Execution {
        secrets,
        secrets_in_artifacts: false,
        plan,
        file: None,
        included,
        fetch: fetch_settings(&settings.sources),
        base,
        root: root.clone(),
        inherited: Handed {
            env: earlier.env.clone().into_iter().collect(),
            path: earlier.path.clone(),
            ..Handed::default()
        },
        home: settings.home.clone(),
        run_id: None,
        warnings,
        jobs_max: None,
        keep: Keep::Failed,
        reuse: true,
        inside: None,
        stdin: no_input()?,
    };
    let finished = ours(launch(zygote, execution, settings.report, briefing)?)?;
    let run = RunDirectory::open(&settings.home, &Selector::Prefix(finished.id.clone()))?;
    if let (Some(github), [step]) = (&settings.github, run.steps()?.as_slice()) {
        let exports = Exports { env: settings.export_env, path: settings.export_path, root: &root };
        for warning in hand_on(github, step, earlier, settings.handed.as_deref(), &exports)? {
            report::error::warning(&mut Sink::words(), &warning, settings.report.output.outer());
        }
    }
    Ok(finished.step_exit_code.unwrap_or(RUN_ERROR_EXIT_CODE))
}

/// What is to be run.
struct Planned {
    plan: jobs::Plan,
    included: Vec<IncludedFile>,
    warnings: Vec<WarningRecord>,
}

/// The plan of the job with the script in the place of its steps.
fn plan(
    settings: &StepSettings,
    base: &Path,
    root: &Path,
    earlier: &mut Earlier,
) -> Result<Planned, CommandError> {
    let (argv, script) = script(&settings.command, settings.github.as_ref())?;
    let suffix = script.extension().map_or_else(String::new, |end| format!(".{}", end.to_string_lossy()));
    let mut env = vec![("GITHUB_WORKSPACE".to_owned(), Some(WORKSPACE.to_owned()))];
    env.push(("RUNNER_TEMP".to_owned(), Some("/tmp".to_owned())));
    // Outside of a workflow nothing is said of one.
    env.retain(|_| settings.github.is_some());
    env.extend(settings.overrides.env.iter().cloned());
    let overrides = Overrides {
        env,
        facts: facts(base),
        workdir: working_directory(root)?,
        instead: Some(Instead {
            argv,
            script: read_script(&script)?,
            suffix: suffix
                .chars()
                .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.')
                .collect(),
            secrets: settings.secrets.iter().map(|(name, _)| name.clone()).collect(),
        }),
        ..settings.overrides.clone()
    };
    let (file, text) = read_job_file(&settings.file)?;
    earlier.must_know(&settings.file, &text)?;
    let mut files = NamedFiles::new(fetch_settings(&settings.sources), root.to_path_buf(), false);
    let planned = jobs::plan_with(&file.name, &file.stem, &text, &overrides, &mut files)?;
    for included in &files.read {
        earlier.must_know(Path::new(&included.name), &included.text)?;
    }
    let mut plan = jobs::select_one(planned.plan, settings.job.as_deref())?;
    for job in &mut plan.jobs {
        job.grace = job.grace.min(GRACE_MAX);
    }
    let warnings = planned.warnings.iter().map(|warning| WarningRecord {
        code: Some(warning.code.id().to_owned()),
        text: warning.text.clone(),
        hint: warning.hint.clone(),
    });
    Ok(Planned { plan, included: files.read, warnings: warnings.collect() })
}

/// Finds the script among the arguments: the last one that is a file, or that has a file of the agent's in it. Returns the
/// arguments with `{0}` in its place.
fn script(command: &[String], github: Option<&GitHub>) -> Result<(Vec<String>, PathBuf), CommandError> {
    let temp = github.and_then(|github| github.temp.as_ref());
    for (index, argument) in command.iter().enumerate().skip(1).rev() {
        let within = temp.and_then(|temp| path_within(argument, temp));
        let whole = Path::new(argument).is_file().then(|| argument.clone());
        if let Some(path) = whole.or(within) {
            let mut argv = command.to_vec();
            argv[index] = argument.replace(&path, jobs::SCRIPT_PLACEHOLDER);
            return Ok((argv, PathBuf::from(path)));
        }
    }
    let text = "none of the arguments behind `--` is a script";
    let hint = "in a workflow: shell: runner step --job FILE -- bash -e {0}";
    Err(CommandError::new(Class::Usage, text).with_hint(hint))
}

/// The path of a file below `temp` that stands within a longer argument: `source /tmp/x.sh`.
fn path_within(argument: &str, temp: &Path) -> Option<String> {
    let temp = format!("{}/", temp.to_str()?.trim_end_matches('/'));
    let rest = &argument[argument.find(&temp)?..];
    let end =
        rest.find(|letter: char| letter.is_whitespace() || "'\";)&|".contains(letter)).unwrap_or(rest.len());
    Path::new(&rest[..end]).is_file().then(|| rest[..end].to_owned())
}

fn read_script(path: &Path) -> Result<String, CommandError> {
    let wrong = |why: String| {
        CommandError::new(Class::Usage, format!("cannot read the script {}: {why}", path.display()))
    };
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(SCRIPT_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(wrong(error.to_string())),
        Ok(bytes) if bytes as u64 > SCRIPT_BYTES_MAX => {
            Err(wrong(format!("it has more than {SCRIPT_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(text),
    }
}

/// Where we are in the workspace: the workflow's `working-directory`.
fn working_directory(root: &Path) -> Result<Option<String>, CommandError> {
    let here = std::env::current_dir().map_err(|error| CommandError::new(Class::Usage, error))?;
    let Ok(root) = root.canonicalize() else { return Ok(None) };
    let below = here.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
    Ok(below.and_then(Path::to_str).map(str::to_owned))
}

/// What scripts hand to one another by way of the workflow.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Earlier {
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    path: Vec<String>,
    /// The digests of the job files that were used, by their paths.
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
}

impl Earlier {
    /// Scripts can write to the workspace, and the job file, which says what they may reach, usually lies there: what the first
    /// script of a workflow ran under is what all of them run under.
    fn must_know(&mut self, file: &Path, text: &[u8]) -> Result<(), CommandError> {
        let path = file.canonicalize().unwrap_or_else(|_| file.to_path_buf()).display().to_string();
        let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        match self.files.get(&path) {
            Some(known) if *known != digest => {
                let text = format!(
                    "the job file {path} has changed since an earlier step of this workflow ran by it"
                );
                let hint = "a script in the sandbox may have done that; use another name for a file that has to change";
                Err(CommandError::new(Class::Mismatch, text).with_hint(hint))
            }
            Some(_) => Ok(()),
            None => {
                self.files.insert(path, digest);
                Ok(())
            }
        }
    }
}

/// Reads what earlier scripts have handed on. It came through the workflow: it is looked at as if a script had just written it.
fn earlier(text: Option<&str>) -> Result<Earlier, CommandError> {
    let Some(text) = text else { return Ok(Earlier::default()) };
    let earlier: Option<Earlier> = serde_json::from_str(text).ok();
    let good = |earlier: &Earlier| {
        let path = |path: &String| path.starts_with('/') && !path.contains('\0');
        earlier.env.iter().all(|(name, value)| is_handed(name) && !value.contains('\0'))
            && earlier.path.iter().all(path)
    };
    earlier.filter(good).ok_or_else(|| {
        let text = format!("cannot understand {HANDED_VARIABLE}: it is not what `runner step` has written");
        CommandError::new(Class::Usage, text).with_hint("leave this variable of the workflow alone")
    })
}

/// What goes to steps of the workflow that run outside of a sandbox.
struct Exports<'e> {
    env: bool,
    path: bool,
    root: &'e Path,
}

/// Hands on what the script has written, to the workflow and to later scripts. Returns what is not handed on, in words.
fn hand_on(
    github: &GitHub,
    step: &StepDirectory,
    mut earlier: Earlier,
    before: Option<&str>,
    exports: &Exports<'_>,
) -> Result<Vec<String>, CommandError> {
    let mut warnings = Vec::new();
    let outputs: Vec<(String, String)> = step.read_outputs()?.into_iter().collect();
    if let (Some(file), false) = (&github.output, outputs.is_empty()) {
        warnings.extend(unwritten(files::append_values(file, &outputs)));
    }
    if let (Some(file), Some(text)) = (&github.summary, github::summary_of(step)) {
        warnings.extend(unwritten(files::append(file, &text)));
    }
    let HandedRecord { env, path } = step.read_handed()?;
    let mut values = Vec::new();
    if exports.env {
        values.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    earlier.env.extend(env);
    earlier.path.splice(0..0, path.iter().cloned());
    let all = serde_json::to_string(&earlier).unwrap_or_default();
    if all.len() > HANDED_BYTES_MAX {
        let text =
            format!("the scripts hand on more than {HANDED_BYTES_MAX} bytes by $GITHUB_ENV and $GITHUB_PATH");
        return Err(
            CommandError::new(Class::Usage, text).with_hint("hand large things on as files of the workspace")
        );
    }
    if before != Some(all.as_str()) {
        values.push((HANDED_VARIABLE.to_owned(), all));
    }
    if let Some(file) = &github.env {
        warnings.extend(unwritten(files::append_values(file, &values)));
    }
    if let (Some(file), true) = (&github.path, exports.path) {
        // Later entries come first there.
        for directory in path.iter().rev() {
            match outside(directory, exports.root) {
                Some(line) => warnings.extend(unwritten(files::append(file, line.as_bytes()))),
                None => {
                    warnings.push(format!("{directory} is not in the workspace: steps outside do not get it"))
                }
            }
        }
    }
    Ok(warnings)
}

fn unwritten(written: Result<(), files::FileError>) -> Option<String> {
    written.err().map(|error| error.to_string())
}

/// A directory of the workspace as it is called outside, as a line.
fn outside(directory: &str, root: &Path) -> Option<String> {
    let below = Path::new(directory).strip_prefix(WORKSPACE).ok()?;
    let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    let path = root.join(below);
    let text = path.to_str().filter(|text| !text.contains(['\n', '\r']))?;
    below.components().all(plain).then(|| format!("{text}\n"))
}
