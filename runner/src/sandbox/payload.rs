//! The payload: the process that becomes the step's command. It waits for go with its filters loaded, then gives up
//! every right in the order that the kernel allows, and execs. The rules of `child` hold here.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, chownat, mkdir};
use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, Signal, chdir, getcwd, set_parent_process_death_signal, setsid, umask,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups,
};

use super::child::take_ids;
use super::spec::{Filters, Go};
use super::wire::{self, Phase, Word};
use crate::sys::{process, signal};

/// Capabilities that this kernel may know: 0 to 63 in its interface.
const CAPABILITIES: u32 = 64;

/// The payload's life, up to execve.
pub fn run(socket: BorrowedFd<'_>, filters: Option<&Filters>) -> ! {
    let Err((phase, index, errno)) = become_command(socket, filters);
    wire::say(socket, &Word::Failed { phase, index, errno: errno.raw_os_error() });
    process::exit_now(127)
}

/// Never returns well: on success the process has become the command.
fn become_command(
    socket: BorrowedFd<'_>,
    filters: Option<&Filters>,
) -> Result<std::convert::Infallible, (Phase, u32, Errno)> {
    let at = |phase: Phase| move |errno: Errno| (phase, 0, errno);
    setsid().map_err(at(Phase::Fork))?;
    signal::reset();
    umask(Mode::from_raw_mode(0o022));
    set_no_new_privs(true).map_err(at(Phase::Filter))?;
    // Without any, nothing runs.
    let filters = filters.ok_or((Phase::Filter, 0, Errno::BADMSG))?;
    load(&filters.early)?;
    wire::say(socket, &Word::Ready);
    let (go, fds) = match wire::receive_value::<Go>(socket) {
        Ok(Some(go)) => go,
        // The keeper has thrown this sandbox away.
        Ok(None) => process::exit_now(0),
        Err(errno) => return Err((Phase::Go, 0, errno)),
    };
    enter(&go, Step::Make).map_err(at(Phase::WorkingDirectory))?;
    stdio(&fds).map_err(at(Phase::Stdio))?;
    if go.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(at(Phase::Stdio))?;
    }
    process::close_on_exec_from(3).map_err(at(Phase::Stdio))?;
    for (index, limit) in go.rlimits.iter().enumerate() {
        set_rlimit(limit).map_err(|errno| (Phase::Rlimit, index as u32, errno))?;
    }
    credentials(&go).map_err(at(Phase::Credentials))?;
    // After the ids: a change of credentials clears it (prctl(2)). Init is the parent, so this holds inside.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Phase::Credentials))?;
    enter(&go, Step::Enter).map_err(at(Phase::WorkingDirectory))?;
    load(&filters.late)?;
    Err(execute(&go))
}

/// Loads filters, in order.
fn load(filters: &[Vec<u8>]) -> Result<(), (Phase, u32, Errno)> {
    for (index, filter) in filters.iter().enumerate() {
        process::load_filter(filter).map_err(|errno| (Phase::Filter, index as u32, errno))?;
    }
    Ok(())
}

/// Which half of the working directory's life this is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// With root's rights inside: made if missing; what is made is the step user's, who is to work there.
    Make,
    /// With the step's own.
    Enter,
}

fn enter(go: &Go, step: Step) -> Result<(), Errno> {
    let cwd = &go.cwd;
    let mut buffer = [0; 4096];
    match step {
        Step::Make => {
            for end in (1..=cwd.len()).filter(|end| cwd.get(*end).is_none_or(|byte| *byte == b'/')) {
                let path = c_path(cwd.get(..end).unwrap_or_default(), &mut buffer)?;
                match mkdir(path, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {
                        let (uid, gid) = (Some(Uid::from_raw(go.uid)), Some(Gid::from_raw(go.gid)));
                        chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                    }
                    Err(Errno::EXIST | Errno::ROFS | Errno::ACCESS | Errno::PERM) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Ok(())
        }
        Step::Enter => {
            chdir(c_path(cwd, &mut buffer)?)?;
            // A directory outside the root would show as "(unreachable)" (CVE-2024-21626).
            match getcwd(Vec::new())?.to_bytes().first() {
                Some(b'/') => Ok(()),
                _ => Err(Errno::XDEV),
            }
        }
    }
}

fn c_path<'b>(path: &[u8], buffer: &'b mut [u8; 4096]) -> Result<&'b CStr, Errno> {
    let space = buffer.get_mut(..=path.len()).ok_or(Errno::NAMETOOLONG)?;
    for (to, from) in space.iter_mut().zip(path.iter().chain([&0])) {
        *to = *from;
    }
    CStr::from_bytes_with_nul(space).map_err(|_| Errno::INVAL)
}

