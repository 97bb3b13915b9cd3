//! What a step's end is called, in words and numbers. Pure: facts in, outcome, cause and remedy out.

use std::time::Duration;

use jobs::units::{format_duration, format_size};

use crate::outcome::{DiskFull, Leftover, Oom, Outcome};
use crate::sys::process::Status;

/// Why the runner itself ended a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The step's own `timeout`.
    StepTimeout(Duration),
    /// Its `quiet-timeout`.
    Quiet(Duration),
    /// What was left of the job's `timeout`.
    JobTimeout(Duration),
    /// What a run that fails or is stopped has for its last steps.
    Cleanup(Duration),
    /// The user asked.
    Cancelled,
    /// A service that the job needs has fallen.
    Service,
}

/// Everything that is known about a step's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts<'f> {
    /// The main process's status; `None` when init was killed before it could tell.
    pub status: Option<Status>,
    /// Why we stopped it.
    pub stopped: Option<Stopped>,
    /// It did not end on SIGTERM.
    pub ignored_term: bool,
    /// What `execve` said, and whether a file of the command's name exists.
    pub exec: Option<(rustix::io::Errno, bool)>,
    /// The command's name, for the cause.
    pub command: &'f str,
    /// Codes that count as success.
    pub expect_exit: &'f [u8],
    /// The facts of an OOM kill.
    pub oom: Option<&'f Oom>,
    /// The facts of writes that took more than they may.
    pub disk: Option<&'f DiskFull>,
    /// Highest memory charged, bytes.
    pub mem_peak: Option<u64>,
    /// Times that a new process was refused, and the limit.
    pub pids: (u64, Option<u64>),
    /// Time that a killed step had between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Processes that outlived the main one.
    pub leftovers: &'f [Leftover],
}

/// What the facts amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The name.
    pub outcome: Outcome,
    /// 0-255: the code, 128 + signal, 126 or 127; `None` when it never ran to an end.
    pub exit_code: Option<u8>,
    /// The signal that ended the main process.
    pub signal: Option<i32>,
    /// `timeout`, `oom`, `disk`, `cancel`, `service`.
    pub killed_by: Option<&'static str>,
    /// One sentence with the numbers.
    pub cause: Option<String>,
    /// One line on what to do.
    pub remedy: Option<String>,
}

/// Names a step's end. What we did comes first, then what the kernel did, then what the command said.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let (exit_code, signal) = match facts.status {
        Some(Status::Exited(code)) => (u8::try_from(code & 0xff).ok(), None),
        Some(Status::Signaled(number)) => (u8::try_from(128 + (number & 0x7f)).ok(), Some(number)),
        // cgroup v2: one victim takes its whole cgroup along, init and main process with it (memory.oom.group).
        None if facts.oom.is_some() => (Some(128 + 9), Some(libc::SIGKILL)),
        None => (None, None),
    };
    let verdict = |outcome, killed_by, cause: String, remedy: &str| Verdict {
        outcome,
        exit_code,
        signal,
        killed_by,
        cause: Some(cause),
        remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
    };
    if let Some((errno, exists)) = facts.exec {
        return not_executed(facts.command, errno, exists);
    }
    if let Some(disk) = facts.disk.filter(|_| facts.stopped != Some(Stopped::Cancelled)) {
        return verdict(Outcome::Disk, Some("disk"), disk_cause(disk), WRITE_LESS);
    }
    if let Some(stopped) = facts.stopped {
        return stopped_by_us(facts, stopped, verdict);
    }
    let as_expected = exit_code.is_some_and(|code| signal.is_none() && facts.expect_exit.contains(&code));
    if as_expected {
        return Verdict {
            outcome: Outcome::Success,
            exit_code,
            signal,
            killed_by: None,
            cause: None,
            remedy: None,
        };
    }
    if let Some(oom) = facts.oom {
        return verdict(
            Outcome::Oom,
            Some("oom"),
            oom_cause(oom, facts.mem_peak),
            "raise `limits.memory`, or use less: fewer parallel jobs, smaller inputs",
        );
    }
    if let (hits @ 1.., Some(limit)) = facts.pids {
        let cause = format!("process limit of {limit} met: {hits} new processes were refused");
        return verdict(Outcome::Pids, None, cause, "raise `limits.pids`, or start fewer processes at once");
    }
    match facts.status {
        None => verdict(
            Outcome::Error,
            None,
            "the sandbox's init was killed from outside".into(),
            "something on this machine kills processes: see the kernel log",
        ),
        Some(Status::Signaled(number)) => {
            verdict(Outcome::Signal, None, format!("ended by {}", signal_name(number)), signal_remedy(number))
        }
        Some(Status::Exited(code)) => {
            let expected = match facts.expect_exit {
                [0] => String::new(),
                codes => {
                    format!(", expected {}", codes.iter().map(u8::to_string).collect::<Vec<_>>().join(" or "))
                }
            };
            verdict(Outcome::Failure, None, format!("exit code {code}{expected}"), "")
        }
    }
}

