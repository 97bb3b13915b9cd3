//! How long to wait before the next try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::settings::FetchSettings;
use crate::random;

/// Returns the pause after the `tries`-th failure: doubling, half of it random so that many runners do not come back
/// at the same moment; or what the server asked for, within bounds.
pub(super) fn pause(tries: u32, retry_after: Option<Duration>, settings: &FetchSettings) -> Duration {
    if let Some(wanted) = retry_after {
        return wanted.min(settings.retry_after_max);
    }
    let doubled = settings.backoff_first.saturating_mul(1 << tries.saturating_sub(1).min(16));
    let full = doubled.min(settings.backoff_max);
    full / 2 + (full / 2).mul_f64(random::number() as f64 / u64::MAX as f64)
}

/// Reads a `Retry-After` header: seconds, or a date as HTTP writes them.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(then.duration_since(now).unwrap_or_default())
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, IMF-fixdate; its two obsolete forms are not read).
fn http_date(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = words.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT") || !(1..=31).contains(&day) || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    // Days since 1970 of a date in the Gregorian calendar, counting years from March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    const DAYS_TO_1970: u64 = 719_469;
    Some((days - DAYS_TO_1970) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(http_date("Wed, 01 Mar 2000 00:00:00 GMT"), Some(951_868_800));
        for bad in [
            "",
            "x",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn pauses() {
        let settings = FetchSettings::default();
        assert_eq!(retry_after("7", UNIX_EPOCH), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:00 GMT", UNIX_EPOCH), Some(Duration::from_secs(60)));
        let later = UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:00 GMT", later), Some(Duration::ZERO));
        assert_eq!(pause(1, Some(Duration::from_secs(9999)), &settings), settings.retry_after_max);
        for tries in 1..100 {
            let full = (settings.backoff_first * 2u32.pow((tries - 1).min(10))).min(settings.backoff_max);
            let pause = pause(tries, None, &settings);
            assert!(pause >= full / 2 && pause <= full, "{tries}: {pause:?}");
        }
    }
}
