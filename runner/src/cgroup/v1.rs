//! Files of a v1 cgroup. Limits go through cgroups-rs, one controller and one value at a time: those setters report
//! what fails. Not used from it: `apply` (drops every error of the memory controller), `create` (takes a stranger's
//! directory for its own), `delete` (sleeps 10 to 150 ms while busy), `add_task` (a pid in `cgroup.procs`: 11 ms
//! after idle), the statistics (ten files and more for one number, 0 for an error).

use std::error::Error;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use rustix::io::Errno;

use super::directory::Directory;
use super::error::CgroupError;
use super::hierarchy::Controller;
use super::limits::{CPU_PERIOD_US, IoLimits, Limit, cpu_quota, keyed, whole_pages};
use super::run::RunTree;

/// v1's word for no limit.
const UNLIMITED: i64 = -1;

/// Makes a parent's memory accounting include its children: the default, and all there is, since Linux 5.11.
pub(super) fn account_below(run: &Directory, controllers: &[Controller]) -> Result<(), CgroupError> {
    const FILE: &str = "memory.use_hierarchy";
    if controllers.contains(&Controller::Memory) && run.read_number(FILE) == Ok(Some(0)) {
        run.write(FILE, "1").map_err(|source| write_error(run, FILE, "1", source))?;
    }
    Ok(())
}

/// Caps memory, and memory and swap together; `None` lifts both.
pub(super) fn limit_memory(tree: &RunTree, name: &str, limit: Option<(u64, u64)>) -> Result<(), CgroupError> {
    let path = tree.directory.at(name);
    let memory = MemController::new(path.clone(), path, false);
    let (bytes, both) =
        limit.map_or((UNLIMITED, UNLIMITED), |(bytes, swap)| (bytes as i64, (bytes + swap) as i64));
    let files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map(|file| format!("{name}/{file}"));
    let set_both = || match memory.set_memswap_limit(both).map_err(|error| errno(&error)) {
        // No swap accounting: harmless while there is no swap.
        Err(Errno::NOENT) if !swap_is_on() => Ok(false),
        Err(Errno::NOENT) => Err(swap_unsupported("the kernel was started without swap accounting")),
        Err(source) => Err(write_error(&tree.directory, &files[1], &both.to_string(), source)),
        Ok(()) => Ok(true),
    };
    let set_one = || {
        memory
            .set_limit(bytes)
            .map_err(|error| write_error(&tree.directory, &files[0], &bytes.to_string(), errno(&error)))
    };
    // Memory may never exceed both together: upwards the second must go first, downwards the first.
    let accounted = match set_one() {
        Err(CgroupError::Write { source: Errno::INVAL, .. }) => {
            let accounted = set_both()?;
            set_one()?;
            accounted
        }
        Err(error) => return Err(error),
        Ok(()) => set_both()?,
    };
    let Some((bytes, swap)) = limit else { return Ok(()) };
    kept(tree, Limit::Memory, &files[0], whole_pages(bytes))?;
    if accounted { kept(tree, Limit::Swap, &files[1], whole_pages(bytes + swap)) } else { Ok(()) }
}

/// Caps processes and threads; `None` lifts it.
pub(super) fn limit_pids(tree: &RunTree, name: &str, limit: Option<u64>) -> Result<(), CgroupError> {
    let path = tree.directory.at(name);
    let pids = PidController::new(path.clone(), path, false);
    let value = limit.map_or(MaxValue::Max, |count| MaxValue::Value(count as i64));
    let file = format!("{name}/pids.max");
    pids.set_pid_max(value)
        .map_err(|error| write_error(&tree.directory, &file, &value.to_string(), errno(&error)))?;
    match pids.get_pid_max() {
        Ok(found) if found == value => Ok(()),
        Ok(found) => Err(not_kept(tree, Limit::Pids, &file, value.to_string(), found.to_string())),
        Err(error) => Err(CgroupError::Read { path: tree.directory.at(&file), source: errno(&error) }),
    }
}

/// Caps CPU time; `None` lifts it. `fresh`: the cgroup still has the kernel's defaults.
///
/// v1 refuses a quota above that of an enclosing cgroup, where v2 applies the lower one: so do we.
pub(super) fn limit_cpus(
    tree: &RunTree,
    name: &str,
    cpus: Option<f64>,
    fresh: bool,
) -> Result<(), CgroupError> {
    let path = tree.directory.at(name);
    let cpu = CpuController::new(path.clone(), path, false);
    let file = format!("{name}/cpu.cfs_quota_us");
    let set_quota = |quota: i64| {
        cpu.set_cfs_quota(quota)
            .map_err(|error| write_error(&tree.directory, &file, &quota.to_string(), errno(&error)))
    };
    if !fresh {
        set_quota(UNLIMITED)?;
    }
    let Some(cpus) = cpus else { return Ok(()) };
    let (mut quota, mut period) = cpu_quota(cpus);
    let set_period = |period: u64| {
        let file = format!("{name}/cpu.cfs_period_us");
        cpu.set_cfs_period(period)
            .map_err(|error| write_error(&tree.directory, &file, &period.to_string(), errno(&error)))
    };
    if !fresh || period != CPU_PERIOD_US {
        set_period(period)?;
    }
    match set_quota(quota as i64) {
        Err(CgroupError::Write { source: Errno::INVAL, path, value }) => {
            let Some((least_quota, least_period)) = enclosing_quota(&tree.directory) else {
                return Err(CgroupError::Write { source: Errno::INVAL, path, value });
            };
            (quota, period) = (least_quota, least_period);
            set_period(period)?;
            set_quota(quota as i64)?;
        }
        other => other?,
    }
    let found = (cpu.cfs_quota(), cpu.cfs_period());
    match found {
        (Ok(q), Ok(p)) if q == quota as i64 && p == period => Ok(()),
        (Ok(q), Ok(p)) => Err(not_kept(
            tree,
            Limit::Cpus,
            &file,
            format!("{quota} of {period} us"),
            format!("{q} of {p} us"),
        )),
        (Err(error), _) | (_, Err(error)) => {
            Err(CgroupError::Read { path: tree.directory.at(&file), source: errno(&error) })
        }
    }
}

