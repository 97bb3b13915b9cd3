//! Bytes from one socket to another, in both directions: by a buffer first, by a pipe once a direction is busy.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::limits::{PIPE_BYTES, READ_BYTES, SPLICE_AFTER_BYTES};

/// What is known of a socket's readiness, since its events are told once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ready {
    /// It may have bytes, or its end.
    pub read: bool,
    /// It may take bytes.
    pub write: bool,
}

/// A socket of a relay.
#[derive(Debug)]
pub struct Side {
    /// The socket.
    pub socket: OwnedFd,
    /// Its readiness.
    pub ready: Ready,
}

/// A pipe with bytes on their way.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Half {
    /// Read and not yet written.
    pending: Vec<u8>,
    written: usize,
    pipe: Option<Pipe>,
    /// The source has ended.
    ended: bool,
    /// And its end was passed on.
    pub closed: bool,
    /// Bytes written so far.
    pub moved: u64,
    /// Bytes of `moved` that the ledger has.
    pub counted: u64,
}

impl Half {
    /// Queues bytes of our own.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Whether everything that was read has been written.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.pipe.as_ref().is_none_or(|pipe| pipe.filled == 0)
    }

    /// Says that the source has ended.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the source has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes not yet in the ledger.
    pub fn uncounted(&mut self) -> u64 {
        let fresh = self.moved - self.counted;
        self.counted = self.moved;
        fresh
    }

    /// Whether the pipe's two descriptors are in use.
    pub fn is_spliced(&self) -> bool {
        self.pipe.is_some()
    }

    /// Writes what is pending, and passes the end on behind it. True: nothing is pending.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self, to: &mut Side) -> Result<bool, Errno> {
        while to.ready.write && self.written < self.pending.len() {
            let rest = self.pending.get(self.written..).unwrap_or_default();
            match send(&to.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => {
                    self.written += count;
                    self.moved += count as u64;
                }
                Err(Errno::AGAIN) => to.ready.write = false,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.written == self.pending.len() {
            self.written = 0;
            // A burst's buffer is not kept for the rest of a quiet connection's life.
            self.pending = Vec::new();
        }
        self.empty_pipe(to)?;
        let empty = self.is_empty();
        if empty && self.ended && !self.closed {
            self.closed = true;
            match shutdown(&to.socket, Shutdown::Write) {
                // The other side may have reset the connection already.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(empty)
    }

    fn empty_pipe(&mut self, to: &mut Side) -> Result<(), Errno> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        while to.ready.write && pipe.filled > 0 {
            match move_bytes(pipe.read.as_fd(), to.socket.as_fd(), pipe.filled) {
                Ok(count) => {
                    pipe.filled -= count;
                    self.moved += count as u64;
                }
                Err(Errno::AGAIN) => to.ready.write = false,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Reads at most `max` bytes into `scratch` and hands them to `look`; then writes them. Returns how many were read:
    /// 0 when nothing can be done now.
    ///
    /// # Errors
    /// Either socket's.
    pub fn step(
        &mut self,
        (from, to): (&mut Side, &mut Side),
        scratch: &mut [u8],
        max: u64,
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, Errno> {
        if !self.flush(to)? || self.ended || !from.ready.read || !to.ready.write {
            return Ok(0);
        }
        if max == 0 {
            return Ok(0);
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if self.pipe.is_some() {
            return self.step_by_pipe((from, to), max);
        }
        let room = scratch.len().min(READ_BYTES).min(max);
        let Some(buffer) = scratch.get_mut(..room).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let count = match retry_on_intr(|| recv(&from.socket, &mut *buffer, RecvFlags::DONTWAIT)) {
            Ok((_, 0)) => {
                self.ended = true;
                self.flush(to)?;
                return Ok(0);
            }
            Ok((_, count)) => count,
            Err(Errno::AGAIN) => {
                from.ready.read = false;
                return Ok(0);
            }
            Err(errno) => return Err(errno),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        look(bytes);
        let sent = match send(&to.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        self.moved += sent as u64;
        if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            self.pending.extend_from_slice(rest);
            self.flush(to)?;
        }
        Ok(count as u64)
    }

    fn step_by_pipe(&mut self, (from, to): (&mut Side, &mut Side), max: usize) -> Result<u64, Errno> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        match move_bytes(from.socket.as_fd(), pipe.write.as_fd(), max.min(PIPE_BYTES)) {
            Ok(0) => {
                self.ended = true;
                self.flush(to)?;
                Ok(0)
            }
            Ok(count) => {
                pipe.filled += count;
                self.empty_pipe(to)?;
                Ok(count as u64)
            }
            // The pipe was empty: it is the socket that has nothing.
            Err(Errno::AGAIN) => {
                from.ready.read = false;
                Ok(0)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Goes over to a pipe if the direction is busy enough. Without a pipe it stays as it is.
    pub fn consider_splicing(&mut self) -> bool {
        if self.pipe.is_some() || self.moved < SPLICE_AFTER_BYTES || !self.is_empty() {
            return false;
        }
        let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else { return false };
        let _default = fcntl_setpipe_size(&write, PIPE_BYTES);
        self.pipe = Some(Pipe { read, write, filled: 0 });
        true
    }
}

fn move_bytes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match splice(from, None, to, None, most, flags) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (Side, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (Side { socket: a, ready: Ready { read: true, write: true } }, b)
    }

    /// Moves all that can be moved.
    fn pump(half: &mut Half, from: &mut Side, to: &mut Side) {
        let mut scratch = vec![0; READ_BYTES];
        while half.step((from, to), &mut scratch, u64::MAX, &mut |_| {}).unwrap() > 0 {}
    }

    fn read_all(socket: &OwnedFd) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return (all, true),
                Ok((_, count)) => all.extend_from_slice(&buffer[..count]),
                Err(_) => return (all, false),
            }
        }
    }

    #[test]
    fn bytes_and_their_end_pass() {
        let ((mut from, writer), (mut to, reader)) = (pair(), pair());
        let mut half = Half::default();
        send(&writer, b"hello", SendFlags::empty()).unwrap();
        pump(&mut half, &mut from, &mut to);
        assert_eq!(read_all(&reader), (b"hello".to_vec(), false));
        drop(writer);
        from.ready.read = true;
        pump(&mut half, &mut from, &mut to);
        assert_eq!(read_all(&reader), (vec![], true));
        assert!(half.closed && half.moved == 5);
    }

    #[test]
    fn a_stalled_reader_stops_the_reading() {
        let ((mut from, writer), (mut to, reader)) = (pair(), pair());
        let mut half = Half::default();
        let chunk = vec![7; 8192];
        let (mut sent, mut got) = (0, Vec::new());
        for round in 0..2_000 {
            while let Ok(count) = send(&writer, &chunk, SendFlags::DONTWAIT) {
                sent += count;
                if sent > (2 << 20) * (round + 1) {
                    break;
                }
            }
            from.ready.read = true;
            pump(&mut half, &mut from, &mut to);
            assert!(half.pending.len() <= READ_BYTES, "{}", half.pending.len());
            if round == 1_000 || sent > 64 << 20 {
                break;
            }
        }
        // It reads on: everything arrives.
        for _ in 0..100_000 {
            got.append(&mut read_all(&reader).0);
            if got.len() >= sent {
                break;
            }
            (from.ready, to.ready) = (Ready { read: true, write: true }, Ready { read: true, write: true });
            pump(&mut half, &mut from, &mut to);
        }
        assert_eq!(got.len(), sent);
    }
}
