//! The list of images in what `docker save` writes.

use serde::Deserialize;

use super::{INDEX_ENTRIES_MAX, LAYERS_MAX, ManifestError};

/// One image of an archive, by the names of its parts inside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArchiveEntry {
    /// Its configuration.
    pub config: String,
    /// What it was called where it was saved; docker writes `null` for nothing.
    pub repo_tags: Option<Vec<String>>,
    /// The lowest first.
    pub layers: Vec<String>,
}

/// Reads an archive's `manifest.json`.
///
/// # Errors
/// It is no such list, or has more images or layers than the limits allow.
pub fn read_archive_list(bytes: &[u8]) -> Result<Vec<ArchiveEntry>, ManifestError> {
    let malformed = |why: String| ManifestError::Malformed { what: "the list of images in the archive", why };
    let list: Vec<ArchiveEntry> =
        serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if list.len() > INDEX_ENTRIES_MAX {
        return Err(ManifestError::TooMany {
            what: "the archive",
            count: list.len(),
            max: INDEX_ENTRIES_MAX,
        });
    }
    match list.iter().map(|entry| entry.layers.len()).find(|count| *count > LAYERS_MAX) {
        Some(count) => Err(ManifestError::TooMany { what: "the image", count, max: LAYERS_MAX }),
        None => Ok(list),
    }
}
