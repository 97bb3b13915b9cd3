//! What a sandbox does, done for a moment by a child in namespaces of its own.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, mount, mount_change, open_tree,
};
use rustix::process::{getgid, getuid};
use rustix::thread::UnshareFlags;

use crate::sys::clone::unshare;
use crate::sys::mount::set_attributes;
use crate::sys::probe::{HeldNamespace, Verdict, in_child};
use crate::sys::{clone, process, tun};

/// The first id of a range that nobody has, for a trial of id maps: where the private ranges of runs begin.
const TRIAL_BASE: u32 = 0x7000_0000;
/// How long it is.
const TRIAL_RANGE: u32 = 65_536;

/// Why a trial ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What was refused: a system call and its object.
    pub what: &'static str,
    /// How.
    pub errno: Errno,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.errno)
    }
}

/// The steps of trials, by the number that the child reports.
const STEPS: [&str; 24] = [
    "the trial itself",
    "unshare(CLONE_NEWUSER)",
    "writing /proc/self/setgroups",
    "writing /proc/self/uid_map",
    "writing /proc/self/gid_map",
    "unshare(CLONE_NEWNS)",
    "making / a private mount",
    "mounting a tmpfs",
    "unshare(CLONE_NEWPID)",
    "unshare(CLONE_NEWIPC)",
    "unshare(CLONE_NEWUTS)",
    "unshare(CLONE_NEWNET)",
    "unshare(CLONE_NEWCGROUP)",
    "mounting a new /proc",
    "mounting a new /sys",
    "mounting an overlay",
    "writing through the overlay",
    "clone3(CLONE_PIDFD)",
    "no_new_privs",
    "loading a seccomp filter",
    "open_tree(OPEN_TREE_CLONE)",
    "mount_setattr",
    "opening /dev/net/tun",
    "making a network interface by /dev/net/tun",
];
const USER: u8 = 1;
const MOUNT: u8 = 5;
const TMPFS: u8 = 7;
const PID: u8 = 8;
const PROC: u8 = 13;
const SYS: u8 = 14;
const OVERLAY: u8 = 15;
const OVERLAY_WRITE: u8 = 16;
const CLONE3: u8 = 17;
const NO_NEW_PRIVS: u8 = 18;
const FILTER: u8 = 19;
const OPEN_TREE: u8 = 20;
const SET_ATTRIBUTES: u8 = 21;
const TUN: u8 = 22;

/// Runs a trial and words where it ended.
fn attempt(trial: impl FnOnce() -> Verdict) -> Result<(), Refusal> {
    let what = |step: u8| STEPS.get(usize::from(step)).copied().unwrap_or(STEPS[0]);
    match in_child(trial) {
        Ok(Ok(())) => Ok(()),
        Ok(Err((step, errno))) => Err(Refusal { what: what(step), errno }),
        Err(errno) => Err(Refusal { what: STEPS[0], errno }),
    }
}

fn at(step: u8) -> impl Fn(Errno) -> (u8, Errno) {
    move |errno| (step, errno)
}

/// Moves the child into a user namespace where it is root, with one id: itself.
fn enter_user_namespace() -> Verdict {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    unshare(UnshareFlags::NEWUSER).map_err(at(USER))?;
    write(c"/proc/self/setgroups", "deny").map_err(at(USER + 1))?;
    write(c"/proc/self/uid_map", &format!("0 {uid} 1\n")).map_err(at(USER + 2))?;
    write(c"/proc/self/gid_map", &format!("0 {gid} 1\n")).map_err(at(USER + 3))
}

