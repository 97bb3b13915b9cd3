//! What a step is told of the machine: as many processors and as much memory as its caps let it use.
//!
//! Programs start as many workers as they count processors, and size heaps by the memory they see. Three files of the
//! kernel tell; where a cap makes them wrong, a text made when the job begins lies over each. Here are the texts.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::cgroup::CgroupLimits;
use crate::sandbox::spec::{Bind, Fact};

/// The processors that a job's steps may run on: a part of those that the keeper may use, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processors {
    usable: Vec<u32>,
    chosen: Vec<u32>,
}

impl Processors {
    /// As many as the cap needs, so that `nproc` tells the truth. Which ones goes round with the process id and the job's
    /// number.
    pub fn choose(cpus: Option<f64>, number: usize) -> Self {
        let usable = usable();
        let chosen = cpus.map_or_else(Vec::new, |cpus| {
            let wanted = (cpus.ceil() as usize).max(1);
            part(&usable, wanted, std::process::id() as usize + number * wanted)
        });
        Self { usable, chosen }
    }

    /// For the scheduler: empty leaves what the keeper has.
    pub fn affinity(&self) -> Vec<u32> {
        self.chosen.clone()
    }

    fn all(&self) -> &[u32] {
        if self.chosen.is_empty() { &self.usable } else { &self.chosen }
    }
}

/// What the keeper may use; empty when the kernel does not say.
fn usable() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).filter_map(|cpu| u32::try_from(cpu).ok()).collect()
}

/// So many of them, in ascending order, beginning anywhere; none when all are needed.
fn part(usable: &[u32], wanted: usize, first: usize) -> Vec<u32> {
    if wanted >= usable.len() {
        return Vec::new();
    }
    let mut chosen: Vec<u32> =
        usable.iter().copied().cycle().skip(first % usable.len()).take(wanted).collect();
    chosen.sort_unstable();
    chosen
}

/// The files that would be wrong, and where steps find them. A file that this kernel lacks is left alone.
pub fn facts(processors: &Processors, limits: &CgroupLimits) -> (Vec<Fact>, Vec<Bind>) {
    const ONLINE: &str = "devices/system/cpu/online";
    let (mut facts, mut binds) = (Vec::new(), Vec::new());
    let mut in_proc = |facts: &mut Vec<Fact>, name: &str, text: String| {
        facts.push(Fact { name: name.to_owned(), text, over_sys: None });
        binds.push(Bind { from: format!("facts/{name}"), to: format!("/proc/{name}"), directory: false });
    };
    let cpus = processors.all();
    let online = fs::read_to_string(format!("/sys/{ONLINE}")).unwrap_or_default();
    if !cpus.is_empty() && cpus.len() < count(&online) {
        facts.push(Fact {
            name: "online".to_owned(),
            text: format!("{}\n", ranges(cpus)),
            over_sys: Some(ONLINE.to_owned()),
        });
        if let Ok(text) = fs::read_to_string("/proc/cpuinfo") {
            in_proc(&mut facts, "cpuinfo", cpuinfo(&text, cpus));
        }
    }
    if let (Some(memory), Ok(text)) = (limits.memory_bytes, fs::read_to_string("/proc/meminfo"))
        && field_kib(&text, "MemTotal").is_some_and(|total| memory / 1024 < total)
    {
        in_proc(&mut facts, "meminfo", meminfo(&text, memory / 1024, limits.swap_bytes / 1024));
    }
    (facts, binds)
}

/// How many processors a list like `0-3,7` names.
fn count(list: &str) -> usize {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    list.trim().split(',').filter_map(range).sum()
}

