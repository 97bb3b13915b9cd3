//! What a run gets: directories to lay over one another, and what the image says about running in them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::Platform;
use crate::store::Lease;

/// A root filesystem, ready to be mounted; its layers cannot be collected while this value lives.
#[derive(Debug)]
pub struct Rootfs {
    /// What it was obtained by, safe to print.
    pub reference: String,
    /// Digest of the tarball as it was transferred, compressed; of an image's manifest, or of its configuration where
    /// it came without a manifest.
    pub digest: Option<Digest>,
    /// For which machines the image is, if it says.
    pub platform: Option<Platform>,
    /// Directories, the lowest first; none for the host.
    pub layers: Vec<PathBuf>,
    /// The image's own settings.
    pub config: ImageConfig,
    /// How the layers are meant.
    pub kind: RootfsKind,
    /// What the unpacking left out, if it happened just now.
    pub notes: Vec<String>,
    pub(crate) _leases: Vec<Lease>,
}

/// How the layers of a root filesystem are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootfsKind {
    /// Layers of the store, never written again.
    Layers,
    /// One directory of the user's.
    Directory,
    /// The machine itself; there are no layers.
    Host,
}

/// What an image says about running in it. Tarballs say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Names and values, in the image's order.
    pub env: Vec<(String, String)>,
    /// The directory to start in.
    pub workdir: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// What a service runs, before `cmd`. Steps have commands of their own.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// What a service runs, or the arguments of `entrypoint`.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Ports that a service listens on: `5432/tcp`.
    #[serde(default)]
    pub exposed_ports: Vec<String>,
    /// How to tell that a service is well.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// The signal that ends a service in good order.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// What whoever made it wanted to say.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// How to tell that a service is well. Times in nanoseconds; what is not there, or zero, is the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["CMD", ...]`, `["CMD-SHELL", ...]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Between two looks.
    pub interval_ns: Option<u64>,
    /// For one look.
    pub timeout_ns: Option<u64>,
    /// While failures do not count.
    pub start_period_ns: Option<u64>,
    /// Failures in a row that count.
    pub retries: Option<u64>,
}
