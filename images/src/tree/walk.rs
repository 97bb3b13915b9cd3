//! A walk over a tree through handles: sorted, iterative, with few handles however deep it goes.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::TreeError;
use super::line::{Kind, Node, Sum};
use crate::digest::Hasher;
use crate::unpack::{Moment, OPAQUE_XATTR};

/// Handles kept open on the way down. Below that, each directory is reached from the deepest of them.
const HANDLES_MAX: usize = 128;
/// Bytes of one read.
const READ_BYTES: usize = 128 << 10;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
// A fifo would block without NONBLOCK; it is never opened, but what it was a moment ago does not bind it.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// What unpacking has seen, by inode: so nothing is read twice.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Sorted before use.
    sums: Vec<(u64, Sum)>,
    implied: HashSet<u64>,
}

impl Known {
    pub(crate) fn add_sum(&mut self, inode: u64, sum: Sum) {
        self.sums.push((inode, sum));
    }

    pub(crate) fn add_implied(&mut self, inode: u64) {
        self.implied.insert(inode);
    }

    /// Makes it ready to be asked. An inode that was freed and used again is in the list twice; the later counts.
    pub(crate) fn sort(&mut self) {
        self.sums.sort_by_key(|(inode, _)| *inode);
    }

    /// Directories that no entry named.
    pub(crate) fn implied(&self) -> u64 {
        self.implied.len() as u64
    }

    fn sum(&self, inode: u64) -> Option<Sum> {
        let after = self.sums.partition_point(|(known, _)| *known <= inode);
        let (known, sum) = self.sums.get(after.checked_sub(1)?)?;
        (*known == inode).then_some(*sum)
    }
}

/// Digests content into a [`Sum`].
#[derive(Debug, Default)]
pub(crate) struct SumHasher(Hasher);

impl SumHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds as many zero bytes: the hole of a sparse file.
    pub(crate) fn update_zeros(&mut self, mut count: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let now = count.min(ZEROS.len() as u64);
            self.0.update(&ZEROS[..now as usize]);
            count -= now;
        }
    }

    pub(crate) fn finish(self) -> Sum {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0.finish().bytes()[..16]);
        Sum(half)
    }
}

/// A directory on the way down.
struct Level {
    /// Open, unless it lies deeper than [`HANDLES_MAX`].
    handle: Option<OwnedFd>,
    /// Names that are still to come, the last first.
    names: Vec<Vec<u8>>,
    path_bytes: usize,
}

/// Receives one path with what is there.
pub(crate) type Each<'e> = &'e mut dyn FnMut(&[u8], Node) -> Result<(), TreeError>;

/// Calls `each` for the root and everything below, directories before what is in them; contents are digested.
pub(crate) fn walk(root: BorrowedFd<'_>, known: &Known, each: Each<'_>) -> Result<(), TreeError> {
    walk_all(root, known, true, each)
}

/// The same without reading any content.
pub(crate) fn walk_unread(root: BorrowedFd<'_>, known: &Known, each: Each<'_>) -> Result<(), TreeError> {
    walk_all(root, known, false, each)
}

fn walk_all(root: BorrowedFd<'_>, known: &Known, read: bool, each: Each<'_>) -> Result<(), TreeError> {
    let mut path = Vec::new();
    let handle = openat(root, c".", DIRECTORY, Mode::empty()).map_err(failed("open", &path))?;
    let stat = fstat(&handle).map_err(failed("look at", &path))?;
    each(&path, directory_node(&stat, Some(handle.as_fd()), known))?;
    let mut levels = vec![level(handle, 0, &path)?];
    while let Some(last) = levels.last_mut() {
        path.truncate(last.path_bytes);
        let Some(name) = last.names.pop() else {
            levels.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let parent = reach(&levels, &path[..path.len() - name.len()])
            .map_err(failed("open the directory of", &path))?;
        let stat = statat(&parent, &name[..], AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            each(
                &path,
                leaf_node(parent.as_fd(), &name, &stat, known, read).map_err(failed("read", &path))?,
            )?;
            continue;
        }
        // Without the right to read it, what is in it stays unknown, then as now.
        let handle = match openat(&parent, &name[..], DIRECTORY, Mode::empty()) {
            Err(Errno::ACCESS) => None,
            result => Some(result.map_err(failed("open", &path))?),
        };
        each(&path, directory_node(&stat, handle.as_ref().map(AsFd::as_fd), known))?;
        if let Some(handle) = handle {
            let mut next = level(handle, path.len(), &path)?;
            if levels.len() >= HANDLES_MAX {
                next.handle = None;
            }
            levels.push(next);
        }
    }
    Ok(())
}

/// Returns a handle of the directory `path`, which ends with a slash unless it is the root.
fn reach(levels: &[Level], path: &[u8]) -> Result<OwnedFd, Errno> {
    let open = levels.iter().rposition(|level| level.handle.is_some()).unwrap_or_default();
    let Some(level) = levels.get(open) else { return Err(Errno::NOENT) };
    let Some(handle) = &level.handle else { return Err(Errno::NOENT) };
    let rest = path.get(level.path_bytes..).unwrap_or_default();
    let mut at = openat(handle, c".", OFlags::PATH | DIRECTORY, Mode::empty())?;
    for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = openat(&at, name, OFlags::PATH | DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

fn level(handle: OwnedFd, path_bytes: usize, path: &[u8]) -> Result<Level, TreeError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(&handle).map_err(failed("read the directory", path))? {
        let entry = entry.map_err(failed("read the directory", path))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(Level { handle: Some(handle), names, path_bytes })
}

fn directory_node(stat: &Stat, handle: Option<BorrowedFd<'_>>, known: &Known) -> Node {
    let mut value = [0; 1];
    let mark = handle.map(|handle| fgetxattr(handle, OPAQUE_XATTR, &mut value));
    let opaque = mark.is_some_and(|mark| mark == Ok(1)) && value == *b"y";
    let implied = known.implied.contains(&stat.st_ino);
    Node { opaque, implied, ..node(Kind::Directory, stat) }
}

fn leaf_node(
    parent: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    known: &Known,
    read: bool,
) -> Result<Node, Errno> {
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let sum = match known.sum(stat.st_ino) {
                Some(sum) => Some(sum),
                None if !read => None,
                None => content(parent, name)?,
            };
            Node { sum, size: stat.st_size as u64, ..node(Kind::File, stat) }
        }
        FileType::Symlink => {
            let target = readlinkat(parent, name, Vec::new())?.into_bytes();
            Node { target: Some(target), ..node(Kind::Symlink, stat) }
        }
        FileType::Fifo => node(Kind::Fifo, stat),
        FileType::CharacterDevice if stat.st_rdev == 0 => node(Kind::Whiteout, stat),
        _ => node(Kind::Other, stat),
    })
}

fn node(kind: Kind, stat: &Stat) -> Node {
    Node {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Moment { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        size: 0,
        sum: None,
        target: None,
        opaque: false,
        implied: false,
    }
}

/// Digests a file; one that this process may not read has no sum.
fn content(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Sum>, Errno> {
    let file = match openat(parent, name, FILE, Mode::empty()) {
        Err(Errno::ACCESS) => return Ok(None),
        result => result?,
    };
    let mut hasher = SumHasher::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match rustix::io::read(&file, &mut buffer[..]) {
            Ok(0) => return Ok(Some(hasher.finish())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn failed(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> TreeError {
    let path = crate::unpack::shown_name(path);
    move |errno| TreeError { action, path, errno }
}
