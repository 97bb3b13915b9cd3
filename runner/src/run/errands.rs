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

use crate::sandbox::ids::{Identity, step_map};
use crate::sandbox::servant::{self, Errand};
use crate::sandbox::sweep::{self, Rule, Since, Sweep, Swept};
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
    /// Hand what has changed since then below the directory to this user and group.
    HandOver(u32, u32, Since),
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
        (Task::HandOver(uid, gid, since), Some(directory), _) => {
            let swept = sweep::to_owner(directory.as_fd(), &Sweep { rule: Rule::Changed, since, uid, gid });
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
    /// range change hands; set-uid bits go from what has changed since then.
    ///
    /// # Errors
    /// When the servant died.
    pub fn hand_over(
        &self,
        directory: BorrowedFd<'_>,
        (uid, gid): (u32, u32),
        since: Since,
    ) -> Result<Swept, ErrandError> {
        match self.identity {
            Identity::Root { base } => {
                let rule = Rule::Range(base, crate::sandbox::ids::RANGE);
                Ok(sweep::to_owner(directory, &Sweep { rule, since, uid, gid }))
            }
            // Every file is the caller's already; set-uid bits go.
            Identity::Single => {
                Ok(sweep::to_owner(directory, &Sweep { rule: Rule::Range(0, 0), since, uid, gid }))
            }
            Identity::Subids => match self.send(&Task::HandOver(uid, gid, since), &[directory])?.wait()? {
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
        let pidfd = self.zygote.ask(&Request::Servant(Box::new(Errand { maps, words })), &all)?;
        Ok(Busy { socket: ours, pidfd: pidfd.ok_or(Errno::BADMSG)? })
    }
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
