//! Memory limits met: the event, and who was killed for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::error::CgroupError;
use super::leaf::Cgroup;
use super::mounts::Version;
use super::processes::{CgroupProcess, printable};
use super::run::RunTree;
use crate::outcome::Victim;

/// One record of the kernel's log: its line buffer holds less (`PRINTKRB_RECORD_MAX`, 2 KiB with escapes).
const RECORD_BYTES: usize = 8192;
/// How many kills a cursor remembers for those who ask later.
const KILLS_MAX: usize = 256;
/// How many records are read at one call: a log that grows faster is not waited for.
const RECORDS_MAX: usize = 100_000;

/// A descriptor that becomes readable when a cgroup meets its memory limit.
///
/// Readable means: look at [`Cgroup::events`]. v2 also reports a limit met without a kill.
#[derive(Debug)]
pub struct OomWatch {
    events: OwnedFd,
    largest: Option<Victim>,
}

impl OomWatch {
    pub(super) fn new(tree: &RunTree, name: &str) -> Result<Self, CgroupError> {
        let (file, watch) = match tree.version {
            Version::V1 => ("memory.oom_control", Self::on_v1(tree, name)),
            Version::V2 => ("memory.events", Self::on_v2(tree, name)),
        };
        let path = tree.directory.at(&format!("{name}/{file}"));
        let events = watch.map_err(|source| CgroupError::Watch { path, source })?;
        Ok(Self { events, largest: None })
    }

    /// v1: an eventfd that the kernel bumps before it kills (cgroup-v1/memory.rst, section 10). Only the eventfd
    /// need stay open.
    fn on_v1(tree: &RunTree, name: &str) -> Result<OwnedFd, Errno> {
        let events = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control = tree.directory.open_to_read(&format!("{name}/memory.oom_control"))?;
        let line = format!("{} {}", events.as_raw_fd(), control.as_raw_fd());
        tree.directory.write(&format!("{name}/cgroup.event_control"), &line)?;
        Ok(events)
    }

    /// v2: a change of `memory.events` counts as a write to it.
    fn on_v2(tree: &RunTree, name: &str) -> Result<OwnedFd, Errno> {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let path = tree.directory.at(&format!("{name}/memory.events"));
        inotify::add_watch(&events, &path, inotify::WatchFlags::MODIFY)?;
        Ok(events)
    }

    /// Drains the descriptor, and remembers the largest process of the cgroup: the one that the kernel is about to
    /// kill, for whoever may not read the kernel's log. Worth calling at every live sample too: on a busy machine the
    /// event can be seen only after the kill, when the victim has no memory any more.
    pub fn acknowledge(&mut self, cgroup: &Cgroup) {
        let mut buffer = [0; 4096];
        while matches!(rustix::io::read(&self.events, &mut buffer), Ok(count) if count > 0) {}
        let size = |victim: &Option<Victim>| victim.as_ref().and_then(|victim| victim.rss_bytes).unwrap_or(0);
        let now = cgroup.largest();
        if size(&now) > size(&self.largest) {
            self.largest = now;
        }
    }

    /// Returns the largest process seen at any event.
    pub fn largest(&self) -> Option<Victim> {
        self.largest.clone()
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl AsRawFd for OomWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}

/// Returns the largest of some processes.
pub(super) fn largest(processes: Vec<CgroupProcess>) -> Option<Victim> {
    let largest = processes.into_iter().max_by_key(|process| process.rss_bytes)?;
    Some(Victim { name: largest.name, pid: Some(largest.pid), rss_bytes: Some(largest.rss_bytes) })
}

/// A kill that the kernel has logged.
#[derive(Debug, PartialEq, Eq)]
struct Kill {
    /// The victim's memory cgroup, from the root of its hierarchy.
    cgroup: String,
    victim: Victim,
}

/// A place in the kernel's log, from which on kills for memory are looked for. One serves a whole run.
#[derive(Debug)]
pub struct KmsgCursor {
    log: OwnedFd,
    kills: VecDeque<Kill>,
}

impl KmsgCursor {
    /// Opens the log at its end. `None` where it may not be read: for an ordinary user mostly so
    /// (`kernel.dmesg_restrict`), and in containers.
    pub fn open() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok()?;
        rustix::fs::seek(&log, SeekFrom::End(0)).ok()?;
        Some(Self { log, kills: VecDeque::new() })
    }

