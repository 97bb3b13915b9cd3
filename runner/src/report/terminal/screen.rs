//! The terminal as the live display needs it: its size, and the few cursor movements.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::TermLike;
use rustix::termios::{Winsize, tcgetwinsize};

use crate::report::sink::Sink;

/// Size that is assumed where the terminal does not tell one.
const FALLBACK: (u16, u16) = (80, 24);

/// Where the size comes from; asked anew for each drawing, since windows are resized.
#[derive(Debug, Clone, Copy)]
enum Size {
    Stdout,
    Stderr,
    Fixed(u16, u16),
}

/// A terminal behind a sink. A drawing is one write: half-drawn frames flicker.
#[derive(Clone)]
pub struct Screen {
    size: Size,
    frame: Arc<Mutex<(Vec<u8>, Sink)>>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Screen").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Screen {
    fn new(size: Size, sink: Sink) -> Self {
        Self { size, frame: Arc::new(Mutex::new((Vec::new(), sink))) }
    }

    /// Draws on `sink`, as large as the terminal at standard output.
    pub fn on_stdout(sink: Sink) -> Self {
        Self::new(Size::Stdout, sink)
    }

    /// Draws on `sink`, as large as the terminal at standard error.
    pub fn on_stderr(sink: Sink) -> Self {
        Self::new(Size::Stderr, sink)
    }

    /// Draws on standard error.
    pub fn stderr() -> Self {
        Self::on_stderr(Sink::words())
    }

    /// Draws on `sink` as if it had a size.
    pub fn fixed(columns: u16, rows: u16, sink: Sink) -> Self {
        Self::new(Size::Fixed(columns, rows), sink)
    }

    /// Whether the reader has left.
    pub fn is_broken(&self) -> bool {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner).1.is_broken()
    }

    fn size(&self) -> (u16, u16) {
        let told = match self.size {
            Size::Stdout => tcgetwinsize(io::stdout()),
            Size::Stderr => tcgetwinsize(io::stderr()),
            Size::Fixed(columns, rows) => return (columns, rows),
        };
        match told {
            Ok(Winsize { ws_col, ws_row, .. }) if ws_col > 0 && ws_row > 0 => (ws_col, ws_row),
            _ => FALLBACK,
        }
    }

    fn push(&self, bytes: &[u8]) -> io::Result<()> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner).0.extend_from_slice(bytes);
        Ok(())
    }

    fn push_move(&self, count: usize, letter: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.push(format!("\x1b[{count}{letter}").as_bytes()) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.size().0
    }

    fn height(&self) -> u16 {
        self.size().1
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.push_move(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.push_move(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.push_move(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.push_move(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.push(text.as_bytes())?;
        self.push(b"\r\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.push(text.as_bytes())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.push(b"\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, sink) = &mut *frame;
        sink.write(bytes);
        sink.flush();
        bytes.clear();
        Ok(())
    }
}
