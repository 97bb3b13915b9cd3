//! Looking at a service until it is ready: at its ports, at what it answers, prints, or says to a command inside it.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Service;
use crate::network::reach::{MakeSocket, accepts, http_status};
use crate::run::step::{next, output_pipe};
use crate::sandbox::door::Door;
use crate::sandbox::spawn::SandboxError;
use crate::sandbox::spec::Go;
use crate::sys::process::Status;

/// A service that takes long is looked at after this part of the time that it has taken: what is told late is told at most so
/// much too late.
const PART: u32 = 5;
/// In its first moments a service is looked at so much more often than asked for.
const EAGER: u32 = 10;
/// The longest pause, unless a longer one is asked for.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Bytes of what a command printed that are told when it fails.
const TOLD_BYTES_MAX: usize = 200;

/// How one tells that a service is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// All of these ports accept connections.
    Ports(Vec<u16>),
    /// A request is answered with this status.
    Http {
        /// The port.
        port: u16,
        /// What the request names as its host.
        host: String,
        /// The path and query.
        path: String,
        /// The status.
        status: u16,
    },
    /// A command inside it succeeds.
    Run(Vec<String>),
    /// It has printed this.
    Log(String),
    /// Nothing tells: it is ready when it is started.
    Nothing,
}

impl Look {
    /// The ports that it takes for the service's own.
    pub fn ports(&self) -> Vec<u16> {
        match self {
            Self::Ports(ports) => ports.clone(),
            Self::Http { port, .. } => vec![*port],
            Self::Run(_) | Self::Log(_) | Self::Nothing => Vec::new(),
        }
    }

    /// What it looks at, in words.
    pub fn what(&self) -> String {
        match self {
            Self::Ports(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("tcp {}", ports.join(", "))
            }
            Self::Http { port, path, .. } => format!("http {port} {path}"),
            Self::Run(_) => "run".to_owned(),
            Self::Log(_) => "log".to_owned(),
            Self::Nothing => "started".to_owned(),
        }
    }
}

/// Who looks, and with what.
pub struct Looker<'l> {
    /// At which service.
    pub service: &'l Service<'l>,
    /// For connections.
    pub make: &'l MakeSocket<'l>,
    /// For commands inside.
    pub door: &'l Door,
    /// A command's go: its argument list is the look's.
    pub go: &'l Go,
    /// Whether it has printed what it is waited for.
    pub printed: watch::Receiver<bool>,
    /// Why it was not ready when it was looked at last.
    pub last: RefCell<String>,
}

