//! What a tree on disk consists of, as a list: written when a layer is unpacked, compared when it is verified.
//!
//! One line for each name, in the order of a walk that sorts names: kind, mode, owner, time, size, a digest of the content.
//! Whoever changes a byte, a mode or a name below a layer is found out by walking again.

mod line;
mod walk;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

pub(crate) use line::{Kind, Node};
pub(crate) use walk::{Known, SumHasher, walk, walk_unread};

use crate::digest::Digest;

/// Compression of the list: the fastest, which halves the time of writing it.
const LEVEL: i32 = 1;
/// Bytes of one line: two escaped paths and numbers.
const LINE_BYTES_MAX: u64 = 512 << 10;

/// A tree as a map from path to what is there. The root has the empty path.
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

/// Reads a list.
pub(crate) fn read_tree(source: impl Read) -> io::Result<Tree> {
    let mut reader = BufReader::new(zstd::Decoder::new(source)?);
    let mut tree = Tree::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(tree);
        }
        let (path, node) = line::read(&line)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line of the list is malformed"))?;
        tree.insert(path, node);
    }
}

/// One difference between a tree as it was and as it is, in words.
pub(crate) fn differences(was: &Tree, is: &Tree, with_owners: bool) -> Vec<String> {
    let shown = |path: &[u8]| if path.is_empty() { ".".to_owned() } else { crate::unpack::shown_name(path) };
    let mut found = Vec::new();
    for (path, old) in was {
        match is.get(path) {
            None => found.push(format!("{}: missing", shown(path))),
            Some(new) => found.extend(
                old.changes(new, with_owners).into_iter().map(|what| format!("{}: {what}", shown(path))),
            ),
        }
    }
    let more = is.keys().filter(|path| !was.contains_key(*path));
    found.extend(more.map(|path| format!("{}: was not there", shown(path))));
    found
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn record(root: &std::path::Path) -> (Digest, Tree) {
        let mut bytes = Vec::new();
        let digest = record_tree(std::fs::File::open(root).unwrap().as_fd(), &mut bytes).unwrap();
        (digest, read_tree(&bytes[..]).unwrap())
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
        assert_eq!(before.len(), 5);
        assert_eq!(before[&b"link"[..]].target.as_deref(), Some(&b"d/ x"[..]));
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
        let found = differences(&before, &after, true).join("\n");
        for words in ["content", "gone: missing", "new: was not there", "d: mode 0755, now 0700"] {
            assert!(found.contains(words), "{words}: {found}");
        }
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
        let (_, tree) = record(directory.path());
        assert_eq!(tree.len(), 1501);
        crate::remove::remove_children(std::fs::File::open(directory.path()).unwrap()).unwrap();
    }
}
