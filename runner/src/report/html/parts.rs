//! The parts of the page below its charts: steps with their logs, reports, artifacts, warnings.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::ansi::{self, push_text};
use super::{Pages, class};
use crate::outcome::{Outcome, ServiceResult, StepResult};
use crate::report::format;
use crate::report::sink::Sink;
use crate::run::artifacts::{EntryKind, ManifestEntry};
use crate::run::logs::{LogReader, tail_offset};
use crate::run::record::{JobRecord, RunRecord, WarningRecord};

/// Lines of a log that are shown whole; of a longer one, so many at its beginning and at its end.
const LINES_MAX: u64 = 4_000;
const LINES_FIRST: u64 = 1_000;
const LINES_LAST: u64 = 2_500;
/// Bytes of a line.
const LINE_BYTES_MAX: usize = 4_000;
/// Rows of a table.
const ROWS_MAX: usize = 500;

/// Writes a job: its image, and its steps with their logs. `room`: bytes of logs that are left.
pub(super) fn job(sink: &mut Sink, pages: &Pages<'_>, job: &JobRecord, number: usize, room: &mut usize) {
    let own = pages.run.jobs.len() > 1;
    let mut out = String::from(if own { "<h2 class=\"own\">" } else { "<h2>" });
    push_text(&mut out, if own { &job.id } else { "Steps" });
    out.push_str("</h2><p class=\"soft\">on <code>");
    push_text(&mut out, &job.image.reference);
    out.push_str("</code> <span class=\"faint m\">");
    push_text(&mut out, job.image.digest.as_deref().unwrap_or_default());
    out.push_str("</span></p><div class=\"panel\">");
    sink.write(out.as_bytes());
    for step in &job.steps {
        write_step(sink, pages.directory, step, number, room);
    }
    for service in &job.services {
        write_service(sink, pages.directory, service, room);
    }
    sink.write(b"</div>");
}

fn write_service(sink: &mut Sink, directory: &Path, service: &ServiceResult, room: &mut usize) {
    let failed = service.outcome.is_failure();
    let open = if failed && !service.optional { " open" } else { "" };
    let mut out = format!(
        "<details class=\"step {}\"{open}><summary><i class=\"dot\"></i><span class=\"name\">",
        class(service.outcome)
    );
    push_text(&mut out, &service.name);
    out.push_str("</span><span class=\"soft\">service on <code>");
    push_text(&mut out, &service.image.reference);
    out.push_str("</code></span><span class=\"facts\"><span class=\"word\">");
    push_text(&mut out, service.outcome.as_str());
    out.push_str("</span>");
    if let Some(ready_s) = service.ready_s {
        push_text(&mut out, &format!(" · ready in {}", format::duration(ready_s)));
    }
    out.push_str("</span></summary><div class=\"body\">");
    if failed {
        let hint = service.remedy.as_ref().map(|remedy| format!("hint: {remedy}"));
        push_lines(&mut out, service.cause.clone().into_iter().chain(hint).collect());
    }
    sink.write(out.as_bytes());
    write_log(sink, directory, &service.log.path, service.log.lines, room);
    sink.write(b"</div></details>");
}

fn write_step(sink: &mut Sink, directory: &Path, step: &StepResult, job: usize, room: &mut usize) {
    let tone = class(step.outcome);
    let open = if step.conclusion.is_failure() { " open" } else { "" };
    let mut out = format!(
        "<details class=\"step {tone}\" id=\"s{job}-{}\"{open}><summary><i class=\"dot\"></i><span class=\"name\">",
        step.index
    );
    push_text(&mut out, &step.id);
    out.push_str("</span>");
    if step.name != step.id {
        out.push_str("<span class=\"soft m\">");
        push_text(&mut out, &step.name);
        out.push_str("</span>");
    }
    out.push_str("<span class=\"facts\"><span class=\"word\">");
    push_text(&mut out, &format::outcome(step));
    out.push_str("</span>");
    if step.outcome != Outcome::Skipped {
        push_text(&mut out, &format!(" · {}", format::usage(step)));
    }
    out.push_str("</span></summary><div class=\"body\">");
    if step.outcome.is_failure() {
        push_cause(&mut out, step);
    }
    sink.write(out.as_bytes());
    for (number, attempt) in step.earlier.iter().enumerate() {
        let mut out = String::from("<details><summary class=\"soft\">");
        let took = format::duration(attempt.usage.wall_s);
        push_text(&mut out, &format!("attempt {}: {} in {took}", number + 1, attempt.outcome.as_str()));
        out.push_str("</summary>");
        sink.write(out.as_bytes());
        write_log(sink, directory, &attempt.log.path, attempt.log.lines, room);
        sink.write(b"</details>");
    }
    if step.outcome != Outcome::Skipped {
        write_log(sink, directory, &step.log.path, step.log.lines, room);
    }
    sink.write(b"</div></details>");
}

