//! The archive as entries: extension headers joined to the entry they belong to, sizes settled once.
//!
//! Two readers that disagree on where an entry begins can be shown two different archives. So a size from pax
//! records counts for the next real entry only, nothing may be said twice, and what is not understood is an error.

use super::error::{UnpackError, limit, malformed, refused};
use super::feed::{BLOCK, Feed};
use super::header::{Fields, Kind, Type};
use super::options::UnpackLimits;
use super::pax::{Moment, Pax};
use super::sparse::{SparseMap, old_gnu};
use crate::decode::Compression;
use crate::digest::Digest;

/// The largest id that can be given to a file; one more means "leave as it is" to the kernel.
const ID_MAX: u64 = u32::MAX as u64 - 1;

/// What the kernel's filesystems hold: 2^31 seconds before and 2^34 after 1970.
const SECONDS_MIN: i64 = -(1 << 31);
const SECONDS_MAX: i64 = (1 << 34) - 1;

/// One real entry. Its buffers are reused for the next one.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Moment,
    /// Bytes of content in the archive, for files only.
    pub(super) stored_bytes: u64,
    pub(super) sparse: Option<SparseMap>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The reader of an archive.
pub(super) struct Archive<'scope> {
    feed: Feed<'scope>,
    limits: UnpackLimits,
    /// Content of the current entry that was not read yet, and the padding after it.
    content_left: u64,
    padding: u64,
    entries: u64,
    holes_bytes: u64,
    zero_seen: bool,
}

/// What stands before a real entry.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }
}

