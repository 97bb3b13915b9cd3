//! A walk over a tree through handles: sorted, iterative, with few handles however deep it goes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::TreeError;
use super::attributes::attributes_sum;
use super::known::{Known, SumHasher};
use super::line::{Kind, Node, Sum};
use super::names::Names;
use crate::unpack::{Moment, OPAQUE_XATTR};

/// Handles kept open on the way down. Below that, each directory is reached from the deepest of them.
const HANDLES_MAX: usize = 128;
/// Bytes of one read.
const READ_BYTES: usize = 128 << 10;
/// Memory for names of all directories on the way down: more than one portion has at most, so that few must be read again.
const NAMES_BYTES_MAX: usize = 12 << 20;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
// A fifo would block without NONBLOCK; it is never opened, but what it was a moment ago does not bind it.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A directory on the way down.
struct Level {
    /// Open, unless it lies deeper than [`HANDLES_MAX`].
    handle: Option<OwnedFd>,
    /// Names that are still to come.
    names: Names,
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
    let node = directory_node(&stat, Some(handle.as_fd()), known);
    each(&path, node.map_err(failed("read", &path))?)?;
    let mut levels = Levels::default();
    levels.push(handle, 0).map_err(failed("read the directory", &path))?;
    while let Some(above_bytes) = levels.list.last().map(|level| level.path_bytes) {
        path.truncate(above_bytes);
        let went_on = levels.next(&mut path);
        if !went_on.map_err(failed("read the directory", &path))? {
            continue;
        }
        let name = &path[above_bytes + usize::from(above_bytes > 0)..];
        let parent = levels.reach(&path[..above_bytes]).map_err(failed("open the directory of", &path))?;
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let node = leaf_node(parent.as_fd(), name, &stat, known, read).map_err(failed("read", &path))?;
            each(&path, node)?;
            continue;
        }
        // Without the right to read it, what is in it stays unknown, then as now.
        let handle = match openat(&parent, name, DIRECTORY, Mode::empty()) {
            Err(Errno::ACCESS) => None,
            result => Some(result.map_err(failed("open", &path))?),
        };
        drop(parent);
        let node = directory_node(&stat, handle.as_ref().map(AsFd::as_fd), known);
        each(&path, node.map_err(failed("read", &path))?)?;
        if let Some(handle) = handle {
            levels.push(handle, path.len()).map_err(failed("read the directory", &path))?;
        }
    }
    Ok(())
}

/// The directories on the way down.
#[derive(Default)]
struct Levels {
    list: Vec<Level>,
    /// Memory of all their names.
    names_bytes: usize,
}

impl Levels {
    /// Goes down into a directory whose path has so many bytes.
    fn push(&mut self, handle: OwnedFd, path_bytes: usize) -> Result<(), Errno> {
        let names = Names::read(&handle)?;
        self.names_bytes += names.bytes();
        let handle = (self.list.len() < HANDLES_MAX).then_some(handle);
        self.list.push(Level { handle, names, path_bytes });
        self.release();
        Ok(())
    }

    /// Appends the next name of the last directory to its path; returns false if there was none and the level is gone.
    fn next(&mut self, path: &mut Vec<u8>) -> Result<bool, Errno> {
        if self.list.last().is_some_and(|level| level.names.wants_more()) {
            let handle = openat(&self.reach(path)?, c".", DIRECTORY, Mode::empty())?;
            if let Some(level) = self.list.last_mut() {
                self.names_bytes -= level.names.bytes();
                level.names.read_more(handle)?;
                self.names_bytes += level.names.bytes();
            }
            self.release();
        }
        let Some(level) = self.list.last_mut() else { return Ok(false) };
        self.names_bytes -= level.names.bytes();
        let taken = match level.names.take() {
            Some(name) => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                true
            }
            None => false,
        };
        self.names_bytes += level.names.bytes();
        if !taken {
            self.names_bytes -= level.names.bytes();
            self.list.pop();
        }
        Ok(taken)
    }

    /// Frees names while they are too many: first those of the topmost directories, which are needed last.
    fn release(&mut self) {
        let last = self.list.len().saturating_sub(1);
        for level in &mut self.list[..last] {
            if self.names_bytes <= NAMES_BYTES_MAX {
                return;
            }
            self.names_bytes -= level.names.bytes();
            level.names.release();
        }
    }

    /// Returns a handle of the directory `path`, which is on the way down.
    fn reach(&self, path: &[u8]) -> Result<Reached<'_>, Errno> {
        let open = self.list.iter().rposition(|level| level.handle.is_some()).unwrap_or_default();
        let Some(level) = self.list.get(open) else { return Err(Errno::NOENT) };
        let Some(handle) = &level.handle else { return Err(Errno::NOENT) };
        let rest = path.get(level.path_bytes..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Reached::Open(handle.as_fd()));
        }
        let mut at = openat(handle, c".", OFlags::PATH | DIRECTORY, Mode::empty())?;
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at = openat(&at, name, OFlags::PATH | DIRECTORY, Mode::empty())?;
        }
        Ok(Reached::Opened(at))
    }
}

/// A directory on the way down.
enum Reached<'l> {
    /// Its own handle.
    Open(BorrowedFd<'l>),
    Opened(OwnedFd),
}

impl AsFd for Reached<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Reached::Open(handle) => *handle,
            Reached::Opened(handle) => handle.as_fd(),
        }
    }
}

fn directory_node(stat: &Stat, handle: Option<BorrowedFd<'_>>, known: &Known) -> Result<Node, Errno> {
    let mut value = [0; 1];
    let mark = handle.map(|handle| fgetxattr(handle, OPAQUE_XATTR, &mut value));
    let opaque = mark.is_some_and(|mark| mark == Ok(1)) && value == *b"y";
    let implied = known.is_implied(stat.st_ino);
    let asked = handle.filter(|_| known.may_have_attributes(stat.st_ino));
    let attributes = asked.map(attributes_sum).transpose()?.flatten();
    Ok(Node { opaque, implied, attributes, ..node(Kind::Directory, stat) })
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
            let (sum, attributes) = match known.sum(stat.st_ino) {
                Some(sum) if !known.may_have_attributes(stat.st_ino) => (Some(sum), None),
                _ if !read => (None, None),
                sum => content(parent, name, sum)?,
            };
            Node { sum, attributes, size: stat.st_size as u64, ..node(Kind::File, stat) }
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
        attributes: None,
    }
}

/// Digests a file, unless its sum is known, and its extended attributes; one that this process may not read has no sums.
fn content(
    parent: BorrowedFd<'_>,
    name: &[u8],
    known: Option<Sum>,
) -> Result<(Option<Sum>, Option<Sum>), Errno> {
    let file = match openat(parent, name, FILE, Mode::empty()) {
        Err(Errno::ACCESS) => return Ok((known, None)),
        result => result?,
    };
    let attributes = attributes_sum(&file)?;
    if known.is_some() {
        return Ok((known, attributes));
    }
    let mut hasher = SumHasher::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match rustix::io::read(&file, &mut buffer[..]) {
            Ok(0) => return Ok((Some(hasher.finish()), attributes)),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn failed<'p>(action: &'static str, path: &'p [u8]) -> impl FnOnce(Errno) -> TreeError + use<'p> {
    move |errno| TreeError { action, path: crate::unpack::shown_name(path), errno }
}
