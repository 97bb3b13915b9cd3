//! Which addresses a job's interface has: a pair of networks that this machine does not use itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// IPv4 networks to choose from, each /24. The first is what other user-mode networks have always used.
const CANDIDATES_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(10, 0, 2, 0),
    Ipv4Addr::new(10, 213, 87, 0),
    Ipv4Addr::new(172, 29, 213, 0),
    Ipv4Addr::new(192, 168, 213, 0),
    // Between carriers and their customers (RFC 6598), and for benchmarks (RFC 2544): when all private ones are taken.
    Ipv4Addr::new(100, 99, 213, 0),
    Ipv4Addr::new(198, 19, 213, 0),
];
/// IPv6 networks to choose from, each /64 of the unique local range (RFC 4193).
const CANDIDATES_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0xfd72, 0x756e, 0x6e65, 0x7200, 0, 0, 0, 0),
    Ipv6Addr::new(0xfd72, 0x756e, 0x6e65, 0x7201, 0, 0, 0, 0),
];
/// Resolvers that are asked, as in the C library (resolv.conf(5)).
const RESOLVERS_MAX: usize = 3;
/// Length of the IPv4 networks in bits.
pub const PREFIX_V4: u8 = 24;
/// Length of the IPv6 networks in bits.
pub const PREFIX_V6: u8 = 64;
/// Last part of the job's own address.
const GUEST: u8 = 15;
/// Last part of the gateway's.
const GATEWAY: u8 = 2;
/// Last part of the resolver's; IPv4 only.
const RESOLVER: u8 = 3;

/// The job's two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The /24, ending in 0.
    pub v4: Ipv4Addr,
    /// The /64; `None` where this machine has no IPv6 itself.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The job's IPv4 address.
    pub fn guest_v4(&self) -> Ipv4Addr {
        host_v4(self.v4, GUEST)
    }

    /// The job's IPv6 address.
    pub fn guest_v6(&self) -> Option<Ipv6Addr> {
        self.v6.map(|network| host_v6(network, GUEST))
    }

    /// The IPv4 gateway.
    pub fn gateway_v4(&self) -> Ipv4Addr {
        host_v4(self.v4, GATEWAY)
    }

    /// The IPv6 gateway.
    pub fn gateway_v6(&self) -> Option<Ipv6Addr> {
        self.v6.map(|network| host_v6(network, GATEWAY))
    }

    /// Where the job finds its resolver.
    pub fn resolver(&self) -> Ipv4Addr {
        host_v4(self.v4, RESOLVER)
    }

    /// Whether an address is one of the job's interface.
    pub fn is_guest(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.guest_v4(),
            IpAddr::V6(v6) => Some(v6) == self.guest_v6(),
        }
    }

    /// Whether an address lies in one of the job's networks, where nobody of the world is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => overlap_v4((self.v4, PREFIX_V4), (v4, 32)),
            IpAddr::V6(v6) => self.v6.is_some_and(|network| overlap_v6((network, PREFIX_V6), (v6, 128))),
        }
    }

    /// Chooses for a machine with these routes: the texts of /proc/net/route and /proc/net/ipv6_route. `used`:
    /// addresses that must stay reachable, as those of its resolvers. `None` when every network is taken.
    pub fn choose(routes: &str, routes_v6: &str, used: &[IpAddr]) -> Option<Self> {
        let taken_v4: Vec<(Ipv4Addr, u8)> = parse_routes_v4(routes)
            .into_iter()
            .chain(used.iter().filter_map(|address| match address {
                IpAddr::V4(v4) => Some((*v4, 32)),
                IpAddr::V6(_) => None,
            }))
            .collect();
        let table = parse_routes_v6(routes_v6);
        let free_v4 = |network: &Ipv4Addr| {
            !taken_v4.iter().any(|taken| taken.1 > 0 && overlap_v4((*network, PREFIX_V4), *taken))
        };
        let free_v6 = |network: &Ipv6Addr| {
            !table.iter().any(|taken| taken.1 > 0 && overlap_v6((*network, PREFIX_V6), *taken))
        };
        let v4 = CANDIDATES_V4.into_iter().find(free_v4)?;
        let v6 = if table.is_empty() { None } else { CANDIDATES_V6.into_iter().find(free_v6) };
        Some(Self { v4, v6 })
    }
}

fn host_v4(network: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, last)
}

