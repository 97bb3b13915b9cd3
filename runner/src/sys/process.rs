//! What a process does to itself before it becomes a step's command, and how others wait for it.

#![expect(unsafe_code, reason = "raw execve, waitid, close_range, seccomp, keyctl")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// The parts of `struct rusage` that we report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rusage {
    /// User and system time, microseconds.
    pub cpu_us: u64,
    /// Largest resident set of one process, bytes.
    pub rss_max: u64,
    /// Bytes that had to come from a disk.
    pub read_bytes: u64,
    /// Bytes of files that were changed in memory and have to go to a disk.
    pub write_bytes: u64,
}

/// Bytes of a block as getrusage(2) counts them.
const BLOCK_BYTES: u64 = 512;

impl From<&libc::rusage> for Rusage {
    fn from(usage: &libc::rusage) -> Self {
        let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
        Self {
            cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
            rss_max: usage.ru_maxrss as u64 * 1024,
            read_bytes: usage.ru_inblock as u64 * BLOCK_BYTES,
            write_bytes: usage.ru_oublock as u64 * BLOCK_BYTES,
        }
    }
}

/// Whom to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Who<'fd> {
    /// The process behind a pidfd.
    Pidfd(BorrowedFd<'fd>),
    /// Any child.
    Any,
}

/// Reaps one child that has ended: its pid, status and resources. `None`: `block` is false and none has.
///
/// # Errors
/// ECHILD when there is no such child; EINTR.
pub fn reap(who: Who<'_>, block: bool) -> Result<Option<(i32, Status, Rusage)>, Errno> {
    let (kind, id) = match who {
        Who::Pidfd(fd) => (libc::P_PIDFD, fd.as_raw_fd() as libc::id_t),
        Who::Any => (libc::P_ALL, 0),
    };
    // __WALL: children with any exit signal; CLONE_PARENT hands on that of the zygote.
    let options = libc::WEXITED | libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: both structures are plain data for which all-zero bytes are valid.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the two structures, which live here; five arguments as in its own waitid.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            kind,
            id,
            std::ptr::from_mut(&mut info),
            options,
            std::ptr::from_mut(&mut usage),
        )
    };
    if result == -1 {
        return Err(last_errno());
    }
    // SAFETY: after a successful waitid these fields of the union are the valid ones.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let status =
        if info.si_code == libc::CLD_EXITED { Status::Exited(status) } else { Status::Signaled(status) };
    Ok(Some((pid, status, Rusage::from(&usage))))
}

/// Replaces the process (execve(2)). `argv` and `env` must end with a null pointer and point to C strings
/// that live until then. Returns only on failure.
pub fn execve(path: &CStr, argv: &[*const libc::c_char], env: &[*const libc::c_char]) -> Errno {
    if argv.last().is_none_or(|p| !p.is_null()) || env.last().is_none_or(|p| !p.is_null()) {
        return Errno::INVAL;
    }
    // SAFETY: both arrays end with null (checked above) and hold pointers to C strings per the contract.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Ends the process at once: no destructors, no atexit functions, no flushing.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` up close-on-exec.
///
/// # Errors
/// ENOSYS before Linux 5.9, EINVAL before 5.11.
pub fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    close_range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor but those in `keep`, which must be sorted and at least 0.
///
/// For freshly forked processes only: owners of the closed descriptors must never run again.
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub fn close_all_but(keep: &[RawFd]) -> Result<(), Errno> {
    let mut next = 0;
    for &fd in keep {
        if fd > next {
            close_range(next, fd - 1, 0)?;
        }
        next = fd + 1;
    }
    close_range(next, RawFd::MAX, 0)
}

fn close_range(first: RawFd, last: RawFd, flags: u32) -> Result<(), Errno> {
    // SAFETY: closing descriptors cannot touch memory; the callers' contract covers their owners.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first as u32, last as u32, flags) };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Loads a seccomp filter given as the kernel's `sock_filter` bytes, eight to an instruction.
/// `no_new_privs` must be set.
///
/// # Errors
/// Those of seccomp(2); EINVAL for a length that is no multiple of 8 or over 4,096 instructions.
pub fn load_filter(instructions: &[u8]) -> Result<(), Errno> {
    let count = instructions.len() / 8;
    if !instructions.len().is_multiple_of(8) || count == 0 || count > 4096 {
        return Err(Errno::INVAL);
    }
    let program = libc::sock_fprog {
        len: count as u16,
        filter: instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `program` points to `count` instructions; the kernel copies them byte by byte, so their
    // alignment does not matter, and it checks them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program))
    };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Joins a new, anonymous session keyring (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
///
/// # Errors
/// ENOSYS without keyrings, EPERM or EACCES in confined hosts, EDQUOT.
pub fn new_session_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring; nothing else is read.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// CPU time and largest resident set of all children that this process has reaped.
pub fn children_usage() -> Rusage {
    // SAFETY: all-zero bytes are a valid rusage, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    Rusage::from(&usage)
}

/// Whether any process other than the caller is alive in a pid namespace whose init the caller is.
pub fn others_alive() -> bool {
    // SAFETY: signal 0 only checks.
    unsafe { libc::kill(-1, 0) == 0 }
}

/// Sends SIGKILL to every process of the pid namespace but its init, the caller.
pub fn kill_others() {
    // Anyone else would kill its own host. Init calls this as pid 1 of its own namespace.
    if std::process::id() == 1 {
        // SAFETY: kill touches no memory.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Sends `signal` to a process group whose leader is `leader`, at least 2.
pub fn signal_group(leader: i32, signal: i32) {
    if leader > 1 {
        // SAFETY: kill touches no memory.
        unsafe { libc::kill(-leader, signal) };
    }
}
