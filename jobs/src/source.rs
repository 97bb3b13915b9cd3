//! The job file's text: decoding, and from byte offsets to lines and columns.

use std::ops::Range;

use serde::Serialize;

use crate::bounds::FILE_BYTES_MAX;
use crate::codes::Code;
use crate::diagnostic::Problems;

/// A range of bytes of the file. Empty: a point.
pub(crate) type Span = Range<usize>;

/// A place in the file as editors count: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A name and a text, with an index of its lines.
#[derive(Debug)]
pub(crate) struct Source {
    pub name: String,
    pub text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// Decodes the bytes. What is wrong with them is reported; the text is then only good for excerpts.
    pub fn decode(name: &str, bytes: &[u8], problems: &mut Problems) -> Source {
        if bytes.len() > FILE_BYTES_MAX {
            let text = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", bytes.len());
            problems.add(Code::FileTooBig, None, text);
            return Source::new(name, String::new());
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                if let Some(at) = text.find('\0') {
                    problems.add(Code::NotText, at..at + 1, "the file contains a NUL byte; it is not text");
                }
                Source::new(name, text.to_owned())
            }
            Err(error) => {
                let at = error.valid_up_to();
                let byte = bytes[at];
                let text = format!("the file is not UTF-8: byte 0x{byte:02x} at offset {at}");
                let problem = problems.add(Code::NotText, at..at + 1, text);
                if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
                    problem.hint("this looks like UTF-16; save the file as UTF-8");
                }
                Source::new(name, String::from_utf8_lossy(bytes).into_owned())
            }
        }
    }

    fn new(name: &str, text: String) -> Source {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name: name.to_owned(), text, line_starts }
    }

    /// Returns the line and column of a byte offset; an offset past the end is the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = char_boundary(&self.text, offset);
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let start = self.line_starts[line - 1];
        // A byte-order mark is invisible and no editor counts it.
        let before = self.text[start..offset].trim_start_matches('\u{feff}');
        Position { line, column: before.chars().count() + 1 }
    }

    /// Returns the line (from 1) without its line break, and the offset at which it starts.
    pub fn line(&self, line: usize) -> (usize, &str) {
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        (start, self.text[start..end].trim_end_matches(['\n', '\r']))
    }
}

/// Returns the last character boundary at or before the offset.
pub(crate) fn char_boundary(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        let mut problems = Problems::default();
        Source::decode("job.yml", text.as_bytes(), &mut problems)
    }

    #[test]
    fn positions_count_characters_from_one() {
        let source = source("\u{feff}ab\nü: x\r\n");
        for (offset, line, column) in [(0, 1, 1), (3, 1, 1), (4, 1, 2), (6, 2, 1), (8, 2, 2), (99, 3, 1)] {
            assert_eq!(source.position(offset), Position { line, column }, "offset {offset}");
        }
        assert_eq!(source.line(2), (6, "ü: x"));
    }
}
