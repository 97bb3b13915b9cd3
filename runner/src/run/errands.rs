//! What a servant does for a rootless keeper, inside the user namespace: unpack, remove, hand over.
//!
//! The same functions that a keeper with root's rights calls directly.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use images::unpack::{UnpackError, UnpackOptions, UnpackSummary, unpack};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::network;
use crate::sandbox::ids::{Identity, step_map};
use crate::sandbox::servant::{self, Errand};
use crate::sandbox::sweep::{self, Rule, Swept};
use crate::sandbox::wire;
use crate::sandbox::zygote::{Request, Zygote};
use crate::sys::process::{self, Who};

/// Room in the pipe that carries an archive.
const PIPE_BYTES: usize = 1 << 20;

/// What is to be done. Descriptors travel beside it.
#[derive(Debug, Serialize, Deserialize)]
enum Task {
    /// Unpack the stream of the first descriptor into the directory of the second.
    Unpack(UnpackOptions),
    /// Remove the entry of this name from the directory.
    Remove(Vec<u8>),
    /// Hand everything below the directory to this user and group.
    HandOver(u32, u32),
    /// Be a job's way to the world, for as long as the keeper lives.
    Network(Box<network::Settings>),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
enum Done {
    Unpacked(Box<Result<UnpackSummary, UnpackError>>),
    Removed(Result<(), String>),
    HandedOver(u64, u64),
}

/// The servant died, or could not be started.
#[derive(Debug, Error)]
#[error("cannot work on files inside the user namespace: {what}")]
pub struct ErrandError {
    what: String,
}

impl From<Errno> for ErrandError {
    fn from(errno: Errno) -> Self {
        Self { what: errno.to_string() }
    }
}

/// The servant's side; `main` gives it to the zygote.
pub fn work(words: &[u8], socket: &OwnedFd, fds: Vec<OwnedFd>) {
    let Ok(task) = postcard::from_bytes::<Task>(words) else { return };
    let task = match task {
        Task::Network(settings) => return network::worker::run(*settings, socket, fds),
        other => other,
    };
    let mut fds = fds.into_iter();
    let done = match (task, fds.next(), fds.next()) {
        (Task::Unpack(options), Some(stream), Some(target)) => {
            let stream = std::fs::File::from(stream);
            Done::Unpacked(Box::new(unpack(stream, target.as_fd(), &options)))
        }
        (Task::Remove(name), Some(parent), _) => {
            let removed = images::remove_tree(&parent, OsString::from_vec(name));
            Done::Removed(removed.map_err(|error| error.to_string()))
        }
        (Task::HandOver(uid, gid), Some(directory), _) => {
            let swept = sweep::to_owner(directory.as_fd(), &Rule::Everything, uid, gid);
            Done::HandedOver(swept.changed, swept.failed)
        }
        _ => return,
    };
    let _keeper_gone = servant::answer(socket, &done);
}

/// The keeper's side: servants with the id map of a step that runs as `user`.
#[derive(Debug, Clone, Copy)]
pub struct Servants<'z> {
    /// Who starts them.
    pub zygote: &'z Zygote,
    /// Where ids come from.
    pub identity: Identity,
    /// The steps' user and group inside.
    pub user: (u32, u32),
}