fn push_cause(out: &mut String, step: &StepResult) {
    let lines = [
        format::cause(step).map(str::to_owned),
        step.remedy.as_ref().map(|remedy| format!("hint: {remedy}")),
    ];
    let forgiven = !step.conclusion.is_failure();
    let lines: Vec<String> = lines
        .into_iter()
        .flatten()
        .chain(forgiven.then(|| "goes on: continue-on-error".to_owned()))
        .collect();
    push_lines(out, lines);
}

fn push_lines(out: &mut String, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    out.push_str("<div class=\"cause\">");
    for line in lines {
        out.push_str("<p>");
        push_text(out, &line);
        out.push_str("</p>");
    }
    out.push_str("</div>");
}

fn write_log(sink: &mut Sink, directory: &Path, path: &str, lines: u64, room: &mut usize) {
    if path.is_empty() || lines == 0 {
        sink.write(b"<p class=\"faint\">no output</p>");
        return;
    }
    if *room == 0 {
        note(sink, &format!("{lines} lines, which have no room on this page: {path}"));
        return;
    }
    sink.write(b"<pre>");
    if let Err(error) = write_lines(sink, &directory.join(path), lines, room) {
        note(sink, &format!("the log cannot be read: {error}"));
    }
    sink.write(b"</pre>");
}

fn note(sink: &mut Sink, text: &str) {
    let mut out = String::from("<span class=\"faint\">… ");
    push_text(&mut out, text);
    out.push_str(" …</span>\n");
    sink.write(out.as_bytes());
}

fn write_lines(sink: &mut Sink, path: &Path, lines: u64, room: &mut usize) -> io::Result<()> {
    if lines <= LINES_MAX {
        return some_lines(sink, &mut LogReader::open(path, 0)?, lines, room);
    }
    some_lines(sink, &mut LogReader::open(path, 0)?, LINES_FIRST, room)?;
    note(sink, &format!("{} lines between", lines - LINES_FIRST - LINES_LAST));
    let (offset, count) = tail_offset(path, LINES_LAST)?;
    some_lines(sink, &mut LogReader::open(path, offset)?, count, room)
}

fn some_lines(sink: &mut Sink, log: &mut LogReader, lines: u64, room: &mut usize) -> io::Result<()> {
    let mut line = Vec::new();
    for _ in 0..lines {
        let Some(start) = log.read_line(&mut line)? else { return Ok(()) };
        let cut = start.cut_bytes + line.len().saturating_sub(LINE_BYTES_MAX) as u64;
        line.truncate(LINE_BYTES_MAX);
        let mut out = ansi::line(&line);
        if cut > 0 {
            out.push_str(&format!("<span class=\"faint\"> [{cut} bytes more]</span>"));
        }
        out.push('\n');
        if out.len() > *room {
            *room = 0;
            note(sink, "the rest has no room on this page");
            return Ok(());
        }
        *room -= out.len();
        sink.write(out.as_bytes());
    }
    Ok(())
}

/// Adds failed and flaky tests, files that are covered least, and findings.
pub(super) fn push_reports(out: &mut String, [tests, coverage, findings]: &[Value; 3]) {
    let cases = rows(tests, "cases", |case| {
        let outcome = text(case, "outcome");
        let tone = match outcome {
            "failed" => "failure",
            "flaky" => "cancelled",
            _ => return None,
        };
        let class = text(case, "class");
        let name = if class.is_empty() {
            text(case, "name").to_owned()
        } else {
            format!("{class}.{}", text(case, "name"))
        };
        Some((tone, vec![outcome.to_owned(), name, place(case), text(case, "message").to_owned()]))
    });
    push_table(out, "Tests that failed, or failed first", &["", "test", "place", "message"], &cases);
    let mut files: Vec<(f64, Row)> = Vec::new();
    for (_, file) in entries(coverage, "files") {
        let number = |name: &str| file[name].as_u64().unwrap_or_default();
        let (lines, covered) = (number("lines"), number("covered"));
        let percent = if lines == 0 { 100.0 } else { covered as f64 * 100.0 / lines as f64 };
        let tone = if percent < 50.0 { "failure" } else { "success" };
        let cells = vec![
            format!("{percent:.1} %"),
            text(file, "path").to_owned(),
            format!("{covered} of {lines} lines"),
        ];
        files.push((percent, (tone, cells)));
    }
    files.sort_by(|one, other| one.0.total_cmp(&other.0));
    let files: Vec<Row> = files.into_iter().map(|(_, row)| row).collect();
    push_table(out, "Coverage, the least first", &["", "file", ""], &files);
    let found = rows(findings, "results", |finding| {
        let level = text(finding, "level");
        let tone = match level {
            "error" => "failure",
            "warning" => "cancelled",
            _ => "skipped",
        };
        let cells = [level, text(finding, "rule")].map(str::to_owned);
        let cells = cells.into_iter().chain([place(finding), text(finding, "message").to_owned()]);
        Some((tone, cells.collect()))
    });
    push_table(out, "Findings", &["", "rule", "place", "message"], &found);
}

