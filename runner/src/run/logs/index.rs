//! `log.idx`: text, one record a line: offset in the log, microseconds since the start, `o` or `e`.
//!
//! The first line is `runner-log-index 1 TIME`, TIME being the start in UTC. A record holds from its offset to
//! the next record's. Text costs 20 bytes where a binary record costs 12, and can be read without a program.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::event::Stream;
use crate::run::record::timestamp;

const HEADER: &str = "runner-log-index 1 ";
/// Output that follows within this time, from the same stream, shares a record: nobody reads finer.
const RESOLUTION: Duration = Duration::from_millis(1);
/// Bytes of an index: a step that alternates streams at every byte must not fill the disk. What comes later
/// shows the time of the last record.
const INDEX_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long a record may wait in memory, so that a log can be followed and survives SIGKILL.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Writes the index beside a log.
#[derive(Debug)]
pub(super) struct IndexWriter {
    file: BufWriter<File>,
    started: Instant,
    last: Option<(Stream, Duration)>,
    flushed: Duration,
    bytes: u64,
}

impl IndexWriter {
    pub(super) fn start(file: File, started: Instant) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        // The wall clock is read once; all else is counted from it by the monotonic clock.
        writeln!(file, "{HEADER}{}", timestamp())?;
        Ok(Self { file, started, last: None, flushed: Duration::ZERO, bytes: 0 })
    }

    /// Notes that what stands at `offset` came from `stream` at `at`.
    pub(super) fn note(&mut self, offset: u64, stream: Stream, at: Instant) -> io::Result<()> {
        let since = at.saturating_duration_since(self.started);
        if self.last.is_some_and(|(last, then)| last == stream && since < then + RESOLUTION) {
            return Ok(());
        }
        if self.bytes >= INDEX_BYTES_MAX {
            return Ok(());
        }
        self.last = Some((stream, since));
        let letter = match stream {
            Stream::Stdout => 'o',
            Stream::Stderr => 'e',
        };
        let record = format!("{offset} {} {letter}\n", since.as_micros());
        self.bytes += record.len() as u64;
        self.file.write_all(record.as_bytes())?;
        if since >= self.flushed + FLUSH_EVERY {
            self.flushed = since;
            self.file.flush()?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// When and from where a byte of a log came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Wall time, by the start of the log and the monotonic clock.
    pub time: Timestamp,
    /// Which stream.
    pub stream: Stream,
}

/// Reads an index from front to back.
#[derive(Debug)]
pub struct IndexReader {
    records: BufReader<File>,
    start: Timestamp,
    current: Option<Stamp>,
    next: Option<(u64, Stamp)>,
}

impl IndexReader {
    /// Opens the index beside a log. A file that is not an index is an error of kind `InvalidData`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut records = BufReader::new(File::open(path)?);
        let mut header = String::new();
        records.read_line(&mut header)?;
        let start = header
            .strip_prefix(HEADER)
            .and_then(|time| time.trim_end().parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a log index of version 1"))?;
        let mut reader = Self { records, start, current: None, next: None };
        reader.next = reader.read_record()?;
        Ok(reader)
    }

    /// Returns the stamp of the byte at `offset`; offsets must not decrease from call to call.
    pub fn stamp_at(&mut self, offset: u64) -> io::Result<Option<Stamp>> {
        while let Some((from, stamp)) = self.next
            && from <= offset
        {
            self.current = Some(stamp);
            self.next = self.read_record()?;
        }
        Ok(self.current)
    }

    /// A torn last line, of a run that was killed, ends the index.
    fn read_record(&mut self) -> io::Result<Option<(u64, Stamp)>> {
        let mut line = String::new();
        self.records.read_line(&mut line)?;
        Ok(line.strip_suffix('\n').and_then(|line| parse_record(line, self.start)))
    }
}

fn parse_record(line: &str, start: Timestamp) -> Option<(u64, Stamp)> {
    let mut fields = line.split(' ');
    let offset = fields.next()?.parse().ok()?;
    let since = SignedDuration::from_micros(fields.next()?.parse().ok()?);
    let stream = match fields.next()? {
        "o" => Stream::Stdout,
        "e" => Stream::Stderr,
        _ => return None,
    };
    Some((offset, Stamp { time: start.checked_add(since).ok()?, stream }))
}
