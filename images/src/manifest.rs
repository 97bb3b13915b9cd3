//! What registries, layouts and archives say about images, as JSON: manifests, indexes, configurations. Bytes in, values out.
//!
//! OCI image specification 1.1 and Docker schema 2, which differ in media types only. Schema 1 has no digests of what it
//! unpacks to and is refused. A document is what its content says, and must not be said to be anything else
//! (CVE-2021-41190: one text that is a manifest to some and an index to others).

mod archive;
mod chain;
mod config;
mod media;
mod platform;

use serde::Deserialize;

pub use archive::{ArchiveEntry, read_archive_list};
pub(crate) use chain::chain_id;
pub use config::{ConfigFile, read_archive_config, read_config};
pub(crate) use media::{ACCEPTED, is_index, is_manifest};
pub use platform::Platform;

use crate::digest::Digest;
use media::{LayerKind, layer_kind};

/// Bytes of a manifest or an index; the specification has registries accept 4 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Bytes of an image's configuration. Its history is the long part: some hundred bytes for each layer.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Entries of an index. The largest public ones have some 50.
pub const INDEX_ENTRIES_MAX: usize = 1000;
/// Layers of an image. Docker makes 127 at most, overlayfs stacks 500.
pub const LAYERS_MAX: usize = 500;

/// A document of a registry or a layout cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or not of the right shape.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// Manifest, index or configuration.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// It is one thing and is said to be another.
    #[error("it is said to be {said} and is {is}")]
    Ambiguous {
        /// By the server or by itself.
        said: String,
        /// By its content.
        is: &'static str,
    },
    /// A format of before 2016.
    #[error(
        "it is a Docker schema 1 manifest, which is not supported: it holds no digest of what its layers unpack to"
    )]
    SchemaOne,
    /// An artifact of another kind.
    #[error("it is no image but an artifact of type {kind}")]
    Artifact {
        /// Its media type.
        kind: String,
    },
    /// A layer that must not be had from a registry, or cannot be read.
    #[error("layer {number} has the type {kind}: {why}")]
    Layer {
        /// Its number, from 1.
        number: usize,
        /// Its media type.
        kind: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// More of something than an image can have.
    #[error("{what} has {count}, more than the limit of {max}")]
    TooMany {
        /// What has so many.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// An index without anything for this machine.
    #[error("there is no image for {wanted}; there is one for {available}")]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// Manifest and configuration tell of different numbers of layers.
    #[error("the manifest has {layers} layers and the configuration {diff_ids} diff ids")]
    Mismatch {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
}

/// One blob, as a manifest or an index names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is; empty where that is not said.
    #[serde(default)]
    pub media_type: String,
    /// By which it is found and held to.
    pub digest: Digest,
    /// Bytes as they are transferred.
    pub size: u64,
    /// In an index: for which machines it is.
    pub platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Descriptor {
    /// Returns the name that a layout's index gives it.
    pub fn ref_name(&self) -> Option<&str> {
        self.annotations.get("org.opencontainers.image.ref.name").map(String::as_str)
    }
}

/// The image that a manifest describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The image's configuration.
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Images for several machines.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

/// Everything that tells one kind of document from another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Reads a manifest or an index. `said`: the media type by which it was sent or listed, if it was.
///
/// # Errors
/// Anything that is not exactly one of the two, or has more of something than the limits allow.
pub fn read(bytes: &[u8], said: Option<&str>) -> Result<Document, ManifestError> {
    let malformed = |why: String| ManifestError::Malformed { what: "the manifest", why };
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let said: Vec<&str> = said.map(media::bare).into_iter().chain(raw.media_type.as_deref()).collect();
    if raw.schema_version == Some(1)
        || raw.fs_layers.is_some()
        || said.iter().any(|said| media::is_schema_one(said))
    {
        return Err(ManifestError::SchemaOne);
    }
    match raw.schema_version {
        Some(2) => {}
        other => {
            return Err(malformed(format!(
                "`schemaVersion` is {}, expected 2",
                other.map_or_else(|| "missing".to_owned(), |number| number.to_string())
            )));
        }
    }
    let is_one = raw.config.is_some() || raw.layers.is_some();
    let is_list = raw.manifests.is_some();
    let (is, other) = match (is_one, is_list) {
        (true, true) => {
            return Err(ManifestError::Ambiguous { said: "a manifest".to_owned(), is: "an index as well" });
        }
        (true, false) => ("a manifest", is_index as fn(&str) -> bool),
        (false, true) => ("an index", is_manifest as fn(&str) -> bool),
        (false, false) => {
            return Err(malformed("it has neither `config` and `layers` nor `manifests`".to_owned()));
        }
    };
    if let Some(said) = said.iter().find(|said| other(said)) {
        return Err(ManifestError::Ambiguous { said: (*said).to_owned(), is });
    }
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), ..) => bounded("the index", manifests, INDEX_ENTRIES_MAX).map(Document::Index),
        (None, Some(config), Some(layers)) => {
            let layers = bounded("the image", layers, LAYERS_MAX)?;
            manifest(config, layers).map(Document::Manifest)
        }
        (None, None, _) => Err(malformed("`config` is missing".to_owned())),
        (None, _, None) => Err(malformed("`layers` is missing".to_owned())),
    }
}

fn bounded(what: &'static str, list: Vec<Descriptor>, max: usize) -> Result<Vec<Descriptor>, ManifestError> {
    match list.len() {
        count if count > max => Err(ManifestError::TooMany { what, count, max }),
        _ => Ok(list),
    }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest, ManifestError> {
    if !media::is_config(&config.media_type) {
        return Err(ManifestError::Artifact { kind: config.media_type });
    }
    for (index, layer) in layers.iter().enumerate() {
        let refused = |why| ManifestError::Layer { number: index + 1, kind: layer.media_type.clone(), why };
        match layer_kind(&layer.media_type) {
            LayerKind::Tar => {}
            LayerKind::Foreign => {
                return Err(refused("it must not be distributed by registries and is not downloaded"));
            }
            LayerKind::Encrypted => return Err(refused("encrypted layers are not supported")),
            LayerKind::Other => return Err(refused("expected a tar, uncompressed or with gzip or zstd")),
        }
    }
    Ok(Manifest { config, layers })
}

/// Chooses the image of an index that fits the platform best; of equals the first.
///
/// # Errors
/// There is none; the error lists what there is.
pub fn choose<'i>(index: &'i [Descriptor], wanted: &Platform) -> Result<&'i Descriptor, ManifestError> {
    let usable = index.iter().filter(|entry| {
        entry.media_type.is_empty() || is_manifest(&entry.media_type) || is_index(&entry.media_type)
    });
    let usable: Vec<&Descriptor> = usable.collect();
    let ranked = usable.iter().filter_map(|entry| Some((wanted.rank(entry.platform.as_ref()?)?, *entry)));
    // The first of the best: `max_by_key` would give the last.
    let best = ranked.reduce(|best, next| if next.0 > best.0 { next } else { best });
    if let Some((_, entry)) = best {
        return Ok(entry);
    }
    // One that does not say is told by its configuration.
    if let [only] = usable[..]
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut available: Vec<String> = usable
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| platform.is_known())
        .map(ToString::to_string)
        .collect();
    available.sort();
    available.dedup();
    let available = if available.is_empty() { "no platform at all".to_owned() } else { available.join(", ") };
    Err(ManifestError::Platform { wanted: wanted.to_string(), available })
}

#[cfg(test)]
mod tests;
