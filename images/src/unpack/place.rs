//! From a clean path to a directory handle, inside the root and nowhere else.
//!
//! `openat2(RESOLVE_IN_ROOT)` does it in one call: symbolic links of the archive (`bin -> usr/bin`) are followed as
//! if the root were `/`. Where the kernel has no openat2, and for paths beyond PATH_MAX, the same walk is done one
//! component at a time. No path is ever put together as a string and trusted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

/// Below the kernel's PATH_MAX of 4096, which counts the NUL.
const PATH_BYTES_MAX: usize = 4095;

/// Symbolic links in one path, as the kernel allows.
const LINKS_MAX: u32 = 40;

/// Tries while the kernel says that a rename elsewhere disturbed the walk.
const AGAIN_MAX: u32 = 64;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const READABLE: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Resolves directories below one root and keeps the last one open.
pub(super) struct Places<'root> {
    root: BorrowedFd<'root>,
    has_openat2: bool,
    last_path: Vec<u8>,
    last: Option<Last>,
}

struct Last {
    handle: OwnedFd,
    /// No symbolic link was met on the way, so `..` leads to the parent in the path.
    plain: bool,
}

impl<'root> Places<'root> {
    pub(super) fn new(root: BorrowedFd<'root>) -> Places<'root> {
        Places { root, has_openat2: true, last_path: Vec::new(), last: None }
    }

    /// Returns the root itself.
    pub(super) fn root(&self) -> BorrowedFd<'root> {
        self.root
    }

    /// Returns how many bytes of `path` name the directory that is open now, if it lies on that path; else zero.
    pub(super) fn known_bytes(&self, path: &[u8]) -> usize {
        let known = self.last_path.len();
        let on_path =
            self.last.is_some() && path.starts_with(&self.last_path) && path.get(known) == Some(&b'/');
        if on_path { known } else { 0 }
    }

    /// Forgets the open handle, because a name on its path may now mean something else.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Returns a handle of the directory `path`, following links inside the root; the last one stays open.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        let known = self.last.is_some() && self.last_path == path;
        if !known {
            let opened = match self.step(path)? {
                Some(near) => near,
                None => self.open(path)?,
            };
            self.last_path.clear();
            self.last_path.extend_from_slice(path);
            self.last = Some(opened);
        }
        Ok(self.last.as_ref().map_or(self.root, |last| last.handle.as_fd()))
    }

    /// Opens the directory `path` for reading and for changing its own mode; its last component is not followed.
    pub(super) fn readable(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return openat(self.root, c".", READABLE, Mode::empty());
        }
        if path.len() <= PATH_BYTES_MAX && self.has_openat2 {
            return self.open_in_root(path, READABLE | OFlags::NOFOLLOW);
        }
        let (parent, leaf) = split(path);
        if path.len() > PATH_BYTES_MAX {
            // Through the kept handle, so that a long chain is climbed step by step, not walked anew each time.
            let handle = self.directory(path)?;
            return openat(handle, c".", READABLE, Mode::empty());
        }
        openat(self.directory(parent)?, leaf, READABLE | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Goes one directory down or up from the open handle; `None` if `path` is not that near.
    fn step(&self, path: &[u8]) -> Result<Option<Last>, Errno> {
        let Some(last) = &self.last else { return Ok(None) };
        let (parent, leaf) = split(path);
        if parent == self.last_path && !path.is_empty() {
            return match openat(&last.handle, leaf, HANDLE | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(handle) => Ok(Some(Last { handle, plain: last.plain })),
                // A link, perhaps; that needs the whole path.
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(None),
                Err(errno) => Err(errno),
            };
        }
        // Only where one call from the root cannot do: `..` is safe because no link lies on the way.
        if path.len() > PATH_BYTES_MAX && last.plain && split(&self.last_path).0 == path {
            let handle = openat(&last.handle, c"..", HANDLE, Mode::empty())?;
            return Ok(Some(Last { handle, plain: true }));
        }
        Ok(None)
    }

    fn open(&mut self, path: &[u8]) -> Result<Last, Errno> {
        if path.is_empty() {
            let handle = openat(self.root, c".", HANDLE, Mode::empty())?;
            return Ok(Last { handle, plain: true });
        }
        if path.len() <= PATH_BYTES_MAX && self.has_openat2 {
            match self.open_in_root(path, HANDLE) {
                Err(Errno::NOSYS | Errno::PERM) => self.has_openat2 = false,
                result => return Ok(Last { handle: result?, plain: false }),
            }
        }
        // A plain directory on the way need not be walked to again.
        let known = self.known_bytes(path);
        match &self.last {
            Some(last) if known > 0 && last.plain => {
                let depth = self.last_path.split(|byte| *byte == b'/').count() as u32;
                let from = openat(&last.handle, c".", HANDLE, Mode::empty())?;
                walk(self.root, from, depth, &path[known..])
            }
            _ => walk(self.root, openat(self.root, c".", HANDLE, Mode::empty())?, 0, path),
        }
    }

    fn open_in_root(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..AGAIN_MAX {
            match openat2(self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Splits a clean path into parent and leaf.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Resolves `path` component by component from a directory `depth` levels below the root, which is taken for `/`.
/// `..` never leaves it.
///
/// Correct only while nobody else renames directories below the root, as in a private unpacking directory.
fn walk(root: BorrowedFd<'_>, mut handle: OwnedFd, mut depth: u32, path: &[u8]) -> Result<Last, Errno> {
    let mut links = 0;
    let mut left: Vec<Vec<u8>> = components(path).collect();
    while let Some(component) = left.pop() {
        if component == b".." {
            if depth > 0 {
                handle = openat(&handle, c"..", HANDLE, Mode::empty())?;
                depth -= 1;
            }
            continue;
        }
        match openat(&handle, &component[..], HANDLE | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(next) => {
                handle = next;
                depth += 1;
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let target = readlinkat(&handle, &component[..], Vec::new())
                    .map_err(|errno| if errno == Errno::INVAL { Errno::NOTDIR } else { errno })?;
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                if target.as_bytes().first() == Some(&b'/') {
                    handle = openat(root, c".", HANDLE, Mode::empty())?;
                    depth = 0;
                }
                left.extend(components(target.as_bytes()));
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(Last { handle, plain: links == 0 })
}

/// Returns the components of a path, last first.
fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').rev().filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// Both ways of resolving must agree, link by link.
    #[test]
    fn the_walk_agrees_with_openat2() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
        std::fs::create_dir_all(outer.path().join("usr/lib")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        symlink("usr/lib", root.join("relative")).unwrap();
        symlink("/usr/lib", root.join("absolute")).unwrap();
        symlink("../../../../usr/./lib/", root.join("climbing")).unwrap();
        symlink("../relative/deep", root.join("usr/chain")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        let handle = std::fs::File::open(&root).unwrap();
        for path in [
            "usr",
            "usr/lib/deep",
            "relative",
            "relative/deep",
            "absolute/deep",
            "climbing/deep",
            "usr/chain",
            "loop",
            "dangling",
            "file",
            "file/x",
            "missing",
            "usr/missing/x",
        ] {
            let mut kernel = Places::new(handle.as_fd());
            let mut ours = Places::new(handle.as_fd());
            ours.has_openat2 = false;
            let inode = |result: Result<BorrowedFd<'_>, Errno>| {
                result
                    .map(|fd| std::fs::File::from(fd.try_clone_to_owned().unwrap()).metadata().unwrap().ino())
            };
            assert_eq!(
                inode(kernel.directory(path.as_bytes())),
                inode(ours.directory(path.as_bytes())),
                "{path}"
            );
        }
    }
}
