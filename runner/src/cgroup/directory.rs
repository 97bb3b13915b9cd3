//! A cgroup's directory, by handle: make, remove, read and write below it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// What one `read` of a cgroup file takes at once; the kernel's own buffer is a page.
const READ_BYTES: usize = 4096;

/// An open cgroup directory and its path, which is for messages and for what wants a path.
#[derive(Debug)]
pub(super) struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory; a symbolic link at its end is refused.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let handle = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// Returns the path that it was opened by.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of something below.
    pub(super) fn at(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// Opens a directory below.
    pub(super) fn below(&self, name: &str) -> Result<Self, Errno> {
        let handle = rustix::fs::openat(&self.handle, name, DIRECTORY, Mode::empty())?;
        Ok(Self { handle, path: self.at(name) })
    }

    /// Makes a cgroup below: EEXIST if there is one.
    pub(super) fn make(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(0o755))
    }

    /// Removes a cgroup below: EBUSY while anything lives in it.
    pub(super) fn remove(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.handle, name, AtFlags::REMOVEDIR)
    }

    /// Opens a file for writing. Nothing is created: cgroupfs has no other files than its own.
    pub(super) fn open_to_write(&self, file: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.handle, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Opens a file for reading.
    pub(super) fn open_to_read(&self, file: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.handle, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Writes a value in one piece, as the kernel wants it.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        let file = self.open_to_write(file)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes())).map(drop)
    }

    /// Reads a whole file.
    pub(super) fn read(&self, file: &str) -> Result<String, Errno> {
        let file = self.open_to_read(file)?;
        let mut text = Vec::new();
        let mut piece = [0; READ_BYTES];
        loop {
            match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut piece))? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                count => text.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Reads a file that holds one number. `max` is `None`.
    pub(super) fn read_number(&self, file: &str) -> Result<Option<u64>, Errno> {
        self.read(file).map(|text| text.trim().parse().ok())
    }

    /// Whether the caller may make cgroups in it, as far as modes and a read-only mount decide.
    pub(super) fn is_writable(&self) -> Result<(), Errno> {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(&self.handle, OsStr::new("."), access, AtFlags::EACCESS)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// How directories are opened: as a handle, nothing else, and never through a link.
const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
