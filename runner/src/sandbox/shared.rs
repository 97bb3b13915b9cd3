//! Overlays that all sandboxes of a job share: their lower directories are never written, and what steps write goes into one
//! upper directory.
//!
//! An overlay works with the rights of whoever mounts it, and those of a step are the ones that its files need. So a short-lived
//! process takes the steps' id maps, mounts the overlays detached, and hands them to the stage, which attaches them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::{Errno, read};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::umask;

use super::child::take_ids;
use super::spec::{SharedMaps, SharedOverlay};
use super::{servant, wire};
use crate::sys::clone::{self, Side};
use crate::sys::process::{self, Who};

/// What failed, and why.
type Trouble = (String, Errno);

/// Mounts them, detached, in their order. Paths are of the caller's root.
pub(super) fn mount_all(overlays: &[SharedOverlay], maps: &SharedMaps) -> Result<Vec<OwnedFd>, Trouble> {
    let tried = |what: &str| {
        let what = what.to_owned();
        move |errno: Errno| (what, errno)
    };
    let (hears, tells) = pipe_with(PipeFlags::CLOEXEC).map_err(tried("make a pipe"))?;
    let (ours, theirs) = wire::pair().map_err(tried("make a socket pair"))?;
    let cloned = clone::clone(clone::NEW_USER | clone::NEW_MOUNT, None);
    let (pid, pidfd) = match cloned.map_err(tried("clone a process that mounts caches"))? {
        Side::Parent(pid, pidfd) => (pid, pidfd),
        Side::Child => {
            drop((tells, ours));
            mount_and_send(overlays, maps, &hears, &theirs);
            process::exit_now(0)
        }
    };
    drop((hears, theirs));
    let written = servant::write_maps(pid, &maps.uid_map, &maps.gid_map, maps.single_id, tells);
    let received = written.map_err(tried("write the id maps of the caches")).and_then(|()| {
        let one = |overlay: &SharedOverlay| receive(&ours).map_err(|errno| (describe(overlay), errno));
        overlays.iter().map(one).collect::<Result<Vec<_>, _>>()
    });
    drop(ours);
    let _ended = process::reap(Who::Pidfd(pidfd.as_fd()), true);
    received
}

fn describe(overlay: &SharedOverlay) -> String {
    format!("mount the cache {}", overlay.at)
}

/// One overlay, or why there is none.
fn receive(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut buffer = [0; 8];
    let (bytes, mut fds) = wire::receive(socket.as_fd(), &mut buffer)?;
    match (bytes, fds.pop()) {
        (_, Some(mount)) => Ok(mount),
        ([b'E', a, b, c, d], None) => Err(Errno::from_raw_os_error(i32::from_le_bytes([*a, *b, *c, *d]))),
        _ => Err(Errno::PIPE),
    }
}

/// The process that mounts: it ends with the first failure.
fn mount_and_send(overlays: &[SharedOverlay], maps: &SharedMaps, hears: &OwnedFd, socket: &OwnedFd) {
    if read(hears, &mut [0; 1]) != Ok(1) {
        return;
    }
    umask(Mode::empty());
    let taken = take_ids(maps.inside.0, maps.inside.1);
    for overlay in overlays {
        match taken.and_then(|()| mount(overlay)) {
            Ok(tree) => {
                if wire::send(socket.as_fd(), b"M", &[tree.as_fd()]).is_err() {
                    return;
                }
            }
            Err(errno) => {
                let mut message = [b'E', 0, 0, 0, 0];
                for (to, from) in message.iter_mut().skip(1).zip(errno.raw_os_error().to_le_bytes()) {
                    *to = from;
                }
                let _stage_gone = wire::send(socket.as_fd(), &message, &[]);
                return;
            }
        }
    }
}

/// Nothing of it is flushed when it goes: what is kept of it, the keeper flushes.
fn mount(overlay: &SharedOverlay) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let lower = match overlay.lower.as_slice() {
        [] => "/empty".to_owned(),
        layers => layers.iter().map(|layer| format!("/{layer}")).collect::<Vec<_>>().join(":"),
    };
    for (key, value) in [
        ("lowerdir", lower.as_str()),
        ("upperdir", &format!("/{}/u", overlay.upper)),
        ("workdir", &format!("/{}/w", overlay.upper)),
        ("index", "off"),
        ("xino", "off"),
    ] {
        fsconfig_set_string(&context, key, value)?;
    }
    for flag in ["userxattr", "volatile"] {
        fsconfig_set_flag(&context, flag)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tree = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // An overlay whose upper directory cannot be written is mounted read-only without an error.
    if rustix::fs::fstatvfs(&tree)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(Errno::ROFS);
    }
    Ok(tree)
}
