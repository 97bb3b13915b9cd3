//! Init: pid 1 of one sandbox. It runs the script, forks the payload, reaps, reports, sweeps.
//!
//! Forked, never exec'ed, and not dumpable: nothing inside can look into it. Every decision was made by the keeper;
//! here nothing formats, prints, reads the environment or panics. A failure is an operation's number and an errno.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{
    CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, mkdirat, open,
    openat, openat2, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{DumpableBehavior, chdir, fchdir, pivot_root, set_dumpable_behavior, setsid, umask};
use rustix::system::sethostname;
use rustix::thread::{
    CpuSet, Gid, Uid, UnshareFlags, sched_setaffinity, set_name, set_thread_res_gid, set_thread_res_uid,
};

use super::ops::{HandBack, Op, Script};
use super::payload;
use super::spec::Filters;
use super::sweep::{self, Rule, Sweep};
use super::wire::{self, LEFTOVERS_MAX, Left, Order, Phase, Word};
use crate::sys::clone::{self, Side};
use crate::sys::process::{self, Status, Who};
use crate::sys::{mount as mount_sys, signal};

/// How long processes that outlive the payload have to end by themselves: `exec > >(tee log)` needs a moment.
const LINGER_MS: u64 = 200;

/// What init gets from the stage.
#[derive(Debug)]
pub struct Inheritance<'s> {
    /// What to do.
    pub script: &'s Script,
    /// For the payload. `None`: the request names none that is there.
    pub filters: Option<&'s Filters>,
    /// Orders from the keeper, words to it.
    pub control: &'s OwnedFd,
    /// The payload's: ready, go, and why its exec failed.
    pub go: &'s OwnedFd,
    /// One byte when the maps are written.
    pub maps: &'s OwnedFd,
    /// cgroup v1.
    pub tasks: &'s [OwnedFd],
}

/// Init's life.
pub fn run(inherited: &Inheritance<'_>) -> ! {
    let _cosmetic = set_name(c"runner-init");
    let mut root = None;
    for (index, op) in inherited.script.ops.iter().enumerate() {
        if let Err(errno) = perform(op, inherited, &mut root) {
            fail(inherited.control.as_fd(), Phase::Script, index, errno);
        }
    }
    drop(root);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let paths = &inherited.script.sweep.paths;
    let trees: Vec<OwnedFd> =
        paths.iter().filter_map(|path| open(path.as_c_str(), flags, Mode::empty()).ok()).collect();
    let ended = match signal::child_ends() {
        Ok(descriptor) => descriptor,
        Err(errno) => fail(inherited.control.as_fd(), Phase::Fork, 0, errno),
    };
    let payload = match clone::clone(0, None) {
        Ok(Side::Parent(pid, _)) => pid,
        Ok(Side::Child) => payload::run(inherited.go.as_fd(), inherited.filters),
        Err(errno) => fail(inherited.control.as_fd(), Phase::Fork, 0, errno),
    };
    watch(inherited, payload, &ended, &trees)
}

/// Says what failed and ends; the pid namespace goes along.
fn fail(socket: BorrowedFd<'_>, phase: Phase, index: usize, errno: Errno) -> ! {
    wire::say(socket, &Word::Failed { phase, index: index as u32, errno: errno.raw_os_error() });
    process::exit_now(1)
}

