//! Artifacts of an attempt that does not count.

use std::fs;
use std::io;
use std::path::Path;

use super::ArtifactError;
use super::manifest::Manifest;
use crate::run::record::RecordError;

/// Removes artifacts from a run's `artifacts` directory: first from the list, then from the disk.
pub fn discard(directory: &Path, names: &[String]) -> Result<(), ArtifactError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut manifest = Manifest::load(directory)?;
    manifest.files.retain(|entry| !names.contains(&entry.artifact));
    manifest.store(directory)?;
    for name in names {
        let place = directory.join(name);
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RecordError::io("remove", place, error).into());
            }
            _ => {}
        }
    }
    Ok(())
}
