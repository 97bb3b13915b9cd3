//! `runner show --html`: a run as one page that needs nothing else: no script, no other file, no server.
//!
//! Everything that is not made here goes through [`ansi::push_text`] or [`ansi::line`]: names, causes, paths and logs are what
//! steps and job files made them. The page forbids scripts and connections besides, by its own policy.

mod ansi;
mod charts;
mod parts;
mod timeline;

use std::path::Path;

use serde_json::Value;

use super::format;
use super::sink::Sink;
use crate::outcome::{Outcome, StepResult};
use crate::run::artifacts::Manifest;
use crate::run::record::{RunRecord, RunState};
use ansi::push_text;

const STYLE: &str = include_str!("html/style.css");
/// What the page may do: be styled by itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
/// Bytes of all logs together: a page of more is no page.
const LOG_BYTES_MAX: usize = 24 << 20;

/// What a page is made of.
#[derive(Debug)]
pub struct Pages<'p> {
    /// The record.
    pub run: &'p RunRecord,
    /// Where the logs are.
    pub directory: &'p Path,
    /// The files of the artifacts.
    pub manifest: &'p Manifest,
    /// `junit.json`, `coverage.json`, `sarif.json`; null where there is none.
    pub reports: [Value; 3],
}

/// Writes the page.
pub fn page(sink: &mut Sink, pages: &Pages<'_>) {
    let run = pages.run;
    let mut head = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    head.push_str(&format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">"));
    head.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    push_text(&mut head, &format!("{} · {} · {}", run.name, word(run), run.id));
    head.push_str("</title><style>");
    head.push_str(STYLE);
    head.push_str("</style></head><body><main>");
    push_header(&mut head, run);
    push_cards(&mut head, run);
    timeline::push(&mut head, run);
    push_charts(&mut head, run);
    sink.write(head.as_bytes());
    let mut room = LOG_BYTES_MAX;
    for (number, job) in run.jobs.iter().enumerate() {
        parts::job(sink, pages, job, number, &mut room);
    }
    let mut foot = String::new();
    parts::push_reports(&mut foot, &pages.reports);
    parts::push_artifacts(&mut foot, &pages.manifest.files);
    parts::push_warnings(&mut foot, run);
    foot.push_str("<footer>");
    push_text(
        &mut foot,
        &format!("runner {} · records: {}", run.host.runner_version, pages.directory.display()),
    );
    foot.push_str("</footer></main></body></html>\n");
    sink.write(foot.as_bytes());
    sink.flush();
}

/// How a run is called that may not be over.
fn word(run: &RunRecord) -> &'static str {
    match (run.state, run.outcome) {
        (RunState::Running, _) => "running",
        (RunState::Died, _) | (RunState::Finished, None) => "died",
        (RunState::Finished, Some(outcome)) => outcome.as_str(),
    }
}

fn run_class(run: &RunRecord) -> &'static str {
    match (run.state, run.outcome) {
        (RunState::Running, _) => "running",
        (RunState::Died, _) | (RunState::Finished, None) => "failure",
        (RunState::Finished, Some(outcome)) => class(outcome),
    }
}

/// The tone of an outcome.
fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Skipped => "skipped",
        Outcome::Cancelled => "cancelled",
        Outcome::Failure
        | Outcome::Signal
        | Outcome::Timeout
        | Outcome::Oom
        | Outcome::Pids
        | Outcome::Disk
        | Outcome::Leak
        | Outcome::Error => "failure",
    }
}

