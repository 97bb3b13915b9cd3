//! What keeper and worker say to each other: one byte that way, values of bounded size this way.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::{Deserialize, Serialize};

use super::address::Addresses;
use super::ledger::{Destination, Sheet, Tally};
use super::policy::Policy;

/// Bytes of one message: names are bounded, so a line is far below it.
const MESSAGE_BYTES: usize = 4096;

/// What the worker is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The job's addresses.
    pub addresses: Addresses,
    /// Where it may go.
    pub policy: Policy,
    /// Whom to ask for names, in order.
    pub resolvers: Vec<std::net::IpAddr>,
    /// Bytes a second from the world.
    pub receive_rate: Option<u64>,
    /// Bytes a second to the world.
    pub send_rate: Option<u64>,
    /// Its system call filter.
    pub filter: Vec<u8>,
    /// Which user and group to become; `None`: it stays what it is.
    pub ids: Option<u32>,
    /// How many descriptors behind the interfaces are listeners; the rest are cgroup files to enter by.
    pub listeners: usize,
}

/// What the keeper says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Say where the job went since the last time.
    Report = b'R',
    /// The steps are over: let the last bytes out, and end.
    Drain = b'D',
}

/// What the worker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    /// A line of the report.
    Line(Box<(Destination, Tally)>),
    /// The report's end.
    Sums {
        /// Lines that found no room.
        dropped: u64,
        /// Bytes sent.
        sent: u64,
        /// Bytes received.
        received: u64,
    },
    /// It cannot do its work.
    Failed {
        /// Fits after "cannot".
        what: String,
        /// Why.
        errno: i32,
    },
}

/// Gives an order.
///
/// # Errors
/// EPIPE when the worker is gone.
pub fn order(socket: BorrowedFd<'_>, order: Order) -> Result<(), Errno> {
    send(socket, &[order as u8], SendFlags::NOSIGNAL).map(drop)
}

/// Hears an order. `Ok(None)`: there is none now.
///
/// # Errors
/// EPIPE when the keeper is gone; EBADMSG for a word that is no order.
pub fn heed(socket: BorrowedFd<'_>) -> Result<Option<Order>, Errno> {
    let mut word = [0; 1];
    match recv(socket, &mut word, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Err(Errno::PIPE),
        Ok(_) => [Order::Report, Order::Drain]
            .into_iter()
            .find(|order| *order as u8 == word[0])
            .map_or(Err(Errno::BADMSG), |order| Ok(Some(order))),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Tells the keeper.
///
/// # Errors
/// EPIPE when it is gone.
pub fn tell(socket: BorrowedFd<'_>, told: &Told) -> Result<(), Errno> {
    let bytes = postcard::to_allocvec(told).map_err(|_| Errno::INVAL)?;
    loop {
        match send(socket, &bytes, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Hears the worker.
///
/// # Errors
/// EAGAIN when it has said nothing; EPIPE when it is gone; EBADMSG for nonsense.
pub fn hear(socket: BorrowedFd<'_>) -> Result<Told, Errno> {
    let mut buffer = [0; MESSAGE_BYTES];
    let (_, length) = recv(socket, &mut buffer, RecvFlags::DONTWAIT)?;
    if length == 0 {
        return Err(Errno::PIPE);
    }
    postcard::from_bytes(buffer.get(..length).unwrap_or_default()).map_err(|_| Errno::BADMSG)
}

/// Tells a whole sheet.
///
/// # Errors
/// EPIPE when the keeper is gone.
pub fn tell_sheet(socket: impl AsFd, sheet: Sheet) -> Result<(), Errno> {
    let Sheet { lines, dropped, sent, received } = sheet;
    for line in lines {
        tell(socket.as_fd(), &Told::Line(Box::new(line)))?;
    }
    tell(socket.as_fd(), &Told::Sums { dropped, sent, received })
}
