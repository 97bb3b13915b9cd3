//! The keeper's side: asking for stages and sandboxes, hearing what becomes of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use super::door::Door;
use super::ops::{Op, Script};
use super::spec::{Go, StageOpening, StageSpec};
use super::stage::{Answer, Ask, Build};
use super::wire::{self, Order, Phase, Word};
use super::zygote::{Request, Zygote};
use crate::sys::process::{self, Rusage, Status, Who};
use crate::sys::watch;

/// A sandbox could not be made, or its command not be started.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The zygote does not answer as it should.
    #[error("cannot ask the zygote: {0}")]
    Zygote(#[source] Errno),
    /// The job's stage could not do something.
    #[error("cannot {what}: {errno}")]
    Stage {
        /// Fits after "cannot".
        what: String,
        /// Why.
        errno: Errno,
    },
    /// This machine has no tun device for the job's interface.
    #[error("error[E522]: cannot {what}, which `network: full` and `allow` need")]
    NoTun {
        /// Fits after "cannot".
        what: String,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// Init could not do an operation of its script.
    #[error("cannot {what}: {errno} (op {number} of {of})")]
    Op {
        /// Fits after "cannot".
        what: String,
        /// Why.
        errno: Errno,
        /// Which, from 1.
        number: usize,
        /// How many the script has.
        of: usize,
    },
    /// The payload could not become the command.
    #[error("cannot {what}: {errno}")]
    Payload {
        /// Fits after "cannot".
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The command could not be executed: the step's failure, not ours.
    #[error("cannot execute the command: {errno}")]
    Exec {
        /// ENOENT, EACCES, ENOEXEC.
        errno: Errno,
        /// How many of the candidates exist.
        existing: u32,
    },
    /// Init or the stage ended without a word.
    #[error("the sandbox ended before its command was started")]
    Lost,
    /// A descriptor could not be watched.
    #[error("cannot watch the sandbox: {0}")]
    Watch(#[from] io::Error),
}

impl SandboxError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        let (what, errno) = match self {
            Self::Stage { what, errno } | Self::Op { what, errno, .. } => (what.as_str(), *errno),
            Self::Zygote(errno) => ("", *errno),
            Self::NoTun { errno, .. } => return Some(tun_hint(*errno)),
            Self::Payload { .. } | Self::Exec { .. } | Self::Lost | Self::Watch(_) => return None,
        };
        match errno {
            Errno::NOSPC if what.contains("namespace") => {
                Some("a namespace limit is met: see user.max_*_namespaces in /proc/sys/user")
            }
            Errno::PERM if what.contains("/proc") => Some(
                "the machine's own /proc is partly masked, as in a container: start that container with an unmasked /proc",
            ),
            Errno::PERM | Errno::ACCESS => Some("`runner doctor` shows which permission is missing"),
            Errno::ROFS if what.contains("overlay") => Some(
                "the runner's home directory is on a filesystem that cannot hold an overlay's upper directory",
            ),
            Errno::INVAL if what.contains("owners") => Some(
                "set RUNNER_HOME to a directory on ext4, xfs, btrfs or tmpfs: this filesystem takes no id maps",
            ),
            Errno::AGAIN | Errno::NOMEM => Some("the machine is out of processes or memory"),
            _ => None,
        }
    }
}

/// What to do about a tun device that cannot be used.
fn tun_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            "`modprobe tun`; in a container, start it with `--device /dev/net/tun`; or do without: `network: none` or `host`"
        }
        Errno::ACCESS | Errno::PERM => {
            "`sudo chmod 666 /dev/net/tun`, as most distributions have it; or do without: `network: none` or `host`"
        }
        _ => "`runner doctor net` tries it; or do without: `network: none` or `host`",
    }
}

/// A job's stage. Dropping it ends the stage; sandboxes that it made live on.
///
/// It is opened as soon as the job's network is known, and furnished when everything else is: both take it a while, in
/// which the keeper has other things to do.
#[derive(Debug)]
pub struct Stage {
    socket: Option<OwnedFd>,
    pidfd: OwnedFd,
}

impl Stage {
    /// Starts a stage, which makes its namespaces.
    ///
    /// # Errors
    /// When it cannot be cloned. What it fails at later is told by [`Stage::furnished`].
    pub fn open(zygote: &Zygote, opening: StageOpening) -> Result<Self, SandboxError> {
        let (ours, theirs) = wire::pair().map_err(SandboxError::Zygote)?;
        let request = Request::Stage(opening);
        let asked = zygote.ask(&request, &[theirs.as_fd()]).map_err(SandboxError::Zygote)?;
        Ok(Self { socket: Some(ours), pidfd: asked.ok_or(SandboxError::Lost)? })
    }

    /// Gives it what the sandboxes share. Wait for [`Stage::furnished`] before the first sandbox.
    ///
    /// # Errors
    /// When it is gone.
    pub fn furnish(&self, spec: &StageSpec) -> Result<(), SandboxError> {
        let socket = self.socket.as_ref().ok_or(SandboxError::Lost)?;
        wire::send_value(socket.as_fd(), spec, &[]).map_err(|_| SandboxError::Lost)
    }

