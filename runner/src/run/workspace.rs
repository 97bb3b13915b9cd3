//! The workspace: which directory of the host the steps share, and whose it is.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps, copy_file_range, fchmod, fstat,
    futimens, ioctl_ficlone, mkdirat, openat, readlinkat, stat, statat, symlinkat,
};
use rustix::io::Errno;
use thiserror::Error;

/// Directories below one another that `workspace: copy` follows.
const DEPTH_MAX: usize = 1024;

/// The workspace cannot be used.
#[derive(Debug, Error)]
#[error("cannot {what} {}", path.display())]
pub struct WorkspaceError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl WorkspaceError {
    /// Whether a copy did not fit on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

fn failed<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> WorkspaceError {
    move |source| WorkspaceError { what, path: path.to_path_buf(), source: source.into() }
}

/// An open workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Canonical path on the host.
    pub path: PathBuf,
    /// The directory itself: what is collected comes from here, whatever the path names by then.
    pub handle: OwnedFd,
    /// Owner and group of the directory.
    pub owner: (u32, u32),
}

impl Workspace {
    /// Opens a directory of the host as workspace.
    ///
    /// # Errors
    /// When it is missing or no directory.
    pub fn open(path: &Path) -> Result<Self, WorkspaceError> {
        let path = fs::canonicalize(path).map_err(failed("find the workspace", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = openat(CWD, &path, flags, Mode::empty()).map_err(failed("open the workspace", &path))?;
        let stat = fstat(&handle).map_err(failed("open the workspace", &path))?;
        Ok(Self { path, handle, owner: (stat.st_uid, stat.st_gid) })
    }

    /// Makes an empty one.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn empty(at: &Path) -> Result<Self, WorkspaceError> {
        fs::create_dir(at).map_err(failed("make the workspace", at))?;
        Self::open(at)
    }

    /// Makes a copy of `from`, sharing blocks where the filesystem can: files, directories and links with modes and
    /// times. Sockets, fifos and devices are left out, and so is the directory `without`: the copy may lie in it.
    ///
    /// # Errors
    /// Those of reading one and writing the other; ENOSPC among them.
    pub fn copy(from: &Path, at: &Path, without: &Path) -> Result<Self, WorkspaceError> {
        let source = Self::open(from)?;
        let copy = Self::empty(at)?;
        let without = stat(without).map_err(failed("look at", without))?;
        let without = (without.st_dev, without.st_ino);
        copy_tree(source.handle.as_fd(), copy.handle.as_fd(), without)
            .map_err(failed("copy the workspace", &source.path))?;
        Ok(copy)
    }
}

/// The git root above `directory`, or `directory` itself.
pub fn root_of(directory: &Path) -> PathBuf {
    let above = directory.ancestors().find(|above| above.join(".git").exists());
    above.unwrap_or(directory).to_path_buf()
}

/// Copies what is below one directory into another, empty one, with an explicit stack.
fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, without: (u64, u64)) -> Result<(), Errno> {
    let mut stack = vec![(Dir::read_from(from)?, to.try_clone_to_owned().map_err(|_| Errno::MFILE)?)];
    while let Some((source, target)) = stack.last_mut() {
        let Some(entry) = source.read() else {
            stack.pop();
            continue;
        };
        let name = entry?.file_name().to_owned();
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        let parent = source.fd()?;
        let stat = statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: stat.st_atime as i64, tv_nsec: stat.st_atime_nsec as _ },
            last_modification: Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as _ },
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if (stat.st_dev, stat.st_ino) == without => {}
            FileType::Directory => {
                if stack.len() >= DEPTH_MAX {
                    return Err(Errno::LOOP);
                }
                let Some((source, target)) = stack.last() else { break };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(source.fd()?, &name, flags, Mode::empty())?;
                mkdirat(target, &name, Mode::from_raw_mode(0o700))?;
                let made = openat(target, &name, flags, Mode::empty())?;
                fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o1777))?;
                stack.push((Dir::new(below)?, made));
            }
            FileType::Symlink => symlinkat(readlinkat(parent, &name, Vec::new())?, &*target, &name)?,
            FileType::RegularFile => {
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = openat(parent, &name, flags | OFlags::RDONLY, Mode::empty())?;
                let make = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let made = openat(&*target, &name, make, Mode::from_raw_mode(0o600))?;
                copy_content(&file, &made)?;
                fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o777))?;
                futimens(&made, &times)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    loop {
        match copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(errno) => return Err(errno),
        }
    }
    let (mut from, mut to) = (
        File::from(from.try_clone().map_err(|_| Errno::MFILE)?),
        File::from(to.try_clone().map_err(|_| Errno::MFILE)?),
    );
    io::copy(&mut from, &mut to)
        .map(|_| ())
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_copy_has_files_links_modes_and_is_apart() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/f"), "text").unwrap();
        fs::set_permissions(from.join("a/b/f"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("a/b/f", from.join("link")).unwrap();
        let copy = Workspace::copy(&from, &dir.path().join("copy"), dir.path()).unwrap();
        assert_eq!(fs::read_to_string(copy.path.join("link")).unwrap(), "text");
        assert_eq!(fs::metadata(copy.path.join("a/b/f")).unwrap().permissions().mode() & 0o777, 0o755);
        fs::write(copy.path.join("a/b/f"), "other").unwrap();
        assert_eq!(fs::read_to_string(from.join("a/b/f")).unwrap(), "text");
    }

    #[test]
    fn a_copy_that_lies_in_what_is_copied_is_not_copied_itself() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join("scratch")).unwrap();
        fs::write(dir.path().join("file"), "text").unwrap();
        let copy = Workspace::copy(dir.path(), &home.join("scratch/workspace"), &home).unwrap();
        let names: Vec<_> =
            fs::read_dir(&copy.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    }

    #[test]
    fn the_git_root_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("x/y");
        fs::create_dir_all(&below).unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert_eq!(root_of(&below), dir.path());
    }
}
