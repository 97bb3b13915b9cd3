//! Sizes, times and outcomes as people read them. The record has the exact numbers.

use crate::outcome::{Outcome, StepResult};

/// Formats bytes in powers of 1024 with one decimal: `512B`, `1.9G`; whole numbers from 1K lose the decimal: `4G`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{}{}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

/// Formats seconds: `0.04s`, `3.4s`, `1m12s`, `2h03m`.
pub fn duration(seconds: f64) -> String {
    if seconds < 0.095 {
        return format!("{seconds:.2}s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{}m{:02}s", whole / 60, whole % 60);
    }
    format!("{}h{:02}m", whole / 3600, whole % 3600 / 60)
}

/// Formats the time that a live line shows: whole seconds only.
pub(super) fn elapsed(time: std::time::Duration) -> String {
    if time.as_secs() < 60 { format!("{}s", time.as_secs()) } else { duration(time.as_secs() as f64) }
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

/// Names an outcome with its number: `failure (exit code 2)`, `signal (SIGSEGV)`.
pub fn outcome(result: &StepResult) -> String {
    let word = result.outcome.as_str();
    match (result.outcome, result.exit_code, result.signal) {
        (Outcome::Failure, Some(code), _) => format!("{word} (exit code {code})"),
        (Outcome::Signal, _, Some(signal)) => format!("{word} ({})", signal_name(signal)),
        _ => word.to_owned(),
    }
}

/// Names a signal: `SIGSEGV`, or `signal 34` where it has no name.
pub fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
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
            | Outcome::Error => self.bad("✗"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let table = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (1024 * 1024 - 1, "1M"),
            (64 << 20, "64M"),
            (2_040_109_466, "1.9G"),
            (4 << 30, "4G"),
            (u64::MAX, "16E"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_are_short() {
        let table = [
            (0.0, "0.00s"),
            (0.044, "0.04s"),
            (0.0949, "0.09s"),
            (3.42, "3.4s"),
            (59.94, "59.9s"),
            (59.96, "1m00s"),
            (72.0, "1m12s"),
            (3599.6, "1h00m"),
            (7380.0, "2h03m"),
        ];
        for (seconds, text) in table {
            assert_eq!(duration(seconds), text);
        }
    }
}