fn write(path: &CStr, text: &str) -> Result<(), Errno> {
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// Goes on to a mount namespace whose mounts reach nobody else.
fn enter_mount_namespace() -> Verdict {
    enter_user_namespace()?;
    unshare(UnshareFlags::NEWNS).map_err(at(MOUNT))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(at(MOUNT + 1))
}

fn mount_tmpfs(on: &Path) -> Verdict {
    mount("tmpfs", on, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"size=1m,mode=0700")
        .map_err(at(TMPFS))
}

/// A user namespace with one id.
pub(super) fn user_namespace() -> Result<(), Refusal> {
    attempt(enter_user_namespace)
}

/// A mount namespace in it, and a tmpfs on some directory.
pub(super) fn mounts(on: &Path) -> Result<(), Refusal> {
    attempt(|| {
        enter_mount_namespace()?;
        mount_tmpfs(on)
    })
}

/// The other namespaces of a sandbox.
pub(super) fn namespaces() -> Result<(), Refusal> {
    attempt(|| {
        enter_mount_namespace()?;
        let kinds = [
            UnshareFlags::NEWPID,
            UnshareFlags::NEWIPC,
            UnshareFlags::NEWUTS,
            UnshareFlags::NEWNET,
            UnshareFlags::NEWCGROUP,
        ];
        (PID..).zip(kinds).try_for_each(|(step, kind)| unshare(kind).map_err(at(step)))
    })
}

/// A new /proc, by the first process of a pid namespace. Refused where the /proc of an outer container is masked.
pub(super) fn new_proc(on: &Path) -> Result<(), Refusal> {
    attempt(|| {
        enter_mount_namespace()?;
        unshare(UnshareFlags::NEWPID).map_err(at(PID))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        in_child(|| mount("proc", on, "proc", flags, None).map_err(at(PROC))).map_err(at(0))?
    })
}

/// A new /sys, by the owner of a network namespace.
pub(super) fn new_sys(on: &Path) -> Result<(), Refusal> {
    attempt(|| {
        enter_mount_namespace()?;
        unshare(UnshareFlags::NEWNET).map_err(at(PID + 3))?;
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("sysfs", on, "sysfs", flags, None).map_err(at(SYS))
    })
}

/// A network interface of its own, in a network namespace of its own.
pub(super) fn tun() -> Result<(), Refusal> {
    attempt(|| {
        enter_user_namespace()?;
        unshare(UnshareFlags::NEWNET).map_err(at(PID + 3))?;
        let device = tun::open_device().map_err(at(TUN))?;
        tun::attach(&device, c"tun0").map_err(at(TUN + 1))
    })
}

/// An overlay in a user namespace, with what steps do in theirs: write, and remove what a layer has. The directory
/// must hold `lower/gone`, `upper`, `work` and `merged`. `on_tmpfs`: they are made on a tmpfs over it instead.
pub(super) fn overlay(base: &Path, on_tmpfs: bool) -> Result<(), Refusal> {
    attempt(|| {
        enter_mount_namespace()?;
        if on_tmpfs {
            mount_tmpfs(base)?;
        }
        rustix::process::chdir(base).map_err(at(OVERLAY))?;
        if on_tmpfs {
            fill_overlay_base(Path::new(".")).map_err(at(OVERLAY))?;
        }
        let options = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr";
        mount("overlay", "merged", "overlay", MountFlags::NOSUID | MountFlags::NODEV, options)
            .map_err(at(OVERLAY))?;
        // A mounter without rights on the upper directory gets a read-only overlay, and no error.
        let flags = rustix::fs::statvfs("merged").map_err(at(OVERLAY_WRITE))?.f_flag;
        if flags.contains(StatVfsMountFlags::RDONLY) {
            return Err((OVERLAY_WRITE, Errno::ROFS));
        }
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        openat(CWD, "merged/new", create, Mode::from_raw_mode(0o600)).map_err(at(OVERLAY_WRITE))?;
        rustix::fs::unlink("merged/gone").map_err(at(OVERLAY_WRITE))
    })
}

/// Makes the directories of an overlay trial.
pub(super) fn fill_overlay_base(base: &Path) -> Result<(), Errno> {
    for name in ["lower", "upper", "work", "merged"] {
        rustix::fs::mkdir(base.join(name), Mode::from_raw_mode(0o700))?;
    }
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    openat(CWD, base.join("lower/gone"), create, Mode::from_raw_mode(0o600)).map(drop)
}

/// A child by clone3 with a pidfd, as sandboxes are made: containers refuse it more often than fork.
pub(super) fn clone3() -> Result<(), Refusal> {
    attempt(|| match clone::clone(0, None).map_err(at(CLONE3))? {
        clone::Side::Child => process::exit_now(0),
        clone::Side::Parent(_, pidfd) => {
            process::reap(process::Who::Pidfd(pidfd.as_fd()), true).map_err(at(CLONE3)).map(drop)
        }
    })
}

/// A seccomp filter that allows everything.
pub(super) fn seccomp() -> Result<(), Refusal> {
    // One instruction, `BPF_RET | BPF_K` with SECCOMP_RET_ALLOW (seccomp(2)).
    let mut filter = Vec::with_capacity(8);
    filter.extend(0x06_u16.to_ne_bytes());
    filter.extend([0, 0]);
    filter.extend(0x7fff_0000_u32.to_ne_bytes());
    attempt(|| {
        rustix::thread::set_no_new_privs(true).map_err(at(NO_NEW_PRIVS))?;
        process::load_filter(&filter).map_err(at(FILTER))
    })
}

/// An id-mapped clone of a directory's mount. It is never attached anywhere. Root only.
pub(super) fn idmapped_mount(directory: &Path) -> Result<(), Refusal> {
    let refused = |what| move |errno| Refusal { what, errno };
    let held = HeldNamespace::new().map_err(refused(STEPS[1]))?;
    let map = format!("0 {TRIAL_BASE} {TRIAL_RANGE}\n");
    for file in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{file}", held.pid()), &map).map_err(|error| Refusal {
            what: "writing the trial's id map",
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
    }
    let namespace = format!("/proc/{}/ns/user", held.pid());
    let namespace = openat(CWD, namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(refused("opening the trial's user namespace"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, directory, flags).map_err(refused(STEPS[usize::from(OPEN_TREE)]))?;
    set_attributes(clone.as_fd(), MountAttrFlags::empty(), false, Some(namespace.as_fd()))
        .map_err(refused("mount_setattr(MOUNT_ATTR_IDMAP)"))
}

/// A detached clone of a directory's mounts, and flags set on one: what the stage does with each source. All mounts, for
/// a user namespace may not uncover what other mounts hide.
pub(super) fn new_mount_calls(directory: &Path) -> Result<(), Refusal> {
    attempt(|| {
        enter_mount_namespace()?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let clone = open_tree(CWD, directory, flags).map_err(at(OPEN_TREE))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        set_attributes(clone.as_fd(), attributes, false, None).map_err(at(SET_ATTRIBUTES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sandbox_needs_is_granted_and_leaves_no_mount() {
        fixtures::require!(UserNamespaces);
        let mounts_now = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts_now();
        let directory = tempfile::tempdir().unwrap();
        let on = directory.path();
        assert_eq!(user_namespace(), Ok(()));
        assert_eq!(mounts(on), Ok(()));
        assert_eq!(namespaces(), Ok(()));
        assert_eq!(new_mount_calls(Path::new("/")), Ok(()));
        assert_eq!(clone3(), Ok(()));
        assert_eq!(seccomp(), Ok(()));
        assert_eq!(overlay(on, true), Ok(()));
        assert_eq!(mounts_now(), before);
        assert_eq!(std::fs::read_dir(on).unwrap().count(), 0);
    }

    #[test]
    fn a_refusal_says_what_and_how() {
        fixtures::require!(UserNamespaces);
        let refusal = mounts(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(refusal, Refusal { what: "mounting a tmpfs", errno: Errno::NOENT });
        assert_eq!(refusal.to_string(), "mounting a tmpfs: No such file or directory (os error 2)");
        // An overlay needs its four directories.
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(overlay(directory.path(), false).unwrap_err().errno, Errno::NOENT);
    }
}
