//! Removal of a whole tree through handles: any depth, any modes, never outside, in linear time.
//!
//! A subdirectory that is not empty is first moved up into the top directory, so no path ever grows, nothing
//! recurses and three handles are enough. Symbolic links are removed, never followed.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, chmodat, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::random;

/// Tries at a name that something else keeps busy or has taken.
const TRIES_MAX: u32 = 16;

/// A tree could not be removed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot remove {name:?}: cannot {action}: {}", std::io::Error::from(*errno))]
pub struct RemoveError {
    /// The tree.
    pub name: String,
    /// What failed.
    pub action: &'static str,
    /// The kernel's answer.
    pub errno: Errno,
}

/// What was tried and the kernel's answer.
type Step<T> = Result<T, (&'static str, Errno)>;

/// Removes `name` below `parent` with everything in it. That nothing is there is no error.
///
/// Needs the right to write to every directory of the tree; own directories without it are given it.
pub fn remove_tree(parent: impl AsFd, name: impl AsRef<std::ffi::OsStr>) -> Result<(), RemoveError> {
    let name = name.as_ref();
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name);
    remove_entry(parent.as_fd(), bytes).map_err(|(action, errno)| RemoveError {
        name: name.to_string_lossy().into_owned(),
        action,
        errno,
    })
}

/// Removes everything in `directory`, not the directory itself.
pub fn remove_children(directory: impl AsFd) -> Result<(), RemoveError> {
    let directory = directory.as_fd();
    empty_top(directory).map_err(|(action, errno)| RemoveError { name: ".".to_owned(), action, errno })
}

fn remove_entry(parent: BorrowedFd<'_>, name: &[u8]) -> Step<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, POSIX EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(("unlink it", errno)),
    }
    if try_rmdir(parent, name)? {
        return Ok(());
    }
    let top = open(parent, name)?;
    empty_top(top.as_fd())?;
    match try_rmdir(parent, name)? {
        true => Ok(()),
        false => Err(("remove the directory, something keeps filling it", Errno::NOTEMPTY)),
    }
}

/// Empties the top directory: each of its subdirectories is flattened into it, until none is left.
fn empty_top(top: BorrowedFd<'_>) -> Step<()> {
    let mut names = FreshNames::new();
    loop {
        let mut seen = false;
        for_each_name(top, |name| {
            seen = true;
            if !unlink_or_rmdir(top, name)? {
                let directory = open(top, name)?;
                flatten(directory.as_fd(), top, &mut names)?;
                try_rmdir(top, name.to_bytes())?;
            }
            Ok(())
        })?;
        if !seen {
            return Ok(());
        }
    }
}

/// Removes what lies in `directory`; its subdirectories that are not empty go to `top`.
fn flatten(directory: BorrowedFd<'_>, top: BorrowedFd<'_>, names: &mut FreshNames) -> Step<()> {
    for_each_name(directory, |name| {
        if unlink_or_rmdir(directory, name)? {
            return Ok(());
        }
        for _ in 0..TRIES_MAX {
            let fresh = names.next();
            match renameat_with(directory, name, top, fresh.as_str(), RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                // The directory's own `..` changes, which needs the right to write to it.
                Err(Errno::ACCESS) => drop(open(directory, name)?),
                Err(errno) => return Err(("move a directory up", errno)),
            }
        }
        Err(("move a directory up", Errno::EXIST))
    })
}

/// Calls `each` for every name but `.` and `..`.
fn for_each_name(directory: BorrowedFd<'_>, mut each: impl FnMut(&CStr) -> Step<()>) -> Step<()> {
    let entries = Dir::read_from(directory).map_err(|errno| ("read a directory", errno))?;
    for entry in entries {
        let entry = entry.map_err(|errno| ("read a directory", errno))?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            each(name)?;
        }
    }
    Ok(())
}

/// Returns false for a directory that is not empty.
fn unlink_or_rmdir(parent: BorrowedFd<'_>, name: &CStr) -> Step<bool> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => try_rmdir(parent, name.to_bytes()),
        Err(errno) => Err(("unlink a file", errno)),
    }
}

fn try_rmdir(parent: BorrowedFd<'_>, name: &[u8]) -> Step<bool> {
    for _ in 0..TRIES_MAX {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
            // A mount on it that is just going away.
            Err(Errno::BUSY) => std::thread::yield_now(),
            Err(errno) => return Err(("remove a directory", errno)),
        }
    }
    Err(("remove a directory, something is mounted on it", Errno::BUSY))
}

/// Opens a directory for reading, after giving its owner all rights to it.
pub(crate) fn open(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Step<OwnedFd> {
    let nofollow = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(parent, name, OFlags::PATH | nofollow, Mode::empty())
        .map_err(|errno| ("open a directory", errno))?;
    let try_open = || openat(&handle, c".", OFlags::RDONLY | nofollow, Mode::empty());
    let stat = rustix::fs::fstat(&handle).map_err(|errno| ("read a directory's mode", errno))?;
    if stat.st_mode & 0o700 != 0o700 {
        // A handle opened by path only can be changed through its name in /proc; nothing is followed on the way.
        // A failure shows where the right is needed.
        let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let _ = chmodat(CWD, link, Mode::RWXU, AtFlags::empty());
    }
    try_open().map_err(|errno| ("open a directory", errno))
}

/// Names that are not taken, for directories on their way up.
struct FreshNames {
    prefix: u64,
    count: u64,
}

impl FreshNames {
    fn new() -> FreshNames {
        FreshNames { prefix: random::number(), count: 0 }
    }

    fn next(&mut self) -> String {
        self.count += 1;
        format!(".{:016x}-{:x}", self.prefix, self.count)
    }
}