/// The last part reads in hexadecimal as its IPv4 sister reads in decimal.
fn host_v6(network: Ipv6Addr, last: u8) -> Ipv6Addr {
    let spelled = u128::from(last / 10) * 16 + u128::from(last % 10);
    Ipv6Addr::from_bits(network.to_bits() | spelled)
}

/// The resolvers that a resolv.conf names; this machine itself when it names none (resolv.conf(5)).
pub fn resolvers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let found: Vec<IpAddr> =
        lines.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).take(RESOLVERS_MAX).collect();
    if found.is_empty() { vec![IpAddr::from([127, 0, 0, 1])] } else { found }
}

/// Whether two networks share an address.
fn overlap_v4(one: (Ipv4Addr, u8), other: (Ipv4Addr, u8)) -> bool {
    let length = one.1.min(other.1);
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    one.0.to_bits() & mask == other.0.to_bits() & mask
}

fn overlap_v6(one: (Ipv6Addr, u8), other: (Ipv6Addr, u8)) -> bool {
    let length = one.1.min(other.1);
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    one.0.to_bits() & mask == other.0.to_bits() & mask
}

/// Destinations and prefix lengths of /proc/net/route. The kernel prints each word as its memory stands.
fn parse_routes_v4(text: &str) -> Vec<(Ipv4Addr, u8)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let destination = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
        let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?;
        Some((Ipv4Addr::from(destination.to_ne_bytes()), mask.count_ones() as u8))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Destinations and prefix lengths of /proc/net/ipv6_route that lead out of this machine: not over `lo`, not rejected,
/// neither link-local nor multicast.
fn parse_routes_v6(text: &str) -> Vec<(Ipv6Addr, u8)> {
    /// `RTF_REJECT` of linux/route.h.
    const REJECT: u32 = 0x0200;
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let destination = u128::from_str_radix(fields.first()?, 16).ok()?;
        let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
        let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
        let destination = Ipv6Addr::from_bits(destination);
        let outward = *fields.get(9)? != "lo" && flags & REJECT == 0;
        let near = destination.is_unicast_link_local() || destination.is_multicast();
        (outward && !near).then_some((destination, length))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    const ROUTES_V6: &str = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
        fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
        00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000001 00000000 80200001       lo\n";

    #[test]
    fn a_free_network_is_taken() {
        let chosen = Addresses::choose(ROUTES, "", &[]).unwrap();
        assert_eq!(chosen, Addresses { v4: Ipv4Addr::new(10, 0, 2, 0), v6: None });
        assert_eq!(chosen.guest_v4().to_string(), "10.0.2.15");
        assert!(
            chosen.contains("10.0.2.77".parse().unwrap()) && !chosen.contains("10.0.3.1".parse().unwrap())
        );
    }

    #[test]
    fn a_network_of_the_machines_is_not_taken() {
        // 10.0.0.0/8 lies on eth1.
        let busy = format!("{ROUTES}eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n");
        let chosen = Addresses::choose(&busy, ROUTES_V6, &[]).unwrap();
        assert_eq!(chosen.v4, Ipv4Addr::new(172, 29, 213, 0));
        // fd00::/64 is the machine's own.
        assert_eq!(chosen.v6.unwrap().to_string(), "fd72:756e:6e65:7200::");
        assert_eq!(chosen.guest_v6().unwrap().to_string(), "fd72:756e:6e65:7200::15");
        assert_eq!(chosen.gateway_v6().unwrap().to_string(), "fd72:756e:6e65:7200::2");
    }

    #[test]
    fn a_resolver_stays_reachable() {
        let chosen = Addresses::choose(ROUTES, "", &["10.0.2.3".parse().unwrap()]).unwrap();
        assert_eq!(chosen.v4, Ipv4Addr::new(10, 213, 87, 0));
    }

    #[test]
    fn resolvers_are_read() {
        let text = "# comment\nsearch example.org\nnameserver 127.0.0.53\n nameserver  ::1 \nnameserver fe80::1%eth0\n\
            nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:2\n";
        let found: Vec<String> = resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53", "::1", "192.0.2.1"]);
        assert_eq!(resolvers("").len(), 1);
    }

    #[test]
    fn a_machine_without_ipv6_gives_none() {
        let only_lo: String = ROUTES_V6.lines().filter(|line| line.ends_with("lo")).collect();
        assert_eq!(Addresses::choose(ROUTES, &only_lo, &[]).unwrap().v6, None);
    }
}
