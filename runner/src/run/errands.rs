//! What a servant does for a rootless keeper, inside the user namespace: unpack, remove, hand over.
//!
//! The same functions that a keeper with root's rights calls directly.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use images::unpack::{UnpackError, UnpackOptions, UnpackSummary, unpack_recorded};
use images::{Digest, TreeError};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{caches, disk};
use crate::network;
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
    /// Unpack the stream of the first descriptor into the directory of the second; list what is there to the third, if
    /// there is one.
    Unpack(UnpackOptions),
    /// List what the directory of the first descriptor has, to the second.
    Record,
    /// Write the directory of the first descriptor as a tar, to the second.
    Pack,
    /// Remove the entry of this name from the directory.
    Remove(Vec<u8>),
    /// Lay the directories behind the first descriptor, the lowest first, over one another into the first.
    Flatten,
    /// Hand what has changed since then below the directory to this user and group.
    HandOver(u32, u32, Since),
    /// Watch what a step's writes take on the disk, for as long as it runs.
    DiskWatch(disk::Settings),
    /// Be a job's way to the world, for as long as the keeper lives.
    Network(Box<network::Settings>),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
enum Done {
    Unpacked(Box<Result<UnpackSummary, UnpackError>>),
    Recorded(Result<Digest, (String, i32)>),
    Packed(Result<(), String>),
    Removed(Result<(), String>),
    Flattened(Result<(), i32>),
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
        Task::DiskWatch(settings) => return disk::watch(&settings, socket, fds),
        other => other,
    };
    if matches!(task, Task::Flatten) {
        let layers: Vec<BorrowedFd<'_>> = fds.iter().skip(1).map(AsFd::as_fd).collect();
        let Some(target) = fds.first() else { return };
        let flattened = caches::flatten(&layers, target.as_fd()).map_err(Errno::raw_os_error);
        let _keeper_gone = servant::answer(socket, &Done::Flattened(flattened));
        return;
    }
    let mut fds = fds.into_iter();
    let done = match (task, fds.next(), fds.next()) {
        (Task::Unpack(options), Some(stream), Some(target)) => {
            let stream = std::fs::File::from(stream);
            let record = fds.next().map(std::fs::File::from);
            Done::Unpacked(Box::new(unpack_recorded(stream, target.as_fd(), record, &options)))
        }
        (Task::Record, Some(tree), Some(out)) => {
            let recorded = images::record_tree(tree.as_fd(), std::fs::File::from(out));
            Done::Recorded(recorded.map_err(|error| (error.path, error.errno.raw_os_error())))
        }
        (Task::Pack, Some(tree), Some(out)) => {
            let packed = images::pack_tree(tree.as_fd(), io::BufWriter::new(std::fs::File::from(out)));
            Done::Packed(packed.map_err(|error| error.to_string()))
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
        self.identity.is_subids()
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
            _ => Err(Errno::BADMSG.into()),
        }
    }

    /// Removes what has this name in the directory at a path, if that is there.
    ///
    /// # Errors
    /// What could not be removed, in words.
    pub fn remove_below(&self, directory: &Path, name: &str) -> Result<(), String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(handle) = openat(CWD, directory, flags, Mode::empty()) else { return Ok(()) };
        let removed = self.remove(handle.as_fd(), name);
        removed.map_err(|error| format!("{}: {error}", directory.join(name).display()))
    }

    /// Makes one tree of several, the lowest first, in an empty directory.
    ///
    /// # Errors
    /// What could not be done.
    pub fn flatten(&self, layers: &[BorrowedFd<'_>], target: BorrowedFd<'_>) -> Result<(), ErrandError> {
        if !self.are_needed() {
            return Ok(caches::flatten(layers, target)?);
        }
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(target).chain(layers.iter().copied()).collect();
        match self.send(&Task::Flatten, &fds)?.wait()? {
            Done::Flattened(Ok(())) => Ok(()),
            Done::Flattened(Err(errno)) => Err(Errno::from_raw_os_error(errno).into()),
            _ => Err(Errno::BADMSG.into()),
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
            Identity::Subids { .. } => {
                match self.send(&Task::HandOver(uid, gid, since), &[directory])?.wait()? {
                    Done::HandedOver(changed, failed) => Ok(Swept { changed, failed }),
                    _ => Err(Errno::BADMSG.into()),
                }
            }
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
        record: Option<BorrowedFd<'_>>,
        options: &UnpackOptions,
    ) -> Result<Result<UnpackSummary, UnpackError>, ErrandError> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        let _default = fcntl_setpipe_size(&ours, PIPE_BYTES);
        let mut fds = vec![theirs.as_fd(), target];
        fds.extend(record);
        let servant = self.send(&Task::Unpack(options.clone()), &fds)?;
        drop(theirs);
        let mut ours = std::fs::File::from(ours);
        let copied = io::copy(&mut source, &mut ours);
        drop(ours);
        match (servant.wait()?, copied) {
            // A servant that refuses the archive stops reading: its own word counts, not the broken pipe.
            (Done::Unpacked(result), Ok(_)) => Ok(*result),
            (Done::Unpacked(result), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(*result),
            (Done::Unpacked(_), Err(error)) => Err(ErrandError { what: error.to_string() }),
            (_, _) => Err(Errno::BADMSG.into()),
        }
    }

    /// Lists what a tree consists of, in a servant.
    ///
    /// # Errors
    /// The outer one when the servant died; the inner one is the tree's.
    pub fn record(
        &self,
        tree: BorrowedFd<'_>,
        out: BorrowedFd<'_>,
    ) -> Result<Result<Digest, TreeError>, ErrandError> {
        match self.send(&Task::Record, &[tree, out])?.wait()? {
            Done::Recorded(result) => Ok(result.map_err(|(path, errno)| TreeError {
                action: "list",
                path,
                errno: Errno::from_raw_os_error(errno),
            })),
            _ => Err(Errno::BADMSG.into()),
        }
    }

    /// Writes a tree as a tar, in a servant.
    ///
    /// # Errors
    /// What could not be read or written.
    pub fn pack(&self, tree: BorrowedFd<'_>, out: BorrowedFd<'_>) -> Result<(), ErrandError> {
        match self.send(&Task::Pack, &[tree, out])?.wait()? {
            Done::Packed(result) => result.map_err(|what| ErrandError { what }),
            _ => Err(Errno::BADMSG.into()),
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

/// Starts a step's disk watch: [`disk::watch`]. As an ordinary user's it has all rights over the files of his user namespace.
/// Returns its pidfd.
///
/// # Errors
/// Those of the zygote's clone.
pub fn start_disk_watch(
    zygote: &Zygote,
    settings: disk::Settings,
    socket: BorrowedFd<'_>,
    fds: &[BorrowedFd<'_>],
) -> Result<OwnedFd, Errno> {
    let words = postcard::to_allocvec(&Task::DiskWatch(settings)).map_err(|_| Errno::INVAL)?;
    let errand = Errand { maps: None, cgroup: false, words };
    let all: Vec<BorrowedFd<'_>> = std::iter::once(socket).chain(fds.iter().copied()).collect();
    zygote.ask(&Request::Servant(Box::new(errand)), &all)?.ok_or(Errno::BADMSG)
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
