//! The live terminal: finished steps are lines, running ones a block of their last output.

mod screen;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::escape::{self, Colors};
use super::format::{self, Paint};
use super::lines::{TAIL_LINES_MAX, Tail};
use super::plain::{end_lines, failed_test, run_end, show_name, warning_lines};
use super::pull::Pulls;
use super::{cache, service};
use crate::event::{Event, What};
use crate::outcome::{Outcome, StepResult};
pub use screen::Screen;

/// Lines of a running step. Output that fits stays on the screen when the step ends.
const LIVE_LINES_MAX: usize = 8;
/// Redraws are this far apart: a flood of output costs no more than a trickle.
const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// Stands before output of a step, so that it cannot pass for a line of ours.
const BAR: &str = "│ ";
/// Columns before output: two of indentation, the bar, a space.
const BAR_COLUMNS: usize = 4;
/// Rows that are left to what stands above the live block.
const ROWS_ABOVE: u16 = 4;

/// A step that runs.
#[derive(Debug)]
struct Live {
    label: String,
    name: String,
    place: String,
    started: Instant,
    tail: Tail,
    bar: ProgressBar,
}

/// Shows a run on a terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    multi: MultiProgress,
    screen: Screen,
    paint: Paint,
    colors: Colors,
    directory: PathBuf,
    jobs: usize,
    live: BTreeMap<(String, String), Live>,
    pulls: Pulls,
    drawn: Option<Instant>,
}

impl Terminal {
    pub(super) fn new(screen: Screen, color: bool) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        Self {
            multi,
            screen,
            paint: Paint { color },
            colors: if color { Colors::Keep } else { Colors::Strip },
            directory: PathBuf::new(),
            jobs: 1,
            live: BTreeMap::new(),
            pulls: Pulls::default(),
            drawn: None,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.screen.is_broken()
    }

    pub(super) fn finish(&mut self) {
        self.pulls.clear(&self.multi);
        for (_, live) in std::mem::take(&mut self.live) {
            self.remove(&live.bar);
        }
        self.screen.finish();
    }

    fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.multi.remove(bar);
    }

    fn print(&self, text: &str) {
        // A failure to draw is noticed by the screen, which keeps it.
        let _ = self.multi.println(text);
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.drawn.is_some_and(|drawn| now.saturating_duration_since(drawn) < REDRAW_EVERY) {
            return;
        }
        self.drawn = Some(now);
        for live in self.live.values() {
            live.bar.set_message(self.block(live, now));
        }
    }

    /// Returns the block of a running step: a head and its last lines, cut to the screen.
    fn block(&self, live: &Live, now: Instant) -> String {
        let columns = usize::from(self.screen.width()).saturating_sub(1);
        // All running steps share the screen, each with a head of its own.
        let rows = usize::from(self.screen.height().saturating_sub(ROWS_ABOVE)) / self.live.len().max(1);
        let room = rows.saturating_sub(usize::from(self.live.len() > 1)).clamp(1, LIVE_LINES_MAX);
        let elapsed = format::elapsed(now.saturating_duration_since(live.started));
        let head = format!("▸ {} {elapsed} {}  {}", live.label, live.place, live.name);
        let mut block = self.paint.strong(&escape::fit(head.trim_end(), columns));
        for line in live.tail.last(room) {
            let text = escape::line(line, Colors::Strip);
            block.push_str("\n  ");
            block.push_str(&self.paint.dim(&escape::fit(&format!("{BAR}{text}"), columns.saturating_sub(2))));
        }
        block
    }

    pub(super) fn event(&mut self, event: &Event, now: Instant) {
        match &event.what {
            What::RunStart { name, jobs, directory, .. } => {
                self.directory = PathBuf::from(directory);
                self.jobs = *jobs;
                self.print(&self.paint.dim(&format!("run {} · {}", event.run, show_name(name))));
            }
            What::ImagePull { image, state, bytes, total, layer, note } => {
                let columns = self.screen.width();
                if let Some(layer) = layer {
                    self.pulls.layer(&self.multi, columns, image, layer);
                }
                let progress = (*bytes, *total);
                let line = self.pulls.event(&self.multi, columns, image, state, progress, note.as_deref());
                if let Some(line) = line {
                    self.print(&format!("{} {line}", self.paint.good("✓")));
                }
            }
            What::StepStart { name, index, steps, attempt } => {
                self.start(event, name, (*index, *steps), *attempt, now);
            }
            What::StepLog { stream, data, .. } => {
                if let Some(live) = self.live.get_mut(&key(event)) {
                    live.tail.push(*stream, data);
                }
                self.tick(now);
            }
            What::StepEnd { result } => self.end(event, result, None),
            What::StepRetry { result, attempts_max, pause_s } => {
                let again = format::again(result.attempts, *attempts_max, *pause_s);
                self.end(event, result, Some(&again));
            }
            What::JobRetry { outcome, attempt, attempts_max, pause_s } => {
                let job = event.job.as_deref().unwrap_or_default();
                let again = format::again(*attempt, *attempts_max, *pause_s);
                let (mark, outcome) = (self.paint.mark(*outcome), self.paint.bad(outcome.as_str()));
                self.print(&format!("{mark} job {job}: {outcome}; {again}"));
            }
            What::CacheRestore { .. }
            | What::CacheSave { .. }
            | What::ServiceStart { .. }
            | What::ServiceReady { .. }
            | What::ServiceEnd { .. } => self.beside(event),
            What::Artifact { name, files, bytes } => {
                let files = format::count(*files, "file");
                self.print(&format!("  artifact {name}: {files}, {}", format::size(*bytes)));
            }
            What::Reports { .. } => self.reports(event),
            What::JobStart { .. } | What::JobEnd { .. } => {}
            What::RunEnd { outcome, exit_code, wall_s, directory } => {
                self.finish();
                let line = run_end(&event.run, *outcome, *exit_code, *wall_s, self.paint);
                self.print(&format!("{} {line}", self.paint.mark(*outcome)));
                if outcome.is_failure() {
                    self.print(&format!("  records: {directory}"));
                }
            }
            What::Warning { code, text, hint } => {
                let lines = warning_lines(code.as_deref(), text, hint.as_deref(), self.paint);
                self.print(&lines.join("\n"));
            }
        }
    }

    /// Says what becomes of caches and services.
    fn beside(&self, event: &Event) {
        let job = event.job.as_deref().filter(|_| self.jobs > 1);
        let outcome = match &event.what {
            What::ServiceEnd { result, .. } => result.outcome,
            _ => Outcome::Success,
        };
        let lines = match cache::line(&event.what, job) {
            Some(line) => vec![line],
            None => service::lines(&event.what, job, &self.directory, self.paint),
        };
        if !lines.is_empty() {
            self.print(&format!("{} {}", self.paint.mark(outcome), lines.join("\n")));
        }
    }

    /// What a job's reports say, and the first failed tests by name.
    fn reports(&self, event: &Event) {
        let What::Reports { tests, failed, coverage, findings } = &event.what else { return };
        let job = event.job.as_deref().filter(|_| self.jobs > 1).map(|job| format!("job {job}: "));
        let sums = format::reports(*tests, *coverage, *findings);
        let mut text = format!("  {}reports: {sums}", job.unwrap_or_default());
        for test in failed {
            text.push_str(&format!("\n    {} {}", self.paint.bad("✗"), failed_test(test)));
        }
        self.print(&text);
    }

    fn label(&self, event: &Event) -> String {
        let step = event.step.as_deref().unwrap_or_default();
        match &event.job {
            Some(job) if self.jobs > 1 => format!("{job}/{step}"),
            _ => step.to_owned(),
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
        let bar = self.multi.add(ProgressBar::no_length());
        bar.set_style(
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        let live = Live {
            name: if name == label { String::new() } else { show_name(name) },
            label,
            place: match attempt {
                1 => format!("({index}/{steps})"),
                _ => format!("({index}/{steps}, attempt {attempt})"),
            },
            started: now,
            tail: Tail::default(),
            bar,
        };
        live.bar.set_message(self.block(&live, now));
        self.live.insert(key(event), live);
    }

    /// A step is over, or an attempt at it; then `again` says so.
    fn end(&mut self, event: &Event, result: &StepResult, again: Option<&str>) {
        let live = self.live.remove(&key(event));
        let label = live.as_ref().map_or_else(|| self.label(event), |live| live.label.clone());
        let mark = self.paint.mark(result.outcome);
        let mut text = match result.outcome {
            Outcome::Skipped => format!("{mark} {label} {}", self.paint.dim("skipped")),
            Outcome::Success => match &result.reused {
                Some(reused) => format!("{mark} {label} {}", format::reused(reused)),
                None => format!("{mark} {label} {}", format::usage(result)),
            },
            _ => format!(
                "{mark} {label} {} {}",
                self.paint.bad(&format::outcome(result)),
                format::usage(result)
            ),
        };
        if let Some(mut live) = live {
            live.tail.finish();
            self.remove(&live.bar);
            self.push_output(&mut text, &live.tail, result);
        }
        let lines = match again {
            Some(again) => vec![format!("  {again}")],
            None => end_lines(result, &self.directory),
        };
        for line in lines {
            text.push('\n');
            text.push_str(&line);
        }
        self.print(&text);
    }

    /// Adds the output that stays: of a failure its last lines, otherwise all of it when it is short.
    fn push_output(&self, text: &mut String, tail: &Tail, result: &StepResult) {
        let shown = if result.outcome.is_failure() { TAIL_LINES_MAX } else { LIVE_LINES_MAX };
        let hidden = tail.seen().saturating_sub(shown as u64);
        if hidden > 0 && !result.outcome.is_failure() {
            return;
        }
        if hidden > 0 {
            let note = format!("  {BAR}... {} before", format::count(hidden, "line"));
            text.push('\n');
            text.push_str(&self.paint.dim(&note));
        }
        let columns = usize::from(self.screen.width()).saturating_sub(BAR_COLUMNS);
        for line in tail.last(shown) {
            for piece in escape::wrap(&escape::line(line, self.colors), columns) {
                text.push_str("\n  ");
                text.push_str(&self.paint.dim(BAR));
                text.push_str(&piece);
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.finish();
    }
}

fn key(event: &Event) -> (String, String) {
    (event.job.clone().unwrap_or_default(), event.step.clone().unwrap_or_default())
}
