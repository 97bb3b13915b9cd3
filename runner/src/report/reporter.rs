//! Chooses how a run is shown and hands the events on.

use std::borrow::Cow;
use std::time::Instant;

use super::blocks::Blocks;
use super::outer::{Briefing, Outer, parted_json};
use super::passthrough::Passthrough;
use super::plain::Plain;
use super::sink::Sink;
use super::terminal::{Screen, Terminal};
use crate::event::Event;

/// How a run is shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Lines are appended, each says where it belongs; no cursor codes.
    Plain,
    /// Finished steps are a line, running ones a live block.
    Terminal,
    /// Output of the command only, byte for byte; what the runner has to say goes to standard error.
    Passthrough,
    /// Lines as a CI service folds and marks them; none of a step's is an order to it.
    Blocks(Outer),
    /// As passed through, but in lines, of which none is an order to the service.
    Guarded(Outer),
    /// The same on standard error; standard output is a file, and as it is.
    GuardedStderr(Outer),
}

impl Output {
    /// The service that reads it.
    pub const fn outer(self) -> Option<Outer> {
        match self {
            Self::Blocks(outer) | Self::Guarded(outer) | Self::GuardedStderr(outer) => Some(outer),
            Self::Plain | Self::Terminal | Self::Passthrough => None,
        }
    }
}

/// Everything that decides how a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportSettings {
    /// For people.
    pub output: Output,
    /// Whether colours are used.
    pub color: bool,
    /// Whether events go to standard output as JSON lines; people then read standard error.
    pub json: bool,
    /// Whether standard error is a terminal: bars of a passed-through run go there.
    pub stderr_is_terminal: bool,
}

#[derive(Debug)]
enum Human {
    Plain(Plain),
    Terminal(Box<Terminal>),
    Passthrough(Passthrough),
}

/// Shows one run.
#[derive(Debug)]
pub struct Reporter {
    human: Human,
    json: Option<Sink>,
    outer: Option<Outer>,
}

impl Reporter {
    /// Writes to the process's standard output and standard error.
    pub fn new(settings: ReportSettings) -> Self {
        Self::with_sinks(settings, Sink::results(), Sink::words())
    }

    /// Writes to the given places.
    pub fn with_sinks(settings: ReportSettings, stdout: Sink, stderr: Sink) -> Self {
        let color = settings.color;
        let outer = settings.output.outer();
        if matches!(settings.output, Output::Passthrough | Output::Guarded(_) | Output::GuardedStderr(_)) {
            let bars = settings.stderr_is_terminal.then(Screen::stderr);
            let passthrough = Passthrough::new(stdout, stderr, bars, color, settings.output);
            return Self { human: Human::Passthrough(passthrough), json: None, outer };
        }
        let (json, people) = if settings.json { (Some(stdout), stderr) } else { (None, stdout) };
        let human = match settings.output {
            Output::Terminal => {
                let screen =
                    if settings.json { Screen::on_stderr(people) } else { Screen::on_stdout(people) };
                Human::Terminal(Box::new(Terminal::new(screen, color)))
            }
            Output::Plain
            | Output::Passthrough
            | Output::Guarded(_)
            | Output::GuardedStderr(_)
            | Output::Blocks(_) => Human::Plain(Plain::new(people, color, outer.map(Blocks::new))),
        };
        Self { human, json, outer }
    }

    /// Knows what can be told to a service besides events.
    #[must_use]
    pub fn briefed(mut self, briefing: Briefing) -> Self {
        match &mut self.human {
            Human::Plain(plain) => plain.brief(briefing),
            Human::Passthrough(passthrough) => passthrough.brief(briefing),
            Human::Terminal(_) => {}
        }
        self
    }

    /// Shows a live terminal on any screen.
    pub fn on_screen(screen: Screen, color: bool) -> Self {
        Self { human: Human::Terminal(Box::new(Terminal::new(screen, color))), json: None, outer: None }
    }

    /// Shows what happened at `now`.
    pub fn event(&mut self, event: &Event, now: Instant) {
        if let Some(sink) = &mut self.json {
            // An event is strings and numbers only: serialising it cannot fail.
            if let Ok(line) = serde_json::to_string(event) {
                let line = match self.outer {
                    Some(_) => parted_json(&line),
                    None => Cow::Borrowed(line.as_str()),
                };
                sink.line(&line);
            }
        }
        match &mut self.human {
            Human::Plain(plain) => plain.event(event, now),
            Human::Terminal(terminal) => terminal.event(event, now),
            Human::Passthrough(passthrough) => passthrough.event(event, now),
        }
    }

    /// Lets time pass: heartbeats, elapsed times, redrawing. Call it every 100 to 500 ms.
    pub fn tick(&mut self, now: Instant) {
        match &mut self.human {
            Human::Plain(plain) => plain.tick(now),
            Human::Terminal(terminal) => terminal.tick(now),
            Human::Passthrough(_) => {}
        }
    }

    /// Takes live parts off the screen and flushes; what was said stays. Call it before anything else prints.
    pub fn finish(&mut self) {
        match &mut self.human {
            Human::Plain(plain) => plain.finish(),
            Human::Terminal(terminal) => terminal.finish(),
            Human::Passthrough(passthrough) => passthrough.finish(),
        }
        if let Some(sink) = &mut self.json {
            sink.flush();
        }
    }

    /// Whether the reader of standard output has left: of a passed-through command the shell would by now
    /// have ended it by SIGPIPE.
    pub fn is_broken(&self) -> bool {
        let human = match &self.human {
            Human::Plain(plain) => plain.is_broken(),
            Human::Terminal(terminal) => terminal.is_broken(),
            Human::Passthrough(passthrough) => passthrough.is_broken(),
        };
        self.json.as_ref().map_or(human, Sink::is_broken)
    }
}
