//! Adds up the blocks of trees. By handles, never following a link, with an explicit stack: the trees are hostile.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::DiskUse;
use crate::outcome::BigFile;

/// Files that are named.
const BIGGEST_MAX: usize = 10;
/// Directories below one another: each is open while it is walked, and a process has 1,024 descriptors.
const DEPTH_MAX: usize = 800;
/// Files with several names that are remembered, so as to count each once: 16 MiB. More of them are counted by name.
const LINKED_MAX: usize = 1 << 20;
/// `st_blocks` counts these, whatever the filesystem's own are (inode(7)).
const BLOCK_BYTES: u64 = 512;
/// A time in seconds and nanoseconds.
type Stamp = (i64, i64);

/// A tree, and what it is called inside.
pub(super) struct Tree {
    pub name: String,
    pub root: OwnedFd,
}

/// What is measured, against what was there.
pub(super) struct Measure {
    /// The first is the step's own: all of it counts.
    trees: Vec<Tree>,
    /// Bytes of the others before the step.
    before: Vec<u64>,
    /// When the step began, by the clock that stamps files.
    started: Stamp,
}

impl Measure {
    /// Counts what is there.
    pub fn new(trees: Vec<Tree>) -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let mut measure = Self { trees, before: Vec::new(), started: (now.tv_sec, now.tv_nsec) };
        let sizes = measure.trees.iter().skip(1).map(|tree| Walk::over(tree, (i64::MAX, 0)).bytes);
        measure.before = std::iter::once(0).chain(sizes.collect::<Vec<_>>()).collect();
        measure
    }

    /// Counts what has been added since.
    pub fn walk(&mut self) -> DiskUse {
        let mut used = DiskUse::default();
        let mut biggest = Vec::new();
        for (index, (tree, before)) in self.trees.iter().zip(&self.before).enumerate() {
            let since = if index == 0 { (i64::MIN, 0) } else { self.started };
            let walk = Walk::over(tree, since);
            used.bytes += walk.bytes.saturating_sub(*before);
            used.hidden = used.hidden.or(walk.hidden);
            biggest.extend(walk.biggest.into_iter().map(|Reverse(found)| found));
        }
        biggest.sort_unstable_by(|one, other| other.cmp(one));
        biggest.truncate(BIGGEST_MAX);
        used.biggest = biggest.into_iter().map(|(bytes, path)| BigFile { path, bytes }).collect();
        used
    }
}

/// One walk over one tree.
struct Walk {
    bytes: u64,
    /// The smallest first.
    biggest: BinaryHeap<Reverse<(u64, String)>>,
    linked: HashSet<(u64, u64)>,
    hidden: Option<String>,
    /// Only files changed after that are named.
    since: Stamp,
    device: u64,
}

impl Walk {
    fn over(tree: &Tree, since: Stamp) -> Self {
        let (bytes, hidden) = (0, None);
        let mut walk =
            Self { bytes, hidden, biggest: BinaryHeap::new(), linked: HashSet::new(), since, device: 0 };
        let Ok(stat) = fstat(&tree.root) else { return walk };
        walk.device = stat.st_dev;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            walk.below(tree);
        } else {
            walk.count(&stat, || tree.name.clone());
        }
        walk
    }

    fn below(&mut self, tree: &Tree) {
        let mut stack: Vec<(CString, Dir)> = Vec::new();
        match open_directory(tree.root.as_fd(), c".").and_then(Dir::new) {
            Ok(root) => stack.push((CString::default(), root)),
            Err(errno) => return self.hide(&tree.name, errno),
        }
        while let Some((_, directory)) = stack.last_mut() {
            let Some(Ok(entry)) = directory.read() else {
                stack.pop();
                continue;
            };
            let name: CString = entry.file_name().to_owned();
            let Ok(handle) = directory.fd() else { continue };
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            // One that is gone takes nothing.
            let Ok(stat) = statat(handle, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            // Another filesystem that is mounted there is not what the step fills.
            if stat.st_dev != self.device {
                continue;
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.count(&stat, || path(&tree.name, &stack_names(&stack), &name));
                continue;
            }
            self.bytes += stat.st_blocks as u64 * BLOCK_BYTES;
            if stack.len() >= DEPTH_MAX {
                let names = stack_names(&stack);
                return self
                    .hide(&path(&tree.name, &names[..names.len().min(3)], c"..."), Errno::NAMETOOLONG);
            }
            let handle = stack.last().and_then(|(_, directory)| directory.fd().ok());
            match handle.map(|handle| open_directory(handle, &name).and_then(Dir::new)) {
                Some(Ok(below)) => stack.push((name, below)),
                Some(Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) | None => {}
                Some(Err(errno)) => {
                    let at = path(&tree.name, &stack_names(&stack), &name);
                    return self.hide(&at, errno);
                }
            }
        }
    }

    /// What cannot be walked could hold anything.
    fn hide(&mut self, path: &str, errno: Errno) {
        let why = if errno == Errno::NAMETOOLONG {
            format!("{DEPTH_MAX} directories below one another")
        } else {
            errno.to_string()
        };
        self.hidden = Some(format!("{path}: {why}"));
    }

    fn count(&mut self, stat: &Stat, path: impl FnOnce() -> String) {
        let bytes = stat.st_blocks as u64 * BLOCK_BYTES;
        let several = stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
        if several && self.linked.len() < LINKED_MAX && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.bytes += bytes;
        let least = self.biggest.peek().map_or(0, |Reverse((least, _))| *least);
        let room = self.biggest.len() < BIGGEST_MAX;
        if bytes == 0 || (stat.st_ctime, stat.st_ctime_nsec as i64) <= self.since || (!room && bytes <= least)
        {
            return;
        }
        if !room {
            self.biggest.pop();
        }
        self.biggest.push(Reverse((bytes, path())));
    }
}

