//! Sizes, times and counts.

use std::time::Duration;

use super::Checker;
use crate::bounds::{
    BANDWIDTH_MIN, BYTES_MAX, CPU_WEIGHT_MAX, CPUS_MAX, CPUS_MIN, DISK_MIN, FILES_MAX, IO_BYTES_MIN,
    IO_OPS_MAX, IO_OPS_MIN, PIDS_MAX, TIMEOUT_SECONDS_MAX,
};
use crate::codes::Code;
use crate::diagnostic::Origin;
use crate::file::{At, LimitsField};
use crate::job::JobLimits;
use crate::overrides::LimitsOverride;
use crate::plan::IoLimits;
use crate::render::quote;
use crate::source::Span;
use crate::units::{self, UnitError};

impl Checker<'_> {
    pub(super) fn limits(&mut self, field: &LimitsField) -> JobLimits {
        JobLimits {
            cpus: field.cpus.as_ref().and_then(|cpus| self.cpus(cpus)),
            cpu_weight: self.count(field.cpu_weight.as_ref(), "cpu-weight", 1, CPU_WEIGHT_MAX),
            memory_bytes: self.size(field.memory.as_ref(), "memory", 1),
            swap_bytes: self.size(field.swap.as_ref(), "swap", 0),
            pids: self.count(field.pids.as_ref(), "pids", 1, PIDS_MAX),
            files: self.count(field.files.as_ref(), "files", 1, FILES_MAX),
            log_bytes: self.size(field.log.as_ref(), "log", 1),
            disk_bytes: self.size(field.disk.as_ref(), "disk", DISK_MIN),
            io: IoLimits {
                read_bytes: self.size(field.io_read.as_ref(), "read", IO_BYTES_MIN),
                write_bytes: self.size(field.io_write.as_ref(), "write", IO_BYTES_MIN),
                read_ops: self.count(field.io_read_ops.as_ref(), "read-ops", IO_OPS_MIN, IO_OPS_MAX),
                write_ops: self.count(field.io_write_ops.as_ref(), "write-ops", IO_OPS_MIN, IO_OPS_MAX),
            },
            net_receive_bytes: self.size(field.net_receive.as_ref(), "rx", BANDWIDTH_MIN),
            net_send_bytes: self.size(field.net_send.as_ref(), "tx", BANDWIDTH_MIN),
        }
    }

    /// Tests the limits of the command line; they are numbers already.
    pub(super) fn limit_overrides(&mut self, limits: &LimitsOverride) {
        let here = Origin::CommandLine;
        if let Some(cpus) = limits.cpus {
            self.cpus_in_bounds(cpus, here.clone());
        }
        let counts = [
            ("cpu-weight", limits.cpu_weight, 1, CPU_WEIGHT_MAX),
            ("memory", limits.memory_bytes, 1, BYTES_MAX),
            ("swap", limits.swap_bytes, 0, BYTES_MAX),
            ("pids", limits.pids, 1, PIDS_MAX),
            ("files", limits.files, 1, FILES_MAX),
            ("log", limits.log_bytes, 1, BYTES_MAX),
            ("disk", limits.disk_bytes, DISK_MIN, BYTES_MAX),
        ];
        for (key, value, min, max) in counts {
            if let Some(value) = value {
                self.in_bounds(value, key, min, max, here.clone());
            }
        }
    }

    fn cpus(&mut self, field: &At<String>) -> Option<f64> {
        match units::parse_cpus(&field.value) {
            Ok(cpus) => self.cpus_in_bounds(cpus, &field.span),
            Err(UnitError::Negative) => {
                self.problems.add(Code::LimitTooSmall, &field.span, "`cpus` must not be negative");
                None
            }
            Err(error) => {
                let text = format!("`cpus` cannot be {}: {error}", quote(&field.value));
                self.problems.add(Code::BadQuantity, &field.span, text).hint("a decimal such as 2 or 0.5");
                None
            }
        }
    }

    fn cpus_in_bounds(&mut self, cpus: f64, at: impl Into<Origin>) -> Option<f64> {
        // A NaN from the command line is in no range, and then too small.
        if (CPUS_MIN..=CPUS_MAX).contains(&cpus) {
            return Some(cpus);
        }
        let (code, text) = match cpus > CPUS_MAX {
            true => (Code::LimitTooBig, format!("`cpus` is at most {CPUS_MAX}")),
            false => (Code::LimitTooSmall, format!("`cpus` must be at least {CPUS_MIN}")),
        };
        self.problems.add(code, at, text);
        None
    }

    pub(super) fn size(&mut self, field: Option<&At<String>>, key: &str, min: u64) -> Option<u64> {
        let field = field?;
        match units::parse_size(&field.value) {
            Ok(bytes) => self.in_bounds(bytes, key, min, BYTES_MAX, &field.span),
            Err(error) => {
                self.quantity(&field.value, &field.span, key, "", error, &["512M", "4G"], "M");
                None
            }
        }
    }

    fn count(&mut self, field: Option<&At<i64>>, key: &str, min: u64, max: u64) -> Option<u64> {
        let field = field?;
        match u64::try_from(field.value) {
            Ok(count) => self.in_bounds(count, key, min, max, &field.span),
            Err(_) => {
                self.problems.add(Code::LimitTooSmall, &field.span, format!("`{key}` must not be negative"));
                None
            }
        }
    }

    fn in_bounds(&mut self, value: u64, key: &str, min: u64, max: u64, at: impl Into<Origin>) -> Option<u64> {
        let (code, text) = match value {
            0 if min > 0 => (Code::LimitTooSmall, format!("`{key}` must not be zero")),
            _ if value < min => (Code::LimitTooSmall, format!("`{key}` must be at least {min}")),
            _ if value > max => (Code::LimitTooBig, format!("`{key}` is at most {max}")),
            _ => return Some(value),
        };
        self.problems.add(code, at, text);
        None
    }

    pub(super) fn duration(&mut self, field: &At<String>, key: &str, place: &str) -> Option<Duration> {
        match units::parse_duration(&field.value) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.quantity(&field.value, &field.span, key, place, error, &["90s", "15m", "1h30m"], "s");
                None
            }
        }
    }

    pub(super) fn time_in_bounds(
        &mut self,
        time: Duration,
        key: &str,
        place: &str,
        zero: bool,
        at: impl Into<Origin>,
    ) -> Option<Duration> {
        let max = Duration::from_secs(TIMEOUT_SECONDS_MAX);
        let (code, text) = match time {
            _ if time > max => {
                let max = units::format_duration_exact(max);
                (Code::LimitTooBig, format!("`{key}`{place} is at most {max}"))
            }
            _ if time.is_zero() && !zero => (Code::LimitTooSmall, format!("`{key}`{place} must not be zero")),
            _ => return Some(time),
        };
        self.problems.add(code, at, text);
        None
    }

    /// Words what is wrong with a size or a duration.
    #[expect(clippy::too_many_arguments, reason = "all of them are words of one sentence")]
    fn quantity(
        &mut self,
        text: &str,
        span: &Span,
        key: &str,
        place: &str,
        error: UnitError,
        examples: &[&str],
        unit: &str,
    ) {
        let value = quote(text);
        let hint = format!("write it as {}", examples.join(", "));
        let (code, text, hint) = match error {
            UnitError::MissingUnit => {
                let whole = text.trim().bytes().all(|byte| byte.is_ascii_digit());
                let example = if whole { format!("{}{unit}", text.trim()) } else { examples[0].to_owned() };
                let sentence = format!("`{key}`{place} has a number without a unit: {value}");
                (Code::MissingUnit, sentence, format!("write {example}, for example"))
            }
            UnitError::Negative => {
                (Code::LimitTooSmall, format!("`{key}`{place} must not be negative"), hint)
            }
            UnitError::TooLarge => (Code::LimitTooBig, format!("`{key}`{place} is too large: {value}"), hint),
            UnitError::UnknownUnit { unit, suggestion } => {
                let mut sentence = format!("`{key}`{place} has the unknown unit {}", quote(&unit));
                if let Some(suggestion) = suggestion {
                    sentence.push_str(&format!("; did you mean `{suggestion}`?"));
                }
                (Code::BadQuantity, sentence, hint)
            }
            UnitError::Empty | UnitError::NotANumber { .. } | UnitError::Order { .. } => {
                (Code::BadQuantity, format!("`{key}`{place} cannot be {value}: {error}"), hint)
            }
        };
        self.problems.add(code, span, text).hint(hint);
    }
}
