//! Sizes, durations and CPU counts: reading and writing them. Command-line flags use the same functions.
//!
//! Two ways to write: `format_*` for people (rounded: `1.9G`, `1m12s`), `format_*_exact` to be read back.

use std::time::Duration;

const KIB: u64 = 1024;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Units of sizes, largest first; all powers of 1024.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", KIB * KIB * KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("MiB", KIB * KIB),
    ("KiB", KIB),
    ("T", KIB * KIB * KIB * KIB),
    ("G", KIB * KIB * KIB),
    ("M", KIB * KIB),
    ("K", KIB),
    ("B", 1),
];

/// Units of durations in nanoseconds, in the order in which they may follow each other.
const DURATION_UNITS: [(&str, u128); 5] = [
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
];

/// Why a size, a duration or a CPU count cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing was written.
    #[error("it is empty")]
    Empty,
    /// A bare number: nobody can know what it counts.
    #[error("a bare number has no unit")]
    MissingUnit,
    /// A unit that does not exist here.
    #[error("unknown unit `{unit}`")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The unit that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// No number where one must be.
    #[error("expected a number at `{rest}`")]
    NotANumber {
        /// The text from the place where the number should start.
        rest: String,
    },
    /// Units of a duration that repeat or grow: `5s1m`.
    #[error("the unit `{unit}` is out of order")]
    Order {
        /// The unit in the wrong place.
        unit: String,
    },
    /// Below zero.
    #[error("it is negative")]
    Negative,
    /// More than can be counted.
    #[error("it is too large")]
    TooLarge,
}

/// Reads a size in bytes: `512M`, `1.5G`, `64KiB`, `100B`. All units are powers of 1024; `0` needs none.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = unsigned(text)?;
    let (number, rest) = Number::read(text)?;
    if rest.is_empty() {
        return if number.is_zero() { Ok(0) } else { Err(UnitError::MissingUnit) };
    }
    let unit = rest.trim_start();
    match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => {
            number.times(u128::from(*factor)).and_then(|n| u64::try_from(n).ok()).ok_or(UnitError::TooLarge)
        }
        None => Err(UnitError::UnknownUnit { unit: unit.to_owned(), suggestion: similar_size_unit(unit) }),
    }
}

/// Reads a duration: `90s`, `15m`, `1h30m`, `1.5h`, `250ms`, `7d`. Units go from large to small, each once;
/// only the last number may have a fraction. `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = unsigned(text)?;
    let mut total: u128 = 0;
    let mut units_left = &DURATION_UNITS[..];
    let mut fraction_seen = false;
    while !rest.is_empty() {
        let (number, after) = Number::read(rest)?;
        let after = after.trim_start();
        let unit_len = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        if unit.is_empty() {
            let zero = number.is_zero() && next.is_empty() && units_left.len() == DURATION_UNITS.len();
            return if zero { Ok(Duration::ZERO) } else { Err(UnitError::MissingUnit) };
        }
        if fraction_seen {
            return Err(UnitError::NotANumber { rest: rest.to_owned() });
        }
        let Some(at) = units_left.iter().position(|(name, _)| *name == unit) else {
            return Err(match DURATION_UNITS.iter().any(|(name, _)| *name == unit) {
                true => UnitError::Order { unit: unit.to_owned() },
                false => {
                    let suggestion = similar_duration_unit(unit);
                    UnitError::UnknownUnit { unit: unit.to_owned(), suggestion }
                }
            });
        };
        total =
            number.times(units_left[at].1).and_then(|n| total.checked_add(n)).ok_or(UnitError::TooLarge)?;
        fraction_seen = !number.fraction.is_empty();
        units_left = &units_left[at + 1..];
        rest = next.trim_start();
    }
    let seconds = u64::try_from(total / NANOS_PER_SECOND).map_err(|_| UnitError::TooLarge)?;
    let nanos = u32::try_from(total % NANOS_PER_SECOND).map_err(|_| UnitError::TooLarge)?;
    Ok(Duration::new(seconds, nanos))
}

/// Reads a number of CPUs: `2`, `0.5`. No exponent, no sign, no infinity.
pub fn parse_cpus(text: &str) -> Result<f64, UnitError> {
    let text = unsigned(text)?;
    let (_, rest) = Number::read(text)?;
    if !rest.is_empty() {
        return Err(UnitError::UnknownUnit { unit: rest.to_owned(), suggestion: None });
    }
    text.parse().map_err(|_| UnitError::NotANumber { rest: text.to_owned() })
}

