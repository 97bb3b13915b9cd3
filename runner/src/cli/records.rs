//! The settings of the commands that look after runs.

use std::path::PathBuf;
use std::time::Duration;

use jobs::units::{parse_duration, parse_size};

use super::environment::Environment;
use super::flags::records as flags;
use super::settings::{Command, invalid};

/// What to do with runs.
#[derive(Debug)]
pub enum RunsVerb {
    /// List them.
    List {
        /// Only those that did not succeed.
        failed: bool,
        /// Only so many, the newest.
        last: Option<usize>,
    },
    /// Show what runs just now.
    Ps,
    /// End one.
    Cancel {
        /// As the user names it.
        run: String,
        /// By SIGKILL.
        now: bool,
    },
    /// Wait for one's end.
    Wait {
        /// As the user names it.
        run: String,
    },
    /// Remove some.
    Prune {
        /// Those that ended so long ago.
        older: Option<Duration>,
        /// The oldest, until all together take at most so many bytes.
        bytes_max: Option<u64>,
        /// Only say which.
        dry_run: bool,
    },
}

/// `runner runs`, `ps`, `cancel`, `wait`, `prune`
#[derive(Debug)]
pub struct RunsSettings {
    /// Where records are.
    pub home: PathBuf,
    /// What to do.
    pub verb: RunsVerb,
    /// Whether JSON is printed.
    pub json: bool,
    /// Whether text on standard output has colours.
    pub stdout_color: bool,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

impl RunsSettings {
    fn command(verb: RunsVerb, json: bool, home: PathBuf, environment: &Environment) -> Command {
        let Environment { stdout_color, stderr_color, .. } = *environment;
        Command::Runs(Self { home, verb, json, stdout_color, stderr_color })
    }
}

pub(super) fn runs(flags: &flags::Runs, home: PathBuf, environment: &Environment) -> Command {
    let flags::Runs { failed, last, json } = *flags;
    RunsSettings::command(RunsVerb::List { failed, last }, json, home, environment)
}

pub(super) fn ps(flags: &flags::Ps, home: PathBuf, environment: &Environment) -> Command {
    RunsSettings::command(RunsVerb::Ps, flags.json, home, environment)
}

pub(super) fn cancel(flags: flags::Cancel, home: PathBuf, environment: &Environment) -> Command {
    let verb = RunsVerb::Cancel { run: flags.run, now: flags.now };
    RunsSettings::command(verb, false, home, environment)
}

pub(super) fn wait(flags: flags::Wait, home: PathBuf, environment: &Environment) -> Command {
    RunsSettings::command(RunsVerb::Wait { run: flags.run }, false, home, environment)
}

pub(super) fn prune(
    flags: &flags::Prune,
    home: PathBuf,
    environment: &Environment,
) -> Result<Command, String> {
    let older = flags.older.as_deref();
    let older = older.map(|text| parse_duration(text).map_err(|error| invalid("--older", text, error)));
    let bytes = flags.max_size.as_deref();
    let bytes = bytes.map(|text| parse_size(text).map_err(|error| invalid("--max-size", text, error)));
    let (older, bytes_max, dry_run) = (older.transpose()?, bytes.transpose()?, flags.dry_run);
    let verb = RunsVerb::Prune { older, bytes_max, dry_run };
    Ok(RunsSettings::command(verb, flags.json, home, environment))
}
