//! The zygote: a small, single-threaded copy of the runner, forked before any thread exists. It clones the stages.
//!
//! Why: a fork costs by the memory of who forks. The keeper grows; the zygote never does. It knows nothing: its copies
//! of the command line and the environment are overwritten first.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, set_name};
use serde::{Deserialize, Serialize};

use super::servant::{self, Errand, Work};
use super::spec::StageOpening;
use super::{stage, wire};
use crate::sys::clone::{self, Side};
use crate::sys::{identity, process, signal};

/// `oom_score_adj` of everything that the zygote starts: a step dies before its keeper.
const OOM_SCORE_ADJ: i32 = 500;

/// What the keeper asks of the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Move into a user namespace; the keeper then writes its maps. The answer is empty.
    EnterUserNamespace,
    /// Clone a stage; one descriptor, its socket, comes along. The answer carries its pidfd.
    Stage(StageOpening),
    /// Clone a servant; its socket and what else it needs come along. The answer carries its pidfd.
    Servant(Box<Errand>),
}

/// The zygote's answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Answer {
    /// Done; a pidfd may come along.
    Done,
    /// This errno.
    Failed(i32),
}

/// The keeper's end. Dropping it ends the zygote; stages and their steps live on.
#[derive(Debug)]
pub struct Zygote {
    /// One question at a time: unpacking asks from a thread of its own.
    socket: Mutex<OwnedFd>,
    pid: i32,
    pidfd: OwnedFd,
}

impl Zygote {
    /// Forks the zygote, whose servants do `work`. Call it first thing in `main`, before any thread exists.
    ///
    /// # Errors
    /// Those of socketpair(2) and clone3(2).
    pub fn start(work: Work) -> Result<Self, Errno> {
        let (ours, theirs) = wire::pair()?;
        let keeper = rustix::process::getpid();
        match clone::clone(0, None)? {
            Side::Parent(pid, pidfd) => Ok(Self { socket: Mutex::new(ours), pid, pidfd }),
            Side::Child => {
                let _parent_died = set_parent_process_death_signal(Some(Signal::KILL));
                if getppid() != Some(keeper) {
                    process::exit_now(0);
                }
                run(&theirs, work);
                process::exit_now(0)
            }
        }
    }

    /// The zygote's pid, for writing its id maps.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends it without waiting for its end: nothing more will be asked.
    pub fn dismiss(&self) {
        let _gone = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Asks, and waits for the answer: the pidfd of what was started, if the request starts something.
    ///
    /// # Errors
    /// The zygote's errno; EPIPE when it is gone.
    pub fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Option<OwnedFd>, Errno> {
        // A thread that died with the lock held left at most an answer unread: the next one would be misunderstood.
        let socket = self.socket.lock().map_err(|_| Errno::PIPE)?;
        wire::send_value(socket.as_fd(), request, fds)?;
        match wire::receive_value::<Answer>(socket.as_fd())? {
            Some((Answer::Done, mut fds)) => Ok(fds.pop()),
            Some((Answer::Failed(errno), _)) => Err(Errno::from_raw_os_error(errno)),
            None => Err(Errno::PIPE),
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.dismiss();
        let _reaped = process::reap(process::Who::Pidfd(self.pidfd.as_fd()), true);
    }
}

/// The zygote's life. Returns when the keeper is gone.
fn run(socket: &OwnedFd, work: Work) {
    if quiet(socket).is_err() {
        return;
    }
    while let Ok(Some((request, fds))) = wire::receive_value::<Request>(socket.as_fd()) {
        let answer = match request {
            Request::EnterUserNamespace => clone::unshare(UnshareFlags::NEWUSER).map(|()| None),
            Request::Stage(opening) => spawn_stage(&opening, fds).map(Some),
            Request::Servant(errand) => spawn_servant(&errand, fds, work).map(Some),
        };
        let sent = match answer {
            Ok(pidfd) => {
                let fds: Vec<BorrowedFd<'_>> = pidfd.iter().map(AsFd::as_fd).collect();
                wire::send_value(socket.as_fd(), &Answer::Done, &fds)
            }
            Err(error) => wire::send_value(socket.as_fd(), &Answer::Failed(error.raw_os_error()), &[]),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Keeps nothing of the keeper's: descriptors, words, signals.
fn quiet(socket: &OwnedFd) -> Result<(), Errno> {
    process::close_all_but(&[socket.as_raw_fd()])?;
    // Descriptors 0 to 2 must be taken, or a later one of ours becomes a step's standard output.
    while open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map(std::os::fd::IntoRawFd::into_raw_fd)?
        < 2
    {}
    identity::forget_arguments();
    signal::ignore_terminal_signals();
    let _cosmetic = set_name(c"runner-zygote");
    raise_oom_score();
    Ok(())
}

/// Inherited by all that the zygote starts. Raising needs no privilege; a keeper that stands higher stays.
fn raise_oom_score() {
    const PATH: &str = "/proc/self/oom_score_adj";
    let own = std::fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if own.is_some_and(|own| own < OOM_SCORE_ADJ) {
        let _kept = std::fs::write(PATH, b"500");
    }
}

/// Clones a stage, a child of the *keeper*. Returns its pidfd.
fn spawn_stage(opening: &StageOpening, fds: Vec<OwnedFd>) -> Result<OwnedFd, Errno> {
    let socket = fds.into_iter().next().ok_or(Errno::BADMSG)?;
    match clone::clone(clone::PARENT, None)? {
        Side::Parent(_, pidfd) => Ok(pidfd),
        Side::Child => {
            // The zygote's own socket must not live on here: it would keep a dead keeper's end open.
            keep_only(&[&socket]);
            stage::run(opening, &socket);
            process::exit_now(0)
        }
    }
}

/// Clones a servant, a child of the *keeper*, in a user namespace of its own if it has maps. Returns its pidfd.
fn spawn_servant(errand: &Errand, mut fds: Vec<OwnedFd>, work: Work) -> Result<OwnedFd, Errno> {
    if fds.is_empty() {
        return Err(Errno::BADMSG);
    }
    let socket = fds.remove(0);
    let cgroup = if errand.cgroup && !fds.is_empty() { Some(fds.remove(0)) } else { None };
    let (hears, tells) = pipe_with(PipeFlags::CLOEXEC)?;
    let namespace = if errand.maps.is_some() { clone::NEW_USER } else { 0 };
    match clone::clone(clone::PARENT | namespace, cgroup.as_ref().map(AsFd::as_fd))? {
        Side::Parent(pid, pidfd) => {
            if let Some((uid_map, gid_map)) = &errand.maps
                && let Err(error) = servant::write_maps(pid, uid_map, gid_map, false, tells)
            {
                let _gone = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                return Err(error);
            }
            Ok(pidfd)
        }
        Side::Child => {
            let mut keep = vec![&socket, &hears];
            keep.extend(&fds);
            keep_only(&keep);
            servant::run(errand, errand.maps.is_some().then_some(&hears), &socket, fds, work);
            process::exit_now(0)
        }
    }
}

/// Closes everything but descriptors 0 to 2 and these.
fn keep_only(fds: &[&OwnedFd]) {
    let mut keep = vec![0, 1, 2];
    keep.extend(fds.iter().map(|fd| fd.as_raw_fd()));
    keep.sort_unstable();
    let _kept = process::close_all_but(&keep);
}
