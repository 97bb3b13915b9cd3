//! `runner runs`, `ps`, `cancel`, `wait`, `prune`: looking after runs.

use std::cell::RefCell;
use std::path::Path;
use std::time::SystemTime;

use super::show::find;
use super::{Class, CommandError};
use crate::cli::{RunsSettings, RunsVerb};
use crate::report::{self, Sink};
use crate::run::identity::establish;
use crate::run::kept::Kept;
use crate::run::living;
use crate::run::prune::{self, RunLimits};
use crate::run::record::{RunDirectory, RunRecord, RunState};
use crate::run::setup_layers::{self, Made, SetupLayers};
use crate::sandbox::zygote::Zygote;

/// Does what the verb says, and returns what to exit with.
///
/// # Errors
/// A run that is not there, or not under way; records that cannot be read or removed.
pub fn runs(
    zygote: impl FnOnce() -> Result<Zygote, CommandError>,
    settings: &RunsSettings,
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let home = &settings.home;
    match &settings.verb {
        RunsVerb::List { failed, last } => list(settings, *failed, *last, out),
        RunsVerb::Ps => {
            report::runs::living(out, &living::all(home)?, settings.json, settings.stdout_color);
            Ok(0)
        }
        RunsVerb::Cancel { run, now } => cancel(home, run, *now, out),
        RunsVerb::Wait { run } => wait(settings, run, out),
        &RunsVerb::Prune { older, bytes_max, dry_run } => {
            remove(settings, RunLimits { older, bytes_max, dry_run }, zygote, out)
        }
    }
}

fn list(
    settings: &RunsSettings,
    failed: bool,
    last: Option<usize>,
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let runs = RunDirectory::all(&settings.home)?;
    let wanted = |record: &RunRecord| {
        let died = record.state == RunState::Died;
        !failed || died || record.conclusion.is_some_and(crate::outcome::Outcome::is_failure)
    };
    // A run that is being made has no record yet; one that another version wrote cannot be read.
    let records = runs.iter().rev().filter_map(|run| run.read_run().ok()).filter(wanted);
    let records: Vec<RunRecord> = records.take(last.unwrap_or(usize::MAX)).collect();
    report::runs::list(out, &records, settings.json, settings.stdout_color);
    Ok(0)
}

fn cancel(home: &Path, name: &str, now: bool, out: &mut Sink) -> Result<u8, CommandError> {
    let run = find(home, name)?;
    if living::stop(&run, now)? {
        report::runs::cancelled(out, run.id(), now);
        return Ok(0);
    }
    if run.is_live() {
        let text = format!("run {} is under way, but its process cannot be seen from here", run.id());
        return Err(CommandError::new(Class::Host, text)
            .with_hint("it may belong to another user, or live in another container"));
    }
    let text = format!("run {} is not under way", run.id());
    Err(CommandError::new(Class::Usage, text).with_hint("`runner ps` shows those that are"))
}

fn wait(settings: &RunsSettings, name: &str, out: &mut Sink) -> Result<u8, CommandError> {
    let run = find(&settings.home, name)?;
    run.wait()?;
    let record = run.read_run()?;
    report::runs::ended(out, &record, settings.stdout_color);
    match (record.state, record.exit_code) {
        (RunState::Finished, Some(code)) => Ok(code),
        (RunState::Finished | RunState::Running | RunState::Died, _) => {
            let text = format!("run {} was killed before it could record an end", run.id());
            Err(CommandError::new(Class::Host, text))
        }
    }
}

/// The ids of what steps left, made when something has to be removed.
struct Ids<'i, Z> {
    zygote: Option<Z>,
    established: Option<Zygote>,
    home: &'i Path,
}

impl<Z: FnOnce() -> Result<Zygote, CommandError>> Ids<'_, Z> {
    fn zygote(&mut self) -> Result<&Zygote, String> {
        if let Some(zygote) = self.zygote.take() {
            let zygote = zygote().map_err(|error| error.to_string())?;
            let _lease = establish(&zygote, self.home).map_err(|error| error.to_string())?;
            self.established = Some(zygote);
        }
        self.established.as_ref().ok_or_else(|| "there are no ids for it".to_owned())
    }
}

fn remove(
    settings: &RunsSettings,
    limits: RunLimits,
    zygote: impl FnOnce() -> Result<Zygote, CommandError>,
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let home = &settings.home;
    // What steps of an ordinary user left has the ids of its user namespace: made when it is needed.
    let ids = RefCell::new(Ids { zygote: Some(zygote), established: None, home });
    let mut release = |kept: &Kept| kept.release(home, ids.borrow_mut().zygote()?);
    let now = SystemTime::now();
    let mut pruned = prune::prune(home, limits, now, &mut release)?;
    if let (Some(unused), false) = (limits.older, limits.dry_run) {
        let mut remove = |made: &Made, directory: &Path, name: &str| {
            setup_layers::remove(made, directory, name, ids.borrow_mut().zygote()?)
        };
        SetupLayers::of(home).prune(unused, now, &mut remove, &mut pruned.failed);
    }
    report::runs::pruned(out, &pruned, limits.dry_run, settings.json);
    match pruned.failed.first() {
        None => Ok(0),
        Some(first) => {
            Err(CommandError::new(Class::Host, format!("not every run could be removed: {first}")))
        }
    }
}