impl Servants<'_> {
    /// Whether the keeper's own rights do not reach the files of a step.
    pub fn are_needed(&self) -> bool {
        self.identity == Identity::Subids
    }

    /// Removes a tree, with the rights that it needs.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(&self, parent: BorrowedFd<'_>, name: &str) -> Result<(), ErrandError> {
        if !self.are_needed() {
            return images::remove_tree(parent, name)
                .map_err(|error| ErrandError { what: error.to_string() });
        }
        match self.send(&Task::Remove(name.as_bytes().to_vec()), &[parent])?.wait()? {
            Done::Removed(result) => result.map_err(|what| ErrandError { what }),
            Done::Unpacked(_) | Done::HandedOver(..) => Err(Errno::BADMSG.into()),
        }
    }

    /// Hands a tree to its owner: ids of the host, but with subids ids inside. As root, only files of the private
    /// range change hands.
    ///
    /// # Errors
    /// When the servant died.
    pub fn hand_over(&self, directory: BorrowedFd<'_>, owner: (u32, u32)) -> Result<Swept, ErrandError> {
        match self.identity {
            Identity::Root { base } => {
                let rule = Rule::Range(base, crate::sandbox::ids::RANGE);
                Ok(sweep::to_owner(directory, &rule, owner.0, owner.1))
            }
            // Every file is the caller's already; set-uid bits go.
            Identity::Single => Ok(sweep::to_owner(directory, &Rule::Range(0, 0), owner.0, owner.1)),
            Identity::Subids => match self.send(&Task::HandOver(owner.0, owner.1), &[directory])?.wait()? {
                Done::HandedOver(changed, failed) => Ok(Swept { changed, failed }),
                Done::Unpacked(_) | Done::Removed(_) => Err(Errno::BADMSG.into()),
            },
        }
    }

    /// Unpacks an archive in a servant.
    ///
    /// # Errors
    /// The outer one when the servant died or the stream broke; the inner one is the archive's.
    pub fn unpack(
        &self,
        mut source: Box<dyn io::Read + Send>,
        target: BorrowedFd<'_>,
        options: &UnpackOptions,
    ) -> Result<Result<UnpackSummary, UnpackError>, ErrandError> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        let _default = fcntl_setpipe_size(&ours, PIPE_BYTES);
        let servant = self.send(&Task::Unpack(options.clone()), &[theirs.as_fd(), target])?;
        drop(theirs);
        let mut ours = std::fs::File::from(ours);
        let copied = io::copy(&mut source, &mut ours);
        drop(ours);
        match (servant.wait()?, copied) {
            // A servant that refuses the archive stops reading: its own word counts, not the broken pipe.
            (Done::Unpacked(result), Ok(_)) => Ok(*result),
            (Done::Unpacked(result), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(*result),
            (Done::Unpacked(_), Err(error)) => Err(ErrandError { what: error.to_string() }),
            (Done::Removed(_) | Done::HandedOver(..), _) => Err(Errno::BADMSG.into()),
        }
    }

    fn send(&self, task: &Task, fds: &[BorrowedFd<'_>]) -> Result<Busy, ErrandError> {
        let (ours, theirs) = wire::pair()?;
        let words = postcard::to_allocvec(task).map_err(|_| Errno::INVAL)?;
        let maps = self.are_needed().then(|| {
            (
                step_map(self.identity, self.user.0).to_string(),
                step_map(self.identity, self.user.1).to_string(),
            )
        });
        let mut all = vec![theirs.as_fd()];
        all.extend_from_slice(fds);
        let errand = Errand { maps, cgroup: false, words };
        let pidfd = self.zygote.ask(&Request::Servant(Box::new(errand)), &all)?;
        Ok(Busy { socket: ours, pidfd: pidfd.ok_or(Errno::BADMSG)? })
    }
}

/// Starts a job's worker: [`network::worker`]. `into`: the v2 cgroup to be born in. Returns its pidfd.
///
/// # Errors
/// Those of the zygote's clone.
pub fn start_network(
    zygote: &Zygote,
    settings: network::Settings,
    socket: BorrowedFd<'_>,
    into: Option<BorrowedFd<'_>>,
    fds: &[OwnedFd],
) -> Result<OwnedFd, Errno> {
    let words = postcard::to_allocvec(&Task::Network(Box::new(settings))).map_err(|_| Errno::INVAL)?;
    let errand = Errand { maps: None, cgroup: into.is_some(), words };
    let mut all = vec![socket];
    all.extend(into);
    all.extend(fds.iter().map(AsFd::as_fd));
    zygote.ask(&Request::Servant(Box::new(errand)), &all)?.ok_or(Errno::BADMSG)
}

/// A servant at work.
struct Busy {
    socket: OwnedFd,
    pidfd: OwnedFd,
}

impl Busy {
    fn wait(self) -> Result<Done, ErrandError> {
        let heard = wire::receive_value::<Done>(self.socket.as_fd());
        let _reaped = process::reap(Who::Pidfd(self.pidfd.as_fd()), true);
        heard?.map(|(done, _)| done).ok_or_else(|| ErrandError { what: "the servant died".into() })
    }
}