fn stopped_by_us(
    facts: &Facts<'_>,
    stopped: Stopped,
    verdict: impl Fn(Outcome, Option<&'static str>, String, &str) -> Verdict,
) -> Verdict {
    let manner = if facts.ignored_term {
        format!("; it ignored SIGTERM and was killed after {}", format_duration(facts.grace))
    } else {
        String::new()
    };
    match stopped {
        Stopped::StepTimeout(after) => verdict(
            Outcome::Timeout,
            Some("timeout"),
            format!("ran longer than its timeout of {}{manner}", format_duration(after)),
            "raise the step's `timeout`, or find out what it waits for",
        ),
        Stopped::Quiet(after) => verdict(
            Outcome::Timeout,
            Some("timeout"),
            format!("no output for {}{manner}", format_duration(after)),
            "its log ends with what its processes waited for; raise `quiet-timeout` if they only worked",
        ),
        Stopped::JobTimeout(after) => verdict(
            Outcome::Timeout,
            Some("timeout"),
            format!("the job ran longer than its timeout of {}{manner}", format_duration(after)),
            "raise the job's `timeout`",
        ),
        Stopped::Cleanup(after) => verdict(
            Outcome::Timeout,
            Some("timeout"),
            format!("the steps after the job's end had {}{manner}", format_duration(after)),
            "keep short what runs after a cancel or a timeout",
        ),
        Stopped::Cancelled => verdict(Outcome::Cancelled, Some("cancel"), format!("cancelled{manner}"), ""),
        Stopped::Service => verdict(
            Outcome::Cancelled,
            Some("service"),
            format!("a service that the job needs has ended{manner}"),
            "",
        ),
    }
}

/// The shell's codes: 127 for a command that is not there, 126 for one that cannot be executed.
fn not_executed(command: &str, errno: rustix::io::Errno, exists: bool) -> Verdict {
    let missing = errno == rustix::io::Errno::NOENT && !exists;
    let (cause, remedy) = match errno {
        _ if missing => (
            format!("`{command}` is not in the image"),
            "name a command or `shell` that the image has, or use another image".to_owned(),
        ),
        rustix::io::Errno::NOENT => (
            format!("`{command}` is there, but its interpreter or loader is not"),
            "check its first line, or install the C library that it was built for".to_owned(),
        ),
        rustix::io::Errno::NOEXEC => (
            format!("`{command}` is no program for this machine"),
            "check its architecture, or give a script a `#!` line".to_owned(),
        ),
        rustix::io::Errno::ACCESS => (
            format!("`{command}` may not be executed by the step's user"),
            "check its mode and owner".to_owned(),
        ),
        other => (
            format!("`{command}` cannot be executed: {other}"),
            "see execve(2) for what this error means".to_owned(),
        ),
    };
    Verdict {
        outcome: Outcome::Failure,
        exit_code: Some(if missing { 127 } else { 126 }),
        signal: None,
        killed_by: None,
        cause: Some(cause),
        remedy: (!remedy.is_empty()).then_some(remedy),
    }
}

/// What to do about writes that took too much.
const WRITE_LESS: &str = "raise `limits.disk`, or write less: the record has the largest files";
/// Files that a sentence names.
const BIGGEST_SHOWN: usize = 3;

fn disk_cause(disk: &DiskFull) -> String {
    let limit = format_size(disk.limit_bytes);
    if let Some(hidden) = &disk.hidden {
        return format!("cannot tell what it writes, with a disk limit of {limit}: {hidden}");
    }
    let largest = disk.biggest.iter().take(BIGGEST_SHOWN);
    let largest: Vec<String> =
        largest.map(|file| format!("{} {}", file.path, format_size(file.bytes))).collect();
    let files = if largest.is_empty() { String::new() } else { format!("; largest: {}", largest.join(", ")) };
    format!("disk limit of {limit} met: it wrote {}{files}", format_size(disk.bytes))
}

fn oom_cause(oom: &Oom, peak: Option<u64>) -> String {
    let mut cause = format!("memory limit of {} met", format_size(oom.limit_bytes));
    if let Some(peak) = peak {
        cause.push_str(&format!(" (peak {})", format_size(peak)));
    }
    match &oom.victim {
        Some(victim) => {
            cause.push_str(&format!(": the kernel killed `{}`", victim.name));
            if let Some(bytes) = victim.rss_bytes {
                cause.push_str(&format!(" at {}", format_size(bytes)));
            }
        }
        None => cause.push_str(&format!(": the kernel killed {} process(es)", oom.kills)),
    }
    cause
}

fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => format!("{} ({number})", signal.as_str()),
        Err(_) => format!("signal {number}"),
    }
}

