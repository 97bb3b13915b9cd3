//! What a tree on disk consists of, as a list: written when a layer is unpacked, compared when it is verified.
//!
//! One line for each name, in the order of a walk that sorts names: kind, mode, owner, time, size, a digest of the content.
//! Whoever changes a byte, a mode or a name below a layer is found out by walking again.

mod attributes;
mod compare;
mod known;
mod line;
mod names;
mod walk;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

pub(crate) use attributes::kept_attributes;
pub(crate) use compare::{Differences, compare};
pub(crate) use known::{Known, SumHasher};
pub(crate) use line::{Kind, Node};
pub(crate) use walk::{walk, walk_unread};

use crate::digest::Digest;

/// Compression of the list: the fastest, which halves the time of writing it.
const LEVEL: i32 = 1;
/// Bytes of one line: two escaped paths and numbers.
const LINE_BYTES_MAX: u64 = 512 << 10;

/// A tree, or a part of it, as a map from path to what is there. The root has the empty path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// A tree could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {action} \"{path}\": {}", io::Error::from(*errno))]
pub struct TreeError {
    /// What was tried.
    pub action: &'static str,
    /// Where, relative to the tree.
    pub path: String,
    /// The kernel's answer.
    pub errno: Errno,
}

/// Walks below `root` and writes the list; returns its digest, which is that of the tree.
pub fn record_tree(root: BorrowedFd<'_>, out: impl Write) -> Result<Digest, TreeError> {
    record_known(root, &Known::default(), out)
}

/// The same, with what is known already and need not be read.
pub(crate) fn record_known(
    root: BorrowedFd<'_>,
    known: &Known,
    out: impl Write,
) -> Result<Digest, TreeError> {
    let failed = |error: io::Error| TreeError {
        action: "write the list of",
        path: String::new(),
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    };
    let mut encoder = zstd::Encoder::new(BufWriter::new(out), LEVEL).map_err(failed)?;
    let mut hasher = crate::digest::Hasher::default();
    walk(root, known, &mut |path, node| {
        let line = line::write(path, &node);
        hasher.update(&line);
        encoder.write_all(&line).map_err(failed)
    })?;
    encoder.finish().and_then(|mut out| out.flush()).map_err(failed)?;
    Ok(hasher.finish())
}

/// A list, read line by line: a tree may have a million of them.
pub(crate) struct Lines<R: Read> {
    reader: BufReader<zstd::Decoder<'static, BufReader<R>>>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Begins to read a list.
    pub(crate) fn new(source: R) -> io::Result<Lines<R>> {
        Ok(Lines { reader: BufReader::new(zstd::Decoder::new(source)?), line: Vec::new() })
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<(Vec<u8>, Node)>;

    fn next(&mut self) -> Option<io::Result<(Vec<u8>, Node)>> {
        self.line.clear();
        match (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a line of the list is malformed");
        Some(line::read(&self.line).ok_or_else(malformed))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn record(root: &std::path::Path) -> (Digest, Vec<u8>) {
        let mut bytes = Vec::new();
        let digest = record_tree(std::fs::File::open(root).unwrap().as_fd(), &mut bytes).unwrap();
        (digest, bytes)
    }

    fn tree(list: &[u8]) -> Tree {
        Lines::new(list).unwrap().map(Result::unwrap).collect()
    }

    fn differences(was: &[u8], is: &[u8], max: usize) -> Differences {
        compare(Lines::new(was).unwrap(), Lines::new(is).unwrap(), true, max).unwrap()
    }

    #[test]
    fn a_change_is_named_and_a_copy_is_equal() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/file with space%\n"), "one").unwrap();
        std::fs::write(at("gone"), "x").unwrap();
        symlink("d/ x", at("link")).unwrap();
        let (digest, before) = record(directory.path());
        assert_eq!(record(directory.path()).0, digest);
        let names = tree(&before);
        assert_eq!(names.len(), 5);
        assert_eq!(names[&b"link"[..]].target.as_deref(), Some(&b"d/ x"[..]));
        let times = std::fs::metadata(at("d/file with space%\n")).unwrap().modified().unwrap();
        std::fs::write(at("d/file with space%\n"), "two").unwrap();
        std::fs::File::options()
            .write(true)
            .open(at("d/file with space%\n"))
            .unwrap()
            .set_modified(times)
            .unwrap();
        std::fs::remove_file(at("gone")).unwrap();
        std::fs::write(at("new"), "").unwrap();
        std::fs::set_permissions(at("d"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let (after_digest, after) = record(directory.path());
        assert_ne!(after_digest, digest);
        let found = differences(&before, &after, 100);
        assert_eq!((found.list.len(), found.more), (5, 0), "{found:?}");
        let few = differences(&before, &after, 2);
        assert_eq!((few.list.len(), few.more), (2, 3), "{few:?}");
        let found = found.list.join("\n");
        for words in ["content", "gone: missing", "new: was not there", "d: mode 0755, now 0700"] {
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn extended_attributes_are_a_part_of_the_tree() {
        use rustix::fs::{XattrFlags, removexattr, setxattr};
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "text").unwrap();
        if setxattr(directory.path(), "user.one", b"1", XattrFlags::empty()) == Err(Errno::OPNOTSUPP) {
            return;
        }
        let (plain, _) = record(directory.path());
        setxattr(&file, "user.two", b"2", XattrFlags::empty()).unwrap();
        let (digest, before) = record(directory.path());
        assert_ne!(digest, plain);
        setxattr(&file, "user.two", b"3", XattrFlags::empty()).unwrap();
        removexattr(directory.path(), "user.one").unwrap();
        let found = differences(&before, &record(directory.path()).1, 100).list.join("; ");
        assert_eq!(found, ".: the extended attributes are others; file: the extended attributes are others");
        removexattr(&file, "user.two").unwrap();
        // Attributes that unpacking leaves out say nothing about the tree.
        setxattr(&file, "user.overlay.origin", b"x", XattrFlags::empty()).unwrap();
        setxattr(directory.path(), "user.one", b"1", XattrFlags::empty()).unwrap();
        assert_eq!(record(directory.path()).0, plain);
    }

    #[test]
    fn deep_trees_are_walked_with_few_handles() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut handle =
            rustix::fs::open(directory.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
                .unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&handle, "d", rustix::fs::Mode::RWXU).unwrap();
            handle = rustix::fs::openat(&handle, "d", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
                .unwrap();
        }
        let (_, list) = record(directory.path());
        assert_eq!(tree(&list).len(), 1501);
        crate::remove::remove_children(std::fs::File::open(directory.path()).unwrap()).unwrap();
    }
}
