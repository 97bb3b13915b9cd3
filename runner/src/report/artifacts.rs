//! `runner artifacts`: lists and checks.

use std::path::Path;

use super::format::{count, size};
use super::plain::show_name;
use super::sink::Sink;
use crate::run::artifacts::{EntryKind, Extracted, Manifest, Verification};

/// Prints `SHA256  SIZE  ARTIFACT/PATH` for each file; links say where they lead.
pub fn list(sink: &mut Sink, manifest: &Manifest) {
    for entry in &manifest.files {
        let path = show_name(&format!("{}/{}", entry.artifact, entry.path));
        match entry.kind {
            EntryKind::File => {
                let digest = entry.sha256.as_deref().unwrap_or("-");
                sink.line(&format!("{digest:64}  {:>12}  {path}", entry.size));
            }
            EntryKind::Symlink => {
                let target = show_name(entry.target.as_deref().unwrap_or_default());
                sink.line(&format!("{:64}  {:>12}  {path} -> {target}", "link", "-"));
            }
        }
    }
    sink.flush();
}

/// Prints what was copied out.
pub fn extracted(sink: &mut Sink, extracted: &Extracted, into: &Path) {
    let files = count(extracted.files, "file");
    sink.line(&format!("{files}, {} in {}", size(extracted.bytes), show_name(&into.to_string_lossy())));
    sink.flush();
}

/// Prints each difference, and how many files were looked at.
pub fn verification(sink: &mut Sink, verification: &Verification) {
    for (path, problem) in &verification.problems {
        sink.line(&format!("{}: {}", show_name(path), show_name(&problem.to_string())));
    }
    let checked = format!("{}, {} hashed", count(verification.files, "file"), size(verification.bytes));
    match verification.problems.len() {
        0 => sink.line(&format!("{checked}: all as collected")),
        number => sink.line(&format!("{checked}: {}", count(number as u64, "difference"))),
    }
    sink.flush();
}
