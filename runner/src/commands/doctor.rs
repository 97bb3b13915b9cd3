//! `runner doctor`: can jobs run here, and what mends it if not.

use std::path::PathBuf;

use super::{Class, CommandError};
use crate::host::{self, Settings, Swept};
use crate::report::{Sink, doctor};

/// The exit code when jobs cannot run here: the same as of a run that this machine cannot do.
pub const CANNOT_RUN_EXIT_CODE: u8 = 3;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// One JSON object instead of lines.
    pub json: bool,
    /// Whether lines have colours.
    pub color: bool,
    /// Where images and records go; need not be there yet.
    pub state: PathBuf,
    /// What jobs would work on: the current directory.
    pub workspace: PathBuf,
}

/// Examines the machine, then lets `sweep` clear away what runs that died have left, and prints both. Returns the exit
/// code: 0 when jobs can run. Call it while the process has one thread: the trials fork.
///
/// # Errors
/// `Host` when /proc cannot be read.
pub fn doctor(
    options: &DoctorOptions,
    sweep: impl FnOnce() -> Option<Swept>,
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let settings = Settings { state: options.state.clone(), workspace: options.workspace.clone() };
    let mut examination = host::examine(&settings).map_err(|error| {
        let hint = error.hint();
        CommandError { class: Class::Host, error: Box::new(error), hint }
    })?;
    if let Some(swept) = sweep() {
        examination.add(swept.check());
    }
    if options.json {
        doctor::doctor_json(out, &examination);
    } else {
        doctor::doctor(out, &examination, options.color, doctor::columns());
    }
    Ok(if examination.can_run { 0 } else { CANNOT_RUN_EXIT_CODE })
}
