//! Sparse files: GNU's old header maps and the three pax forms (0.0, 0.1, 1.0), all to one list of segments.

use super::error::{UnpackError, limit, malformed, shown};
use super::feed::{BLOCK, Feed};
use super::header::Fields;
use super::number::unsigned;
use super::options::UnpackLimits;
use super::pax::decimal;

/// Prefix of the pax keys of all three forms.
pub(super) const PAX_PREFIX: &[u8] = b"GNU.sparse.";

/// Descriptors in one extension block of the old form, and the offset of its "one more follows" byte.
const EXTENSION_DESCRIPTORS: usize = 21;
const EXTENSION_CONTINUES: usize = EXTENSION_DESCRIPTORS * 24;

/// A stretch of bytes that the archive holds; between segments lie holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Where the content of a sparse file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    pub(super) segments: Vec<Segment>,
    pub(super) real_bytes: u64,
}

impl SparseMap {
    /// Accepts segments in order, without overlap, inside the file, and holding exactly `stored_bytes`.
    fn new(segments: Vec<Segment>, real_bytes: u64, stored_bytes: u64) -> Result<SparseMap, UnpackError> {
        let mut end = 0u64;
        let mut stored = 0u64;
        for segment in &segments {
            let next = segment.offset.checked_add(segment.bytes);
            match next {
                Some(next) if segment.offset >= end && next <= real_bytes => end = next,
                _ => return Err(malformed("its sparse map overlaps itself or leaves the file")),
            }
            stored += segment.bytes;
        }
        if stored != stored_bytes {
            let what = format!("its sparse map covers {stored} bytes, the archive holds {stored_bytes}");
            return Err(malformed(what));
        }
        Ok(SparseMap { segments, real_bytes })
    }
}

/// Reads the map of an old GNU header (type `S`) and the extension blocks after it.
pub(super) fn old_gnu(
    fields: &Fields,
    feed: &mut Feed<'_>,
    stored_bytes: u64,
    limits: &UnpackLimits,
) -> Result<SparseMap, UnpackError> {
    let gnu = fields.gnu().ok_or_else(|| malformed("a sparse entry without a GNU header"))?;
    let real_bytes = unsigned(&gnu.realsize, "the real size")?;
    let mut segments = Vec::new();
    for descriptor in &gnu.sparse {
        push_descriptor(&mut segments, &descriptor.offset, &descriptor.numbytes, limits)?;
    }
    let mut continues = gnu.isextended[0] != 0;
    while continues {
        let block: &[u8; BLOCK] =
            feed.block()?.ok_or_else(|| malformed("truncated: the archive ends in a sparse map"))?;
        for descriptor in block[..EXTENSION_CONTINUES].chunks_exact(24) {
            push_descriptor(&mut segments, &descriptor[..12], &descriptor[12..], limits)?;
        }
        continues = block[EXTENSION_CONTINUES] != 0;
    }
    SparseMap::new(segments, real_bytes, stored_bytes)
}

/// An unused descriptor is all NUL.
fn push_descriptor(
    segments: &mut Vec<Segment>,
    offset: &[u8],
    bytes: &[u8],
    limits: &UnpackLimits,
) -> Result<(), UnpackError> {
    if offset[0] == 0 || bytes[0] == 0 {
        return Ok(());
    }
    let (offset, bytes) = (unsigned(offset, "a sparse offset")?, unsigned(bytes, "a sparse length")?);
    push(segments, Segment { offset, bytes }, limits)
}

fn push(segments: &mut Vec<Segment>, segment: Segment, limits: &UnpackLimits) -> Result<(), UnpackError> {
    if segments.len() as u64 >= limits.sparse_segments_max {
        return Err(limit("segments of a sparse file", limits.sparse_segments_max));
    }
    segments.push(segment);
    Ok(())
}

/// What pax records said about sparseness.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    /// The true name; the header holds a made-up one.
    pub(super) name: Option<Vec<u8>>,
    real_bytes: Option<u64>,
    major: Option<u64>,
    minor: Option<u64>,
    segments: Vec<Segment>,
    has_map: bool,
    pending_offset: Option<u64>,
}

