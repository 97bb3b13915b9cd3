//! How a step ended, in words and numbers. Types only: `run` decides, `report` and `record` tell.

use serde::{Deserialize, Serialize};

/// The name of a step's or a run's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The command ended with an expected exit code.
    Success,
    /// The command ended with any other exit code.
    Failure,
    /// A signal that nobody here sent ended the command.
    Signal,
    /// The step or the job ran longer than its `timeout`.
    Timeout,
    /// The kernel killed a process of the step for its memory limit.
    Oom,
    /// The step failed and had met its `pids` limit.
    Pids,
    /// The step's writes took more than its `disk` limit.
    Disk,
    /// The user, or a sibling's failure, stopped it.
    Cancelled,
    /// It was never started: something before it had failed.
    Skipped,
    /// What it leaves has a secret in it, and was not kept.
    Leak,
    /// The runner could not do its part: the image, the machine.
    Error,
}

impl Outcome {
    /// Returns the word as it stands in records: `oom`, `timeout`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::Oom => "oom",
            Self::Pids => "pids",
            Self::Disk => "disk",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Leak => "leak",
            Self::Error => "error",
        }
    }

    /// Whether it stands for a run that did not do what it should.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Success | Self::Skipped => false,
            Self::Failure
            | Self::Signal
            | Self::Timeout
            | Self::Oom
            | Self::Pids
            | Self::Disk
            | Self::Cancelled
            | Self::Leak
            | Self::Error => true,
        }
    }

    /// Returns the exit code of a run that ends like this (docs/exit-codes.md). A cancelled run's
    /// code depends on the signal and is settled by the caller: 130 for INT stands here.
    pub const fn run_exit_code(self) -> u8 {
        match self {
            Self::Success | Self::Skipped => 0,
            Self::Failure | Self::Signal => 1,
            Self::Error => 3,
            Self::Timeout => 4,
            Self::Oom | Self::Pids | Self::Disk => 5,
            Self::Leak => 6,
            Self::Cancelled => 130,
        }
    }
}

/// What a step used. Read from its cgroup, or from `waitid`'s rusage where there is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of all processes, user and system, in seconds.
    pub cpu_s: f64,
    /// From go to the report of its end, in seconds.
    pub wall_s: f64,
    /// Highest memory charged at once, in bytes.
    pub mem_peak: Option<u64>,
    /// Bytes read from block devices.
    pub io_r: Option<u64>,
    /// Bytes written to block devices.
    pub io_w: Option<u64>,
    /// Bytes that its writes took on the disk when it ended; absent without `limits.disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// Bytes received over the job's network, without headers; absent without one of its own.
    #[serde(default)]
    pub net_r: Option<u64>,
    /// Bytes sent.
    #[serde(default)]
    pub net_w: Option<u64>,
    /// Most processes and threads alive at once.
    pub pids_peak: Option<u64>,
    /// Time that the CPU limit held the step back, in seconds.
    pub throttled_s: Option<f64>,
}

/// The process that the kernel killed for memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Its `comm`: at most 15 bytes, control characters replaced.
    pub name: String,
    /// Its pid as the host sees it.
    pub pid: Option<u32>,
    /// Its resident memory when it was last seen, in bytes.
    pub rss_bytes: Option<u64>,
}

/// The facts of an `oom` outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oom {
    /// The limit that was met, in bytes.
    pub limit_bytes: u64,
    /// Processes killed.
    pub kills: u64,
    /// Who was killed first, where it could be seen.
    pub victim: Option<Victim>,
}

/// A file, and the bytes that it takes on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BigFile {
    /// Where it is, inside.
    pub path: String,
    /// Its blocks, in bytes.
    pub bytes: u64,
}

/// The facts of a `disk` outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFull {
    /// The limit that was met, in bytes.
    pub limit_bytes: u64,
    /// What the step's writes took, in bytes.
    pub bytes: u64,
    /// The largest files that the step wrote, at most ten, largest first.
    pub biggest: Vec<BigFile>,
    /// What could not be measured, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
}

/// A process that was alive when its step's main process had ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Its pid inside the step.
    pub pid: u32,
    /// Its `comm`, control characters replaced.
    pub name: String,
}

/// Where a step's output went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSummary {
    /// Path of the log, relative to the run directory.
    pub path: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// Lines in the file; a last line without a newline counts.
    pub lines: u64,
    /// Bytes that came after `limits.log` was reached and were dropped.
    pub dropped_bytes: u64,
    /// Lines that ended in dropped bytes; a last line without a newline counts.
    #[serde(default)]
    pub dropped_lines: u64,
}

/// The caps that a step ran under, as they were applied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Caps {
    /// CPU seconds per wall second.
    pub cpus: Option<f64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads alive at once.
    pub pids: Option<u64>,
    /// Share of the CPUs, where it is not 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// Bytes that its writes may take on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// What it may ask of the disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<IoCaps>,
}

/// What a step may ask of each of the disks in a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoCaps {
    /// The disks: `254:0`.
    pub devices: Vec<String>,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub read_ops: Option<u64>,
    /// Writes.
    pub write_ops: Option<u64>,
}

/// What a step could ask of the kernel, where that is not what every step can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// `default`, `strict`, `off`, or the path of a profile.
    pub seccomp: String,
    /// `nested`, or capabilities.
    pub privileges: Vec<String>,
}

