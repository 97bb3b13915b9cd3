//! `events.ndjson`: one event a line, appended, never rewritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::RecordError;
use crate::event::{Event, What};

/// The open file. Each event is one `write`, so a killed run leaves at most one torn last line.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    path: PathBuf,
    line: Vec<u8>,
}

impl EventLog {
    pub(super) fn open(path: &Path) -> Result<Self, RecordError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| RecordError::io("create", path, source))?;
        Ok(Self { file, path: path.to_path_buf(), line: Vec::new() })
    }

    /// Appends an event. Output of steps is left out: the bytes are in the step's `log`, exactly, and a second
    /// copy would double what a chatty step costs. Progress of a pull is left out because it ends as nothing.
    pub fn append(&mut self, event: &Event) -> Result<(), RecordError> {
        if matches!(&event.what, What::StepLog { .. } | What::ImagePull { state: "progress", .. }) {
            return Ok(());
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)
            .map_err(|source| RecordError::io("write", &self.path, io::Error::other(source)))?;
        self.line.push(b'\n');
        self.file.write_all(&self.line).map_err(|source| RecordError::io("write", &self.path, source))
    }
}
