//! Trials in a child: what a machine lets a process do is found out by doing it where it can do no harm.

#![expect(unsafe_code, reason = "fork, alarm and adjtimex have no safe wrapper")]

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};
use rustix::thread::UnshareFlags;

use super::clone::{last_errno, unshare};
use super::process::exit_now;

/// After how many seconds a trial that hangs is killed by its alarm: a mount may wait for a server.
const TRIAL_SECONDS: u32 = 10;

/// What a trial found: all went well, or the number of the step that was refused, and why.
pub type Verdict = Result<(), (u8, Errno)>;

/// Runs a trial in a forked child and returns its verdict. Nothing of what it does to itself, its namespaces and its
/// mounts outlives it.
///
/// The trial may open files, mount and fork. The C library's own locks are in order after its `fork`, other locks are
/// not: the trial must take none that another thread may hold.
///
/// # Errors
/// Those of pipe(2) and fork(2); EIO when the child died without a word, by its alarm for one.
pub fn in_child(trial: impl FnOnce() -> Verdict) -> Result<Verdict, Errno> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(child) = fork()? else {
        drop(reader);
        give_up_in_time();
        // A panic must not unwind into a copy of the caller.
        let verdict = catch_unwind(AssertUnwindSafe(trial)).unwrap_or(Err((u8::MAX, Errno::IO)));
        let [step, rest @ ..] = match verdict {
            Ok(()) => [0; 5],
            Err((step, errno)) => {
                let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
                [step, a, b, c, d]
            }
        };
        let [a, b, c, d] = rest;
        let _unread = rustix::io::write(&writer, &[step, a, b, c, d]);
        exit_now(0);
    };
    drop(writer);
    let mut message = Vec::new();
    let heard = std::fs::File::from(reader).take(5).read_to_end(&mut message);
    reap(child);
    match (heard, message.as_slice()) {
        (Ok(5), &[step, a, b, c, d]) => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(Ok(())),
            errno => Ok(Err((step, Errno::from_raw_os_error(errno)))),
        },
        _ => Err(Errno::IO),
    }
}

/// A child that stands still in a user namespace of its own, without id maps, until this is dropped.
#[derive(Debug)]
pub struct HeldNamespace {
    child: Pid,
    _hold: OwnedFd,
}

impl HeldNamespace {
    /// Makes the namespace.
    ///
    /// # Errors
    /// Those of unshare(2): EPERM where they are forbidden, ENOSPC at `user.max_user_namespaces`.
    pub fn new() -> Result<Self, Errno> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (waits, hold) = pipe_with(PipeFlags::CLOEXEC)?;
        let Some(child) = fork()? else {
            drop((reader, hold));
            give_up_in_time();
            let errno = unshare(UnshareFlags::NEWUSER).err().map_or(0, Errno::raw_os_error);
            let _unread = rustix::io::write(&writer, &errno.to_ne_bytes());
            // Until the other end is closed.
            let _ended = rustix::io::read(&waits, &mut [0; 1]);
            exit_now(0);
        };
        drop((writer, waits));
        let held = Self { child, _hold: hold };
        let mut message = [0; 4];
        std::fs::File::from(reader).read_exact(&mut message).map_err(|_| Errno::IO)?;
        match i32::from_ne_bytes(message) {
            0 => Ok(held),
            errno => Err(Errno::from_raw_os_error(errno)),
        }
    }

    /// Returns the child's pid: its files in /proc lead to the namespace.
    pub fn pid(&self) -> i32 {
        self.child.as_raw_nonzero().get()
    }
}

impl Drop for HeldNamespace {
    fn drop(&mut self) {
        let _gone = kill_process(self.child, Signal::KILL);
        reap(self.child);
    }
}

/// Whether the kernel's clock is kept right by somebody (adjtimex(2), `STA_UNSYNC`). `None`: it does not say.
pub fn clock_is_disciplined() -> Option<bool> {
    // SAFETY: all-zero bytes are a valid timex; `modes` 0 asks and changes nothing.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure, which lives here.
    let state = unsafe { libc::adjtimex(&mut clock) };
    (state >= 0).then_some(clock.status & libc::STA_UNSYNC == 0)
}

/// Forks. `None` in the child.
fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: libc's fork puts the allocator's locks in order in the child; what else the child may do is the
    // contract of `in_child`, and it ends by `exit_now`, so that no destructor of the caller's frames runs twice.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// The child ends with its parent, and when its time is up.
fn give_up_in_time() {
    let _parent_died = set_parent_process_death_signal(Some(Signal::KILL));
    // SAFETY: alarm touches no memory; the child's disposition may be inherited, hence the reset.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(TRIAL_SECONDS);
    }
}

fn reap(child: Pid) {
    let _status = rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_comes_back() {
        assert_eq!(in_child(|| Ok(())), Ok(Ok(())));
        assert_eq!(in_child(|| Err((7, Errno::PERM))), Ok(Err((7, Errno::PERM))));
    }

    #[test]
    fn a_child_that_dies_is_no_verdict() {
        assert_eq!(in_child(|| exit_now(3)), Err(Errno::IO));
        let silent = std::panic::catch_unwind(|| in_child(|| std::panic::resume_unwind(Box::new(()))));
        assert_eq!(silent.expect("nothing unwinds here"), Ok(Err((u8::MAX, Errno::IO))));
    }

    #[test]
    fn what_a_trial_does_stays_in_it() {
        let before = rustix::process::getcwd(Vec::new()).expect("a directory");
        let verdict = in_child(|| rustix::process::chdir("/").map_err(|errno| (1, errno)));
        assert_eq!(verdict, Ok(Ok(())));
        assert_eq!(rustix::process::getcwd(Vec::new()).expect("the same"), before);
    }
}