fn push_header(out: &mut String, run: &RunRecord) {
    out.push_str("<header><div><h1>");
    push_text(out, &run.name);
    out.push_str("</h1><p class=\"soft\">");
    let file = run.file.as_ref().map(|file| format!(" · {file}")).unwrap_or_default();
    push_text(out, &format!("run {}{file}", run.id));
    out.push_str("<br>");
    let host = &run.host;
    let started =
        run.started.split_once('.').map_or(run.started.as_str(), |(whole, _)| whole).replace('T', " ");
    push_text(
        out,
        &format!(
            "started {started} UTC on linux {} {}, {} CPUs, {}",
            host.kernel,
            host.arch,
            host.cpus,
            format::size(host.memory)
        ),
    );
    out.push_str(&format!("</p></div><span class=\"badge {}\">", run_class(run)));
    push_text(out, word(run));
    out.push_str("</span></header>");
}

fn push_cards(out: &mut String, run: &RunRecord) {
    let steps: Vec<&StepResult> = run.jobs.iter().flat_map(|job| &job.steps).collect();
    let ran = steps.iter().filter(|step| step.outcome != Outcome::Skipped).count();
    let passed = steps.iter().filter(|step| step.outcome == Outcome::Success).count();
    let cpu: f64 = steps.iter().map(|step| step.usage.cpu_s).sum();
    let peak = steps.iter().filter_map(|step| step.usage.mem_peak).max();
    let mut cards = vec![
        (run.wall_s.map_or_else(|| "–".to_owned(), format::duration), "wall time".to_owned()),
        (format!("{passed}/{ran}"), "steps succeeded".to_owned()),
        (format::duration(cpu), "CPU time".to_owned()),
        (peak.map_or_else(|| "–".to_owned(), format::size), "highest memory of a step".to_owned()),
    ];
    if let Some(reports) = &run.reports {
        let counts = reports.counts;
        if counts.tests > 0 {
            let flaky = if counts.flaky > 0 { format!(", {} flaky", counts.flaky) } else { String::new() };
            let passed = counts.tests.saturating_sub(counts.failed + counts.skipped);
            cards.push((
                format!("{passed}/{}", counts.tests),
                format!("tests passed; {} failed, {} skipped{flaky}", counts.failed, counts.skipped),
            ));
        }
        if let Some(coverage) = reports.coverage {
            cards.push((
                format!("{:.1} %", coverage.percent()),
                format!("of {} lines covered", coverage.lines),
            ));
        }
        if let Some(found) = reports.findings {
            let all = found.errors + found.warnings + found.notes;
            cards.push((all.to_string(), format!("findings, {} of them errors", found.errors)));
        }
    }
    out.push_str("<div class=\"cards\">");
    for (number, what) in cards {
        out.push_str("<div class=\"card\"><b>");
        push_text(out, &number);
        out.push_str("</b><span>");
        push_text(out, &what);
        out.push_str("</span></div>");
    }
    out.push_str("</div>");
}

fn push_charts(out: &mut String, run: &RunRecord) {
    let several = run.jobs.len() > 1;
    let label = |job: &str, step: &StepResult| {
        if several { format!("{job}/{}", step.id) } else { step.id.clone() }
    };
    let steps =
        run.jobs.iter().flat_map(|job| job.steps.iter().map(move |step| (label(&job.id, step), step)));
    let steps: Vec<(String, &StepResult)> = steps.collect();
    let (times, memory) = (charts::times(&steps), charts::memory(&steps));
    if times.is_none() && memory.is_none() {
        return;
    }
    out.push_str("<h2>What it used</h2><div class=\"two\">");
    let legends = [
        (
            times,
            "<i style=\"background:var(--wall)\"></i>wall time · <i style=\"background:var(--cpu)\"></i>CPU time",
        ),
        (
            memory,
            "<i style=\"background:var(--memory)\"></i>peak memory · <i style=\"background:var(--bad)\"></i>limit",
        ),
    ];
    for (chart, legend) in legends {
        if let Some(chart) = chart {
            let legend: Vec<String> =
                legend.split(" · ").map(|entry| format!("<span>{entry}</span>")).collect();
            out.push_str(&format!(
                "<div class=\"panel pad\"><div class=\"legend\">{}</div>{chart}</div>",
                legend.concat()
            ));
        }
    }
    out.push_str("</div>");
}
