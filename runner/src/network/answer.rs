//! Packets that we make: refusals with the errno that the step is to see, and datagrams from the world.

use std::net::{IpAddr, SocketAddr};

use super::checksum;
use super::packet::{Ends, VNET, flag};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 64;
/// Bytes of the refused packet that an ICMP message carries: the IPv6 header, and of TCP what names the connection.
const QUOTE_BYTES_MAX: usize = 60;

/// Why a destination cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No route: ENETUNREACH.
    Network,
    /// Nobody there: EHOSTUNREACH.
    Host,
    /// Nobody listens, for datagrams: ECONNREFUSED.
    Port,
    /// Forbidden: EHOSTUNREACH by IPv4, EACCES by IPv6.
    Prohibited,
}

impl Unreachable {
    /// The code in ICMP (RFC 792, RFC 1812).
    fn code_v4(self) -> u8 {
        match self {
            Self::Network => 0,
            Self::Host => 1,
            Self::Port => 3,
            Self::Prohibited => 13,
        }
    }

    /// The code in ICMPv6 (RFC 4443).
    fn code_v6(self) -> u8 {
        match self {
            Self::Network => 0,
            Self::Host => 3,
            Self::Port => 4,
            Self::Prohibited => 1,
        }
    }
}

/// Answers a SYN: nobody listens there (ECONNREFUSED).
pub fn reset(ends: &Ends, sequence: u32) -> Option<Vec<u8>> {
    let mut body = vec![0; 20];
    put(&mut body, 0, &ends.to.port().to_be_bytes());
    put(&mut body, 2, &ends.from.port().to_be_bytes());
    put(&mut body, 8, &sequence.wrapping_add(1).to_be_bytes());
    put(&mut body, 12, &[5 << 4, flag::RST | flag::ACK]);
    packet(ends.to.ip(), ends.from.ip(), TCP, 16, body)
}

/// Answers the packet in `frame`, which came from `to`: its destination cannot be reached, says `from`.
pub fn unreachable(frame: &[u8], from: IpAddr, to: IpAddr, why: Unreachable) -> Option<Vec<u8>> {
    let packet_bytes = frame.get(VNET..)?;
    let quote = packet_bytes.get(..packet_bytes.len().min(QUOTE_BYTES_MAX))?;
    let (protocol, kind, code) =
        if from.is_ipv4() { (ICMP, 3, why.code_v4()) } else { (ICMPV6, 1, why.code_v6()) };
    let mut body = vec![kind, code, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(quote);
    packet(from, to, protocol, 2, body)
}

/// A datagram. `None`: it is too long for one packet.
pub fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len() + 8).ok()?;
    let mut body = Vec::with_capacity(payload.len() + 8);
    for field in [from.port(), to.port(), length, 0] {
        body.extend_from_slice(&field.to_be_bytes());
    }
    body.extend_from_slice(payload);
    packet(from.ip(), to.ip(), UDP, 6, body)
}

/// A frame around a body whose checksum belongs at `check_at`. `None`: it is too long, or the families differ.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, check_at: usize, mut body: Vec<u8>) -> Option<Vec<u8>> {
    let (mut header, addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(body.len() + 20).ok()?;
            let mut header = vec![0; 20];
            put(&mut header, 0, &[0x45]);
            put(&mut header, 2, &length.to_be_bytes());
            // Don't fragment: then the identification means nothing (RFC 6864).
            put(&mut header, 6, &[0x40, 0, HOP_LIMIT, protocol]);
            put(&mut header, 12, &[from.octets(), to.octets()].concat());
            let check = checksum::finish(checksum::add(0, &header));
            put(&mut header, 10, &check.to_be_bytes());
            (header, [from.octets(), to.octets()].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(body.len()).ok()?;
            let mut header = vec![0; 40];
            put(&mut header, 0, &[0x60]);
            put(&mut header, 4, &length.to_be_bytes());
            put(&mut header, 6, &[protocol, HOP_LIMIT]);
            put(&mut header, 8, &[from.octets(), to.octets()].concat());
            (header, [from.octets(), to.octets()].concat())
        }
        _ => return None,
    };
    let mut sum = checksum::add(0, &body);
    if protocol != ICMP {
        sum = checksum::add(sum, &addresses) + u64::from(protocol) + body.len() as u64;
    }
    // A computed zero means "no checksum" to UDP (RFC 768); both spellings of zero are the same to the others.
    let check = match checksum::finish(sum) {
        0 => 0xffff,
        other => other,
    };
    put(&mut body, check_at, &check.to_be_bytes());
    let mut frame = vec![0; VNET];
    frame.append(&mut header);
    frame.append(&mut body);
    Some(frame)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{segment, sums_are_right};
    use super::super::packet::{Packet, parse};
    use super::*;

    const BOTH: [(&str, &str); 2] =
        [("10.0.2.15:4000", "192.0.2.7:443"), ("[fd00::15]:4000", "[2001:db8::7]:443")];

    fn ends((from, to): (&str, &str)) -> Ends {
        Ends { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn a_reset_answers_its_syn() {
        for both in BOTH {
            let ends = ends(both);
            let frame = reset(&ends, 41).unwrap();
            assert!(sums_are_right(&frame));
            let back = Ends { from: ends.to, to: ends.from };
            let flags = flag::RST | flag::ACK;
            assert_eq!(parse(&frame), Some(Packet::Tcp { ends: back, flags, sequence: 0 }));
        }
    }

    #[test]
    fn a_refusal_quotes_what_it_refuses() {
        for both in BOTH {
            let ends = ends(both);
            let syn = segment(&ends, flag::SYN, 41, b"");
            for why in [Unreachable::Network, Unreachable::Host, Unreachable::Port, Unreachable::Prohibited] {
                let frame = unreachable(&syn, ends.to.ip(), ends.from.ip(), why).unwrap();
                assert!(sums_are_right(&frame), "{why:?}");
                let header = if ends.from.is_ipv4() { 20 } else { 40 };
                assert_eq!(frame[VNET + header + 8..], syn[VNET..], "{why:?}");
            }
        }
    }

    #[test]
    fn a_datagram_arrives_whole() {
        for both in BOTH {
            let ends = ends(both);
            let frame = datagram(ends.from, ends.to, b"payload").unwrap();
            assert!(sums_are_right(&frame));
            let Some(Packet::Udp { ends: found, payload }) = parse(&frame) else { panic!("no datagram") };
            assert_eq!((found, &frame[payload..]), (ends, &b"payload"[..]));
        }
        let ends = ends(BOTH[0]);
        // The longest payload that IPv4 can carry.
        assert!(datagram(ends.from, ends.to, &vec![0; 65_507]).is_some());
        assert!(datagram(ends.from, ends.to, &vec![0; 65_508]).is_none());
    }
}
