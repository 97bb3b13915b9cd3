//! Chunks of output into lines, in bounded memory.

use std::collections::VecDeque;

use crate::event::Stream;
use crate::run::logs::LINE_BYTES_MAX;

/// Lines of a step that are kept for showing: as many as a failure shows.
pub(super) const TAIL_LINES_MAX: usize = 40;

/// An unfinished line of one stream.
#[derive(Debug, Default)]
struct Unfinished {
    bytes: Vec<u8>,
    cut_bytes: u64,
}

impl Unfinished {
    fn push(&mut self, mut piece: &[u8]) {
        // What stands before a carriage return will be written over: a progress display without newlines
        // must neither grow nor push its last state out. One at the very end may belong to a CRLF.
        if self.bytes.last() == Some(&b'\r') && piece.first().is_some_and(|&byte| byte != b'\r') {
            self.clear();
        }
        let body = piece.len().saturating_sub(1);
        if let Some(at) = piece[..body].iter().rposition(|&byte| byte == b'\r')
            && piece[at..].iter().any(|&byte| byte != b'\r')
        {
            self.clear();
            piece = &piece[at + 1..];
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.bytes.len()).min(piece.len());
        self.bytes.extend_from_slice(&piece[..room]);
        self.cut_bytes += (piece.len() - room) as u64;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.cut_bytes = 0;
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.cut_bytes == 0
    }

    fn take(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.bytes);
        let cut_bytes = std::mem::take(&mut self.cut_bytes);
        if cut_bytes > 0 {
            line.extend_from_slice(format!(" [{cut_bytes} bytes more]").as_bytes());
        }
        line
    }
}

/// Puts lines together from chunks of two streams, which do not mix within a line.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    stdout: Unfinished,
    stderr: Unfinished,
}

impl LineBuffer {
    fn of(&mut self, stream: Stream) -> &mut Unfinished {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Adds a chunk and calls `show` for each line it ends.
    pub(super) fn push(&mut self, stream: Stream, data: &[u8], mut show: impl FnMut(Vec<u8>)) {
        let unfinished = self.of(stream);
        let mut rest = data;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            unfinished.push(&rest[..at]);
            show(unfinished.take());
            rest = &rest[at + 1..];
        }
        unfinished.push(rest);
    }

    /// Calls `show` for what was left without a newline.
    pub(super) fn finish(&mut self, mut show: impl FnMut(Vec<u8>)) {
        for unfinished in [&mut self.stdout, &mut self.stderr] {
            if !unfinished.is_empty() {
                show(unfinished.take());
            }
        }
    }
}

/// The last lines of a step.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
    buffer: LineBuffer,
    /// Lines that have gone by, the kept ones included.
    seen: u64,
}

impl Tail {
    pub(super) fn push(&mut self, stream: Stream, data: &[u8]) {
        let data = self.skip_flood(stream, data);
        let Self { lines, buffer, seen } = self;
        buffer.push(stream, data, |line| keep(lines, seen, line));
    }

    /// Steps over what cannot be among the last lines any more: a flood costs one search for newlines.
    fn skip_flood<'a>(&mut self, stream: Stream, data: &'a [u8]) -> &'a [u8] {
        let mut newlines = data.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at);
        let Some(start) = newlines.nth(TAIL_LINES_MAX) else { return data };
        self.seen += 1 + newlines.count() as u64;
        self.buffer.of(stream).clear();
        &data[start + 1..]
    }

    /// Ends the last line.
    pub(super) fn finish(&mut self) {
        let Self { lines, buffer, seen } = self;
        buffer.finish(|line| keep(lines, seen, line));
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the last `count` lines, oldest first, unfinished ones last.
    pub(super) fn last(&self, count: usize) -> Vec<&[u8]> {
        let unfinished = [&self.buffer.stdout, &self.buffer.stderr];
        let unfinished = unfinished.into_iter().filter(|line| !line.is_empty()).map(|line| line.bytes.as_slice());
        let all: Vec<&[u8]> = self.lines.iter().map(Vec::as_slice).chain(unfinished).collect();
        all[all.len().saturating_sub(count)..].to_vec()
    }
}

fn keep(lines: &mut VecDeque<Vec<u8>>, seen: &mut u64, line: Vec<u8>) {
    if lines.len() == TAIL_LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(line);
    *seen += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[(Stream, &str)]) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for (stream, data) in chunks {
            buffer.push(*stream, data.as_bytes(), |line| lines.push(String::from_utf8(line).unwrap()));
        }
        buffer.finish(|line| lines.push(String::from_utf8(line).unwrap()));
        lines
    }

    #[test]
    fn lines_survive_chunk_borders_and_streams_do_not_mix() {
        use Stream::{Stderr, Stdout};
        assert_eq!(lines_of(&[(Stdout, "a"), (Stdout, "b\nc"), (Stdout, "\n")]), ["ab", "c"]);
        assert_eq!(lines_of(&[(Stdout, "out"), (Stderr, "err\n"), (Stdout, "!\n")]), ["err", "out!"]);
        assert_eq!(lines_of(&[(Stdout, "\n\n")]), ["", ""]);
        assert_eq!(lines_of(&[(Stdout, "end")]), ["end"]);
        assert_eq!(lines_of(&[(Stdout, "1%\r2%"), (Stdout, "\r3%\n")]), ["3%"]);
        assert_eq!(lines_of(&[(Stdout, "dos\r"), (Stdout, "\n")]), ["dos\r"]);
    }

    #[test]
    fn an_endless_line_is_cut_and_counted() {
        let chunk = "x".repeat(LINE_BYTES_MAX);
        let lines = lines_of(&[(Stream::Stdout, &chunk), (Stream::Stdout, "yz\n")]);
        assert_eq!(lines[0].len(), LINE_BYTES_MAX + " [2 bytes more]".len());
        assert!(lines[0].ends_with("x [2 bytes more]"));
    }

    #[test]
    fn endless_progress_without_a_newline_keeps_its_last_state() {
        let mut tail = Tail::default();
        for percent in 0..100_000 {
            tail.push(Stream::Stderr, format!("\r{percent} done").as_bytes());
        }
        assert_eq!(tail.last(8), [b"99999 done"]);
    }

    #[test]
    fn a_tail_counts_what_it_skips() {
        let text: String = (1..=1000).map(|number| format!("{number}\n")).collect();
        let (first, second) = text.split_at(777);
        let mut tail = Tail::default();
        tail.push(Stream::Stdout, first.as_bytes());
        tail.push(Stream::Stdout, second.as_bytes());
        tail.finish();
        assert_eq!(tail.seen(), 1000);
        let last = tail.last(100);
        assert_eq!((last.len(), last[0], last[39]), (40, &b"961"[..], &b"1000"[..]));
    }
}
