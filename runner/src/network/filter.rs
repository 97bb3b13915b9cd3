//! The worker's own system call filter: sockets, packets, nothing else. It neither opens a file nor starts a program.

use std::io::Read as _;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use thiserror::Error;

use crate::sys::tun;

/// Calls that the worker makes, each with its reason. Names that an architecture lacks are skipped.
const CALLS: &[(&str, &str)] = &[
    ("read", "packets"),
    ("write", "packets"),
    ("epoll_wait", "waiting"),
    ("epoll_pwait", "waiting, where there is no epoll_wait"),
    ("epoll_pwait2", "waiting, by newer libraries"),
    ("epoll_ctl", "waiting for a new connection"),
    ("accept4", "connections at the gate"),
    ("connect", "connections to the world"),
    ("getpeername", "which connection was accepted"),
    ("getsockopt", "how a connection to the world went"),
    ("setsockopt", "no delay, reset on close"),
    ("shutdown", "passing an end on"),
    ("recvfrom", "bytes"),
    ("sendto", "bytes"),
    ("recvmsg", "the keeper's words"),
    ("sendmsg", "words to the keeper"),
    ("splice", "bytes of busy connections"),
    ("pipe2", "for splice"),
    ("fcntl", "size of that pipe"),
    ("close", "the end of a connection"),
    ("clock_gettime", "time, where it is no vDSO call"),
    ("getrandom", "numbers of questions"),
    ("brk", "memory"),
    ("mmap", "memory"),
    ("munmap", "memory"),
    ("mremap", "memory"),
    ("madvise", "memory"),
    ("futex", "the allocator's lock"),
    ("rt_sigreturn", "signals"),
    ("rt_sigprocmask", "the C library's abort"),
    ("rt_sigaction", "the C library's abort"),
    ("restart_syscall", "going on after SIGSTOP"),
    ("getpid", "the C library's abort"),
    ("gettid", "the C library's abort"),
    ("tgkill", "the C library's abort"),
    ("exit", "the end"),
    ("exit_group", "the end"),
];
/// Families of sockets that it may make.
const FAMILIES: [i32; 2] = [libc::AF_INET, libc::AF_INET6];

/// The filter could not be made.
#[derive(Debug, Error)]
#[error("cannot make the network's system call filter: {what}")]
pub struct WorkerFilterError {
    what: String,
}

impl From<SeccompError> for WorkerFilterError {
    fn from(error: SeccompError) -> Self {
        Self { what: error.to_string() }
    }
}

impl From<std::io::Error> for WorkerFilterError {
    fn from(error: std::io::Error) -> Self {
        Self { what: format!("export to a memory file: {error}") }
    }
}

/// Makes the filter, as the kernel's instructions. Any other call ends the worker: it then was not ours, and the job's
/// network fails closed.
///
/// # Errors
/// Those of libseccomp, and of a memory file.
pub fn filter() -> Result<Vec<u8>, WorkerFilterError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::KillProcess)?;
    filter.set_act_badarch(ScmpAction::KillProcess)?;
    filter.set_ctl_optimize(2)?;
    for (name, _) in CALLS {
        // Calls of other architectures have negative pseudo numbers.
        if let Ok(call) = ScmpSyscall::from_name(name)
            && i32::from(call) >= 0
        {
            filter.add_rule(ScmpAction::Allow, call)?;
        }
    }
    let socket = ScmpSyscall::from_name("socket")?;
    for family in FAMILIES {
        let is_family = ScmpArgCompare::new(0, ScmpCompareOp::Equal, family as u64);
        filter.add_rule_conditional(ScmpAction::Allow, socket, &[is_family])?;
    }
    let is_persist = ScmpArgCompare::new(1, ScmpCompareOp::Equal, tun::PERSIST_REQUEST);
    filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name("ioctl")?, &[is_persist])?;
    let file = rustix::fs::memfd_create(c"runner-filter", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(std::io::Error::from)?;
    filter.export_bpf(&file)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map_err(std::io::Error::from)?;
    let mut program = Vec::new();
    std::fs::File::from(file).read_to_end(&mut program)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_nothing_and_starts_nothing() {
        for call in [
            "open", "openat", "openat2", "execve", "clone", "clone3", "fork", "ptrace", "bind", "ioctl",
            "mprotect",
        ] {
            assert!(!CALLS.iter().any(|(name, _)| *name == call), "{call}");
        }
        assert!(filter().is_ok_and(|program| !program.is_empty() && program.len().is_multiple_of(8)));
    }
}
