//! A servant: a short-lived process that works on files with a step's id map, because a rootless keeper cannot.
//!
//! What it does is the starter's choice ([`Work`]); this room only brings it to life in the right user namespace.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, read};
use serde::{Deserialize, Serialize};

use super::wire;

/// The function that a servant runs: the errand's words, its socket to the keeper, further descriptors.
pub type Work = fn(&[u8], &OwnedFd, Vec<OwnedFd>);

/// What the zygote needs to know of a servant.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errand {
    /// uid_map and gid_map of a user namespace of its own; `None`: the zygote's.
    pub maps: Option<(String, String)>,
    /// The descriptor behind the socket is the v2 cgroup to be born in.
    pub cgroup: bool,
    /// For [`Work`].
    pub words: Vec<u8>,
}

/// Runs the errand, after the maps are there.
pub fn run(errand: &Errand, maps_written: Option<&OwnedFd>, socket: &OwnedFd, fds: Vec<OwnedFd>, work: Work) {
    if let Some(pipe) = maps_written
        && become_root(pipe).is_err()
    {
        return;
    }
    work(&errand.words, socket, fds);
}

fn become_root(maps_written: &OwnedFd) -> Result<(), Errno> {
    if read(maps_written.as_fd(), &mut [0; 1])? != 1 {
        return Err(Errno::PIPE);
    }
    super::child::take_ids(0, 0)
}

/// Writes a child's id maps (user_namespaces(7)) and then one byte into its pipe.
///
/// # Errors
/// Those of writing /proc/PID/{setgroups,uid_map,gid_map}.
pub fn write_maps(
    pid: i32,
    uid_map: &str,
    gid_map: &str,
    single_id: bool,
    pipe: OwnedFd,
) -> Result<(), Errno> {
    let write = |file: &str, text: &str| {
        std::fs::write(format!("/proc/{pid}/{file}"), text)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    if single_id {
        write("setgroups", "deny")?;
    }
    write("uid_map", uid_map)?;
    write("gid_map", gid_map)?;
    rustix::io::write(&pipe, b"m").map(|_| ())
}

/// Sends a servant's result.
///
/// # Errors
/// EPIPE when the keeper is gone.
pub fn answer<T: Serialize>(socket: &OwnedFd, value: &T) -> Result<(), Errno> {
    wire::send_value(socket.as_fd(), value, &[])
}
