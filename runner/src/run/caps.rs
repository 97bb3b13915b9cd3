//! What a job's steps may use: the plan's limits as far as this machine can keep them, and how the record tells of them.

use super::error::RunError;
use super::room::Plans;
use crate::cgroup::{BlockDevice, CgroupLimits, Hierarchy, IoLimits, Limit};
use crate::outcome::{Caps, IoCaps};

/// `limits.pids` when the job file has none; where no cgroup can count, only this one may be missing.
pub const PIDS_DEFAULT: u64 = 4096;

/// A limit's warning and its hint.
pub type Warning = (String, Option<String>);

/// The plan's limits as far as this machine can keep them. One that was asked for and cannot be kept is an error.
pub fn limits(plans: &Plans<'_>, hierarchy: &Hierarchy) -> Result<(CgroupLimits, Vec<Warning>), RunError> {
    kept(&plans.job.limits, io_limits(plans)?, hierarchy)
}

/// These limits as far as this machine can keep them. One that was asked for and cannot be kept is an error.
pub fn kept(
    asked: &jobs::Limits,
    io: Option<IoLimits>,
    hierarchy: &Hierarchy,
) -> Result<(CgroupLimits, Vec<Warning>), RunError> {
    let mut limits = CgroupLimits {
        cpus: asked.cpus,
        cpu_weight: asked.cpu_weight,
        memory_bytes: asked.memory_bytes,
        swap_bytes: asked.swap_bytes,
        pids: Some(asked.pids),
        io,
    };
    let mut warnings = Vec::new();
    for limit in limits.asked() {
        match hierarchy.supports(limit) {
            Err(error) if limit == Limit::Pids && asked.pids == PIDS_DEFAULT => {
                limits.pids = None;
                warnings.push((format!("no process limit: {error}"), error.hint()));
            }
            other => other?,
        }
    }
    Ok((limits, warnings))
}

/// Limits on the disks below the workspace, the runner's own directories and what else steps can write to.
fn io_limits(plans: &Plans<'_>) -> Result<Option<IoLimits>, RunError> {
    let asked = &plans.job.limits.io;
    if *asked == jobs::IoLimits::default() {
        return Ok(None);
    }
    let mounts = plans.job.mounts.iter().filter(|mount| !mount.read_only);
    let mut paths = vec![plans.workspace.path.clone(), plans.home.to_path_buf()];
    paths.extend(mounts.map(|mount| plans.base.join(&mount.host)));
    let mut devices = Vec::new();
    for path in paths {
        let device = BlockDevice::below(&path)?;
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    let jobs::IoLimits { read_bytes, write_bytes, read_ops, write_ops } = *asked;
    Ok(Some(IoLimits { devices, read_bytes, write_bytes, read_ops, write_ops }))
}

/// The limits as they are applied, for the record.
pub fn recorded(limits: &CgroupLimits, disk_bytes: Option<u64>) -> Caps {
    Caps {
        cpus: limits.cpus,
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        cpu_weight: limits.cpu_weight,
        disk_bytes,
        io: limits.io.as_ref().map(|io| IoCaps {
            devices: io.devices.iter().map(ToString::to_string).collect(),
            read_bytes: io.read_bytes,
            write_bytes: io.write_bytes,
            read_ops: io.read_ops,
            write_ops: io.write_ops,
        }),
    }
}
