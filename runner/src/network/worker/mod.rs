//! The worker: a process of its own for each job, between the job's interface and the gate's.
//!
//! One thread, one epoll. It holds no secret, opens no file and starts no program (`filter`); it ends when the keeper does,
//! and with it the job's way out.

mod flow;
mod limits;
mod lock;
mod relay;
mod resolver;
mod stream;
mod tcp;
mod udp;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use self::flow::Flows;
use self::limits::{DRAIN_PATIENCE, SETTLE_PACKETS, SWEEP, TURN_PACKETS};
use self::resolver::Queries;
use self::udp::Associations;
use super::answer::{self, Unreachable};
use super::bucket::Bucket;
use super::control::{self, Order, Settings, Told};
use super::ledger::{Destination, Ledger, Protocol, Verdict};
use super::netlink::{Netlink, Route};
use super::packet::{self, FRAME_BYTES_MAX, Packet};
use super::policy::{self, Names};
use crate::sys::tun;

/// Events taken at once.
const EVENTS: usize = 256;

/// What an event is about: a kind in the highest byte, a generation, a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Job,
    Gate,
    Listener(usize),
    Control,
    FlowHost(usize, u32),
    FlowGate(usize, u32),
    Association(usize, u32),
    Query(usize, u32),
}

impl Source {
    fn token(self) -> u64 {
        let (kind, index, generation) = match self {
            Self::Job => (0, 0, 0),
            Self::Gate => (1, 0, 0),
            Self::Listener(index) => (2, index, 0),
            Self::Control => (3, 0, 0),
            Self::FlowHost(index, generation) => (4, index, generation),
            Self::FlowGate(index, generation) => (5, index, generation),
            Self::Association(index, generation) => (6, index, generation),
            Self::Query(index, generation) => (7, index, generation),
        };
        kind << 56 | u64::from(generation & 0x00ff_ffff) << 32 | index as u64 & 0xffff_ffff
    }

    fn from_token(token: u64) -> Self {
        let (index, generation) = ((token & 0xffff_ffff) as usize, (token >> 32) as u32 & 0x00ff_ffff);
        match token >> 56 {
            0 => Self::Job,
            1 => Self::Gate,
            2 => Self::Listener(index),
            3 => Self::Control,
            4 => Self::FlowHost(index, generation),
            5 => Self::FlowGate(index, generation),
            6 => Self::Association(index, generation),
            _ => Self::Query(index, generation),
        }
    }
}

/// Whether a destination may be asked for, and what the ledger calls it.
enum Decision {
    Go(Destination),
    Refuse(Destination, Unreachable, &'static str),
}

/// The worker's whole state.
struct Worker {
    settings: Settings,
    control: OwnedFd,
    job: OwnedFd,
    gate: OwnedFd,
    listeners: Vec<OwnedFd>,
    epoll: OwnedFd,
    routes: Netlink,
    flows: Flows,
    associations: Associations,
    queries: Queries,
    names: Names,
    ledger: Ledger,
    receives: Bucket,
    sends: Bucket,
    /// Connections that can go on without an event.
    turns: VecDeque<(usize, u32)>,
    /// Connections that wait for their bandwidth.
    capped: Vec<(usize, u32)>,
    spliced: usize,
    scratch: Vec<u8>,
    now: Instant,
    swept: Instant,
    draining: Option<Instant>,
}

/// The worker's life. `fds`: the job's interface, the gate's, the listeners, cgroup files.
pub fn run(settings: Settings, control: &OwnedFd, fds: Vec<OwnedFd>) {
    let begun = lock::prepare(&settings, fds).and_then(|(parts, routes)| {
        Worker::new(settings, control, parts, routes).map_err(|errno| ("watch the network", errno))
    });
    match begun {
        Ok(mut worker) => worker.work(),
        Err((what, errno)) => {
            let told = Told::Failed { what: what.to_owned(), errno: errno.raw_os_error() };
            let _keeper_gone = control::tell(control.as_fd(), &told);
        }
    }
}

impl Worker {
    fn new(
        settings: Settings,
        control: &OwnedFd,
        parts: lock::Parts,
        routes: Netlink,
    ) -> Result<Self, Errno> {
        let epoll = parts.epoll;
        let now = Instant::now();
        let worker = Self {
            receives: Bucket::new(settings.receive_rate, now),
            sends: Bucket::new(settings.send_rate, now),
            settings,
            control: rustix::io::fcntl_dupfd_cloexec(control, 3)?,
            job: parts.job,
            gate: parts.gate,
            listeners: parts.listeners,
            epoll,
            routes,
            flows: Flows::default(),
            associations: Associations::default(),
            queries: Queries::default(),
            names: Names::default(),
            ledger: Ledger::default(),
            turns: VecDeque::new(),
            capped: Vec::new(),
            spliced: 0,
            scratch: vec![0; FRAME_BYTES_MAX],
            now,
            swept: now,
            draining: None,
        };
        worker.watch(&worker.job, Source::Job, epoll::EventFlags::IN)?;
        worker.watch(&worker.gate, Source::Gate, epoll::EventFlags::IN)?;
        worker.watch(&worker.control, Source::Control, epoll::EventFlags::IN)?;
        for (index, listener) in worker.listeners.iter().enumerate() {
            worker.watch(listener, Source::Listener(index), epoll::EventFlags::IN)?;
        }
        Ok(worker)
    }

