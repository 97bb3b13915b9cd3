//! Pax records: `LENGTH KEY=VALUE\n`, read exactly, kept only where they mean something here.

use super::error::{UnpackError, limit, malformed, refused, shown};
use super::options::UnpackLimits;
use super::sparse::PaxSparse;

/// A moment: seconds since 1970 and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moment {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What the records before one entry said.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Moment>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// Prefix of the keys that carry extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Keys that a global header may not set: a global name or size serves only to confuse two readers.
const NEVER_GLOBAL: [&[u8]; 6] = [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"];

impl Pax {
    /// Reads the records of an `x` header.
    pub(super) fn read(bytes: &[u8], limits: &UnpackLimits) -> Result<Pax, UnpackError> {
        let mut pax = Pax::default();
        records(bytes, |key, value| pax.set(key, value, limits))?;
        Ok(pax)
    }

    /// Checks the records of a `g` header; only ones without meaning here, such as comments, pass.
    pub(super) fn check_global(bytes: &[u8]) -> Result<(), UnpackError> {
        records(bytes, |key, _| {
            let known = NEVER_GLOBAL.contains(&key)
                || key.starts_with(XATTR_PREFIX)
                || key.starts_with(super::sparse::PAX_PREFIX);
            if known {
                return Err(refused(format!("a global pax header sets \"{}\" for all entries", shown(key))));
            }
            Ok(())
        })
    }

    fn set(&mut self, key: &[u8], value: &[u8], limits: &UnpackLimits) -> Result<(), UnpackError> {
        match key {
            b"path" => once(&mut self.path, name(value, "path", limits)?, "path"),
            b"linkpath" => once(&mut self.link, name(value, "linkpath", limits)?, "linkpath"),
            b"size" => once(&mut self.size, decimal(value, "size")?, "size"),
            b"uid" => once(&mut self.uid, decimal(value, "uid")?, "uid"),
            b"gid" => once(&mut self.gid, decimal(value, "gid")?, "gid"),
            b"mtime" => once(&mut self.mtime, moment(value)?, "mtime"),
            _ if key.starts_with(super::sparse::PAX_PREFIX) => self.sparse.set(key, value, limits),
            _ => match key.strip_prefix(XATTR_PREFIX) {
                Some(attribute) => self.set_xattr(attribute, value, limits),
                None => Ok(()),
            },
        }
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8], limits: &UnpackLimits) -> Result<(), UnpackError> {
        if key.is_empty() || key.contains(&0) {
            return Err(malformed("a pax record names no extended attribute"));
        }
        if value.len() as u64 > limits.xattr_bytes_max {
            let what = format!("{} bytes in the extended attribute \"{}\"", value.len(), shown(key));
            return Err(limit(what, limits.xattr_bytes_max));
        }
        self.xattrs.push((key.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// Sets a value that two records of one header must not dispute.
fn once<T: PartialEq>(slot: &mut Option<T>, value: T, key: &str) -> Result<(), UnpackError> {
    match slot {
        Some(before) if *before != value => Err(malformed(format!("two pax records differ on \"{key}\""))),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Calls `record` with every key and value.
fn records(
    mut bytes: &[u8],
    mut record: impl FnMut(&[u8], &[u8]) -> Result<(), UnpackError>,
) -> Result<(), UnpackError> {
    while !bytes.is_empty() {
        let bad = |what: &str| malformed(format!("bad pax record ({what}): \"{}\"", shown(bytes)));
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(|| bad("no space"))?;
        let length = decimal(&bytes[..space], "length").map_err(|_| bad("its length is no number"))?;
        let length = usize::try_from(length).map_err(|_| bad("its length is too large"))?;
        if length <= space + 1 || length > bytes.len() {
            return Err(bad("its length is wrong"));
        }
        let (this, rest) = bytes.split_at(length);
        let Some((b'\n', content)) = this[space + 1..].split_last() else {
            return Err(bad("no newline at its end"));
        };
        let equals = content.iter().position(|byte| *byte == b'=').ok_or_else(|| bad("no equals sign"))?;
        let (key, value) = (&content[..equals], &content[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err(bad("its key is empty or holds a NUL"));
        }
        record(key, value)?;
        bytes = rest;
    }
    Ok(())
}

fn name(value: &[u8], key: &str, limits: &UnpackLimits) -> Result<Vec<u8>, UnpackError> {
    if value.is_empty() || value.contains(&0) {
        return Err(malformed(format!("the pax record \"{key}\" is empty or holds a NUL")));
    }
    if value.len() as u64 > limits.name_bytes_max {
        return Err(limit(
            format!("{} bytes in the pax record \"{key}\"", value.len()),
            limits.name_bytes_max,
        ));
    }
    Ok(value.to_vec())
}

/// Reads decimal digits and nothing else.
pub(super) fn decimal(value: &[u8], key: &str) -> Result<u64, UnpackError> {
    let bad = || malformed(format!("the pax record \"{key}\" is no number: \"{}\"", shown(value)));
    if value.is_empty() {
        return Err(bad());
    }
    value.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => {
            sum.checked_mul(10).and_then(|sum| sum.checked_add(u64::from(digit - b'0'))).ok_or_else(bad)
        }
        _ => Err(bad()),
    })
}

/// Reads `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are cut.
fn moment(value: &[u8]) -> Result<Moment, UnpackError> {
    let bad = || malformed(format!("the pax record \"mtime\" is no time: \"{}\"", shown(value)));
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = decimal(parts.next().unwrap_or_default(), "mtime").map_err(|_| bad())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let nine = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nine.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let seconds = i64::try_from(whole).map_err(|_| bad())?;
    Ok(match (negative, nanoseconds) {
        (false, _) => Moment { seconds, nanoseconds },
        (true, 0) => Moment { seconds: -seconds, nanoseconds },
        (true, _) => Moment { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pax, UnpackError> {
        Pax::read(bytes, &UnpackLimits::default())
    }

    #[test]
    fn good_records() {
        let pax = read(b"12 path=a/b\n10 size=7\n22 mtime=-1.500000000\n30 SCHILY.xattr.user.k=v\n=\0\nx\n")
            .unwrap();
        assert_eq!(pax.path.unwrap(), b"a/b");
        assert_eq!(pax.size, Some(7));
        assert_eq!(pax.mtime, Some(Moment { seconds: -2, nanoseconds: 500_000_000 }));
        assert_eq!(pax.xattrs, [(b"user.k".to_vec(), b"v\n=\0\nx".to_vec())]);
        assert!(read(b"10 size=7\n10 size=7\n").is_ok(), "the same twice");
        assert!(read(b"").is_ok());
    }

    #[test]
    fn bad_records() {
        let cases: [(&[u8], &str); 14] = [
            (b"12path=a/b\n", "no space"),
            (b"xx path=a/b\n", "no number"),
            (b"11 path=a/b\n", "no newline"),
            (b"13 path=a/b\n", "length is wrong"),
            (b"2 path=a/b\n", "length is wrong"),
            (b"0 path=a/b\n", "length is wrong"),
            (b"99999999999999999999 path=a\n", "no number"),
            (b"8 path\n\n", "no equals"),
            (b"5 =a\n", "key is empty"),
            (b"12 path=a\0b\n", "NUL"),
            (b"8 path=\n", "empty"),
            (b"10 size=7\n10 size=8\n", "differ"),
            (b"11 size=-7\n", "no number"),
            (b"12 path=a/b\nx", "no space"),
        ];
        for (bytes, words) in cases {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{}: {error}", bytes.escape_ascii());
        }
    }

    #[test]
    fn global_records_only_comment() {
        assert!(Pax::check_global(b"13 comment=x\n").is_ok());
        assert!(Pax::check_global(b"10 size=7\n").is_err());
        assert!(Pax::check_global(b"12 path=a/b\n").is_err());
    }
}
