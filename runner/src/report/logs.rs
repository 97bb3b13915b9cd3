//! `runner logs`: bytes for pipes, safe lines for terminals.

use std::io;

use super::escape::{self, Colors};
use super::format::Paint;
use super::outer::Outer;
use super::sink::Sink;
use crate::run::logs::{LogReader, Stamp};

/// How logs are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogView {
    /// Bytes as they are. Otherwise control characters are made visible and long lines cut.
    pub raw: bool,
    /// Each line begins with the time its first byte came.
    pub timestamps: bool,
    /// Colours of the log stay (and ours are used); not for raw bytes.
    pub color: bool,
    /// The service that must not find an order in a line; not for raw bytes.
    pub outer: Option<Outer>,
}

/// Prints a heading over the log of one step among several.
pub fn heading(sink: &mut Sink, label: &str, view: LogView) {
    sink.line(&Paint { color: view.color }.strong(&format!("── {} ──", super::plain::show_name(label))));
}

/// Prints a log from where its reader stands. Stops quietly when the reader of our output has left.
pub fn print(sink: &mut Sink, log: &mut LogReader, view: LogView) -> io::Result<()> {
    match (view.raw, view.timestamps) {
        (true, false) => bytes(sink, log)?,
        (true, true) => stamped_bytes(sink, log)?,
        (false, _) => lines(sink, log, view)?,
    }
    sink.flush();
    Ok(())
}

fn bytes(sink: &mut Sink, log: &mut LogReader) -> io::Result<()> {
    while !sink.is_broken() {
        let available = log.fill()?;
        if available.is_empty() {
            break;
        }
        sink.write(available);
        let count = available.len();
        log.consume(count);
    }
    Ok(())
}

fn stamped_bytes(sink: &mut Sink, log: &mut LogReader) -> io::Result<()> {
    let mut at_line_start = true;
    while !sink.is_broken() {
        let stamp = if at_line_start { log.stamp()? } else { None };
        let piece = log.fill_line()?;
        let Some(&last) = piece.last() else { break };
        if at_line_start {
            sink.write(stamp_text(stamp).as_bytes());
        }
        sink.write(piece);
        at_line_start = last == b'\n';
        let count = piece.len();
        log.consume(count);
    }
    Ok(())
}

fn lines(sink: &mut Sink, log: &mut LogReader, view: LogView) -> io::Result<()> {
    let paint = Paint { color: view.color };
    let colors = if view.color { Colors::Keep } else { Colors::Strip };
    let mut line = Vec::new();
    while !sink.is_broken()
        && let Some(start) = log.read_line(&mut line)?
    {
        let mut text = String::new();
        if view.timestamps {
            text.push_str(&paint.dim(&stamp_text(start.stamp)));
        }
        text.push_str(&escape::line(&line, colors));
        if start.cut_bytes > 0 {
            text.push_str(&paint.dim(&format!(" [{} bytes more]", start.cut_bytes)));
        }
        match view.outer {
            Some(outer) => sink.line(&outer.harmless(&text)),
            None => sink.line(&text),
        }
    }
    Ok(())
}

/// A stamp takes the same columns on every line, known or not.
fn stamp_text(stamp: Option<Stamp>) -> String {
    let text = stamp.map(|stamp| stamp.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    format!("{:24} ", text.unwrap_or_default())
}