    /// Returns the first kill in the memory cgroup whose path ends like this, or below it.
    pub(super) fn killed_in(&mut self, end: &str) -> Option<Victim> {
        self.catch_up();
        let ours = |kill: &&Kill| kill.cgroup.ends_with(end) || kill.cgroup.contains(&format!("{end}/"));
        self.kills.iter().find(ours).map(|kill| kill.victim.clone())
    }

    fn catch_up(&mut self) {
        let mut record = [0; RECORD_BYTES];
        for _ in 0..RECORDS_MAX {
            match rustix::io::read(&self.log, &mut record) {
                Ok(0) => return,
                Ok(count) => self.take(&String::from_utf8_lossy(&record[..count])),
                // Overwritten before we came: go on with the oldest that is left.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, record: &str) {
        if let Some(kill) = parse_kill(record) {
            if self.kills.len() == KILLS_MAX {
                self.kills.pop_front();
            }
            self.kills.push_back(kill);
        } else if let Some((pid, rss_bytes)) = parse_size(record) {
            let of_pid = |kill: &&mut Kill| kill.victim.pid == Some(pid) && kill.victim.rss_bytes.is_none();
            if let Some(kill) = self.kills.iter_mut().rev().find(of_pid) {
                kill.victim.rss_bytes = Some(rss_bytes);
            }
        }
    }
}

/// Reads `..;oom-kill:constraint=..,task_memcg=PATH,task=NAME,pid=N,uid=N` (mm/oom_kill.c). The name is the victim's
/// own choice and may hold anything: the numbers are taken from the right.
fn parse_kill(record: &str) -> Option<Kill> {
    let (_, line) = record.lines().next()?.split_once(';')?;
    let (_, rest) = line.strip_prefix("oom-kill:")?.split_once(",task_memcg=")?;
    let (cgroup, rest) = rest.split_once(",task=")?;
    let (rest, _uid) = rest.rsplit_once(",uid=")?;
    let (name, pid) = rest.rsplit_once(",pid=")?;
    let victim = Victim { name: printable(name), pid: Some(pid.parse().ok()?), rss_bytes: None };
    Some(Kill { cgroup: cgroup.to_owned(), victim })
}

/// Reads `..Killed process N (NAME) total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:4kB, ..`: pid and bytes.
fn parse_size(record: &str) -> Option<(u32, u64)> {
    let (_, rest) = record.lines().next()?.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(' ')?;
    let (_, sizes) = rest.rsplit_once(") total-vm:")?;
    let size = |key: &str| sizes.split_once(key)?.1.split_once("kB")?.0.parse::<u64>().ok();
    let kib = size("anon-rss:")? + size("file-rss:").unwrap_or(0) + size("shmem-rss:").unwrap_or(0);
    Some((pid.parse().ok()?, kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "6,885,5043962,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
                        oom_memcg=/a/runner-r/s,task_memcg=/a/runner-r/s,task=hog,pid=1234,uid=100000\n SUBSYSTEM=x\n";

    #[test]
    fn a_kill_is_read_from_the_log() {
        let kill = parse_kill(LINE).unwrap();
        assert_eq!(kill.cgroup, "/a/runner-r/s");
        assert_eq!(kill.victim, Victim { name: "hog".into(), pid: Some(1234), rss_bytes: None });
        assert_eq!(parse_kill("6,1,2,-;something else, oom-kill: no\n"), None);
    }

    #[test]
    fn a_victims_name_cannot_lie_about_its_pid() {
        let line = LINE.replace("task=hog", "task=x,pid=1,uid=0\\x1b");
        let kill = parse_kill(&line).unwrap();
        assert_eq!((kill.victim.name.as_str(), kill.victim.pid), ("x,pid=1,uid=0\\x1b", Some(1234)));
    }

    #[test]
    fn its_size_is_in_the_next_line() {
        let line = "3,886,5043970,-;Memory cgroup out of memory: Killed process 1234 (a) total-vm:1) total-vm:70000kB, \
                    anon-rss:65000kB, file-rss:1000kB, shmem-rss:24kB, UID:0 pgtables:160kB oom_score_adj:0\n";
        assert_eq!(parse_size(line), Some((1234, 66024 * 1024)));
        assert_eq!(parse_size("3,886,5043970,-;Killed process\n"), None);
    }
}
