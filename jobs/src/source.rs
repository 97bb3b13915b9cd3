//! The texts of the job file and of the files that it names: decoding, and from byte offsets to files, lines and columns.

use std::ops::Range;

use serde::Serialize;

use crate::bounds::FILE_BYTES_MAX;
use crate::codes::Code;
use crate::diagnostic::Problems;

/// A range of bytes of all texts, one behind the other. Empty: a point.
pub(crate) type Span = Range<usize>;

/// A place in a file as editors count: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// The texts, with an index of their lines.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub text: String,
    /// The job file, then those that it names, in the order in which they were read.
    files: Vec<SourceFile>,
    line_starts: Vec<usize>,
}

#[derive(Debug)]
struct SourceFile {
    name: String,
    span: Span,
}

impl Source {
    /// Decodes the job file's bytes. What is wrong with them is reported; the text is then only good for excerpts.
    pub fn decode(name: &str, bytes: &[u8], problems: &mut Problems) -> Source {
        let mut source = Source::default();
        source.add(name, bytes, problems);
        source
    }

    /// Adds a file and returns where its text lies.
    pub fn add(&mut self, name: &str, bytes: &[u8], problems: &mut Problems) -> Span {
        let start = self.text.len();
        let text = decoded(bytes, start, problems);
        self.text.push_str(&text);
        let span = start..self.text.len();
        // The next text begins in a line of its own, and no place of it is one of this text.
        self.text.push('\n');
        let breaks = text.match_indices('\n').map(|(at, _)| start + at + 1);
        self.line_starts.extend(std::iter::once(start).chain(breaks));
        self.files.push(SourceFile { name: name.to_owned(), span: span.clone() });
        span
    }

    /// Returns the job file's name.
    pub fn name(&self) -> &str {
        self.files.first().map_or("", |file| &file.name)
    }

    fn file(&self, offset: usize) -> Option<&SourceFile> {
        let after = self.files.partition_point(|file| file.span.start <= offset);
        self.files.get(after.saturating_sub(1))
    }

    /// Returns the name of the file that a byte is of.
    pub fn name_at(&self, offset: usize) -> &str {
        self.file(offset).map_or("", |file| &file.name)
    }

    /// Returns the name of the file that a byte is of, where that is not the job file.
    pub fn other_name_at(&self, offset: usize) -> Option<&str> {
        let main = self.files.first()?;
        self.file(offset).filter(|file| file.span != main.span).map(|file| file.name.as_str())
    }

    /// Returns the bytes of the file that a byte is of.
    pub fn span_at(&self, offset: usize) -> Span {
        self.file(offset).map_or(0..0, |file| file.span.clone())
    }

    /// Returns the line and column of a byte offset; an offset past the end of its file is the end.
    pub fn position(&self, offset: usize) -> Position {
        let file = self.span_at(offset);
        let offset = char_boundary(&self.text, offset.min(file.end));
        let line = self.line_at(offset);
        let first = self.line_starts.partition_point(|&start| start < file.start);
        let start = self.line_starts.get(line).copied().unwrap_or_default();
        // A byte-order mark is invisible and no editor counts it.
        let before = self.text[start..offset].trim_start_matches('\u{feff}');
        Position { line: line + 1 - first, column: before.chars().count() + 1 }
    }

    /// Returns the line that a byte is in, without its line break, and the offset at which it starts.
    pub fn line(&self, offset: usize) -> (usize, &str) {
        let file = self.span_at(offset);
        let line = self.line_at(offset.min(file.end));
        let start = self.line_starts.get(line).copied().unwrap_or_default();
        let end = self.line_starts.get(line + 1).copied().unwrap_or(file.end).min(file.end);
        (start, self.text[start..end.max(start)].trim_end_matches(['\n', '\r']))
    }

    /// Returns the number of the line that a byte is in, from 0, over all texts.
    fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }
}

/// Decodes bytes that will lie at `start`.
fn decoded(bytes: &[u8], start: usize, problems: &mut Problems) -> String {
    if bytes.len() > FILE_BYTES_MAX {
        let text = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", bytes.len());
        problems.add(Code::FileTooBig, whole(start), text);
        return String::new();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            if let Some(at) = text.find('\0') {
                let at = start + at;
                problems.add(Code::NotText, at..at + 1, "the file contains a NUL byte; it is not text");
            }
            text.to_owned()
        }
        Err(error) => {
            let at = error.valid_up_to();
            let byte = bytes[at];
            let text = format!("the file is not UTF-8: byte 0x{byte:02x} at offset {at}");
            let problem = problems.add(Code::NotText, start + at..start + at + 1, text);
            if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
                problem.hint("this looks like UTF-16; save the file as UTF-8");
            }
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// The place of what is about a whole text: none for the job file, its first byte for others.
pub(crate) fn whole(start: usize) -> Option<Span> {
    (start > 0).then_some(start..start)
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
        assert_eq!(source.line(8), (6, "ü: x"));
    }

    #[test]
    fn each_file_has_lines_of_its_own() {
        let mut source = source("a: 1\nb: 2");
        let second = source.add("other.yml", b"c: 3\nd: 4\n", &mut Problems::default());
        assert_eq!(second, 10..20);
        let at = |offset| (source.name_at(offset), source.position(offset), source.line(offset));
        let position = |line, column| Position { line, column };
        assert_eq!(at(8), ("job.yml", position(2, 4), (5, "b: 2")));
        assert_eq!(at(9), ("job.yml", position(2, 5), (5, "b: 2")), "the end of the first file");
        assert_eq!(at(10), ("other.yml", position(1, 1), (10, "c: 3")));
        assert_eq!(at(18), ("other.yml", position(2, 4), (15, "d: 4")));
        assert_eq!(at(99), ("other.yml", position(3, 1), (20, "")));
        assert_eq!((source.other_name_at(9), source.other_name_at(10)), (None, Some("other.yml")));
    }
}
