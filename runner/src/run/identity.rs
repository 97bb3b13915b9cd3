//! Where the steps' ids come from on this machine: a private range, the user's subids, or one id.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::host::{OwnIds, SubidRange, own_ids, subid_range};
use crate::sandbox::ids::{Identity, RANGE};
use crate::sandbox::zygote::{Request, Zygote};

/// First id of the private ranges: above those of ordinary users, systemd's containers (up to 0x6FFF_FFFF) and below
/// systemd's foreign range (from 0x7FFE_0000), see systemd's UIDS-GIDS.
const BASE_FIRST: u32 = 0x7000_0000;
/// How many ranges there are: as many jobs can run at once on a machine.
const RANGES: u32 = 0x0FFE;

/// Locks of the ranges in use on this machine.
const MACHINE_LEASES: &str = "/run/runner/ids";

/// The ids could not be had.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The directory of leases cannot be used.
    #[error("cannot lease a range of ids in {path}")]
    Lease {
        /// Which file or directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// All ranges are in use.
    #[error("cannot lease a range of ids: all {RANGES} are in use")]
    Exhausted,
    /// User namespaces are off, or at their limit.
    #[error("cannot create the user namespace: {0}")]
    Namespace(#[source] rustix::io::Errno),
    /// The maps were refused.
    #[error("cannot write the id maps of the user namespace: {0}")]
    Maps(String),
    /// The same to root of a container.
    #[error("cannot write the id maps of the user namespace, as root of a container: {0}")]
    Container(String),
}

impl IdentityError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Lease { .. } => "set RUNNER_HOME to a directory that you may write to",
            Self::Exhausted => "wait for other runs to end",
            Self::Namespace(_) => {
                "unprivileged user namespaces are off or at their limit; `runner doctor` shows the setting"
            }
            Self::Container(_) => {
                "start the container with the capabilities SETFCAP, SETUID and SETGID; in a step of the runner: `privileges: nested`"
            }
            Self::Maps(_) => {
                "`runner doctor` shows whether newuidmap and the ranges in /etc/subuid and /etc/subgid fit"
            }
        }
    }
}

/// The ids of one run. As root it holds a lease on its range.
#[derive(Debug)]
pub struct Lease {
    /// What the sandbox needs to know.
    pub identity: Identity,
    _lock: Option<File>,
}

/// Settles the ids, and as an ordinary user moves the zygote into its user namespace.
///
/// # Errors
/// When no range is free, or when the machine grants no user namespace.
pub fn establish(zygote: &Zygote, home: &Path) -> Result<Lease, IdentityError> {
    if Uid::effective().is_root() {
        if let Some(own) = own_ids() {
            return inside_container(zygote, own);
        }
        // One machine, one set of ranges, whatever the home; a machine whose /run is not ours to write to has one home.
        return lease_range(Path::new(MACHINE_LEASES)).or_else(|_| lease_range(&home.join("ids")));
    }
    let ranges = subid_first("/etc/subuid").zip(subid_first("/etc/subgid"));
    zygote.ask(&Request::EnterUserNamespace, &[]).map_err(IdentityError::Namespace)?;
    if let Some((users, groups)) = ranges
        && map_subids(zygote.pid(), users, groups).is_ok()
    {
        return Ok(Lease { identity: Identity::Subids { count: RANGE }, _lock: None });
    }
    map_single(zygote.pid()).map_err(|error| IdentityError::Maps(error.to_string()))?;
    Ok(Lease { identity: Identity::Single, _lock: None })
}

/// The fewest ids with which images are unpacked as they are: up to `nobody`, 65534.
const COUNT_MIN: u32 = 65_535;

/// Root of a container: as an ordinary user, with the container's other ids for subids.
fn inside_container(zygote: &Zygote, own: OwnIds) -> Result<Lease, IdentityError> {
    zygote.ask(&Request::EnterUserNamespace, &[]).map_err(IdentityError::Namespace)?;
    let write = |file: &str, text: &str| fs::write(format!("/proc/{}/{file}", zygote.pid()), text);
    let count = own.users.count.min(own.groups.count).min(RANGE);
    if count >= COUNT_MIN {
        let map = |range: SubidRange| format!("0 0 1\n1 {} {count}\n", range.first);
        if write("uid_map", &map(own.users)).and_then(|()| write("gid_map", &map(own.groups))).is_ok() {
            return Ok(Lease { identity: Identity::Subids { count }, _lock: None });
        }
    }
    map_single(zygote.pid()).map_err(|error| IdentityError::Container(error.to_string()))?;
    Ok(Lease { identity: Identity::Single, _lock: None })
}

/// Takes the first range whose lock file nobody holds. The files stay: unlinking one would let two hold "it".
fn lease_range(directory: &Path) -> Result<Lease, IdentityError> {
    let failed = |source: io::Error| IdentityError::Lease { path: directory.display().to_string(), source };
    // Private: whoever can open a lock file can hold it.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    for number in 0..RANGES {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(number.to_string()))
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let base = BASE_FIRST + number * RANGE;
            return Ok(Lease { identity: Identity::Root { base }, _lock: Some(file) });
        }
    }
    Err(IdentityError::Exhausted)
}

/// The first id of a range of at least [`RANGE`] that this file of subuid(5)'s form grants the caller.
fn subid_first(file: &str) -> Option<u32> {
    let uid = Uid::current();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let text = fs::read_to_string(file).ok()?;
    subid_range(&text, name.as_deref(), uid.as_raw(), RANGE).map(|range| range.first)
}

/// `0 CALLER 1`, `1 SUBID 65536`, by the set-uid helpers of shadow.
fn map_subids(pid: i32, users: u32, groups: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::current(), Gid::current());
    for (tool, own, first) in [("newuidmap", uid.as_raw(), users), ("newgidmap", gid.as_raw(), groups)] {
        let arguments = [
            pid.to_string(),
            "0".into(),
            own.to_string(),
            "1".into(),
            "1".into(),
            first.to_string(),
            RANGE.to_string(),
        ];
        let output = Command::new(tool).args(arguments).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
    }
    Ok(())
}

/// `0 CALLER 1`, which needs no helper; `setgroups` must be given up first (user_namespaces(7)).
fn map_single(pid: i32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    fs::write(format!("/proc/{pid}/uid_map"), format!("0 {} 1\n", Uid::current()))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("0 {} 1\n", Gid::current()))
}

/// Whether the caller is root.
pub fn caller_is_root() -> bool {
    Uid::current().is_root()
}

/// The caller's name and group name, for `user: me` and the generated passwd.
pub fn caller() -> (String, u32, u32, String) {
    let (uid, gid) = (Uid::current(), Gid::current());
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| format!("u{uid}"), |user| user.name);
    let group = Group::from_gid(gid).ok().flatten().map_or_else(|| format!("g{gid}"), |group| group.name);
    (name, uid.as_raw(), gid.as_raw(), group)
}
