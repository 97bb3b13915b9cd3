//! Mounts of host directories: the short form, and which paths inside can be mounted on.

use serde::Serialize;

use crate::bounds::PATH_BYTES_MAX;

/// A host path shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The path on this machine as written; a relative one is relative to the job file's directory.
    pub host: String,
    /// The absolute path inside, normal: no empty, `.` or `..` part, no slash at the end.
    pub path: String,
    /// Writing is refused.
    pub read_only: bool,
}

/// Why a mount is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not two or three parts.
    #[error("expected `host:path`, `host:path:ro` or `host:path:rw`")]
    Shape,
    /// A third part that is neither.
    #[error("expected `ro` or `rw` after the second `:`")]
    Mode,
    /// No host path.
    #[error("the host path is empty")]
    NoHost,
    /// A host path that starts with `~`.
    #[error("`~` is not expanded in the host path")]
    Tilde,
    /// Longer than the kernel takes.
    #[error("the path is longer than the kernel takes")]
    Long,
    /// The path inside is not absolute.
    #[error("the path inside must be absolute")]
    Relative,
    /// The path inside is `/`.
    #[error("the path inside must not be `/`")]
    Root,
    /// The path inside has a part `..`.
    #[error("the path inside must not contain `..`")]
    Parent,
    /// The path inside belongs to the kernel's filesystems.
    #[error("nothing can be mounted on or below /proc, /sys and /dev")]
    Kernel,
}

impl MountError {
    /// Returns whether the path inside is at fault, rather than the form or the host path.
    pub(crate) fn is_about_inside(&self) -> bool {
        match self {
            Self::Long | Self::Relative | Self::Root | Self::Parent | Self::Kernel => true,
            Self::Shape | Self::Mode | Self::NoHost | Self::Tilde => false,
        }
    }
}

impl Mount {
    /// Checks the parts of a mount and makes the path inside normal.
    pub fn new(host: &str, path: &str, read_only: bool) -> Result<Mount, MountError> {
        if host.is_empty() {
            return Err(MountError::NoHost);
        }
        if host.starts_with('~') {
            return Err(MountError::Tilde);
        }
        if host.len() >= PATH_BYTES_MAX {
            return Err(MountError::Long);
        }
        Ok(Mount { host: host.to_owned(), path: inside(path)?, read_only })
    }
}

impl std::str::FromStr for Mount {
    type Err = MountError;

    /// Reads `host:path`, `host:path:ro` or `host:path:rw`; read-only unless `rw` is said.
    fn from_str(text: &str) -> Result<Mount, MountError> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [host, path] | [host, path, "ro"] => Mount::new(host, path, true),
            [host, path, "rw"] => Mount::new(host, path, false),
            [_, _, _] => Err(MountError::Mode),
            _ => Err(MountError::Shape),
        }
    }
}

/// Returns the normal form of a path inside that may be mounted on.
fn inside(path: &str) -> Result<String, MountError> {
    if !path.starts_with('/') {
        return Err(MountError::Relative);
    }
    if path.len() >= PATH_BYTES_MAX {
        return Err(MountError::Long);
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(MountError::Parent);
    }
    match parts.first() {
        None => Err(MountError::Root),
        Some(&("proc" | "sys" | "dev")) => Err(MountError::Kernel),
        Some(_) => Ok(format!("/{}", parts.join("/"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        let mount =
            |host: &str, path: &str, read_only| Ok(Mount { host: host.into(), path: path.into(), read_only });
        let table = [
            ("/a:/b", mount("/a", "/b", true)),
            ("./a:/b:ro", mount("./a", "/b", true)),
            ("a:/b//c/./:rw", mount("a", "/b/c", false)),
            ("/a:/process", mount("/a", "/process", true)),
            ("/a", Err(MountError::Shape)),
            ("/a:/b:ro:x", Err(MountError::Shape)),
            ("/a:/b:RW", Err(MountError::Mode)),
            (":/b", Err(MountError::NoHost)),
            ("~/a:/b", Err(MountError::Tilde)),
            ("/a:b", Err(MountError::Relative)),
            ("/a:", Err(MountError::Relative)),
            ("/a://.", Err(MountError::Root)),
            ("/a:/b/../c", Err(MountError::Parent)),
            ("/a:/proc", Err(MountError::Kernel)),
            ("/a:/./dev/shm", Err(MountError::Kernel)),
            ("/a://sys/fs", Err(MountError::Kernel)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }
}