/// Waits for the payload's end, the keeper's orders, or the keeper's end.
fn watch(inherited: &Inheritance<'_>, payload: i32, ended: &OwnedFd, trees: &[OwnedFd]) -> ! {
    let own = [ended.as_raw_fd(), inherited.control.as_raw_fd()];
    let mut keep: Vec<RawFd> = own.into_iter().chain(trees.iter().map(AsRawFd::as_raw_fd)).collect();
    keep.sort_unstable();
    // The payload's socket must close here, or the keeper never sees that the exec has happened.
    let _kept = process::close_all_but(&keep);
    let control = inherited.control.as_fd();
    let mut reported = false;
    let mut guest: Option<Guest> = None;
    loop {
        let (awaited, visitor) = match guest.as_ref().filter(|guest| !guest.dismissed) {
            Some(guest) => (true, guest.told.as_fd()),
            None => (false, control),
        };
        let ended_fd = ended.as_fd();
        let mut polled = [&control, &ended_fd, &visitor].map(|fd| PollFd::new(fd, PollFlags::IN));
        if poll(&mut polled, None).is_err_and(|errno| errno != Errno::INTR) {
            process::exit_now(1);
        }
        let [order, child, left] = polled.map(|one| one.revents());
        if awaited && !left.is_empty() {
            guest.as_mut().map(Guest::dismiss);
        }
        if !child.is_empty() {
            let _drained = rustix::io::read(ended, &mut [0; 128]);
            while let Ok(Some((pid, status, _))) = process::reap(Who::Any, false) {
                if pid == payload && !reported {
                    reported = true;
                    guest.as_mut().map(Guest::dismiss);
                    report(control, status);
                } else {
                    guest = guest.take().and_then(|guest| guest.unless_ended(pid, status));
                }
            }
        }
        if order.is_empty() {
            continue;
        }
        match next_order(control) {
            Some((Order::Signal(number), _)) => process::signal_group(payload, i32::from(number)),
            Some((Order::Kill, _)) => process::kill_others(),
            Some((Order::Admit, fds)) => guest = admit(inherited, guest, &fds),
            None => {
                // The keeper is gone, or lets go: nothing inside survives, and the workspace is its owner's.
                process::kill_others();
                while process::reap(Who::Any, true).is_ok() {}
                if !reported {
                    hand_back(trees, &inherited.script.sweep);
                }
                process::exit_now(0)
            }
        }
    }
}

fn next_order(control: BorrowedFd<'_>) -> Option<(Order, Vec<OwnedFd>)> {
    let mut buffer = [0; 8];
    let (bytes, fds) = wire::receive(control, &mut buffer).ok()?;
    Some((Order::from_bytes(bytes)?, fds))
}

/// A command that runs beside the payload, with the same rights.
struct Guest {
    pid: i32,
    /// Its end is told here; when the other side closes, nobody wants to know it any more.
    told: OwnedFd,
    dismissed: bool,
}

impl Guest {
    fn dismiss(&mut self) {
        self.dismissed = true;
        process::signal_group(self.pid, libc::SIGKILL);
    }

    /// Tells its end if this process was it.
    fn unless_ended(self, pid: i32, status: Status) -> Option<Self> {
        if pid != self.pid {
            return Some(self);
        }
        let (left, usage) = ([Left::default(); LEFTOVERS_MAX], process::Rusage::default());
        wire::say(self.told.as_fd(), &Word::Report { status, usage, left_count: 0, left });
        None
    }
}

/// Starts another command beside the payload, one at a time.
fn admit(inherited: &Inheritance<'_>, present: Option<Guest>, fds: &[OwnedFd]) -> Option<Guest> {
    let [go, told] = fds else { return present };
    let refused = |errno: Errno| {
        let errno = errno.raw_os_error();
        wire::say(told.as_fd(), &Word::Failed { phase: Phase::Fork, index: 0, errno });
    };
    if present.is_some() {
        refused(Errno::BUSY);
        return present;
    }
    let copy = told.try_clone().map_err(|_| Errno::MFILE);
    match copy.and_then(|told| clone::clone(0, None).map(|side| (side, told))) {
        Ok((Side::Parent(pid, _), told)) => Some(Guest { pid, told, dismissed: false }),
        Ok((Side::Child, _)) => payload::run(go.as_fd(), inherited.filters),
        Err(errno) => {
            refused(errno);
            None
        }
    }
}

/// Hands the files of these trees to their owner.
fn hand_back(trees: &[OwnedFd], order: &HandBack) {
    let sweep = Sweep { rule: Rule::Changed, since: order.since, uid: order.user.0, gid: order.user.1 };
    for tree in trees {
        let _counted = sweep::to_owner(tree.as_fd(), &sweep);
    }
}

