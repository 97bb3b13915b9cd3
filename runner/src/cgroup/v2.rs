//! Files of a v2 cgroup, and the one rule that v1 has not: a cgroup that hands controllers on holds no process.
//!
//! Our own code throughout: cgroups-rs works from the root of the hierarchy (a delegated user may not), never moves
//! anybody to a leaf, and drops the errors of both.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::directory::Directory;
use super::error::CgroupError;
use super::hierarchy::{Controller, KEEPER};
use super::limits::{CPU_PERIOD_US, IoLimits, Limit, cpu_quota, whole_pages};
use super::mounts::Version;
use super::processes;
use super::run::RunTree;
use super::v1::{kept, not_kept, swap_is_on, swap_unsupported, write_error};

/// How long processes may go on appearing in the runner's own cgroup while they are moved to a leaf.
const HAND_ON_DEADLINE: Duration = Duration::from_secs(2);

/// Enables controllers for the children of a cgroup. If processes stand in the way, those of its own, they are moved
/// to its leaf `keeper` first, and again until none is left: others start meanwhile, and another runner may be doing
/// the same. Nothing is done if all are enabled.
pub(super) fn hand_on(
    base: &Directory,
    controllers: &[Controller],
    is_root: bool,
) -> Result<(), CgroupError> {
    const FILE: &str = "cgroup.subtree_control";
    let enabled = base.read(FILE).map_err(|source| CgroupError::Read { path: base.at(FILE), source })?;
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    let missing = controllers.iter().filter(|c| !matches!(c, Controller::Cpuacct | Controller::Freezer));
    let missing: Vec<&str> =
        missing.map(|c| c.kernel_name(Version::V2)).filter(|name| !enabled.contains(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let words = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    let started = Instant::now();
    loop {
        match base.write(FILE, &words) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if !is_root && started.elapsed() < HAND_ON_DEADLINE => {
                empty_into_leaf(base, &words)?
            }
            Err(source) => return Err(enable_error(base, &words, None, source)),
        }
    }
}

/// Moves every process of a cgroup to its leaf.
fn empty_into_leaf(base: &Directory, words: &str) -> Result<(), CgroupError> {
    match base.make(KEEPER) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(source) => return Err(CgroupError::Make { path: base.at(KEEPER), source }),
    }
    let leaf = format!("{KEEPER}/cgroup.procs");
    for pid in processes::pids(base, ".") {
        match base.write(&leaf, &pid.to_string()) {
            // Gone meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(source) => return Err(enable_error(base, words, Some(pid), source)),
        }
    }
    Ok(())
}

fn enable_error(base: &Directory, words: &str, pid: Option<u32>, source: Errno) -> CgroupError {
    let stays = pid.or_else(|| processes::pids(base, ".").first().copied());
    let who = stays.map_or_else(|| "a process of another pid namespace".to_owned(), processes::name_with_pid);
    CgroupError::Enable { path: base.path().to_owned(), controllers: words.to_owned(), who, source }
}

/// Caps memory and swap; `None` lifts both. With a cap one victim takes the whole cgroup along: half a step is none.
pub(super) fn limit_memory(tree: &RunTree, name: &str, limit: Option<(u64, u64)>) -> Result<(), CgroupError> {
    let directory = &tree.directory;
    let write = |file: &str, value: &str| {
        directory.write(file, value).map_err(|source| write_error(directory, file, value, source))
    };
    let [max, swap_max, group] =
        ["memory.max", "memory.swap.max", "memory.oom.group"].map(|file| format!("{name}/{file}"));
    let Some((bytes, swap)) = limit else {
        // The swap file is missing where there is no swap accounting, and then there is nothing to lift.
        directory.write(&swap_max, "max").ok();
        return write(&max, "max");
    };
    match write(&swap_max, &swap.to_string()) {
        Err(CgroupError::Write { source: Errno::NOENT, .. }) if !swap_is_on() => {}
        Err(CgroupError::Write { source: Errno::NOENT, .. }) => {
            return Err(swap_unsupported("the kernel was started without swap accounting"));
        }
        other => {
            other?;
            kept(tree, Limit::Swap, &swap_max, whole_pages(swap))?;
        }
    }
    write(&max, &bytes.to_string())?;
    kept(tree, Limit::Memory, &max, whole_pages(bytes))?;
    match write(&group, "1") {
        // Linux 4.19.
        Err(CgroupError::Write { source: Errno::NOENT, .. }) => Ok(()),
        other => other,
    }
}

