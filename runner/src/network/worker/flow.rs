//! The table of connections: by what the job calls them, and by their port at the gate.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::limits::CLOSED_MAX;
use super::relay::{Half, Ready, Side};
use super::stream::Messages;
use crate::network::ledger::Destination;
use crate::network::packet::{Ends, flag};

/// Where a connection stands.
#[derive(Debug)]
pub enum State {
    /// The world is asked; the first segment waits.
    Connecting {
        /// The segment, with its virtio header.
        syn: Vec<u8>,
        /// The socket.
        host: OwnedFd,
    },
    /// The world has answered, the segment went on, and the kernel behind the gate answers it.
    Accepting {
        /// The connected socket.
        host: OwnedFd,
    },
    /// Bytes pass.
    Open(Box<Relay>),
    /// Both sockets are closed; their kernels say goodbye.
    Closed,
}

/// The two sockets and what is between them.
#[derive(Debug)]
pub struct Relay {
    /// To the world.
    pub host: Side,
    /// To the job.
    pub gate: Side,
    /// From the job to the world.
    pub up: Half,
    /// From the world to the job.
    pub down: Half,
    /// For questions to the resolver: what is between is read.
    pub messages: Option<Messages>,
}

impl Relay {
    /// Between two connected sockets that may both be ready. `is_dns`: see [`Self::messages`].
    pub fn new(host: OwnedFd, gate: OwnedFd, is_dns: bool) -> Self {
        let side = |socket| Side { socket, ready: Ready { read: true, write: true } };
        Self {
            host: side(host),
            gate: side(gate),
            up: Half::default(),
            down: Half::default(),
            messages: is_dns.then(Messages::default),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Flow {
    /// Tells it from others that had its place before.
    pub generation: u32,
    /// As the job calls it.
    pub ends: Ends,
    /// Sequence number of its first segment.
    pub sequence: u32,
    /// Its port at the gate.
    pub port: u16,
    /// Where it stands.
    pub state: State,
    /// Its line in the ledger.
    pub destination: Destination,
    /// When something last happened.
    pub touched: Instant,
    /// Goodbyes seen: the job's, the gate's.
    pub goodbye: (bool, bool),
    /// It is in the queue of those that can go on at once.
    pub queued: bool,
    /// Its first bytes were looked at.
    pub looked: bool,
}

impl Flow {
    /// Notes a segment's goodbye. `from_job`: which side sent it.
    pub fn note(&mut self, flags: u8, from_job: bool, now: Instant) {
        self.touched = now;
        if flags & flag::RST != 0 {
            self.goodbye = (true, true);
        } else if flags & flag::FIN != 0 {
            if from_job {
                self.goodbye.0 = true;
            } else {
                self.goodbye.1 = true;
            }
        }
    }

    /// Whether both sides have said goodbye.
    pub fn is_over(&self) -> bool {
        self.goodbye == (true, true)
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Flows {
    slots: Vec<Option<Flow>>,
    free: Vec<usize>,
    by_ends: HashMap<Ends, usize>,
    by_port: HashMap<u16, usize>,
    /// Closed ones in the order of their ends.
    closed: VecDeque<(usize, u32)>,
    generation: u32,
    next_port: u16,
    /// How many are connecting.
    pub connecting: usize,
    /// How many are not closed.
    pub live: usize,
}

impl Flows {
    /// The one at a place, if it is still the one of that generation.
    pub fn at(&mut self, index: usize, generation: u32) -> Option<&mut Flow> {
        self.slots.get_mut(index)?.as_mut().filter(|flow| flow.generation == generation)
    }

    /// The place and flow of what the job calls so.
    pub fn of_job(&mut self, ends: &Ends) -> Option<(usize, &mut Flow)> {
        let index = *self.by_ends.get(ends)?;
        self.slots.get_mut(index)?.as_mut().map(|flow| (index, flow))
    }

    /// The place and flow of a port at the gate.
    pub fn of_gate(&mut self, port: u16) -> Option<(usize, &mut Flow)> {
        let index = *self.by_port.get(&port)?;
        self.slots.get_mut(index)?.as_mut().map(|flow| (index, flow))
    }

    /// A place, a generation and a port at the gate for a new connection. `None`: all ports are taken.
    pub fn reserve(&mut self) -> Option<(usize, u32, u16)> {
        // Ports go round, so that one is used again late: the kernel behind the gate remembers its last connection.
        let port = (0..u16::MAX).find_map(|_| {
            self.next_port = self.next_port.wrapping_add(1).max(1);
            (!self.by_port.contains_key(&self.next_port)).then_some(self.next_port)
        })?;
        let index = self.free.last().copied().unwrap_or(self.slots.len());
        self.generation = self.generation.wrapping_add(1) & 0x00ff_ffff;
        Some((index, self.generation, port))
    }

    /// The one at a place.
    pub fn get(&mut self, index: usize) -> Option<&mut Flow> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// Puts a connection in the place that [`Self::reserve`] gave.
    pub fn insert(&mut self, index: usize, flow: Flow) {
        self.by_ends.insert(flow.ends, index);
        self.by_port.insert(flow.port, index);
        self.live += 1;
        self.connecting += usize::from(matches!(flow.state, State::Connecting { .. }));
        if index == self.slots.len() {
            self.slots.push(Some(flow));
        } else if let Some(slot) = self.slots.get_mut(index) {
            self.free.pop();
            *slot = Some(flow);
        }
    }

    /// Changes a connection's state.
    pub fn change(&mut self, index: usize, change: impl FnOnce(State) -> State) {
        let Some(Some(flow)) = self.slots.get_mut(index) else { return };
        let weight = |state: &State| {
            (
                usize::from(!matches!(state, State::Closed)),
                usize::from(matches!(state, State::Connecting { .. })),
            )
        };
        let before = weight(&flow.state);
        flow.state = change(std::mem::replace(&mut flow.state, State::Closed));
        let after = weight(&flow.state);
        (self.live, self.connecting) = (self.live + after.0 - before.0, self.connecting + after.1 - before.1);
        if after.0 < before.0 {
            self.closed.push_back((index, flow.generation));
            self.make_room();
        }
    }

    /// The oldest closed connection makes room.
    fn make_room(&mut self) {
        if self.closed.len() > CLOSED_MAX
            && let Some((oldest, generation)) = self.closed.pop_front()
            && self.at(oldest, generation).is_some_and(|flow| matches!(flow.state, State::Closed))
        {
            self.remove(oldest);
        }
    }

    /// Forgets a connection.
    pub fn remove(&mut self, index: usize) -> Option<Flow> {
        let flow = self.slots.get_mut(index)?.take()?;
        self.free.push(index);
        self.by_ends.remove(&flow.ends);
        self.by_port.remove(&flow.port);
        self.live -= usize::from(!matches!(flow.state, State::Closed));
        self.connecting -= usize::from(matches!(flow.state, State::Connecting { .. }));
        Some(flow)
    }

    /// All connections with their places.
    pub fn all(&mut self) -> impl Iterator<Item = (usize, &mut Flow)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| slot.as_mut().map(|flow| (index, flow)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_ends.is_empty()
    }

    /// Drops what [`Self::remove`] left of closed ones in the queue.
    pub fn tidy(&mut self) {
        let slots = &self.slots;
        self.closed.retain(|(index, generation)| {
            slots.get(*index).and_then(Option::as_ref).is_some_and(|flow| flow.generation == *generation)
        });
    }
}
