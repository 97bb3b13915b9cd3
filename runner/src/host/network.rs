//! What a job's network needs of this machine: a tun device, free addresses, a resolver.

use std::fs;

use rustix::io::Errno;

use super::check::Check;
use super::trials;
use crate::network::{Addresses, resolvers};

/// What its absence means.
const MEANS: &str =
    "jobs need `network: none` or `host`: `full`, the default, and `allow` are refused (E522)";

/// A tun device, tried by making an interface in a network namespace of its own.
pub(super) fn tun() -> Check {
    const NAME: &str = "tun device";
    let Err(refusal) = trials::tun() else {
        return Check::pass(NAME, "/dev/net/tun makes interfaces");
    };
    let check = Check::warn(NAME, refusal.to_string(), MEANS);
    match refusal.errno {
        Errno::NOENT => check.fixed_by("sudo modprobe tun; a container: start it with --device /dev/net/tun"),
        Errno::ACCESS => check.fixed_by("sudo chmod 666 /dev/net/tun"),
        Errno::NODEV | Errno::NXIO => check.fixed_by("sudo modprobe tun"),
        _ => check,
    }
}

/// Networks that no route of this machine covers.
pub(super) fn addresses() -> Check {
    const NAME: &str = "job addresses";
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let asked = resolvers(&read("/etc/resolv.conf"));
    match Addresses::choose(&read("/proc/net/route"), &read("/proc/net/ipv6_route"), &asked) {
        Some(Addresses { v4, v6: Some(v6) }) => Check::pass(NAME, format!("{v4}/24 and {v6}/64 are free")),
        Some(Addresses { v4, v6: None }) => {
            Check::pass(NAME, format!("{v4}/24 is free; this machine has no IPv6, nor have jobs"))
        }
        None => Check::warn(NAME, "this machine's routes cover all private networks", MEANS),
    }
}

/// Whom jobs' questions for names are passed on to.
pub(super) fn resolver() -> Check {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let found: Vec<String> = resolvers(&text).iter().map(ToString::to_string).collect();
    Check::pass("resolver", format!("questions for names go to {}", found.join(", ")))
}
