//! The reading side: pieces of lines with their times, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::index::{IndexReader, Stamp};

/// A line is shown up to this; a step may print gigabytes without a newline.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// How much is read at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// Reads a log from an offset to its present end.
#[derive(Debug)]
pub struct LogReader {
    log: BufReader<File>,
    index: Option<IndexReader>,
    offset: u64,
}

/// Where a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineStart {
    /// When its first byte came, where the index knows.
    pub stamp: Option<Stamp>,
    /// Bytes of it that were left out because the line was longer than [`LINE_BYTES_MAX`].
    pub cut_bytes: u64,
}

impl LogReader {
    /// Opens the log at `path` and the index beside it. A log without a readable index has no times.
    pub fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let index = IndexReader::open(&path.with_extension("idx")).ok();
        Ok(Self { log: BufReader::with_capacity(BLOCK_BYTES, file), index, offset })
    }

    /// Reads the next line, without its newline, into `line`; `None` at the end.
    pub fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<Option<LineStart>> {
        line.clear();
        let stamp = self.stamp()?;
        let mut cut_bytes = 0_u64;
        let mut seen = false;
        loop {
            let available = self.log.fill_buf()?;
            if available.is_empty() {
                return Ok(seen.then_some(LineStart { stamp, cut_bytes }));
            }
            seen = true;
            let newline = available.iter().position(|&byte| byte == b'\n');
            let piece = &available[..newline.unwrap_or(available.len())];
            let room = LINE_BYTES_MAX.saturating_sub(line.len()).min(piece.len());
            line.extend_from_slice(&piece[..room]);
            cut_bytes += (piece.len() - room) as u64;
            let consumed = piece.len() + usize::from(newline.is_some());
            self.consume(consumed);
            if newline.is_some() {
                return Ok(Some(LineStart { stamp, cut_bytes }));
            }
        }
    }

    /// Returns the next bytes, at most to the end of a line (newline included); empty at the end.
    ///
    /// Follow with [`Self::consume`].
    pub fn fill_line(&mut self) -> io::Result<&[u8]> {
        let available = self.log.fill_buf()?;
        let end = available.iter().position(|&byte| byte == b'\n').map_or(available.len(), |at| at + 1);
        Ok(&available[..end])
    }

    /// Returns all bytes at hand; empty at the end. Follow with [`Self::consume`].
    pub fn fill(&mut self) -> io::Result<&[u8]> {
        self.log.fill_buf()
    }

    /// Marks `count` bytes as read.
    pub fn consume(&mut self, count: usize) {
        self.log.consume(count);
        self.offset += count as u64;
    }

    /// Returns when the next byte came.
    pub fn stamp(&mut self) -> io::Result<Option<Stamp>> {
        let offset = self.offset;
        self.index.as_mut().map_or(Ok(None), |index| index.stamp_at(offset))
    }
}

/// Finds where the last `lines_max` lines begin, reading from the end; returns the offset and how many lines
/// there are from it.
pub fn tail_offset(path: &Path, lines_max: u64) -> io::Result<(u64, u64)> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    if lines_max == 0 || end == 0 {
        return Ok((end, 0));
    }
    let mut block = vec![0_u8; BLOCK_BYTES];
    let mut block_start = end;
    let mut lines = 0;
    while block_start > 0 {
        let length = usize::try_from(block_start).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        block_start -= length as u64;
        file.read_exact_at(&mut block[..length], block_start)?;
        for at in (0..length).rev() {
            let offset = block_start + at as u64;
            // The newline of the last line ends it; every other one begins the line after it.
            if block[at] == b'\n' && offset + 1 < end {
                lines += 1;
                if lines == lines_max {
                    return Ok((offset + 1, lines));
                }
            }
        }
    }
    Ok((0, lines + 1))
}
