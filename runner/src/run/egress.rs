//! A job's way to the world as the keeper sees it: what the worker is started with, what it tells, how it ends.

use std::cell::Cell;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use jobs::{AllowedHost, HostPattern, JobPlan, Network};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::errands;
use crate::cgroup::{Cgroup, CgroupError, CgroupLimits, Hierarchy, Limit, RunCgroup};
use crate::network::control::{self, Order, Told};
use crate::network::ledger::Sheet;
use crate::network::{Addresses, Policy, Rule, Settings, Target, WorkerFilterError, resolvers};
use crate::sandbox::ids::Identity;
use crate::sandbox::wire;
use crate::sandbox::zygote::Zygote;
use crate::sys::process::{self, Status, Who};
use crate::sys::watch;

/// Memory of the worker and of the kernel's buffers for its sockets, where it can be limited: 1,024 busy connections fit.
const MEMORY_BYTES: u64 = 256 << 20;
/// How long the worker may take to tell a step's connections: it answers between two packets.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// How long the worker may take to end: it lets the last bytes out for 3 s.
const END_PATIENCE: Duration = Duration::from_secs(4);
/// Nobody's id within a range of 65,536: whom the worker becomes.
const NOBODY: u32 = 65_534;

/// The job's network cannot be had, or is gone.
#[derive(Debug, Error)]
pub enum EgressError {
    /// Every network that a job could have is in use here.
    #[error("cannot choose addresses for the job's network: this machine's routes cover all private ones")]
    Addresses,
    /// Nobody counts what passes by the machine's own network.
    #[error(
        "cannot keep `limits.net` with `network: host`: nobody stands between the steps and the machine's network"
    )]
    NoCap,
    /// The filter.
    #[error(transparent)]
    Filter(#[from] WorkerFilterError),
    /// The process.
    #[error("cannot start the network's process: {0}")]
    Start(#[source] Errno),
    /// Its descriptors.
    #[error("cannot watch the network's process: {0}")]
    Watch(#[from] io::Error),
    /// The worker says so.
    #[error("cannot {what}: {errno}")]
    Failed {
        /// Fits after "cannot".
        what: String,
        /// Why.
        errno: Errno,
    },
    /// It ended while steps needed it.
    #[error("the network's process ended ({how}): steps cannot reach anything, and the job cannot go on")]
    Lost {
        /// How.
        how: String,
    },
}

impl EgressError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoCap => Some("use `network: full`, or leave the limit out"),
            Self::Addresses => Some("`network: host` or `none` needs no addresses"),
            Self::Lost { .. } => Some("was it killed from outside, or for memory? `dmesg` may tell"),
            Self::Filter(_) | Self::Start(_) | Self::Watch(_) | Self::Failed { .. } => None,
        }
    }
}

/// What is known before anything is started.
#[derive(Debug)]
pub struct Outlook {
    /// The job's addresses.
    pub addresses: Addresses,
    /// This machine's resolvers.
    resolvers: Vec<IpAddr>,
    /// What the job's resolv.conf says.
    pub resolv_conf: String,
}

