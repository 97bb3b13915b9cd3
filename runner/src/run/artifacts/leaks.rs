//! Secrets in what was collected: looked for in our own copies, before anybody can have them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::ArtifactError;
use super::collect::{CollectRequest, Collected};
use super::manifest::{EntryKind, ManifestEntry};
use crate::run::record::RecordError;
use crate::run::secrets::Secrets;

/// How much of a file is looked at at once, besides what overlaps.
const BLOCK_BYTES: usize = 256 * 1024;

/// Tests that no secret is in any of the files, in none of the forms in which output would be masked.
pub(super) fn none(
    request: &CollectRequest<'_>,
    copies: &Path,
    collected: &Collected,
) -> Result<(), ArtifactError> {
    let Some(secrets) = request.secrets.filter(|secrets| !secrets.is_empty()) else { return Ok(()) };
    for entry in &collected.entries {
        let bytes = entry.path_bytes();
        let found = match entry.kind {
            EntryKind::Symlink => in_text(secrets, entry.target.as_deref().unwrap_or_default()),
            EntryKind::File => in_file(secrets, &copies.join(OsStr::from_bytes(&bytes)))?,
        };
        if let Some((secret, offset)) = found.or_else(|| in_text(secrets, &entry.path)) {
            return Err(leak(request, entry, secret, offset));
        }
    }
    Ok(())
}

fn leak(request: &CollectRequest<'_>, entry: &ManifestEntry, secret: String, offset: u64) -> ArtifactError {
    ArtifactError::Secret { name: request.name.to_owned(), path: entry.path.clone(), secret, offset }
}

fn in_text(secrets: &Secrets, text: &str) -> Option<(String, u64)> {
    secrets.find(text.as_bytes()).map(|(secret, offset)| (secret.to_owned(), offset as u64))
}

fn in_file(secrets: &Secrets, path: &Path) -> Result<Option<(String, u64)>, ArtifactError> {
    let wrong = |source| RecordError::io("read", path, source);
    let mut file = File::open(path).map_err(wrong)?;
    let mut window: Vec<u8> = Vec::with_capacity(BLOCK_BYTES + secrets.overlap());
    let mut before = 0_u64;
    loop {
        let read = file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut window).map_err(wrong)?;
        if let Some((secret, offset)) = secrets.find(&window) {
            return Ok(Some((secret.to_owned(), before + offset as u64)));
        }
        if read == 0 {
            return Ok(None);
        }
        let gone = window.len().saturating_sub(secrets.overlap());
        before += gone as u64;
        window.drain(..gone);
    }
}
