//! `runner logs`: what the steps of a run printed, or its services.

use std::io;
use std::path::PathBuf;

use super::show::find;
use super::{Class, CommandError};
use crate::cli::LogsSettings;
use crate::report::Sink;
use crate::report::logs::{self, LogView};
use crate::run::logs::{LogReader, tail_offset};
use crate::run::record::{RecordError, StepDirectory};

/// Prints the logs of one step, or of all in their order; or of a service.
pub fn logs(settings: &LogsSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let run = find(&settings.home, &settings.run)?;
    let (all, wanted, kind) = match &settings.service {
        Some(service) => (run.services()?, Some(service.as_str()), "service"),
        None => (run.steps()?, settings.step.as_deref(), "step"),
    };
    let chosen = choose(&all, wanted, run.id(), kind)?;
    let view = LogView {
        raw: settings.raw,
        timestamps: settings.timestamps,
        color: settings.stdout_color,
        outer: settings.outer,
    };
    let several_jobs = all.iter().any(|step| step.job != all[0].job);
    let heading = settings.terminal && chosen.len() > 1;
    let logs = of_attempt(&chosen, settings.attempt, run.id())?;
    for (step, path, offset) in beginnings(logs, settings.tail)? {
        if heading {
            let label = if several_jobs { format!("{}/{}", step.job, step.id) } else { step.id.clone() };
            logs::heading(out, &label, view);
        }
        let mut log =
            LogReader::open(&path, offset).map_err(|source| RecordError::io("open", &path, source))?;
        logs::print(out, &mut log, view).map_err(|source| RecordError::io("read", &path, source))?;
    }
    Ok(0)
}

fn choose<'a>(
    all: &'a [StepDirectory],
    step: Option<&str>,
    run: &str,
    kind: &str,
) -> Result<Vec<&'a StepDirectory>, CommandError> {
    let Some(wanted) = step else { return Ok(all.iter().collect()) };
    let chosen: Vec<&StepDirectory> = match wanted.split_once('/') {
        Some((job, id)) => all.iter().filter(|step| step.job == job && step.id == id).collect(),
        None => all.iter().filter(|step| step.id == wanted).collect(),
    };
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let ids: Vec<&str> = all.iter().map(|step| step.id.as_str()).collect();
    let hint = if ids.is_empty() { "it has none".to_owned() } else { format!("it has {}", ids.join(", ")) };
    Err(CommandError::new(Class::Usage, format!("run {run} has no {kind} `{wanted}` that was started"))
        .with_hint(hint))
}

/// A step and the log of one attempt at it.
type Log<'a> = (&'a StepDirectory, PathBuf);

/// Returns the logs of this attempt, or of the last one. Those that were not attempted so often have none.
fn of_attempt<'a>(
    steps: &[&'a StepDirectory],
    attempt: Option<u32>,
    run: &str,
) -> Result<Vec<Log<'a>>, CommandError> {
    let log = |step: &&'a StepDirectory| {
        let path = match attempt {
            Some(number) => step.attempt_log_path(number)?,
            None => step.log_path(),
        };
        // A step that was just started has no log yet.
        path.exists().then_some((*step, path))
    };
    let logs: Vec<Log<'a>> = steps.iter().filter_map(log).collect();
    if let (Some(number), true) = (attempt, logs.is_empty()) {
        let text = format!("nothing in run {run} was attempted {number} times");
        return Err(CommandError::new(Class::Usage, text)
            .with_hint(format!("`runner show {run} --json` has the `attempts` of each step")));
    }
    Ok(logs)
}

/// Returns where each log begins so that `tail` lines are left in all; logs before them are left out.
fn beginnings(
    logs: Vec<Log<'_>>,
    tail: Option<u64>,
) -> Result<Vec<(&StepDirectory, PathBuf, u64)>, CommandError> {
    let Some(mut missing) = tail else {
        return Ok(logs.into_iter().map(|(step, path)| (step, path, 0)).collect());
    };
    let mut chosen = Vec::new();
    for (step, path) in logs.into_iter().rev() {
        if missing == 0 {
            break;
        }
        let (offset, lines) = tail_offset(&path, missing)
            .map_err(|source: io::Error| RecordError::io("read", &path, source))?;
        missing -= lines;
        chosen.push((step, path, offset));
    }
    chosen.reverse();
    Ok(chosen)
}
