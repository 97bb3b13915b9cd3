//! The keys that exist, in the order in which messages list them. The JSON schema is tested against these.

/// Keys of a job file's top level besides those of its job; others that start with `x-` are passed over.
pub const FILE_KEYS: &[&str] = &["version", "name", "include", "params", "jobs"];

/// Keys of an entry of `setup` given as a map.
pub const SETUP_KEYS: &[&str] =
    &["run", "name", "env", "shell", "user", "timeout", "reads", "network", "max-age"];

/// Keys of an entry of `include` given as a map.
pub const INCLUDE_KEYS: &[&str] = &["path", "sha256"];

/// Keys of a file whose steps others use; more that start with `x-` are passed over.
pub const STEP_FILE_KEYS: &[&str] = &["params", "steps", "outputs"];

/// Keys of a job that may also stand at the top level beside `jobs`, as defaults of each.
pub const DEFAULT_KEYS: &[&str] = &[
    "image",
    "env",
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
    "retry",
    "quiet-timeout",
    "secrets",
    "seccomp",
    "privileges",
    "services",
    "setup",
    "caches",
];

/// Keys of a job that are settled before its matrix is multiplied out.
pub(crate) const EARLY_KEYS: &[&str] = &["needs", "matrix", "fail-fast", "max-parallel"];

/// Keys of a need given as a map.
pub const NEED_KEYS: &[&str] = &["job", "if", "artifacts"];

/// Keys of a job.
pub const JOB_KEYS: &[&str] = &[
    "image",
    "needs",
    "if",
    "matrix",
    "fail-fast",
    "max-parallel",
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
    "seccomp",
    "privileges",
    "artifacts",
    "outputs",
    "continue-on-error",
    "retry",
    "quiet-timeout",
    "secrets",
    "services",
    "setup",
    "caches",
];

/// Keys of a cache given as a map.
pub const CACHE_KEYS: &[&str] = &["path", "key", "restore-keys", "mode", "when", "max-size"];

/// Keys of a service given as a map.
pub const SERVICE_KEYS: &[&str] = &[
    "image",
    "env",
    "run",
    "user",
    "mounts",
    "limits",
    "secrets",
    "ready",
    "stop-signal",
    "shm",
    "optional",
    "needs",
    "ports",
];

/// Keys of `limits` of a service.
pub const SERVICE_LIMITS_KEYS: &[&str] = &["cpus", "cpu-weight", "memory", "swap", "pids", "files", "log"];

/// Keys of `ready` of a service.
pub const READY_KEYS: &[&str] = &["tcp", "http", "status", "run", "log", "timeout", "interval", "after"];

/// Keys of a step.
pub const STEP_KEYS: &[&str] = &[
    "run",
    "id",
    "name",
    "if",
    "env",
    "shell",
    "workdir",
    "user",
    "timeout",
    "seccomp",
    "privileges",
    "continue-on-error",
    "expect-exit",
    "artifacts",
    "retry",
    "quiet-timeout",
    "background",
    "wait",
    "cancel",
    "parallel",
    "secrets",
    "uses",
    "with",
];

/// Keys of a secret that a job declares.
pub const SECRET_KEYS: &[&str] = &["required", "env", "description"];

/// Keys of a secret that a step names.
pub const STEP_SECRET_KEYS: &[&str] = &["env"];

/// Keys of `retry` given as a map.
pub const RETRY_KEYS: &[&str] = &["max", "on", "delay", "backoff"];

/// Keys of `limits`.
pub const LIMITS_KEYS: &[&str] =
    &["cpus", "cpu-weight", "memory", "swap", "pids", "files", "log", "disk", "io", "net"];

/// Keys of `io` in `limits`.
pub const IO_LIMITS_KEYS: &[&str] = &["read", "write", "read-ops", "write-ops"];

/// Keys of `net` in `limits`.
pub const NET_LIMITS_KEYS: &[&str] = &["rx", "tx"];

/// Keys of a network given as a map.
pub const NETWORK_KEYS: &[&str] = &["allow", "record"];

/// Keys of a param given as a map.
pub const PARAM_KEYS: &[&str] = &["default", "type", "options", "required", "description"];

/// Keys of an image given as a map.
pub const IMAGE_KEYS: &[&str] = &["ref", "sha256", "pull"];

/// Keys of a mount given as a map.
pub const MOUNT_KEYS: &[&str] = &["host", "path", "ro"];

/// Keys of an artifact given as a map.
pub const ARTIFACT_KEYS: &[&str] = &["name", "paths", "when", "optional"];
