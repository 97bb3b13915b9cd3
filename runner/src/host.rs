//! What this machine can do. Probed once; nobody else asks the machine.
//!
//! [`Host::quick`] has the facts that every run records, in a few system calls. [`examine`] tries everything that a run
//! needs, each in a child where it does no harm, and words what is missing for `runner doctor`.

mod cgroups;
mod check;
mod container;
mod examine;
mod identity;
mod machine;
mod network;
mod storage;
mod trials;

use serde::Serialize;

pub use check::{Check, Examination, Status, Swept};
pub use examine::{Settings, examine, examine_network};
pub use identity::{OwnIds, SubidRange, own_ids, subid_range};

use crate::cgroup::{CgroupFacts, Hierarchy};

/// The facts of a machine that a run's record keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Release of the kernel, `uname -r`.
    pub kernel: String,
    /// Its word for the processor, `uname -m`.
    pub arch: String,
    /// CPUs that this process may run on.
    pub cpus: u64,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// Where cgroups can be made, and with which controllers.
    pub cgroup: CgroupFacts,
    /// Whether the settings let this user make user namespaces. A run that may not says so when it tries.
    pub userns: bool,
    /// The version of the runner.
    pub runner_version: &'static str,
}

/// What expressions see of this machine: architecture, CPUs, kernel.
pub fn facts() -> (String, u64, String) {
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    (text(name.machine()), machine::cpus(), text(name.release()))
}

impl Host {
    /// Reads the cheap facts: under 0.1 ms, the hierarchy not counted.
    pub fn quick(hierarchy: &Hierarchy) -> Self {
        let name = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        Self {
            kernel: name.release().to_string_lossy().into_owned(),
            arch: name.machine().to_string_lossy().into_owned(),
            cpus: machine::cpus(),
            memory_bytes: memory.totalram as u64 * u64::from(memory.mem_unit),
            cgroup: hierarchy.describe(),
            userns: machine::user_namespaces_allowed(),
            runner_version: env!("CARGO_PKG_VERSION"),
        }
    }
}
