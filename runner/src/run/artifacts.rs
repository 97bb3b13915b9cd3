//! Artifacts: what a job leaves behind, copied out of its workspace and listed with digests.
//!
//! A workspace is hostile: every step could write to it. It is read after all processes of the job are dead, by
//! directory handles only, never following a link; regular files are copied, links are kept as text when they
//! stay inside, anything else is left out. spec: a glob that matches a directory takes what is below it.

mod collect;
mod copy;
mod discard;
pub(in crate::run) mod handles;
mod leaks;
mod manifest;
mod patterns;
mod retrieve;

use std::io;
use std::path::PathBuf;

pub use collect::{CollectRequest, Collected, collect};
pub use discard::discard;
pub use manifest::{EntryKind, Manifest, ManifestEntry};
pub use patterns::Patterns;
pub use retrieve::{Extracted, Problem, Verification, extract, hand_on, verify};

use crate::run::record::RecordError;

/// Bounds of one artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArtifactLimits {
    /// Files and links. The manifest is kept in memory and costs some 300 bytes for each.
    pub files_max: u64,
    /// Bytes of all files, holes counted.
    pub bytes_max: u64,
    /// Directories within one another. Two handles are open for each.
    pub depth_max: usize,
}

impl Default for ArtifactLimits {
    fn default() -> Self {
        Self { files_max: 100_000, bytes_max: 64 << 30, depth_max: 128 }
    }
}

/// Why an artifact could not be collected, read or given out. Paths are relative to the workspace or the
/// artifact, shown with invalid UTF-8 replaced.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No glob matched anything that can be kept.
    #[error("artifact `{name}`: nothing in the workspace matches {globs}")]
    NoMatch {
        /// The artifact.
        name: String,
        /// The globs, quoted.
        globs: String,
        /// What stands where they looked.
        there: String,
    },
    /// Links that lead out of the workspace.
    #[error("artifact `{name}`: link `{path}` leads out of the workspace, to `{target}`")]
    LinkOut {
        /// The artifact.
        name: String,
        /// The link.
        path: String,
        /// Its text.
        target: String,
    },
    /// More than an artifact may have.
    #[error("artifact `{name}`: more than {max} {what} at `{path}`")]
    Limit {
        /// The artifact.
        name: String,
        /// `files`, `bytes`, `directories within one another`.
        what: &'static str,
        /// The limit.
        max: u64,
        /// Where it was met.
        path: String,
    },
    /// A file changed under our hands.
    #[error("artifact `{name}`: `{path}` changed while it was copied")]
    Changed {
        /// The artifact.
        name: String,
        /// The file.
        path: String,
    },
    /// The workspace cannot be read.
    #[error("artifact `{name}`: cannot {action} `{path}` in the workspace")]
    Read {
        /// The artifact.
        name: String,
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A secret is in it.
    #[error("artifact `{name}`: the secret {secret} is in `{path}`, at byte {offset}")]
    Secret {
        /// The artifact.
        name: String,
        /// The file.
        path: String,
        /// The secret's name.
        secret: String,
        /// Where it begins.
        offset: u64,
    },
    /// The name cannot be a directory's.
    #[error("`{name}` cannot name an artifact: expected no `/`, no `.` in front, and not `manifest.json`")]
    BadName {
        /// The name.
        name: String,
    },
    /// The run has one of this name.
    #[error("artifact `{name}` exists already in this run")]
    Exists {
        /// The name.
        name: String,
    },
    /// The run has none of this name.
    #[error("this run has no artifact `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// Something stands where a file should go.
    #[error("{} exists already", path.display())]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// A recorded file is not what the manifest says.
    #[error("artifact `{name}`: `{path}` is not what was collected: {problem}")]
    Mismatch {
        /// The artifact.
        name: String,
        /// The file.
        path: String,
        /// What differs.
        problem: Problem,
    },
    /// The destination, or the record, cannot be written or read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl ArtifactError {
    /// Returns the code under which the documentation explains it.
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoMatch { .. } => Some("E261"),
            Self::LinkOut { .. } => Some("E210"),
            Self::Secret { .. } => Some("E310"),
            Self::Limit { .. }
            | Self::Changed { .. }
            | Self::Read { .. }
            | Self::BadName { .. }
            | Self::Exists { .. }
            | Self::Unknown { .. }
            | Self::Occupied { .. }
            | Self::Mismatch { .. }
            | Self::Record(_) => None,
        }
    }

    /// Whether a secret would have been kept.
    pub const fn is_leak(&self) -> bool {
        matches!(self, Self::Secret { .. })
    }

    /// Whether the job is at fault: the step fails. Otherwise this machine is.
    pub const fn is_failure_of_step(&self) -> bool {
        match self {
            Self::NoMatch { .. }
            | Self::LinkOut { .. }
            | Self::Limit { .. }
            | Self::Changed { .. }
            | Self::Read { .. }
            | Self::BadName { .. }
            | Self::Secret { .. }
            | Self::Exists { .. } => true,
            Self::Unknown { .. } | Self::Occupied { .. } | Self::Mismatch { .. } | Self::Record(_) => false,
        }
    }

    /// Returns what the user can do about it, one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoMatch { there, .. } => {
                Some(format!("{there}; `optional: true` accepts an artifact without files"))
            }
            Self::LinkOut { path, .. } => {
                Some(format!("leave it out with `!{path}`, or copy what it leads to"))
            }
            Self::Secret { .. } => Some(
                "nothing of it was kept; keep the secret out of it, or allow it: --allow-secret-in-artifacts"
                    .to_owned(),
            ),
            Self::Limit { .. } => Some("narrow its paths, or put the files into one archive".to_owned()),
            Self::Changed { .. } => Some("something outside of the job writes to the workspace".to_owned()),
            Self::Unknown { names, .. } if names.is_empty() => Some("it has none at all".to_owned()),
            Self::Unknown { names, .. } => Some(format!("it has {}", names.join(", "))),
            Self::Occupied { .. } => Some("--force replaces it".to_owned()),
            Self::Record(error) => error.hint(),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("a step made it unreadable; `chmod` it there".to_owned())
            }
            Self::Read { .. } | Self::BadName { .. } | Self::Exists { .. } | Self::Mismatch { .. } => None,
        }
    }
}
