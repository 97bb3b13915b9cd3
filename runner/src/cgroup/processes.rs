//! Who lives in a cgroup, and their end where the kernel has no `cgroup.kill`.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directory::Directory;
use super::error::CgroupError;
use super::hierarchy::Controller;
use super::limits::page_bytes;
use super::mounts::Version;
use super::run::RunTree;
use super::v1::write_error;

/// How long new processes may go on appearing while all are killed one by one.
const KILL_DEADLINE: Duration = Duration::from_secs(2);
/// How long a cgroup may take to be frozen before its processes are killed as they run.
const FREEZE_DEADLINE: Duration = Duration::from_millis(200);
/// How many processes are looked at closely; a fork bomb has more, and its pids cap holds it.
const LISTED_MAX: usize = 512;
/// A pause between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// A process in a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupProcess {
    /// Its pid as the runner sees it.
    pub pid: u32,
    /// Its `comm`: at most 15 bytes, control characters replaced.
    pub name: String,
    /// Its resident memory in bytes; 0 once it is dying.
    pub rss_bytes: u64,
}

/// Returns the pids in a cgroup below `directory`; those of other pid namespaces are left out.
pub(super) fn pids(directory: &Directory, name: &str) -> Vec<u32> {
    let text = directory.read(&format!("{name}/cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
}

/// Returns the first [`LISTED_MAX`] processes in a cgroup below `directory`.
pub(super) fn list(directory: &Directory, name: &str) -> Vec<CgroupProcess> {
    pids(directory, name).into_iter().take(LISTED_MAX).filter_map(look).collect()
}

/// Reads a process's name and size; `None` once it is gone.
pub(super) fn look(pid: u32) -> Option<CgroupProcess> {
    let name = comm(pid)?;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Some(CgroupProcess { pid, name, rss_bytes: pages * page_bytes() })
}

fn comm(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(printable(String::from_utf8_lossy(&bytes).trim_end_matches('\n')))
}

/// Replaces what could move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Returns `process 12 (bash)`.
pub(super) fn name_with_pid(pid: u32) -> String {
    comm(pid).map_or_else(|| format!("process {pid}"), |name| format!("process {pid} ({name})"))
}

/// Sends SIGKILL to everything in a cgroup below `directory`, and returns to how many.
///
/// Handles first, then a second look at who is there: a pid that was reused in between is in no list twice.
pub(super) fn kill_once(directory: &Directory, name: &str) -> usize {
    let open = |pid: u32| {
        let known = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some((pid, pidfd_open(known, PidfdFlags::empty()).ok()?))
    };
    let found: Vec<_> = pids(directory, name).into_iter().filter_map(open).collect();
    let still = pids(directory, name);
    let sent = found.iter().filter(|(pid, _)| still.contains(pid));
    sent.filter(|(_, handle)| pidfd_send_signal(handle, Signal::KILL).is_ok()).count()
}

/// Kills everything in a cgroup, frozen if the tree can freeze, so that nobody forks away, else in a loop.
pub(super) fn kill_frozen(tree: &RunTree, name: &str) -> Result<(), CgroupError> {
    let (file, freeze, thaw) = match tree.version {
        Version::V1 => ("freezer.state", "FROZEN", "THAWED"),
        Version::V2 => ("cgroup.freeze", "1", "0"),
    };
    let freezes = tree.version == Version::V2 || tree.controllers.contains(&Controller::Freezer);
    let file = format!("{name}/{file}");
    let directory = &tree.directory;
    let started = Instant::now();
    if freezes {
        // Frozen or not: what can be killed is killed below.
        let _ = directory.write(&file, freeze);
        while !is_frozen(tree, name) && started.elapsed() < FREEZE_DEADLINE {
            std::thread::sleep(PAUSE);
        }
    }
    kill_once(directory, name);
    if freezes {
        match directory.write(&file, thaw) {
            // Linux before 5.2 has no v2 freezer.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(source) => return Err(write_error(directory, &file, thaw, source)),
        }
    }
    while kill_once(directory, name) > 0 && started.elapsed() < KILL_DEADLINE {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn is_frozen(tree: &RunTree, name: &str) -> bool {
    let read = |file: &str| tree.directory.read(&format!("{name}/{file}"));
    match tree.version {
        Version::V1 => read("freezer.state").is_ok_and(|state| state.trim() == "FROZEN"),
        // No such file: no freezer to wait for.
        Version::V2 => {
            read("cgroup.events").map_or(true, |events| events.lines().any(|line| line == "frozen 1"))
        }
    }
}
