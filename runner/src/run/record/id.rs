//! Run ids and the one spelling of a time in records.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Ids are copied rather than typed: letters that look alike are no trouble.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters of an id: 62^4 for each second.
const SUFFIX_LENGTH: usize = 4;
/// Most characters of an id that the caller chooses.
const ID_LENGTH_MAX: usize = 64;

/// Returns now in UTC, RFC 3339 with microseconds. For display and records; durations are never computed from it.
pub fn timestamp() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Makes an id that sorts by time: `20261123-143012-7fK2`, UTC.
pub(super) fn fresh() -> String {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    format!("{}-{}", now.strftime("%Y%m%d-%H%M%S"), random_suffix())
}

fn random_suffix() -> String {
    let mut suffix = String::with_capacity(SUFFIX_LENGTH);
    while suffix.len() < SUFFIX_LENGTH {
        let mut bytes = [0_u8; 16];
        let flags = rustix::rand::GetRandomFlags::empty();
        let filled = rustix::rand::getrandom(&mut bytes[..], flags).unwrap_or(0);
        // Bytes from 248 up are left out: 62 * 4 = 248, and a remainder would favour some letters.
        let usable = bytes[..filled].iter().filter(|&&byte| byte < 248);
        let missing = SUFFIX_LENGTH - suffix.len();
        suffix.extend(usable.take(missing).map(|&byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    suffix
}

/// Whether the caller's id can name a directory and cannot be taken for a link or a hidden file.
pub(super) fn is_valid(id: &str) -> bool {
    id.len() <= ID_LENGTH_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && id != "latest"
        && id != "latest-failed"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_have_the_documented_shape() {
        let id = fresh();
        let parts: Vec<&str> = id.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 6, 4], "{id}");
        assert!(is_valid(&id));
    }

    #[test]
    fn ids_that_would_mislead_are_refused() {
        let long = "x".repeat(65);
        for id in ["", "latest", "latest-failed", ".hidden", "-x", "a/b", "..", "a b", "ä", &long] {
            assert!(!is_valid(id), "{id:?}");
        }
        for id in ["1", "build-17", "v1.2_rc", &long[..64]] {
            assert!(is_valid(id), "{id:?}");
        }
    }

    #[test]
    fn a_timestamp_is_rfc_3339_in_utc_with_microseconds() {
        let text = timestamp();
        assert_eq!(text.len(), "2026-11-23T14:30:12.123456Z".len(), "{text}");
        assert!(text.parse::<Timestamp>().is_ok(), "{text}");
    }
}
