//! Credential helpers: programs named `docker-credential-NAME` that know logins (docker-credential-helpers' protocol).
//!
//! Started without a shell, told the registry on standard input, given a time, and read up to a limit.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use images::Credential;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

/// How long a helper may take; some ask a key ring that has to be unlocked.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of a helper's answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of a helper's name.
const NAME_BYTES_MAX: usize = 64;
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper for a registry's login.
pub(super) fn get(name: &str, registry: &str) -> Result<Option<Credential>, String> {
    get_within(name, registry, TIME_MAX)
}

fn get_within(name: &str, registry: &str, time: Duration) -> Result<Option<Credential>, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(format!("{name:?} cannot be the name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let failed = |what: &dyn std::fmt::Display| format!("the credential helper {program}: {what}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(&error))?;
    let answer = talk(&mut child, registry, Instant::now() + time);
    if answer.is_err() {
        // It may hang, or write without an end.
        let _ended_by_itself = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    let answer = answer.map_err(|what| failed(&what))?;
    if !status.success() {
        let words = String::from_utf8_lossy(&answer);
        // What docker's own helpers say, and docker looks for.
        if words.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(&format_args!("it ended with {status}")));
    }
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|_| failed(&"its answer is not understood"))?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Credential::IdentityToken(answer.secret),
        _ => Credential::Password { user: answer.username, password: answer.secret },
    }))
}

/// Tells the registry, reads the answer and waits for the end.
fn talk(child: &mut Child, registry: &str, until: Instant) -> Result<Vec<u8>, String> {
    let late = || "it does not answer".to_owned();
    if let Some(mut stdin) = child.stdin.take() {
        // A few bytes, which the pipe takes whether or not they are read.
        let _does_not_want_to_know = stdin.write_all(registry.as_bytes());
    }
    let mut answer = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut buffer = [0; 8192];
        loop {
            if !ready(stdout.as_fd(), until) {
                return Err(late());
            }
            match stdout.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => break,
                count => answer.extend_from_slice(&buffer[..count]),
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"));
            }
        }
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let handle: Option<OwnedFd> = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    match handle {
        Some(handle) if !ready(handle.as_fd(), until) => Err(late()),
        _ => Ok(answer),
    }
}

/// Waits until there is something to read, or the time is over.
fn ready(handle: BorrowedFd<'_>, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&left)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_paths() {
        for name in ["", "../x", "a/b", "a b", "a;b", &"a".repeat(65)] {
            assert!(get(name, "r.example").unwrap_err().contains("cannot be the name"), "{name}");
        }
        assert!(
            get("no-such-helper-here", "r.example")
                .unwrap_err()
                .contains("docker-credential-no-such-helper-here")
        );
    }
}
