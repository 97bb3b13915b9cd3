//! `runner logs`: what the steps of a run printed.

use std::io;

use super::show::find;
use super::{Class, CommandError};
use crate::cli::LogsSettings;
use crate::report::Sink;
use crate::report::logs::{self, LogView};
use crate::run::logs::{LogReader, tail_offset};
use crate::run::record::{RecordError, StepDirectory};

/// Prints the logs of one step, or of all in their order.
pub fn logs(settings: &LogsSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let run = find(&settings.home, &settings.run)?;
    let all = run.steps()?;
    let chosen = choose(&all, settings.step.as_deref(), run.id())?;
    let view = LogView { raw: settings.raw, timestamps: settings.timestamps, color: settings.stdout_color };
    let several_jobs = all.iter().any(|step| step.job != all[0].job);
    let heading = settings.terminal && chosen.len() > 1;
    for (step, offset) in beginnings(&chosen, settings.tail)? {
        if heading {
            let label = if several_jobs { format!("{}/{}", step.job, step.id) } else { step.id.clone() };
            logs::heading(out, &label, view);
        }
        let path = step.log_path();
        let mut log = LogReader::open(&path, offset).map_err(|source| RecordError::io("open", &path, source))?;
        logs::print(out, &mut log, view).map_err(|source| RecordError::io("read", &path, source))?;
    }
    Ok(0)
}

fn choose<'a>(all: &'a [StepDirectory], step: Option<&str>, run: &str) -> Result<Vec<&'a StepDirectory>, CommandError> {
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
    Err(CommandError::new(Class::Usage, format!("run {run} has no step `{wanted}` that was started")).with_hint(hint))
}

/// Returns where each log begins so that `tail` lines are left in all; logs before them are left out.
fn beginnings<'a>(
    steps: &[&'a StepDirectory],
    tail: Option<u64>,
) -> Result<Vec<(&'a StepDirectory, u64)>, CommandError> {
    // A step that was just started has no log yet.
    let steps = steps.iter().copied().filter(|step| step.log_path().exists());
    let Some(mut missing) = tail else { return Ok(steps.map(|step| (step, 0)).collect()) };
    let mut chosen = Vec::new();
    for step in steps.collect::<Vec<_>>().into_iter().rev() {
        if missing == 0 {
            break;
        }
        let path = step.log_path();
        let (offset, lines) = tail_offset(&path, missing)
            .map_err(|source: io::Error| RecordError::io("read", &path, source))?;
        missing -= lines;
        chosen.push((step, offset));
    }
    chosen.reverse();
    Ok(chosen)
}