/// An image that was run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// As the job file names it.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What was run, where it has a digest.
    pub digest: Option<String>,
    /// `linux/amd64`.
    pub platform: Option<String>,
}

/// One cache of `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// Its path as the job file has it.
    pub path: String,
    /// The key.
    pub key: String,
    /// `hit`, `partial` or `miss`.
    pub result: String,
    /// The key under which what it began with was kept.
    pub restored_from: Option<String>,
    /// What it began with, in bytes.
    pub restored_bytes: u64,
    /// It was kept after the steps.
    pub saved: bool,
    /// All of it then, in bytes.
    pub saved_bytes: Option<u64>,
}

/// One service of `run.json`, and all of its `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceResult {
    /// Its name.
    pub name: String,
    /// What it ran on.
    pub image: ImageRecord,
    /// `success` when it ran until it was not needed any more; `skipped` when it was never started; else why it ended before.
    pub outcome: Outcome,
    /// The job goes on without it.
    pub optional: bool,
    /// The main process's exit code, or 128 + signal; absent when it never ran.
    pub exit_code: Option<u8>,
    /// The signal that ended the main process.
    pub signal: Option<i32>,
    /// RFC 3339, UTC, microseconds.
    pub started: Option<String>,
    /// The same, when it was over.
    pub ended: Option<String>,
    /// From its start until it was ready, in seconds.
    pub ready_s: Option<f64>,
    /// What told: `tcp 5432`.
    pub ready_by: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// What it was allowed to use.
    pub limits: Caps,
    /// The facts when the outcome is `oom`.
    pub oom: Option<Oom>,
    /// Where its output is.
    pub log: LogSummary,
    /// One sentence with the numbers, when it did not succeed.
    pub cause: Option<String>,
    /// What the user can do about it, one line.
    pub remedy: Option<String>,
}

impl ServiceResult {
    /// One that has not been started.
    pub fn new(name: &str, image: ImageRecord, optional: bool) -> Self {
        Self {
            name: name.to_owned(),
            image,
            outcome: Outcome::Skipped,
            optional,
            exit_code: None,
            signal: None,
            started: None,
            ended: None,
            ready_s: None,
            ready_by: None,
            usage: Usage::default(),
            limits: Caps::default(),
            oom: None,
            log: LogSummary::default(),
            cause: None,
            remedy: None,
        }
    }
}

/// An attempt after which the step was tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// The main process's exit code, or 128 + signal.
    pub exit_code: Option<u8>,
    /// The signal that ended the main process.
    pub signal: Option<i32>,
    /// RFC 3339, UTC, microseconds.
    pub started: String,
    /// RFC 3339, UTC, microseconds.
    pub ended: String,
    /// What it used.
    pub usage: Usage,
    /// Where its output is.
    pub log: LogSummary,
    /// One sentence with the numbers.
    pub cause: Option<String>,
}

impl Attempt {
    /// What is kept of a result that is not the step's last.
    pub fn of(result: StepResult) -> Self {
        let StepResult { outcome, exit_code, signal, started, ended, usage, log, cause, .. } = result;
        Self { outcome, exit_code, signal, started, ended, usage, log, cause }
    }
}

/// One step of `run.json`, and all of `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// The step's id in the job file.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its number, from 1.
    pub index: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// How it counts: `continue-on-error` makes `success` of a failure.
    pub conclusion: Outcome,
    /// The main process's exit code, or 128 + signal; absent when it never ran.
    pub exit_code: Option<u8>,
    /// The signal that ended the main process.
    pub signal: Option<i32>,
    /// Why the runner or the kernel killed it: `timeout`, `oom`, `disk`, `cancel`, `service`.
    pub killed_by: Option<String>,
    /// How often it was started.
    pub attempts: u32,
    /// The attempts before the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Attempt>,
    /// RFC 3339, UTC, microseconds.
    pub started: String,
    /// RFC 3339, UTC, microseconds.
    pub ended: String,
    /// What it used.
    pub usage: Usage,
    /// What it was allowed to use.
    #[serde(default)]
    pub limits: Caps,
    /// What it could ask of the kernel; absent where that is what every step can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
    /// The facts when the outcome is `oom`.
    pub oom: Option<Oom>,
    /// The facts when the outcome is `disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskFull>,
    /// Processes that outlived the main process and were killed.
    pub leftovers: Vec<Leftover>,
    /// Where its output is.
    pub log: LogSummary,
    /// One sentence with the numbers, when it did not succeed: "memory limit 64.0M met; killed `hog`".
    pub cause: Option<String>,
    /// What the user can do about it, one line.
    pub remedy: Option<String>,
    /// It did not run: what an earlier run made is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused: Option<Reused>,
    /// What it left of its root filesystem is kept, for `runner shell`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

/// Where the result of a step comes from that did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reused {
    /// The run that made it.
    pub run: String,
    /// What it is known by: everything that it is made of.
    pub key: String,
}

/// Of which steps the root filesystem is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Of all.
    Always,
    /// Of those that failed.
    #[default]
    Failed,
    /// Of none.
    Never,
}

impl Keep {
    /// Whether a step's is kept.
    pub fn wants(self, outcome: Outcome) -> bool {
        match self {
            Self::Always => true,
            Self::Failed => outcome.is_failure() && outcome != Outcome::Cancelled,
            Self::Never => false,
        }
    }
}
