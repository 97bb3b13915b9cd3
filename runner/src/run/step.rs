//! One step: go, output, deadlines, end. What its end is called is `verdict`'s.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant as TokioInstant, sleep_until};

use super::disk::{DiskUse, DiskWatch};
use super::egress::Egress;
use super::feed::Feed;
use super::logs::LogWriter;
use super::processes;
use super::record::RecordError;
use super::secrets::{Masker, Secrets};
use super::services::{Ear, Fallen};
use super::verdict::Stopped;
use crate::cgroup::{Cgroup, KmsgCursor, OomWatch};
use crate::event::{Stream, What};
use crate::outcome::{Leftover, Victim};
use crate::sandbox::spawn::{Sandbox, SandboxError};
use crate::sandbox::spec::Go;
use crate::sandbox::wire::{Left, Order, Word};
use crate::sys::process::{Rusage, Status};
use crate::sys::watch::readable;

/// Bytes read from a pipe at once; the most in one `step.log` event.
const CHUNK_BYTES: usize = 64 << 10;
/// Room in the pipe, so that a chatty step need not wait for us at every 64 KiB.
const PIPE_BYTES: usize = 256 << 10;
/// How long init has to report after it was told to kill everything.
const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// How long the pipes have to run dry when every process of the step is gone.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// What init calls itself; it is never what fills a limit.
const INIT_NAME: &str = "runner-init";
/// The show's clock.
const TICK: Duration = Duration::from_secs(1);

/// How far the user has gone in stopping the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cancel {
    /// Not at all.
    No,
    /// Once: SIGTERM, then the grace.
    Gently,
    /// Twice: SIGKILL now.
    Now,
}

/// What a step's run needs besides its sandbox.
pub struct Running<'r> {
    /// For events.
    pub job: &'r str,
    /// For events; without it, what is printed goes to the log alone.
    pub step: Option<&'r str>,
    /// Where output goes.
    pub log: LogWriter,
    /// Where events go.
    pub feed: &'r Feed,
    /// When and why to stop it.
    pub deadline: Option<(Instant, Stopped)>,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// What asks it for an end.
    pub ask: Order,
    /// The user's wish.
    pub cancel: watch::Receiver<Cancel>,
    /// Tells that a service that the job needs has fallen.
    pub falls: Option<watch::Receiver<Option<Fallen>>>,
    /// Waits for something that it prints.
    pub ear: Option<Ear>,
    /// Its cgroup, where there is one.
    pub cgroup: Option<&'r Cgroup>,
    /// For naming the victim of an OOM kill.
    pub kmsg: Option<&'r mut KmsgCursor>,
    /// What its writes take on the disk, where that is limited.
    pub disk: Option<&'r DiskWatch>,
    /// The job's way to the world; without it the step must not go on.
    pub egress: Option<&'r Egress>,
    /// Longest time without output.
    pub quiet: Option<Duration>,
    /// What its output must not show.
    pub secrets: &'r Secrets,
}

/// What is known when it is over.
#[derive(Debug)]
pub struct Ended {
    /// The main process's status; `None`: init was killed before it could tell.
    pub status: Option<Status>,
    /// What init's children used.
    pub usage: Rusage,
    /// Why we stopped it.
    pub stopped: Option<Stopped>,
    /// SIGTERM was not enough.
    pub ignored_term: bool,
    /// Who outlived it.
    pub leftovers: Vec<Leftover>,
    /// Its writes took too much, and it was killed for that.
    pub disk: Option<DiskUse>,
    /// The job's way to the world ended under it.
    pub lost_egress: bool,
    /// Whom the kernel killed for memory, if that was seen.
    pub victim: Option<Victim>,
    /// From go to report.
    pub wall: Duration,
    /// The closed log, or why it could not be kept.
    pub log: Result<crate::outcome::LogSummary, RecordError>,
}

impl Default for Ended {
    fn default() -> Self {
        Self {
            status: None,
            usage: Rusage::default(),
            stopped: None,
            ignored_term: false,
            leftovers: Vec::new(),
            disk: None,
            lost_egress: false,
            victim: None,
            wall: Duration::ZERO,
            log: Ok(crate::outcome::LogSummary::default()),
        }
    }
}

/// Where the ending stands.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Runs,
    Terminating(Instant),
    Killing(Instant),
    Over(Instant),
}

/// The two ends of a step's output pipe.
pub(super) fn output_pipe() -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    // An ordinary user may be over the system's pipe quota; the default size works as well.
    let _default = fcntl_setpipe_size(&ours, PIPE_BYTES);
    fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
    Ok((readable(ours)?, theirs))
}

