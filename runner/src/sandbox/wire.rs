//! How keeper, zygote, stage, init and payload talk: one SEQPACKET message each way, descriptors alongside.
//!
//! Requests and their answers are serialised values; a request's body travels in a sealed-off memory file, so its
//! size has no limit of the socket's. What init and the payload send is of fixed form: they format nothing.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread, pwrite};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::process::{Rusage, Status};

/// Descriptors in one message: control, go, maps, cgroup, at most 12 v1 hierarchies.
pub const FDS_MAX: usize = 24;
/// Bytes of one inline message.
const INLINE_MAX: usize = 4096;
/// Bytes of one request. A job's whole environment and command line fit many times over.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// Processes named in one report.
pub const LEFTOVERS_MAX: usize = 16;

/// Makes a connected pair of SEQPACKET sockets, close-on-exec.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends a small message with descriptors.
///
/// # Errors
/// EPIPE when the other side is gone.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives a message into `buffer`: its bytes and descriptors. No bytes: the other side is gone.
///
/// # Errors
/// EAGAIN on a non-blocking socket without a message.
pub fn receive<'b>(socket: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<(&'b [u8], Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((buffer.get(..length).unwrap_or_default(), fds))
}

/// Sends a value of any size: it travels in a memory file, the first descriptor of the message.
///
/// # Errors
/// EPIPE when the other side is gone; EINVAL for a value that cannot be serialised; ENOMEM.
pub fn send_value<T: Serialize>(
    socket: BorrowedFd<'_>,
    value: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let body = postcard::to_allocvec(value).map_err(|_| Errno::INVAL)?;
    let file = memfd_create(c"runner-message", MemfdFlags::CLOEXEC)?;
    let mut written = 0;
    while let Some(rest) = body.get(written..).filter(|rest| !rest.is_empty()) {
        written += pwrite(&file, rest, written as u64)?;
    }
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(fds);
    send(socket, b"V", &all)
}

/// Receives what [`send_value`] sent. `None`: the other side is gone.
///
/// # Errors
/// EBADMSG for anything that is not such a message.
pub fn receive_value<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
    let mut tag = [0; 8];
    let (bytes, mut fds) = receive(socket, &mut tag)?;
    if bytes.is_empty() && fds.is_empty() {
        return Ok(None);
    }
    if bytes != b"V" || fds.is_empty() {
        return Err(Errno::BADMSG);
    }
    let file = fds.remove(0);
    let size = fstat(&file)?.st_size as u64;
    if size > BODY_BYTES_MAX {
        return Err(Errno::BADMSG);
    }
    let mut body = vec![0; size as usize];
    let mut read = 0;
    while let Some(rest) = body.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match pread(&file, rest, read as u64)? {
            0 => return Err(Errno::BADMSG),
            n => read += n,
        }
    }
    let value = postcard::from_bytes(&body).map_err(|_| Errno::BADMSG)?;
    Ok(Some((value, fds)))
}

/// A phase of the payload, for the report of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The operation of the script with the number given.
    Script,
    /// Forking the payload.
    Fork,
    /// `PR_SET_NO_NEW_PRIVS` or a seccomp filter.
    Filter,
    /// Reading the go message.
    Go,
    /// Making or entering the working directory.
    WorkingDirectory,
    /// Standard input, output, error.
    Stdio,
    /// A resource limit.
    Rlimit,
    /// Ids, groups, capabilities.
    Credentials,
    /// `execve`; the number tells how many candidates existed.
    Exec,
}

const PHASES: [Phase; 9] = [
    Phase::Script,
    Phase::Fork,
    Phase::Filter,
    Phase::Go,
    Phase::WorkingDirectory,
    Phase::Stdio,
    Phase::Rlimit,
    Phase::Credentials,
    Phase::Exec,
];

/// A process that outlived the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Pid inside.
    pub pid: u32,
    /// `comm`, NUL-padded.
    pub name: [u8; 16],
}

/// What init or the payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "init must not allocate, and a word is never kept")]
pub enum Word {
    /// The payload waits for go.
    Ready,
    /// It could not be done.
    Failed {
        /// Where.
        phase: Phase,
        /// Which operation, limit or candidate.
        index: u32,
        /// Why.
        errno: i32,
    },
    /// The payload has ended and nothing else lives in the pid namespace.
    Report {
        /// How it ended.
        status: Status,
        /// What all reaped processes used.
        usage: Rusage,
        /// How many outlived it.
        left_count: u32,
        /// The first of them.
        left: [Left; LEFTOVERS_MAX],
    },
}

/// Bytes of the longest word.
pub const WORD_BYTES: usize = 64 + LEFTOVERS_MAX * 20;

