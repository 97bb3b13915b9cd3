//! A job's services before they run: what each is made of, what is left to its image, and what two of them cannot share.

use std::io;

use images::{ImageConfig, Rootfs};
use jobs::{Probe, PublishedPort, ServicePlan};
use thiserror::Error;

use super::error::RunError;
use super::room::user_of;
use super::users::{Accounts, StepUser};

mod company;
mod look;

pub use company::{Company, Fallen};
pub use look::{Ear, Look, Looker};

/// The signal that ends a service where neither job file nor image says.
const STOP_SIGNAL: u8 = 15;

/// A service with everything settled that its image has a say in.
#[derive(Debug)]
pub struct Service<'s> {
    /// What the job file says.
    pub plan: &'s ServicePlan,
    /// Its root filesystem.
    pub rootfs: &'s Rootfs,
    /// Who runs it.
    pub user: StepUser,
    /// What runs; not empty.
    pub argv: Vec<String>,
    /// How one tells that it is ready.
    pub look: Look,
    /// What asks it for its end.
    pub stop_signal: u8,
}

/// Services cannot be as they were asked for.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// Neither the job file nor the image says what runs.
    #[error("error[E258]: service `{name}` has nothing to run: its image has neither Entrypoint nor Cmd")]
    NothingToRun {
        /// Which.
        name: String,
    },
    /// Two have one port.
    #[error("error[E251]: services `{first}` and `{second}` both have the port {port}")]
    SamePort {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Which port.
        port: u16,
    },
    /// A port cannot be published.
    #[error("error[E259]: cannot publish port {} of service `{name}` on 127.0.0.1:{}: {source}", port.service, port.host)]
    Publish {
        /// Which service.
        name: String,
        /// Which port.
        port: PublishedPort,
        /// Why.
        source: io::Error,
    },
}

impl ServiceError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NothingToRun { name } => {
                format!("say it: services: {{{name}: {{image: ..., run: [program, argument]}}}}")
            }
            Self::SamePort { second, .. } => format!(
                "services share the job's network: let `{second}` listen elsewhere, and say so: ready: {{tcp: PORT}}"
            ),
            Self::Publish { port, .. } => {
                format!("choose another port of this machine: ports: [\"PORT:{}\"]", port.service)
            }
        }
    }

    /// Whether the job file asks for what cannot be, rather than this machine being in the way.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NothingToRun { .. } | Self::SamePort { .. } => true,
            Self::Publish { .. } => false,
        }
    }
}

/// Settles services with their root filesystems, which are in the same order.
///
/// # Errors
/// [`ServiceError`]; a user that an image does not have.
pub fn muster<'s>(plans: &'s [ServicePlan], roots: &'s [Rootfs]) -> Result<Vec<Service<'s>>, RunError> {
    let services = plans.iter().zip(roots).map(settle).collect::<Result<Vec<_>, _>>()?;
    let mut seen: Vec<(u16, &str)> = Vec::new();
    for service in &services {
        for port in service.look.ports() {
            let name = service.plan.name.as_str();
            if let Some((_, first)) = seen.iter().find(|(known, _)| *known == port) {
                let (first, second) = ((*first).to_owned(), name.to_owned());
                return Err(ServiceError::SamePort { first, second, port }.into());
            }
            seen.push((port, name));
        }
    }
    Ok(services)
}

fn settle<'s>((plan, rootfs): (&'s ServicePlan, &'s Rootfs)) -> Result<Service<'s>, RunError> {
    let config = &rootfs.config;
    let accounts = Accounts::read(&rootfs.layers);
    let user = user_of(plan.user.as_ref(), config.user.as_deref(), &accounts)?;
    let own = || config.entrypoint.iter().chain(&config.cmd).cloned().collect();
    let argv: Vec<String> = plan.command.clone().unwrap_or_else(own);
    if argv.first().is_none_or(String::is_empty) {
        return Err(ServiceError::NothingToRun { name: plan.name.clone() }.into());
    }
    let of_image = || config.stop_signal.as_deref().and_then(jobs::service::signal);
    let stop_signal = plan.stop_signal.or_else(of_image).unwrap_or(STOP_SIGNAL);
    let look = plan.ready.probe.as_ref().map_or_else(|| of_the_image(config), asked);
    Ok(Service { plan, rootfs, user, argv, look, stop_signal })
}

fn asked(probe: &Probe) -> Look {
    match probe {
        Probe::Tcp(port) => Look::Ports(vec![*port]),
        Probe::Http { port, host, path, status } => {
            Look::Http { port: *port, host: host.clone(), path: path.clone(), status: *status }
        }
        Probe::Run(argv) => Look::Run(argv.clone()),
        Probe::Log(text) => Look::Log(text.clone()),
    }
}

/// What an image says of its readiness: exposed ports, else the health check.
fn of_the_image(config: &ImageConfig) -> Look {
    let port = |text: &String| match text.split_once('/') {
        None | Some((_, "tcp")) => text.split('/').next()?.parse().ok().filter(|port| *port > 0),
        Some(_) => None,
    };
    let mut ports: Vec<u16> = config.exposed_ports.iter().filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    if !ports.is_empty() {
        return Look::Ports(ports);
    }
    let words = config.healthcheck.as_ref().map_or(&[][..], |check| &check.test);
    match words {
        [kind, text, ..] if kind == "CMD-SHELL" => {
            Look::Run(["/bin/sh", "-c", text].map(str::to_owned).to_vec())
        }
        [kind, argv @ ..] if kind == "CMD" && !argv.is_empty() => Look::Run(argv.to_vec()),
        _ => Look::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use images::Healthcheck;

    fn config(ports: &[&str], test: &[&str]) -> ImageConfig {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let healthcheck = Healthcheck {
            test: own(test),
            interval_ns: None,
            timeout_ns: None,
            start_period_ns: None,
            retries: None,
        };
        ImageConfig { exposed_ports: own(ports), healthcheck: Some(healthcheck), ..ImageConfig::default() }
    }

    #[test]
    fn an_image_tells_by_ports_then_by_its_health_check() {
        for (ports, test, expected) in [
            (&["80/tcp", "443", "53/udp", "80"][..], &["CMD", "x"][..], Look::Ports(vec![80, 443])),
            (&["53/udp"], &["CMD", "check", "-q"], Look::Run(vec!["check".into(), "-q".into()])),
            (&[], &["CMD-SHELL", "a && b"], Look::Run(vec!["/bin/sh".into(), "-c".into(), "a && b".into()])),
            (&[], &["NONE"], Look::Nothing),
            (&["nonsense/tcp", "0/tcp"], &[], Look::Nothing),
        ] {
            assert_eq!(of_the_image(&config(ports, test)), expected, "{ports:?} {test:?}");
        }
    }
}
