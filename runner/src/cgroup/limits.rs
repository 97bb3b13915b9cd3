//! Limits, usage and events as values, and the arithmetic between them and the kernel's units.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::device::BlockDevice;
use super::error::CgroupError;

/// The period in which a CPU quota counts: 100 ms, the kernel's default.
pub(super) const CPU_PERIOD_US: u64 = 100_000;
/// The longest period that the kernel takes: 1 s.
const CPU_PERIOD_US_MAX: u64 = 1_000_000;
/// The smallest quota that the kernel takes: 1 ms.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// More CPUs than any machine has; a quota beyond overflows the kernel's nanoseconds.
const CPUS_MAX: f64 = 1_000_000.0;
/// The kernel counts memory in pages of at least this.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Where the kernel's page counters end.
const MEMORY_BYTES_MAX: u64 = i64::MAX as u64 / PAGE_BYTES * PAGE_BYTES;
/// Greatest weight of CPU time (cgroup-v2.rst, `cpu.weight`).
const CPU_WEIGHT_MAX: u64 = 10_000;
/// `PIDS_MAX` of the kernel on 64 bits.
const PIDS_MAX: u64 = 4 * 1024 * 1024;

/// What one step may use at most.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CgroupLimits {
    /// CPU time per wall time: 1.5 is one and a half CPUs; at least 0.001. `None`: as much as there is.
    pub cpus: Option<f64>,
    /// Share of the CPU time where others want it too: 1 to 10,000, 100 is everyone's. `None`: 100.
    pub cpu_weight: Option<u64>,
    /// Memory in bytes, page cache and tmpfs included; whole pages count. `None`: as much as there is.
    pub memory_bytes: Option<u64>,
    /// Swap on top of the memory, in bytes. Counts only with `memory_bytes`.
    pub swap_bytes: u64,
    /// Processes and threads alive at once. `None`: as many as there may be.
    pub pids: Option<u64>,
    /// What may be asked of disks. `None`: as much as there is.
    pub io: Option<IoLimits>,
}

/// What may be asked of each of these disks in a second; `None`: as much as there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoLimits {
    /// The disks.
    pub devices: Vec<BlockDevice>,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub read_ops: Option<u64>,
    /// Writes.
    pub write_ops: Option<u64>,
}

/// A cap by the name that it has in the job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// `limits.cpus`
    Cpus,
    /// `limits.cpu-weight`
    CpuWeight,
    /// `limits.memory`
    Memory,
    /// `limits.swap`
    Swap,
    /// `limits.pids`
    Pids,
    /// `limits.io`
    Io,
}

impl Limit {
    /// Every cap.
    pub const ALL: [Self; 6] = [Self::Cpus, Self::CpuWeight, Self::Memory, Self::Swap, Self::Pids, Self::Io];
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpus => "cpus",
            Self::CpuWeight => "cpu-weight",
            Self::Memory => "memory",
            Self::Swap => "swap",
            Self::Pids => "pids",
            Self::Io => "io",
        })
    }
}

/// What a cgroup has used since it was made. `None`: this kernel, or this machine's set-up, does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CgroupUsage {
    /// CPU time, user and system, in seconds.
    pub cpu_s: Option<f64>,
    /// Highest memory charged at once, in bytes.
    pub mem_peak: Option<u64>,
    /// Bytes read from block devices. A stacked device counts beside the one below it.
    pub io_r: Option<u64>,
    /// Bytes written to block devices. v1 leaves out what the kernel writes back later, and, since Linux 6.10, disks
    /// that no cgroup has ever throttled: then both are `None`.
    pub io_w: Option<u64>,
    /// Most processes and threads alive at once.
    pub pids_peak: Option<u64>,
    /// Time that the CPU limit held it back, summed over its CPUs, in seconds.
    pub throttled_s: Option<f64>,
}

/// How often a limit was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CgroupEvents {
    /// Processes killed for the memory limit.
    pub oom_kills: u64,
    /// Times that the whole cgroup was killed for one of them.
    pub oom_group_kills: u64,
    /// Times that a new process or thread was refused.
    pub pids_hits: u64,
}

impl CgroupLimits {
    /// Returns which caps are asked for. Swap comes with memory: without a cap on it, memory has none.
    pub fn asked(&self) -> Vec<Limit> {
        let asked = |limit: &Limit| match limit {
            Limit::Cpus => self.cpus.is_some(),
            Limit::CpuWeight => self.cpu_weight.is_some(),
            Limit::Memory | Limit::Swap => self.memory_bytes.is_some(),
            Limit::Pids => self.pids.is_some(),
            Limit::Io => self.io.is_some(),
        };
        Limit::ALL.into_iter().filter(asked).collect()
    }