/// Names and ends what outlived the payload, then reports: the next step may use the workspace from then on.
fn report(control: BorrowedFd<'_>, status: Status) {
    let mut left = [Left::default(); LEFTOVERS_MAX];
    let mut left_count = 0;
    if process::others_alive() {
        linger();
        left_count = name_others(&mut left);
        process::kill_others();
        while process::reap(Who::Any, true).is_ok() {}
    }
    wire::say(control, &Word::Report { status, usage: process::children_usage(), left_count, left });
}

/// Reaps what ends by itself, for [`LINGER_MS`] at most.
fn linger() {
    for _ in 0..LINGER_MS / 5 {
        while let Ok(Some(_)) = process::reap(Who::Any, false) {}
        if !process::others_alive() {
            return;
        }
        let pause = rustix::time::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let _woken = rustix::event::poll(&mut [], Some(&pause));
    }
}

/// Counts the processes in /proc but for init, and names the first ones.
fn name_others(left: &mut [Left; LEFTOVERS_MAX]) -> u32 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(proc) = open("/proc", flags, Mode::empty()) else { return 0 };
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&proc, &mut buffer);
    let mut count = 0;
    while let Some(Ok(entry)) = entries.next() {
        let digits = entry.file_name().to_bytes();
        if !digits.iter().all(u8::is_ascii_digit) {
            continue;
        }
        let pid =
            digits.iter().fold(0u32, |n, digit| n.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
        if pid == 1 {
            continue;
        }
        if let Some(slot) = left.get_mut(count as usize) {
            slot.pid = pid;
            read_name(&proc, entry.file_name(), &mut slot.name);
        }
        count += 1;
    }
    count
}

fn read_name(proc: &OwnedFd, pid: &CStr, name: &mut [u8; 16]) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(process) = openat(proc, pid, flags | OFlags::DIRECTORY, Mode::empty()) else { return };
    let Ok(comm) = openat(&process, c"comm", flags, Mode::empty()) else { return };
    let read = rustix::io::read(&comm, &mut name[..]).unwrap_or(0);
    for byte in name.iter_mut().skip(read.saturating_sub(1)) {
        *byte = 0;
    }
}

/// Takes ids inside a user namespace that has its maps. Per thread: there is one.
///
/// # Errors
/// EINVAL for an id without a mapping.
pub fn take_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Does one operation. `root` is the handle of the new root, from [`Op::Root`] to [`Op::PivotRoot`].
fn perform(op: &Op, inherited: &Inheritance<'_>, root: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let new_root = || root.as_ref().ok_or(Errno::BADF);
    match op {
        Op::EnterCgroups => {
            inherited.tasks.iter().try_for_each(|tasks| rustix::io::write(tasks, b"0").map(|_| ()))
        }
        Op::UnshareCgroup => clone::unshare(UnshareFlags::NEWCGROUP),
        Op::AwaitMaps => match rustix::io::read(inherited.maps, &mut [0; 1])? {
            1 => Ok(()),
            _ => Err(Errno::PIPE),
        },
        Op::TakeIds(uid, gid) => take_ids(*uid, *gid),
        Op::Hide => set_dumpable_behavior(DumpableBehavior::NotDumpable),
        Op::NewSession => {
            setsid()?;
            match process::new_session_keyring() {
                // Kernels without keyrings have nothing to share.
                Err(Errno::NOSYS) => Ok(()),
                other => other,
            }
        }
        Op::Affinity(cpus) => {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu as usize));
            sched_setaffinity(None, &set)
        }
        Op::PrivateMounts => {
            umask(Mode::empty());
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        }
        Op::DiskUpper(at) => upper_directories(at),
        Op::MemoryUpper(options) => {
            mount("tmpfs", "up", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
            upper_directories(c"up")
        }
        Op::Root(options) => {
            *root = Some(overlay(options)?);
            Ok(())
        }
        Op::Proc => {
            let tree = filesystem(c"proc", &[], no_exec())?;
            put(&tree, &plain_directory(new_root()?, c"proc")?)
        }
        Op::ReadOnly(at) => read_only(new_root()?, at),
        Op::Mask(at) => mask(new_root()?, at),
        Op::Sys(from) => {
            let flags = tree_flags() | OpenTreeFlags::AT_RECURSIVE;
            let tree = open_tree(CWD, from.as_c_str(), flags)?;
            put(&tree, &plain_directory(new_root()?, c"sys")?)
        }
        Op::Cgroup => cgroup(new_root()?),
        Op::Dev(shm_bytes) => dev(new_root()?, *shm_bytes),
        Op::Bind { from, to, directory } => {
            let tree = open_tree(CWD, from.as_c_str(), tree_flags() | OpenTreeFlags::AT_RECURSIVE)?;
            put(&tree, &mount_point(new_root()?, to, *directory)?)
        }
        Op::PivotRoot => {
            fchdir(new_root()?)?;
            pivot_root(c".", c".")?;
            unmount(c".", UnmountFlags::DETACH)?;
            chdir(c"/")
        }
        Op::Hostname(name) => sethostname(name.as_bytes()),
    }
}

