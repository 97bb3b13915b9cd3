//! Hands a tree's files to its owner after a step: nothing of the step's private ids, no set-uid file stays.
//!
//! By handles, never following a link, with an explicit stack: the tree is hostile. Run inside the step's user
//! namespace (init, a servant) or by a keeper that is root.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, openat, statat};
use rustix::io::Errno;

/// Directories below one another that are walked; deeper ones are counted as failed.
const DEPTH_MAX: usize = 4096;

/// Whose files change hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Everyone's but the owner's.
    Everything,
    /// Only those of users in this range of ids: first id and count.
    Range(u32, u32),
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries that were changed.
    pub changed: u64,
    /// Entries that could not be; third users' files among them.
    pub failed: u64,
}

/// Hands everything below `root`, and `root` itself, that `rule` names to `uid`:`gid`, and takes set-uid and set-gid bits
/// and file capabilities from the owner's regular files (a chown does both, chown(2)).
pub fn to_owner(root: BorrowedFd<'_>, rule: &Rule, uid: u32, gid: u32) -> Swept {
    let mut swept = Swept::default();
    let mut stack: Vec<Dir> = Vec::new();
    if let Ok(directory) = Dir::read_from(root) {
        stack.push(directory);
    }
    if let Ok(stat) = rustix::fs::fstat(root) {
        settle(root, c"", &stat, rule, uid, gid, &mut swept);
    }
    while let Some(directory) = stack.last_mut() {
        let Some(entry) = directory.read() else {
            stack.pop();
            continue;
        };
        let Ok(entry) = entry else {
            swept.failed += 1;
            stack.pop();
            continue;
        };
        let name: CString = entry.file_name().to_owned();
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        let Ok(handle) = directory.fd() else { continue };
        let Ok(stat) = statat(handle, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        settle(handle, &name, &stat, rule, uid, gid, &mut swept);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        match open_directory(handle, &name) {
            Ok(below) if stack.len() < DEPTH_MAX => stack.extend(Dir::new(below)),
            Ok(_) | Err(_) => swept.failed += 1,
        }
    }
    swept
}

fn open_directory(parent: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(parent, name, flags, Mode::empty())
}

/// Changes one entry if it must be. An empty name means the handle itself.
fn settle(
    parent: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    stat: &rustix::fs::Stat,
    rule: &Rule,
    uid: u32,
    gid: u32,
    swept: &mut Swept,
) {
    let named = |user: u32, group: u32| match rule {
        Rule::Everything => user != uid || group != gid,
        Rule::Range(first, count) => {
            let within = |id: u32| id >= *first && id - first < *count;
            within(user) || within(group)
        }
    };
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let privileged = regular && stat.st_uid == uid && stat.st_mode & 0o6000 != 0;
    if !named(stat.st_uid, stat.st_gid) && !privileged {
        return;
    }
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    match chownat(parent.as_fd(), name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags) {
        Ok(()) => swept.changed += 1,
        Err(_) => swept.failed += 1,
    }
}
