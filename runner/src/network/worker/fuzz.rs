//! Packets of every kind of malice through the whole worker, in process: nothing panics, nothing grows.
//!
//! The policy lets nobody out, so that no connection is made for real; connections of every state stand in the table.

use std::net::SocketAddr;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use super::flow::{Flow, Relay, State};
use super::lock::Parts;
use super::*;
use crate::network::packet::tests::segment;
use crate::network::packet::{Ends, flag};
use crate::network::{Addresses, Policy, answer};

/// Packets of one run of the test: some six seconds of an unoptimised build. A million have been through it.
const PACKETS: u32 = 200_000;

/// The same packets every time: what fails can be looked at. Other seeds are for longer runs by hand.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Marsaglia's xorshift.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Two ends of what stands for a tun device: ours for the worker, theirs to empty.
fn device() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

fn stream() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}

fn worker() -> (Worker, OwnedFd, OwnedFd, OwnedFd) {
    let ((job, job_end), (gate, gate_end), (control, control_end)) = (device(), device(), device());
    let settings = Settings {
        addresses: Addresses { v4: [10, 0, 2, 0].into(), v6: Some("fd00::".parse().unwrap()) },
        policy: Policy { allow: Some(Vec::new()) },
        resolvers: Vec::new(),
        receive_rate: Some(1 << 20),
        send_rate: None,
        filter: Vec::new(),
        ids: None,
        listeners: 0,
    };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let parts = Parts { job, gate, listeners: Vec::new(), epoll };
    let worker = Worker::new(settings, &control, parts, Netlink::open().unwrap()).unwrap();
    (worker, job_end, gate_end, control_end)
}

/// Ends that the fuzz is about: those of known connections, the resolver, the world.
fn ends(dice: &mut Dice) -> Ends {
    let pick =
        |dice: &mut Dice, texts: &[&str]| -> SocketAddr { texts[dice.below(texts.len())].parse().unwrap() };
    let mut ends = if dice.below(4) > 0 {
        Ends {
            from: pick(dice, &["10.0.2.15:40000", "10.0.2.15:40001", "10.0.2.15:40002", "10.0.2.99:1"]),
            to: pick(
                dice,
                &["192.0.2.1:80", "10.0.2.3:53", "127.0.0.1:22", "169.254.169.254:80", "10.0.2.2:9"],
            ),
        }
    } else {
        Ends {
            from: pick(dice, &["[fd00::15]:40000", "[fd00::99]:1"]),
            to: pick(dice, &["[2001:db8::1]:80", "[::1]:80", "[fe80::1]:80", "[::ffff:127.0.0.1]:80"]),
        }
    };
    if dice.below(8) == 0 {
        ends.from.set_port(dice.next() as u16);
        ends.to.set_port(dice.next() as u16);
    }
    ends
}

fn packet(dice: &mut Dice) -> Vec<u8> {
    let ends = ends(dice);
    let payload: Vec<u8> = (0..dice.below(120)).map(|_| dice.next() as u8).collect();
    let mut frame = match dice.below(4) {
        0 => answer::datagram(ends.from, ends.to, &payload).unwrap_or_default(),
        1 => (0..dice.below(90)).map(|_| dice.next() as u8).collect(),
        _ => {
            let flags = if dice.below(3) == 0 { flag::SYN } else { dice.next() as u8 };
            segment(&ends, flags, dice.below(3) as u32, &payload)
        }
    };
    for _ in 0..[0, 0, 1, 3, 9][dice.below(5)] {
        let at = dice.below(frame.len());
        if let Some(byte) = frame.get_mut(at) {
            *byte = dice.next() as u8;
        }
    }
    if dice.below(20) == 0 {
        frame.truncate(dice.below(frame.len()));
    }
    frame
}

/// A connection in some state, with ends that the fuzz hits.
fn place(worker: &mut Worker, ends: Ends, state: State) {
    let Some((index, generation, port)) = worker.flows.reserve() else { return };
    let destination = worker.destination(Protocol::Tcp, ends.to.ip(), Some(80), Verdict::Open);
    let flow = Flow {
        generation,
        ends,
        sequence: 1,
        port,
        state,
        destination,
        touched: worker.now,
        goodbye: (false, false),
        queued: false,
        looked: false,
    };
    worker.flows.insert(index, flow);
}

fn populate(worker: &mut Worker, kept: &mut Vec<OwnedFd>) {
    let to: SocketAddr = "192.0.2.1:80".parse().unwrap();
    for port in 40_000..40_003u16 {
        let ends = Ends { from: SocketAddr::from(([10, 0, 2, 15], port)), to };
        if worker.flows.of_job(&ends).is_some() {
            continue;
        }
        let ((host, far), (gate, near)) = (stream(), stream());
        kept.clear();
        kept.extend([far, near]);
        let state = match port {
            40_000 => State::Connecting { syn: segment(&ends, flag::SYN, 1, b""), host },
            40_001 => State::Accepting { host },
            _ => State::Open(Box::new(Relay::new(host, gate, false))),
        };
        place(worker, ends, state);
    }
}

fn drain(device: &OwnedFd) -> u64 {
    let mut buffer = [0; 2048];
    let mut count = 0;
    while rustix::io::read(device, &mut buffer).is_ok_and(|length| length > 0) {
        count += 1;
    }
    count
}

#[test]
fn packets_of_every_kind_do_no_harm() {
    let mut dice = Dice(SEED);
    let (mut worker, job, gate, _control) = worker();
    let mut kept = Vec::new();
    let (mut answers, mut passed) = (0, 0);
    for number in 0..PACKETS {
        let frame = packet(&mut dice);
        if frame.is_empty() {
            continue;
        }
        let from_job = dice.below(4) > 0;
        let device = if from_job { &job } else { &gate };
        send(device, &frame, SendFlags::DONTWAIT).unwrap();
        let alive = if from_job { worker.read_job(9) } else { worker.read_gate(9) };
        assert!(alive, "packet {number}");
        if number % 16 == 0 {
            answers += drain(&job);
            passed += drain(&gate);
            populate(&mut worker, &mut kept);
            worker.take_turns();
        }
        if number % 50_000 == 0 {
            worker.now += SWEEP;
            worker.sweep();
            worker.ledger.take();
        }
        assert!(worker.flows.live <= limits::FLOWS_MAX && worker.flows.connecting <= limits::CONNECTING_MAX);
    }
    let few = u64::from(PACKETS) / 200;
    assert!(answers > few && passed > few, "the fuzz went past everything: {answers}, {passed}");
    assert!(worker.associations.is_empty() && worker.queries.is_empty(), "the list let something out");
}
