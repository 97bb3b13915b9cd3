//! What a step may ask of the kernel: the filter of its system calls, and rights beyond those that every step has.

use std::fmt;

use serde::{Serialize, Serializer};

/// Which system calls reach the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// The runner's own list: what builds use.
    Default,
    /// The same without calls that look into other processes or reach rarely used parts of the kernel.
    Strict,
    /// No filter.
    Off,
    /// The profile in this file, in OCI's form; a relative path starts at the job file's directory.
    File(String),
}

/// Rights of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privileges {
    /// Those of every step.
    Default,
    /// Namespaces and mounts of its own: sandboxes inside the sandbox.
    Nested,
    /// These capabilities besides, in ascending order, each once.
    Capabilities(Vec<Capability>),
}

/// A capability that a step can be given: a line of [`CAPABILITIES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// Returns the kernel's number for it (linux/capability.h).
    pub fn number(self) -> u8 {
        self.0
    }

    /// Returns its name: `CAP_SYS_CHROOT`.
    pub fn name(self) -> &'static str {
        CAPABILITIES.iter().find(|(number, ..)| *number == self.0).map_or("CAP_UNKNOWN", |(_, name, _)| name)
    }

    /// Finds one by its name.
    pub(crate) fn parse(name: &str) -> Result<Self, CapabilityFault> {
        match CAPABILITIES.iter().find(|(_, known, _)| *known == name) {
            Some((number, _, Grant::Given)) => Ok(Self(*number)),
            Some((_, _, Grant::Never(why))) => Err(CapabilityFault::Never(why)),
            None => Err(CapabilityFault::Unknown),
        }
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Why a name is not that of a capability for steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CapabilityFault {
    /// The kernel has none of this name.
    Unknown,
    /// No step is given it, for this reason.
    Never(&'static str),
}

/// Whether steps can have a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// It counts in the step's user namespace only, and does no harm there.
    Given,
    /// Not given, for this reason.
    Never(&'static str),
}

/// The kernel asks for it in the machine's own user namespace: in a step's it opens nothing.
const MACHINE: &str = "the kernel asks for it over the whole machine, which no step gets";
const NETWORK: &str = "the network belongs to the job, not to the step: with `privileges: nested` a step can make one of its own";

/// All capabilities (linux/capability.h): number, name, whether steps can have them.
pub const CAPABILITIES: &[(u8, &str, Grant)] = &[
    (0, "CAP_CHOWN", Grant::Given),
    (1, "CAP_DAC_OVERRIDE", Grant::Given),
    (2, "CAP_DAC_READ_SEARCH", Grant::Given),
    (3, "CAP_FOWNER", Grant::Given),
    (4, "CAP_FSETID", Grant::Given),
    (5, "CAP_KILL", Grant::Given),
    (6, "CAP_SETGID", Grant::Given),
    (7, "CAP_SETUID", Grant::Given),
    (8, "CAP_SETPCAP", Grant::Given),
    (9, "CAP_LINUX_IMMUTABLE", Grant::Never(MACHINE)),
    (10, "CAP_NET_BIND_SERVICE", Grant::Given),
    (11, "CAP_NET_BROADCAST", Grant::Never(NETWORK)),
    (12, "CAP_NET_ADMIN", Grant::Never(NETWORK)),
    (13, "CAP_NET_RAW", Grant::Never(NETWORK)),
    (14, "CAP_IPC_LOCK", Grant::Never(MACHINE)),
    (15, "CAP_IPC_OWNER", Grant::Given),
    (16, "CAP_SYS_MODULE", Grant::Never(MACHINE)),
    (17, "CAP_SYS_RAWIO", Grant::Never(MACHINE)),
    (18, "CAP_SYS_CHROOT", Grant::Given),
    (19, "CAP_SYS_PTRACE", Grant::Given),
    (20, "CAP_SYS_PACCT", Grant::Never(MACHINE)),
    (
        21,
        "CAP_SYS_ADMIN",
        Grant::Never(
            "with it a step could take away what hides the machine: `privileges: nested` gives namespaces and mounts without it",
        ),
    ),
    (22, "CAP_SYS_BOOT", Grant::Never(MACHINE)),
    (23, "CAP_SYS_NICE", Grant::Given),
    (24, "CAP_SYS_RESOURCE", Grant::Never(MACHINE)),
    (25, "CAP_SYS_TIME", Grant::Never(MACHINE)),
    (26, "CAP_SYS_TTY_CONFIG", Grant::Never(MACHINE)),
    (27, "CAP_MKNOD", Grant::Never(MACHINE)),
    (28, "CAP_LEASE", Grant::Never(MACHINE)),
    (29, "CAP_AUDIT_WRITE", Grant::Never(MACHINE)),
    (30, "CAP_AUDIT_CONTROL", Grant::Never(MACHINE)),
    (
        31,
        "CAP_SETFCAP",
        Grant::Never("what it stores in the workspace could count on the machine after the step"),
    ),
    (32, "CAP_MAC_OVERRIDE", Grant::Never(MACHINE)),
    (33, "CAP_MAC_ADMIN", Grant::Never(MACHINE)),
    (34, "CAP_SYSLOG", Grant::Never(MACHINE)),
    (35, "CAP_WAKE_ALARM", Grant::Never(MACHINE)),
    (36, "CAP_BLOCK_SUSPEND", Grant::Never(MACHINE)),
    (37, "CAP_AUDIT_READ", Grant::Never(MACHINE)),
    (38, "CAP_PERFMON", Grant::Given),
    (39, "CAP_BPF", Grant::Never(MACHINE)),
    (40, "CAP_CHECKPOINT_RESTORE", Grant::Never(MACHINE)),
];

/// Names of the capabilities that steps can have.
pub(crate) fn given_names() -> Vec<&'static str> {
    CAPABILITIES.iter().filter(|(_, _, grant)| *grant == Grant::Given).map(|(_, name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_kernels() {
        for (index, (number, name, _)) in CAPABILITIES.iter().enumerate() {
            assert_eq!(usize::from(*number), index, "{name}");
            assert!(name.starts_with("CAP_"), "{name}");
        }
        assert_eq!(Capability::parse("CAP_SYS_CHROOT").map(Capability::number), Ok(18));
        assert_eq!(Capability::parse("SYS_CHROOT"), Err(CapabilityFault::Unknown));
        assert_eq!(Capability::parse("CAP_SYS_MODULE"), Err(CapabilityFault::Never(MACHINE)));
    }
}
