//! `limits.disk`: what a step's writes take on the disk, and its end when that is too much.
//!
//! A watcher, a servant with the rights that this needs, walks what the step can write to and adds up its blocks: again and
//! again, because no filesystem here would count for us. So a step is ended a moment after it has gone too far, and what is
//! deleted while it is open is not seen; docs/limits.md says so.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::errands;
use crate::outcome::{BigFile, DiskFull};
use crate::sandbox::wire;
use crate::sandbox::zygote::Zygote;
use crate::sys::process::{self, Who};
use crate::sys::watch::readable;
use measure::{Measure, Tree};

mod measure;

/// The shortest time between two walks.
const PAUSE: Duration = Duration::from_millis(200);
/// A walk may take this part of the watcher's time: 1 in 8.
const PAUSE_FACTOR: u32 = 7;
/// How long the watcher has for the last walk: 10 million files, on a slow disk.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the watcher is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Bytes.
    limit: u64,
    /// What the trees are called inside; the first is the step's own directory.
    names: Vec<String>,
}

/// What a step's writes take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Bytes of blocks.
    pub bytes: u64,
    /// The largest files, largest first.
    pub biggest: Vec<BigFile>,
    /// What could not be walked, for which reason; whoever writes there has gone too far.
    pub hidden: Option<String>,
}

impl DiskUse {
    /// The facts of having gone too far.
    pub fn over(self, limit_bytes: u64) -> DiskFull {
        DiskFull { limit_bytes, bytes: self.bytes, biggest: self.biggest, hidden: self.hidden }
    }

    /// Whether that is too much.
    pub fn exceeds(&self, limit: u64) -> bool {
        self.bytes > limit || self.hidden.is_some()
    }
}

/// The watcher says.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// What was there before has been counted.
    Ready,
    /// It is too much.
    Over(DiskUse),
    /// The last walk.
    Last(DiskUse),
}

/// The writes could not be watched.
#[derive(Debug, Error)]
#[error("cannot watch what the step writes: {0}")]
pub struct DiskError(#[from] Errno);

impl From<std::io::Error> for DiskError {
    fn from(error: std::io::Error) -> Self {
        Self(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// The keeper's side. Dropping it ends the watcher.
#[derive(Debug)]
pub struct DiskWatch {
    socket: AsyncFd<OwnedFd>,
    pidfd: OwnedFd,
    /// Bytes.
    pub limit: u64,
}

impl DiskWatch {
    /// Starts a watcher and waits until it has counted what is there. `own`: the step's directory for its root; `trees`: what
    /// else it can write to, with the names inside.
    ///
    /// # Errors
    /// Those of the zygote's clone.
    pub async fn start(
        zygote: &Zygote,
        own: &std::path::Path,
        trees: &[(String, BorrowedFd<'_>)],
        limit: u64,
    ) -> Result<Self, DiskError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = openat(CWD, own, flags, Mode::empty())?;
        let names = std::iter::once(String::new()).chain(trees.iter().map(|(name, _)| name.clone()));
        let settings = Settings { limit, names: names.collect() };
        let fds: Vec<BorrowedFd<'_>> =
            std::iter::once(own.as_fd()).chain(trees.iter().map(|(_, fd)| *fd)).collect();
        let (ours, theirs) = wire::pair()?;
        let pidfd = errands::start_disk_watch(zygote, settings, theirs.as_fd(), &fds)?;
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        let watch = Self { socket: readable(ours)?, pidfd, limit };
        match watch.hear().await? {
            Told::Ready => Ok(watch),
            Told::Over(_) | Told::Last(_) => Err(Errno::BADMSG.into()),
        }
    }

    /// Waits until it is too much, which it may never be.
    pub async fn over(&self) -> DiskUse {
        match self.hear().await {
            Ok(Told::Over(used)) => used,
            Ok(Told::Ready | Told::Last(_)) => std::future::pending().await,
            // Unwatched, the step must not go on.
            Err(error) => DiskUse { hidden: Some(error.to_string()), ..DiskUse::default() },
        }
    }

    /// Walks once more and ends the watcher: the step is over.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn finish(self) -> Result<DiskUse, DiskError> {
        wire::send(self.socket.as_fd(), b"F", &[])?;
        let last = async {
            loop {
                match self.hear().await? {
                    Told::Last(used) => return Ok(used),
                    // It said so just before it was asked.
                    Told::Over(_) | Told::Ready => {}
                }
            }
        };
        timeout(PATIENCE, last).await.unwrap_or_else(|_| Err(Errno::TIMEDOUT.into()))
    }

    async fn hear(&self) -> Result<Told, DiskError> {
        loop {
            let mut guard = self.socket.readable().await?;
            match wire::receive_value::<Told>(self.socket.as_fd()) {
                Ok(Some((told, _))) => return Ok(told),
                Ok(None) => return Err(Errno::PIPE.into()),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Drop for DiskWatch {
    fn drop(&mut self) {
        let _gone = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _reaped = process::reap(Who::Pidfd(self.pidfd.as_fd()), true);
    }
}

/// The watcher's life. It ends when it is asked for the last walk, or when the keeper is gone.
pub fn watch(settings: &Settings, socket: &OwnedFd, fds: Vec<OwnedFd>) {
    let trees: Vec<Tree> =
        settings.names.iter().zip(fds).map(|(name, root)| Tree { name: name.clone(), root }).collect();
    let mut measure = Measure::new(trees);
    if wire::send_value(socket.as_fd(), &Told::Ready, &[]).is_err() {
        return;
    }
    let mut said = false;
    loop {
        let began = std::time::Instant::now();
        let used = measure.walk();
        if !said && used.exceeds(settings.limit) {
            said = true;
            if wire::send_value(socket.as_fd(), &Told::Over(used), &[]).is_err() {
                return;
            }
        }
        match asked(socket, PAUSE.max(began.elapsed() * PAUSE_FACTOR)) {
            Asked::Nothing => {}
            Asked::LastWalk => {
                let _keeper_gone = wire::send_value(socket.as_fd(), &Told::Last(measure.walk()), &[]);
                return;
            }
            Asked::End => return,
        }
    }
}

/// What the keeper wants.
enum Asked {
    Nothing,
    LastWalk,
    End,
}

/// Waits for a word of the keeper's, for so long.
fn asked(socket: &OwnedFd, pause: Duration) -> Asked {
    let pause = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&pause)) {
        Ok(0) | Err(Errno::INTR) => Asked::Nothing,
        Ok(_) => match wire::receive(socket.as_fd(), &mut [0; 8]) {
            Ok((b"F", _)) => Asked::LastWalk,
            Ok(_) | Err(_) => Asked::End,
        },
        Err(_) => Asked::End,
    }
}
