//! Rules of a job's network: `example.org:443`, `*.example.org`, `192.0.2.1:80`, `[2001:db8::1]:443`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use serde::{Serialize, Serializer};

/// Longest host name in bytes (RFC 1035).
pub const HOST_BYTES_MAX: usize = 253;
/// Longest part of one, between dots.
const LABEL_BYTES_MAX: usize = 63;

/// What a job may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkRules {
    /// Only these; `None` is everything outside this machine.
    pub allow: Option<Vec<AllowedHost>>,
    /// Keep a record of where each step went.
    pub record: bool,
}

/// One entry of `network.allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// Whom.
    pub host: HostPattern,
    /// On which port; `None` is any.
    pub port: Option<u16>,
}

/// Whom an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// A name, in lower case.
    Name(String),
    /// Every name below this one, in lower case and without the `*.` before it.
    Below(String),
    /// An address.
    Address(IpAddr),
}

/// Why an entry cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFault {
    /// It is a URL.
    Url,
    /// The port is not a number from 1 to 65535.
    Port,
    /// A `*` stands elsewhere than before the first dot.
    Star,
    /// The name has characters or lengths that no name has.
    Name,
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url => "it is a URL",
            Self::Port => "its port is not a number from 1 to 65535",
            Self::Star => "a `*` may only be the whole of its first part",
            Self::Name => "it is not a host name or address",
        })
    }
}

impl AllowedHost {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`HostFault`].
    pub fn parse(text: &str) -> Result<Self, HostFault> {
        if text.contains("://") || text.contains('/') {
            return Err(HostFault::Url);
        }
        // An address with colons of its own stands in brackets when a port follows.
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: HostPattern::Address(address.into()), port: None });
        }
        if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let address: Ipv6Addr = address.parse().map_err(|_| HostFault::Name)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if rest.is_empty() => None,
                None => return Err(HostFault::Port),
            };
            return Ok(Self { host: HostPattern::Address(address.into()), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        Ok(Self { host: parse_host(host)?, port })
    }
}

fn parse_port(text: &str) -> Result<u16, HostFault> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| *port > 0);
    port.filter(|_| digits).ok_or(HostFault::Port)
}

fn parse_host(text: &str) -> Result<HostPattern, HostFault> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(HostPattern::Address(address.into()));
    }
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    match name.strip_prefix("*.") {
        Some(below) if below.contains('*') => Err(HostFault::Star),
        Some(below) => parse_name(below).map(HostPattern::Below),
        None if name.contains('*') => Err(HostFault::Star),
        None => parse_name(name).map(HostPattern::Name),
    }
}

fn parse_name(name: &str) -> Result<String, HostFault> {
    let letters =
        |label: &str| label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let label = |label: &str| !label.is_empty() && label.len() <= LABEL_BYTES_MAX && letters(label);
    // What ends in a number is an address to most programs, and this is none.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let fits = name.len() <= HOST_BYTES_MAX && name.split('.').all(label) && !numeric;
    if fits { Ok(name.to_owned()) } else { Err(HostFault::Name) }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (HostPattern::Name(name), _) => f.write_str(name)?,
            (HostPattern::Below(name), _) => write!(f, "*.{name}")?,
            (HostPattern::Address(IpAddr::V6(v6)), Some(_)) => write!(f, "[{v6}]")?,
            (HostPattern::Address(address), _) => write!(f, "{address}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for AllowedHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_written_alike() {
        for text in [
            "example.org",
            "example.org:443",
            "*.example.org:80",
            "localhost",
            "a_b.example:1",
            "192.0.2.1",
            "192.0.2.1:65535",
            "2001:db8::1",
            "[2001:db8::1]:443",
        ] {
            assert_eq!(AllowedHost::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(AllowedHost::parse("Example.ORG.:443").unwrap().to_string(), "example.org:443");
        assert_eq!(AllowedHost::parse("[2001:db8::1]").unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = format!("{}.org", "a".repeat(64));
        for (text, fault) in [
            ("", HostFault::Name),
            ("https://example.org", HostFault::Url),
            ("example.org/path", HostFault::Url),
            ("example.org:", HostFault::Port),
            ("example.org:0", HostFault::Port),
            ("example.org:65536", HostFault::Port),
            ("example.org:+80", HostFault::Port),
            ("example.org:80:81", HostFault::Port),
            ("[2001:db8::1]80", HostFault::Port),
            ("[example.org]:80", HostFault::Name),
            ("*", HostFault::Star),
            ("a*.example.org", HostFault::Star),
            ("*.*.org", HostFault::Star),
            ("*.", HostFault::Star),
            ("a..b", HostFault::Name),
            ("exa mple.org", HostFault::Name),
            ("münchen.example", HostFault::Name),
            ("192.0.2", HostFault::Name),
            ("192.0.2.256", HostFault::Name),
            (&long, HostFault::Name),
        ] {
            assert_eq!(AllowedHost::parse(text), Err(fault), "{text}");
        }
    }
}
