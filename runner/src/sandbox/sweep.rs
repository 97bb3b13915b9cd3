//! Hands a tree's files to its owner after a step: nothing of the step's private ids, no set-uid file of its making stays.
//! What was there before the job, and has not been touched, is left as it was.
//!
//! By handles, never following a link, with an explicit stack: the tree is hostile. Run inside the step's user
//! namespace (init, a servant) or by a keeper that is root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Directories below one another that are walked; deeper ones are counted as failed.
const DEPTH_MAX: usize = 4096;

/// Whose files change hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everyone's but the owner's, of those changed by the job.
    Changed,
    /// Only those of users in this range of ids, which nobody else has: first id and count.
    Range(u32, u32),
}

/// The beginning of a job, by which its changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// Seconds of the wall clock, which stamps files.
    wall_s: i64,
    /// How far it was ahead of the machine's uptime, which nobody sets: tells whether it has been set back.
    ahead_s: i64,
}

/// Files are stamped with a clock that ticks every few milliseconds; some filesystems round to two seconds.
const MARGIN_S: i64 = 3;

impl Since {
    /// Now.
    pub fn now() -> Self {
        let (wall_s, uptime_s) = clocks();
        Self { wall_s, ahead_s: wall_s - uptime_s }
    }

    /// Every file.
    pub const EVER: Self = Self { wall_s: i64::MIN, ahead_s: i64::MIN };

    /// The least stamp of a file that may have been changed since then.
    fn earliest_s(self) -> i64 {
        let (wall_s, uptime_s) = clocks();
        let set_back_s = self.ahead_s.saturating_sub(wall_s - uptime_s).max(0);
        self.wall_s.saturating_sub(set_back_s).saturating_sub(MARGIN_S)
    }
}

/// Seconds of the wall clock and of the time since boot.
fn clocks() -> (i64, i64) {
    let read = |clock| rustix::time::clock_gettime(clock).tv_sec;
    (read(rustix::time::ClockId::Realtime), read(rustix::time::ClockId::Boottime))
}

/// What to do with a tree.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// Whose files change hands.
    pub rule: Rule,
    /// When the job began.
    pub since: Since,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries that were changed.
    pub changed: u64,
    /// Entries that could not be; third users' files among them.
    pub failed: u64,
}

/// Hands everything below `root`, and `root` itself, that the rule names to the owner, and takes set-uid and set-gid bits and
/// file capabilities from the owner's regular files that the job has changed (a chown does both, chown(2)).
pub fn to_owner(root: BorrowedFd<'_>, sweep: &Sweep) -> Swept {
    let mut swept = Swept::default();
    let earliest_s = sweep.since.earliest_s();
    let mut stack: Vec<Dir> = Vec::new();
    // It may be a handle for nothing but its path, or that of a file.
    stack.extend(open_directory(root, c".").and_then(Dir::new));
    if let Ok(stat) = rustix::fs::fstat(root) {
        settle(root, c"", &stat, sweep, earliest_s, &mut swept);
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
        settle(handle, &name, &stat, sweep, earliest_s, &mut swept);
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

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(parent, name, flags, Mode::empty())
}

/// Changes one entry if it must be. An empty name means the handle itself.
fn settle(
    parent: BorrowedFd<'_>,
    name: &CStr,
    stat: &rustix::fs::Stat,
    sweep: &Sweep,
    earliest_s: i64,
    swept: &mut Swept,
) {
    let Sweep { rule, uid, gid, .. } = *sweep;
    let changed = stat.st_ctime >= earliest_s;
    let named = |user: u32, group: u32| match rule {
        Rule::Changed => changed && (user != uid || group != gid),
        Rule::Range(first, count) => {
            let within = |id: u32| id >= first && id - first < count;
            within(user) || within(group)
        }
    };
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let privileged = regular && changed && stat.st_uid == uid && stat.st_mode & 0o6000 != 0;
    if !named(stat.st_uid, stat.st_gid) && !privileged {
        return;
    }
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    match chownat(parent.as_fd(), name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags) {
        Ok(()) => swept.changed += 1,
        Err(_) => swept.failed += 1,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    /// The mode that a set-uid program of ours has after a sweep by a job that began then.
    fn mode_after(since: Since) -> u32 {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
        let owner = fs::metadata(&program).unwrap();
        let sweep = Sweep { rule: Rule::Changed, since, uid: owner.uid(), gid: owner.gid() };
        let _swept = to_owner(File::open(directory.path()).unwrap().as_fd(), &sweep);
        fs::metadata(&program).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_was_there_before_keeps_its_set_uid_bit() {
        let later = Since { wall_s: Since::now().wall_s + 60, ..Since::now() };
        assert_eq!(mode_after(later), 0o4755);
        assert_eq!(mode_after(Since::now()), 0o755);
        assert_eq!(mode_after(Since::EVER), 0o755);
    }

    #[test]
    fn a_clock_that_was_set_back_hides_nothing() {
        let now = Since::now();
        let before_the_step = Since { wall_s: now.wall_s + 3600, ahead_s: now.ahead_s + 3600 };
        assert_eq!(mode_after(before_the_step), 0o755);
    }
}
