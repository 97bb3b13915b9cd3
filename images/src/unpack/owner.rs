//! Owners, modes, times and extended attributes of what was created, always through an open handle.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, fstat, futimens, utimensat,
};
use rustix::io::Errno;

use super::archive::Entry;
use super::directories::Attributes;
use super::error::{UnpackError, shown, system};
use super::options::{Notes, Ownership};
use super::pax::Moment;

/// The id of nobody, which stands for ids that a user namespace does not map.
const NOBODY: u32 = 65_534;

/// The only namespace of extended attributes that an archive may set.
const XATTR_ALLOWED: &[u8] = b"user.";

/// The bits of a mode that a file may have from its creation; set-id bits and the sticky bit come at the end.
const PERMISSIONS: u32 = 0o777;

/// The mode of a file until its own is set.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Attributes by which overlayfs marks deleted and redirected files: from an archive they would fake that.
const XATTR_OVERLAY: &[u8] = b"user.overlay.";

/// Applies ownership as the options say.
pub(super) struct Owner {
    ownership: Ownership,
    /// What became of (uid, gid) pairs that the user namespace did not take as they are.
    squashed: HashMap<(u32, u32), (u32, u32)>,
    given: Given,
}

/// What the kernel gives to a fresh file by itself, learned from the files, so that most need no call to set it.
///
/// That holds for the whole tree if all of it is made by this unpacking: then no directory in it is set-gid or has an
/// access list that its maker did not get from the root directory as well.
#[derive(Default)]
struct Given {
    is_uniform: bool,
    owner: Option<(u32, u32)>,
    /// Modes that were asked for, and whether they come out so; a tree has a handful.
    modes: Vec<(u32, bool)>,
}

/// Modes that are remembered; an archive with more of them is made to waste time.
const GIVEN_MODES_MAX: usize = 16;

impl Owner {
    /// `is_uniform`: nothing was in the root before.
    pub(super) fn new(ownership: Ownership, is_uniform: bool) -> Owner {
        let given = Given { is_uniform, ..Given::default() };
        Owner { ownership, squashed: HashMap::new(), given }
    }

    /// Returns the mode to create a file with: its own where that may spare a call. Attributes are set only on files
    /// that their owner may write.
    pub(super) fn creation_mode(&self, entry: &Entry) -> Mode {
        match self.given.is_uniform && entry.xattrs.is_empty() {
            true => Mode::from_raw_mode(entry.mode & PERMISSIONS),
            false => PRIVATE_FILE,
        }
    }

    /// Sets owner, mode and time of a file that was just made with the mode `asked`.
    pub(super) fn fresh_attributes(
        &mut self,
        handle: impl AsFd,
        asked: Mode,
        wanted: &Attributes,
    ) -> Result<(), UnpackError> {
        let handle = handle.as_fd();
        let asked = asked.as_raw_mode();
        if self.given.is_uniform && self.given.comes_out(asked).is_none() {
            let stat = fstat(handle).map_err(system("look at the file"))?;
            self.given.learn(asked, &stat);
        }
        if !self.is_given(wanted) {
            self.chown(wanted.uid, wanted.gid, |uid, gid| fchown(handle, uid, gid))?;
        }
        // Set-id bits come last: chown clears them, and so does a write.
        if wanted.mode != asked || self.given.comes_out(asked) != Some(true) {
            fchmod(handle, Mode::from_raw_mode(wanted.mode)).map_err(system("set the mode"))?;
        }
        futimens(handle, &timestamps(wanted.mtime)).map_err(system("set the modification time"))
    }

    /// Sets owner, mode and time of an open file or directory that is now as `stat` says. The mode last but one: chown
    /// clears set-id bits.
    pub(super) fn attributes(
        &mut self,
        handle: impl AsFd,
        stat: &Stat,
        wanted: &Attributes,
    ) -> Result<(), UnpackError> {
        let handle = handle.as_fd();
        if (stat.st_uid, stat.st_gid) != self.settled(wanted.uid, wanted.gid) {
            self.chown(wanted.uid, wanted.gid, |uid, gid| fchown(handle, uid, gid))?;
        }
        fchmod(handle, Mode::from_raw_mode(wanted.mode)).map_err(system("set the mode"))?;
        futimens(handle, &timestamps(wanted.mtime)).map_err(system("set the modification time"))
    }