fn stdio(fds: &[OwnedFd]) -> Result<(), Errno> {
    let [input, output, error] = fds else { return Err(Errno::BADMSG) };
    dup2_stdin(input)?;
    dup2_stdout(output)?;
    dup2_stderr(error)
}

fn set_rlimit(limit: &super::spec::Rlimit) -> Result<(), Errno> {
    let resource = match limit.resource {
        libc::RLIMIT_CORE => Resource::Core,
        libc::RLIMIT_NOFILE => Resource::Nofile,
        libc::RLIMIT_MEMLOCK => Resource::Memlock,
        libc::RLIMIT_MSGQUEUE => Resource::Msgqueue,
        libc::RLIMIT_RTPRIO => Resource::Rtprio,
        libc::RLIMIT_NICE => Resource::Nice,
        _ => return Err(Errno::INVAL),
    };
    rustix::process::setrlimit(resource, Rlimit { current: Some(limit.soft), maximum: Some(limit.hard) })
}

/// Groups, ids, capabilities. The bounding set goes while CAP_SETPCAP is there; the permitted set outlives the change of
/// ids only until it is set to what the step gets.
fn credentials(go: &Go) -> Result<(), Errno> {
    for capability in (0..CAPABILITIES).filter(|number| go.capabilities & (1 << number) == 0) {
        match CapabilitySet::from_bits(1 << capability).map(remove_capability_from_bounding_set) {
            Some(Ok(())) => {}
            // A number that this kernel does not have: the last one was the last.
            Some(Err(Errno::INVAL)) | None => break,
            Some(Err(errno)) => return Err(errno),
        }
    }
    if let Some(groups) = &go.groups {
        let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        set_thread_groups(&groups)?;
    }
    set_keep_capabilities(go.capabilities != 0)?;
    take_ids(go.uid, go.gid)?;
    let set = CapabilitySet::from_bits_retain(go.capabilities);
    let ambient = CapabilitySet::from_bits_retain(go.ambient);
    set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: ambient })?;
    match clear_ambient_capability_set() {
        // Before Linux 4.3 there is none.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    // One by one: that is how prctl(2) takes them.
    ambient.iter().try_for_each(|one| configure_capability_in_ambient_set(one, true))
}

/// Tries the candidates in order, as execvp does. The index of the failure tells how many of them exist.
fn execute(go: &Go) -> (Phase, u32, Errno) {
    let (argv, env) = (terminated(&go.argv), terminated(&go.env));
    let (argv, env) = (pointers(&argv), pointers(&env));
    let mut worst = Errno::NOENT;
    let mut existing = 0;
    for candidate in terminated(&go.candidates) {
        let Ok(path) = CStr::from_bytes_with_nul(&candidate) else { continue };
        let errno = process::execve(path, &argv, &env);
        if rustix::fs::accessat(CWD, path, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
            existing += 1;
        }
        match errno {
            Errno::NOENT | Errno::NOTDIR => {}
            // A directory of PATH that may not be searched, or a file that is not executable: look further.
            Errno::ACCESS => worst = Errno::ACCESS,
            other => return (Phase::Exec, existing, other),
        }
    }
    (Phase::Exec, existing, worst)
}

/// Copies of the strings, each with its NUL.
fn terminated(strings: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let ended = |text: &Vec<u8>| text.iter().copied().chain([0]).collect();
    strings.iter().map(ended).collect()
}

/// The array that execve takes: pointers, then null.
fn pointers(strings: &[Vec<u8>]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr().cast()).chain([std::ptr::null()]).collect()
}
