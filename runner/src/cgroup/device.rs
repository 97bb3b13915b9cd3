//! Which disk is below a path: limits on disks are kept per whole device.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use rustix::io::Errno;

use super::error::CgroupError;
use super::limits::Limit;

/// A whole block device, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDevice {
    major: u32,
    minor: u32,
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl BlockDevice {
    /// Finds the disk below a path: of a partition its disk, of btrfs and the like the device that is mounted.
    ///
    /// # Errors
    /// `Unsupported` where there is none: tmpfs, overlay, a network.
    pub fn below(path: &Path) -> Result<Self, CgroupError> {
        let metadata = fs::metadata(path).map_err(|error| CgroupError::Read {
            path: path.to_owned(),
            source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        let numbers = (major(metadata.dev()), minor(metadata.dev()));
        whole(numbers).or_else(|| whole(mounted(path)?)).ok_or_else(|| CgroupError::Unsupported {
            limit: Limit::Io,
            reason: format!("{} is on no disk of this machine", path.display()),
            remedy: Some(
                "leave `limits.io` out, or use directories on a disk: the workspace, RUNNER_HOME, `mounts` with `rw`".to_owned(),
            ),
        })
    }
}

/// The whole device of a block device's numbers; `None` where there is no such device.
fn whole((major, minor): (u32, u32)) -> Option<BlockDevice> {
    let path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if !path.join("partition").exists() {
        return Some(BlockDevice { major, minor });
    }
    parse(fs::read_to_string(path.parent()?.join("dev")).ok()?.trim())
        .map(|(major, minor)| BlockDevice { major, minor })
}

/// The numbers of the device that the mount of a path names as its source.
fn mounted(path: &Path) -> Option<(u32, u32)> {
    let path = fs::canonicalize(path).ok()?;
    let source = source_of(&path, &fs::read_to_string("/proc/self/mountinfo").ok()?)?;
    let metadata = fs::metadata(source).ok()?;
    Some((major(metadata.rdev()), minor(metadata.rdev())))
}

/// The source of the innermost mount that a path is below, from the text of proc_pid_mountinfo(5).
fn source_of(path: &Path, mountinfo: &str) -> Option<PathBuf> {
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let point = PathBuf::from(front.split(' ').nth(4)?.replace("\\040", " "));
        let source = back.split(' ').nth(1)?.to_owned();
        path.starts_with(&point).then_some((point.components().count(), source))
    };
    // Of two mounts on one point, the later one is on top.
    let innermost = mountinfo.lines().filter_map(mount).max_by_key(|(depth, _)| *depth)?;
    Some(PathBuf::from(innermost.1)).filter(|source| source.is_absolute())
}

fn parse(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_has_the_device() {
        let text = "22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:40 / /data rw - btrfs /dev/vdb rw\n\
                    31 30 0:41 / /data/in\\040it rw - tmpfs tmpfs rw\n";
        let source = |path: &str| source_of(Path::new(path), text);
        assert_eq!(source("/etc"), Some("/dev/vda".into()));
        assert_eq!(source("/data/x"), Some("/dev/vdb".into()));
        assert_eq!(source("/data/in it/x"), None);
    }

    #[test]
    fn what_is_on_no_disk_is_told() {
        let error = BlockDevice::below(Path::new("/proc")).expect_err("proc is no disk").to_string();
        assert!(error.contains("limit `io`") && error.contains("/proc is on no disk"), "{error}");
    }
}
