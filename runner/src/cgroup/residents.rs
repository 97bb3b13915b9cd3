//! Who lives in the cgroups of a run that somebody else leads: seen by path, since its handles are not ours.

use std::fs;
use std::path::PathBuf;

use super::processes::{CgroupProcess, look};

/// Processes of one cgroup that are looked at; a fork bomb has more.
const LISTED_MAX: usize = 512;

/// Returns the processes in the cgroup `name` of a job whose cgroups are these. The first hierarchy that has it tells: each of
/// them knows all.
pub fn residents(job: &[PathBuf], name: &str) -> Vec<CgroupProcess> {
    let lists = job.iter().map(|directory| directory.join(name).join("cgroup.procs"));
    let Some(list) = lists.filter_map(|path| fs::read_to_string(path).ok()).find(|list| !list.is_empty())
    else {
        return Vec::new();
    };
    let pids = list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0);
    pids.take(LISTED_MAX).filter_map(look).collect()
}
