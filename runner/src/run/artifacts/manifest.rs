//! `artifacts/manifest.json`: every collected file with its digest.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::record::{Durability, RECORD_VERSION, RecordError, read_json, write_file_atomic};

/// What a collected name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A symbolic link, kept as its text.
    Symlink,
}

/// One collected file or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// The artifact it belongs to: its directory below `artifacts/`.
    pub artifact: String,
    /// Relative to the workspace, and to the artifact's directory. Invalid UTF-8 is replaced.
    pub path: String,
    /// The path's bytes in hex, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// Bytes of a file; of a link, of its text.
    pub size: u64,
    /// Of a file's bytes, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Permission bits in octal; setuid, setgid and sticky are never among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// A link's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The job it came from.
    pub job: String,
    /// The step that named it; absent when the job did.
    pub step: Option<String>,
    /// It tells of tests, coverage or findings of its own job, and is of no use to others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub report: bool,
}

impl ManifestEntry {
    /// Returns the bytes of the path.
    pub fn path_bytes(&self) -> Vec<u8> {
        self.path_hex.as_deref().and_then(from_hex).unwrap_or_else(|| self.path.clone().into_bytes())
    }

    /// Returns the permission bits of a file; 0644 where they are not recorded.
    pub fn mode_bits(&self) -> u32 {
        self.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o644) & 0o777
    }
}

/// Returns the path as text and, where that loses something, its bytes in hex.
pub(super) fn path_text(path: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(path) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => {
            let hex = path.iter().map(|byte| format!("{byte:02x}")).collect();
            (String::from_utf8_lossy(path).into_owned(), Some(hex))
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if digits.len().is_multiple_of(2) { pairs.collect() } else { None }
}

/// The whole manifest of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// In the order of collection, by path within an artifact.
    pub files: Vec<ManifestEntry>,
}

impl Manifest {
    /// Reads the manifest of the artifacts in `directory`; a run that collected nothing has none.
    pub fn load(directory: &Path) -> Result<Self, RecordError> {
        match read_json(&directory.join("manifest.json")) {
            Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self { v: RECORD_VERSION, files: Vec::new() })
            }
            other => other,
        }
    }

    /// Replaces the manifest in `directory`.
    pub(super) fn store(&self, directory: &Path) -> Result<(), RecordError> {
        let path = directory.join("manifest.json");
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|source| RecordError::io("write", &path, io::Error::other(source)))?;
        bytes.push(b'\n');
        write_file_atomic(&path, &bytes, Durability::Flushed)
    }

    /// Returns the names of the artifacts, in the order of collection.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.files.iter().map(|entry| entry.artifact.as_str()).collect();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_utf_8_come_back_whole() {
        let (path, path_hex) = path_text(b"caf\xe9/\xff");
        assert_eq!(path, "caf\u{fffd}/\u{fffd}");
        let entry = ManifestEntry {
            artifact: "a".into(),
            path,
            path_hex,
            kind: EntryKind::File,
            size: 0,
            sha256: None,
            mode: Some("0755".into()),
            target: None,
            job: "j".into(),
            step: None,
            report: false,
        };
        assert_eq!(entry.path_bytes(), b"caf\xe9/\xff");
        assert_eq!(entry.mode_bits(), 0o755);
    }
}
