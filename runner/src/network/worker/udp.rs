//! Datagrams: a socket to the world for each pair of ends, until it has been silent for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::limits::{ASSOCIATIONS_MAX, SILENCE_UDP, TURN_DATAGRAMS};
use super::tcp::DNS_PORT;
use super::{Decision, Source, Worker};
use crate::network::answer::{self, Unreachable};
use crate::network::ledger::{Destination, Protocol, Verdict};
use crate::network::packet::Ends;

/// One conversation.
#[derive(Debug)]
pub struct Association {
    generation: u32,
    ends: Ends,
    socket: OwnedFd,
    destination: Destination,
    touched: Instant,
    sent: u64,
    received: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Associations {
    slots: Vec<Option<Association>>,
    by_ends: HashMap<Ends, usize>,
    generation: u32,
}

impl Associations {
    pub fn is_empty(&self) -> bool {
        self.by_ends.is_empty()
    }

    fn at(&mut self, index: usize) -> Option<&mut Association> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// A free place: a new one, or that of the conversation that was silent longest.
    fn place(&mut self) -> usize {
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            return free;
        }
        if self.slots.len() < ASSOCIATIONS_MAX {
            self.slots.push(None);
            return self.slots.len() - 1;
        }
        let touched =
            |(index, slot): (usize, &Option<Association>)| slot.as_ref().map(|one| (one.touched, index));
        self.slots.iter().enumerate().filter_map(touched).min().map_or(0, |(_, index)| index)
    }
}

/// A connected datagram socket: only the one who was asked can answer.
pub(super) fn socket_to(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    connect(&socket, &target)?;
    Ok(socket)
}

impl Worker {
    /// A datagram of the job's.
    pub(super) fn datagram_of_job(&mut self, frame: &[u8], ends: &Ends, payload: usize) {
        let bytes = frame.get(payload..).unwrap_or_default();
        if ends.to == SocketAddr::from((self.settings.addresses.resolver(), DNS_PORT)) {
            return self.question(ends.from, bytes);
        }
        let index = match self.associations.by_ends.get(ends) {
            Some(index) => *index,
            None => match self.associate(frame, ends) {
                Some(index) => index,
                None => return,
            },
        };
        if self.sends.available(self.now) < bytes.len() as u64 {
            return;
        }
        self.sends.take(bytes.len() as u64);
        let now = self.now;
        let Some(one) = self.associations.at(index) else { return };
        one.touched = now;
        match retry_on_intr(|| send(&one.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)) {
            Ok(count) => one.sent += count as u64,
            // The answer to an earlier datagram.
            Err(Errno::CONNREFUSED) => {
                self.refuse(frame, ends.to.ip(), ends.from.ip(), Unreachable::Port);
            }
            // Too long, or no room: lost.
            Err(_) => {}
        }
    }

    fn associate(&mut self, frame: &[u8], ends: &Ends) -> Option<usize> {
        let destination = match self.decide(Protocol::Udp, ends.to) {
            Decision::Go(destination) => destination,
            Decision::Refuse(destination, why, note) => {
                self.ledger.count(&destination, Some(note));
                self.refuse(frame, ends.to.ip(), ends.from.ip(), why);
                return None;
            }
        };
        let socket = match socket_to(ends.to) {
            Ok(socket) => socket,
            Err(errno) => {
                let failed = Destination { verdict: Verdict::Failed(errno.raw_os_error()), ..destination };
                self.ledger.count(&failed, None);
                if let Some(why) = super::unreachable_for(errno) {
                    self.refuse(frame, ends.to.ip(), ends.from.ip(), why);
                }
                return None;
            }
        };
        let index = self.associations.place();
        self.forget_association(index);
        self.associations.generation = self.associations.generation.wrapping_add(1) & 0x00ff_ffff;
        let generation = self.associations.generation;
        self.watch(&socket, Source::Association(index, generation), EventFlags::IN).ok()?;
        self.ledger.count(&destination, None);
        let touched = self.now;
        let one = Association { generation, ends: *ends, socket, destination, touched, sent: 0, received: 0 };
        if let Some(slot) = self.associations.slots.get_mut(index) {
            *slot = Some(one);
        }
        self.associations.by_ends.insert(*ends, index);
        Some(index)
    }

    /// Datagrams of the world.
    pub(super) fn datagrams(&mut self, index: usize, generation: u32) {
        let mut buffer = std::mem::take(&mut self.scratch);
        for _ in 0..TURN_DATAGRAMS {
            let now = self.now;
            let Some(one) = self.associations.at(index).filter(|one| one.generation == generation) else {
                break;
            };
            let Ends { from, to } = one.ends;
            match retry_on_intr(|| recv(&one.socket, &mut *buffer, RecvFlags::DONTWAIT)) {
                Ok((_, length)) => {
                    one.touched = now;
                    if self.receives.available(now) < length as u64 {
                        continue;
                    }
                    self.receives.take(length as u64);
                    one.received += length as u64;
                    self.give_job(answer::datagram(to, from, buffer.get(..length).unwrap_or_default()));
                }
                Err(Errno::CONNREFUSED) => {
                    // What was refused is not here any more: a datagram with the same ends stands for it.
                    if let Some(stands_for) = answer::datagram(from, to, &[]) {
                        self.refuse(&stands_for, to.ip(), from.ip(), Unreachable::Port);
                    }
                }
                Err(_) => break,
            }
        }
        self.scratch = buffer;
    }

    fn forget_association(&mut self, index: usize) {
        if let Some(one) = self.associations.slots.get_mut(index).and_then(Option::take) {
            self.ledger.add(&one.destination, one.sent, one.received);
            self.associations.by_ends.remove(&one.ends);
        }
    }

    pub(super) fn count_associations(&mut self) {
        for one in self.associations.slots.iter_mut().flatten() {
            self.ledger.add(&one.destination, one.sent, one.received);
            (one.sent, one.received) = (0, 0);
        }
    }

    pub(super) fn sweep_associations(&mut self) {
        let now = self.now;
        let silent = |one: &Association| now.saturating_duration_since(one.touched) >= SILENCE_UDP;
        let old: Vec<usize> = self
            .associations
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.as_ref().is_some_and(silent))
            .map(|(index, _)| index)
            .collect();
        old.into_iter().for_each(|index| self.forget_association(index));
    }
}
