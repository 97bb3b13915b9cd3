//! Connections: a first segment waits until the world has answered; then it goes on to the gate, whose kernel is the
//! job's peer, and bytes pass between two sockets. So the job sees the world's own answer, and never a false one.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, connect, ipproto,
    recv, socket_with, sockopt,
};

use super::flow::{Flow, Relay, State};
use super::limits::{
    ACCEPT_PATIENCE, CAPPED_BYTES_MIN, CONNECT_PATIENCE, CONNECTING_MAX, FLOWS_MAX, GOODBYE, SILENCE_CLOSED,
    SPLICED_MAX, TURN_BYTES,
};
use super::relay::{Half, Ready, Side};
use super::{Decision, Source, Worker, unreachable_for};
use crate::network::answer;
use crate::network::ledger::{Destination, Protocol, Verdict};
use crate::network::link::{GATE_PORT, GATE_V4, GATE_V6, PEER_V4, PEER_V6};
use crate::network::packet::{Ends, flag, rewrite};
use crate::network::sniff;

/// The resolver's port.
pub const DNS_PORT: u16 = 53;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Both ends were passed on.
    Whole,
    /// One side broke off: the other is told so.
    Reset,
}

impl Worker {
    /// A segment of the job's.
    pub(super) fn segment_of_job(&mut self, frame: &mut [u8], ends: &Ends, flags: u8, sequence: u32) {
        let is_first = flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN;
        let now = self.now;
        let Some((index, flow)) = self.flows.of_job(ends) else {
            if is_first {
                self.open(frame, ends, sequence);
            }
            // Of a connection that nobody knows: the job's kernel will give up by itself.
            return;
        };
        if is_first && flow.sequence != sequence {
            // The job uses the port again: what was there is over, whatever we have not heard of its end.
            self.drop_flow(index);
            return self.open(frame, ends, sequence);
        }
        match &flow.state {
            // The segment sent again, or the job gives up.
            State::Connecting { .. } => {
                if flags & flag::RST != 0 {
                    self.drop_flow(index);
                }
            }
            State::Accepting { .. } | State::Open(_) | State::Closed => {
                flow.note(flags, true, now);
                let port = flow.port;
                self.give_gate(frame, port, ends);
            }
        }
    }

    /// Passes a segment on to the kernel behind the gate.
    fn give_gate(&self, frame: &mut [u8], port: u16, ends: &Ends) {
        let (peer, gate) = match ends.to.ip() {
            IpAddr::V4(_) => (IpAddr::V4(PEER_V4), IpAddr::V4(GATE_V4)),
            IpAddr::V6(_) => (IpAddr::V6(PEER_V6), IpAddr::V6(GATE_V6)),
        };
        rewrite(frame, &Ends { from: SocketAddr::new(peer, port), to: SocketAddr::new(gate, GATE_PORT) });
        // A full queue loses packets as any network does.
        let _lost = rustix::io::write(&self.gate, frame);
    }

    /// A segment of the kernel behind the gate.
    pub(super) fn segment_of_gate(&mut self, frame: &mut [u8], ends: &Ends, flags: u8) {
        let now = self.now;
        let Some((_, flow)) = self.flows.of_gate(ends.to.port()) else { return };
        if flow.ends.to.is_ipv4() != ends.to.is_ipv4() {
            return;
        }
        flow.note(flags, false, now);
        rewrite(frame, &Ends { from: flow.ends.to, to: flow.ends.from });
        let _lost = rustix::io::write(&self.job, frame);
    }

    /// The first segment of a connection.
    fn open(&mut self, frame: &mut [u8], ends: &Ends, sequence: u32) {
        if self.draining.is_some() {
            return;
        }
        let resolver = SocketAddr::from((self.settings.addresses.resolver(), DNS_PORT));
        let (destination, target) = if ends.to == resolver {
            let Some(first) = self.settings.resolvers.first().copied() else { return };
            let destination = Destination {
                protocol: Protocol::Dns,
                name: None,
                address: None,
                port: None,
                verdict: Verdict::Open,
            };
            (destination, SocketAddr::new(first, DNS_PORT))
        } else {
            match self.decide(Protocol::Tcp, ends.to) {
                Decision::Go(destination) => (destination, ends.to),
                Decision::Refuse(destination, why, note) => {
                    self.ledger.count(&destination, Some(note));
                    return self.refuse(frame, ends.to.ip(), ends.from.ip(), why);
                }
            }
        };
        if self.flows.live >= FLOWS_MAX || self.flows.connecting >= CONNECTING_MAX {
            return;
        }
        let asked = socket_to(target).and_then(|host| match connect(&host, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(host),
            Err(errno) => Err(errno),
        });
        match asked {
            Ok(host) => self.begin(frame, ends, sequence, destination, host),
            Err(errno) => self.could_not_connect(frame, ends, sequence, destination, errno),
        }
    }