    fn watch(&self, fd: impl AsFd, source: Source, flags: epoll::EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(source.token()), flags)
    }

    /// Until the keeper is gone, or everything has drained.
    fn work(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let timeout = self.timeout();
            let waited =
                epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            match waited {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            self.now = Instant::now();
            for event in &events {
                let (source, flags) = (Source::from_token(event.data.u64()), event.flags);
                if !self.attend(source, flags) {
                    return;
                }
            }
            self.take_turns();
            if self.now.saturating_duration_since(self.swept) >= SWEEP {
                self.sweep();
            }
            if self.draining.is_some_and(|until| self.now >= until || self.has_drained()) {
                // The steps are over: nobody is left who could be misled by an interface without a worker.
                tun::leave_to_namespace(&self.job);
                tun::leave_to_namespace(&self.gate);
                return;
            }
        }
    }

    /// How long to sleep: not at all, until bandwidth or time is there, or until something happens.
    fn timeout(&self) -> Option<Timespec> {
        let wait = if !self.turns.is_empty() {
            Duration::ZERO
        } else if !self.capped.is_empty() {
            let least = limits::CAPPED_BYTES_MIN;
            self.receives.wait(least).max(self.sends.wait(least)).max(Duration::from_millis(1))
        } else if self.flows.is_empty() && self.associations.is_empty() && self.queries.is_empty() {
            if self.draining.is_some() { SWEEP } else { return None }
        } else {
            SWEEP
        };
        Some(Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) })
    }

    /// False: the worker ends.
    fn attend(&mut self, source: Source, flags: epoll::EventFlags) -> bool {
        match source {
            Source::Job => return self.read_job(TURN_PACKETS),
            Source::Gate => return self.read_gate(TURN_PACKETS),
            Source::Listener(index) => self.accept(index),
            Source::Control => return self.obey(),
            Source::FlowHost(index, generation) => self.host_event(index, generation, flags),
            Source::FlowGate(index, generation) => self.gate_event(index, generation, flags),
            Source::Association(index, generation) => self.datagrams(index, generation),
            Source::Query(index, generation) => self.answered(index, generation),
        }
        true
    }

    fn obey(&mut self) -> bool {
        match control::heed(self.control.as_fd()) {
            Ok(Some(Order::Report)) => self.report().is_ok(),
            Ok(Some(Order::Drain)) => {
                self.draining = Some(self.now + DRAIN_PATIENCE);
                self.settle();
                true
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Does what can be done at once, so that nothing of a step that has ended is counted for the next.
    fn settle(&mut self) {
        self.read_job(SETTLE_PACKETS);
        self.read_gate(SETTLE_PACKETS);
        self.take_turns();
    }

    fn report(&mut self) -> Result<(), Errno> {
        self.settle();
        self.count_all();
        control::tell_sheet(&self.control, self.ledger.take())
    }

    /// Reads packets of the job. False: its interface is gone.
    fn read_job(&mut self, most: usize) -> bool {
        let mut frame = std::mem::take(&mut self.scratch);
        let alive = self.read_frames(most, true, &mut frame);
        self.scratch = frame;
        alive
    }

    fn read_gate(&mut self, most: usize) -> bool {
        let mut frame = std::mem::take(&mut self.scratch);
        let alive = self.read_frames(most, false, &mut frame);
        self.scratch = frame;
        alive
    }

    fn read_frames(&mut self, most: usize, from_job: bool, buffer: &mut [u8]) -> bool {
        for _ in 0..most {
            let device = if from_job { &self.job } else { &self.gate };
            let length = match rustix::io::read(device, &mut *buffer) {
                Ok(length) => length,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            let Some(frame) = buffer.get_mut(..length) else { continue };
            match (packet::parse(frame), from_job) {
                (Some(packet), true) => self.of_job(frame, packet),
                (Some(Packet::Tcp { ends, flags, .. }), false) => self.segment_of_gate(frame, &ends, flags),
                (Some(Packet::Udp { .. } | Packet::Echo { .. }), false) | (None, _) => {}
            }
        }
        true
    }

    /// A packet of the job's. Whoever forged its source gets no answer.
    fn of_job(&mut self, frame: &mut [u8], packet: Packet) {
        match packet {
            Packet::Tcp { ends, flags, sequence } => {
                if self.settings.addresses.is_guest(ends.from.ip()) {
                    self.segment_of_job(frame, &ends, flags, sequence);
                }
            }
            Packet::Udp { ends, payload } => {
                if self.settings.addresses.is_guest(ends.from.ip()) {
                    self.datagram_of_job(frame, &ends, payload);
                }
            }
            Packet::Echo { from, to } => {
                if self.settings.addresses.is_guest(from) {
                    let destination = self.destination(Protocol::Ping, to, None, Verdict::Blocked);
                    self.ledger.count(&destination, Some("ping does not leave the job"));
                    self.refuse(frame, to, from, Unreachable::Prohibited);
                }
            }
        }
    }

    /// Says to the job that a packet of its did not get through.
    fn refuse(&self, frame: &[u8], from: IpAddr, to: IpAddr, why: Unreachable) {
        self.give_job(answer::unreachable(frame, from, to, why));
    }

    /// Gives the job a packet. One that finds no room is lost, as on any network.
    fn give_job(&self, frame: Option<Vec<u8>>) {
        if let Some(frame) = frame {
            let _lost = rustix::io::write(&self.job, &frame);
        }
    }

    fn destination(
        &self,
        protocol: Protocol,
        address: IpAddr,
        port: Option<u16>,
        verdict: Verdict,
    ) -> Destination {
        let name = self.names.last(address).map(str::to_owned);
        Destination { protocol, name, address: Some(address), port, verdict }
    }

    /// Settles whether the job may go there. What the table of routes says is asked each time: it changes.
    fn decide(&self, protocol: Protocol, to: SocketAddr) -> Decision {
        let (address, port) = (to.ip(), to.port());
        let destination = |verdict| self.destination(protocol, address, Some(port), verdict);
        let blocked = |note| Decision::Refuse(destination(Verdict::Blocked), Unreachable::Prohibited, note);
        if policy::unwrap(address) != address {
            return blocked("IPv4 in IPv6");
        }
        if let Some(what) = policy::closed(address) {
            return blocked(what);
        }
        if self.settings.addresses.contains(address) {
            return blocked("the job's own network");
        }
        let Some(name) = self.names.permitted(&self.settings.policy, address, port) else {
            return blocked("not in `network.allow`");
        };
        let failed = |errno: Errno| {
            let why = unreachable_for(errno).unwrap_or(Unreachable::Network);
            Decision::Refuse(destination(Verdict::Failed(errno.raw_os_error())), why, "no route")
        };
        match self.routes.route_to(address) {
            Ok(Route::Away) => Decision::Go(Destination {
                protocol,
                name: name.map(str::to_owned),
                address: Some(address),
                port: Some(port),
                verdict: Verdict::Open,
            }),
            Ok(Route::Ours) => blocked("an address of this machine"),
            Ok(Route::None(errno)) | Err(errno) => failed(errno),
        }
    }

    /// Drops what has outlived its time.
    fn sweep(&mut self) {
        self.swept = self.now;
        self.sweep_flows();
        self.sweep_associations();
        self.sweep_queries();
    }
}

/// How an errno of the world is said to the job; `None`: silence says it.
fn unreachable_for(errno: Errno) -> Option<Unreachable> {
    match errno {
        Errno::NETUNREACH => Some(Unreachable::Network),
        Errno::HOSTUNREACH | Errno::HOSTDOWN => Some(Unreachable::Host),
        Errno::ACCESS | Errno::PERM => Some(Unreachable::Prohibited),
        _ => None,
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_were_written() {
        for source in [
            Source::Job,
            Source::Gate,
            Source::Listener(1),
            Source::Control,
            Source::FlowHost(70_000, 0x00ab_cdef),
            Source::FlowGate(0, 1),
            Source::Association(9, 0x00ff_ffff),
            Source::Query(255, 7),
        ] {
            assert_eq!(Source::from_token(source.token()), source);
        }
    }
}
