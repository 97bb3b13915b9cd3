//! What a job's own words change about the policy: `privileges` opens, `seccomp: strict` and `--untrusted` close. No logic.

use super::{Argument, Check, Test, Verdict};

/// What a capability opens besides itself.
#[derive(Debug)]
pub struct Opening {
    /// The kernel's number of it (linux/capability.h).
    pub capability: u32,
    /// Calls that are then allowed.
    pub calls: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
}

/// The capabilities that open anything.
pub const OPENINGS: &[Opening] = &[
    Opening {
        capability: 18,
        calls: &["chroot"],
        reason: "CAP_SYS_CHROOT: daemons that lock themselves in as root.",
    },
    Opening {
        capability: 19,
        calls: &["kcmp", "pidfd_getfd", "process_madvise"],
        reason: "CAP_SYS_PTRACE: checkpointing, and debuggers that copy descriptors.",
    },
    Opening {
        capability: 23,
        calls: &[
            "get_mempolicy",
            "set_mempolicy",
            "set_mempolicy_home_node",
            "mbind",
            "move_pages",
            "migrate_pages",
        ],
        reason: "CAP_SYS_NICE: placement on NUMA nodes.",
    },
    Opening {
        capability: 38,
        calls: &["perf_event_open"],
        reason: "CAP_PERFMON: counting and sampling of own processes, as far as kernel.perf_event_paranoid lets users.",
    },
];

/// Calls that `privileges: nested` allows. `clone3` too: what it is refused for otherwise, namespaces behind a pointer, is
/// allowed here.
pub const NESTED: &[&str] = &[
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "setns",
    "fsopen",
    "fsmount",
    "fsconfig",
    "fspick",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "mount_setattr",
    "sethostname",
    "setdomainname",
    "keyctl",
    "statmount",
    "listmount",
    "clone3",
];

/// Calls whose checks `privileges: nested` lifts: a sandbox inside has namespaces, and a network with raw sockets.
pub const NESTED_UNCHECKED: &[&str] = &["clone", "unshare"];

/// Calls that get another verdict.
#[derive(Debug)]
pub struct Closing {
    /// Kernel names.
    pub calls: &'static [&'static str],
    /// What they then get.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
}

/// What `--untrusted` closes.
pub const UNTRUSTED: &[Closing] = &[Closing {
    calls: &["ptrace", "process_vm_readv", "process_vm_writev"],
    verdict: Verdict::Eperm,
    reason: "No process looks into another: ptrace reaches much of the kernel that nothing else does.",
}];

/// What `seccomp: strict` closes.
pub const STRICT: &[Closing] = &[
    Closing {
        calls: &["ptrace", "process_vm_readv", "process_vm_writev"],
        verdict: Verdict::Eperm,
        reason: "Debuggers and tracers: a build has no need of them.",
    },
    Closing {
        calls: &["io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents"],
        verdict: Verdict::Enosys,
        reason: "Kernel AIO: databases fall back to threads.",
    },
    Closing {
        calls: &[
            "msgget",
            "msgsnd",
            "msgrcv",
            "msgctl",
            "mq_open",
            "mq_unlink",
            "mq_timedsend",
            "mq_timedreceive",
            "mq_notify",
            "mq_getsetattr",
        ],
        verdict: Verdict::Enosys,
        reason: "Message queues: kernel memory of the caller's size and content, the tool of many exploits. Of builds, fakeroot uses them.",
    },
    Closing {
        calls: &["vmsplice"],
        verdict: Verdict::Enosys,
        reason: "Pages of the caller in pipes: every known user copies instead.",
    },
    Closing {
        calls: &["sched_setattr"],
        verdict: Verdict::Eperm,
        reason: "Deadline scheduling is refused by the kernel anyway; its code need not run.",
    },
    Closing {
        calls: &["pkey_alloc", "pkey_free", "pkey_mprotect", "map_shadow_stack"],
        verdict: Verdict::Enosys,
        reason: "Hardware features that their users (V8, glibc) do without.",
    },
];

/// Checks of `seccomp: strict` besides those of the policy.
pub const STRICT_CHECKS: &[Check] = &[
    Check {
        calls: &["socket", "socketpair"],
        errno: libc::EAFNOSUPPORT,
        reason: "Netlink: glibc and iproute2 do without, or say so.",
        arguments: &[Argument { index: 0, mask: 0xFFFFFFFF, test: Test::In(&[16]) }],
    },
    Check {
        calls: &["personality"],
        errno: libc::EPERM,
        reason: "Only asking: address randomisation stays on.",
        arguments: &[Argument { index: 0, mask: 0xFFFFFFFF, test: Test::NotIn(&[0, 0xFFFFFFFF]) }],
    },
];

/// Calls whose checks stay whatever filter the job chooses: without those on `clone` and `unshare`, a step could store file
/// capabilities that count on the machine; that on `ioctl` keeps it from typing into a terminal.
pub const GUARDED: &[&str] = &["clone", "unshare", "ioctl"];
