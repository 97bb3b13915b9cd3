//! Sizes, times and outcomes as people read them. The record has the exact numbers.

use std::time::Duration;

use crate::outcome::{Covered, FindingCounts, Outcome, Reused, StepResult, TestCounts};

/// Formats bytes: `512B`, `1.9G`.
pub fn size(bytes: u64) -> String {
    jobs::units::format_size(bytes)
}

/// Formats seconds: `340ms`, `3.4s`, `1m12s`. What is not a time shows as `?`.
pub fn duration(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "?".to_owned(), jobs::units::format_duration)
}

/// Formats the time that a live line shows: whole seconds only.
pub(super) fn elapsed(time: Duration) -> String {
    if time.as_secs() == 0 {
        "0s".to_owned()
    } else {
        jobs::units::format_duration(Duration::from_secs(time.as_secs()))
    }
}

/// Formats what a step used: `1m12s · cpu 3.4s · mem 1.9G/4G`.
pub fn usage(result: &StepResult) -> String {
    let usage = &result.usage;
    let mut text = format!("{} · cpu {}", duration(usage.wall_s), duration(usage.cpu_s));
    if let Some(peak) = usage.mem_peak {
        text.push_str(&format!(" · mem {}", size(peak)));
        if let Some(limit) = result.limits.memory_bytes {
            text.push_str(&format!("/{}", size(limit)));
        }
    }
    text
}

/// Says that something is tried again, and when.
pub(super) fn again(attempt: u32, attempts_max: u32, pause_s: f64) -> String {
    let pause = if pause_s > 0.0 { format!(" in {}", duration(pause_s)) } else { String::new() };
    format!("attempt {attempt} of {attempts_max}, again{pause}")
}

/// Names an outcome with its number: `failure (exit code 2)`, `signal (SIGSEGV)`.
pub fn outcome(result: &StepResult) -> String {
    let word = result.outcome.as_str();
    match (result.outcome, result.exit_code, result.signal) {
        (Outcome::Failure, Some(code), _) => format!("{word} (exit code {code})"),
        (Outcome::Signal, _, Some(signal)) => format!("{word} ({})", signal_name(signal)),
        _ => word.to_owned(),
    }
}

/// Says where a result comes from that was not made now.
pub fn reused(reused: &Reused) -> String {
    format!("made by run {}", reused.run)
}

/// Sums up reports: `214 tests, 2 failed, 1 flaky; 81.4 % of 9,120 lines covered; 1 error, 4 warnings found`.
pub fn reports(
    tests: Option<TestCounts>,
    coverage: Option<Covered>,
    findings: Option<FindingCounts>,
) -> String {
    let mut parts = Vec::new();
    if let Some(tests) = tests {
        let mut text = count(tests.tests, "test");
        for (number, word) in [(tests.failed, "failed"), (tests.skipped, "skipped"), (tests.flaky, "flaky")] {
            if number > 0 {
                text.push_str(&format!(", {number} {word}"));
            }
        }
        if tests.failed + tests.flaky == 0 {
            text.push_str(", none failed");
        }
        parts.push(text);
    }
    if let Some(coverage) = coverage {
        parts.push(format!("{:.1} % of {} covered", coverage.percent(), count(coverage.lines, "line")));
    }
    if let Some(findings) = findings {
        let kinds = [(findings.errors, "error"), (findings.warnings, "warning"), (findings.notes, "note")];
        let found: Vec<String> = kinds
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, kind)| count(*number, kind))
            .collect();
        parts.push(if found.is_empty() {
            "nothing found".to_owned()
        } else {
            format!("{} found", found.join(", "))
        });
    }
    parts.join("; ")
}

/// Names a signal: `SIGSEGV`, or `signal 34` where it has no name.
pub fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}

/// Returns the sentence about a failure, unless the outcome has said as much.
pub(super) fn cause(result: &StepResult) -> Option<&str> {
    result.cause.as_deref().filter(|cause| !outcome(result).contains(cause))
}

/// Counts things: `1 file`, `3 files`.
pub fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Colours of our own lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    /// Whether there are any.
    pub(super) color: bool,
}

impl Paint {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(super) fn notice(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Returns the mark of an outcome, green, red or dim.
    pub(super) fn mark(self, outcome: Outcome) -> String {
        match outcome {
            Outcome::Success => self.good("✓"),
            Outcome::Skipped => self.dim("-"),
            Outcome::Cancelled => self.notice("■"),
            Outcome::Failure
            | Outcome::Signal
            | Outcome::Timeout
            | Outcome::Oom
            | Outcome::Pids
            | Outcome::Leak
            | Outcome::Disk
            | Outcome::Error => self.bad("✗"),
        }
    }
}
