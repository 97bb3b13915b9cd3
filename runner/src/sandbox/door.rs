//! A sandbox's door: further commands brought in beside its own, one at a time, into the same namespaces, with the same
//! filters. Init forks each, as it has forked the payload, and tells its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::spawn::{SandboxError, hear};
use super::spec::Go;
use super::wire::{self, Order, Phase, Word};
use crate::sys::process::Status;
use crate::sys::watch;

/// The keeper's side. The sandbox may end at any time; then nobody is let in any more.
#[derive(Debug)]
pub struct Door {
    control: OwnedFd,
}

impl Door {
    /// `control`: another handle on the socket on which init takes orders.
    pub(super) fn new(control: OwnedFd) -> Self {
        Self { control }
    }

    /// Brings a command in and waits for its end. Dropped before that, it is killed. `stdio`: input, output, error.
    ///
    /// # Errors
    /// [`SandboxError::Exec`] when it cannot be executed; [`SandboxError::Lost`] when the sandbox has ended, or has a guest.
    pub async fn admit(&self, go: &Go, stdio: [BorrowedFd<'_>; 3]) -> Result<Status, SandboxError> {
        let (told, go_socket) = {
            let (told, their_told) = pair()?;
            let (ours, theirs) = pair()?;
            wire::send(self.control.as_fd(), &Order::Admit.bytes(), &[theirs.as_fd(), their_told.as_fd()])
                .map_err(|_| SandboxError::Lost)?;
            (told, ours)
        };
        match hear(&go_socket).await {
            Some(Word::Ready) => {}
            Some(Word::Failed { phase, index, errno }) => return Err(failure(phase, index, errno)),
            Some(Word::Report { .. }) | None => return Err(SandboxError::Lost),
        }
        wire::send_value(go_socket.as_fd(), go, &stdio).map_err(|_| SandboxError::Lost)?;
        if let Some(Word::Failed { phase, index, errno }) = hear(&go_socket).await {
            return Err(failure(phase, index, errno));
        }
        match hear(&told).await {
            Some(Word::Report { status, .. }) => Ok(status),
            Some(Word::Failed { phase, index, errno }) => Err(failure(phase, index, errno)),
            Some(Word::Ready) | None => Err(SandboxError::Lost),
        }
    }
}

/// Our end, in the reactor, and theirs.
fn pair() -> Result<(AsyncFd<OwnedFd>, OwnedFd), SandboxError> {
    let (ours, theirs) = wire::pair().map_err(SandboxError::Zygote)?;
    let flags = fcntl_getfl(&ours).map_err(std::io::Error::from)?;
    fcntl_setfl(&ours, flags | OFlags::NONBLOCK).map_err(std::io::Error::from)?;
    Ok((watch::readable(ours)?, theirs))
}

fn failure(phase: Phase, index: u32, errno: i32) -> SandboxError {
    let errno = Errno::from_raw_os_error(errno);
    match phase {
        Phase::Exec => SandboxError::Exec { errno, existing: index },
        Phase::WorkingDirectory => SandboxError::Payload { what: "enter the working directory", errno },
        Phase::Script
        | Phase::Fork
        | Phase::Filter
        | Phase::Go
        | Phase::Stdio
        | Phase::Rlimit
        | Phase::Credentials => SandboxError::Payload { what: "start a command in the sandbox", errno },
    }
}
