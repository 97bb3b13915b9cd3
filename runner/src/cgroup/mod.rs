//! Control groups: what a step may use, what it used, and how all of it is killed.
//!
//! Made below the cgroup that the runner itself lives in, in every hierarchy that it may write to: one
//! `runner-<run id>` per run, one cgroup per step in it. v1, hybrid and v2 differ only in here (cgroups(7),
//! Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of the kernel); nobody outside asks which one it is.
//!
//! Not here: when to kill, what an outcome is called, what happens when a cap cannot be applied. Everything is
//! short, synchronous file I/O; only `remove` may wait, up to [`REMOVE_DEADLINE`].

mod device;
mod directory;
mod error;
mod hierarchy;
mod leaf;
mod limits;
mod mounts;
mod oom;
mod processes;
mod residents;
mod run;
mod sweep;
mod v1;
mod v2;

pub use device::BlockDevice;
pub use error::CgroupError;
pub use hierarchy::{CgroupFacts, Controller, Hierarchy, Kind};
pub use leaf::{Cgroup, Entry};
pub use limits::{CgroupEvents, CgroupLimits, CgroupUsage, IoLimits, Limit};
pub use oom::{KmsgCursor, OomWatch};
pub use processes::CgroupProcess;
pub use residents::residents;
pub use run::RunCgroup;
pub use sweep::{REMOVE_DEADLINE, SweepSummary};