/// Caps processes and threads; `None` lifts it.
pub(super) fn limit_pids(tree: &RunTree, name: &str, limit: Option<u64>) -> Result<(), CgroupError> {
    let file = format!("{name}/pids.max");
    let value = limit.map_or_else(|| "max".to_owned(), |count| count.to_string());
    tree.directory
        .write(&file, &value)
        .map_err(|source| write_error(&tree.directory, &file, &value, source))?;
    limit.map_or(Ok(()), |count| kept(tree, Limit::Pids, &file, count))
}

/// Caps CPU time; `None` lifts it.
pub(super) fn limit_cpus(tree: &RunTree, name: &str, cpus: Option<f64>) -> Result<(), CgroupError> {
    let file = format!("{name}/cpu.max");
    let value = match cpus.map(cpu_quota) {
        Some((quota, period)) => format!("{quota} {period}"),
        None => format!("max {CPU_PERIOD_US}"),
    };
    let directory = &tree.directory;
    directory.write(&file, &value).map_err(|source| write_error(directory, &file, &value, source))?;
    let found =
        directory.read(&file).map_err(|source| CgroupError::Read { path: directory.at(&file), source })?;
    if found.trim() == value {
        Ok(())
    } else {
        Err(not_kept(tree, Limit::Cpus, &file, value, found.trim().to_owned()))
    }
}

/// Caps what is asked of disks.
pub(super) fn limit_io(tree: &RunTree, name: &str, limit: &IoLimits) -> Result<(), CgroupError> {
    let file = format!("{name}/io.max");
    let IoLimits { devices, read_bytes, write_bytes, read_ops, write_ops } = limit;
    let caps = [("rbps", read_bytes), ("wbps", write_bytes), ("riops", read_ops), ("wiops", write_ops)];
    let caps: Vec<String> =
        caps.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}"))).collect();
    for device in devices {
        let (line, directory) = (format!("{device} {}", caps.join(" ")), &tree.directory);
        directory.write(&file, &line).map_err(|source| write_error(directory, &file, &line, source))?;
        let found = directory
            .read(&file)
            .map_err(|source| CgroupError::Read { path: directory.at(&file), source })?;
        if !keeps(&found, &device.to_string(), &caps) {
            return Err(not_kept(tree, Limit::Io, &file, line, found.trim().to_owned()));
        }
    }
    Ok(())
}

/// Whether `io.max` has all of these caps for the device.
fn keeps(text: &str, device: &str, caps: &[String]) -> bool {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.any(|words| words.first() == Some(&device) && caps.iter().all(|cap| words.contains(&cap.as_str())))
}

/// Bytes read and written, from `MAJOR:MINOR rbytes=N wbytes=N rios=..`.
pub(super) fn io_bytes(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_of_a_disk_are_kept_or_not() {
        let text =
            "8:0 rbps=max wbps=max riops=max wiops=max\n254:0 rbps=1048576 wbps=max riops=100 wiops=max\n";
        let caps = |caps: &[&str]| caps.iter().map(|cap| (*cap).to_owned()).collect::<Vec<_>>();
        assert!(keeps(text, "254:0", &caps(&["rbps=1048576", "riops=100"])));
        assert!(!keeps(text, "254:0", &caps(&["wbps=1"])) && !keeps(text, "8:0", &caps(&["riops=100"])));
    }

    #[test]
    fn io_is_summed_over_devices() {
        let text = "259:0 rbytes=4096 wbytes=100 rios=1 wios=1 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=0 rios=1\n7:0 \n";
        assert_eq!(io_bytes(text), (4097, 100));
        assert_eq!(io_bytes(""), (0, 0));
    }
}
