//! The stage's part: the two interfaces of a job, and the sockets behind the gate.
//!
//! The job's network namespace gets `tun0` and no process of ours; the gate's namespace has no process at all and lives
//! by its descriptors. Both are made by whoever owns them; the steps own neither.

use std::borrow::Cow;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

use super::address::{Addresses, PREFIX_V4, PREFIX_V6};
use super::netlink::Netlink;
use crate::sys::tun;

/// Largest packet of the interfaces. With segmentation left to the other side it is as fast as 64 KiB, and has none of
/// the oddities of such links.
const MTU: u32 = 1500;
/// Packets waiting in an interface: the default of 500 drops bursts of connection requests. The senders' socket buffers
/// bound the memory.
const QUEUE_PACKETS: u32 = 10_000;
/// Connections waiting to be accepted: all that may be half open at once (`worker::limits`).
const BACKLOG: i32 = 1024;

/// The listener's address behind the gate. Nothing outside that namespace ever sees it.
pub const GATE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// What all connections at the gate come from, each by a port of its own.
pub const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The same for IPv6.
pub const GATE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
/// The same for IPv6.
pub const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// The listener's port.
pub const GATE_PORT: u16 = 1;

/// What could not be made, and whether it is the tun device that is missing.
#[derive(Debug)]
pub struct LinkTrouble {
    /// Fits after "cannot".
    pub what: Cow<'static, str>,
    /// Why.
    pub errno: Errno,
    /// The machine has no usable tun device: E522.
    pub no_tun: bool,
}

fn tried<T>(what: &'static str, result: Result<T, Errno>) -> Result<T, LinkTrouble> {
    result.map_err(|errno| LinkTrouble { what: what.into(), errno, no_tun: false })
}

/// Makes the gate in the caller's network namespace, which must be new. Returns its tun device and its listeners.
///
/// # Errors
/// [`LinkTrouble`].
pub fn make_gate(addresses: &Addresses) -> Result<Vec<OwnedFd>, LinkTrouble> {
    let (device, index) = interface()?;
    let netlink = tried("ask for network settings", Netlink::open())?;
    tried("set up the gate's interface", netlink.set_up(index, MTU, QUEUE_PACKETS))?;
    let v4 = netlink.add_address(index, IpAddr::V4(GATE_V4), PREFIX_V4);
    tried("set the gate's address", v4)?;
    let mut fds =
        vec![device, tried("listen at the gate", listener(SocketAddr::from((GATE_V4, GATE_PORT))))?];
    if addresses.v6.is_some() {
        let v6 = netlink.add_address(index, IpAddr::V6(GATE_V6), PREFIX_V6);
        tried("set the gate's IPv6 address", v6)?;
        fds.push(tried("listen at the gate", listener(SocketAddr::from((GATE_V6, GATE_PORT))))?);
    }
    Ok(fds)
}

/// Makes the job's interface in the caller's network namespace, with its addresses and the way out. Returns its tun
/// device.
///
/// # Errors
/// [`LinkTrouble`].
pub fn make_way_out(addresses: &Addresses) -> Result<OwnedFd, LinkTrouble> {
    let (device, index) = interface()?;
    // Nobody advertises routers or prefixes on this link: no address but ours.
    for (setting, value) in [("accept_ra", "0"), ("addr_gen_mode", "1")] {
        let _no_ipv6 = fs::write(format!("/proc/sys/net/ipv6/conf/tun0/{setting}"), value);
    }
    let netlink = tried("ask for network settings", Netlink::open())?;
    tried("set up the job's interface", netlink.set_up(index, MTU, QUEUE_PACKETS))?;
    let mut ways = vec![(IpAddr::V4(addresses.guest_v4()), PREFIX_V4, IpAddr::V4(addresses.gateway_v4()))];
    if let Some((guest, gateway)) = addresses.guest_v6().zip(addresses.gateway_v6()) {
        ways.push((IpAddr::V6(guest), PREFIX_V6, IpAddr::V6(gateway)));
    }
    for (guest, prefix, gateway) in ways {
        tried("set the job's address", netlink.add_address(index, guest, prefix))?;
        tried("set the job's route", netlink.add_default_route(index, gateway))?;
    }
    Ok(device)
}

/// A new `tun0`, and its number.
fn interface() -> Result<(OwnedFd, u32), LinkTrouble> {
    let no_tun = |what: &'static str| move |errno| LinkTrouble { what: what.into(), errno, no_tun: true };
    let device = tun::open_device().map_err(no_tun("open /dev/net/tun"))?;
    tun::attach(&device, c"tun0").map_err(no_tun("make a network interface by /dev/net/tun"))?;
    let socket = tried(
        "open a socket",
        socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None),
    )?;
    let index = tried("find the network interface", name_to_index(&socket, "tun0"))?;
    Ok((device, index))
}

fn listener(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
