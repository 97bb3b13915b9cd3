//! The system call policy as data: which calls a step may make, which not, and why. No logic.
//!
//! A name stands in exactly one group. Whatever is not named gets ENOSYS: libc, Go and systemd fall back on that only.
//! Names that the architecture does not have are skipped by the reader (`seccomp`).

mod groups;
mod rights;

pub use groups::GROUPS;
pub use rights::{GUARDED, NESTED, NESTED_UNCHECKED, OPENINGS, STRICT, STRICT_CHECKS, UNTRUSTED};

/// What a group's calls get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Made, if no [`Check`] objects.
    Allow,
    /// Refused as a matter of rights: programs test for EPERM, and say so.
    Eperm,
    /// As on a kernel without the call: every known user falls back.
    Enosys,
}

/// Calls that share a verdict and a reason.
#[derive(Debug)]
pub struct Group {
    /// For reading and for errors.
    pub name: &'static str,
    /// What they get.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
    /// Kernel names.
    pub calls: &'static [&'static str],
}

/// How an argument is compared. Only its low 32 bits count: the kernel truncates these arguments as well.
#[derive(Debug)]
pub enum Test {
    /// Equal to one of these.
    In(&'static [u32]),
    /// Equal to none of these.
    NotIn(&'static [u32]),
    /// Has any of these bits.
    AnyBit(u32),
}

/// One argument's condition.
#[derive(Debug)]
pub struct Argument {
    /// Which, from 0.
    pub index: u32,
    /// Bits that count.
    pub mask: u32,
    /// The comparison.
    pub test: Test,
}

/// Refuses an allowed call whose arguments all hold. Checks are tried in order.
#[derive(Debug)]
pub struct Check {
    /// Kernel names.
    pub calls: &'static [&'static str],
    /// What the call then returns.
    pub errno: i32,
    /// Why.
    pub reason: &'static str,
    /// All must hold.
    pub arguments: &'static [Argument],
}

/// The checks.
pub const CHECKS: &[Check] = &[
    Check {
        calls: &["clone"],
        errno: libc::EPERM,
        reason: "New namespaces of any kind. On s390 the flags are argument 1.",
        arguments: &[Argument { index: 0, mask: 0xFFFFFFFF, test: Test::AnyBit(0x7E020000) }],
    },
    Check {
        calls: &["unshare"],
        errno: libc::EPERM,
        reason: "Only FS, FILES and SYSVSEM (0x40600) may be unshared: they concern the calling thread alone.",
        arguments: &[Argument { index: 0, mask: 0xFFFFFFFF, test: Test::AnyBit(0xFFFBF9FF) }],
    },
    Check {
        calls: &["ioctl"],
        errno: libc::EPERM,
        reason: "TIOCSTI and TIOCLINUX inject input into a terminal; TIOCSETD loads line disciplines, old code with a record of faults and no user in a build.",
        arguments: &[Argument { index: 1, mask: 0xFFFFFFFF, test: Test::In(&[0x5412, 0x541C, 0x5423]) }],
    },
    Check {
        calls: &["socket", "socketpair"],
        errno: libc::EAFNOSUPPORT,
        reason: "UNIX, INET, INET6, NETLINK only. Not ALG, VSOCK, PACKET, KEY, XDP, TIPC, RDS, Bluetooth, CAN and the rest.",
        arguments: &[Argument { index: 0, mask: 0xFFFFFFFF, test: Test::NotIn(&[1, 2, 10, 16]) }],
    },
    Check {
        calls: &["socket", "socketpair"],
        errno: libc::EPROTONOSUPPORT,
        reason: "Netlink: ROUTE only. PAM and shadow tools accept this errno for AUDIT, iproute2 reads /proc instead of SOCK_DIAG.",
        arguments: &[
            Argument { index: 0, mask: 0xFFFFFFFF, test: Test::In(&[16]) },
            Argument { index: 2, mask: 0xFFFFFFFF, test: Test::NotIn(&[0]) },
        ],
    },
    Check {
        calls: &["socket", "socketpair"],
        errno: libc::EPERM,
        reason: "Raw and packet sockets; ping uses the datagram form (see sysctl). Opened by naming NET_RAW.",
        arguments: &[
            Argument { index: 0, mask: 0xFFFFFFFF, test: Test::In(&[2, 10]) },
            Argument { index: 1, mask: 0xF, test: Test::In(&[3, 10]) },
        ],
    },
    Check {
        calls: &["socket", "socketpair"],
        errno: libc::ESOCKTNOSUPPORT,
        reason: "Internet sockets: stream and datagram.",
        arguments: &[
            Argument { index: 0, mask: 0xFFFFFFFF, test: Test::In(&[2, 10]) },
            Argument { index: 1, mask: 0xF, test: Test::NotIn(&[1, 2]) },
        ],
    },
    Check {
        calls: &["socket", "socketpair"],
        errno: libc::EPROTONOSUPPORT,
        reason: "Internet protocols: default, ICMP, TCP, UDP, ICMPv6, UDP-Lite. SCTP, DCCP, L2TP, SMC, MPTCP would load or run rarely used kernel code; Go falls back from MPTCP on this errno.",
        arguments: &[
            Argument { index: 0, mask: 0xFFFFFFFF, test: Test::In(&[2, 10]) },
            Argument { index: 2, mask: 0xFFFFFFFF, test: Test::NotIn(&[0, 1, 6, 17, 58, 136]) },
        ],
    },
    Check {
        calls: &["setsockopt"],
        errno: libc::ENOPROTOOPT,
        reason: "TCP_ULP (kernel TLS, SMC): optional in every known user, which falls back to user space.",
        arguments: &[
            Argument { index: 1, mask: 0xFFFFFFFF, test: Test::In(&[6]) },
            Argument { index: 2, mask: 0xFFFFFFFF, test: Test::In(&[31]) },
        ],
    },
    Check {
        calls: &["personality"],
        errno: libc::EPERM,
        reason: "Query, PER_LINUX32, UNAME26 and ADDR_NO_RANDOMIZE (gdb, setarch -R, sanitizers that restart themselves); not READ_IMPLIES_EXEC, MMAP_PAGE_ZERO and foreign systems.",
        arguments: &[Argument {
            index: 0,
            mask: 0xFFFFFFFF,
            test: Test::NotIn(&[0, 8, 0x20000, 0x20008, 0x40000, 0x40008, 0x60000, 0x60008, 0xFFFFFFFF]),
        }],
    },
];