/// Writes a size for people: at most one decimal, the unit that keeps the number below 1024: `512B`, `1.9G`.
pub fn format_size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 'B');
    for next in ['K', 'M', 'G', 'T'] {
        // 1023.95 would be shown as 1024.0: the next unit is the shorter truth.
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let text = format!("{value:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// Writes a size so that `parse_size` gives it back: the largest unit that divides it: `1536M`, `1000B`.
pub fn format_size_exact(bytes: u64) -> String {
    let units = SIZE_UNITS.iter().filter(|(name, _)| name.len() == 1);
    let fitting =
        units.filter(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)).max_by_key(|u| u.1);
    fitting.map_or_else(|| "0".to_owned(), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Writes a duration for people: `340ms`, `12.3s`, `1m12s`, `1h30m`, `2d4h`; from a minute on whole seconds.
pub fn format_duration(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    if duration.as_millis() < 1000 {
        return format!("{}ms", duration.as_millis());
    }
    if tenths < 600 {
        let text = format!("{}.{}", tenths / 10, tenths % 10);
        return format!("{}s", text.strip_suffix(".0").unwrap_or(&text));
    }
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() >= 500_000_000);
    format_duration_exact(Duration::from_secs(whole))
}

/// Writes a duration so that `parse_duration` gives it back, to the nanosecond: `1h30m`, `1s500ms`, `0`.
pub fn format_duration_exact(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    let mut out = String::new();
    for (unit, factor) in DURATION_UNITS {
        let (count, rest) = (nanos / factor, nanos % factor);
        let last = unit == "ms";
        if count > 0 || (last && rest > 0) {
            out.push_str(&count.to_string());
            if last && rest > 0 {
                out.push_str(format!(".{rest:06}").trim_end_matches('0'));
            }
            out.push_str(unit);
        }
        nanos = rest;
    }
    if out.is_empty() { "0".to_owned() } else { out }
}

/// Writes a number of CPUs so that `parse_cpus` gives it back: `2`, `0.5`.
pub fn format_cpus(cpus: f64) -> String {
    format!("{cpus}")
}

/// Returns the text without spaces around it; empty and negative ones are errors.
fn unsigned(text: &str) -> Result<&str, UnitError> {
    let text = text.trim();
    match text.as_bytes().first() {
        None => Err(UnitError::Empty),
        Some(b'-') if text[1..].starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            Err(UnitError::Negative)
        }
        Some(_) => Ok(text),
    }
}

/// A decimal number as its digits, so that nothing is lost to floating point.
struct Number<'a> {
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Number<'a> {
    /// Reads digits, and a point with more digits; returns the rest too.
    fn read(text: &'a str) -> Result<(Number<'a>, &'a str), UnitError> {
        let digits = |text: &'a str| text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let (whole, rest) = digits(text);
        if whole.is_empty() {
            return Err(UnitError::NotANumber { rest: text.to_owned() });
        }
        let Some(after_point) = rest.strip_prefix('.') else {
            return Ok((Number { whole, fraction: "" }, rest));
        };
        let (fraction, rest) = digits(after_point);
        if fraction.is_empty() {
            return Err(UnitError::NotANumber { rest: after_point.to_owned() });
        }
        Ok((Number { whole, fraction }, rest))
    }

    fn is_zero(&self) -> bool {
        self.whole.bytes().chain(self.fraction.bytes()).all(|digit| digit == b'0')
    }

    /// Multiplies, rounding down; `None` when it does not fit. Digits after the twelfth do not count.
    fn times(&self, factor: u128) -> Option<u128> {
        let whole: u128 = self.whole.parse().ok()?;
        let fraction = &self.fraction[..self.fraction.len().min(12)];
        let part = match fraction {
            "" => 0,
            digits => {
                let scale = 10u128.pow(u32::try_from(digits.len()).ok()?);
                digits.parse::<u128>().ok()?.checked_mul(factor)? / scale
            }
        };
        whole.checked_mul(factor)?.checked_add(part)
    }
}

fn similar_size_unit(unit: &str) -> Option<&'static str> {
    let lower = unit.to_ascii_lowercase();
    let first = *lower.as_bytes().first()?;
    let known = ["k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib", "t", "tb", "tib", "b", "bytes"];
    if !known.contains(&lower.as_str()) {
        return None;
    }
    match first {
        b'k' => Some("K"),
        b'm' => Some("M"),
        b'g' => Some("G"),
        b't' => Some("T"),
        _ => Some("B"),
    }
}

