//! Where a job went: one line per destination and end, bounded, handed over at the end of each step.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Lines kept of one step. What comes later is counted.
pub const LINES_MAX: usize = 2048;

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// A question to the resolver.
    Dns,
    /// An ICMP echo request.
    Ping,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It went out.
    Open,
    /// The policy forbids it.
    Blocked,
    /// It could not be reached; the errno.
    Failed(i32),
}

/// Whom a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destination {
    /// How.
    pub protocol: Protocol,
    /// By which name, if it was asked for.
    pub name: Option<String>,
    /// Where; `None` for a name that was never resolved.
    pub address: Option<IpAddr>,
    /// On which port.
    pub port: Option<u16>,
    /// With which end.
    pub verdict: Verdict,
}

/// What happened there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// Bytes that the job sent, without headers.
    pub sent: u64,
    /// Bytes that it received.
    pub received: u64,
    /// Why it is blocked, or what else there is to say.
    pub note: Option<String>,
    /// The host that the first bytes named: by TLS or HTTP. Evidence, not proof.
    pub said: Option<String>,
}

/// The lines of a step.
#[derive(Debug, Default)]
pub struct Ledger {
    lines: HashMap<Destination, Tally>,
    dropped: u64,
    sent: u64,
    received: u64,
}

/// A step's lines and sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sheet {
    /// In no order.
    pub lines: Vec<(Destination, Tally)>,
    /// Lines that found no room.
    pub dropped: u64,
    /// Bytes sent to all.
    pub sent: u64,
    /// Bytes received from all.
    pub received: u64,
}

impl Ledger {
    /// The line of a destination, if there is room for it.
    pub fn line(&mut self, destination: &Destination) -> Option<&mut Tally> {
        if !self.lines.contains_key(destination) {
            if self.lines.len() >= LINES_MAX {
                self.dropped += 1;
                return None;
            }
            self.lines.insert(destination.clone(), Tally::default());
        }
        self.lines.get_mut(destination)
    }

    /// Counts one attempt.
    pub fn count(&mut self, destination: &Destination, note: Option<&str>) {
        if let Some(line) = self.line(destination) {
            line.count += 1;
            if line.note.is_none() {
                line.note = note.map(str::to_owned);
            }
        }
    }

    /// Adds bytes.
    pub fn add(&mut self, destination: &Destination, sent: u64, received: u64) {
        if sent == 0 && received == 0 {
            return;
        }
        self.sent += sent;
        self.received += received;
        if let Some(line) = self.line(destination) {
            line.sent += sent;
            line.received += received;
        }
    }

    /// Takes everything and begins anew.
    pub fn take(&mut self) -> Sheet {
        let taken = std::mem::take(self);
        Sheet {
            lines: taken.lines.into_iter().collect(),
            dropped: taken.dropped,
            sent: taken.sent,
            received: taken.received,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> Destination {
        Destination {
            protocol: Protocol::Tcp,
            name: None,
            address: Some("192.0.2.1".parse().unwrap()),
            port: Some(port),
            verdict: Verdict::Open,
        }
    }

    #[test]
    fn lines_are_bounded_and_sums_are_not() {
        let mut ledger = Ledger::default();
        for port in 0..LINES_MAX as u16 + 5 {
            ledger.count(&to(port), None);
            ledger.add(&to(port), 2, 3);
        }
        let sheet = ledger.take();
        assert_eq!((sheet.lines.len(), sheet.dropped), (LINES_MAX, 10));
        assert_eq!((sheet.sent, sheet.received), (2 * 2053, 3 * 2053));
        assert_eq!(ledger.take(), Sheet::default());
    }
}
