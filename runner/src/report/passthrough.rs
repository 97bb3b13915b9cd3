//! `runner run`: the command's bytes as they are. Our own words go to standard error and say that they are ours. Where a CI
//! service takes lines for orders, lines instead of bytes: no order among them.

use std::time::Instant;

use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};

use super::escape::{self, Colors};
use super::format::Paint;
use super::lines::LineBuffer;
use super::outer::{Briefing, Note, Outer};
use super::plain::{show_name, warning_lines};
use super::pull::Pulls;
use super::reporter::Output;
use super::sink::Sink;
use super::terminal::Screen;
use crate::event::{Event, Stream, What};
use crate::outcome::{Outcome, StepResult};

/// Bars of images, while the command has not started.
#[derive(Debug)]
struct Bars {
    screen: Screen,
    multi: MultiProgress,
    pulls: Pulls,
}

/// Output in lines, none of which is an order.
#[derive(Debug)]
struct Guard {
    outer: Outer,
    /// Standard output is a file, which nobody obeys.
    only_stderr: bool,
    briefing: Briefing,
    stdout: LineBuffer,
    stderr: LineBuffer,
}

/// Shows one command.
#[derive(Debug)]
pub(super) struct Passthrough {
    stdout: Sink,
    stderr: Sink,
    bars: Option<Bars>,
    paint: Paint,
    guard: Option<Guard>,
}

impl Passthrough {
    pub(super) fn new(
        stdout: Sink,
        stderr: Sink,
        screen: Option<Screen>,
        color: bool,
        output: Output,
    ) -> Self {
        let bars = screen.map(|screen| Bars {
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone()))),
            screen,
            pulls: Pulls::default(),
        });
        let (briefing, lines) = (Briefing::default(), LineBuffer::default);
        let only_stderr = matches!(output, Output::GuardedStderr(_));
        let guard = output.outer();
        let guard =
            guard.map(|outer| Guard { outer, only_stderr, briefing, stdout: lines(), stderr: lines() });
        Self { stdout, stderr, bars, paint: Paint { color }, guard }
    }

    pub(super) fn brief(&mut self, briefing: Briefing) {
        if let Some(guard) = &mut self.guard {
            guard.briefing = briefing;
        }
    }

    /// A word of ours. It may repeat what others said.
    fn word(&mut self, text: &str) {
        match &self.guard {
            Some(guard) => self.stderr.line(&guard.outer.harmless(text)),
            None => self.stderr.line(text),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.stdout.is_broken()
    }

    pub(super) fn finish(&mut self) {
        if let Some(bars) = &mut self.bars {
            bars.pulls.clear(&bars.multi);
            bars.screen.finish();
        }
        self.stdout.flush();
        self.stderr.flush();
    }

    pub(super) fn event(&mut self, event: &Event, _now: Instant) {
        match &event.what {
            What::ImagePull { image, state, bytes, total, note, layer } => match &mut self.bars {
                Some(bars) => {
                    let columns = bars.screen.width();
                    if let Some(layer) = layer {
                        bars.pulls.layer(&bars.multi, columns, image, layer);
                    }
                    let progress = (*bytes, *total);
                    // What was pulled is not the command's output: nothing stays on the screen.
                    let _ = bars.pulls.event(&bars.multi, columns, image, state, progress, note.as_deref());
                }
                None if matches!(*state, "started" | "retrying" | "waiting") => {
                    let note = note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
                    let word = if *state == "started" { "pulling" } else { state };
                    self.word(&format!("runner: image {image}: {word}{note}"));
                }
                None => {}
            },
            What::StepStart { .. } => self.finish(),
            What::StepLog { stream, data, .. } => self.output(*stream, data),
            What::StepEnd { result } => self.end(result),
            What::Warning { code, text, hint } => {
                let said = hint.as_ref().map_or_else(|| text.clone(), |hint| format!("{text}\nhint: {hint}"));
                let title = code.as_deref().unwrap_or("runner");
                let note = Note { title, text: &said, ..Note::default() };
                if let Some(order) = self.guard.as_ref().and_then(|guard| guard.outer.warning(&note)) {
                    self.stderr.line(&order);
                    return;
                }
                for line in warning_lines(code.as_deref(), text, hint.as_deref(), self.paint) {
                    self.word(&format!("runner: {line}"));
                }
            }
            What::RunStart { .. } => {
                let masks = self.guard.as_ref().map(|guard| guard.outer.masks(&guard.briefing.masks));
                masks.unwrap_or_default().iter().for_each(|mask| self.stdout.line(mask));
                self.stdout.flush();
            }
            What::StepRetry { .. } => self.end_lines(),
            What::JobStart { .. }
            | What::JobRetry { .. }
            | What::CacheRestore { .. }
            | What::CacheSave { .. }
            | What::ServiceStart { .. }
            | What::ServiceReady { .. }
            | What::ServiceEnd { .. }
            | What::Artifact { .. }
            | What::Reports { .. }
            | What::JobEnd { .. }
            | What::RunEnd { .. } => {}
        }
    }

    fn output(&mut self, stream: Stream, data: &[u8]) {
        let sink = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        match &mut self.guard {
            Some(guard) if !(guard.only_stderr && stream == Stream::Stdout) => {
                let (outer, lines) = match stream {
                    Stream::Stdout => (guard.outer, &mut guard.stdout),
                    Stream::Stderr => (guard.outer, &mut guard.stderr),
                };
                lines.push(stream, data, |line| sink.line(&guarded(outer, &line)));
            }
            Some(_) | None => sink.write(data),
        }
        // A prompt has no newline.
        sink.flush();
    }

    /// Shows what was left without a newline.
    fn end_lines(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        let outer = guard.outer;
        guard.stdout.finish(|line| self.stdout.line(&guarded(outer, &line)));
        guard.stderr.finish(|line| self.stderr.line(&guarded(outer, &line)));
    }

    /// A command's own exit code speaks for itself; what the runner or the kernel did to it does not.
    fn end(&mut self, result: &StepResult) {
        self.end_lines();
        self.finish();
        match result.outcome {
            // A remedy is there when the command never ran: no shell inside has said why.
            Outcome::Failure if result.remedy.is_some() && matches!(result.exit_code, Some(126 | 127)) => {}
            Outcome::Success | Outcome::Failure | Outcome::Signal | Outcome::Skipped => return,
            Outcome::Timeout
            | Outcome::Oom
            | Outcome::Pids
            | Outcome::Disk
            | Outcome::Cancelled
            | Outcome::Leak
            | Outcome::Error => {}
        }
        let cause = result.cause.as_deref().unwrap_or(result.outcome.as_str());
        let text = match &result.remedy {
            Some(remedy) => format!("{}\nhint: {}", show_name(cause), show_name(remedy)),
            None => show_name(cause),
        };
        let note = Note { title: "runner", text: &text, ..Note::default() };
        if let Some(order) = self.guard.as_ref().and_then(|guard| guard.outer.error(&note)) {
            self.stderr.line(&order);
            return;
        }
        self.word(&format!("runner: {}", self.paint.bad(&show_name(cause))));
        if let Some(remedy) = &result.remedy {
            self.word(&format!("  hint: {}", show_name(remedy)));
        }
    }
}

/// Colours stay: the pages of services show them, and what reads our output otherwise reads bytes.
fn guarded(outer: Outer, line: &[u8]) -> String {
    let colors = if outer.has_colors() { Colors::Keep } else { Colors::Strip };
    outer.harmless(&escape::line(line, colors)).into_owned()
}
