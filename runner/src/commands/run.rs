//! `runner run`: one command without a job file. Its exit code is passed through.

use std::fs::File;
use std::os::fd::OwnedFd;

use jobs::{Command, Workspace};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;

use super::launch::{fetch_settings, launch, no_input, ours};
use super::{Class, CommandError, RUN_ERROR_EXIT_CODE};
use crate::cli::RunSettings;
use crate::outcome::Keep;
use crate::report::Briefing;
use crate::run::execute::Execution;
use crate::run::secrets::Secrets;
use crate::run::step_files::Handed;
use crate::run::workspace;
use crate::sandbox::zygote::Zygote;

/// Runs the command and returns its exit code.
///
/// # Errors
/// Everything that is not the command's own doing; all of it exits with 125.
pub fn run(zygote: Zygote, settings: RunSettings) -> Result<u8, CommandError> {
    let plan = plan(&settings)?;
    let stdin = if settings.interactive { pumped_input()? } else { no_input()? };
    let base = std::env::current_dir().map_err(|error| CommandError::new(Class::Usage, error))?;
    let execution = Execution {
        secrets: Secrets::default(),
        secrets_in_artifacts: false,
        keep: Keep::Never,
        reuse: true,
        inside: None,
        plan,
        file: None,
        included: Vec::new(),
        fetch: fetch_settings(&settings.sources),
        root: workspace::root_of(&base),
        base,
        inherited: Handed::default(),
        home: settings.home,
        run_id: None,
        warnings: Vec::new(),
        jobs_max: None,
        stdin,
    };
    let finished = ours(launch(zygote, execution, settings.report, Briefing::default())?)?;
    Ok(finished.step_exit_code.unwrap_or(RUN_ERROR_EXIT_CODE))
}

/// The plan of a job file with one step: same defaults, same rules. The command itself is put in afterwards, because
/// it is no text of a file.
fn plan(settings: &RunSettings) -> Result<jobs::Plan, CommandError> {
    let workspace = match settings.workspace {
        Workspace::InPlace => ".",
        Workspace::Copy => "copy",
        Workspace::Git => "git",
        Workspace::Empty => "empty",
    };
    let mounts: Vec<_> = settings
        .mounts
        .iter()
        .map(|mount| json!({"host": mount.host, "path": mount.path, "ro": mount.read_only}))
        .collect();
    let mut image = json!({"ref": settings.image.reference});
    if let Some(digest) = &settings.image.sha256 {
        image["sha256"] = json!(digest);
    }
    let job = json!({
        "image": image, "workspace": workspace, "mounts": mounts,
        "steps": [{"id": "command", "run": ["command"]}],
    });
    // JSON is YAML.
    let text = job.to_string();
    let planned = jobs::plan("command line", "run", text.as_bytes(), &settings.overrides)?;
    let mut plan = planned.plan;
    if let Some(step) = plan.jobs.first_mut().and_then(|job| job.steps.first_mut()) {
        step.name = settings.command.join(" ");
        step.command = Command::Argv(settings.command.clone());
    }
    Ok(plan)
}

/// Our standard input through a pipe: the step must not get our own descriptor, which may be a terminal.
pub(super) fn pumped_input() -> Result<OwnedFd, CommandError> {
    let (theirs, ours) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|errno| CommandError::new(Class::Host, errno))?;
    // The thread ends with the process: the command may leave its input unread.
    std::thread::spawn(move || std::io::copy(&mut std::io::stdin().lock(), &mut File::from(ours)));
    Ok(theirs)
}
