//! Why a run could not be done: not the failure of a step, which is a result.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::artifacts::ArtifactError;
use super::disk::DiskError;
use super::egress::EgressError;
use super::errands::ErrandError;
use super::git::GitError;
use super::hash_files::HashError;
use super::identity::IdentityError;
use super::record::RecordError;
use super::rights::RightsError;
use super::services::ServiceError;
use super::workspace::WorkspaceError;
use crate::cgroup::CgroupError;
use crate::sandbox::spawn::SandboxError;

/// Our part could not be done.
#[derive(Debug, Error)]
pub enum RunError {
    /// The sandbox.
    #[error("{error}\n  in step {index} `{step}`")]
    Step {
        /// The step's number.
        index: usize,
        /// Its id.
        step: String,
        /// Why.
        error: SandboxError,
    },
    /// The job's stage.
    #[error(transparent)]
    Stage(#[from] SandboxError),
    /// The cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// What steps may ask of the kernel.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The watch over the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The job's network.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The ids.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Somebody works in the project meanwhile.
    #[error("what {entry} reads changed while it was read")]
    ReadsChanged {
        /// The entry's id.
        entry: String,
    },
    /// What an entry of `setup` reads.
    #[error("cannot read what `setup` names: {0}")]
    Hash(#[from] HashError),
    /// The commit for the workspace.
    #[error("cannot make the workspace: {0}")]
    Git(#[from] GitError),
    /// The records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The workspace.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// Files of the steps.
    #[error(transparent)]
    Errand(#[from] ErrandError),
    /// An artifact, for a reason that is not the step's.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The image.
    #[error(transparent)]
    Image(#[from] images::ImageError),
    /// What the job file calls its image.
    #[error(transparent)]
    Reference(#[from] images::ReferenceError),
    /// The image's digest.
    #[error(transparent)]
    Digest(#[from] images::DigestError),
    /// The store of images.
    #[error(transparent)]
    Store(#[from] images::StoreError),
    /// A file of ours.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The job file names a user that the image does not have.
    #[error("error[E243]: user `{name}` is not in the image; it has {known}")]
    User {
        /// As named.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// An ordinary user cannot give one job several users.
    #[error(
        "cannot run steps as different users ({first} and {other}) without root: files of one would not be writable to the other"
    )]
    Users {
        /// The first step's.
        first: u32,
        /// Another's.
        other: u32,
    },
    /// What a service needs.
    #[error("{error}\n  in service `{name}`")]
    InService {
        /// Which.
        name: String,
        /// Why.
        error: Box<RunError>,
    },
    /// A service's variable that comes to nothing sensible.
    #[error("variable {why}\n  in service `{service}`")]
    Unsettled {
        /// Which service.
        service: String,
        /// Which variable, and why.
        why: String,
    },
    /// A cache's key that comes to nothing sensible.
    #[error("error[E403]: cannot use the key of the cache {path}: {why}")]
    CacheKey {
        /// Which cache.
        path: String,
        /// Why.
        why: String,
    },
    /// Services that cannot be as they were asked for.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A mount's source is missing.
    #[error("error[E221]: mount source {} cannot be used: {source}", path.display())]
    Mount {
        /// On the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RunError {
    /// Words a failure of the file system.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_path_buf(), source }
    }

    /// Whether the job file asks for what cannot be: exit code 2, nothing ran.
    pub fn is_usage(&self) -> bool {
        if let Self::InService { error, .. } = self {
            return error.is_usage();
        }
        matches!(self, Self::Service(error) if error.is_usage())
            || matches!(
                self,
                Self::CacheKey { .. }
                    | Self::User { .. }
                    | Self::Mount { .. }
                    | Self::Reference(_)
                    | Self::Digest(_)
            )
            || matches!(self, Self::Rights(error) if !matches!(error, RightsError::Filter(_)))
            || matches!(self, Self::Egress(EgressError::NoCap))
            || matches!(self, Self::Git(GitError::NoCommit(_)))
            || matches!(self, Self::Record(error) if error.is_usage())
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Step { error, .. } | Self::Stage(error) => error.hint().map(str::to_owned),
            Self::Cgroup(error) => error.hint(),
            Self::Rights(error) => error.hint().map(str::to_owned),
            Self::Egress(error) => error.hint().map(str::to_owned),
            Self::InService { error, .. } => error.hint(),
            Self::Service(error) => Some(error.hint()),
            Self::Identity(error) => Some(error.hint().to_owned()),
            Self::Record(error) => error.hint(),
            Self::Git(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Artifact(error) => error.hint(),
            Self::Users { .. } => Some("give all steps the same `user`, or run as root".to_owned()),
            Self::User { .. } => Some("name one of these, or use a number: `user: 1000`".to_owned()),
            Self::Io { source, .. } if is_full(source) => Some(
                "free some space there, or set RUNNER_HOME to a directory on another file system".to_owned(),
            ),
            Self::Store(error) if is_full(&error.source) => Some(
                "free some space there, or set RUNNER_HOME to a directory on another file system".to_owned(),
            ),
            Self::Reference(_) | Self::Digest(_) | Self::Store(_) => None,
            Self::Workspace(error) if error.is_full() => {
                Some("the copy goes below RUNNER_HOME: free some space there, or set it to a directory on another file system".to_owned())
            }
            Self::CacheKey { .. } | Self::Unsettled { .. } | Self::ReadsChanged { .. } | Self::Hash(_) | Self::Workspace(_) | Self::Disk(_) | Self::Errand(_) | Self::Io { .. } | Self::Mount { .. } => {
                None
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