/// A list as the kernel writes it: `0-3,7`. The numbers ascend.
fn ranges(cpus: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            Some(_) | None => parts.push((*cpu, *cpu)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The blocks of these processors, and what stands between blocks (some machines end with a line on the hardware).
fn cpuinfo(host: &str, cpus: &[u32]) -> String {
    let blocks = host.split_inclusive("\n\n").filter(|block| {
        let number = block.lines().find_map(|line| line.strip_prefix("processor")?.split(':').nth(1));
        number
            .and_then(|number| number.trim().parse::<u32>().ok())
            .is_none_or(|number| cpus.contains(&number))
    });
    blocks.collect()
}

/// A field of meminfo, in KiB.
fn field_kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The host's fields in its order: totals and what is free cut to the cap, sizes of pages and address space as they are,
/// and zero for what others use.
fn meminfo(host: &str, memory_kib: u64, swap_kib: u64) -> String {
    const OF_THE_MACHINE: [&str; 6] = [
        "VmallocTotal",
        "Hugepagesize",
        "HugePages_Total",
        "HugePages_Free",
        "HugePages_Rsvd",
        "HugePages_Surp",
    ];
    let mut out = String::with_capacity(host.len());
    for line in host.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let value = rest.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(0);
        let told: u64 = match name {
            "MemTotal" | "MemFree" | "MemAvailable" => memory_kib.min(value),
            "SwapTotal" | "SwapFree" => swap_kib.min(value),
            "CommitLimit" => value.min(memory_kib + swap_kib),
            other if OF_THE_MACHINE.contains(&other) => value,
            _ => 0,
        };
        let unit = if rest.ends_with(" kB") { " kB" } else { "" };
        // fs/proc/meminfo.c: the number's eight columns begin at the seventeenth.
        let label = format!("{name}:");
        out.push_str(&format!("{label:<16}{told:>8}{unit}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_goes_round_and_ascends() {
        for (wanted, first, expected) in [
            (1, 0, vec![0]),
            (1, 5, vec![4]),
            (2, 3, vec![0, 6]),
            (3, 1, vec![2, 4, 6]),
            (4, 1, vec![]),
            (9, 1, vec![]),
        ] {
            assert_eq!(part(&[0, 2, 4, 6], wanted, first + first / 4), expected, "{wanted} from {first}");
        }
    }

    #[test]
    fn lists_of_processors_are_written_and_counted() {
        for (cpus, list) in
            [(&[0][..], "0"), (&[0, 1, 2, 3], "0-3"), (&[0, 2, 3, 7], "0,2-3,7"), (&[5, 63], "5,63")]
        {
            assert_eq!(ranges(cpus), list);
            assert_eq!(count(&format!("{list}\n")), cpus.len());
        }
        assert_eq!(count(""), 0);
        assert_eq!(count("3-1"), 0);
    }

    #[test]
    fn cpuinfo_keeps_blocks_whole() {
        let block = |number: u32| format!("processor\t: {number}\nmodel name\t: X\nflags\t\t: a b\n\n");
        let host = format!("{}{}{}Hardware\t: Board\n", block(0), block(1), block(2));
        assert_eq!(cpuinfo(&host, &[0, 2]), format!("{}{}Hardware\t: Board\n", block(0), block(2)));
    }

    #[test]
    fn meminfo_is_cut_to_the_cap() {
        let host = "MemTotal:       24683656 kB\nMemFree:            1000 kB\nMemAvailable:   21970392 kB\n\
                    Cached:         12030640 kB\nSwapTotal:       2000000 kB\nCommitLimit:    14341828 kB\n\
                    VmallocTotal:   34359738367 kB\nHugePages_Total:       7\nHugepagesize:       2048 kB\n";
        let told = "MemTotal:         262144 kB\nMemFree:            1000 kB\nMemAvailable:     262144 kB\n\
                    Cached:                0 kB\nSwapTotal:          1024 kB\nCommitLimit:      263168 kB\n\
                    VmallocTotal:   34359738367 kB\nHugePages_Total:       7\nHugepagesize:       2048 kB\n";
        assert_eq!(meminfo(host, 262_144, 1024), told);
    }
}
