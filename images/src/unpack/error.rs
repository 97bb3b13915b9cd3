//! Why an archive could not be unpacked. Plain values, because the error may come from another process.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The unpacking stopped; what it created so far is worthless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub struct UnpackError {
    /// The archive entry at hand, escaped and shortened; none outside of entries.
    pub entry: Option<String>,
    /// What was wrong.
    pub fault: UnpackFault,
}

/// What was wrong, by whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum UnpackFault {
    /// The bytes could not be read to their end.
    #[error("cannot read the archive: {what}")]
    Source {
        /// The reader's words.
        what: String,
    },
    /// The compressed stream or the tar format is broken.
    #[error("{what}")]
    Malformed {
        /// Expected and found.
        what: String,
    },
    /// The archive is well formed and asks for something that is never done.
    #[error("{what}")]
    Refused {
        /// What it asks for.
        what: String,
    },
    /// A bound of [`super::UnpackLimits`] was passed.
    #[error("{what}: more than the limit of {max}")]
    Limit {
        /// Which bound, with the number found.
        what: String,
        /// The bound.
        max: u64,
    },
    /// The kernel refused.
    #[error("cannot {action}: {}", errno_text(*errno))]
    System {
        /// What was tried.
        action: String,
        /// The kernel's answer, raw.
        errno: i32,
    },
}

/// Bytes of a name that an error shows.
const SHOWN_BYTES_MAX: usize = 160;

impl std::fmt::Display for UnpackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "archive entry \"{entry}\": {}", self.fault),
            None => write!(f, "archive: {}", self.fault),
        }
    }
}

impl UnpackError {
    /// The same error at the entry `name`, unless it names one already.
    pub(crate) fn at(mut self, name: &[u8]) -> UnpackError {
        self.entry.get_or_insert_with(|| shown(name));
        self
    }

    /// Whether the disk or a quota is full.
    pub fn is_full(&self) -> bool {
        matches!(&self.fault, UnpackFault::System { errno, .. }
            if [Errno::NOSPC, Errno::DQUOT].iter().any(|full| full.raw_os_error() == *errno))
    }
}

impl From<UnpackFault> for UnpackError {
    fn from(fault: UnpackFault) -> UnpackError {
        UnpackError { entry: None, fault }
    }
}

/// A broken format.
pub(crate) fn malformed(what: impl Into<String>) -> UnpackError {
    UnpackFault::Malformed { what: what.into() }.into()
}

/// Something that is never done.
pub(crate) fn refused(what: impl Into<String>) -> UnpackError {
    UnpackFault::Refused { what: what.into() }.into()
}

/// A bound that was passed.
pub(crate) fn limit(what: impl Into<String>, max: u64) -> UnpackError {
    UnpackFault::Limit { what: what.into(), max }.into()
}

/// A refusal of the kernel; for `map_err`.
pub(crate) fn system(action: &str) -> impl FnOnce(Errno) -> UnpackError {
    move |errno| UnpackFault::System { action: action.to_owned(), errno: errno.raw_os_error() }.into()
}

/// Returns archive bytes as harmless text of bounded length.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let text: String = String::from_utf8_lossy(cut).chars().flat_map(char::escape_debug).collect();
    if cut.len() < bytes.len() { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}

fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