/// What a step will be heard by, made before its turn.
#[derive(Debug)]
pub struct Ears {
    output: [AsyncFd<OwnedFd>; 2],
    theirs: [OwnedFd; 2],
    oom: Option<OomWatch>,
    oom_fd: Option<AsyncFd<OwnedFd>>,
}

impl Ears {
    /// `cgroup`: the step's, where there is one.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn open(cgroup: Option<&Cgroup>) -> Result<Self, SandboxError> {
        let (stdout, their_stdout) = output_pipe()?;
        let (stderr, their_stderr) = output_pipe()?;
        let oom = cgroup.and_then(|cgroup| cgroup.watch_oom().ok());
        let oom_fd = oom.as_ref().and_then(|watch| watch.as_fd().try_clone_to_owned().ok());
        let oom_fd = oom_fd.map(readable).transpose()?;
        Ok(Self { output: [stdout, stderr], theirs: [their_stdout, their_stderr], oom, oom_fd })
    }
}

/// A command that runs, and what it writes to.
pub struct Begun {
    output: Output,
    oom: Option<OomWatch>,
    oom_fd: Option<AsyncFd<OwnedFd>>,
    started: Instant,
}

/// Gives the go. `stdin`: what the command reads; or a terminal for all it reads and writes.
///
/// # Errors
/// [`SandboxError::Exec`] when the command cannot be executed, and what else keeps it from starting.
pub async fn begin(
    sandbox: &mut Sandbox,
    go: &Go,
    (stdin, terminal): (&OwnedFd, Option<&OwnedFd>),
    ears: Ears,
) -> Result<Begun, SandboxError> {
    let Ears { output: [stdout, stderr], theirs: [their_stdout, their_stderr], oom, oom_fd } = ears;
    let started = Instant::now();
    let stdio = match terminal {
        Some(terminal) => [terminal.as_fd(); 3],
        None => [stdin.as_fd(), their_stdout.as_fd(), their_stderr.as_fd()],
    };
    sandbox.go(go, stdio).await?;
    let (stdout, stderr) = (Some(stdout), Some(stderr));
    let maskers = [Masker::default(), Masker::default()];
    let output = Output { stdout, stderr, seq: 0, last: started, failure: None, maskers };
    Ok(Begun { output, oom, oom_fd, started })
}

/// Stays until nothing of the step lives and its output is read.
pub async fn finish(sandbox: &mut Sandbox, begun: Begun, mut running: Running<'_>) -> Ended {
    let Begun { mut output, mut oom, oom_fd, started } = begun;
    let mut ended = Ended::default();
    attend(sandbox, &mut running, &mut output, &mut ended, (oom.as_mut(), oom_fd.as_ref()), started).await;
    output.let_go(&mut running);
    let closed = running.log.finish();
    ended.log = match output.failure {
        Some(error) => Err(error),
        None => closed,
    };
    ended
}

/// Stays with a step from its go until nothing of it lives and its output is read.
async fn attend(
    sandbox: &mut Sandbox,
    running: &mut Running<'_>,
    output: &mut Output,
    ended: &mut Ended,
    mut oom: (Option<&mut OomWatch>, Option<&AsyncFd<OwnedFd>>),
    started: Instant,
) {
    let mut phase = Phase::Runs;
    let mut tick = TokioInstant::now() + TICK;
    let mut buffers = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        if matches!(phase, Phase::Over(_)) && output.is_dry() {
            break;
        }
        let over = matches!(phase, Phase::Over(_));
        let alarm = alarm(phase, running, output);
        tokio::select! {
            length = next(output.stdout.as_ref(), &mut buffers.0) => {
                output.took(Stream::Stdout, buffers.0.get(..length).unwrap_or_default(), running);
            }
            length = next(output.stderr.as_ref(), &mut buffers.1) => {
                output.took(Stream::Stderr, buffers.1.get(..length).unwrap_or_default(), running);
            }
            word = sandbox.word(), if !over => {
                match word {
                    Some(Word::Report { status, usage, left_count, left }) => {
                        ended.status = Some(status);
                        ended.usage = usage;
                        ended.leftovers = leftovers(left_count, &left);
                    }
                    // Killed from outside, or by an OOM kill of the whole cgroup.
                    Some(Word::Ready | Word::Failed { .. }) | None => {
                        let _init = sandbox.gone().await;
                    }
                }
                ended.wall = started.elapsed();
                phase = Phase::Over(Instant::now());
            }
            () = wait(alarm) => phase = ring(phase, sandbox, running, ended, output),
            changed = running.cancel.changed(), if !over => {
                let wish = *running.cancel.borrow();
                phase = if changed.is_ok() { wished(wish, phase, (sandbox, running.ask), ended) } else { phase };
            }
            () = fall(&mut running.falls), if !over => phase = fell(phase, sandbox, running, ended),
            () = lost(running.egress), if !over && !ended.lost_egress => {
                ended.lost_egress = true;
                sandbox.order(Order::Kill);
                phase = Phase::Killing(Instant::now());
            }
            used = too_much(running.disk), if !over && ended.disk.is_none() => {
                ended.disk = Some(used);
                sandbox.order(Order::Kill);
                phase = Phase::Killing(Instant::now());
            }
            () = oom_event(oom.1) => saw_oom(running, oom.0.as_deref_mut(), ended),
            () = sleep_until(tick) => {
                running.feed.tick();
                output.check(running.log.release());
                tick += TICK;
            }
        }
        if output.failure.is_some() && matches!(phase, Phase::Runs) {
            // What it says can no longer be kept: going on would lie about it.
            sandbox.order(Order::Kill);
            phase = Phase::Killing(Instant::now());
        }
    }
}

