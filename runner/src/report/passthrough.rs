//! `runner run`: the command's bytes as they are. Our own words go to standard error and say that they are ours.

use std::time::Instant;

use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};

use super::format::Paint;
use super::plain::{show_name, warning_lines};
use super::pull::Pulls;
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

/// Shows one command.
#[derive(Debug)]
pub(super) struct Passthrough {
    stdout: Sink,
    stderr: Sink,
    bars: Option<Bars>,
    paint: Paint,
}

impl Passthrough {
    pub(super) fn new(stdout: Sink, stderr: Sink, screen: Option<Screen>, color: bool) -> Self {
        let bars = screen.map(|screen| Bars {
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone()))),
            screen,
            pulls: Pulls::default(),
        });
        Self { stdout, stderr, bars, paint: Paint { color } }
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
                    self.stderr.line(&format!("runner: image {image}: {word}{note}"));
                }
                None => {}
            },
            What::StepStart { .. } => self.finish(),
            What::StepLog { stream, data, .. } => {
                let sink = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                sink.write(data);
                // A prompt has no newline.
                sink.flush();
            }
            What::StepEnd { result } => self.end(result),
            What::Warning { code, text, hint } => {
                for line in warning_lines(code.as_deref(), text, hint.as_deref(), self.paint) {
                    self.stderr.line(&format!("runner: {line}"));
                }
            }
            What::RunStart { .. }
            | What::JobStart { .. }
            | What::StepRetry { .. }
            | What::JobRetry { .. }
            | What::CacheRestore { .. }
            | What::CacheSave { .. }
            | What::ServiceStart { .. }
            | What::ServiceReady { .. }
            | What::ServiceEnd { .. }
            | What::Artifact { .. }
            | What::JobEnd { .. }
            | What::RunEnd { .. } => {}
        }
    }

    /// A command's own exit code speaks for itself; what the runner or the kernel did to it does not.
    fn end(&mut self, result: &StepResult) {
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
        self.stderr.line(&format!("runner: {}", self.paint.bad(&show_name(cause))));
        if let Some(remedy) = &result.remedy {
            self.stderr.line(&format!("  hint: {}", show_name(remedy)));
        }
    }
}