fn tree_flags() -> OpenTreeFlags {
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC
}

fn no_exec() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

fn upper_directories(at: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = open(at, flags, Mode::empty())?;
    // The upper directory's mode becomes that of `/` inside.
    mkdirat(&place, c"u", Mode::from_raw_mode(0o755))?;
    mkdirat(&place, c"w", Mode::from_raw_mode(0o700))
}

/// Mounts the overlay on `m`. An overlay whose upper cannot be written is mounted read-only without an error.
fn overlay(options: &CStr) -> Result<OwnedFd, Errno> {
    mount(c"overlay", c"m", c"overlay", MountFlags::NOSUID | MountFlags::NODEV, options)?;
    let root = open(c"m", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if fstatvfs(&root)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Errno::ROFS);
    }
    Ok(root)
}

/// Makes a filesystem of this type as a detached mount.
fn filesystem(kind: &CStr, options: &[(&CStr, &CStr)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a detached mount on a handle.
fn put(tree: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// A directory directly below the new root, made if missing. A symbolic link there is refused: the image would choose
/// where /proc goes (CVE-2019-19921).
fn plain_directory(root: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(root, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            mkdirat(root, name, Mode::from_raw_mode(0o755))?;
            openat(root, name, flags, Mode::empty())
        }
        other => other,
    }
}

/// Opens a path as the step will see it: symbolic links and `..` stay below the new root.
fn inside(root: &OwnedFd, at: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, at, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere raced with the walk (openat2(2)).
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// The mount point at `to`, made with its parents if missing.
fn mount_point(root: &OwnedFd, to: &CStr, directory: bool) -> Result<OwnedFd, Errno> {
    match inside(root, to, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let bytes = to.to_bytes();
    let mut parent = inside(root, c".", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut component = [0u8; 256];
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let last = at + length >= bytes.len();
        let name = copy_name(rest.get(..length).unwrap_or_default(), &mut component)?;
        if !name.is_empty() {
            make_missing(&parent, name, directory || !last)?;
            // From the new root on, so that a link on the way stays inside.
            let end = at + length;
            let mut path = [0u8; 4096];
            let prefix = copy_name(bytes.get(..end).unwrap_or_default(), &mut path)?;
            parent = inside(root, prefix, OFlags::PATH)?;
        }
        if last {
            return Ok(parent);
        }
        at += length + 1;
    }
}

fn make_missing(parent: &OwnedFd, name: &CStr, directory: bool) -> Result<(), Errno> {
    let made = if directory {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn copy_name<'b>(name: &[u8], buffer: &'b mut [u8]) -> Result<&'b CStr, Errno> {
    let space = buffer.get_mut(..=name.len()).ok_or(Errno::NAMETOOLONG)?;
    for (to, from) in space.iter_mut().zip(name.iter().chain([&0])) {
        *to = *from;
    }
    CStr::from_bytes_with_nul(space).map_err(|_| Errno::INVAL)
}

/// Puts a read-only clone of a path over itself.
fn read_only(root: &OwnedFd, at: &CStr) -> Result<(), Errno> {
    let target = match inside(root, at, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let tree = open_tree(&target, c"", tree_flags() | OpenTreeFlags::AT_EMPTY_PATH)?;
    let attributes = no_exec() | MountAttrFlags::MOUNT_ATTR_RDONLY;
    mount_sys::set_attributes(tree.as_fd(), attributes, false, None)?;
    put(&tree, &target)
}

/// Covers a directory with the empty one, a file with the null device.
fn mask(root: &OwnedFd, at: &CStr) -> Result<(), Errno> {
    let target = match inside(root, at, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let directory = FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory;
    let cover = open_tree(CWD, if directory { c"empty" } else { c"dev/null" }, tree_flags())?;
    put(&cover, &target)
}

/// Mounts the step's cgroup, which the cgroup namespace makes the root of what is seen. The keeper has given it to root inside
/// but for the files with the limits. Where there is no v2 cgroup to be mounted, the place stays empty.
fn cgroup(root: &OwnedFd) -> Result<(), Errno> {
    let target = match inside(root, c"sys/fs/cgroup", OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    match filesystem(c"cgroup2", &[], no_exec()) {
        Ok(tree) => put(&tree, &target),
        // A hybrid machine whose v2 hierarchy is elsewhere, or a kernel without.
        Err(Errno::NODEV | Errno::BUSY | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The nodes of /dev that the stage holds, each checked by number there.
pub const NODES: [&CStr; 6] = [c"null", c"zero", c"full", c"random", c"urandom", c"tty"];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"pts/ptmx", c"ptmx"),
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
];

/// A /dev of the step's own. The image's is covered before anything of it could be used.
fn dev(root: &OwnedFd, shm_bytes: u64) -> Result<(), Errno> {
    let no_suid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let devices = no_suid | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let small = [(c"mode", c"0755"), (c"size", c"1m"), (c"nr_inodes", c"4096")];
    let tree = filesystem(c"tmpfs", &small, devices)?;
    put(&tree, &plain_directory(root, c"dev")?)?;
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
    let source = open(c"dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for name in NODES {
        openat(&tree, name, make, Mode::from_raw_mode(0o644))?;
        let node = open_tree(&source, name, tree_flags())?;
        move_mount(&node, c"", &tree, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    for (target, name) in LINKS {
        symlinkat(target, &tree, name)?;
    }
    let pts = [(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620")];
    let mut digits = [0; 24];
    let shm = [(c"mode", c"1777"), (c"size", decimal(shm_bytes, &mut digits)), (c"nr_inodes", c"65536")];
    for (name, kind, options, attributes) in [
        (c"pts", c"devpts", &pts[..], devices),
        (c"shm", c"tmpfs", &shm[..], no_suid | MountAttrFlags::MOUNT_ATTR_NODEV),
        (c"mqueue", c"mqueue", &[][..], no_exec()),
    ] {
        let mounted = filesystem(kind, options, attributes)?;
        mkdirat(&tree, name, Mode::from_raw_mode(0o755))?;
        move_mount(&mounted, c"", &tree, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    Ok(())
}

/// A number as a C string, without formatting.
fn decimal(mut value: u64, buffer: &mut [u8; 24]) -> &CStr {
    *buffer = [0; 24];
    let mut at = buffer.len() - 1;
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 || at == 0 {
            break;
        }
    }
    CStr::from_bytes_until_nul(buffer.get(at..).unwrap_or_default()).unwrap_or(c"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_c_strings() {
        let mut buffer = [0; 24];
        for value in [0, 7, 67_108_864, u64::MAX] {
            assert_eq!(decimal(value, &mut buffer).to_str().unwrap(), value.to_string());
        }
    }
}
