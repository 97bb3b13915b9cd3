//! tun devices (Documentation/networking/tuntap.rst): packets that a process reads and writes.

#![expect(unsafe_code, reason = "the ioctls of a tun device have no safe wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::clone::last_errno;

/// Where the kernel hands out tun devices.
pub const DEVICE: &CStr = c"/dev/net/tun";

/// Opens [`DEVICE`], not yet attached to an interface.
///
/// # Errors
/// ENOENT or ENODEV without the driver, EACCES or EPERM without the rights.
pub fn open_device() -> Result<OwnedFd, Errno> {
    open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
}

/// Makes the interface `name` in the network namespace in which `device` was opened. It goes away with the
/// descriptor. Packets carry a virtio header of ten bytes; checksums and segmentation are left to the other side.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace; EINVAL on a kernel that cannot leave segmentation to us.
pub fn attach(device: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.to_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes the ifreq, which lives here.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, std::ptr::from_mut(&mut request)) } == -1 {
        return Err(last_errno());
    }
    let offload = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload)) } == -1 {
        return Err(last_errno());
    }
    Ok(())
}

/// The request by which an interface outlives its descriptor, as a filter of system calls sees it.
pub const PERSIST_REQUEST: u64 = 0x4004_54cb;

/// Leaves the interface to the end of its network namespace. Taking it down takes the kernel 20 ms for each, which a
/// closing descriptor waits for, and the end of a namespace, done in the background, does not.
pub fn leave_to_namespace(device: &OwnedFd) {
    // SAFETY: TUNSETPERSIST takes its argument by value.
    unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_ulong) };
}