impl Outlook {
    /// Looks at this machine. `None`: the plan wants no network of its own.
    ///
    /// # Errors
    /// [`EgressError::Addresses`], [`EgressError::NoCap`].
    pub fn of(plan: &JobPlan) -> Result<Option<Self>, EgressError> {
        let is_capped = plan.limits.net_receive_bytes.or(plan.limits.net_send_bytes).is_some();
        match plan.network {
            Network::Host if is_capped => return Err(EgressError::NoCap),
            Network::None | Network::Services | Network::Host => return Ok(None),
            Network::Full | Network::Rules(_) => {}
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let host = read("/etc/resolv.conf");
        let resolvers = resolvers(&host);
        let (routes, routes_v6) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
        let chosen = Addresses::choose(&routes, &routes_v6, &resolvers);
        let addresses = chosen.ok_or(EgressError::Addresses)?;
        let resolv_conf = resolv_conf(&host, &addresses);
        Ok(Some(Self { addresses, resolvers, resolv_conf }))
    }
}

/// One resolver, ours; where to look for short names stays as it is here.
fn resolv_conf(host: &str, addresses: &Addresses) -> String {
    let mut text = format!("nameserver {}\n", addresses.resolver());
    for line in host.lines().map(str::trim) {
        if ["search ", "domain ", "options "].iter().any(|start| line.starts_with(start)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn rule(allowed: &AllowedHost) -> Rule {
    let target = match &allowed.host {
        HostPattern::Name(name) => Target::Name(name.clone()),
        HostPattern::Below(name) => Target::Below(format!(".{name}")),
        HostPattern::Address(address) => Target::Address(*address),
    };
    Rule { target, port: allowed.port }
}

/// The worker at work. Dropping it ends it, and the job's way out with it.
#[derive(Debug)]
pub struct Egress {
    socket: AsyncFd<OwnedFd>,
    pidfd: AsyncFd<OwnedFd>,
    cgroup: Option<Cgroup>,
    ended: Cell<bool>,
    /// One asks at a time: an answer has many parts.
    asking: Mutex<()>,
    /// Whether the user wants a record of where steps went.
    pub record: bool,
}

impl Egress {
    /// Starts the worker for a plan. `gate`: what the stage gave.
    ///
    /// # Errors
    /// [`RunError`]'s parts: the filter, the cgroup, the process.
    pub fn start(
        zygote: &Zygote,
        plan: &JobPlan,
        outlook: &Outlook,
        identity: Identity,
        gate: Vec<OwnedFd>,
        cgroup: Cgroup,
    ) -> Result<Self, EgressError> {
        let (allow, record) = match &plan.network {
            Network::Rules(rules) => {
                (rules.allow.as_ref().map(|list| list.iter().map(rule).collect()), rules.record)
            }
            Network::Full | Network::None | Network::Services | Network::Host => (None, true),
        };
        let entry = cgroup.entry().map_err(|_| EgressError::Start(Errno::MFILE))?;
        let settings = Settings {
            addresses: outlook.addresses,
            policy: Policy { allow },
            resolvers: outlook.resolvers.clone(),
            receive_rate: plan.limits.net_receive_bytes,
            send_rate: plan.limits.net_send_bytes,
            filter: crate::network::filter()?,
            ids: match identity {
                Identity::Root { base } => Some(base + NOBODY),
                Identity::Subids { .. } => Some(NOBODY),
                Identity::Single => None,
            },
            listeners: gate.len().saturating_sub(2),
        };
        let (ours, theirs) = wire::pair().map_err(EgressError::Start)?;
        let mut fds = gate;
        fds.extend(entry.tasks);
        let into = entry.into.as_ref().map(AsFd::as_fd);
        let pidfd = errands::start_network(zygote, settings, theirs.as_fd(), into, &fds)
            .map_err(EgressError::Start)?;
        let (socket, pidfd) = (watch::readable(ours)?, watch::readable(pidfd)?);
        Ok(Self {
            socket,
            pidfd,
            cgroup: Some(cgroup),
            ended: Cell::new(false),
            asking: Mutex::default(),
            record,
        })
    }

    /// Waits until the worker has ended, which it should not while steps run.
    pub async fn lost(&self) {
        let _readable = self.pidfd.readable().await;
    }

    /// Why it ended.
    pub fn why(&self) -> EgressError {
        while let Ok(told) = control::hear(self.socket.as_fd()) {
            if let Told::Failed { what, errno } = told {
                return EgressError::Failed { what, errno: Errno::from_raw_os_error(errno) };
            }
        }
        let how = match self.reap() {
            Some(Status::Exited(code)) => format!("exit code {code}"),
            Some(Status::Signaled(signal)) => format!("signal {signal}"),
            None => "it is gone".to_owned(),
        };
        EgressError::Lost { how }
    }

    /// Where the job went since the last time.
    ///
    /// # Errors
    /// [`EgressError::Lost`].
    pub async fn report(&self) -> Result<Sheet, EgressError> {
        let _others = self.asking.lock().await;
        match timeout(REPORT_PATIENCE, self.sheet()).await {
            Ok(Ok(sheet)) => Ok(sheet),
            Ok(Err(_)) => Err(self.why()),
            Err(_) => Err(EgressError::Lost { how: "it does not answer".into() }),
        }
    }

    async fn sheet(&self) -> Result<Sheet, Errno> {
        control::order(self.socket.as_fd(), Order::Report)?;
        let mut sheet = Sheet::default();
        loop {
            let mut guard = self.socket.readable().await.map_err(|_| Errno::PIPE)?;
            match control::hear(self.socket.as_fd()) {
                Ok(Told::Line(line)) => sheet.lines.push(*line),
                Ok(Told::Sums { dropped, sent, received }) => {
                    (sheet.dropped, sheet.sent, sheet.received) = (dropped, sent, received);
                    return Ok(sheet);
                }
                Ok(Told::Failed { errno, .. }) => return Err(Errno::from_raw_os_error(errno)),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Lets the job's last bytes out, ends the worker and removes its cgroup.
    ///
    /// # Errors
    /// The cgroup's.
    pub async fn close(mut self) -> Result<(), CgroupError> {
        if control::order(self.socket.as_fd(), Order::Drain).is_ok() {
            let _patience = timeout(END_PATIENCE, self.lost()).await;
        }
        self.end();
        self.cgroup.take().map_or(Ok(()), Cgroup::remove)
    }

    fn end(&self) {
        if !self.ended.get() {
            let _gone = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
            self.reap();
        }
    }

    fn reap(&self) -> Option<Status> {
        if self.ended.replace(true) {
            return None;
        }
        let reaped = process::reap(Who::Pidfd(self.pidfd.get_ref().as_fd()), true).ok().flatten();
        reaped.map(|(_, status, _)| status)
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.end();
    }
}

/// The worker's cgroup: what it may use besides the steps, who have their own.
///
/// # Errors
/// Those of making it.
pub fn cgroup(run: &RunCgroup, hierarchy: &Hierarchy, cpus: Option<f64>) -> Result<Cgroup, CgroupError> {
    let memory = hierarchy.supports(Limit::Memory).is_ok().then_some(MEMORY_BYTES);
    run.create("network", &CgroupLimits { cpus, memory_bytes: memory, ..CgroupLimits::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_there_is_one_resolver() {
        let addresses = Addresses { v4: [10, 0, 2, 0].into(), v6: None };
        let text = resolv_conf("nameserver 127.0.0.53\nsearch example.org\noptions edns0\n", &addresses);
        assert_eq!(text, "nameserver 10.0.2.3\nsearch example.org\noptions edns0\n");
    }
}
