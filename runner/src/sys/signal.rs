//! Signal dispositions, the mask, and `signalfd(2)`.

#![expect(unsafe_code, reason = "rt_sigaction for every number, sigprocmask, signalfd")]

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// The last signal number of Linux.
const SIGNALS: i32 = 64;

/// Sets every disposition to default and empties the mask, as an exec'ed command expects them.
pub fn reset() {
    for signal in 1..=SIGNALS {
        // The kernel's own structure, all zero: SIG_DFL, no flags, empty mask. libc's wrapper refuses the two
        // numbers that it keeps for itself.
        let default = [0u64; 4];
        // SAFETY: `default` covers the kernel's sigaction of 32 bytes; the old one is not asked for.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8);
        }
    }
    set_mask(0);
}

/// Blocks SIGCHLD for the calling thread and returns a descriptor that is readable when one is pending.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn child_ends() -> Result<OwnedFd, Errno> {
    let mask = 1u64 << (libc::SIGCHLD - 1);
    set_mask(mask);
    // SAFETY: the kernel reads 8 bytes of mask.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            -1,
            std::ptr::from_ref(&mask),
            8,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )
    };
    if fd == -1 {
        return Err(last_errno());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes SIGTERM and SIGINT harmless: a zygote's or a stage's end is the keeper's to decide, and a
/// terminal sends its Ctrl-C to the whole group.
pub fn ignore_terminal_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP, libc::SIGPIPE] {
        // SAFETY: SIG_IGN runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn set_mask(mask: u64) {
    // SAFETY: the kernel reads 8 bytes of mask; the old one is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(&mask),
            std::ptr::null::<u64>(),
            8,
        );
    }
}
