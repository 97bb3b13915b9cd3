//! The whole examination, check after check.

use std::path::PathBuf;

use super::check::{Check, Examination, Status};
use super::{Host, cgroups, container, identity, machine, network, storage, trials};
use crate::cgroup::{CgroupError, Hierarchy};

/// What the examination is about.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where images and records go; it need not be there yet.
    pub state: PathBuf,
    /// What jobs would work on.
    pub workspace: PathBuf,
}

/// Tries everything that runs need. Takes some 50 ms; nothing that it makes outlives it.
///
/// # Errors
/// When /proc does not say which cgroup the caller is in: then nothing here can be trusted.
pub fn examine(settings: &Settings) -> Result<Examination, CgroupError> {
    let hierarchy = Hierarchy::discover()?;
    let host = Host::quick(&hierarchy);
    let namespace = user_namespaces(settings);
    let has_namespaces = namespace.status != Status::Fail;
    let calls = machine::calls(has_namespaces.then_some(&settings.workspace));
    let mut checks =
        vec![machine::overview(&host), container::check(), calls, namespace, identity::check(has_namespaces)];
    // Everything else is done in a user namespace: without one each would fail for that reason alone.
    if has_namespaces {
        checks.extend([namespaces(), proc_and_sys(settings), network::tun()]);
        checks.extend(storage::overlay(&settings.state));
        checks.push(storage::idmapped(&settings.state, &settings.workspace));
    }
    checks.extend([seccomp(), cgroups::check(Ok(&hierarchy)), storage::state(&settings.state)]);
    checks.extend([machine::limits(), machine::clock()]);
    Ok(Examination::new(host, checks))
}

/// Only what a job's network needs.
///
/// # Errors
/// As [`examine`].
pub fn examine_network() -> Result<Examination, CgroupError> {
    let host = Host::quick(&Hierarchy::discover()?);
    let checks = vec![network::tun(), network::addresses(), network::resolver()];
    Ok(Examination::new(host, checks))
}

/// User namespaces, and whether one has any rights: AppArmor may grant it without.
fn user_namespaces(settings: &Settings) -> Check {
    const NAME: &str = "user namespaces";
    const MEANS: &str = "no sandbox can be made";
    let Err(refusal) = trials::user_namespace().and_then(|()| trials::mounts(&settings.workspace)) else {
        return Check::pass(NAME, "on, with mounts of their own");
    };
    let check = Check::fail(NAME, refusal.to_string(), MEANS);
    let is_set = |name: &str, value: u64| machine::setting(name) == Some(value);
    if is_set("user/max_user_namespaces", 0) {
        return check.fixed_by("sudo sysctl -w user.max_user_namespaces=10000");
    }
    if is_set("kernel/unprivileged_userns_clone", 0) {
        return check.fixed_by("sudo sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if is_set("kernel/apparmor_restrict_unprivileged_userns", 1) {
        return check.fixed_by("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
    }
    check.fixed_by("if this is a container, start it with --privileged, or run on the host")
}

fn namespaces() -> Check {
    const NAME: &str = "other namespaces";
    match trials::namespaces() {
        Ok(()) => Check::pass(NAME, "mount, pid, ipc, uts, network, cgroup"),
        Err(refusal) => Check::fail(NAME, refusal.to_string(), "no sandbox can be made")
            .fixed_by("boot a kernel with all namespaces (CONFIG_NAMESPACES and those below it)"),
    }
}

/// The kernel grants a new /proc and /sys only to who sees the old ones unmasked.
fn proc_and_sys(settings: &Settings) -> Check {
    const NAME: &str = "/proc and /sys";
    let tried = trials::new_proc(&settings.workspace).and_then(|()| trials::new_sys(&settings.workspace));
    match tried {
        Ok(()) => Check::pass(NAME, "new ones can be mounted"),
        Err(refusal) => Check::fail(
            NAME,
            refusal.to_string(),
            "steps cannot get their own: an outer container masks parts of its /proc or /sys",
        )
        .fixed_by("start the outer container with --security-opt systempaths=unconfined, or run on the host"),
    }
}

fn seccomp() -> Check {
    const NAME: &str = "seccomp";
    match trials::seccomp() {
        Ok(()) => Check::pass(NAME, "filters can be loaded"),
        Err(refusal) => Check::fail(NAME, refusal.to_string(), "system calls of steps cannot be filtered")
            .fixed_by("boot a kernel with CONFIG_SECCOMP_FILTER"),
    }
}
