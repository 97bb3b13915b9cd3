//! `network.json`: where one step went, and where it was not let.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::network::ledger::{Destination, Protocol, Sheet, Tally, Verdict};

/// Version of the format.
pub const NETWORK_RECORD_VERSION: u32 = 1;

/// One step's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The format's version.
    pub v: u32,
    /// Bytes sent, without headers.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Where it went; absent entries were not recorded on request.
    pub connections: Vec<NetworkLine>,
    /// Where it was not let.
    pub blocked: Vec<NetworkLine>,
    /// What could not be reached.
    pub failed: Vec<NetworkLine>,
    /// Lines that found no room.
    pub dropped: u64,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkLine {
    /// By which name, if it was asked for.
    pub name: Option<String>,
    /// Where.
    pub address: Option<IpAddr>,
    /// On which port.
    pub port: Option<u16>,
    /// How.
    pub protocol: Protocol,
    /// How often.
    pub count: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// The host that the first bytes named: evidence, not proof.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub said: Option<String>,
    /// Why it was not let, or not reached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

impl NetworkLine {
    /// Whom it is about: `deb.example.org:80`, `192.0.2.1:443`, `npm.example.org`.
    pub fn target(&self) -> String {
        let host = match (&self.name, self.address) {
            (Some(name), _) => name.clone(),
            (None, Some(IpAddr::V6(v6))) if self.port.is_some() => format!("[{v6}]"),
            (None, Some(address)) => address.to_string(),
            (None, None) => "an unknown host".into(),
        };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }
}

impl NetworkRecord {
    /// What the worker told. `whole`: with the connections; without, only what went wrong.
    pub fn of(sheet: Sheet, whole: bool) -> Self {
        let mut record = Self {
            v: NETWORK_RECORD_VERSION,
            sent: sheet.sent,
            received: sheet.received,
            connections: Vec::new(),
            blocked: Vec::new(),
            failed: Vec::new(),
            dropped: sheet.dropped,
        };
        for (destination, tally) in sheet.lines {
            let verdict = destination.verdict;
            let line = line(destination, tally);
            match verdict {
                Verdict::Open if whole => record.connections.push(line),
                Verdict::Open => {}
                Verdict::Blocked => record.blocked.push(line),
                Verdict::Failed(_) => record.failed.push(line),
            }
        }
        for lines in [&mut record.connections, &mut record.blocked, &mut record.failed] {
            lines.sort();
        }
        record
    }

    /// Whether there is anything to keep.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.blocked.is_empty() && self.failed.is_empty()
    }
}

fn line(destination: Destination, tally: Tally) -> NetworkLine {
    let Destination { protocol, name, address, port, verdict } = destination;
    let reason = match verdict {
        Verdict::Failed(errno) => Some(rustix::io::Errno::from_raw_os_error(errno).to_string()),
        Verdict::Open | Verdict::Blocked => tally.note,
    };
    let Tally { count, sent, received, said, .. } = tally;
    NetworkLine { name, address, port, protocol, count, sent, received, said, reason }
}

/// The list that these steps' connections come to: each once, in order, as `network.allow` takes it.
pub fn suggestion<'r>(records: impl Iterator<Item = &'r NetworkRecord>) -> BTreeSet<String> {
    records
        .flat_map(|record| &record.connections)
        .filter(|line| line.port.is_some())
        .map(NetworkLine::target)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: Option<&str>, address: &str, port: u16, verdict: Verdict) -> (Destination, Tally) {
        let destination = Destination {
            protocol: Protocol::Tcp,
            name: name.map(str::to_owned),
            address: Some(address.parse().unwrap()),
            port: Some(port),
            verdict,
        };
        (destination, Tally { count: 1, sent: 2, received: 3, note: Some("why".into()), said: None })
    }

    fn sheet() -> Sheet {
        let lines = vec![
            told(Some("deb.example.org"), "192.0.2.1", 80, Verdict::Open),
            told(Some("deb.example.org"), "192.0.2.2", 80, Verdict::Open),
            told(None, "2001:db8::1", 443, Verdict::Open),
            told(None, "127.0.0.1", 22, Verdict::Blocked),
            told(Some("old.example.org"), "192.0.2.3", 80, Verdict::Failed(libc::ECONNREFUSED)),
        ];
        Sheet { lines, dropped: 0, sent: 10, received: 15 }
    }

    #[test]
    fn a_list_is_suggested_from_what_was_reached() {
        let record = NetworkRecord::of(sheet(), true);
        let list: Vec<String> = suggestion([&record].into_iter()).into_iter().collect();
        assert_eq!(list, ["[2001:db8::1]:443", "deb.example.org:80"]);
        assert_eq!(record.blocked[0].target(), "127.0.0.1:22");
        assert_eq!(record.failed[0].reason.as_deref(), Some("Connection refused (os error 111)"));
    }

    #[test]
    fn without_a_record_only_what_went_wrong_is_kept() {
        let record = NetworkRecord::of(sheet(), false);
        assert_eq!((record.connections.len(), record.blocked.len(), record.failed.len()), (0, 1, 1));
        assert!(!record.is_empty());
    }
}
