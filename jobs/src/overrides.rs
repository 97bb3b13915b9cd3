//! What the command line says over the file.

use std::time::Duration;

use crate::image::Pull;
use crate::plan::Network;

/// Values that win over the file's. The default overrides nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// Set (or with `None` unset) in every step, after the file's own.
    pub env: Vec<(String, Option<String>)>,
    /// Limits that win one by one.
    pub limits: LimitsOverride,
    /// The network.
    pub network: Option<Network>,
    /// The whole job's time.
    pub timeout: Option<Duration>,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Option<Duration>,
    /// The user of every step, as in the file: `root`, `me`, `1000:100`, a name.
    pub user: Option<String>,
    /// The working directory of every step.
    pub workdir: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// When the source of the image is asked.
    pub pull: Option<Pull>,
}

/// Limits from the command line; `None` leaves the file's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LimitsOverride {
    /// CPUs' worth of time.
    pub cpus: Option<f64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap in bytes.
    pub swap_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Open files of one process.
    pub files: Option<u64>,
    /// Bytes kept of one step's log.
    pub log_bytes: Option<u64>,
}