fn signal_remedy(number: i32) -> &'static str {
    match number {
        libc::SIGSYS => "a 32-bit program, or one that asks for a refused system call: see docs/sandbox.md",
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGABRT => {
            "the program crashed: run it under a debugger in the step"
        }
        libc::SIGKILL => "something inside the step killed it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Victim;

    fn facts(status: Status) -> Facts<'static> {
        Facts {
            status: Some(status),
            stopped: None,
            ignored_term: false,
            exec: None,
            command: "make",
            expect_exit: &[0],
            oom: None,
            disk: None,
            mem_peak: None,
            pids: (0, Some(64)),
            grace: Duration::from_secs(10),
            leftovers: &[],
        }
    }

    #[test]
    fn codes_and_signals_are_exact() {
        for code in 1..=255 {
            let verdict = judge(&facts(Status::Exited(code)));
            assert_eq!((verdict.outcome, verdict.exit_code), (Outcome::Failure, u8::try_from(code).ok()));
        }
        assert_eq!(judge(&facts(Status::Exited(0))).outcome, Outcome::Success);
        let killed = judge(&facts(Status::Signaled(9)));
        assert_eq!((killed.outcome, killed.exit_code, killed.signal), (Outcome::Signal, Some(137), Some(9)));
    }

    #[test]
    fn an_expected_code_is_a_success_and_zero_then_is_not() {
        let expecting = Facts { expect_exit: &[3, 4], ..facts(Status::Exited(3)) };
        assert_eq!(judge(&expecting).outcome, Outcome::Success);
        let zero = judge(&Facts { expect_exit: &[3, 4], ..facts(Status::Exited(0)) });
        assert_eq!(zero.cause.as_deref(), Some("exit code 0, expected 3 or 4"));
    }

    #[test]
    fn a_step_that_survives_an_oom_kill_succeeds_and_one_that_does_not_names_the_victim() {
        let oom = Oom {
            limit_bytes: 64 << 20,
            kills: 1,
            victim: Some(Victim { name: "hog".into(), pid: Some(4), rss_bytes: Some(60 << 20) }),
        };
        let survived = Facts { oom: Some(&oom), ..facts(Status::Exited(0)) };
        assert_eq!(judge(&survived).outcome, Outcome::Success);
        let verdict =
            judge(&Facts { oom: Some(&oom), mem_peak: Some(64 << 20), ..facts(Status::Signaled(9)) });
        assert_eq!(verdict.outcome, Outcome::Oom);
        let cause = verdict.cause.unwrap();
        assert!(cause.contains("`hog`") && cause.contains(&format_size(64 << 20)), "{cause}");
    }

    #[test]
    fn an_oom_kill_of_the_whole_cgroup_is_a_kill_of_the_main_process() {
        let oom = Oom { limit_bytes: 64 << 20, kills: 1, victim: None };
        let verdict = judge(&Facts { status: None, oom: Some(&oom), ..facts(Status::Exited(0)) });
        assert_eq!((verdict.outcome, verdict.exit_code, verdict.signal), (Outcome::Oom, Some(137), Some(9)));
    }

    #[test]
    fn a_timeout_comes_before_what_the_command_said() {
        let stopped = Some(Stopped::StepTimeout(Duration::from_secs(2)));
        let verdict = judge(&Facts { stopped, ignored_term: true, ..facts(Status::Signaled(9)) });
        assert_eq!((verdict.outcome, verdict.killed_by), (Outcome::Timeout, Some("timeout")));
        assert!(verdict.cause.unwrap().contains("ignored SIGTERM"));
    }

    #[test]
    fn what_cannot_be_executed_has_the_shells_codes() {
        let exec =
            |errno, exists| judge(&Facts { exec: Some((errno, exists)), ..facts(Status::Exited(127)) });
        assert_eq!(exec(rustix::io::Errno::NOENT, false).exit_code, Some(127));
        assert_eq!(exec(rustix::io::Errno::NOENT, true).exit_code, Some(126));
        assert_eq!(exec(rustix::io::Errno::ACCESS, true).exit_code, Some(126));
    }
}
