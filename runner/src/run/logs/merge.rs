//! Two streams into one log, of which neither tears a line of the other.
//!
//! A program may write a line in pieces, and while it is at it another one, or its own other stream, comes in
//! between. Who is in the middle of a line is let finish it; the other waits, within bounds.

use std::io;
use std::time::Instant;

use crate::event::Stream;

/// What may wait. More is written at once: a torn line is better than output that is not there.
const HELD_BYTES_MAX: usize = 64 << 10;

/// Takes one piece of one stream and when it came.
pub(super) type Put<'p> = &'p mut dyn FnMut(Stream, &[u8], Instant) -> io::Result<()>;

/// Who is in a line, and what waits for its end.
#[derive(Debug, Default)]
pub(super) struct Merge {
    in_line: Option<Stream>,
    held: Option<(Stream, Vec<u8>, Instant)>,
}

impl Merge {
    /// Puts `data`, or keeps it until the other stream's line has ended.
    pub(super) fn take(&mut self, stream: Stream, data: &[u8], at: Instant, put: Put<'_>) -> io::Result<()> {
        if self.in_line.is_some_and(|owner| owner != stream) {
            let (_, held, _) = self.held.get_or_insert_with(|| (stream, Vec::new(), at));
            held.extend_from_slice(data);
            return if held.len() > HELD_BYTES_MAX { self.release(put) } else { Ok(()) };
        }
        let line_end = data.iter().rposition(|&byte| byte == b'\n').map(|last| last + 1);
        match line_end.filter(|_| self.held.is_some()) {
            None => self.put(stream, data, at, put),
            Some(end) => {
                self.put(stream, &data[..end], at, put)?;
                self.release(put)?;
                self.take(stream, &data[end..], at, put)
            }
        }
    }

    /// Puts what waits, whoever is in a line.
    pub(super) fn release(&mut self, put: Put<'_>) -> io::Result<()> {
        match self.held.take() {
            Some((stream, data, at)) => self.put(stream, &data, at, put),
            None => Ok(()),
        }
    }

    fn put(&mut self, stream: Stream, data: &[u8], at: Instant, put: Put<'_>) -> io::Result<()> {
        let Some(&last) = data.last() else { return Ok(()) };
        self.in_line = (last != b'\n').then_some(stream);
        put(stream, data, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stream::{Stderr, Stdout};

    fn merged(pieces: &[(Stream, &str)]) -> String {
        let (mut merge, mut log) = (Merge::default(), Vec::new());
        let mut put = |_: Stream, data: &[u8], _: Instant| {
            log.extend_from_slice(data);
            Ok(())
        };
        for (stream, data) in pieces {
            merge.take(*stream, data.as_bytes(), Instant::now(), &mut put).unwrap();
        }
        merge.release(&mut put).unwrap();
        String::from_utf8(log).unwrap()
    }

    #[test]
    fn no_line_is_torn() {
        assert_eq!(merged(&[(Stderr, "+ "), (Stdout, "yes\n"), (Stderr, "echo yes\n")]), "+ echo yes\nyes\n");
        assert_eq!(
            merged(&[(Stderr, "a"), (Stdout, "1\n2"), (Stderr, "b\nc"), (Stdout, "3\n"), (Stderr, "d\n")]),
            "ab\n1\n23\ncd\n"
        );
    }

    #[test]
    fn what_waits_is_not_lost() {
        assert_eq!(merged(&[(Stderr, "prompt> "), (Stdout, "answer\n")]), "prompt> answer\n");
        let long = "x".repeat(HELD_BYTES_MAX + 1);
        assert_eq!(
            merged(&[(Stderr, "prompt> "), (Stdout, &long), (Stderr, "end\n")]),
            format!("prompt> {long}end\n")
        );
    }
}
