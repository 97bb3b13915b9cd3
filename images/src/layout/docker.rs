//! What `docker save` writes: a list of images, each a configuration and the names of its layers.

use super::{Layout, LayoutError};
use crate::digest::Digest;
use crate::manifest::{
    CONFIG_BYTES_MAX, ConfigFile, MANIFEST_BYTES_MAX, read_archive_config, read_archive_list,
};

/// One image of an archive.
#[derive(Debug)]
pub(crate) struct DockerImage {
    /// Digest of the configuration: what docker calls the image's id.
    pub(crate) id: Digest,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) config: ConfigFile,
    /// Names of the layers inside, the lowest first.
    pub(crate) layers: Vec<String>,
}

/// Reads the only image of an archive.
pub(crate) fn docker_image(layout: &Layout) -> Result<DockerImage, LayoutError> {
    let path = || layout.path().to_owned();
    let wrong =
        |what: String| LayoutError::Wrong { path: path(), expected: "archive of `docker save`", what };
    let bytes = layout.read("manifest.json", MANIFEST_BYTES_MAX).map_err(|error| wrong(error.to_string()))?;
    let mut list =
        read_archive_list(&bytes).map_err(|source| LayoutError::Manifest { path: path(), source })?;
    let entry = match (list.pop(), list.is_empty()) {
        (Some(entry), true) => entry,
        (Some(last), false) => {
            let names = list.iter().chain([&last]).flat_map(|entry| entry.repo_tags.iter().flatten());
            let names: Vec<&str> = names.map(String::as_str).collect();
            let found = format!("{} images ({}), expected one", list.len() + 1, names.join(", "));
            return Err(LayoutError::Which { path: path(), found });
        }
        (None, _) => return Err(LayoutError::Which { path: path(), found: "no image".to_owned() }),
    };
    let config_bytes = layout.read(&entry.config, CONFIG_BYTES_MAX)?;
    let config = read_archive_config(&config_bytes, entry.layers.len())
        .map_err(|source| LayoutError::Manifest { path: path(), source })?;
    Ok(DockerImage { id: Digest::of(&config_bytes), config_bytes, config, layers: entry.layers })
}