fn stack_names(stack: &[(CString, Dir)]) -> Vec<&CStr> {
    stack.iter().skip(1).map(|(name, _)| name.as_c_str()).collect()
}

/// The path inside. Of the step's own directory, `u` is its root, and `home` what runners inside keep.
fn path(tree: &str, above: &[&CStr], name: &CStr) -> String {
    let words: Vec<String> =
        above.iter().copied().chain([name]).map(|word| word.to_string_lossy().into_owned()).collect();
    match (tree, words.split_first()) {
        ("", Some((first, rest))) if first == "u" => format!("/{}", rest.join("/")),
        ("", Some((first, rest))) if first == "home" => {
            format!("{}/{}", crate::run::layer::NESTED_HOME, rest.join("/"))
        }
        _ => format!("{tree}/{}", words.join("/")),
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;

    fn tree(name: &str, path: &Path) -> Tree {
        Tree { name: name.to_owned(), root: File::open(path).unwrap().into() }
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_added_counts_and_what_was_there_does_not() {
        let (own, workspace) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(own.path().join("u/tmp")).unwrap();
        fs::write(workspace.path().join("before"), vec![1; 4 * MIB]).unwrap();
        let mut measure = Measure::new(vec![tree("", own.path()), tree("/workspace", workspace.path())]);
        assert!(measure.walk().bytes < MIB as u64);
        // What changes within the tick in which it began is taken for older.
        let tick = || clock_gettime(ClockId::RealtimeCoarse);
        while (tick().tv_sec, tick().tv_nsec) <= measure.started {
            std::thread::yield_now();
        }
        fs::write(own.path().join("u/tmp/big"), vec![1; 2 * MIB]).unwrap();
        fs::write(workspace.path().join("new"), vec![1; MIB]).unwrap();
        fs::hard_link(workspace.path().join("new"), workspace.path().join("again")).unwrap();
        // Holes take nothing.
        File::create(workspace.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let used = measure.walk();
        assert!((3 * MIB as u64..3 * MIB as u64 + 262_144).contains(&used.bytes), "{used:?}");
        assert_eq!(used.biggest[0].path, "/tmp/big");
        assert!(["/workspace/new", "/workspace/again"].contains(&used.biggest[1].path.as_str()), "{used:?}");
        assert_eq!((used.hidden.as_ref(), used.exceeds(3 << 20), used.exceeds(4 << 20)), (None, true, false));
        fs::remove_file(own.path().join("u/tmp/big")).unwrap();
        assert!(measure.walk().bytes < 2 * MIB as u64);
    }

    #[test]
    fn nothing_hides_in_the_depth() {
        let own = tempfile::tempdir().unwrap();
        let mut at: OwnedFd = File::open(own.path()).unwrap().into();
        for _ in 0..=DEPTH_MAX {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let used = Measure::new(vec![tree("", own.path())]).walk();
        let hidden = used.hidden.clone().unwrap();
        assert!(hidden.contains("800 directories below one another"), "{hidden}");
        assert!(used.exceeds(u64::MAX));
    }
}
