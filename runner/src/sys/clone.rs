//! New processes: `clone3(2)`, `unshare(2)`.

#![expect(unsafe_code, reason = "clone3, fork and unshare have no safe wrapper")]

use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// The kernel's `struct clone_args` up to `cgroup` (Linux 5.7, clone(2)).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of clone(2); glibc's headers lack it.
pub const INTO_CGROUP: u64 = 0x2_0000_0000;
/// `CLONE_PARENT`: the child's parent is the caller's parent.
pub const PARENT: u64 = libc::CLONE_PARENT as u64;
/// `CLONE_NEWUSER`.
pub const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;
/// `CLONE_NEWPID`.
pub const NEW_PID: u64 = libc::CLONE_NEWPID as u64;
/// `CLONE_NEWNS`.
pub const NEW_MOUNT: u64 = libc::CLONE_NEWNS as u64;
/// `CLONE_NEWIPC`.
pub const NEW_IPC: u64 = libc::CLONE_NEWIPC as u64;
/// `CLONE_NEWUTS`.
pub const NEW_UTS: u64 = libc::CLONE_NEWUTS as u64;

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Side {
    /// The caller: the child's pid in the caller's pid namespace, and its pidfd.
    Parent(i32, OwnedFd),
    /// The new process.
    Child,
}

/// Clones the calling process, as `fork` does, with `CLONE_PIDFD` and the given flags. `cgroup`: the
/// directory of the v2 cgroup that the child is born in. Without [`PARENT`] the child sends SIGCHLD.
///
/// The caller must be single-threaded: the child goes on with a copy of its heap and locks. Only the
/// zygote and its descendants call this; none of them ever starts a thread.
///
/// # Errors
/// Those of clone(2); ENOSYS before Linux 5.3, E2BIG before 5.7.
pub fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side, Errno> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: if flags & PARENT != 0 { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if let Some(directory) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = directory.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size passed, its pidfd field points to a live int, and
    // with a null stack and without CLONE_VM the child runs on its own copy of this stack.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(last_errno()),
        0 => Ok(Side::Child),
        // SAFETY: the kernel has just stored a new descriptor that nobody else owns.
        _ => Ok(Side::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// A process that holds a user namespace open and does nothing else. It ends with this value.
#[derive(Debug)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    pidfd: OwnedFd,
    /// It runs on this until it is reaped.
    _stack: Box<[u64]>,
}

/// Words of a holder's stack: it calls three system calls.
const HOLDER_STACK_WORDS: usize = 1024;

impl Holder {
    /// Clones one into a new user namespace. It shares the caller's memory, which spares a copy of it. `alive` and `tells`
    /// are the ends of a pipe: the holder ends, too, when the caller is gone.
    ///
    /// # Errors
    /// Those of clone(2).
    pub fn start(alive: BorrowedFd<'_>, tells: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut stack = vec![0_u64; HOLDER_STACK_WORDS].into_boxed_slice();
        let mut pidfd: RawFd = -1;
        let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | libc::CLONE_PIDFD | libc::SIGCHLD;
        let words = (alive.as_raw_fd() as usize) | (tells.as_raw_fd() as usize) << 32;
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: `hold` runs on `stack`, which lives until the child is reaped (see `drop`), and touches no memory of
        // ours; its argument is a number; CLONE_PIDFD stores a descriptor in the live int passed as parent_tid.
        let pid = unsafe { libc::clone(hold, top, flags, words as *mut libc::c_void, &raw mut pidfd) };
        if pid < 0 {
            return Err(last_errno());
        }
        // SAFETY: the kernel has just stored a new descriptor that nobody else owns.
        Ok(Self { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, _stack: stack })
    }

    /// Tells it to end; the drop waits for it.
    pub fn dismiss(&self) {
        let _gone = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.dismiss();
        while super::process::reap(super::process::Who::Pidfd(self.pidfd.as_fd()), true) == Err(Errno::INTR) {
        }
    }
}

/// A holder's life: waits for the pipe's end. No call here fails, so none writes the errno that it shares.
extern "C" fn hold(words: *mut libc::c_void) -> libc::c_int {
    let words = words as usize;
    let (alive, tells) = ((words & 0xFFFF_FFFF) as RawFd, (words >> 32) as RawFd);
    let mut byte = [0_u8; 8];
    // SAFETY: `tells` is this process's own copy of the descriptor; `byte` is live and of the length passed.
    unsafe {
        libc::syscall(libc::SYS_close, tells);
        while libc::syscall(libc::SYS_read, alive, byte.as_mut_ptr(), byte.len()) > 0 {}
        libc::syscall(libc::SYS_exit, 0);
    }
    0
}

/// Moves the calling, single-threaded process into new namespaces (unshare(2)).
///
/// # Errors
/// Those of unshare(2).
pub fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: FILES is not among the flags, so no descriptor table is split from under an owner.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// The errno of the last failed libc call of this thread.
pub(super) fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