impl Looker<'_> {
    /// Waits until the service is ready.
    pub async fn until_ready(&self) {
        let ready = &self.service.plan.ready;
        sleep(ready.after).await;
        if let Look::Log(text) = &self.service.look {
            self.last.replace(format!("it has not printed `{text}`"));
            let mut printed = self.printed.clone();
            if printed.wait_for(|printed| *printed).await.is_err() {
                std::future::pending::<()>().await;
            }
            return;
        }
        let began = Instant::now();
        while let Err(why) = self.once().await {
            self.last.replace(why);
            sleep(pause(began.elapsed(), ready.interval)).await;
        }
    }

    async fn once(&self) -> Result<(), String> {
        match &self.service.look {
            Look::Nothing | Look::Log(_) => Ok(()),
            Look::Ports(ports) => {
                for port in ports {
                    let accepted = accepts(self.make, *port).await;
                    accepted.map_err(|error| format!("port {port}: {}", plain(&error)))?;
                }
                Ok(())
            }
            Look::Http { port, host, path, status } => {
                match http_status(self.make, *port, host, path).await {
                    Ok(found) if found == *status => Ok(()),
                    Ok(found) => Err(format!("{path} on port {port} is answered with {found}, not {status}")),
                    Err(error) => Err(format!("port {port}: {}", plain(&error))),
                }
            }
            Look::Run(argv) => self.run(argv.first().map_or("", String::as_str)).await,
        }
    }

    /// Runs the command inside. What it prints is told when it does not succeed.
    async fn run(&self, program: &str) -> Result<(), String> {
        let told = |error: io::Error| error.to_string();
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let null = null.map_err(|errno| errno.to_string())?;
        let (ours, theirs) = output_pipe().map_err(told)?;
        let mut tail = Vec::new();
        let admitted = {
            let stdio = [null.as_fd(), theirs.as_fd(), theirs.as_fd()];
            let admitted = self.door.admit(self.go, stdio);
            tokio::pin!(admitted);
            tokio::select! {
                biased;
                admitted = &mut admitted => admitted,
                () = keep_tail(&ours, &mut tail) => admitted.await,
            }
        };
        drop(theirs);
        match admitted {
            Ok(Status::Exited(0)) => Ok(()),
            Ok(status) => {
                // What it said last may still be in the pipe.
                drain(&ours, &mut tail);
                let text = String::from_utf8_lossy(&tail);
                let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
                let said = if line.is_empty() { String::new() } else { format!(": {line}") };
                Err(match status {
                    Status::Exited(code) => format!("`{program}` ended with exit code {code}{said}"),
                    Status::Signaled(number) => format!("`{program}` was ended by signal {number}{said}"),
                })
            }
            Err(SandboxError::Exec { errno, .. }) => Err(format!("`{program}` cannot be executed: {errno}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Reads on, and keeps the last bytes; for as long as somebody can write.
async fn keep_tail(pipe: &AsyncFd<OwnedFd>, tail: &mut Vec<u8>) {
    let mut buffer = vec![0; 4096];
    loop {
        match next(Some(pipe), &mut buffer).await {
            0 => return,
            length => push(tail, buffer.get(..length).unwrap_or_default()),
        }
    }
}

fn drain(pipe: &AsyncFd<OwnedFd>, tail: &mut Vec<u8>) {
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = rustix::io::read(pipe.get_ref(), &mut buffer) {
        push(tail, buffer.get(..length).unwrap_or_default());
    }
}

fn push(tail: &mut Vec<u8>, data: &[u8]) {
    tail.extend_from_slice(data);
    let over = tail.len().saturating_sub(TOLD_BYTES_MAX);
    tail.drain(..over);
}

/// The pause before the next look, after the service has taken so long.
fn pause(elapsed: Duration, interval: Duration) -> Duration {
    (elapsed / PART).clamp(interval / EAGER, PAUSE_MAX.max(interval))
}

/// An error of a connection, without its number.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}

/// Watches for a text in what a service prints, across the borders of what is read at once.
#[derive(Debug)]
pub struct Ear {
    text: Vec<u8>,
    /// The end of what each stream has printed.
    ends: [Vec<u8>; 2],
    heard: watch::Sender<bool>,
}

impl Ear {
    /// `text`: not empty.
    pub fn new(text: &str, heard: watch::Sender<bool>) -> Self {
        Self { text: text.as_bytes().to_vec(), ends: [Vec::new(), Vec::new()], heard }
    }

    /// Takes what one of the two streams has printed.
    pub fn hear(&mut self, stream: usize, data: &[u8]) {
        let (Some(end), false) = (self.ends.get_mut(stream), *self.heard.borrow()) else { return };
        end.extend_from_slice(data);
        if memmem(end, &self.text) {
            self.heard.send_replace(true);
        }
        let keep = self.text.len().saturating_sub(1).min(end.len());
        end.drain(..end.len() - keep);
    }
}

fn memmem(data: &[u8], text: &[u8]) -> bool {
    let Some(first) = text.first() else { return true };
    let starts = data.iter().enumerate().filter(|(_, byte)| *byte == first);
    starts.into_iter().any(|(at, _)| data.get(at..at + text.len()) == Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_heard_across_borders_and_not_across_streams() {
        for (chunks, heard) in [
            (&[(0, "ready to")][..], false),
            (&[(0, "x ready to ac"), (0, "cept y")], true),
            (&[(0, "ready to ac"), (1, "cept")], false),
            (&[(1, "r"), (1, "eady to accep"), (1, "t")], true),
            (&[(0, "ready to ready to accept")], true),
        ] {
            let (sender, receiver) = watch::channel(false);
            let mut ear = Ear::new("ready to accept", sender);
            chunks.iter().for_each(|(stream, text)| ear.hear(*stream, text.as_bytes()));
            assert_eq!(*receiver.borrow(), heard, "{chunks:?}");
        }
    }

    #[test]
    fn looks_are_further_apart_the_longer_it_takes() {
        let interval = Duration::from_millis(200);
        let of = |millis| pause(Duration::from_millis(millis), interval).as_millis();
        assert_eq!([of(0), of(500), of(1000), of(5000), of(60_000)], [20, 100, 200, 1000, 2000]);
        assert_eq!(pause(Duration::from_secs(600), Duration::from_secs(7)), Duration::from_secs(7));
    }
}