    fn begin(&mut self, frame: &[u8], ends: &Ends, sequence: u32, destination: Destination, host: OwnedFd) {
        let Some((index, generation, port)) = self.flows.reserve() else { return };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if self.watch(&host, Source::FlowHost(index, generation), flags).is_err() {
            return;
        }
        let flow = Flow {
            generation,
            ends: *ends,
            sequence,
            port,
            state: State::Connecting { syn: frame.to_vec(), host },
            destination,
            touched: self.now,
            goodbye: (false, false),
            queued: false,
            looked: false,
        };
        self.flows.insert(index, flow);
    }

    /// Says the world's errno to the job. Where we are short of something, silence makes it ask again.
    fn could_not_connect(
        &mut self,
        frame: &[u8],
        ends: &Ends,
        sequence: u32,
        destination: Destination,
        errno: Errno,
    ) {
        let failed = Destination { verdict: Verdict::Failed(errno.raw_os_error()), ..destination };
        self.ledger.count(&failed, None);
        if errno == Errno::CONNREFUSED {
            self.give_job(answer::reset(ends, sequence));
        } else if let Some(why) = unreachable_for(errno) {
            self.refuse(frame, ends.to.ip(), ends.from.ip(), why);
        }
    }

    /// Something happened to a socket to the world.
    pub(super) fn host_event(&mut self, index: usize, generation: u32, flags: EventFlags) {
        let Some(flow) = self.flows.at(index, generation) else { return };
        match &mut flow.state {
            State::Connecting { host, .. } => {
                // Told once while it is only being made.
                if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                    return;
                }
                let ended = sockopt::socket_error(&*host).and_then(|ended| ended);
                self.connected(index, ended);
            }
            State::Open(relay) => {
                note(&mut relay.host.ready, flags);
                self.queue_turn(index);
            }
            State::Accepting { .. } | State::Closed => {}
        }
    }

    /// The world has answered.
    fn connected(&mut self, index: usize, ended: Result<(), Errno>) {
        let mut waited = None;
        self.flows.change(index, |state| match state {
            State::Connecting { syn, host } => {
                waited = Some(syn);
                State::Accepting { host }
            }
            other => other,
        });
        let now = self.now;
        let (Some(mut syn), Some(flow)) = (waited, self.flows.get(index)) else { return };
        flow.touched = now;
        let (ends, sequence, port) = (flow.ends, flow.sequence, flow.port);
        match ended {
            Ok(()) => {
                let destination = flow.destination.clone();
                if destination.protocol == Protocol::Tcp {
                    self.ledger.count(&destination, None);
                }
                self.give_gate(&mut syn, port, &ends);
            }
            Err(errno) => {
                let Some(flow) = self.flows.remove(index) else { return };
                self.could_not_connect(&syn, &ends, sequence, flow.destination, errno);
            }
        }
    }

    /// Takes what waits at a listener.
    pub(super) fn accept(&mut self, listener: usize) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Some((gate, peer)) =
            self.listeners.get(listener).and_then(|socket| acceptfrom_with(socket, flags).ok())
        {
            let flow = peer.and_then(port_of).and_then(|port| self.flows.of_gate(port));
            match flow {
                Some((index, Flow { state: State::Accepting { .. }, generation, .. })) => {
                    let generation = *generation;
                    self.accepted(index, generation, gate);
                }
                // Whom it was for is gone.
                Some(_) | None => break_off(&gate),
            }
        }
    }

    fn accepted(&mut self, index: usize, generation: u32, gate: OwnedFd) {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if self.watch(&gate, Source::FlowGate(index, generation), flags).is_err() {
            break_off(&gate);
            return self.drop_flow(index);
        }
        let _slower = sockopt::set_tcp_nodelay(&gate, true);
        let is_dns = self.flows.get(index).is_some_and(|flow| flow.destination.protocol == Protocol::Dns);
        self.flows.change(index, |state| match state {
            State::Accepting { host } => State::Open(Box::new(Relay::new(host, gate, is_dns))),
            other => other,
        });
        self.queue_turn(index);
    }

    /// Something happened to a socket to the job.
    pub(super) fn gate_event(&mut self, index: usize, generation: u32, flags: EventFlags) {
        if let Some(Flow { state: State::Open(relay), .. }) = self.flows.at(index, generation) {
            note(&mut relay.gate.ready, flags);
            self.queue_turn(index);
        }
    }

    fn queue_turn(&mut self, index: usize) {
        if let Some(flow) = self.flows.get(index)
            && !flow.queued
        {
            flow.queued = true;
            self.turns.push_back((index, flow.generation));
        }
    }

    /// Gives every connection that can go on one turn.
    pub(super) fn take_turns(&mut self) {
        for capped in std::mem::take(&mut self.capped) {
            self.turns.push_back(capped);
        }
        for _ in 0..self.turns.len() {
            let Some((index, generation)) = self.turns.pop_front() else { return };
            let Some(flow) = self.flows.at(index, generation) else { continue };
            flow.queued = false;
            flow.touched = self.now;
            let turn = match &mut flow.state {
                State::Open(relay) if relay.messages.is_some() => self.turn_of_messages(index),
                State::Open(_) => self.turn(index),
                State::Connecting { .. } | State::Accepting { .. } | State::Closed => continue,
            };
            match turn {
                Ok(Turn::Waits) => {}
                Ok(Turn::GoesOn) => self.queue_turn(index),
                Ok(Turn::Capped) => {
                    if let Some(flow) = self.flows.at(index, generation) {
                        flow.queued = true;
                        self.capped.push((index, generation));
                    }
                }
                Ok(Turn::Over) => self.close(index, Ending::Whole),
                Err(_) => self.close(index, Ending::Reset),
            }
        }
    }

    /// Moves bytes both ways until there are none, or others are due.
    fn turn(&mut self, index: usize) -> Result<Turn, Errno> {
        let (now, may_splice) = (self.now, self.spliced < SPLICED_MAX);
        let Some(flow) = self.flows.get(index) else { return Ok(Turn::Waits) };
        let State::Open(relay) = &mut flow.state else { return Ok(Turn::Waits) };
        let Relay { host, gate, up, down, .. } = relay.as_mut();
        let mut left = TURN_BYTES;
        let mut capped = false;
        let mut said = None;
        loop {
            let (may_send, may_receive) = (self.sends.available(now), self.receives.available(now));
            // A trickle of single bytes would cost more than it carries.
            let enough = |most: u64| if most >= CAPPED_BYTES_MIN { most } else { 0 };
            let (may_send, may_receive) = (enough(may_send).min(left), enough(may_receive).min(left));
            let looked = &mut flow.looked;
            let sent = up.step((&mut *gate, &mut *host), &mut self.scratch, may_send, &mut |bytes| {
                if !std::mem::replace(looked, true) {
                    said = sniff::host(bytes);
                }
            })?;
            self.sends.take(sent);
            let received =
                down.step((&mut *host, &mut *gate), &mut self.scratch, may_receive, &mut |_| {})?;
            self.receives.take(received);
            left = left.saturating_sub(sent + received);
            if sent + received == 0 {
                let waits = |half: &Half, from: &Side, to: &Side| {
                    from.ready.read && to.ready.write && !half.has_ended()
                };
                capped =
                    (may_send == 0 && waits(up, gate, host)) || (may_receive == 0 && waits(down, host, gate));
                break;
            }
            if left == 0 {
                break;
            }
        }
        if may_splice {
            self.spliced += usize::from(up.consider_splicing()) + usize::from(down.consider_splicing());
        }
        let (over, destination) = (up.closed && down.closed, flow.destination.clone());
        if let Some(said) = said
            && let Some(line) = self.ledger.line(&destination)
        {
            line.said.get_or_insert(said);
        }
        Ok(match (over, capped, left) {
            (true, ..) => Turn::Over,
            (_, _, 0) => Turn::GoesOn,
            (_, true, _) => Turn::Capped,
            _ => Turn::Waits,
        })
    }

    /// The same where questions to the resolver are read on their way.
    fn turn_of_messages(&mut self, index: usize) -> Result<Turn, Errno> {
        let withhold_v6 = self.settings.addresses.v6.is_none();
        let Some(flow) = self.flows.get(index) else { return Ok(Turn::Waits) };
        let State::Open(relay) = &mut flow.state else { return Ok(Turn::Waits) };
        let Relay { host, gate, up, down, messages } = relay.as_mut();
        let Some(messages) = messages else { return Ok(Turn::Waits) };
        let mut blocked = Vec::new();
        loop {
            let flushed = up.flush(host)? & down.flush(gate)?;
            if !flushed {
                break;
            }
            let from_job = read_some(gate, up, &mut self.scratch)?;
            let passed = messages.job_said(from_job, &self.settings.policy, withhold_v6);
            up.queue(&passed.on);
            down.queue(&passed.back);
            blocked.extend(passed.blocked);
            let any = !from_job.is_empty();
            let from_world = read_some(host, down, &mut self.scratch)?;
            let answers = messages.world_said(from_world, &mut self.names);
            down.queue(&answers);
            if !any && from_world.is_empty() {
                up.flush(host)?;
                down.flush(gate)?;
                break;
            }
        }
        let over = up.closed && down.closed;
        for name in blocked {
            self.count_blocked_name(name);
        }
        Ok(if over { Turn::Over } else { Turn::Waits })
    }

    /// Notes a name that the list does not have.
    pub(super) fn count_blocked_name(&mut self, name: String) {
        let destination = Destination {
            protocol: Protocol::Dns,
            name: Some(name),
            address: None,
            port: None,
            verdict: Verdict::Blocked,
        };
        self.ledger.count(&destination, Some("not in `network.allow`"));
    }

    /// Closes both sockets; their kernels say goodbye through us for a while.
    fn close(&mut self, index: usize, ending: Ending) {
        self.count(index);
        let mut spliced = 0;
        self.flows.change(index, |state| {
            if let State::Open(relay) = state {
                spliced = usize::from(relay.up.is_spliced()) + usize::from(relay.down.is_spliced());
                if ending == Ending::Reset {
                    break_off(&relay.gate.socket);
                    break_off(&relay.host.socket);
                }
            }
            State::Closed
        });
        self.spliced -= spliced;
    }

    /// Ends a connection that the job or the gate knows nothing more of.
    fn drop_flow(&mut self, index: usize) {
        self.close(index, Ending::Reset);
        self.flows.remove(index);
    }

    /// Moves a connection's bytes into the ledger.
    fn count(&mut self, index: usize) {
        if let Some(flow) = self.flows.get(index)
            && let State::Open(relay) = &mut flow.state
        {
            let (sent, received) = (relay.up.uncounted(), relay.down.uncounted());
            if flow.destination.protocol == Protocol::Tcp {
                self.ledger.add(&flow.destination, sent, received);
            }
        }
    }

    /// Moves every living conversation's bytes into the ledger.
    pub(super) fn count_all(&mut self) {
        let indices: Vec<usize> = self.flows.all().map(|(index, _)| index).collect();
        indices.into_iter().for_each(|index| self.count(index));
        self.count_associations();
    }

    pub(super) fn sweep_flows(&mut self) {
        let now = self.now;
        let outlived = |flow: &Flow| {
            let patience: Option<Duration> = match &flow.state {
                State::Connecting { .. } => Some(CONNECT_PATIENCE),
                State::Accepting { .. } => Some(ACCEPT_PATIENCE),
                State::Open(_) => None,
                State::Closed if flow.is_over() => Some(GOODBYE),
                State::Closed => Some(SILENCE_CLOSED),
            };
            patience.is_some_and(|patience| now.saturating_duration_since(flow.touched) >= patience)
        };
        let old: Vec<usize> =
            self.flows.all().filter(|(_, flow)| outlived(flow)).map(|(index, _)| index).collect();
        old.into_iter().for_each(|index| self.drop_flow(index));
        self.flows.tidy();
    }

    /// Whether every byte that the job sent has been given to this machine's kernel.
    pub(super) fn has_drained(&mut self) -> bool {
        self.flows.all().all(|(_, flow)| match &flow.state {
            State::Open(relay) => relay.up.closed,
            // A job that is gone does not wait for an answer.
            State::Connecting { .. } | State::Closed => true,
            State::Accepting { .. } => false,
        })
    }
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// For an event.
    Waits,
    /// More can be done at once.
    GoesOn,
    /// For bandwidth.
    Capped,
    /// Both ends were passed on.
    Over,
}

/// A socket for a connection to the world.
fn socket_to(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    let _slower = sockopt::set_tcp_nodelay(&socket, true);
    Ok(socket)
}

fn port_of(address: SocketAddrAny) -> Option<u16> {
    SocketAddr::try_from(address).ok().map(|address| address.port())
}

/// Makes the close of a socket a reset, so that the other side knows that something is missing.
fn break_off(socket: impl AsFd) {
    let _polite = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn note(ready: &mut Ready, flags: EventFlags) {
    ready.read |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
    ready.write |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
}

/// Reads once; nothing at the end, which is noted, or when there is nothing now.
fn read_some<'s>(from: &mut Side, half: &mut Half, scratch: &'s mut [u8]) -> Result<&'s [u8], Errno> {
    if !from.ready.read || half.has_ended() {
        return Ok(&[]);
    }
    match retry_on_intr(|| recv(&from.socket, &mut *scratch, RecvFlags::DONTWAIT)) {
        Ok((_, 0)) => {
            half.end();
            Ok(&[])
        }
        Ok((_, count)) => Ok(scratch.get(..count).unwrap_or_default()),
        Err(Errno::AGAIN) => {
            from.ready.read = false;
            Ok(&[])
        }
        Err(errno) => Err(errno),
    }
}