impl PaxSparse {
    /// Takes one `GNU.sparse.` record.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8], limits: &UnpackLimits) -> Result<(), UnpackError> {
        match &key[PAX_PREFIX.len()..] {
            b"name" if value.is_empty() || value.contains(&0) => {
                return Err(malformed("the pax record \"GNU.sparse.name\" is empty or holds a NUL"));
            }
            b"name" if value.len() as u64 > limits.name_bytes_max => {
                return Err(limit("bytes in the pax record \"GNU.sparse.name\"", limits.name_bytes_max));
            }
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_bytes = Some(decimal(value, "GNU.sparse.realsize")?),
            b"major" => self.major = Some(decimal(value, "GNU.sparse.major")?),
            b"minor" => self.minor = Some(decimal(value, "GNU.sparse.minor")?),
            b"numblocks" => {
                decimal(value, "GNU.sparse.numblocks")?;
                self.has_map = true;
            }
            b"offset" => {
                let offset = decimal(value, "GNU.sparse.offset")?;
                if self.pending_offset.replace(offset).is_some() {
                    return Err(malformed("two sparse offsets without a length between them"));
                }
                self.has_map = true;
            }
            b"numbytes" => {
                let bytes = decimal(value, "GNU.sparse.numbytes")?;
                let offset = self.pending_offset.take();
                let offset =
                    offset.ok_or_else(|| malformed("a sparse length without an offset before it"))?;
                push(&mut self.segments, Segment { offset, bytes }, limits)?;
            }
            b"map" => self.read_map(value, limits)?,
            other => {
                return Err(malformed(format!("unknown pax record \"GNU.sparse.{}\"", shown(other))));
            }
        }
        Ok(())
    }

    /// Form 0.1: `offset,length,offset,length...` in one record.
    fn read_map(&mut self, value: &[u8], limits: &UnpackLimits) -> Result<(), UnpackError> {
        self.has_map = true;
        self.segments.clear();
        if value.is_empty() {
            return Ok(());
        }
        let mut numbers = value.split(|byte| *byte == b',');
        while let Some(offset) = numbers.next() {
            let offset = decimal(offset, "GNU.sparse.map")?;
            let bytes =
                numbers.next().ok_or_else(|| malformed("a sparse map with an odd number of numbers"))?;
            push(&mut self.segments, Segment { offset, bytes: decimal(bytes, "GNU.sparse.map")? }, limits)?;
        }
        Ok(())
    }

    /// Returns the map of an entry of `stored_bytes`, or none when it is not sparse. Form 1.0 keeps its map at the
    /// head of the content: it is read from `feed` and `stored_bytes` becomes what is left.
    pub(super) fn map(
        self,
        feed: &mut Feed<'_>,
        stored_bytes: &mut u64,
        limits: &UnpackLimits,
    ) -> Result<Option<SparseMap>, UnpackError> {
        let in_content = match (self.major, self.minor) {
            (None, None) if !self.has_map && self.real_bytes.is_none() => return Ok(None),
            (None, None) | (Some(0), Some(0 | 1)) => false,
            (Some(1), Some(0)) => true,
            (major, minor) => {
                let shown = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
                let what = format!("unknown sparse format {}.{}", shown(major), shown(minor));
                return Err(malformed(what));
            }
        };
        let real_bytes = self.real_bytes.ok_or_else(|| malformed("a sparse file without its real size"))?;
        if self.pending_offset.is_some() {
            return Err(malformed("a sparse offset without a length after it"));
        }
        let segments = if in_content { content_map(feed, stored_bytes, limits)? } else { self.segments };
        SparseMap::new(segments, real_bytes, *stored_bytes).map(Some)
    }
}

/// Form 1.0: decimal numbers, one a line, in whole blocks before the data: a count, then offset and length of each.
fn content_map(
    feed: &mut Feed<'_>,
    stored_bytes: &mut u64,
    limits: &UnpackLimits,
) -> Result<Vec<Segment>, UnpackError> {
    let mut lines = Lines { block: [0; BLOCK], position: BLOCK };
    let count = lines.number(feed, stored_bytes)?;
    if count > limits.sparse_segments_max {
        return Err(limit(format!("{count} segments of a sparse file"), limits.sparse_segments_max));
    }
    let mut segments = Vec::new();
    for _ in 0..count {
        let offset = lines.number(feed, stored_bytes)?;
        let bytes = lines.number(feed, stored_bytes)?;
        push(&mut segments, Segment { offset, bytes }, limits)?;
    }
    Ok(segments)
}

struct Lines {
    block: [u8; BLOCK],
    position: usize,
}

impl Lines {
    /// Reads the digits up to the next newline.
    fn number(&mut self, feed: &mut Feed<'_>, stored_bytes: &mut u64) -> Result<u64, UnpackError> {
        /// Digits of the largest 64-bit number.
        const DIGITS_MAX: usize = 20;
        let mut digits = [0; DIGITS_MAX];
        let mut length = 0;
        loop {
            if self.position == BLOCK {
                *stored_bytes = stored_bytes
                    .checked_sub(BLOCK as u64)
                    .ok_or_else(|| malformed("its sparse map is longer than its content"))?;
                self.block = *feed.block()?.ok_or_else(|| malformed("truncated in a sparse map"))?;
                self.position = 0;
            }
            let byte = self.block[self.position];
            self.position += 1;
            if byte == b'\n' {
                return decimal(&digits[..length], "sparse map");
            }
            if length == DIGITS_MAX {
                return Err(malformed("a number in its sparse map has too many digits"));
            }
            digits[length] = byte;
            length += 1;
        }
    }
}