/// The step's output, as far as it is still open.
struct Output {
    stdout: Option<AsyncFd<OwnedFd>>,
    stderr: Option<AsyncFd<OwnedFd>>,
    seq: u64,
    /// When something came last.
    last: Instant,
    failure: Option<RecordError>,
    /// What each stream holds back: it may be the beginning of a secret.
    maskers: [Masker; 2],
}

impl Output {
    fn is_dry(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// The first failure counts.
    fn check(&mut self, logged: Result<(), RecordError>) {
        self.failure = self.failure.take().or(logged.err());
    }

    /// Keeps and shows a chunk, secrets hidden. An empty one is the pipe's end.
    fn took(&mut self, stream: Stream, data: &[u8], running: &mut Running<'_>) {
        if data.is_empty() {
            match stream {
                Stream::Stdout => self.stdout = None,
                Stream::Stderr => self.stderr = None,
            }
            return;
        }
        self.last = Instant::now();
        if let Some(ear) = &mut running.ear {
            ear.hear(stream as usize, data);
        }
        let shown = match running.secrets.is_empty() {
            true => data.to_vec(),
            false => self.maskers[stream as usize].push(running.secrets, data),
        };
        self.show(stream, shown, running);
    }

    fn show(&mut self, stream: Stream, data: Vec<u8>, running: &mut Running<'_>) {
        if data.is_empty() {
            return;
        }
        self.check(running.log.append(stream, &data, self.last));
        if let Some(step) = running.step {
            let what = What::StepLog { stream, seq: self.seq, data };
            self.seq += 1;
            running.feed.send(Some(running.job), Some(step), what);
        }
    }

    /// Nothing more will come: what was held back is no secret.
    fn let_go(&mut self, running: &mut Running<'_>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.maskers[stream as usize].finish();
            self.show(stream, rest, running);
        }
    }
}

/// Reads what is there; 0 at the pipe's end. Waits for ever on a pipe that has ended.
pub(super) async fn next(pipe: Option<&AsyncFd<OwnedFd>>, buffer: &mut [u8]) -> usize {
    let Some(pipe) = pipe else { return std::future::pending().await };
    loop {
        let Ok(mut guard) = pipe.readable().await else { return 0 };
        match rustix::io::read(pipe.get_ref(), &mut *buffer) {
            Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Ok(length) => return length,
            Err(_) => return 0,
        }
    }
}

/// When the present phase ends by itself.
fn alarm(phase: Phase, running: &Running<'_>, output: &Output) -> Option<Instant> {
    match phase {
        Phase::Runs => limit(running, output).map(|(at, _)| at),
        Phase::Terminating(since) => Some(since + running.grace),
        Phase::Killing(since) => Some(since + KILL_PATIENCE),
        Phase::Over(since) => Some(since + DRAIN_PATIENCE),
    }
}

/// The earlier of the deadline and the end of patience with its silence, and which it is.
fn limit(running: &Running<'_>, output: &Output) -> Option<(Instant, Stopped)> {
    let quiet = running.quiet.map(|quiet| (output.last + quiet, Stopped::Quiet(quiet)));
    quiet.into_iter().chain(running.deadline).min_by_key(|(at, _)| *at)
}

