//! What a run gets: directories to lay over one another, and what the image says about running in them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::Lease;

/// A root filesystem, ready to be mounted; its layers cannot be collected while this value lives.
#[derive(Debug)]
pub struct Rootfs {
    /// What it was obtained by, safe to print.
    pub reference: String,
    /// Digest of the tarball as it was transferred, compressed.
    pub digest: Option<Digest>,
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
}
