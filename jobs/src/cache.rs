//! Caches: directories that outlive a job. Values only.

use serde::Serialize;

use crate::bounds::PATH_BYTES_MAX;
use crate::expression::Template;

/// One cache of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CachePlan {
    /// Where steps find it: absolute, relative to the workspace, or below `~`, the home of the first step's user. Normal: no
    /// empty, `.` or `..` part, no slash at the end.
    pub path: String,
    /// Under which name it is kept; `None` is the job's and the path's.
    pub key: Option<Template>,
    /// Beginnings of keys that do when there is nothing under the key itself, the best first.
    pub restore_keys: Vec<Template>,
    /// Which way it goes.
    pub mode: CacheMode,
    /// It is kept although the job has failed.
    pub always: bool,
    /// A cache that is larger is not kept.
    pub bytes_max: Option<u64>,
}

/// Which way a cache goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// Restored before the steps, kept after them.
    Rw,
    /// Restored; what steps write is thrown away.
    Ro,
    /// Kept; the steps begin with an empty one.
    PushOnly,
}

/// Why a path cannot be a cache's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Nothing, or nothing but the start of one.
    #[error("it names no directory of its own")]
    Whole,
    /// It has a part `..`.
    #[error("it must not contain `..`")]
    Parent,
    /// Below the kernel's filesystems.
    #[error("nothing can be kept on or below /proc, /sys and /dev")]
    Kernel,
    /// `~name/...`.
    #[error("only `~/` stands for a home")]
    Home,
    /// Longer than the kernel takes, or with a NUL or control character.
    #[error("it is no path that can be made")]
    Malformed,
}

/// Returns the normal form of a cache's path.
pub(crate) fn normal(path: &str) -> Result<String, PathFault> {
    if path.len() >= PATH_BYTES_MAX || path.chars().any(char::is_control) {
        return Err(PathFault::Malformed);
    }
    let (start, rest) = match path.strip_prefix('~') {
        Some("") => return Err(PathFault::Whole),
        Some(rest) => ("~/", rest.strip_prefix('/').ok_or(PathFault::Home)?),
        None if path.starts_with('/') => ("/", path),
        None => ("", path),
    };
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.first() {
        None => return Err(PathFault::Whole),
        Some(&("proc" | "sys" | "dev")) if start == "/" => return Err(PathFault::Kernel),
        Some(&"workspace") if start == "/" && parts.len() == 1 => return Err(PathFault::Whole),
        Some(_) if parts.contains(&"..") => return Err(PathFault::Parent),
        Some(_) => {}
    }
    Ok(format!("{start}{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_normal_or_refused() {
        for (path, expected) in [
            ("target", Ok("target")),
            ("./a//b/", Ok("a/b")),
            ("/var/cache/./apt", Ok("/var/cache/apt")),
            ("~/.cargo/registry/", Ok("~/.cargo/registry")),
            ("", Err(PathFault::Whole)),
            (".", Err(PathFault::Whole)),
            ("/", Err(PathFault::Whole)),
            ("~", Err(PathFault::Whole)),
            ("~/", Err(PathFault::Whole)),
            ("/workspace/", Err(PathFault::Whole)),
            ("/workspace/target", Ok("/workspace/target")),
            ("~root/x", Err(PathFault::Home)),
            ("a/../b", Err(PathFault::Parent)),
            ("/../etc", Err(PathFault::Parent)),
            ("/proc/x", Err(PathFault::Kernel)),
            ("proc", Ok("proc")),
            ("a\nb", Err(PathFault::Malformed)),
        ] {
            assert_eq!(normal(path), expected.map(str::to_owned), "{path}");
        }
    }
}
