//! Gives up what the worker does not need, before it reads the first packet.

use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, set_capabilities, set_name, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::limits::DESCRIPTORS;
use crate::network::control::Settings;
use crate::network::netlink::Netlink;
use crate::sys::process::load_filter;

/// The descriptors, by what they are.
pub struct Parts {
    pub job: OwnedFd,
    pub gate: OwnedFd,
    pub listeners: Vec<OwnedFd>,
    pub epoll: OwnedFd,
}

/// Enters the cgroup, opens what needs rights, then gives up the rights.
pub fn prepare(settings: &Settings, fds: Vec<OwnedFd>) -> Result<(Parts, Netlink), (&'static str, Errno)> {
    let _cosmetic = set_name(c"runner-network");
    let mut fds = fds.into_iter();
    let (Some(job), Some(gate)) = (fds.next(), fds.next()) else {
        return Err(("find the network's interfaces", Errno::BADF));
    };
    let listeners: Vec<OwnedFd> = fds.by_ref().take(settings.listeners).collect();
    for tasks in fds {
        rustix::io::write(&tasks, b"0").map_err(|errno| ("enter the network's cgroup", errno))?;
    }
    raise_descriptors();
    let routes = Netlink::open().map_err(|errno| ("ask for routes", errno))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| ("watch the network", errno))?;
    give_up(settings).map_err(|errno| ("give up the rights of the network's process", errno))?;
    load_filter(&settings.filter).map_err(|errno| ("load the network's system call filter", errno))?;
    Ok((Parts { job, gate, listeners, epoll }, routes))
}

/// As many descriptors as the bounds ask for, or as many as there may be: what finds none is asked again.
fn raise_descriptors() {
    let now = getrlimit(Resource::Nofile);
    let wanted = |limit: Option<u64>| limit.map(|most| most.max(DESCRIPTORS));
    let more = Rlimit { current: Some(DESCRIPTORS), maximum: wanted(now.maximum) };
    let all = Rlimit { current: now.maximum, maximum: now.maximum };
    let _less = setrlimit(Resource::Nofile, more).or_else(|_| setrlimit(Resource::Nofile, all));
}

/// Groups and ids, capabilities, the right to gain any again.
fn give_up(settings: &Settings) -> Result<(), Errno> {
    if let Some(id) = settings.ids {
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // A change of ids clears it: hence here. The keeper's end of the socket tells the same.
    let _second_wall = set_parent_process_death_signal(Some(Signal::KILL));
    set_no_new_privs(true)
}
