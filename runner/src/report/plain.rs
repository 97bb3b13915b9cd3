//! Lines, appended: for files, CI logs and pipes. Each line of a step begins with the step, so that no step
//! can speak for another, or for us. For a service that folds output, steps are blocks instead ([`super::blocks`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::blocks::{Blocks, Key, LAST_LINES, Open};
use super::escape::{self, Colors};
use super::format::{self, Paint};
use super::lines::LineBuffer;
use super::outer::Briefing;
use super::sink::Sink;
use super::{cache, service};
use crate::event::{Event, FailedTest, Stream, What};
use crate::outcome::{LogSummary, Oom, Outcome, StepResult};
use crate::run::logs::LogReader;

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
    title: String,
    started: Instant,
    lines: LineBuffer,
    /// Its output is shown while it runs.
    shown: bool,
    /// Its last lines as they were shown; kept for blocks only.
    last: VecDeque<String>,
}

impl Running {
    fn keep(&mut self, line: &str) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }
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
    running: BTreeMap<Key, Running>,
    blocks: Option<Blocks>,
    /// The last step of progress that was told, by image.
    pulls: BTreeMap<String, u64>,
    last_line: Option<Instant>,
}

impl Plain {
    pub(super) fn new(sink: Sink, color: bool, blocks: Option<Blocks>) -> Self {
        Self {
            blocks,
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

    pub(super) fn brief(&mut self, briefing: Briefing) {
        if let Some(blocks) = &mut self.blocks {
            blocks.briefing = briefing;
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

    /// A line of ours. It may repeat what others said, and is no order.
    fn line(&mut self, text: &str, now: Instant) {
        let text = match &self.blocks {
            Some(blocks) => blocks.outer.harmless(text),
            None => Cow::Borrowed(text),
        };
        self.sink.line(&text);
        self.last_line = Some(now);
    }

    /// A line that the service obeys.
    fn order(&mut self, order: &str) {
        self.sink.line(order);
    }

    /// A line that is not folded into the block before it.
    fn heading(&mut self, is_bad: bool, text: &str, now: Instant) {
        match &self.blocks {
            Some(blocks) if is_bad && !blocks.outer.loud().is_empty() => {
                let text = format!("{}{}", blocks.outer.loud(), blocks.outer.harmless(text));
                self.order(&text);
            }
            Some(_) | None => self.line(text, now),
        }
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
                // Before anything else is said.
                let masks = self.blocks.as_ref().map(|blocks| blocks.outer.masks(&blocks.briefing.masks));
                masks.unwrap_or_default().iter().for_each(|mask| self.order(mask));
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
                let ended = self.ended(event, &result.log);
                let outcome = self.paint.bad(&format::outcome(result));
                let again = format::again(result.attempts, *attempts_max, *pause_s);
                self.line(&format!("{}: {outcome} in {}; {again}", ended.label, format::usage(result)), now);
                self.resume(ended, event);
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
                self.service(event, now);
            }
            What::Artifact { name, files, bytes } => {
                let files = format::count(*files, "file");
                self.line(&format!("artifact {name}: {files}, {}", format::size(*bytes)), now);
            }
            What::Reports { .. } => self.reports(event, now),
            What::JobEnd { outcome } => {
                if let Some(job) = event.job.as_ref().filter(|_| self.jobs > 1) {
                    self.line(&format!("job {job}: {}", outcome.as_str()), now);
                }
            }
            What::RunEnd { outcome, exit_code, wall_s, directory } => {
                let text = run_end(&event.run, *outcome, *exit_code, *wall_s, self.paint);
                self.over(&text, outcome.is_failure(), directory, now);
            }
            What::Warning { code, text, hint } => self.warning(code.as_deref(), text, hint.as_deref(), now),
        }
    }

    /// The run is over.
    fn over(&mut self, text: &str, failed: bool, directory: &str, now: Instant) {
        let quiet = self.blocks.as_ref().map_or("", |blocks| blocks.outer.quiet());
        if quiet.is_empty() || failed {
            self.heading(failed, text, now);
        } else {
            self.order(&format!("{quiet}{text}"));
        }
        self.line(&format!("  records: {directory}"), now);
        let rest = self.blocks.as_ref().and_then(Blocks::rest);
        rest.iter().for_each(|notice| self.order(notice));
    }

    /// What a job's reports say, and the first failed tests by name: to a service one by one, where they stand.
    fn reports(&mut self, event: &Event, now: Instant) {
        let What::Reports { tests, failed, coverage, findings } = &event.what else { return };
        let of = event
            .job
            .as_deref()
            .filter(|_| self.jobs > 1)
            .map(|job| format!("job {job}: "))
            .unwrap_or_default();
        self.line(&format!("{of}reports: {}", format::reports(*tests, *coverage, *findings)), now);
        for test in failed {
            let told = self.blocks.as_mut().and_then(|blocks| blocks.test_failed(test));
            match told {
                Some(order) => self.order(&order),
                None => self.line(&format!("  failed: {}", failed_test(test)), now),
            }
        }
        let more = tests.map_or(0, |tests| tests.failed).saturating_sub(failed.len() as u64);
        if more > 0 {
            self.line(&format!("  and {more} more"), now);
        }
    }

    /// How a service stands.
    fn service(&mut self, event: &Event, now: Instant) {
        let job = event.job.as_deref().filter(|_| self.jobs > 1);
        for line in service::lines(&event.what, job, &self.directory, self.paint) {
            self.line(&line, now);
        }
        if let (What::ServiceEnd { result, .. }, Some(blocks)) = (&event.what, &mut self.blocks)
            && result.outcome.is_failure()
            && !result.optional
        {
            let order = blocks.service_failed(event.job.as_deref().unwrap_or_default(), result);
            order.iter().for_each(|order| self.order(order));
        }
    }

    fn warning(&mut self, code: Option<&str>, text: &str, hint: Option<&str>, now: Instant) {
        let told = self.blocks.as_mut().and_then(|blocks| blocks.warning(code, &show_name(text), hint));
        match told {
            Some(order) => self.order(&order),
            None => {
                for line in warning_lines(code, text, hint, self.paint) {
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
        // What `setup` makes comes before all of them.
        let number = if index == 0 { "setup".to_owned() } else { format!("step {index} of {steps}") };
        let title = format!("{label}: {number}{again}{named}");
        let key = key(event);
        let shown = match &mut self.blocks {
            None => {
                self.line(&title, now);
                true
            }
            Some(blocks) if blocks.may_stream(&key, self.jobs) => {
                let order = blocks.open(key.clone(), title.clone(), event);
                self.order(&order);
                self.last_line = Some(now);
                true
            }
            Some(blocks) => {
                // It would read as a part of the block that is open.
                if blocks.is_closed() {
                    self.line(&title, now);
                }
                false
            }
        };
        let (lines, last) = (LineBuffer::default(), VecDeque::new());
        self.running.insert(key, Running { label, title, started: now, lines, shown, last });
    }

    fn output(&mut self, event: &Event, stream: Stream, data: &[u8], now: Instant) {
        let Some(mut step) = self.running.remove(&key(event)) else { return };
        if step.shown {
            let mut shown = Vec::new();
            step.lines.push(stream, data, |line| shown.push(line));
            self.show(&mut step, &shown);
            if !shown.is_empty() {
                self.last_line = Some(now);
            }
        }
        self.running.insert(key(event), step);
    }

    /// Shows lines of a step.
    fn show(&mut self, step: &mut Running, lines: &[Vec<u8>]) {
        let mut text = String::new();
        for line in lines {
            let line = escape::line(line, self.colors);
            if self.blocks.is_some() {
                let line = Blocks::inner(&line);
                step.keep(&line);
                text.push_str(&line);
            } else {
                text.push_str(&step.label);
                text.push_str(" | ");
                text.push_str(&line);
            }
            text.push('\n');
        }
        self.sink.write(text.as_bytes());
    }

    /// Shows the rest of what a step printed; where steps are blocks and this one could not be shown while it ran, all of it.
    fn ended(&mut self, event: &Event, log: &LogSummary) -> Ended {
        let Some(mut step) = self.running.remove(&key(event)) else {
            return Ended { label: self.label(event), last: VecDeque::new(), interrupted: None };
        };
        let mut interrupted = None;
        if !step.shown
            && let Some(blocks) = &mut self.blocks
        {
            let closed = blocks.close(event);
            let opened = blocks.open(key(event), step.title.clone(), event);
            if let Some((open, order)) = closed {
                interrupted = Some(open);
                order.iter().for_each(|order| self.order(order));
            }
            self.order(&opened);
            self.replay(&mut step, log);
        }
        let mut rest = Vec::new();
        step.lines.finish(|line| rest.push(line));
        self.show(&mut step, &rest);
        let closed = self.blocks.as_mut().and_then(|blocks| blocks.close(event));
        closed.iter().filter_map(|(_, order)| order.as_ref()).for_each(|order| self.order(order));
        Ended { label: step.label, last: step.last, interrupted }
    }

    /// Shows what a step printed, from its log.
    fn replay(&mut self, step: &mut Running, log: &LogSummary) {
        // A step that waits for others has none.
        if log.path.is_empty() {
            return;
        }
        let path = self.directory.join(&log.path);
        let mut line = Vec::new();
        let shown = LogReader::open(&path, 0).and_then(|mut reader| {
            while let Some(start) = reader.read_line(&mut line)?
                && !self.sink.is_broken()
            {
                if start.cut_bytes > 0 {
                    line.extend_from_slice(format!(" [{} bytes more]", start.cut_bytes).as_bytes());
                }
                self.show(step, std::slice::from_ref(&line));
            }
            Ok(())
        });
        if let Err(error) = shown {
            self.show(step, &[format!("(its log cannot be read: {error})").into_bytes()]);
        }
    }

    /// Goes on with the block that was ended for this step.
    fn resume(&mut self, ended: Ended, event: &Event) {
        let (Some(open), Some(blocks)) = (ended.interrupted, &mut self.blocks) else { return };
        let order = blocks.reopen(open, event);
        self.order(&order);
    }

    fn end(&mut self, event: &Event, result: &StepResult, now: Instant) {
        let ended = self.ended(event, &result.log);
        let label = &ended.label;
        if result.outcome == Outcome::Skipped {
            self.line(&format!("{label}: skipped"), now);
            self.resume(ended, event);
            return;
        }
        let outcome = format::outcome(result);
        let painted = match result.outcome {
            Outcome::Success => self.paint.good(&outcome),
            _ => self.paint.bad(&outcome),
        };
        let text = match &result.reused {
            Some(reused) => format!("{label}: {}", format::reused(reused)),
            None => format!("{label}: {painted} in {}", format::usage(result)),
        };
        self.heading(result.conclusion.is_failure(), &text, now);
        if result.conclusion.is_failure() {
            // Each is a line of the step's that has been shown before.
            ended.last.iter().for_each(|line| self.sink.line(line));
        }
        for line in end_lines(result, &self.directory, event.job.as_deref().filter(|_| self.jobs > 1)) {
            self.line(&line, now);
        }
        if let (true, Some(blocks)) = (result.outcome.is_failure(), &mut self.blocks) {
            let cause = format::cause(result).map(|cause| format!(": {}", show_name(cause)));
            let text = format!("{outcome}{}", cause.unwrap_or_default());
            let order = blocks.failed(&key(event), label, result, &text);
            order.iter().for_each(|order| self.order(order));
        }
        self.resume(ended, event);
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

/// A step whose output has been shown.
struct Ended {
    label: String,
    /// Its last lines as they were shown.
    last: VecDeque<String>,
    /// The block that was ended for it.
    interrupted: Option<Open>,
}

fn key(event: &Event) -> Key {
    (event.job.clone().unwrap_or_default(), event.step.clone().unwrap_or_default())
}

/// A step's name comes from the job file: it is shown like output.
pub(super) fn show_name(name: &str) -> String {
    escape::line(name.as_bytes(), Colors::Strip)
}

/// Returns what is said about a step's end below its line: leftovers, and of a failure cause, remedy and log.
/// `job`: its job, where there are several.
pub(super) fn end_lines(result: &StepResult, directory: &Path, job: Option<&str>) -> Vec<String> {
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
        // In a pipe, or beside the main process, this is nobody's exit code.
        lines.extend(result.oom.as_ref().map(killed_on_the_way));
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
    if let (true, Some(run)) = (result.kept, directory.file_name()) {
        let job = job.map(|job| format!("/{job}")).unwrap_or_default();
        lines.push(format!("  look around: runner shell {}{job}:{}", run.display(), result.id));
    }
    lines
}

/// Says that the kernel killed for memory in a step that succeeded all the same.
fn killed_on_the_way(oom: &Oom) -> String {
    let victim =
        oom.victim.as_ref().map(|victim| format!(": {}", show_name(&victim.name))).unwrap_or_default();
    let (count, limit) = (format::count(oom.kills, "process"), format::size(oom.limit_bytes));
    format!("  out of memory: {} killed at {limit}{victim}", count.replace("processs", "processes"))
}

/// Returns name and message of a test that failed.
pub(super) fn failed_test(test: &FailedTest) -> String {
    let said = test.message.as_ref().map(|message| format!(": {}", show_name(message)));
    format!("{}{}", show_name(&test.name), said.unwrap_or_default())
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
    // Something that fails the job may be told before its end.
    let head = match code {
        Some(code) if code.starts_with('E') => paint.bad(&format!("error[{code}]")),
        Some(code) => paint.notice(&format!("warning[{code}]")),
        None => paint.notice("warning"),
    };
    let mut lines = vec![format!("{head}: {}", show_name(text))];
    lines.extend(hint.map(|hint| format!("  hint: {}", show_name(hint))));
    lines
}
