//! Lines, appended: for files, CI logs and pipes. Each line of a step begins with the step, so that no step
//! can speak for another, or for us.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::escape::{self, Colors};
use super::format::{self, Paint};
use super::lines::LineBuffer;
use super::sink::Sink;
use super::{cache, service};
use crate::event::{Event, Stream, What};
use crate::outcome::{Outcome, StepResult};

/// Silence after which a line says that the run is alive: CI services give up on silent jobs.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Progress of a pull is told in steps of this many percent.
const PERCENT_STEP: u64 = 10;
/// The same where the total is not known, in bytes.
const BYTES_STEP: u64 = 100 * 1024 * 1024;

/// A step that runs.
#[derive(Debug)]
struct Running {
    label: String,
    started: Instant,
    lines: LineBuffer,
}

/// Shows a run as lines.
#[derive(Debug)]
pub(super) struct Plain {
    sink: Sink,
    paint: Paint,
    colors: Colors,
    run: String,
    directory: PathBuf,
    jobs: usize,
    running: BTreeMap<(String, String), Running>,
    /// The last step of progress that was told, by image.
    pulls: BTreeMap<String, u64>,
    last_line: Option<Instant>,
}

impl Plain {
    pub(super) fn new(sink: Sink, color: bool) -> Self {
        Self {
            sink,
            paint: Paint { color },
            colors: if color { Colors::Keep } else { Colors::Strip },
            run: String::new(),
            directory: PathBuf::new(),
            jobs: 1,
            running: BTreeMap::new(),
            pulls: BTreeMap::new(),
            last_line: None,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.sink.is_broken()
    }

    pub(super) fn finish(&mut self) {
        self.sink.flush();
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let quiet = self.last_line.is_some_and(|last| now.saturating_duration_since(last) >= HEARTBEAT);
        if !quiet {
            return;
        }
        let beats: Vec<String> = self
            .running
            .values()
            .map(|step| {
                let elapsed = now.saturating_duration_since(step.started);
                format!("{}: still running ({})", step.label, format::elapsed(elapsed))
            })
            .collect();
        if beats.is_empty() && !self.pulls.is_empty() {
            self.line("image: still pulling", now);
        }
        for beat in beats {
            self.line(&beat, now);
        }
    }

    fn line(&mut self, text: &str, now: Instant) {
        self.sink.line(text);
        self.last_line = Some(now);
    }

    fn label(&self, event: &Event) -> String {
        let step = event.step.as_deref().unwrap_or_default();
        match &event.job {
            Some(job) if self.jobs > 1 => format!("{job}/{step}"),
            _ => step.to_owned(),
        }
    }

    pub(super) fn event(&mut self, event: &Event, now: Instant) {
        match &event.what {
            What::RunStart { file, name, jobs, directory } => {
                self.run.clone_from(&event.run);
                self.directory = PathBuf::from(directory);
                self.jobs = *jobs;
                let of = file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
                self.line(&format!("run {}: {name}{of}", event.run), now);
            }
            What::JobStart { image, steps } => {
                if let Some(job) = event.job.as_ref().filter(|_| self.jobs > 1) {
                    let steps = format::count(*steps as u64, "step");
                    self.line(&format!("job {job}: started, {steps} on {image}"), now);
                }
            }
            What::ImagePull { image, state, bytes, total, note, layer: _ } => {
                self.pull(image, state, *bytes, *total, note.as_deref(), now);
            }
            What::StepStart { name, index, steps, attempt } => {
                self.start(event, name, (*index, *steps), *attempt, now);
            }
            What::StepLog { stream, data, .. } => self.output(event, *stream, data, now),
            What::StepEnd { result } => self.end(event, result, now),
            What::StepRetry { result, attempts_max, pause_s } => {
                let label = self.ended(event);
                let outcome = self.paint.bad(&format::outcome(result));
                let again = format::again(result.attempts, *attempts_max, *pause_s);
                self.line(&format!("{label}: {outcome} in {}; {again}", format::usage(result)), now);
            }
            What::JobRetry { outcome, attempt, attempts_max, pause_s } => {
                let job = event.job.as_deref().unwrap_or_default();
                let again = format::again(*attempt, *attempts_max, *pause_s);
                self.line(&format!("job {job}: {}; {again}", self.paint.bad(outcome.as_str())), now);
            }
            What::CacheRestore { .. } | What::CacheSave { .. } => {
                let job = event.job.as_deref().filter(|_| self.jobs > 1);
                if let Some(line) = cache::line(&event.what, job) {
                    self.line(&line, now);
                }
            }
            What::ServiceStart { .. } | What::ServiceReady { .. } | What::ServiceEnd { .. } => {
                let job = event.job.as_deref().filter(|_| self.jobs > 1);
                for line in service::lines(&event.what, job, &self.directory, self.paint) {
                    self.line(&line, now);
                }
            }
            What::Artifact { name, files, bytes } => {
                let files = format::count(*files, "file");
                self.line(&format!("artifact {name}: {files}, {}", format::size(*bytes)), now);
            }
            What::JobEnd { outcome } => {
                if let Some(job) = event.job.as_ref().filter(|_| self.jobs > 1) {
                    self.line(&format!("job {job}: {}", outcome.as_str()), now);
                }
            }
            What::RunEnd { outcome, exit_code, wall_s, directory } => {
                let text = run_end(&event.run, *outcome, *exit_code, *wall_s, self.paint);
                self.line(&text, now);
                self.line(&format!("  records: {directory}"), now);
            }
            What::Warning { code, text, hint } => {
                for line in warning_lines(code.as_deref(), text, hint.as_deref(), self.paint) {
                    self.line(&line, now);
                }
            }
        }
    }

    fn start(
        &mut self,
        event: &Event,
        name: &str,
        (index, steps): (usize, usize),
        attempt: u32,
        now: Instant,
    ) {
        let label = self.label(event);
        let named = if name == label { String::new() } else { format!(": {}", show_name(name)) };
        let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
        self.line(&format!("{label}: step {index} of {steps}{again}{named}"), now);
        let running = Running { label, started: now, lines: LineBuffer::default() };
        self.running.insert(key(event), running);
    }

    fn output(&mut self, event: &Event, stream: Stream, data: &[u8], now: Instant) {
        let Self { running, sink, colors, last_line, .. } = self;
        let Some(step) = running.get_mut(&key(event)) else { return };
        let mut text = String::new();
        let Running { label, lines, .. } = step;
        lines.push(stream, data, |line| push_line(&mut text, label, &line, *colors));
        if !text.is_empty() {
            sink.write(text.as_bytes());
            *last_line = Some(now);
        }
    }

    /// Shows the rest of what a step printed, and returns its label.
    fn ended(&mut self, event: &Event) -> String {
        let Some(mut step) = self.running.remove(&key(event)) else { return self.label(event) };
        let mut text = String::new();
        let Running { label, lines, .. } = &mut step;
        lines.finish(|line| push_line(&mut text, label, &line, self.colors));
        self.sink.write(text.as_bytes());
        step.label
    }

    fn end(&mut self, event: &Event, result: &StepResult, now: Instant) {
        let label = self.ended(event);
        if result.outcome == Outcome::Skipped {
            self.line(&format!("{label}: skipped"), now);
            return;
        }
        let outcome = format::outcome(result);
        let outcome = match result.outcome {
            Outcome::Success => self.paint.good(&outcome),
            _ => self.paint.bad(&outcome),
        };
        self.line(&format!("{label}: {outcome} in {}", format::usage(result)), now);
        for line in end_lines(result, &self.directory) {
            self.line(&line, now);
        }
    }

    fn pull(
        &mut self,
        image: &str,
        state: &str,
        bytes: u64,
        total: Option<u64>,
        note: Option<&str>,
        now: Instant,
    ) {
        let reason = note.map(|note| format!(" ({note})")).unwrap_or_default();
        let text = match state {
            "started" => {
                self.pulls.insert(image.to_owned(), 0);
                let size = total.map(|total| format!(", {}", format::size(total))).unwrap_or_default();
                format!("pulling{size}")
            }
            "progress" => {
                let unit = total.map_or(BYTES_STEP, |total| (total / (100 / PERCENT_STEP)).max(1));
                let told = self.pulls.entry(image.to_owned()).or_default();
                let step = bytes / unit;
                if step <= *told {
                    return;
                }
                *told = step;
                match total {
                    Some(total) => {
                        let percent = (step * PERCENT_STEP).min(100);
                        format!("{percent} % ({} of {})", format::size(bytes), format::size(total))
                    }
                    None => format::size(bytes),
                }
            }
            "finished" => {
                self.pulls.remove(image);
                format!("ready, {}", format::size(bytes))
            }
            "cached" => "ready, from the store".to_owned(),
            other => other.to_owned(),
        };
        self.line(&format!("image {image}: {text}{reason}"), now);
    }
}

fn key(event: &Event) -> (String, String) {
    (event.job.clone().unwrap_or_default(), event.step.clone().unwrap_or_default())
}

fn push_line(text: &mut String, label: &str, line: &[u8], colors: Colors) {
    text.push_str(label);
    text.push_str(" | ");
    text.push_str(&escape::line(line, colors));
    text.push('\n');
}

/// A step's name comes from the job file: it is shown like output.
pub(super) fn show_name(name: &str) -> String {
    escape::line(name.as_bytes(), Colors::Strip)
}

/// Returns what is said about a step's end below its line: leftovers, and of a failure cause, remedy and log.
pub(super) fn end_lines(result: &StepResult, directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    if !result.leftovers.is_empty() {
        let names: Vec<&str> = result.leftovers.iter().take(5).map(|left| left.name.as_str()).collect();
        let more = if result.leftovers.len() > names.len() { ", ..." } else { "" };
        let count = format::count(result.leftovers.len() as u64, "process").replace("processs", "processes");
        lines.push(format!("  left behind and killed: {count} ({}{more})", show_name(&names.join(", "))));
    }
    if result.log.dropped_bytes > 0 {
        lines.push(format!("  log limit reached: {} dropped", format::size(result.log.dropped_bytes)));
    }
    if !result.outcome.is_failure() {
        return lines;
    }
    if !result.conclusion.is_failure() {
        lines.push("  goes on: continue-on-error".to_owned());
    }
    lines.extend(format::cause(result).map(|cause| format!("  cause: {}", show_name(cause))));
    lines.extend(result.remedy.as_ref().map(|remedy| format!("  hint: {}", show_name(remedy))));
    if !result.log.path.is_empty() {
        lines.push(format!("  log: {}", directory.join(&result.log.path).display()));
    }
    lines
}

/// Returns the line that ends a run.
pub(super) fn run_end(run: &str, outcome: Outcome, exit_code: u8, wall_s: f64, paint: Paint) -> String {
    let took = format::duration(wall_s);
    if outcome == Outcome::Success {
        return format!("run {run}: {} in {took}", paint.good(outcome.as_str()));
    }
    format!("run {run}: {} in {took} (exit code {exit_code})", paint.bad(outcome.as_str()))
}

/// Returns the lines of a warning.
pub(super) fn warning_lines(code: Option<&str>, text: &str, hint: Option<&str>, paint: Paint) -> Vec<String> {
    let code = code.map(|code| format!("[{code}]")).unwrap_or_default();
    let mut lines = vec![format!("{}: {}", paint.notice(&format!("warning{code}")), show_name(text))];
    lines.extend(hint.map(|hint| format!("  hint: {}", show_name(hint))));
    lines
}
