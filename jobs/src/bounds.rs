//! Every limit on what a job file may hold, with its reason.

/// Largest job file in bytes. A file of 10,000 short steps is half of it.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting, aliases followed. The format itself needs five.
pub const DEPTH_MAX: usize = 32;
/// Most YAML nodes, every alias counted as what it stands for: the wall against "billion laughs".
pub const NODES_MAX: usize = 200_000;
/// Most bytes of scalars, every alias counted as what it stands for.
pub const EXPANDED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most files that a job file names, directly or not.
pub const INCLUDES_MAX: usize = 100;
/// Most files that name one another.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// Most entries of `setup`: each is a layer of an overlay.
pub const SETUP_MAX: usize = 30;
/// Most steps of a job. Each keeps its result, a kilobyte or two, until the job is over.
pub const STEPS_MAX: usize = 10_000;
/// Most jobs of a run, cells counted. Each has a directory and a line on the screen.
pub const JOBS_MAX: usize = 2_000;
/// Most cells of one matrix: GitHub's number.
pub const CELLS_MAX: usize = 256;
/// Longest name of a cell; with its job's id before it, still a short directory name.
pub const CELL_BYTES_MAX: usize = 63;
/// Most nodes of all jobs and cells together, once expressions are settled: each is read and checked on its own.
pub const PLANNED_NODES_MAX: usize = 2_000_000;
/// Most steps of a job that may run beside others: each has a sandbox, pipes and a log open.
pub const BESIDE_MAX: usize = 64;
/// Most caches of a job: each is a mount of every step.
pub const CACHES_MAX: usize = 32;
/// Most beginnings of keys of a cache.
pub const RESTORE_KEYS_MAX: usize = 32;
/// Longest key of a cache.
pub const CACHE_KEY_BYTES_MAX: usize = 512;
/// Most services of a job: each is a sandbox that lives as long as the job.
pub const SERVICES_MAX: usize = 32;
/// Most ports that a service publishes.
pub const PORTS_MAX: usize = 64;
/// Longest text that a service is waited to print.
pub const READY_LOG_BYTES_MAX: usize = 1024;
/// Smallest /dev/shm of a service: a page.
pub const SHM_BYTES_MIN: u64 = 4096;
/// Most secrets of a job, and most of one step.
pub const SECRETS_MAX: usize = 200;
/// Most params of a file.
pub const PARAMS_MAX: usize = 200;
/// Most times that a step or a job is tried again: what fails a hundred times is broken.
pub const RETRIES_MAX: u32 = 100;
/// Largest factor by which pauses between attempts grow.
pub const RETRY_BACKOFF_MAX: f64 = 10.0;
/// Longest pause between two attempts, in seconds: an hour, the time that a job has.
pub const RETRY_DELAY_SECONDS_MAX: u64 = 60 * 60;
/// Most mounts of a job.
pub const MOUNTS_MAX: usize = 100;
/// Most artifacts of a job, and most of one step.
pub const ARTIFACTS_MAX: usize = 1_000;
/// Most hosts that a job's network is limited to.
pub const ALLOW_MAX: usize = 1_000;
/// Least bandwidth in bytes a second: below it connections time out, and nothing is built.
pub const BANDWIDTH_MIN: u64 = 1024;
/// Most patterns of one artifact.
pub const PATTERNS_MAX: usize = 1_000;
/// Longest pattern in bytes; a path is at most 4,096 (PATH_MAX).
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Longest label of a run or step, in characters.
pub const NAME_CHARS_MAX: usize = 128;
/// Longest step name taken from the first line of `run`, in characters.
pub const DEFAULT_NAME_CHARS_MAX: usize = 60;
/// Longest step id: with its number before it, still a short directory name.
pub const ID_BYTES_MAX: usize = 63;
/// Longest artifact name: a directory's name with room for suffixes (NAME_MAX is 255).
pub const ARTIFACT_NAME_BYTES_MAX: usize = 128;
/// Longest host name: what `sethostname(2)` takes is 64, what DNS labels take is 63.
pub const HOSTNAME_BYTES_MAX: usize = 63;
/// Longest argument or `NAME=value`, its closing NUL included: MAX_ARG_STRLEN of execve(2).
pub const ARGUMENT_BYTES_MAX: usize = 128 * 1024;
/// Most bytes of variables of all steps together: a step's are the job's and its own.
pub const ENV_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most bytes of a shell given as a list; every script of the job repeats it.
pub const SHELL_BYTES_MAX: usize = 4096;
/// Longest path, its closing NUL included: PATH_MAX.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest time that any timeout may have: a year.
pub const TIMEOUT_SECONDS_MAX: u64 = 365 * 24 * 60 * 60;
/// Fewest CPUs: one hundredth is 1 ms of a 100 ms period, the least that the kernel takes.
pub const CPUS_MIN: f64 = 0.01;
/// Most CPUs; the kernel itself ends at 8,192.
pub const CPUS_MAX: f64 = 8_192.0;
/// Greatest weight of CPU time; the kernel's own bound (cgroup-v2.rst, `cpu.weight`).
pub const CPU_WEIGHT_MAX: u64 = 10_000;
/// Least disk space in bytes: below it not even a shell's temporary files fit.
pub const DISK_MIN: u64 = 1024 * 1024;
/// Least disk bandwidth in bytes a second: below it programs are not even loaded.
pub const IO_BYTES_MIN: u64 = 64 * 1024;
/// Fewest disk operations a second, for the same reason.
pub const IO_OPS_MIN: u64 = 10;
/// Most disk operations a second: what the kernel keeps is 32 bits wide (block/blk-throttle.c).
pub const IO_OPS_MAX: u64 = u32::MAX as u64 - 1;
/// Most processes: PID_MAX_LIMIT of a 64-bit kernel.
pub const PIDS_MAX: u64 = 4_194_304;
/// Most open files: the largest that `fs.nr_open` can be.
pub const FILES_MAX: u64 = 1_073_741_816;
/// Most bytes of memory, swap or log: what a signed 64-bit file size holds.
pub const BYTES_MAX: u64 = i64::MAX as u64;
/// Problems after which no further job is looked at: a hundred are shown.
pub const PROBLEMS_MAX: usize = 10_000;
/// Most diagnostics that are kept; the rest is counted.
pub const DIAGNOSTICS_MAX: usize = 100;
/// Longest expression in bytes: GitHub takes 21,000 characters.
pub const EXPRESSION_BYTES_MAX: usize = 21_000;
/// Deepest nesting of an expression: its tree is walked by recursion.
pub const EXPRESSION_DEPTH_MAX: usize = 100;
/// Most bytes of what an expression comes to: as much as a job file may have.
pub const EXPRESSION_RESULT_BYTES_MAX: usize = 1024 * 1024;