    /// Waits until all of it is there. Returns the indices of the sources whose filesystem takes no id map, and the
    /// gate's descriptors where there is one: the job's interface, the gate's, the listeners.
    ///
    /// # Errors
    /// [`SandboxError::Stage`] names what could not be prepared.
    pub fn furnished(&self) -> Result<(Vec<usize>, Vec<OwnedFd>), SandboxError> {
        match self.hear()? {
            (Answer::Ready { unmapped }, gate) => Ok((unmapped, gate)),
            (Answer::NoTun { what, errno }, _) => {
                Err(SandboxError::NoTun { what, errno: Errno::from_raw_os_error(errno) })
            }
            (Answer::Failed { what, errno }, _) => {
                Err(SandboxError::Stage { what, errno: Errno::from_raw_os_error(errno) })
            }
            (Answer::Cloned | Answer::Made, _) => Err(SandboxError::Lost),
        }
    }

    /// Asks for a sandbox. It then builds itself; [`Sandbox::ready`] waits for that. `cgroup`: the v2 directory to be
    /// born in; `tasks`: v1 files to enter by.
    ///
    /// # Errors
    /// [`SandboxError::Stage`] when the clone or its maps failed.
    pub fn build(
        &self,
        script: Script,
        cgroup: Option<BorrowedFd<'_>>,
        tasks: &[OwnedFd],
    ) -> Result<Sandbox, SandboxError> {
        let socket = self.socket.as_ref().ok_or(SandboxError::Lost)?;
        let (control, their_control) = wire::pair().map_err(SandboxError::Zygote)?;
        let (go, their_go) = wire::pair().map_err(SandboxError::Zygote)?;
        let mut fds = vec![their_control.as_fd(), their_go.as_fd()];
        fds.extend(cgroup);
        fds.extend(tasks.iter().map(AsFd::as_fd));
        let build = Build { script, cgroup: cgroup.is_some() };
        let ask = Ask::Sandbox(build);
        wire::send_value(socket.as_fd(), &ask, &fds).map_err(|_| SandboxError::Lost)?;
        let Ask::Sandbox(build) = ask else { return Err(SandboxError::Lost) };
        let (answer, mut fds) = self.hear()?;
        let pidfd = fds.pop();
        match answer {
            Answer::Cloned => Sandbox::new(build.script.ops, control, go, pidfd.ok_or(SandboxError::Lost)?),
            Answer::Failed { what, errno } => {
                if let Some(pidfd) = pidfd {
                    end(&pidfd);
                }
                Err(SandboxError::Stage { what, errno: Errno::from_raw_os_error(errno) })
            }
            Answer::Ready { .. } | Answer::NoTun { .. } | Answer::Made => Err(SandboxError::Lost),
        }
    }

    /// A stream socket of the job's network, not connected; it works from anywhere. `v6`: of IPv6.
    ///
    /// # Errors
    /// [`SandboxError::Stage`] when the kernel has none.
    pub fn socket(&self, v6: bool) -> Result<OwnedFd, SandboxError> {
        self.made(&Ask::Socket { v6 })
    }

    /// A handle on a directory of the stage, which the keeper cannot reach otherwise.
    ///
    /// # Errors
    /// [`SandboxError::Stage`] when it is not there.
    pub fn directory(&self, at: &str) -> Result<OwnedFd, SandboxError> {
        self.made(&Ask::Directory(at.to_owned()))
    }

    fn made(&self, ask: &Ask) -> Result<OwnedFd, SandboxError> {
        let socket = self.socket.as_ref().ok_or(SandboxError::Lost)?;
        wire::send_value(socket.as_fd(), ask, &[]).map_err(|_| SandboxError::Lost)?;
        let (answer, mut fds) = self.hear()?;
        match (answer, fds.pop()) {
            (Answer::Made, Some(made)) => Ok(made),
            (Answer::Failed { what, errno }, _) => {
                Err(SandboxError::Stage { what, errno: Errno::from_raw_os_error(errno) })
            }
            (Answer::Made | Answer::Ready { .. } | Answer::NoTun { .. } | Answer::Cloned, _) => {
                Err(SandboxError::Lost)
            }
        }
    }

