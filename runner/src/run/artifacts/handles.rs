//! Files below a directory handle: one component at a time, never following a link.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A fifo must not block us, a terminal must not become ours.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Names of a directory, sorted: the same tree gives the same manifest.
pub(in crate::run) fn names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Describes a name without following it.
pub(in crate::run) fn describe(directory: impl AsFd, name: &[u8]) -> io::Result<(FileType, Stat)> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((FileType::from_raw_mode(stat.st_mode), stat))
}

/// Opens a directory in `directory`.
pub(in crate::run) fn open_directory(directory: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())?)
}

/// Opens a path of ours as a directory handle; links in the path itself are followed.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory in `directory`, making it when it is missing, mode 0755.
pub(super) fn make_directory(directory: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open_directory(directory, name),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a file for reading, whatever it is; the caller looks at it before reading.
pub(in crate::run) fn open_file(directory: impl AsFd, name: &[u8]) -> io::Result<File> {
    Ok(File::from(rustix::fs::openat(directory, name, FILE, Mode::empty())?))
}

/// Makes a file that did not exist, mode 0600, for reading and writing.
pub(super) fn create_file(directory: impl AsFd, name: &[u8]) -> io::Result<File> {
    Ok(File::from(rustix::fs::openat(directory, name, NEW_FILE, Mode::from_raw_mode(0o600))?))
}

/// Opens the directory that holds `path` below `root`, and returns it with the path's last component.
/// With `make`, what is missing is made. A path with `..`, or an empty one, is refused.
pub(super) fn open_parent(root: impl AsFd, path: &[u8], make: bool) -> io::Result<(OwnedFd, &[u8])> {
    let mut directory = root.as_fd().try_clone_to_owned()?;
    let mut components = path.split(|&byte| byte == b'/');
    let Some(name) = components.next_back().filter(|name| is_name(name)) else {
        return Err(Errno::INVAL.into());
    };
    for component in components {
        if !is_name(component) {
            return Err(Errno::INVAL.into());
        }
        directory = if make {
            make_directory(&directory, component)?
        } else {
            open_directory(&directory, component)?
        };
    }
    Ok((directory, name))
}

fn is_name(component: &[u8]) -> bool {
    !matches!(component, b"" | b"." | b"..") && !component.contains(&0)
}

/// Whether a link's text leads nowhere but below the root, seen from a directory `depth` levels below it.
///
/// Only `..` in front are counted, and none may follow a name: with links among the names, `a/..` is not where
/// one came from. As every link that is kept obeys this, no chain of them leads out.
pub(super) fn stays_inside(target: &[u8], depth: usize) -> bool {
    if target.is_empty() || target[0] == b'/' {
        return false;
    }
    let mut ups = 0;
    let mut in_names = false;
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if in_names => return false,
            b".." => ups += 1,
            _ => in_names = true,
        }
    }
    ups <= depth
}

/// Shows a path of the workspace.
pub(in crate::run) fn show(path: &[u8]) -> String {
    OsStr::from_bytes(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_judged_by_their_text() {
        for (target, depth, inside) in [
            ("file", 0, true),
            ("a/b/c", 0, true),
            ("./a//b", 0, true),
            ("../a", 1, true),
            ("../../a", 2, true),
            ("..", 1, true),
            (".", 0, true),
            ("../a", 0, false),
            ("../../../a", 2, false),
            ("/etc/passwd", 5, false),
            ("", 1, false),
            ("a/../b", 3, false),
            ("./../../a", 1, false),
        ] {
            assert_eq!(stays_inside(target.as_bytes(), depth), inside, "{target} from depth {depth}");
        }
    }

    #[test]
    fn parents_are_opened_below_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        let handle = open_root(root.path()).unwrap();
        std::os::unix::fs::symlink("/", root.path().join("out")).unwrap();
        for path in ["", "..", "../x", "a/../../x", "/etc/x", "a//b", "a/./b"] {
            assert!(open_parent(&handle, path.as_bytes(), true).is_err(), "{path}");
        }
        assert!(open_parent(&handle, b"out/etc/x", false).is_err(), "through a link");
        let (_, name) = open_parent(&handle, b"a/b/c", true).unwrap();
        assert_eq!(name, b"c");
        assert!(root.path().join("a/b").is_dir());
    }
}