    /// Checks the ranges that every kernel has.
    pub(super) fn check(&self) -> Result<(), CgroupError> {
        let range = |limit, value: String, expected| Err(CgroupError::Range { limit, value, expected });
        match self.cpus {
            Some(cpus) if !(0.001..=CPUS_MAX).contains(&cpus) => {
                return range(Limit::Cpus, cpus.to_string(), "0.001 to 1000000");
            }
            _ => {}
        }
        match self.memory_bytes {
            Some(bytes) if !(PAGE_BYTES..=MEMORY_BYTES_MAX).contains(&bytes) => {
                return range(Limit::Memory, bytes.to_string(), "one page (4096 bytes) to 8 EiB");
            }
            Some(bytes) if self.swap_bytes > MEMORY_BYTES_MAX - bytes => {
                return range(Limit::Swap, self.swap_bytes.to_string(), "at most 8 EiB together with memory");
            }
            _ => {}
        }
        match self.cpu_weight {
            Some(weight) if !(1..=CPU_WEIGHT_MAX).contains(&weight) => {
                return range(Limit::CpuWeight, weight.to_string(), "1 to 10000");
            }
            _ => {}
        }
        match self.pids {
            Some(pids) if !(1..=PIDS_MAX).contains(&pids) => {
                range(Limit::Pids, pids.to_string(), "1 to 4194304")
            }
            _ => Ok(()),
        }
    }
}

/// Returns the shares of v1 for a weight: 1,024 are everyone's (sched-design-CFS.rst), and v2's 100.
pub(super) fn cpu_shares(weight: u64) -> u64 {
    (weight * 1024 / 100).clamp(2, 262_144)
}

/// Returns quota and period, in microseconds, for so many CPUs. The period grows where the quota would be
/// below the least that the kernel takes.
pub(super) fn cpu_quota(cpus: f64) -> (u64, u64) {
    let quota = |period: u64| (cpus * period as f64).round() as u64;
    if quota(CPU_PERIOD_US) >= CPU_QUOTA_US_MIN {
        return (quota(CPU_PERIOD_US), CPU_PERIOD_US);
    }
    (quota(CPU_PERIOD_US_MAX).max(CPU_QUOTA_US_MIN), CPU_PERIOD_US_MAX)
}

/// Returns bytes as the kernel keeps them: whole pages of this machine.
pub(super) fn whole_pages(bytes: u64) -> u64 {
    bytes / page_bytes() * page_bytes()
}

/// Returns the size of this machine's pages, at least [`PAGE_BYTES`].
pub(super) fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(PAGE_BYTES)
}

/// Returns the number after `key` in a file of lines `key number`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_legal_for_every_kernel() {
        for (cpus, expected) in [
            (0.5, (50_000, 100_000)),
            (1.0, (100_000, 100_000)),
            (2.25, (225_000, 100_000)),
            (0.01, (1_000, 100_000)),
            (0.0099, (9_900, 1_000_000)),
            (0.001, (1_000, 1_000_000)),
        ] {
            assert_eq!(cpu_quota(cpus), expected, "{cpus}");
        }
    }

    #[test]
    fn ranges_name_the_limit() {
        let limits =
            |cpus, memory_bytes, pids| CgroupLimits { cpus, memory_bytes, pids, ..CgroupLimits::default() };
        let refused = |limits: CgroupLimits| limits.check().expect_err("out of range").to_string();
        assert!(limits(Some(0.001), Some(4096), Some(1)).check().is_ok());
        assert!(CgroupLimits::default().check().is_ok());
        assert_eq!(
            refused(limits(Some(0.0), None, None)),
            "limit `cpus` cannot be 0: expected 0.001 to 1000000"
        );
        assert!(refused(limits(Some(f64::NAN), None, None)).contains("NaN"));
        assert!(refused(limits(None, Some(0), None)).starts_with("limit `memory` cannot be 0"));
        assert!(refused(limits(None, None, Some(0))).starts_with("limit `pids` cannot be 0"));
        let weight = |weight| CgroupLimits { cpu_weight: Some(weight), ..CgroupLimits::default() };
        assert!(weight(1).check().is_ok() && weight(10_000).check().is_ok());
        assert!(refused(weight(10_001)).starts_with("limit `cpu-weight` cannot be 10001"));
        assert_eq!([1, 100, 10_000].map(cpu_shares), [10, 1024, 102_400]);
        let swap = CgroupLimits { memory_bytes: Some(4096), swap_bytes: u64::MAX, ..CgroupLimits::default() };
        assert!(refused(swap).starts_with("limit `swap` cannot be"));
    }

    #[test]
    fn keys_are_whole_words() {
        let text = "nr_throttled 3\nthrottled_time 120\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(keyed(text, "throttled_time"), Some(120));
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom"), None);
    }
}