/// Waits until the way to the world has ended; for ever where there is none.
async fn lost(egress: Option<&Egress>) {
    match egress {
        Some(egress) => egress.lost().await,
        None => std::future::pending().await,
    }
}

/// Waits until the step's writes take too much; for ever where that is not watched.
async fn too_much(disk: Option<&DiskWatch>) -> DiskUse {
    match disk {
        Some(disk) => disk.over().await,
        None => std::future::pending().await,
    }
}

async fn wait(alarm: Option<Instant>) {
    match alarm {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The alarm rang: the next harder means.
fn ring(
    phase: Phase,
    sandbox: &Sandbox,
    running: &mut Running<'_>,
    ended: &mut Ended,
    output: &mut Output,
) -> Phase {
    let now = Instant::now();
    match phase {
        Phase::Runs => {
            ended.stopped = limit(running, output).map(|(_, why)| why);
            if let (Some(Stopped::Quiet(after)), Some(cgroup)) = (ended.stopped, running.cgroup) {
                let picture = processes::picture(after, &cgroup.processes());
                output.took(Stream::Stderr, picture.as_bytes(), running);
            }
            sandbox.order(running.ask);
            Phase::Terminating(now)
        }
        Phase::Terminating(_) => {
            ended.ignored_term = true;
            sandbox.order(Order::Kill);
            Phase::Killing(now)
        }
        Phase::Killing(_) => {
            // Init does not answer: stopped, or waiting for the disk. The kernel ends its namespace with it.
            if let Some(cgroup) = running.cgroup {
                let _gone = cgroup.kill();
            }
            sandbox.kill();
            Phase::Killing(now)
        }
        Phase::Over(since) => {
            (output.stdout, output.stderr) = (None, None);
            Phase::Over(since)
        }
    }
}

/// The user wants an end.
fn wished(wish: Cancel, phase: Phase, (sandbox, ask): (&Sandbox, Order), ended: &mut Ended) -> Phase {
    let now = Instant::now();
    match (wish, phase) {
        (Cancel::Gently, Phase::Runs) => {
            ended.stopped = Some(Stopped::Cancelled);
            sandbox.order(ask);
            Phase::Terminating(now)
        }
        (Cancel::Now, Phase::Runs | Phase::Terminating(_)) => {
            ended.stopped.get_or_insert(Stopped::Cancelled);
            sandbox.order(Order::Kill);
            Phase::Killing(now)
        }
        (Cancel::No | Cancel::Gently | Cancel::Now, _) => phase,
    }
}

/// Waits until a service has fallen; for ever where none can.
async fn fall(falls: &mut Option<watch::Receiver<Option<Fallen>>>) {
    let Some(falls) = falls else { return std::future::pending().await };
    if falls.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A service that the job needs has fallen: what runs has no use any more.
fn fell(phase: Phase, sandbox: &Sandbox, running: &Running<'_>, ended: &mut Ended) -> Phase {
    match phase {
        Phase::Runs => {
            ended.stopped = Some(Stopped::Service);
            sandbox.order(running.ask);
            Phase::Terminating(Instant::now())
        }
        Phase::Terminating(_) | Phase::Killing(_) | Phase::Over(_) => phase,
    }
}

async fn oom_event(fd: Option<&AsyncFd<OwnedFd>>) {
    let Some(fd) = fd else { return std::future::pending().await };
    if let Ok(mut guard) = fd.readable().await {
        guard.clear_ready();
    }
}

/// The victim is named while its traces are fresh; the first one counts.
fn saw_oom(running: &mut Running<'_>, mut watch: Option<&mut OomWatch>, ended: &mut Ended) {
    let Some(cgroup) = running.cgroup else { return };
    if let Some(watch) = watch.as_deref_mut() {
        watch.acknowledge(cgroup);
    }
    if ended.victim.is_none() {
        let seen = cgroup.victim(running.kmsg.as_deref_mut(), watch.as_deref());
        // Seen too late, only init is left to look at: better nobody than the wrong one.
        ended.victim = seen.filter(|victim| victim.name != INIT_NAME);
    }
}

fn leftovers(count: u32, left: &[Left]) -> Vec<Leftover> {
    let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    let name = |left: &Left| left.name.iter().take_while(|byte| **byte != 0).map(printable).collect();
    left.iter().take(count as usize).map(|one| Leftover { pid: one.pid, name: name(one) }).collect()
}
