//! Who may go where: what is closed to every job, and a job's own list.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Addresses whose names are remembered. A job that makes more up is told no further ones.
const NAMED_ADDRESSES_MAX: usize = 8192;
/// Names remembered of one address: content networks serve many from one.
const NAMES_PER_ADDRESS_MAX: usize = 16;

/// IPv4 networks closed to every job: network, length, what it is.
const CLOSED_V4: [(Ipv4Addr, u8, &str); 8] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this host"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "this machine's loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local, where clouds keep their metadata"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved, and broadcast"),
    // Metadata of clouds outside the link-local range.
    (Ipv4Addr::new(100, 100, 100, 200), 32, "a cloud's metadata"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's metadata"),
    (Ipv4Addr::new(192, 0, 0, 192), 32, "a cloud's metadata"),
];
/// The same of IPv6. Tunnels are closed because they carry addresses of all the others.
const CLOSED_V6: [(Ipv6Addr, u8, &str); 12] = [
    (Ipv6Addr::UNSPECIFIED, 128, "this host"),
    (Ipv6Addr::LOCALHOST, 128, "this machine's loopback"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4 in IPv6, of old"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local, of old"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, "IPv4 by NAT64"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "IPv4 by 6to4"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "IPv4 by Teredo"),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, "IPv4 by SIIT"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, "a cloud's metadata"),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0), 32, "a cloud's metadata"),
];

/// What an address stands for, IPv4 in IPv6 unwrapped.
pub fn unwrap(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Why an address is closed to every job; `None`: it is not.
pub fn closed(address: IpAddr) -> Option<&'static str> {
    match unwrap(address) {
        IpAddr::V4(v4) => CLOSED_V4
            .iter()
            .find(|(network, length, _)| {
                let mask = u32::MAX << (32 - u32::from(*length));
                v4.to_bits() & mask == network.to_bits()
            })
            .map(|(_, _, what)| *what),
        IpAddr::V6(v6) => CLOSED_V6
            .iter()
            .find(|(network, length, _)| {
                let mask = u128::MAX << (128 - u32::from(*length));
                v6.to_bits() & mask == network.to_bits()
            })
            .map(|(_, _, what)| *what),
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A name, in lower case.
    Name(String),
    /// Every name that ends in this, which starts with a dot.
    Below(String),
    /// An address.
    Address(IpAddr),
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whom.
    pub target: Target,
    /// On which port; `None`: on any.
    pub port: Option<u16>,
}

/// What a job may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Only these; `None`: everything that is not closed to every job.
    pub allow: Option<Vec<Rule>>,
}

impl Policy {
    /// Whether this name may be asked for. It must be in lower case.
    pub fn may_resolve(&self, name: &str) -> bool {
        self.allow.as_ref().is_none_or(|rules| rules.iter().any(|rule| names(rule, name)))
    }
}

fn names(rule: &Rule, name: &str) -> bool {
    match &rule.target {
        Target::Name(exact) => exact == name,
        Target::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
        Target::Address(_) => false,
    }
}

/// Which names led to which address, as our own resolver said, for as long as the job lives.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<IpAddr, Vec<String>>,
}

impl Names {
    /// Remembers that a name has this address.
    pub fn learn(&mut self, name: &str, address: IpAddr) {
        let address = unwrap(address);
        if self.known.len() >= NAMED_ADDRESSES_MAX && !self.known.contains_key(&address) {
            return;
        }
        let names = self.known.entry(address).or_default();
        names.retain(|known| known != name);
        names.push(name.to_owned());
        if names.len() > NAMES_PER_ADDRESS_MAX {
            names.remove(0);
        }
    }

    /// The name by which an address was asked for last.
    pub fn last(&self, address: IpAddr) -> Option<&str> {
        self.known.get(&unwrap(address))?.last().map(String::as_str)
    }

