//! The writing side of a log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::index::IndexWriter;
use super::merge::{Merge, Put};
use crate::event::Stream;
use crate::outcome::LogSummary;
use crate::run::record::{RecordError, StepDirectory};

/// The open log of a running step.
///
/// After `log_bytes_max` bytes, or after the disk has refused one, output is counted and dropped: the caller
/// goes on draining the step's pipes either way.
#[derive(Debug)]
pub struct LogWriter {
    file: File,
    path: PathBuf,
    relative: PathBuf,
    index: IndexWriter,
    merge: Merge,
    log_bytes_max: u64,
    kept: Count,
    dropped: Count,
    failed: bool,
}

/// A log and its index, empty.
#[derive(Debug)]
pub struct LogFiles {
    log: File,
    index: File,
}

impl LogFiles {
    pub(crate) fn create(directory: &Path) -> Result<Self, RecordError> {
        let create = |name| {
            let path = directory.join(name);
            let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            opened.map_err(|source| RecordError::io("create", path, source))
        };
        Ok(Self { log: create("log")?, index: create("log.idx")? })
    }
}

impl LogWriter {
    pub(crate) fn start(
        files: LogFiles,
        step: &StepDirectory,
        log_bytes_max: u64,
        started: Instant,
    ) -> Result<Self, RecordError> {
        let path = step.log_path();
        let index = IndexWriter::start(files.index, started)
            .map_err(|source| RecordError::io("write", path.with_extension("idx"), source))?;
        Ok(Self {
            file: files.log,
            path,
            relative: step.relative.join("log"),
            index,
            merge: Merge::default(),
            log_bytes_max,
            kept: Count::default(),
            dropped: Count::default(),
            failed: false,
        })
    }

    /// Appends what came from `stream` at `at`, once the other stream is not in the middle of a line.
    ///
    /// An error is returned once; from then on everything is dropped and counted.
    pub fn append(&mut self, stream: Stream, data: &[u8], at: Instant) -> Result<(), RecordError> {
        self.merged(|merge, put| merge.take(stream, data, at, put))
    }

    /// Appends what has waited for the end of a line that does not come; called about once a second.
    pub fn release(&mut self) -> Result<(), RecordError> {
        self.merged(Merge::release)
    }

    fn merged(
        &mut self,
        pass: impl FnOnce(&mut Merge, Put<'_>) -> io::Result<()>,
    ) -> Result<(), RecordError> {
        let mut merge = std::mem::take(&mut self.merge);
        let passed = pass(&mut merge, &mut |stream, data, at| self.write(stream, data, at));
        self.merge = merge;
        passed.map_err(|source| RecordError::io("write", &self.path, source))
    }

    /// Writes what there is room for and counts the rest.
    fn write(&mut self, stream: Stream, data: &[u8], at: Instant) -> io::Result<()> {
        if self.failed {
            self.dropped.add(data);
            return Ok(());
        }
        let room = usize::try_from(self.log_bytes_max - self.kept.bytes).unwrap_or(usize::MAX);
        let (keep, drop) = data.split_at(data.len().min(room));
        let was_dropping = self.dropped.bytes > 0;
        self.dropped.add(drop);
        let mut written = self.keep(stream, keep, at);
        if !drop.is_empty() && !was_dropping {
            written = written.and_then(|()| self.write_marker("log limit reached, the rest is dropped"));
        }
        self.failed = written.is_err();
        written
    }

    fn keep(&mut self, stream: Stream, data: &[u8], at: Instant) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.index.note(self.kept.bytes, stream, at)?;
        self.file.write_all(data)?;
        self.kept.add(data);
        Ok(())
    }

    /// Markers stand on lines of their own and count neither as bytes nor as lines of the step.
    fn write_marker(&mut self, text: &str) -> io::Result<()> {
        let newline = if self.kept.is_at_line_start() { "" } else { "\n" };
        self.file.write_all(format!("{newline}[runner: {text}]\n").as_bytes())
    }

    /// Closes the log and returns what is in it.
    pub fn finish(mut self) -> Result<LogSummary, RecordError> {
        self.release()?;
        if !self.failed && self.dropped.bytes > 0 {
            let text = format!("dropped {} bytes, {} lines", self.dropped.bytes, self.dropped.lines());
            // The first marker has ended the line already.
            let marker = format!("[runner: {text}]\n");
            let written = self.file.write_all(marker.as_bytes());
            written.map_err(|source| RecordError::io("write", &self.path, source))?;
        }
        let index_path = self.path.with_extension("idx");
        self.index.finish().map_err(|source| RecordError::io("write", index_path, source))?;
        Ok(LogSummary {
            path: self.relative.to_string_lossy().into_owned(),
            bytes: self.kept.bytes,
            lines: self.kept.lines(),
            dropped_bytes: self.dropped.bytes,
            dropped_lines: self.dropped.lines(),
        })
    }
}

/// Bytes and lines that went by.
#[derive(Debug, Default)]
struct Count {
    bytes: u64,
    newlines: u64,
    in_line: bool,
}

impl Count {
    fn add(&mut self, data: &[u8]) {
        let Some(&last) = data.last() else { return };
        self.bytes += data.len() as u64;
        self.newlines += data.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.in_line = last != b'\n';
    }

    fn is_at_line_start(&self) -> bool {
        !self.in_line
    }

    /// A last line without a newline counts.
    fn lines(&self) -> u64 {
        self.newlines + u64::from(self.in_line)
    }
}