    /// Ends it without waiting for its end: no more sandboxes will be asked for.
    pub fn dismiss(&self) {
        let _gone = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn hear(&self) -> Result<(Answer, Vec<OwnedFd>), SandboxError> {
        let socket = self.socket.as_ref().ok_or(SandboxError::Lost)?;
        match wire::receive_value::<Answer>(socket.as_fd()) {
            Ok(Some((answer, fds))) => Ok((answer, fds)),
            Ok(None) | Err(_) => Err(SandboxError::Lost),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.socket.take());
        end(&self.pidfd);
    }
}

/// Kills and reaps a child of the keeper that is of no further use.
fn end(pidfd: &OwnedFd) {
    let _gone = pidfd_send_signal(pidfd, Signal::KILL);
    let _reaped = process::reap(Who::Pidfd(pidfd.as_fd()), true);
}

/// One sandbox, from its clone to the end of its init. Dropping it kills what lives in it.
#[derive(Debug)]
pub struct Sandbox {
    ops: Vec<Op>,
    control: AsyncFd<OwnedFd>,
    go: AsyncFd<OwnedFd>,
    pidfd: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Sandbox {
    fn new(ops: Vec<Op>, control: OwnedFd, go: OwnedFd, pidfd: OwnedFd) -> Result<Self, SandboxError> {
        for socket in [&control, &go] {
            let flags = fcntl_getfl(socket).map_err(io::Error::from)?;
            fcntl_setfl(socket, flags | OFlags::NONBLOCK).map_err(io::Error::from)?;
        }
        let (control, go, pidfd) = (watch::readable(control)?, watch::readable(go)?, watch::readable(pidfd)?);
        Ok(Self { ops, control, go, pidfd, reaped: false })
    }

    /// Waits until the payload stands before its command.
    ///
    /// # Errors
    /// What the script or the filters failed at.
    pub async fn ready(&mut self) -> Result<(), SandboxError> {
        let word = tokio::select! {
            word = hear(&self.go) => word,
            word = hear(&self.control) => word,
        };
        match word {
            Some(Word::Ready) => Ok(()),
            Some(Word::Failed { phase, index, errno }) => Err(self.failure(phase, index, errno)),
            // Its end of one socket closes a moment before the reason comes on the other.
            Some(Word::Report { .. }) | None => match hear(&self.control).await {
                Some(Word::Failed { phase, index, errno }) => Err(self.failure(phase, index, errno)),
                Some(Word::Ready | Word::Report { .. }) | None => Err(SandboxError::Lost),
            },
        }
    }

    /// Gives the go, and waits until the command has been executed. `stdio`: input, output, error.
    ///
    /// # Errors
    /// [`SandboxError::Exec`] when the command cannot be executed; what else the payload failed at.
    pub async fn go(&mut self, go: &Go, stdio: [BorrowedFd<'_>; 3]) -> Result<(), SandboxError> {
        wire::send_value(self.go.as_fd(), go, &stdio).map_err(|_| SandboxError::Lost)?;
        match hear(&self.go).await {
            None => Ok(()),
            Some(Word::Failed { phase, index, errno }) => Err(self.failure(phase, index, errno)),
            Some(Word::Ready | Word::Report { .. }) => Err(SandboxError::Lost),
        }
    }

    /// Gives init an order. One that is gone has nothing left to do.
    pub fn order(&self, order: Order) {
        let _gone = wire::send(self.control.as_fd(), &order.bytes(), &[]);
    }

    /// A way to bring further commands into the sandbox while its own runs.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn door(&self) -> Result<Door, SandboxError> {
        Ok(Door::new(self.control.get_ref().try_clone()?))
    }

    /// The next word of init. `None`: it is gone.
    pub async fn word(&self) -> Option<Word> {
        hear(&self.control).await
    }

    /// Waits until init has ended, and reaps it.
    pub async fn gone(&mut self) -> Option<(Status, Rusage)> {
        let _readable = self.pidfd.readable().await;
        self.reaped = true;
        let ended = process::reap(Who::Pidfd(self.pidfd.as_fd()), true).ok().flatten();
        ended.map(|(_, status, usage)| (status, usage))
    }

    /// Sends SIGKILL to init; its pid namespace goes along.
    pub fn kill(&self) {
        let _gone = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn failure(&self, phase: Phase, index: u32, errno: i32) -> SandboxError {
        let errno = Errno::from_raw_os_error(errno);
        let what = match phase {
            Phase::Script => {
                let op = self.ops.get(index as usize);
                return SandboxError::Op {
                    what: op.map_or_else(|| "run the script".into(), Op::describe),
                    errno,
                    number: index as usize + 1,
                    of: self.ops.len(),
                };
            }
            Phase::Exec => return SandboxError::Exec { errno, existing: index },
            Phase::Fork => "start the step's process",
            Phase::Filter => "load the system call filter",
            Phase::Go => "read the step's command",
            Phase::WorkingDirectory => "enter the working directory",
            Phase::Stdio => "connect the step's output",
            Phase::Rlimit => "set a resource limit",
            Phase::Credentials => "take the step's user, group and capabilities",
        };
        SandboxError::Payload { what, errno }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.reaped {
            end(self.pidfd.get_ref());
        }
    }
}

/// Waits for a word. `None`: the other side is gone.
pub(super) async fn hear(socket: &AsyncFd<OwnedFd>) -> Option<Word> {
    loop {
        let mut guard = socket.readable().await.ok()?;
        match wire::hear(socket.as_fd()) {
            Err(Errno::AGAIN) => guard.clear_ready(),
            Ok(word) => return word,
            Err(_) => return None,
        }
    }
}
