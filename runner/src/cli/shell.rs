//! The settings of `runner shell`.

use std::path::PathBuf;

use super::environment::Environment;
use super::flags::records as flags;
use super::settings::{Command, ImageSources, sources};
use super::shown::report;
use crate::report::{Output, ReportSettings};

/// `runner shell`
#[derive(Debug)]
pub struct ShellSettings {
    /// Where records, the store and what is kept are.
    pub home: PathBuf,
    /// `RUN[/JOB][:STEP]` as the user writes it; the step that failed last without.
    pub at: Option<String>,
    /// As root inside, whoever the step ran as.
    pub root: bool,
    /// The command; a shell of the image if empty.
    pub command: Vec<String>,
    /// Standard input and output are a terminal: the command gets one of its own.
    pub terminal: bool,
    /// What kind it is.
    pub term: Option<String>,
    /// How the image is come by if it is not in the store any more.
    pub sources: ImageSources,
    /// How our own words are shown.
    pub report: ReportSettings,
}

pub(super) fn shell(
    flags: flags::Shell,
    home: PathBuf,
    environment: &Environment,
) -> Result<Command, String> {
    let terminals = &environment.terminals;
    let terminal = terminals.stdin && terminals.stdout;
    let output = if terminal { Output::Passthrough } else { environment.output_of_one() };
    Ok(Command::Shell(ShellSettings {
        home,
        at: flags.at,
        root: flags.root,
        command: flags.command,
        terminal,
        term: environment.variables.get("TERM").cloned(),
        sources: sources(flags.sources, environment)?,
        report: report(output, environment.stderr_color, false, environment),
    }))
}
