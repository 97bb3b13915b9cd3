//! The command line: flags as typed, then settings. Only here are arguments and the environment read.
//!
//! `config` is the file of what is known about registries. `flags` is what clap knows; `settings` is what commands get: every value parsed, every default of the
//! environment applied. docs/cli.md describes all of it.

mod cache;
mod config;
mod environment;
mod flags;
mod image;
mod papers;
mod records;
mod secrets;
mod settings;
mod shell;
mod shown;
mod step;

use std::ffi::OsString;

use clap::Parser;

pub use cache::{CacheSettings, CacheVerb};
pub use environment::{Environment, GitHub};
pub use image::{ImageSettings, StoreVerb, UnpackSettings};
pub use papers::{InitSettings, Project};
pub use records::{RunsSettings, RunsVerb};
pub use settings::{
    ArtifactsSettings, ArtifactsVerb, CheckFormat, CheckSettings, Command, DoctorSettings, ExecSettings,
    ExitCodeOf, ExplainSettings, ImageSources, LogsSettings, Printed, RunSettings, ShowSettings,
};
pub use shell::ShellSettings;

pub use step::{HANDED_VARIABLE, StepSettings};

use crate::commands::{Class, RUN_ERROR_EXIT_CODE};

/// Why there is nothing to do: help was asked for, or the command line is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// What to print, newlines and colours included.
    pub text: String,
    /// Whether it was asked for: then it goes to standard output.
    pub asked_for: bool,
    /// What to exit with.
    pub exit_code: u8,
}

/// Reads the arguments, the program's own name first. What the flags leave open comes from `environment`.
///
/// Errors: help, version, and everything that is wrong with the command line; print [`Stop::text`].
pub fn parse(arguments: Vec<OsString>, environment: &Environment) -> Result<Command, Stop> {
    let is_run = names_run(&arguments);
    let flags = flags::Flags::try_parse_from(arguments).map_err(|error| stop(&error, is_run, environment))?;
    settings::command(flags.command, environment).map_err(|text| Stop {
        text: format!("error: {text}\n"),
        asked_for: false,
        exit_code: usage_exit_code(is_run),
    })
}

fn stop(error: &clap::Error, is_run: bool, environment: &Environment) -> Stop {
    let asked_for = !error.use_stderr();
    let color = if asked_for { environment.stdout_color } else { environment.stderr_color };
    let text = error.render();
    Stop {
        text: if color { text.ansi().to_string() } else { text.to_string() },
        asked_for,
        exit_code: if asked_for { 0 } else { usage_exit_code(is_run) },
    }
}

/// `runner run` and `runner step` give the command's own codes back: ours must be told apart from them.
fn usage_exit_code(is_run: bool) -> u8 {
    if is_run { RUN_ERROR_EXIT_CODE } else { Class::Usage.exit_code() }
}

/// Whether the command line means one of those, readable or not.
fn names_run(arguments: &[OsString]) -> bool {
    let verb = arguments.iter().skip(1).find(|argument| !argument.as_encoded_bytes().starts_with(b"-"));
    verb.is_some_and(|verb| verb == "run" || verb == "step")
}
