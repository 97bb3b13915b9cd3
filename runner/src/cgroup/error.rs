//! What can go wrong with cgroups, in words.

use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use super::limits::Limit;

/// Why a cgroup could not be found, made, limited or removed.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A file of /proc or of a cgroup could not be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A file of a cgroup could not be written.
    #[error("cannot write `{value}` to {path}: {source}", path = .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why.
        source: Errno,
    },
    /// A cgroup could not be made.
    #[error("cannot make the cgroup {path}: {source}", path = .path.display())]
    Make {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The watch for OOM events could not be set up.
    #[error("cannot watch {path} for OOM events: {source}", path = .path.display())]
    Watch {
        /// The file with the events.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A name that is no cgroup's.
    #[error(
        "`{name}` cannot name a cgroup: expected 1 to 128 letters, digits, `-`, `_` and `.`, not beginning with `.`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A limit that no kernel takes.
    #[error("limit `{limit}` cannot be {value}: expected {expected}")]
    Range {
        /// Which.
        limit: Limit,
        /// What was asked.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
    /// This machine cannot apply a limit.
    #[error("limit `{limit}` cannot be applied here: {reason}")]
    Unsupported {
        /// Which.
        limit: Limit,
        /// What is missing.
        reason: String,
        /// What the user can do about it.
        remedy: Option<String>,
    },
    /// The kernel took a limit and keeps another.
    #[error("limit `{limit}` is not in force: {path} was set to {expected} and reads {found}", path = .path.display())]
    NotKept {
        /// Which.
        limit: Limit,
        /// The file.
        path: PathBuf,
        /// What was written.
        expected: String,
        /// What was read back.
        found: String,
    },
    /// The runner's own cgroup still held processes of its own, so that no controller could be enabled in it.
    #[error(
        "cannot enable `{controllers}` in {path}: {source}; {who} is in it and cannot be moved to a leaf",
        path = .path.display()
    )]
    Enable {
        /// The runner's own cgroup.
        path: PathBuf,
        /// `+cpu +memory`.
        controllers: String,
        /// A process that stayed: `process 12 (bash)`.
        who: String,
        /// Why.
        source: Errno,
    },
    /// A cgroup is still there after the deadline.
    #[error("cannot remove the cgroup {path}: {source}; {holders}", path = .path.display())]
    Remove {
        /// Which directory.
        path: PathBuf,
        /// The last attempt's error: EBUSY while anything lives in it.
        source: Errno,
        /// Who lives in it.
        holders: String,
    },
}

impl CgroupError {
    /// Returns what the user can do, as one line to follow `hint:`.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { remedy, .. } => remedy.clone(),
            Self::Make { source: Errno::AGAIN, .. } => Some(
                "the enclosing cgroup allows no more: see its cgroup.max.descendants and cgroup.max.depth"
                    .into(),
            ),
            Self::Make { source: Errno::EXIST, .. } => Some(
                "another run uses this id; choose another --run-id, or run `runner doctor` to sweep".into(),
            ),
            Self::Watch { source: Errno::MFILE, .. } => Some(
                "raise fs.inotify.max_user_instances: sudo sysctl fs.inotify.max_user_instances=1024".into(),
            ),
            Self::Remove { source: Errno::BUSY, .. } => {
                Some("a process that ignores SIGKILL waits for a device or a network filesystem".into())
            }
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Make { .. }
            | Self::Watch { .. }
            | Self::Name { .. }
            | Self::Range { .. }
            | Self::NotKept { .. }
            | Self::Enable { .. }
            | Self::Remove { .. } => None,
        }
    }
}
