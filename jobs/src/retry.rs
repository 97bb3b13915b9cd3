//! When a step or a job that did not succeed is tried again, and after how long a pause.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::bounds::RETRY_DELAY_SECONDS_MAX;

/// Trying again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retry {
    /// How often at most; at least once.
    pub max: u32,
    /// After which ends; not empty.
    pub on: Vec<RetryOn>,
    /// The pause before the second attempt.
    #[serde(rename = "delay_ms", serialize_with = "crate::plan::millis")]
    pub delay: Duration,
    /// By how much each further pause is longer than the one before it; at least 1.
    pub backoff: f64,
}

impl Retry {
    /// Returns the pause after this attempt, counted from 1. It grows to [`RETRY_DELAY_SECONDS_MAX`] at most.
    pub fn pause_after(&self, attempt: u32) -> Duration {
        let longest = Duration::from_secs(RETRY_DELAY_SECONDS_MAX);
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.backoff.powi(exponent);
        Duration::try_from_secs_f64(seconds).map_or(longest, |pause| pause.min(longest))
    }
}

/// An end after which it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// This exit code.
    Exit(u8),
    /// Any exit code that is no success.
    Failure,
    /// A signal that nobody here sent.
    Signal,
    /// The memory limit.
    Oom,
    /// `timeout` or `quiet-timeout`.
    Timeout,
    /// What was not the command's doing: the image, the machine.
    Infra,
}

/// All ends but single exit codes, by their names.
const NAMES: [(&str, RetryOn); 5] = [
    ("failure", RetryOn::Failure),
    ("signal", RetryOn::Signal),
    ("oom", RetryOn::Oom),
    ("timeout", RetryOn::Timeout),
    ("infra", RetryOn::Infra),
];

impl RetryOn {
    /// The names, in the order in which messages list them.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// What is meant when nothing is said: any end that is no success.
    pub(crate) fn any() -> Vec<RetryOn> {
        NAMES.iter().map(|(_, on)| *on).collect()
    }
}

/// It is neither a name nor `exit:` and a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoEnd;

impl FromStr for RetryOn {
    type Err = NoEnd;

    fn from_str(text: &str) -> Result<Self, NoEnd> {
        if let Some(code) = text.strip_prefix("exit:") {
            return code.trim_start().parse().map(RetryOn::Exit).map_err(|_| NoEnd);
        }
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, on)| *on).ok_or(NoEnd)
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetryOn::Exit(code) => write!(f, "exit:{code}"),
            other => {
                let name = NAMES.iter().find(|(_, on)| on == other).map_or("", |(name, _)| name);
                f.write_str(name)
            }
        }
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let retry = |delay, backoff| Retry { max: 9, on: RetryOn::any(), delay, backoff };
        let second = Duration::from_secs(1);
        let pauses = |retry: Retry| [1, 2, 3, 4].map(|attempt| retry.pause_after(attempt).as_millis());
        assert_eq!(pauses(retry(second, 1.0)), [1000; 4]);
        assert_eq!(pauses(retry(second, 2.0)), [1000, 2000, 4000, 8000]);
        assert_eq!(pauses(retry(second / 2, 1.5)), [500, 750, 1125, 1687]);
        assert_eq!(pauses(retry(Duration::ZERO, 10.0)), [0; 4]);
        assert_eq!(retry(second, 10.0).pause_after(u32::MAX).as_secs(), RETRY_DELAY_SECONDS_MAX);
    }

    #[test]
    fn ends_are_read_as_they_are_written() {
        for text in ["exit:0", "exit:255", "failure", "signal", "oom", "timeout", "infra"] {
            assert_eq!(text.parse::<RetryOn>().map(|on| on.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "exit", "exit:", "exit:256", "exit:-1", "Failure", "cancelled"] {
            assert_eq!(text.parse::<RetryOn>(), Err(NoEnd), "{text}");
        }
    }
}