    /// Whether the list lets a job through to an address and port, and by which of its names. An address that was
    /// never answered for a listed name is not let through.
    pub fn permitted(&self, policy: &Policy, address: IpAddr, port: u16) -> Option<Option<&str>> {
        let address = unwrap(address);
        let Some(rules) = &policy.allow else { return Some(self.last(address)) };
        let mut rules = rules.iter().filter(|rule| rule.port.is_none_or(|listed| listed == port));
        let names_of = self.known.get(&address).map_or(&[][..], Vec::as_slice);
        rules.find_map(|rule| match &rule.target {
            Target::Address(listed) => (unwrap(*listed) == address).then(|| self.last(address)),
            Target::Name(_) | Target::Below(_) => {
                names_of.iter().rev().find(|name| names(rule, name)).map(|name| Some(name.as_str()))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_closed() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "224.0.0.251",
            "239.1.1.1",
            "255.255.255.255",
            "240.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "::ffff:0:7f00:1",
            "fd00:ec2::254",
        ] {
            assert!(closed(address.parse().unwrap()).is_some(), "{address}");
        }
    }

    #[test]
    fn the_world_is_open() {
        for address in [
            "1.1.1.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "128.0.0.1",
            "126.255.255.255",
            "169.253.1.1",
            "223.255.255.255",
            "2001:db8::1",
            "2001:4860::1",
            "fd00::1",
            "2606::1",
            "65::1",
        ] {
            assert_eq!(closed(address.parse().unwrap()), None, "{address}");
        }
    }

    fn policy() -> Policy {
        let rule = |target, port| Rule { target, port };
        Policy {
            allow: Some(vec![
                rule(Target::Name("a.example.org".into()), Some(443)),
                rule(Target::Below(".deb.example.org".into()), Some(80)),
                rule(Target::Address("192.0.2.9".parse().unwrap()), None),
            ]),
        }
    }

    #[test]
    fn only_listed_names_resolve() {
        let policy = policy();
        for (name, may) in [
            ("a.example.org", true),
            ("b.example.org", false),
            ("x.a.example.org", false),
            ("one.deb.example.org", true),
            ("two.one.deb.example.org", true),
            ("deb.example.org", false),
            ("evildeb.example.org", false),
            ("192.0.2.9", false),
            ("", false),
        ] {
            assert_eq!(policy.may_resolve(name), may, "{name}");
        }
        assert!(Policy::default().may_resolve("anything"));
    }

    #[test]
    fn an_address_counts_only_for_the_names_that_led_to_it() {
        let policy = policy();
        let mut names = Names::default();
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(names.permitted(&policy, one, 443), None, "nobody asked for it");
        names.learn("one.deb.example.org", one);
        assert_eq!(names.permitted(&policy, one, 443), None, "another name's port");
        assert_eq!(names.permitted(&policy, one, 80), Some(Some("one.deb.example.org")));
        names.learn("a.example.org", one);
        assert_eq!(names.permitted(&policy, one, 443), Some(Some("a.example.org")));
        assert_eq!(
            names.permitted(&policy, "::ffff:192.0.2.1".parse().unwrap(), 443),
            Some(Some("a.example.org"))
        );
        assert_eq!(names.permitted(&policy, "192.0.2.9".parse().unwrap(), 7), Some(None));
        assert_eq!(names.permitted(&Policy::default(), one, 1), Some(Some("a.example.org")));
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::default();
        for number in 0..NAMED_ADDRESSES_MAX as u32 + 9 {
            names.learn("a", IpAddr::V4(Ipv4Addr::from_bits(number)));
        }
        assert_eq!(names.known.len(), NAMED_ADDRESSES_MAX);
        for number in 0..99 {
            names.learn(&number.to_string(), IpAddr::V4(Ipv4Addr::from_bits(1)));
        }
        assert_eq!(names.known[&IpAddr::V4(Ipv4Addr::from_bits(1))].len(), NAMES_PER_ADDRESS_MAX);
        assert_eq!(names.last(IpAddr::V4(Ipv4Addr::from_bits(1))), Some("98"));
    }
}
