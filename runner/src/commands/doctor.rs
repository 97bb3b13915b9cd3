//! `runner doctor`: can jobs run here, and what mends it if not.

use std::path::Path;

use super::{Class, CommandError};
use crate::cli::DoctorSettings;
use crate::host::{self, Settings, Swept};
use crate::report::{Sink, doctor};
use crate::run::identity;
use crate::run::traces::{self, SweepSummary};
use crate::sandbox::zygote::Zygote;

/// The exit code when jobs cannot run here: the same as of a run that this machine cannot do.
pub const CANNOT_RUN_EXIT_CODE: u8 = 3;

/// Examines the machine, then clears away what runs that died have left, and prints both. Returns the exit code: 0 when
/// jobs can run. Call it while the process has one thread: the trials fork.
///
/// # Errors
/// `Host` when /proc cannot be read.
pub fn doctor(
    zygote: impl FnOnce() -> Result<Zygote, CommandError>,
    settings: &DoctorSettings,
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let workspace = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let trials = Settings { state: settings.home.clone(), workspace };
    let examined = if settings.network_only { host::examine_network() } else { host::examine(&trials) };
    let mut examination = examined.map_err(|error| {
        let hint = error.hint();
        CommandError { hint, ..CommandError::new(Class::Host, error) }
    })?;
    if !settings.network_only
        && let Some(swept) = zygote().ok().and_then(|zygote| sweep(&zygote, &settings.home))
    {
        examination.add(swept.check());
    }
    if settings.json {
        doctor::doctor_json(out, &examination);
    } else {
        doctor::doctor(out, &examination, settings.stdout_color, doctor::columns());
    }
    Ok(if examination.can_run { 0 } else { CANNOT_RUN_EXIT_CODE })
}

/// Cleans up after dead runs. `None`: there are none, or a machine that lets us do nothing has said so above.
fn sweep(zygote: &Zygote, home: &Path) -> Option<Swept> {
    if !home.join("live").is_dir() {
        return None;
    }
    let lease = identity::establish(zygote, home).ok()?;
    let summary = traces::sweep(home, zygote, Some(lease.identity)).ok()?;
    let SweepSummary { runs, removed, killed, left } = summary;
    Some(Swept { runs: runs.len() as u64, removed, killed, left })
}
