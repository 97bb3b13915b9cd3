//! Packets as they come out of a tun device: what they are, and how their addresses are changed.
//!
//! What comes here is made by the job, which may be hostile: every length is checked, and whatever is not understood is
//! dropped. Fragments are not understood.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum;

/// Bytes of the virtio header before each packet (`struct virtio_net_hdr`).
pub const VNET: usize = 10;
/// The longest frame: a packet of full length behind its virtio header.
pub const FRAME_BYTES_MAX: usize = VNET + 65_535;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the pseudo header's sum only.
const NEEDS_CHECKSUM: u8 = 1;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

/// TCP flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 1;
    /// The first segment.
    pub const SYN: u8 = 2;
    /// The end, at once.
    pub const RST: u8 = 4;
    /// Acknowledges.
    pub const ACK: u8 = 16;
}

/// A packet's two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Who sent it.
    pub from: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// A segment of a connection.
    Tcp {
        /// Its ends.
        ends: Ends,
        /// See [`flag`].
        flags: u8,
        /// The sequence number.
        sequence: u32,
    },
    /// A datagram; its payload starts at this offset of the frame and fills the rest.
    Udp {
        /// Its ends.
        ends: Ends,
        /// Offset in the frame.
        payload: usize,
    },
    /// An ICMP echo request, which nobody answers.
    Echo {
        /// Who asked.
        from: IpAddr,
        /// Whom.
        to: IpAddr,
    },
}

/// Reads a frame. `None`: it is to be dropped.
pub fn parse(frame: &[u8]) -> Option<Packet> {
    let packet = frame.get(VNET..)?;
    let (from, to, protocol, header) = match packet.first()? >> 4 {
        4 => parse_v4(packet)?,
        6 => parse_v6(packet)?,
        _ => return None,
    };
    let body = packet.get(header..)?;
    let ends = |from_port, to_port| Ends {
        from: SocketAddr::new(from, from_port),
        to: SocketAddr::new(to, to_port),
    };
    match protocol {
        TCP => {
            let head = body.first_chunk::<TCP_HEADER>()?;
            let length = usize::from(head[12] >> 4) * 4;
            if length < TCP_HEADER || length > body.len() {
                return None;
            }
            let sequence = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            Some(Packet::Tcp { ends: ends(word(head, 0), word(head, 2)), flags: head[13], sequence })
        }
        UDP => {
            let head = body.first_chunk::<UDP_HEADER>()?;
            if usize::from(word(head, 4)) != body.len() {
                return None;
            }
            Some(Packet::Udp {
                ends: ends(word(head, 0), word(head, 2)),
                payload: VNET + header + UDP_HEADER,
            })
        }
        ICMP if from.is_ipv4() && body.first() == Some(&ECHO_REQUEST) => Some(Packet::Echo { from, to }),
        ICMPV6 if from.is_ipv6() && body.first() == Some(&ECHO_REQUEST_V6) => Some(Packet::Echo { from, to }),
        _ => None,
    }
}

/// Ends, protocol and length of the header. Options and fragments have no place in a build.
fn parse_v4(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    let head = packet.first_chunk::<IPV4_HEADER>()?;
    let fragment = word(head, 6) & 0x3fff;
    if head[0] != 0x45 || fragment != 0 || usize::from(word(head, 2)) != packet.len() {
        return None;
    }
    let address = |at: usize| IpAddr::V4(Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]));
    Some((address(12), address(16), head[9], IPV4_HEADER))
}

/// The same; extension headers, too, have no place.
fn parse_v6(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    let head = packet.first_chunk::<IPV6_HEADER>()?;
    if usize::from(word(head, 4)) != packet.len() - IPV6_HEADER {
        return None;
    }
    let address = |at: usize| {
        head.get(at..at + 16)
            .and_then(|bytes| bytes.first_chunk::<16>())
            .map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes)))
    };
    Some((address(8)?, address(24)?, head[6], IPV6_HEADER))
}

fn word(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

/// Gives a frame that [`parse`] took for TCP other ends of the same family. Only these bytes and the checksums change:
/// what is inside is neither read nor summed, however long it is.
pub fn rewrite(frame: &mut [u8], ends: &Ends) {
    let Some((virtio, packet)) = frame.split_at_mut_checked(VNET) else { return };
    let partial = virtio.first().is_some_and(|flags| flags & NEEDS_CHECKSUM != 0);
    let (addresses, header) = match (ends.from.ip(), ends.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let new = [from.octets(), to.octets()].concat();
            let change = replace(packet, 12, &new);
            update(packet, 10, |check| checksum::adjust(check, change));
            (change, IPV4_HEADER)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            (replace(packet, 8, &[from.octets(), to.octets()].concat()), IPV6_HEADER)
        }
        _ => return,
    };
    let [a, b] = ends.from.port().to_be_bytes();
    let [c, d] = ends.to.port().to_be_bytes();
    let ports = replace(packet, header, &[a, b, c, d]);
    update(packet, header + 16, |check| match partial {
        // The ports belong to what is yet to be summed.
        true => checksum::adjust_partial(check, addresses),
        false => checksum::adjust(check, addresses + ports),
    });
}

/// Replaces bytes and returns what that changes in a sum.
fn replace(packet: &mut [u8], at: usize, new: &[u8]) -> u64 {
    let Some(old) = packet.get_mut(at..at + new.len()) else { return 0 };
    let change = checksum::difference(old, new);
    old.copy_from_slice(new);
    change
}

