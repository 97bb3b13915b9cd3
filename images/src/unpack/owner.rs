//! Owners, modes, times and extended attributes of what was created, always through an open handle.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, utimensat,
};
use rustix::io::Errno;

use super::directories::Attributes;
use super::error::{UnpackError, shown, system};
use super::options::{Notes, Ownership};
use super::pax::Moment;

/// The id of nobody, which stands for ids that a user namespace does not map.
const NOBODY: u32 = 65_534;

/// The only namespace of extended attributes that an archive may set.
const XATTR_ALLOWED: &[u8] = b"user.";

/// Attributes by which overlayfs marks deleted and redirected files: from an archive they would fake that.
const XATTR_OVERLAY: &[u8] = b"user.overlay.";

/// Applies ownership as the options say.
pub(super) struct Owner {
    ownership: Ownership,
    /// What became of (uid, gid) pairs that the user namespace did not take as they are.
    squashed: HashMap<(u32, u32), (u32, u32)>,
}

impl Owner {
    pub(super) fn new(ownership: Ownership) -> Owner {
        Owner { ownership, squashed: HashMap::new() }
    }

    /// Sets owner, mode and time of an open file or directory. The mode last but one: chown clears setuid.
    pub(super) fn attributes(&mut self, handle: impl AsFd, wanted: &Attributes) -> Result<(), UnpackError> {
        let handle = handle.as_fd();
        self.chown(wanted.uid, wanted.gid, |uid, gid| fchown(handle, uid, gid))?;
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
        self.chown(wanted.uid, wanted.gid, |uid, gid| {
            chownat(parent, leaf, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        utimensat(parent, leaf, &timestamps(wanted.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system("set the modification time of the link"))
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
            Ownership::Mapped => self.squashed.get(&(uid, gid)).copied().unwrap_or((uid, gid)),
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

/// Sets the extended attributes that policy allows; the others become notes.
pub(super) fn set_xattrs(
    handle: impl AsFd,
    name: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
    notes: &mut Notes,
) -> Result<(), UnpackError> {
    for (key, value) in xattrs {
        let allowed = key.starts_with(XATTR_ALLOWED) && !key.starts_with(XATTR_OVERLAY);
        let set = if allowed {
            fsetxattr(&handle, &key[..], value, XattrFlags::empty())
        } else {
            Err(Errno::OPNOTSUPP)
        };
        match set {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM) => {
                notes.add(|| format!("{}: extended attribute {} left out", shown(name), shown(key)));
            }
            Err(errno) => return Err(system(&format!("set the extended attribute {}", shown(key)))(errno)),
        }
    }
    Ok(())
}

/// The access time stays as it is.
fn timestamps(mtime: Moment) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) },
    }
}