/// A tone, and cells, the first of which has it.
type Row = (&'static str, Vec<String>);

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn place(value: &Value) -> String {
    let line = value["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", text(value, "file"))
}

fn entries<'v>(report: &'v Value, list: &str) -> Vec<(&'v str, &'v Value)> {
    let jobs = report["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |job: &'v Value| {
        let list = job[list].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(move |entry| (text(job, "job"), entry))
    };
    jobs.iter().flat_map(of).collect()
}

fn rows(report: &Value, list: &str, row: impl Fn(&Value) -> Option<Row>) -> Vec<Row> {
    entries(report, list).into_iter().filter_map(|(_, entry)| row(entry)).collect()
}

fn push_table(out: &mut String, title: &str, heads: &[&str], rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    out.push_str(&format!("<h2>{title}</h2><div class=\"panel scroll\"><table><tr>"));
    for head in heads {
        out.push_str(&format!("<th>{head}</th>"));
    }
    out.push_str("</tr>");
    for (tone, cells) in rows.iter().take(ROWS_MAX) {
        out.push_str(&format!("<tr class=\"{tone}\">"));
        for (index, cell) in cells.iter().enumerate() {
            out.push_str(if index == 0 { "<td class=\"word\">" } else { "<td>" });
            push_text(out, cell);
            out.push_str("</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
    push_more(out, rows.len());
}

fn push_more(out: &mut String, count: usize) {
    if count > ROWS_MAX {
        out.push_str(&format!("<p class=\"soft\">and {} more</p>", count - ROWS_MAX));
    }
}

/// Adds the files of the artifacts.
pub(super) fn push_artifacts(out: &mut String, files: &[ManifestEntry]) {
    if files.is_empty() {
        return;
    }
    out.push_str("<h2>Artifacts</h2><div class=\"panel scroll\"><table><tr><th>artifact</th><th>file</th>");
    out.push_str("<th class=\"n\">size</th><th>SHA-256</th></tr>");
    for file in files.iter().take(ROWS_MAX) {
        let digest = match (&file.sha256, file.kind) {
            (Some(digest), _) => digest.clone(),
            (None, EntryKind::Symlink) => format!("link to {}", file.target.as_deref().unwrap_or_default()),
            (None, EntryKind::File) => String::new(),
        };
        out.push_str("<tr><td>");
        push_text(out, &file.artifact);
        out.push_str("</td><td>");
        push_text(out, &file.path);
        out.push_str("</td><td class=\"n\">");
        push_text(out, &format::size(file.size));
        out.push_str("</td><td class=\"m soft\">");
        push_text(out, &digest);
        out.push_str("</td></tr>");
    }
    out.push_str("</table></div>");
    push_more(out, files.len());
}

/// Adds what stopped nothing.
pub(super) fn push_warnings(out: &mut String, run: &RunRecord) {
    if run.warnings.is_empty() {
        return;
    }
    out.push_str("<h2>Warnings</h2><div class=\"panel pad cancelled\">");
    // Several jobs are warned of the same.
    let mut told: Vec<(&WarningRecord, usize)> = Vec::new();
    for warning in run.warnings.iter().take(ROWS_MAX) {
        match told.iter_mut().find(|(known, _)| *known == warning) {
            Some((_, count)) => *count += 1,
            None => told.push((warning, 1)),
        }
    }
    for (warning, count) in told {
        out.push_str("<p><span class=\"word\">");
        push_text(out, warning.code.as_deref().unwrap_or("warning"));
        out.push_str("</span> ");
        push_text(out, &warning.text);
        if count > 1 {
            out.push_str(&format!(" <span class=\"faint\">×{count}</span>"));
        }
        if let Some(hint) = &warning.hint {
            out.push_str("<br><span class=\"soft\">");
            push_text(out, &format!("hint: {hint}"));
            out.push_str("</span>");
        }
        out.push_str("</p>");
    }
    out.push_str("</div>");
}
