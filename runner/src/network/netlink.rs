//! The few rtnetlink messages (rtnetlink(7)) that a job's interface and a question about a route need.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Bytes of an answer: a route with all attributes fits several times.
const ANSWER_BYTES: usize = 4096;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
/// No duplicate detection: nobody else is on the link, and a tentative address cannot be used.
const IFA_F_NODAD: u8 = 2;

/// A request as it grows.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        put(&mut bytes, 4, &kind.to_ne_bytes());
        put(&mut bytes, 6, &(NLM_F_REQUEST | flags).to_ne_bytes());
        put(&mut bytes, 8, &1u32.to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        // Attributes are aligned to four bytes.
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        put(&mut self.0, 0, &length.to_ne_bytes());
        self.0
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

/// What the routing table says of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// It lies elsewhere.
    Away,
    /// It is an address of this machine, or reaches all on a link.
    Ours,
    /// There is no way: the errno that connect(2) would give.
    None(Errno),
}

/// A socket for asking and changing the network namespace in which it was made.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens it.
    ///
    /// # Errors
    /// EMFILE, EPROTONOSUPPORT.
    pub fn open() -> Result<Self, Errno> {
        let kind = SocketType::RAW;
        socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, None).map(Self)
    }

    /// Brings an interface up, with its largest packet and the length of its queue.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN over the namespace.
    pub fn set_up(&self, index: u32, mtu: u32, queue_packets: u32) -> Result<(), Errno> {
        let mut body = [0; 16];
        put(&mut body, 4, &index.to_ne_bytes());
        put(&mut body, 8, &(libc::IFF_UP as u32).to_ne_bytes());
        put(&mut body, 12, &(libc::IFF_UP as u32).to_ne_bytes());
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK, &body)
            .attribute(IFLA_MTU, &mtu.to_ne_bytes())
            .attribute(IFLA_TXQLEN, &queue_packets.to_ne_bytes());
        self.change(message)
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// EOPNOTSUPP or EACCES where the kernel has no IPv6, or it is switched off.
    pub fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Errno> {
        let (family, octets) = octets(address);
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut body = [family, prefix, flags, 0, 0, 0, 0, 0];
        put(&mut body, 4, &index.to_ne_bytes());
        let message = Message::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body)
            .attribute(IFA_LOCAL, &octets)
            .attribute(IFA_ADDRESS, &octets);
        self.change(message)
    }

    /// Makes an interface the way to everywhere.
    ///
    /// # Errors
    /// ENETUNREACH when the gateway is not in one of its networks.
    pub fn add_default_route(&self, index: u32, gateway: IpAddr) -> Result<(), Errno> {
        let (family, octets) = octets(gateway);
        let body = [family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        let message = Message::new(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body)
            .attribute(RTA_GATEWAY, &octets)
            .attribute(RTA_OIF, &index.to_ne_bytes());
        self.change(message)
    }

    fn change(&self, message: Message) -> Result<(), Errno> {
        send(self.0.as_fd(), &message.finish(), SendFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES];
        let (_, length) = recv(self.0.as_fd(), &mut answer, RecvFlags::empty())?;
        acknowledged(answer.get(..length).unwrap_or_default())
    }

    /// Asks where packets to this address would go. Nothing is sent to anybody.
    ///
    /// # Errors
    /// Those of the socket; what the table says is in [`Route`].
    pub fn route_to(&self, address: IpAddr) -> Result<Route, Errno> {
        let (family, octets) = octets(address);
        let body = [family, octets.len() as u8 * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let message = Message::new(RTM_GETROUTE, 0, &body).attribute(RTA_DST, &octets);
        send(self.0.as_fd(), &message.finish(), SendFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES];
        let (_, length) = recv(self.0.as_fd(), &mut answer, RecvFlags::empty())?;
        route_of(answer.get(..length).unwrap_or_default())
    }
}

/// Type and body of an answer's first message.
fn first(answer: &[u8]) -> Result<(u16, &[u8]), Errno> {
    let header = answer.first_chunk::<HEADER>().ok_or(Errno::BADMSG)?;
    Ok((u16::from_ne_bytes([header[4], header[5]]), answer.get(HEADER..).unwrap_or_default()))
}

/// The errno of an `NLMSG_ERROR`; 0 acknowledges.
fn error_of(body: &[u8]) -> Result<i32, Errno> {
    body.first_chunk::<4>().map(|bytes| -i32::from_ne_bytes(*bytes)).ok_or(Errno::BADMSG)
}

fn acknowledged(answer: &[u8]) -> Result<(), Errno> {
    match first(answer)? {
        (NLMSG_ERROR, body) => match error_of(body)? {
            0 => Ok(()),
            errno => Err(Errno::from_raw_os_error(errno)),
        },
        _ => Err(Errno::BADMSG),
    }
}

fn route_of(answer: &[u8]) -> Result<Route, Errno> {
    match first(answer)? {
        (NLMSG_ERROR, body) => match error_of(body)? {
            0 => Err(Errno::BADMSG),
            errno => Ok(Route::None(Errno::from_raw_os_error(errno))),
        },
        (RTM_NEWROUTE, body) => {
            let header = body.first_chunk::<ROUTE_HEADER>().ok_or(Errno::BADMSG)?;
            Ok(match header[7] {
                libc::RTN_UNICAST => Route::Away,
                libc::RTN_LOCAL | libc::RTN_ANYCAST | libc::RTN_BROADCAST | libc::RTN_MULTICAST => {
                    Route::Ours
                }
                libc::RTN_PROHIBIT => Route::None(Errno::ACCESS),
                libc::RTN_UNREACHABLE => Route::None(Errno::HOSTUNREACH),
                _ => Route::None(Errno::NETUNREACH),
            })
        }
        _ => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_told_from_others() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.route_to("127.0.0.1".parse().unwrap()), Ok(Route::Ours));
        assert_eq!(netlink.route_to("127.9.9.9".parse().unwrap()), Ok(Route::Ours));
        assert_eq!(netlink.route_to("224.0.0.1".parse().unwrap()).ok().filter(|r| *r == Route::Away), None);
    }

    #[test]
    fn attributes_are_aligned() {
        let bytes = Message::new(RTM_NEWLINK, 0, &[0; 16]).attribute(IFLA_MTU, &[1, 2, 3]).finish();
        assert_eq!(bytes.len(), 40);
        assert_eq!(&bytes[..4], 40u32.to_ne_bytes());
        assert_eq!(&bytes[32..36], [7, 0, 4, 0], "little endian machines only are built for");
    }

    #[test]
    fn cut_answers_are_refused() {
        for length in 0..HEADER + 4 {
            let mut answer = vec![0; length];
            put(&mut answer, 4, &NLMSG_ERROR.to_ne_bytes());
            assert!(acknowledged(&answer).is_err() && route_of(&answer).is_err(), "{length}");
        }
    }
}