fn similar_duration_unit(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "d" | "day" | "days" => Some("d"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        let ok: [(&str, u64); 12] = [
            ("0", 0),
            ("0G", 0),
            ("1B", 1),
            ("512M", 512 << 20),
            ("4G", 4 << 30),
            ("64KiB", 64 << 10),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            ("  2T ", 2 << 40),
            ("1 GiB", 1 << 30),
            ("16777215T", 16_777_215 << 40),
            ("0.0009765625K", 1),
        ];
        for (text, bytes) in ok {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        let unknown = |unit: &str, suggestion| UnitError::UnknownUnit { unit: unit.into(), suggestion };
        let bad = [
            ("", UnitError::Empty),
            ("512", UnitError::MissingUnit),
            ("0.5", UnitError::MissingUnit),
            ("-1G", UnitError::Negative),
            ("512m", unknown("m", Some("M"))),
            ("4GB", unknown("GB", Some("G"))),
            ("4X", unknown("X", None)),
            ("1e3M", unknown("e3M", None)),
            ("G", UnitError::NotANumber { rest: "G".into() }),
            (".5G", UnitError::NotANumber { rest: ".5G".into() }),
            ("1.G", UnitError::NotANumber { rest: "G".into() }),
            ("16777216T", UnitError::TooLarge),
            ("99999999999999999999999999999999999999999G", UnitError::TooLarge),
        ];
        for (text, error) in bad {
            assert_eq!(parse_size(text), Err(error), "{text}");
        }
    }

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        let ok = [
            ("0", 0),
            ("0s", 0),
            ("90s", 90_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("1m0.5s", 60_500),
            ("250ms", 250),
            ("7d", 604_800_000),
            ("1s5ms", 1_005),
            ("5 m", 300_000),
            (" 1h 30m ", 5_400_000),
        ];
        for (text, millis) in ok {
            assert_eq!(parse_duration(text), Ok(ms(millis)), "{text}");
        }
        let unknown = |unit: &str, suggestion| UnitError::UnknownUnit { unit: unit.into(), suggestion };
        let bad = [
            ("", UnitError::Empty),
            ("90", UnitError::MissingUnit),
            ("1h30", UnitError::MissingUnit),
            ("1h0", UnitError::MissingUnit),
            ("-5s", UnitError::Negative),
            ("5min", unknown("min", Some("m"))),
            ("5 5", UnitError::MissingUnit),
            ("30m1h", UnitError::Order { unit: "h".into() }),
            ("1s1s", UnitError::Order { unit: "s".into() }),
            ("1.5h3m", UnitError::NotANumber { rest: "3m".into() }),
            ("soon", UnitError::NotANumber { rest: "soon".into() }),
            ("99999999999999999999999999999d", UnitError::TooLarge),
        ];
        for (text, error) in bad {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn cpus() {
        assert_eq!(parse_cpus("2"), Ok(2.0));
        assert_eq!(parse_cpus("0.25"), Ok(0.25));
        for text in ["", "-1", "1e3", "inf", "nan", "two", "1."] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn for_people() {
        let sizes = [
            (0, "0B"),
            (512, "512B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (2_040_109_466, "1.9G"),
            (4 << 30, "4G"),
            ((1 << 30) - 1, "1G"),
            (u64::MAX, "16777216T"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(format_size(bytes), text, "{bytes}");
        }
        let durations = [
            (0, "0ms"),
            (340, "340ms"),
            (999, "999ms"),
            (1000, "1s"),
            (12_345, "12.3s"),
            (59_949, "59.9s"),
            (59_950, "1m"),
            (72_400, "1m12s"),
            (3_600_000, "1h"),
            (5_400_000, "1h30m"),
            (187_200_000, "2d4h"),
        ];
        for (millis, text) in durations {
            assert_eq!(format_duration(Duration::from_millis(millis)), text, "{millis}");
        }
    }

    proptest! {
        #[test]
        fn exact_sizes_come_back(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size_exact(bytes)), Ok(bytes));
        }

        #[test]
        fn exact_durations_come_back(seconds in 0..u64::MAX, nanos in 0..1_000_000_000u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&format_duration_exact(duration)), Ok(duration));
        }

        #[test]
        fn cpus_come_back(hundredths in 1..1_000_000u32) {
            let cpus = f64::from(hundredths) / 100.0;
            prop_assert_eq!(parse_cpus(&format_cpus(cpus)), Ok(cpus));
        }

        #[test]
        fn what_people_read_can_be_read_back(bytes in 0..1u64 << 60, millis in 0..10_000_000_000u64) {
            let near = |a: f64, b: f64| (a - b).abs() <= 0.06 * b.max(1.0);
            let size = parse_size(&format_size(bytes)).unwrap();
            prop_assert!(near(size as f64, bytes as f64), "{} {}", bytes, size);
            let duration = parse_duration(&format_duration(Duration::from_millis(millis))).unwrap();
            prop_assert!(near(duration.as_millis() as f64, millis as f64), "{} {:?}", millis, duration);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9.]{0,40}[a-zA-Z]{0,3}") {
            let _ = (parse_size(&text), parse_duration(&text), parse_cpus(&text));
        }
    }
}
