//! The kernel: its version and calls, its settings, its clock.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::check::Check;
use super::{Host, trials};
use crate::sys::probe;

/// The oldest kernel that has all calls that sandboxes are made of: `mount_setattr` is the last of them.
const KERNEL_MIN: (u32, u32) = (5, 12);
/// User namespaces that a busy machine needs at least: each sandbox has one.
const USER_NAMESPACES_MIN: u64 = 64;
/// Pids that a machine for builds needs at least: the kernel's own smallest default.
const PID_MAX_MIN: u64 = 32_768;
/// Inotify instances that parallel steps of an ordinary user need at least; the kernel's default is 128.
const INOTIFY_INSTANCES_MIN: u64 = 64;
/// A clock that stands before this was never set: 2024-01-01.
const CLOCK_MIN_S: u64 = 1_704_067_200;

/// CPUs that this process may run on.
pub(super) fn cpus() -> u64 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| u64::from(set.count()))
}

/// Whether settings forbid user namespaces to this user.
pub(super) fn user_namespaces_allowed() -> bool {
    let is_off = |name: &str| setting(name) == Some(0);
    let root = rustix::process::geteuid().is_root();
    Path::new("/proc/self/ns/user").exists()
        && !is_off("user/max_user_namespaces")
        && (root || !is_off("kernel/unprivileged_userns_clone"))
}

/// Reads a number below /proc/sys.
pub(super) fn setting(name: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

/// The machine in one line.
pub(super) fn overview(host: &Host) -> Check {
    let gib = host.memory_bytes as f64 / f64::from(1 << 30);
    let plural = if host.cpus == 1 { "" } else { "s" };
    let found =
        format!("Linux {} {}, {} CPU{plural}, {gib:.1} GiB memory", host.kernel, host.arch, host.cpus);
    Check::pass("machine", found)
}

/// The system calls that sandboxes are made of, each tried; those that need a user namespace, in one that clones the
/// mount of `directory`. `None`: there are no user namespaces.
pub(super) fn calls(directory: Option<&Path>) -> Check {
    const NAME: &str = "kernel calls";
    let openat2 = openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH);
    let simple = [
        ("openat2", openat2.map(drop)),
        ("pidfd_open", pidfd_open(getpid(), PidfdFlags::empty()).map(drop)),
        ("close_range", probe_close_range()),
    ];
    let mut refused: Vec<String> =
        simple.iter().filter_map(|(name, result)| Some(format!("{name}: {}", result.err()?))).collect();
    let trials = [Some(trials::clone3()), directory.map(trials::new_mount_calls)];
    refused.extend(trials.into_iter().flatten().filter_map(|trial| Some(trial.err()?.to_string())));
    if refused.is_empty() {
        return Check::pass(NAME, "openat2, clone3, pidfd_open, close_range, open_tree, mount_setattr");
    }
    let (major, minor) = KERNEL_MIN;
    let found = refused.join("; ");
    let check = Check::fail(NAME, found, "sandboxes cannot be made without these system calls");
    if kernel() < Some(KERNEL_MIN) {
        return check.fixed_by(format!("boot Linux {major}.{minor} or newer"));
    }
    check.fixed_by(
        "if this is a container, start it with --security-opt seccomp=unconfined, or run on the host",
    )
}

/// Marks descriptors close-on-exec that cannot exist.
fn probe_close_range() -> Result<(), Errno> {
    crate::sys::process::close_on_exec_from(i32::MAX - 1)
}

/// The running kernel's first two numbers.
fn kernel() -> Option<(u32, u32)> {
    let release = rustix::system::uname();
    let release = release.release().to_str().ok()?;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Settings that become a limit when many steps run.
pub(super) fn limits() -> Check {
    const NAME: &str = "kernel limits";
    let rows = [
        ("user.max_user_namespaces", "user/max_user_namespaces", USER_NAMESPACES_MIN, 10_000),
        ("kernel.pid_max", "kernel/pid_max", PID_MAX_MIN, 4_194_304),
        ("fs.inotify.max_user_instances", "fs/inotify/max_user_instances", INOTIFY_INSTANCES_MIN, 1_024),
    ];
    let values: Vec<_> = rows.iter().filter_map(|row| Some((row, setting(row.1)?))).collect();
    let shown: Vec<String> = values.iter().map(|((name, ..), value)| format!("{name} {value}")).collect();
    let found = shown.join(", ");
    // None at all is a matter of the checks that need one.
    let is_low = |((_, _, least, _), value): &&(&(_, _, u64, _), u64)| *value > 0 && value < least;
    let low: Vec<_> = values.iter().filter(is_low).collect();
    if low.is_empty() {
        return Check::pass(NAME, found);
    }
    let commands: Vec<String> = low.iter().map(|((name, _, _, good), _)| format!("{name}={good}")).collect();
    Check::warn(NAME, found, "few steps can run at once, and builds may fail where they need many processes")
        .fixed_by(format!("sudo sysctl -w {}", commands.join(" ")))
}

/// The clock: records have its times, and certificates of registries are checked by it.
pub(super) fn clock() -> Check {
    const NAME: &str = "clock";
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let date = jiff::Timestamp::from_second(now_s as i64)
        .map_or_else(|_| now_s.to_string(), |time| time.to_string());
    if now_s < CLOCK_MIN_S {
        let means = "records have wrong times, and downloads fail: certificates seem not yet valid";
        return Check::warn(NAME, date, means).fixed_by("sudo timedatectl set-ntp true");
    }
    let kept = match probe::clock_is_disciplined() {
        Some(true) => ", kept by NTP",
        Some(false) => ", not kept by NTP",
        None => "",
    };
    Check::pass(NAME, format!("{date}{kept}"))
}