/// What was seen by the end of an archive.
pub(super) struct Totals {
    pub(super) tar_sha256: Digest,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl<'scope> Archive<'scope> {
    pub(super) fn new(feed: Feed<'scope>, limits: UnpackLimits) -> Archive<'scope> {
        Archive { feed, limits, content_left: 0, padding: 0, entries: 0, holes_bytes: 0, zero_seen: false }
    }

    /// Reads the next entry into `entry`; returns false at the end mark.
    pub(super) fn next(&mut self, entry: &mut Entry) -> Result<bool, UnpackError> {
        let left = std::mem::take(&mut self.content_left) + std::mem::take(&mut self.padding);
        self.feed.skip(left).map_err(|error| error.at(&entry.name))?;
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.header(&extensions)? else { return Ok(false) };
            let fields = Fields::read(&block)?;
            match fields.kind {
                Type::Entry(_) | Type::OldSparse => {
                    self.entries += 1;
                    if self.entries > self.limits.entries_max {
                        return Err(limit("entries of the archive", self.limits.entries_max));
                    }
                    self.assemble(&fields, extensions, entry).map_err(|error| error.at(&entry.name))?;
                    return Ok(true);
                }
                Type::Pax if !extensions.is_empty() => {
                    return Err(malformed("a pax header after another extension of the same entry"));
                }
                Type::Pax => {
                    let records = self.extension(&fields, self.limits.pax_bytes_max, "pax records")?;
                    extensions.pax = Some(Pax::read(&records, &self.limits)?);
                }
                Type::GlobalPax => {
                    let records = self.extension(&fields, self.limits.pax_bytes_max, "pax records")?;
                    Pax::check_global(&records)?;
                }
                Type::LongName if extensions.name.is_some() || extensions.pax.is_some() => {
                    return Err(malformed("a long name after another name of the same entry"));
                }
                Type::LongName => extensions.name = Some(self.long_text(&fields, "long name")?),
                Type::LongLink if extensions.link.is_some() || extensions.pax.is_some() => {
                    return Err(malformed("a long link after another link of the same entry"));
                }
                Type::LongLink => extensions.link = Some(self.long_text(&fields, "long link")?),
            }
        }
    }

    /// Returns the next piece of the current entry's content, `None` once it is all read.
    pub(super) fn content(&mut self, wanted: u64) -> Result<Option<&[u8]>, UnpackError> {
        let wanted = wanted.min(self.content_left);
        if wanted == 0 {
            return Ok(None);
        }
        let chunk = self.feed.chunk(wanted)?;
        self.content_left -= chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// Verifies the rest of the stream after the end mark.
    pub(super) fn finish(self) -> Result<Totals, UnpackError> {
        let (tar_sha256, tar_bytes) = self.feed.drain()?;
        Ok(Totals { tar_sha256, entries: self.entries, bytes: tar_bytes + self.holes_bytes })
    }

    /// Returns the next header block, or none at the end of the archive.
    fn header(&mut self, extensions: &Extensions) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        // Some writers leave the end mark out. The compression proves that nothing is missing; without one nothing
        // does.
        let complete = self.feed.compression() != Compression::Plain;
        loop {
            let block = match self.feed.block()? {
                Some(block) => block,
                None if !extensions.is_empty() => {
                    return Err(malformed("truncated: the archive ends after an extension header"));
                }
                None if self.zero_seen || complete => return Ok(None),
                None if self.entries == 0 => return Err(malformed("it is empty: expected a tar archive")),
                None => return Err(malformed("truncated: no end mark after the last entry")),
            };
            if block.iter().any(|byte| *byte != 0) {
                if self.zero_seen {
                    return Err(malformed("a lone block of zeros in the middle of the archive"));
                }
                return Ok(Some(*block));
            }
            if !extensions.is_empty() {
                return Err(malformed("the end mark follows an extension header"));
            }
            if self.zero_seen {
                return Ok(None);
            }
            self.zero_seen = true;
        }
    }

    /// Reads the body of an extension header.
    fn extension(&mut self, fields: &Fields, max: u64, what: &str) -> Result<Vec<u8>, UnpackError> {
        if fields.size > max {
            return Err(limit(format!("{} bytes of {what}", fields.size), max));
        }
        let mut body = Vec::with_capacity(fields.size as usize);
        self.feed.append(fields.size, &mut body)?;
        self.feed.skip(padding(fields.size))?;
        Ok(body)
    }

    /// Reads a GNU long name or link: text and then NULs.
    fn long_text(&mut self, fields: &Fields, what: &str) -> Result<Vec<u8>, UnpackError> {
        // One more for the NUL.
        let mut body = self.extension(fields, self.limits.name_bytes_max + 1, what)?;
        let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
        if end == 0 || body[end..].iter().any(|byte| *byte != 0) {
            return Err(malformed(format!("a {what} that is empty or holds a NUL")));
        }
        body.truncate(end);
        Ok(body)
    }

    /// Joins the header and what stood before it.
    fn assemble(
        &mut self,
        fields: &Fields,
        extensions: Extensions,
        entry: &mut Entry,
    ) -> Result<(), UnpackError> {
        let mut pax = extensions.pax.unwrap_or_default();
        entry.name.clear();
        match pax.sparse.name.take().or(pax.path).or(extensions.name) {
            Some(name) => entry.name.extend_from_slice(&name),
            None => fields.name(&mut entry.name),
        }
        entry.link.clear();
        match pax.link.or(extensions.link) {
            Some(link) => entry.link.extend_from_slice(&link),
            None => entry.link.extend_from_slice(fields.link()),
        }
        entry.kind = match fields.kind {
            // Before ustar a directory was a file whose name ends in a slash.
            Type::Entry(Kind::File) if entry.name.ends_with(b"/") => Kind::Directory,
            Type::Entry(kind) => kind,
            _ => Kind::File,
        };
        entry.mode = fields.mode()?;
        entry.uid = id(pax.uid.map_or_else(|| fields.uid(), Ok)?, "user")?;
        entry.gid = id(pax.gid.map_or_else(|| fields.gid(), Ok)?, "group")?;
        let header_time = || fields.mtime().map(|seconds| Moment { seconds, nanoseconds: 0 });
        let Moment { seconds, nanoseconds } = pax.mtime.map_or_else(header_time, Ok)?;
        entry.mtime = Moment { seconds: seconds.clamp(SECONDS_MIN, SECONDS_MAX), nanoseconds };
        entry.xattrs = pax.xattrs;
        entry.stored_bytes = pax.size.unwrap_or(fields.size);
        entry.sparse = match fields.kind {
            Type::OldSparse => Some(old_gnu(fields, &mut self.feed, entry.stored_bytes, &self.limits)?),
            _ => pax.sparse.map(&mut self.feed, &mut entry.stored_bytes, &self.limits)?,
        };
        self.settle(entry)
    }

    /// Checks that the sizes fit the kind of entry and the limits, before anything is created.
    fn settle(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::File && (entry.stored_bytes > 0 || entry.sparse.is_some()) {
            let what = format!("it has {} bytes of content, though it is no file", entry.stored_bytes);
            return Err(refused(what));
        }
        let real_bytes = entry.sparse.as_ref().map_or(entry.stored_bytes, |map| map.real_bytes);
        let max = self.limits.bytes_max;
        self.holes_bytes = self.holes_bytes.saturating_add(real_bytes.saturating_sub(entry.stored_bytes));
        if real_bytes > max || entry.stored_bytes > max || self.holes_bytes > max {
            return Err(limit(format!("{real_bytes} bytes of content"), max));
        }
        self.content_left = entry.stored_bytes;
        self.padding = padding(entry.stored_bytes);
        Ok(())
    }
}

/// Bytes up to the next whole block.
fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64) - bytes
}

fn id(number: u64, what: &str) -> Result<u32, UnpackError> {
    match u32::try_from(number) {
        Ok(id) if number <= ID_MAX => Ok(id),
        _ => Err(malformed(format!("the {what} id {number} does not exist: the largest is {ID_MAX}"))),
    }
}
