//! Descriptors in tokio's reactor.

#![expect(unsafe_code, reason = "AsyncFd::register asks that the descriptor stay open")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers an owned, non-blocking descriptor (or a pidfd) for readability.
///
/// # Errors
/// Those of epoll_ctl(2).
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `AsyncFd` owns the `OwnedFd` from here on, whose number never changes and which is closed
    // only when the `AsyncFd` is dropped and has deregistered it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
