//! The configuration of an image: what it is for, what it is made of, how it wants to be run.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{LAYERS_MAX, Manifest, ManifestError, Platform};
use crate::digest::Digest;
use crate::rootfs::{Healthcheck, ImageConfig};

/// A configuration, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// For which machines the image is.
    pub platform: Platform,
    /// The digests of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// When it was made, as it says.
    pub created: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(flatten)]
    platform: Platform,
    rootfs: RawRootfs,
    #[serde(default)]
    config: Option<RawConfig>,
    created: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Docker writes `null` for what is empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    healthcheck: Option<RawHealthcheck>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// Times are in nanoseconds; zero means the default.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealthcheck {
    test: Option<Vec<String>>,
    interval: Option<u64>,
    timeout: Option<u64>,
    start_period: Option<u64>,
    retries: Option<u64>,
}

/// Reads a configuration and holds it against the manifest that named it.
///
/// # Errors
/// It is none, or is not of as many layers.
pub fn read_config(bytes: &[u8], manifest: &Manifest) -> Result<ConfigFile, ManifestError> {
    read_archive_config(bytes, manifest.layers.len())
}

/// The same for an archive, which lists layers in another way.
///
/// # Errors
/// It is none, or is not of as many layers.
pub fn read_archive_config(bytes: &[u8], layers: usize) -> Result<ConfigFile, ManifestError> {
    if layers > LAYERS_MAX {
        return Err(ManifestError::TooMany { what: "the image", count: layers, max: LAYERS_MAX });
    }
    let malformed = |why: String| ManifestError::Malformed { what: "the image's configuration", why };
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if raw.rootfs.kind != "layers" {
        return Err(malformed(format!("`rootfs.type` is {:?}, expected \"layers\"", raw.rootfs.kind)));
    }
    let diff_ids = raw.rootfs.diff_ids.len();
    if layers != diff_ids {
        return Err(ManifestError::Mismatch { layers, diff_ids });
    }
    let config = image_config(raw.config.unwrap_or_default());
    let texts = config.env.iter().flat_map(|(name, value)| [name, value]);
    if texts.chain(&config.workdir).chain(&config.user).any(|text| text.contains('\0')) {
        return Err(malformed("a value contains a NUL character".to_owned()));
    }
    Ok(ConfigFile { platform: raw.platform, diff_ids: raw.rootfs.diff_ids, config, created: raw.created })
}

fn image_config(raw: RawConfig) -> ImageConfig {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    // A name without a value sets nothing, and one without a name cannot be set.
    let variable = |text: String| {
        let (name, value) = text.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    ImageConfig {
        env: raw.env.unwrap_or_default().into_iter().filter_map(variable).collect(),
        workdir: given(raw.working_dir),
        user: given(raw.user),
        entrypoint: raw.entrypoint.unwrap_or_default(),
        cmd: raw.cmd.unwrap_or_default(),
        exposed_ports: raw.exposed_ports.unwrap_or_default().into_keys().collect(),
        healthcheck: raw.healthcheck.map(|check| Healthcheck {
            test: check.test.unwrap_or_default(),
            interval_ns: check.interval,
            timeout_ns: check.timeout,
            start_period_ns: check.start_period,
            retries: check.retries,
        }),
        stop_signal: given(raw.stop_signal),
        labels: raw.labels.unwrap_or_default(),
    }
}