/// Caps what is asked of disks.
pub(super) fn limit_io(tree: &RunTree, name: &str, limit: &IoLimits) -> Result<(), CgroupError> {
    let IoLimits { devices, read_bytes, write_bytes, read_ops, write_ops } = limit;
    for (file, value) in [
        ("blkio.throttle.read_bps_device", read_bytes),
        ("blkio.throttle.write_bps_device", write_bytes),
        ("blkio.throttle.read_iops_device", read_ops),
        ("blkio.throttle.write_iops_device", write_ops),
    ] {
        let Some(value) = value else { continue };
        let file = format!("{name}/{file}");
        for device in devices {
            let line = format!("{device} {value}");
            let directory = &tree.directory;
            directory.write(&file, &line).map_err(|source| write_error(directory, &file, &line, source))?;
            let found = directory
                .read(&file)
                .map_err(|source| CgroupError::Read { path: directory.at(&file), source })?;
            if !found.lines().any(|kept| kept.trim() == line) {
                return Err(not_kept(tree, Limit::Io, &file, line, found.trim().to_owned()));
            }
        }
    }
    Ok(())
}

/// Returns the quota and period of the nearest enclosing cgroup that has a quota.
fn enclosing_quota(run: &Directory) -> Option<(u64, u64)> {
    run.path().ancestors().find_map(|path| {
        let directory = Directory::open(path).ok()?;
        let quota = directory.read("cpu.cfs_quota_us").ok()?.trim().parse::<i64>().ok()?;
        let period = directory.read_number("cpu.cfs_period_us").ok()??;
        (quota > 0).then_some((quota as u64, period))
    })
}

/// Bytes read and written, from `MAJOR:MINOR Read N` and `MAJOR:MINOR Write N`. `None` without a line for any
/// device: since Linux 6.10 v1 counts only on disks that some cgroup has once throttled.
pub(super) fn io_bytes(text: &str) -> Option<(u64, u64)> {
    if !text.contains(':') {
        return None;
    }
    let sum = |kind: &str| {
        let of_kind = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            (words.next() == Some(kind)).then(|| words.next()?.parse::<u64>().ok()).flatten()
        };
        text.lines().filter_map(of_kind).sum()
    };
    Some((sum("Read"), sum("Write")))
}

/// Returns how many processes were killed, from `memory.oom_control`: the line is there since Linux 4.13.
pub(super) fn oom_kills(text: &str) -> u64 {
    keyed(text, "oom_kill").unwrap_or(0)
}

/// Whether the machine has any swap.
pub(super) fn swap_is_on() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// The error for swap that cannot be capped.
pub(super) fn swap_unsupported(reason: &str) -> CgroupError {
    CgroupError::Unsupported {
        limit: Limit::Swap,
        reason: reason.to_owned(),
        remedy: Some("turn swap off (sudo swapoff -a), or boot with swapaccount=1".to_owned()),
    }
}

/// Compares a number with what was written.
pub(super) fn kept(tree: &RunTree, limit: Limit, file: &str, expected: u64) -> Result<(), CgroupError> {
    let found = tree
        .directory
        .read(file)
        .map_err(|source| CgroupError::Read { path: tree.directory.at(file), source })?;
    if found.trim().parse() == Ok(expected) {
        return Ok(());
    }
    Err(not_kept(tree, limit, file, expected.to_string(), found.trim().to_owned()))
}

pub(super) fn not_kept(
    tree: &RunTree,
    limit: Limit,
    file: &str,
    expected: String,
    found: String,
) -> CgroupError {
    CgroupError::NotKept { limit, path: tree.directory.at(file), expected, found }
}

pub(super) fn write_error(directory: &Directory, file: &str, value: &str, source: Errno) -> CgroupError {
    CgroupError::Write { path: directory.at(file), value: value.to_owned(), source }
}

/// Digs the errno out of an error of cgroups-rs, which keeps it as the source.
fn errno(error: &cgroups_rs::fs::error::Error) -> Errno {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.and_then(Errno::from_io_error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_summed_over_devices() {
        let text =
            "254:0 Read 4096\n254:0 Write 100\n254:0 Sync 7\n8:0 Read 1\n254:0 Total 4197\nTotal 4197\n";
        assert_eq!(io_bytes(text), Some((4097, 100)));
        assert_eq!(io_bytes("Total 0\n"), None);
    }

    #[test]
    fn oom_kills_are_not_the_switch() {
        assert_eq!(oom_kills("oom_kill_disable 1\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(oom_kills("oom_kill_disable 1\nunder_oom 0\n"), 0);
    }
}