fn update(packet: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    if let Some(field) = packet.get_mut(at..at + 2) {
        let check = change(u16::from_be_bytes([field[0], field[1]]));
        field.copy_from_slice(&check.to_be_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::network::answer;
    use proptest::prelude::*;

    /// Whether all checksums of a frame are right.
    pub fn sums_are_right(frame: &[u8]) -> bool {
        let packet = &frame[VNET..];
        let v4 = packet[0] >> 4 == 4;
        let (header, addresses, protocol) =
            if v4 { (IPV4_HEADER, 12..20, packet[9]) } else { (IPV6_HEADER, 8..40, packet[6]) };
        let body = &packet[header..];
        let mut sum = checksum::add(0, body);
        if protocol != ICMP {
            sum = checksum::add(sum, &packet[addresses]) + u64::from(protocol) + body.len() as u64;
        }
        (!v4 || checksum::finish(checksum::add(0, &packet[..header])) == 0) && checksum::finish(sum) == 0
    }

    /// A segment with right checksums.
    pub fn segment(ends: &Ends, flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut body = vec![0; TCP_HEADER];
        body[0..2].copy_from_slice(&ends.from.port().to_be_bytes());
        body[2..4].copy_from_slice(&ends.to.port().to_be_bytes());
        body[4..8].copy_from_slice(&sequence.to_be_bytes());
        body[12] = 5 << 4;
        body[13] = flags;
        body.extend_from_slice(payload);
        answer::packet(ends.from.ip(), ends.to.ip(), TCP, 16, body).unwrap()
    }

    fn ends(from: &str, to: &str) -> Ends {
        Ends { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn a_segment_is_read_and_rewritten() {
        for (old, new) in [
            (ends("10.0.2.15:4000", "192.0.2.7:443"), ends("10.0.2.2:77", "10.0.2.100:1")),
            (ends("[fd00::15]:4000", "[2001:db8::7]:443"), ends("[fd00::2]:77", "[fd00::100]:1")),
        ] {
            for payload in [&b""[..], b"odd", b"even"] {
                let mut frame = segment(&old, flag::SYN, 7, payload);
                assert_eq!(parse(&frame), Some(Packet::Tcp { ends: old, flags: flag::SYN, sequence: 7 }));
                assert!(sums_are_right(&frame));
                rewrite(&mut frame, &new);
                assert_eq!(parse(&frame), Some(Packet::Tcp { ends: new, flags: flag::SYN, sequence: 7 }));
                assert!(sums_are_right(&frame), "{new:?}");
            }
        }
    }

    #[test]
    fn a_sum_left_to_the_hardware_covers_the_new_addresses() {
        let (old, new) = (ends("10.0.2.15:4000", "192.0.2.7:443"), ends("10.0.2.2:77", "10.0.2.100:1"));
        let pseudo = |ends: &Ends, length: u64| {
            let (IpAddr::V4(from), IpAddr::V4(to)) = (ends.from.ip(), ends.to.ip()) else { unreachable!() };
            checksum::fold(
                checksum::add(checksum::add(0, &from.octets()), &to.octets()) + u64::from(TCP) + length,
            )
        };
        let mut frame = segment(&old, flag::ACK, 7, b"data");
        frame[0] = NEEDS_CHECKSUM;
        let at = VNET + IPV4_HEADER + 16;
        frame[at..at + 2].copy_from_slice(&pseudo(&old, 24).to_be_bytes());
        rewrite(&mut frame, &new);
        assert_eq!(frame[at..at + 2], pseudo(&new, 24).to_be_bytes());
    }

    #[test]
    fn what_is_not_whole_is_dropped() {
        let good = segment(&ends("10.0.2.15:4000", "192.0.2.7:443"), flag::SYN, 1, b"");
        /// What is harmed, and how.
        type Harm = (&'static str, fn(&mut Vec<u8>));
        let broken: &[Harm] = &[
            ("cut", |frame| frame.truncate(40)),
            ("longer than it says", |frame| frame.push(0)),
            ("a fragment", |frame| frame[VNET + 6] = 0x20),
            ("a later fragment", |frame| frame[VNET + 7] = 1),
            ("options", |frame| frame[VNET] = 0x46),
            ("version 5", |frame| frame[VNET] = 0x55),
            ("a short TCP header", |frame| frame[VNET + 32] = 4 << 4),
            ("a TCP header longer than the packet", |frame| frame[VNET + 32] = 15 << 4),
            ("another protocol", |frame| frame[VNET + 9] = 132),
            ("nothing", Vec::clear),
        ];
        assert!(parse(&good).is_some());
        for (what, harm) in broken {
            let mut frame = good.clone();
            harm(&mut frame);
            assert_eq!(parse(&frame), None, "{what}");
        }
    }

    proptest! {
        /// Whatever comes: no panic, and an answer only about what lies within the frame.
        #[test]
        fn any_bytes_are_read(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(Packet::Udp { payload, .. }) = parse(&frame) {
                prop_assert!(payload <= frame.len());
            }
        }

        #[test]
        fn any_segment_keeps_right_sums(
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            old in any::<([u8; 4], u16, [u8; 4], u16)>(),
            new in any::<([u8; 4], u16, [u8; 4], u16)>(),
        ) {
            let ends = |(from, from_port, to, to_port): ([u8; 4], u16, [u8; 4], u16)| Ends {
                from: SocketAddr::from((from, from_port)),
                to: SocketAddr::from((to, to_port)),
            };
            let mut frame = segment(&ends(old), flag::ACK, 1, &payload);
            rewrite(&mut frame, &ends(new));
            prop_assert!(sums_are_right(&frame));
        }
    }
}