/// Writes a word into a buffer of its own, without allocating.
pub fn encode(word: &Word) -> [u8; WORD_BYTES] {
    let mut out = [0; WORD_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for (to, from) in out.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        at += bytes.len();
    };
    match word {
        Word::Ready => put(&[1]),
        Word::Failed { phase, index, errno } => {
            put(&[2, *phase as u8]);
            put(&index.to_le_bytes());
            put(&errno.to_le_bytes());
        }
        Word::Report { status, usage, left_count, left } => {
            let (kind, value) = match status {
                Status::Exited(code) => (0, *code),
                Status::Signaled(signal) => (1, *signal),
            };
            put(&[3, kind]);
            put(&value.to_le_bytes());
            put(&usage.cpu_us.to_le_bytes());
            put(&usage.rss_max.to_le_bytes());
            put(&usage.read_bytes.to_le_bytes());
            put(&usage.write_bytes.to_le_bytes());
            put(&left_count.to_le_bytes());
            for one in left {
                put(&one.pid.to_le_bytes());
                put(&one.name);
            }
        }
    }
    out
}

/// Reads a word. `None`: these are not the bytes of one.
pub fn decode(bytes: &[u8]) -> Option<Word> {
    let mut rest = bytes;
    let mut take = |n: usize| {
        let (head, tail) = rest.split_at_checked(n)?;
        rest = tail;
        Some(head)
    };
    let mut number = |n: usize| -> Option<u64> {
        Some(take(n)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    Some(match number(1)? {
        1 => Word::Ready,
        2 => Word::Failed {
            phase: *PHASES.get(number(1)? as usize)?,
            index: number(4)? as u32,
            errno: number(4)? as i32,
        },
        3 => {
            let exited = number(1)? == 0;
            let value = number(4)? as i32;
            let status = if exited { Status::Exited(value) } else { Status::Signaled(value) };
            let usage = Rusage {
                cpu_us: number(8)?,
                rss_max: number(8)?,
                read_bytes: number(8)?,
                write_bytes: number(8)?,
            };
            let left_count = number(4)? as u32;
            let mut left = [Left::default(); LEFTOVERS_MAX];
            for one in &mut left {
                one.pid = number(4)? as u32;
                for byte in &mut one.name {
                    *byte = number(1)? as u8;
                }
            }
            Word::Report { status, usage, left_count, left }
        }
        _ => return None,
    })
}

/// Sends a word; a lost listener is noticed elsewhere.
pub fn say(socket: BorrowedFd<'_>, word: &Word) {
    let _gone = send(socket, &encode(word), &[]);
}

/// Receives a word. `None`: the other side is gone, or spoke nonsense.
///
/// # Errors
/// EAGAIN on a non-blocking socket without a message.
pub fn hear(socket: BorrowedFd<'_>) -> Result<Option<Word>, Errno> {
    let mut buffer = [0; INLINE_MAX];
    receive(socket, &mut buffer).map(|(bytes, _)| decode(bytes))
}

/// What the keeper tells init, two bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// This signal to the payload's process group.
    Signal(u8),
    /// SIGKILL to everything but init; the report follows.
    Kill,
    /// Another command beside the payload. Its sockets come along: the one for its go, and the one on which its end is told.
    Admit,
}

/// SIGTERM to the payload's process group: what asks most programs for an end.
pub const TERMINATE: Order = Order::Signal(libc::SIGTERM as u8);

impl Order {
    /// Writes it.
    pub fn bytes(self) -> [u8; 2] {
        match self {
            Self::Signal(number) => [b'S', number],
            Self::Kill => *b"K ",
            Self::Admit => *b"A ",
        }
    }

    /// Reads one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'S', number] => Some(Self::Signal(*number)),
            b"K " => Some(Self::Kill),
            b"A " => Some(Self::Admit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_survives_the_wire() {
        let left = [Left { pid: 7, name: *b"sleep\0\0\0\0\0\0\0\0\0\0\0" }; LEFTOVERS_MAX];
        let words = [
            Word::Ready,
            Word::Failed { phase: Phase::Exec, index: 3, errno: 2 },
            Word::Report {
                status: Status::Signaled(9),
                usage: Rusage { cpu_us: 1 << 40, rss_max: 5, read_bytes: 6, write_bytes: 7 },
                left_count: 400,
                left,
            },
        ];
        for word in words {
            assert_eq!(decode(&encode(&word)), Some(word));
        }
        assert_eq!(decode(&[9, 9]), None);
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn every_order_survives_the_wire() {
        for order in [TERMINATE, Order::Signal(64), Order::Kill, Order::Admit] {
            assert_eq!(Order::from_bytes(&order.bytes()), Some(order));
        }
        assert_eq!(Order::from_bytes(b"T"), None);
    }

    #[test]
    fn a_large_value_arrives_with_its_descriptors() {
        let (a, b) = pair().unwrap();
        let value = vec![7u8; 1 << 20];
        send_value(a.as_fd(), &value, &[b.as_fd()]).unwrap();
        let (got, fds) = receive_value::<Vec<u8>>(b.as_fd()).unwrap().unwrap();
        assert_eq!((got, fds.len()), (value, 1));
        drop(a);
        assert!(receive_value::<Vec<u8>>(b.as_fd()).unwrap().is_none());
    }
}
