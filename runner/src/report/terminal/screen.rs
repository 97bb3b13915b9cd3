//! The terminal as the live display needs it: its size, and the few cursor movements.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// What is being drawn.
struct Frame {
    /// A drawing is one write: half-drawn frames flicker.
    bytes: Vec<u8>,
    sink: Sink,
    /// A line has been written and not ended.
    is_open: bool,
    /// What comes next fills the line that was just written.
    is_filler: bool,
}

/// A terminal behind a sink.
///
/// indicatif ends a line by filling it with spaces to the terminal's edge. Whatever the terminal then echoes,
/// a `^C` for one, lands on the next line and the following frame is drawn one line too low. Here the cursor
/// stays behind the text instead, and lines are ended when the next one begins.
#[derive(Clone)]
pub struct Screen {
    size: Size,
    frame: Arc<Mutex<Frame>>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Screen").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Screen {
    fn new(size: Size, sink: Sink) -> Self {
        let frame = Frame { bytes: Vec::new(), sink, is_open: false, is_filler: false };
        Self { size, frame: Arc::new(Mutex::new(frame)) }
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
        self.frame().sink.is_broken()
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

    fn frame(&self) -> MutexGuard<'_, Frame> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the last line, so that others can print.
    pub(in crate::report) fn finish(&self) {
        let mut frame = self.frame();
        frame.end_line();
        frame.flush();
    }

    fn push_move(&self, count: usize, letter: char) -> io::Result<()> {
        if count > 0 {
            self.frame().bytes.extend_from_slice(format!("\x1b[{count}{letter}").as_bytes());
        }
        Ok(())
    }
}

impl Frame {
    fn end_line(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    fn flush(&mut self) {
        self.sink.write(&self.bytes);
        self.sink.flush();
        self.bytes.clear();
        self.is_filler = false;
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
        let mut frame = self.frame();
        frame.end_line();
        frame.bytes.extend_from_slice(text.as_bytes());
        frame.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame();
        if frame.is_filler && text.bytes().all(|byte| byte == b' ') {
            frame.is_filler = false;
            return Ok(());
        }
        frame.end_line();
        frame.bytes.extend_from_slice(text.as_bytes());
        frame.is_open = true;
        frame.is_filler = true;
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut frame = self.frame();
        frame.is_open = false;
        frame.is_filler = false;
        frame.bytes.extend_from_slice(b"\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.frame().flush();
        Ok(())
    }
}
