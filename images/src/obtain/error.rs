//! Why there is no root filesystem, whose turn it is, and what can be done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use crate::digest::{Digest, DigestError};
use crate::fetch::FetchError;
use crate::layout::LayoutError;
use crate::manifest::ManifestError;
use crate::reference::ReferenceError;
use crate::store::StoreError;
use crate::tree::TreeError;
use crate::unpack::{UnpackError, UnpackFault};

/// A root filesystem cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text names no image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text is no digest.
    #[error(transparent)]
    DigestText(#[from] DigestError),
    /// A file or directory of the user's cannot be read.
    #[error("cannot {action} {}: {source}", path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path is of the wrong kind.
    #[error("cannot use {}: it is not {expected}", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A file was written to while it was read.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The target of an unpacking holds something already.
    #[error("cannot unpack into {}: the directory is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A digest was given for something that has none.
    #[error("{reference} has no sha256: only tarballs and manifests have one")]
    NoDigest {
        /// The reference.
        reference: String,
    },
    /// There is no archive to unpack behind the reference.
    #[error("cannot unpack {reference}: expected a tarball")]
    NoArchive {
        /// The reference.
        reference: String,
    },
    /// The bytes are not the ones that were asked for.
    #[error("{name} has the wrong digest: expected {expected}, found {found}")]
    Digest {
        /// The source.
        name: String,
        /// As given.
        expected: Digest,
        /// As read.
        found: Digest,
    },
    /// Two digests were given, and they differ.
    #[error("{name} is asked for with another digest: {given}")]
    TwoDigests {
        /// The source, with its own digest.
        name: String,
        /// The other one.
        given: Digest,
    },
    /// What a registry or an archive says about the image is wrong, or not for this machine.
    #[error("cannot use {name}: {source}")]
    Manifest {
        /// The source.
        name: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// A file that should hold images does not.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The registry does not have it.
    #[error("{registry} has no image {name}")]
    NotThere {
        /// The source.
        name: String,
        /// Who says so.
        registry: String,
    },
    /// The registry wants to know who asks.
    #[error("{registry} does not give {name} to us")]
    Denied {
        /// The source.
        name: String,
        /// Who says so.
        registry: String,
    },
    /// A name that no import has given.
    #[error("there is no image {name}")]
    NotImported {
        /// The source.
        name: String,
    },
    /// A layer is longer or shorter than its manifest says.
    #[error("a layer of {name} has the wrong size: expected {expected} bytes, found {found}")]
    LayerSize {
        /// The source.
        name: String,
        /// By the manifest.
        expected: u64,
        /// As transferred.
        found: u64,
    },
    /// A layer unpacks to something else than the configuration says.
    #[error("a layer of {name} has the wrong diff id: expected {expected}, found {found}")]
    DiffId {
        /// The source.
        name: String,
        /// By the configuration.
        expected: Digest,
        /// As unpacked.
        found: Digest,
    },
    /// The list of a tree could not be made.
    #[error("in the store: {0}")]
    Tree(#[from] TreeError),
    /// The network is needed and forbidden.
    #[error("{name} is not in the store, and offline nothing is downloaded")]
    Offline {
        /// The source.
        name: String,
    },
    /// Another run pulls the same and does not come to an end.
    #[error("another run has been pulling {name} for {} s", waited.as_secs())]
    Busy {
        /// The source.
        name: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The download failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive could not be unpacked.
    #[error("cannot unpack {name} into {}: {source}", target.display())]
    Unpack {
        /// The source.
        name: String,
        /// Where to.
        target: PathBuf,
        /// The archive's fault or the kernel's answer.
        source: UnpackError,
    },
    /// A thread of ours ended as it must not.
    #[error("cannot unpack {name}: {what}")]
    Internal {
        /// The source.
        name: String,
        /// What happened.
        what: String,
    },
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageErrorKind {
    /// The reference, the digest or the target directory: the user's.
    Usage,
    /// The archive.
    Image,
    /// The server or the way to it.
    Network,
    /// This machine: no space left.
    Full,
    /// This machine: no permission.
    Permission,
    /// This machine: anything else.
    Host,
    /// Ours.
    Internal,
}

impl ImageError {
    /// Returns whose turn it is; all but `Usage` and `Internal` are infrastructure.
    pub fn kind(&self) -> ImageErrorKind {
        match self {
            ImageError::Path { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ImageErrorKind::Image
            }
            ImageError::Path { source, .. } | ImageError::Store(StoreError { source, .. }) => io_kind(source),
            ImageError::Unpack { source, .. } => match &source.fault {
                UnpackFault::System { errno, .. } => io_kind(&io::Error::from_raw_os_error(*errno)),
                UnpackFault::Source { .. }
                | UnpackFault::Malformed { .. }
                | UnpackFault::Refused { .. }
                | UnpackFault::Limit { .. } => ImageErrorKind::Image,
            },
            ImageError::Tree(error) => io_kind(&io::Error::from(error.errno)),
            ImageError::Layout(LayoutError::Read { source, .. })
                if source.kind() != io::ErrorKind::NotFound =>
            {
                io_kind(source)
            }
            ImageError::WrongKind { .. }
            | ImageError::Changed { .. }
            | ImageError::Digest { .. }
            | ImageError::Manifest { .. }
            | ImageError::Layout(_)
            | ImageError::NotThere { .. }
            | ImageError::Denied { .. }
            | ImageError::NotImported { .. }
            | ImageError::LayerSize { .. }
            | ImageError::DiffId { .. } => ImageErrorKind::Image,
            ImageError::Reference(_)
            | ImageError::DigestText(_)
            | ImageError::NotEmpty { .. }
            | ImageError::NoDigest { .. }
            | ImageError::TwoDigests { .. }
            | ImageError::NoArchive { .. } => ImageErrorKind::Usage,
            ImageError::Offline { .. } | ImageError::Fetch(_) => ImageErrorKind::Network,
            ImageError::Busy { .. } => ImageErrorKind::Host,
            ImageError::Internal { .. } => ImageErrorKind::Internal,
        }
    }

    /// Returns what the user can do, where something can be said.
    pub fn hint(&self) -> Option<String> {
        match self.kind() {
            ImageErrorKind::Full => {
                return Some("free some space, or set RUNNER_HOME to a larger disk".to_owned());
            }
            ImageErrorKind::Permission => {
                return Some(
                    "check who owns the path, or set RUNNER_HOME to a directory of yours".to_owned(),
                );
            }
            ImageErrorKind::Usage
            | ImageErrorKind::Image
            | ImageErrorKind::Network
            | ImageErrorKind::Host
            | ImageErrorKind::Internal => {}
        }
        match self {
            ImageError::Fetch(error) => error.hint(),
            ImageError::Path { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("relative paths are taken from the directory of the job file".to_owned())
            }
            ImageError::WrongKind { .. } => {
                Some("write dir:PATH for a directory, PATH for a tarball".to_owned())
            }
            ImageError::Changed { .. } => Some("wait until the file is written, then run again".to_owned()),
            ImageError::NotEmpty { .. } => {
                Some("give a new directory, or --layer to unpack over this one".to_owned())
            }
            ImageError::Digest { found, .. } => {
                Some(format!("if the new content is right, set the sha256 to {}", found.hex()))
            }
            ImageError::Manifest { source, .. } => manifest_hint(source),
            ImageError::Layout(LayoutError::Which { .. }) => {
                Some("name one: oci:PATH:TAG, or save a single image to the archive".to_owned())
            }
            ImageError::Layout(_) => Some(
                "oci:PATH is an OCI layout, archive:PATH what `docker save` writes, PATH alone a tarball of a root filesystem"
                    .to_owned(),
            ),
            ImageError::NotThere { .. } => {
                Some("check name and tag; a private image is hidden from who is not logged in".to_owned())
            }
            ImageError::Denied { registry, .. } => Some(format!(
                "log in with `docker login {registry}` (or podman, skopeo): their credentials are used"
            )),
            ImageError::NotImported { .. } => Some(
                "`runner image import SOURCE NAME` makes it; `runner image list` shows what is there".to_owned(),
            ),
            ImageError::LayerSize { .. } | ImageError::DiffId { .. } => {
                Some("the image was made or copied wrongly: push it again".to_owned())
            }
            ImageError::Offline { .. } => Some("run once without --offline".to_owned()),
            ImageError::Unpack { source, .. } => unpack_hint(source),
            ImageError::Reference(_)
            | ImageError::TwoDigests { .. }
            | ImageError::Tree(_)
            | ImageError::DigestText(_)
            | ImageError::Path { .. }
            | ImageError::NoDigest { .. }
            | ImageError::NoArchive { .. }
            | ImageError::Busy { .. }
            | ImageError::Store(_)
            | ImageError::Internal { .. } => None,
        }
    }
}

fn manifest_hint(error: &ManifestError) -> Option<String> {
    match error {
        ManifestError::Platform { .. } => {
            Some("use an image that is made for this machine, or build it for this machine".to_owned())
        }
        ManifestError::SchemaOne => Some("push the image again with a tool of this decade".to_owned()),
        ManifestError::Layer { .. } | ManifestError::Artifact { .. } => {
            Some("name an image of a root filesystem".to_owned())
        }
        ManifestError::Malformed { .. }
        | ManifestError::Ambiguous { .. }
        | ManifestError::TooMany { .. }
        | ManifestError::Mismatch { .. } => {
            Some("the image was made or copied wrongly: push it again".to_owned())
        }
    }
}

fn unpack_hint(error: &UnpackError) -> Option<String> {
    Some(match &error.fault {
        UnpackFault::Malformed { .. } => {
            "the file is damaged, incomplete or no tar archive: make or download it again".to_owned()
        }
        UnpackFault::Refused { .. } => {
            "an archive that asks for this is broken or hostile; GNU tar makes ones that do not".to_owned()
        }
        UnpackFault::Limit { .. } => {
            "the limit protects this machine; a trusted archive may be given a larger one".to_owned()
        }
        UnpackFault::Source { .. } | UnpackFault::System { .. } => return None,
    })
}

fn io_kind(error: &io::Error) -> ImageErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => ImageErrorKind::Full,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => ImageErrorKind::Permission,
        _ => ImageErrorKind::Host,
    }
}
