//! `mount_setattr(2)`: what `rustix::mount` lacks.

#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

/// The kernel's `struct mount_attr` (mount_setattr(2)).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes on the mount that `mount` names, and with `recursive` on all below it. `user_namespace`
/// adds `MOUNT_ATTR_IDMAP` with its maps; the mount must then be detached and its filesystem able to.
///
/// # Errors
/// Those of mount_setattr(2); EINVAL where the filesystem knows no id maps, ENOSYS before Linux 5.12.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    recursive: bool,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    let mut attributes =
        MountAttr { attr_set: u64::from(set.bits()), attr_clr: 0, propagation: 0, userns_fd: 0 };
    if let Some(namespace) = user_namespace {
        attributes.attr_set |= u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
        attributes.userns_fd = namespace.as_raw_fd() as u64;
    }
    // SAFETY: the path is an empty C string, and `attributes` is a mount_attr of the size passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<MountAttr>(),
        )
    };
    if result == -1 { Err(super::clone::last_errno()) } else { Ok(()) }
}