    /// Sets owner and time of a symbolic link, which has no mode.
    pub(super) fn link_attributes(
        &mut self,
        parent: impl AsFd,
        leaf: &[u8],
        wanted: &Attributes,
    ) -> Result<(), UnpackError> {
        let parent = parent.as_fd();
        if !self.is_given(wanted) {
            self.chown(wanted.uid, wanted.gid, |uid, gid| {
                chownat(parent, leaf, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            })?;
        }
        utimensat(parent, leaf, &timestamps(wanted.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system("set the modification time of the link"))
    }

    /// Whether a fresh file has the wanted owner from the beginning.
    fn is_given(&self, wanted: &Attributes) -> bool {
        self.given.owner == Some(self.settled(wanted.uid, wanted.gid))
    }

    /// Returns the ids that a pair ends as, as far as it is known.
    fn settled(&self, uid: u32, gid: u32) -> (u32, u32) {
        self.squashed.get(&(uid, gid)).copied().unwrap_or((uid, gid))
    }

    fn chown(
        &mut self,
        uid: u32,
        gid: u32,
        chown: impl Fn(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> Result<(), UnpackError> {
        let (user, group) = match self.ownership {
            Ownership::Caller => return Ok(()),
            Ownership::Keep => (uid, gid),
            Ownership::Mapped => self.settled(uid, gid),
        };
        let result = chown(Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        if self.ownership == Ownership::Mapped && result == Err(Errno::INVAL) {
            // EINVAL says that one of the two is not mapped, not which.
            let unmapped = |result: Result<(), Errno>| result == Err(Errno::INVAL);
            let user = if unmapped(chown(Some(Uid::from_raw(uid)), None)) { NOBODY } else { uid };
            let group = if unmapped(chown(None, Some(Gid::from_raw(gid)))) { NOBODY } else { gid };
            self.squashed.insert((uid, gid), (user, group));
            return chown(Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
                .map_err(system(&format!("give it to {user}:{group}, the ids being unmapped")));
        }
        result.map_err(|errno| system(&format!("give it to {user}:{group}"))(errno))
    }
}

impl Given {
    /// Whether a file that is made with this mode has it then; the umask may be in the way.
    fn comes_out(&self, asked: u32) -> Option<bool> {
        self.modes.iter().find(|(mode, _)| *mode == asked).map(|(_, does)| *does)
    }

    /// Takes the first look at a file that was made with the permissions `asked`.
    fn learn(&mut self, asked: u32, stat: &Stat) {
        let owner = (stat.st_uid, stat.st_gid);
        if *self.owner.get_or_insert(owner) != owner {
            // The promise of uniformity is broken: rely on nothing more.
            *self = Given::default();
        } else if self.modes.len() < GIVEN_MODES_MAX {
            self.modes.push((asked, stat.st_mode & 0o7777 == asked));
        }
    }
}

/// Whether an extended attribute of this name is kept.
pub(crate) fn is_kept_attribute(key: &[u8]) -> bool {
    key.starts_with(XATTR_ALLOWED) && !key.starts_with(XATTR_OVERLAY)
}

/// Sets the extended attributes that policy allows; the others become notes. Returns whether any was set.
pub(super) fn set_xattrs(
    handle: impl AsFd,
    name: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
    notes: &mut Notes,
) -> Result<bool, UnpackError> {
    let mut any = false;
    for (key, value) in xattrs {
        let set = if is_kept_attribute(key) {
            fsetxattr(&handle, &key[..], value, XattrFlags::empty())
        } else {
            Err(Errno::OPNOTSUPP)
        };
        match set {
            Ok(()) => any = true,
            Err(Errno::OPNOTSUPP | Errno::PERM) => {
                notes.add(|| format!("{}: extended attribute {} left out", shown(name), shown(key)));
            }
            Err(errno) => return Err(system(&format!("set the extended attribute {}", shown(key)))(errno)),
        }
    }
    Ok(any)
}

/// The access time stays as it is.
pub(super) fn timestamps(mtime: Moment) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) },
    }
}
