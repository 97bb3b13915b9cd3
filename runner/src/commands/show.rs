//! `runner show`: how a run went.

use super::CommandError;
use crate::cli::ShowSettings;
use crate::report::{self, Sink};
use crate::run::record::{RunDirectory, Selector};

/// Prints a run as a table, or its record.
pub fn show(settings: &ShowSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let directory = find(&settings.home, &settings.run)?;
    let run = directory.read_run()?;
    if settings.json {
        report::show::json(out, &run);
    } else {
        report::show::table(out, &run, &directory.path().display().to_string(), settings.stdout_color);
    }
    Ok(0)
}

/// Finds the run that the user names.
pub(super) fn find(home: &std::path::Path, run: &str) -> Result<RunDirectory, CommandError> {
    let selector = match run.parse::<Selector>() {
        Ok(selector) => selector,
        Err(never) => match never {},
    };
    Ok(RunDirectory::open(home, &selector)?)
}
