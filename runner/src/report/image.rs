//! `runner image unpack`: what was unpacked.

use std::path::Path;

use images::UnpackSummary;

use super::format::{count, size};
use super::sink::Sink;

/// Prints what is there now, and what was left out.
pub fn unpacked(sink: &mut Sink, directory: &Path, summary: &UnpackSummary) {
    let (entries, bytes) = (count(summary.entries, "entry"), size(summary.bytes));
    sink.line(&format!("unpacked {entries}, {bytes}, to {}", directory.display()));
    sink.line(&format!("diff id {}", summary.tar_sha256));
    for note in &summary.notes {
        sink.line(&format!("note: {note}"));
    }
    if summary.notes_dropped > 0 {
        sink.line(&format!("note: {} more", summary.notes_dropped));
    }
    sink.flush();
}
