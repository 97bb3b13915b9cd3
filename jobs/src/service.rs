//! Services: what runs beside all steps of a job, and how one tells that it is ready. Values only.

use std::time::Duration;

use serde::Serialize;

use crate::expression::Template;
use crate::image::ImageSpec;
use crate::mount::Mount;
use crate::plan::{Limits, StepSecret, map, millis};
use crate::user::User;

/// How long a service has to get ready.
pub const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause between two looks at a service.
pub const DEFAULT_READY_INTERVAL: Duration = Duration::from_millis(200);
/// The status that an HTTP answer has when all is well.
pub const DEFAULT_HTTP_STATUS: u16 = 200;
/// Size of /dev/shm in a service: Docker's.
pub const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServicePlan {
    /// Its name, by which steps and services reach it: `[a-z][a-z0-9_-]{0,62}`, unique in the job.
    pub name: String,
    /// Where its root filesystem comes from.
    pub image: ImageSpec,
    /// Its variables, each name once; `None` unsets one of the image.
    #[serde(serialize_with = "map")]
    pub env: Vec<(String, Option<Template>)>,
    /// What runs; `None` is the image's Entrypoint and Cmd.
    pub command: Option<Vec<String>>,
    /// Who runs it; `None` is the image's user, else root.
    pub user: Option<User>,
    /// Host paths shown inside; no two have the same path inside.
    pub mounts: Vec<Mount>,
    /// What it may use; disks and bandwidth are not among it.
    pub limits: Limits,
    /// The secrets that it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<StepSecret>,
    /// How one tells that it is ready.
    pub ready: Ready,
    /// What asks it for its end, a number of signal(7); `None` is the image's, else SIGTERM.
    pub stop_signal: Option<u8>,
    /// Size of /dev/shm in bytes.
    pub shm_bytes: u64,
    /// The job goes on without it.
    pub optional: bool,
    /// Services that must be ready first.
    pub needs: Vec<String>,
    /// Its ports that the caller's machine can reach.
    pub ports: Vec<PublishedPort>,
}

/// How one tells that a service is ready.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ready {
    /// What is looked at; `None` leaves it to the image: its exposed ports, else its health check.
    pub probe: Option<Probe>,
    /// Longest time from its start until it is ready.
    #[serde(rename = "timeout_ms", serialize_with = "millis")]
    pub timeout: Duration,
    /// The pause between two looks.
    #[serde(rename = "interval_ms", serialize_with = "millis")]
    pub interval: Duration,
    /// The pause before the first look.
    #[serde(rename = "after_ms", serialize_with = "millis")]
    pub after: Duration,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// It accepts connections on this port.
    Tcp(u16),
    /// It answers a request.
    Http {
        /// The port.
        port: u16,
        /// What the request names as its host, with the port.
        host: String,
        /// The path and query.
        path: String,
        /// The status of the answer.
        status: u16,
    },
    /// A command inside it succeeds.
    Run(Vec<String>),
    /// It has printed this.
    Log(String),
}

/// A port of a service that the caller's machine can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PublishedPort {
    /// On 127.0.0.1 of the caller's machine.
    pub host: u16,
    /// In the job's network.
    pub service: u16,
}

impl std::str::FromStr for PublishedPort {
    type Err = ();

    /// Reads `HOST:SERVICE`, or one number for both.
    fn from_str(text: &str) -> Result<PublishedPort, ()> {
        let (host, service) = text.split_once(':').unwrap_or((text, text));
        Ok(PublishedPort { host: port(host).ok_or(())?, service: port(service).ok_or(())? })
    }
}

/// Reads a port: digits only, not 0.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Why a URL is not one that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Not `http://`.
    #[error("it does not begin with `http://`")]
    Scheme,
    /// Neither this job's loopback nor the service.
    #[error("its host is neither `localhost` nor the service's name")]
    Host,
    /// No port.
    #[error("its port is not one of 1 to 65535")]
    Port,
    /// Spaces, control characters, a fragment.
    #[error("its path has characters that no request can have")]
    Path,
}

/// Reads the URL of a service's readiness. Returns the port, the host with its port, and the path.
pub(crate) fn parse_url(url: &str, service: &str) -> Result<(u16, String, String), UrlFault> {
    let rest = url.strip_prefix("http://").ok_or(UrlFault::Scheme)?;
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
        Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
        None => (rest, "/".to_owned()),
    };
    let (host, number) = match authority.rsplit_once(':') {
        Some((host, number)) if !number.ends_with(']') => (host, port(number).ok_or(UrlFault::Port)?),
        _ => (authority, 80),
    };
    if ![service, "localhost", "127.0.0.1", "[::1]"].contains(&host) {
        return Err(UrlFault::Host);
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(UrlFault::Path);
    }
    Ok((number, authority.to_owned(), path))
}

/// The number of a signal by its name, with `SIG` or without, or by its number; as images write it (docker's STOPSIGNAL).
pub fn signal(text: &str) -> Option<u8> {
    /// Those that ask a process for its end, or that servers give a meaning to; the same on every Linux but the last two's MIPS.
    const SIGNALS: [(&str, u8); 9] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("ALRM", 14),
        ("TERM", 15),
        ("WINCH", 28),
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    // Real-time signals, as systemd in an image has it: SIGRTMIN is 34 for programs.
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let more = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<u8>().ok()? };
        return 34_u8.checked_add(more).filter(|number| *number <= 64);
    }
    text.parse().ok().filter(|number| (1..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_of_the_jobs_own_network() {
        let read = |url: &str| parse_url(url, "web");
        let ok = |port, host: &str, path: &str| Ok((port, host.to_owned(), path.to_owned()));
        for (url, expected) in [
            ("http://localhost:8080/health?x=1", ok(8080, "localhost:8080", "/health?x=1")),
            ("http://web", ok(80, "web", "/")),
            ("http://127.0.0.1:1?q", ok(1, "127.0.0.1:1", "/?q")),
            ("http://[::1]:81/", ok(81, "[::1]:81", "/")),
            ("http://[::1]", ok(80, "[::1]", "/")),
            ("https://localhost/", Err(UrlFault::Scheme)),
            ("http://example.org/", Err(UrlFault::Host)),
            ("http://user@web/", Err(UrlFault::Host)),
            ("http://web:0/", Err(UrlFault::Port)),
            ("http://web:99999", Err(UrlFault::Port)),
            ("http://web:+1", Err(UrlFault::Port)),
            ("http://web/a b", Err(UrlFault::Path)),
            ("http://web/\r\nX: y", Err(UrlFault::Path)),
        ] {
            assert_eq!(read(url), expected, "{url}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("SIGINT", Some(2)),
            ("quit", Some(3)),
            ("15", Some(15)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("RTMIN+31", None),
            ("SIGNOTHING", None),
            ("0", None),
            ("65", None),
            ("", None),
        ] {
            assert_eq!(signal(text), number, "{text}");
        }
    }

    #[test]
    fn ports_are_one_number_or_two() {
        let pair = |host, service| Ok(PublishedPort { host, service });
        for (text, expected) in [
            ("8080:80", pair(8080, 80)),
            ("80", pair(80, 80)),
            ("0:80", Err(())),
            ("80:", Err(())),
            ("127.0.0.1:80:80", Err(())),
            ("+1:1", Err(())),
            ("70000:1", Err(())),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }
}
