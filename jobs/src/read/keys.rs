//! The keys that exist, in the order in which messages list them. The JSON schema is tested against these.

/// Keys of a job file's top level; others that start with `x-` are passed over.
pub const JOB_KEYS: &[&str] = &[
    "version",
    "name",
    "image",
    "env",
    "steps",
    "limits",
    "timeout",
    "grace",
    "user",
    "shell",
    "workdir",
    "hostname",
    "mounts",
    "workspace",
    "network",
    "artifacts",
];

/// Keys of a step.
pub const STEP_KEYS: &[&str] = &[
    "run",
    "id",
    "name",
    "env",
    "shell",
    "workdir",
    "user",
    "timeout",
    "continue-on-error",
    "expect-exit",
    "artifacts",
];

/// Keys of `limits`.
pub const LIMITS_KEYS: &[&str] = &["cpus", "memory", "swap", "pids", "files", "log", "net"];

/// Keys of `net` in `limits`.
pub const NET_LIMITS_KEYS: &[&str] = &["rx", "tx"];

/// Keys of a network given as a map.
pub const NETWORK_KEYS: &[&str] = &["allow", "record"];

/// Keys of an image given as a map.
pub const IMAGE_KEYS: &[&str] = &["ref", "sha256"];

/// Keys of a mount given as a map.
pub const MOUNT_KEYS: &[&str] = &["host", "path", "ro"];

/// Keys of an artifact given as a map.
pub const ARTIFACT_KEYS: &[&str] = &["name", "paths", "when", "optional"];
