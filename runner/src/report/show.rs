//! `runner show`: a run as a table.

use unicode_width::UnicodeWidthStr;

use super::escape;
use super::format::{self, Paint};
use super::plain::show_name;
use super::sink::Sink;
use crate::outcome::{Outcome, StepResult};
use crate::run::record::{RunRecord, RunState};

const HEADINGS: [&str; 8] = ["", "STEP", "OUTCOME", "EXIT", "WALL", "CPU", "MEM", "PIDS"];

/// Prints a run: how it ended, its steps and what they used, artifacts, warnings, causes.
pub fn table(sink: &mut Sink, run: &RunRecord, directory: &str, color: bool) {
    let paint = Paint { color };
    let of = run.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
    sink.line(&format!("run {}: {}{}", run.id, show_name(&run.name), show_name(&of)));
    sink.line(&format!("  {}", state(run, paint)));
    sink.line(&format!("  started {}", run.started));
    let host = &run.host;
    sink.line(&format!(
        "  on linux {} {}, {} cpus, {}, cgroup {}, runner {}",
        host.kernel,
        host.arch,
        host.cpus,
        format::size(host.memory),
        host.cgroup,
        host.runner_version
    ));
    for job in &run.jobs {
        let digest = job.image.digest.as_ref().map(|digest| format!(" {digest}")).unwrap_or_default();
        sink.line("");
        sink.line(&format!("job {} on {}{digest}", job.id, show_name(&job.image.reference)));
        steps(sink, &job.steps, paint);
        for line in job.services.iter().flat_map(|service| super::service::summary(service, paint)) {
            sink.line(&line);
        }
    }
    if !run.artifacts.is_empty() {
        sink.line("");
    }
    for artifact in &run.artifacts {
        let files = format::count(artifact.files, "file");
        sink.line(&format!(
            "artifact {}: {files}, {}",
            show_name(&artifact.name),
            format::size(artifact.bytes)
        ));
    }
    if let Some(reports) = &run.reports {
        let tests = (reports.counts.tests > 0).then_some(reports.counts);
        sink.line(&format!("reports: {}", format::reports(tests, reports.coverage, reports.findings)));
    }
    for warning in &run.warnings {
        for line in super::plain::warning_lines(
            warning.code.as_deref(),
            &warning.text,
            warning.hint.as_deref(),
            paint,
        ) {
            sink.line(&line);
        }
    }
    sink.line("");
    sink.line(&format!("records: {directory}"));
    sink.flush();
}

/// Prints the record as it stands in `run.json`; of a run that has not finished, with what is known of its steps.
pub fn json(sink: &mut Sink, run: &RunRecord) {
    // A record is strings and numbers only: serialising it cannot fail.
    if let Ok(text) = serde_json::to_string_pretty(run) {
        sink.line(&text);
    }
    sink.flush();
}

fn state(run: &RunRecord, paint: Paint) -> String {
    match (run.state, run.outcome) {
        (RunState::Running, _) => "running".to_owned(),
        (RunState::Died, _) | (RunState::Finished, None) => {
            paint.bad("died: its process was killed before it could record an end")
        }
        (RunState::Finished, Some(outcome)) => {
            let took = run.wall_s.map(|wall| format!(" in {}", format::duration(wall))).unwrap_or_default();
            let code = run.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
            let word = match outcome {
                Outcome::Success => paint.good(outcome.as_str()),
                _ => paint.bad(outcome.as_str()),
            };
            format!("{word}{took}{code}")
        }
    }
}

fn steps(sink: &mut Sink, steps: &[StepResult], paint: Paint) {
    let rows: Vec<[String; 8]> = steps.iter().map(|step| row(step, paint)).collect();
    let headings = HEADINGS.map(str::to_owned);
    let mut widths = [0; 8];
    for row in rows.iter().chain([&headings]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(cell));
        }
    }
    sink.line(&paint.dim(&align(&headings, &widths)));
    for (step, row) in steps.iter().zip(&rows) {
        sink.line(&align(row, &widths));
        // What is said about an end belongs under it.
        let notes = [("cause", format::cause(step)), ("hint", step.remedy.as_deref())];
        for (word, text) in notes.into_iter().filter_map(|(word, text)| Some((word, text?))) {
            if step.outcome.is_failure() {
                sink.line(&format!("    {word}: {}", show_name(text)));
            }
        }
    }
}

fn row(step: &StepResult, paint: Paint) -> [String; 8] {
    let usage = &step.usage;
    let skipped = step.outcome == Outcome::Skipped;
    let dash = || "-".to_owned();
    let memory = usage.mem_peak.map_or_else(dash, |peak| match step.limits.memory_bytes {
        Some(limit) => format!("{}/{}", format::size(peak), format::size(limit)),
        None => format::size(peak),
    });
    let pids = usage.pids_peak.map_or_else(dash, |peak| match step.limits.pids {
        Some(limit) => format!("{peak}/{limit}"),
        None => peak.to_string(),
    });
    [
        paint.mark(step.outcome),
        escape::fit(&step.id, 32),
        match (step.outcome, step.signal) {
            (Outcome::Signal, Some(signal)) => format::signal_name(signal),
            _ => step.outcome.as_str().to_owned(),
        },
        step.exit_code.map_or_else(dash, |code| code.to_string()),
        if skipped { dash() } else { format::duration(usage.wall_s) },
        if skipped { dash() } else { format::duration(usage.cpu_s) },
        if skipped { dash() } else { memory },
        if skipped { dash() } else { pids },
    ]
}

/// Columns of a cell on the screen; our own colours take none.
fn columns(cell: &str) -> usize {
    escape::line(cell.as_bytes(), escape::Colors::Strip).width()
}

fn align(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let mut line = String::from("  ");
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width - columns(cell) + 2));
    }
    line.trim_end().to_owned()
}
