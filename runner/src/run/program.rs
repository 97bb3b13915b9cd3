//! Programs of the host that we ask for something: given a time, and read up to a limit.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use thiserror::Error;

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes of standard output, and as many of standard error.
    pub bytes: usize,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Said {
    /// Its end.
    pub status: ExitStatus,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
}

/// Why a program said nothing that can be used.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// It is not there, or cannot be started or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its time is over.
    #[error("it does not answer")]
    Late,
    /// It says too much.
    #[error("its answer is longer than {0} bytes")]
    Long(usize),
}

/// Runs a program to its end. One that is late or says too much is killed.
///
/// # Errors
/// A program that cannot be started, is late, or says too much; not one that fails.
pub fn run(command: &mut Command, input: &[u8], bounds: Bounds) -> Result<Said, ProgramError> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn()?;
    let said = talk(&mut child, input, Instant::now() + bounds.time, bounds.bytes);
    if said.is_err() {
        // It may hang, or write without an end.
        let _ended_by_itself = child.kill();
    }
    let status = child.wait()?;
    let [out, err] = said?;
    Ok(Said { status, out, err })
}

/// Tells it the input, reads the answers and waits for the end.
fn talk(child: &mut Child, input: &[u8], until: Instant, max: usize) -> Result<[Vec<u8>; 2], ProgramError> {
    if let Some(mut stdin) = child.stdin.take() {
        // A few bytes, which the pipe takes whether or not they are read.
        let _does_not_want_to_know = stdin.write_all(input);
    }
    let (out, err) = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
    let mut open: Vec<(usize, std::fs::File)> =
        [out, err].into_iter().enumerate().filter_map(|(at, pipe)| Some((at, pipe?.into()))).collect();
    let mut said = [Vec::new(), Vec::new()];
    let mut buffer = [0; 8192];
    while !open.is_empty() {
        let mut ready = wait(open.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)), until)?;
        ready.resize(open.len(), false);
        let mut at = 0;
        let mut failed = None;
        open.retain_mut(|(which, pipe)| {
            at += 1;
            if !ready[at - 1] || failed.is_some() {
                return true;
            }
            match pipe.read(&mut buffer) {
                Ok(count) => {
                    said[*which].extend_from_slice(&buffer[..count]);
                    count > 0
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        if said.iter().any(|said| said.len() > max) {
            return Err(ProgramError::Long(max));
        }
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
        wait(std::iter::once(PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)), until)?;
    }
    Ok(said)
}

/// Waits until there is something to read from one of them; says from which.
fn wait<'f>(handles: impl Iterator<Item = PollFd<'f>>, until: Instant) -> Result<Vec<bool>, ProgramError> {
    let mut handles: Vec<PollFd<'_>> = handles.collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut handles, Some(&left)) {
            Ok(0) => return Err(ProgramError::Late),
            Ok(_) => return Ok(handles.iter().map(|handle| !handle.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, time: Duration, bytes: usize) -> Result<Said, ProgramError> {
        run(Command::new("sh").args(["-c", script]), b"input\n", Bounds { time, bytes })
    }

    #[test]
    fn what_a_program_says_and_how_it_ends_is_told() {
        let said = shell("read a; echo out $a; echo err >&2; exit 3", Duration::from_secs(20), 100).unwrap();
        assert_eq!(
            (said.status.code(), said.out, said.err),
            (Some(3), b"out input\n".into(), b"err\n".into())
        );
        let late = shell("exec sleep 1000", Duration::from_millis(20), 100);
        assert!(matches!(late, Err(ProgramError::Late)), "{late:?}");
        let late = shell("exec >&- 2>&-; exec sleep 1000", Duration::from_millis(20), 100);
        assert!(matches!(late, Err(ProgramError::Late)), "{late:?}");
        let long = shell("yes", Duration::from_secs(20), 10_000);
        assert!(matches!(long, Err(ProgramError::Long(10_000))), "{long:?}");
        let missing =
            run(&mut Command::new("/no/such/program"), b"", Bounds { time: Duration::ZERO, bytes: 0 });
        assert!(matches!(missing, Err(ProgramError::Io(_))));
    }
}
