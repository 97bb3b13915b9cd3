//! Numbers of tar headers: octal text or base-256, nothing else.

use super::error::{UnpackError, malformed};

/// Reads a field that cannot be negative.
pub(super) fn unsigned(field: &[u8], what: &str) -> Result<u64, UnpackError> {
    let value = signed(field, what)?;
    u64::try_from(value).map_err(|_| malformed(format!("{what} is negative ({value})")))
}

/// Reads a field. An empty one is zero, as every writer leaves unused ones.
pub(super) fn signed(field: &[u8], what: &str) -> Result<i64, UnpackError> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field, what),
        _ => octal(field, what),
    }
}

/// GNU's extension: the first bit set, then a big-endian two's complement number.
fn base256(field: &[u8], what: &str) -> Result<i64, UnpackError> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let mut value: i64 = if negative { -1 } else { 0 };
    for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
        value = value
            .checked_mul(256)
            .map(|value| value | i64::from(byte))
            .ok_or_else(|| malformed(format!("{what} does not fit 64 bits")))?;
    }
    Ok(value)
}

/// Spaces, octal digits, then only spaces and NULs.
fn octal(field: &[u8], what: &str) -> Result<i64, UnpackError> {
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    let bad = || malformed(format!("{what} is no octal number: \"{}\"", field.escape_ascii()));
    if digits[end..].iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return Err(bad());
    }
    digits[..end].iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value | i64::from(digit - b'0')).ok_or_else(bad),
        _ => Err(bad()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_numbers() {
        let cases: [(&[u8], i64); 12] = [
            (b"0000644\0", 0o644),
            (b"  644 \0 ", 0o644),
            (b"00000000012", 10),
            (b"77777777777", 0o77777777777),
            (b"777777777777", 0o777777777777),
            (b"\0\0\0\0", 0),
            (b"    ", 0),
            (b"", 0),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", 258),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
            (b"\x80\0\0\x00\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", i64::MIN),
        ];
        for (field, value) in cases {
            assert_eq!(signed(field, "x").unwrap(), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn bad_numbers() {
        let cases: [&[u8]; 8] = [
            b"0000648\0",
            b"-0000644",
            b"64 4",
            b"64\0 4",
            b"0x44",
            b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
            b"\xff\xfe\0\0\0\0\0\0\0\0\0\0",
            b"7777777777777777777777777",
        ];
        for field in cases {
            assert!(signed(field, "x").is_err(), "{}", field.escape_ascii());
        }
        assert!(unsigned(b"\xff\xff\xff\xff", "size").unwrap_err().to_string().contains("negative"));
    }
}
