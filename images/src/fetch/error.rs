//! Why a download failed. URLs are shown without credentials and queries.

use std::path::PathBuf;
use std::time::Duration;

/// A download that failed for good.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client could not be made: usually no certificates on this machine.
    #[error("cannot prepare a connection to {url}: {}", chain(source))]
    Client {
        /// What was to be downloaded.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The certificates that the user named cannot be read.
    #[error("cannot read the certificates of {}: {what}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The registry asks for credentials in a way that is not known, or not safe.
    #[error("cannot log in to {url}: {what}")]
    Login {
        /// The registry, or where it sent us.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// No answer: no such host, refused, no TLS, reset, timed out.
    #[error("cannot download {url}: {}", chain(source))]
    Connection {
        /// What was to be downloaded.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The server answered with something other than the file.
    #[error("cannot download {url}: the server says {status}")]
    Status {
        /// What was to be downloaded.
        url: String,
        /// The status line's number and words.
        status: String,
        /// The number alone.
        code: u16,
    },
    /// A redirect that is not followed.
    #[error("cannot download {url}: {what}")]
    Redirect {
        /// What was to be downloaded.
        url: String,
        /// Which rule it breaks.
        what: String,
    },
    /// The connection ended before the file did.
    #[error("cannot download {url}: the connection broke off after {received} of {} bytes", total_text(*total))]
    BrokenOff {
        /// What was to be downloaded.
        url: String,
        /// Bytes that came.
        received: u64,
        /// Bytes that were promised, if any were.
        total: Option<u64>,
    },
    /// The server sends nothing, or next to nothing.
    #[error("cannot download {url}: {what}")]
    Stalled {
        /// What was to be downloaded.
        url: String,
        /// Which bound was passed.
        what: String,
    },
    /// The server contradicts itself.
    #[error("cannot download {url}: {what}")]
    Inconsistent {
        /// What was to be downloaded.
        url: String,
        /// Expected and found.
        what: String,
    },
    /// More bytes than allowed.
    #[error("cannot download {url}: it is larger than the limit of {max} bytes")]
    TooLarge {
        /// What was to be downloaded.
        url: String,
        /// The limit.
        max: u64,
    },
    /// The whole download took too long.
    #[error("cannot download {url}: not done after {} s, the limit for one download", limit.as_secs_f32())]
    Deadline {
        /// What was to be downloaded.
        url: String,
        /// The limit.
        limit: Duration,
    },
    /// Every try failed; the last one like this.
    #[error("{last} (after {tries} tries)")]
    Exhausted {
        /// Requests that were made.
        tries: u32,
        /// The last failure.
        #[source]
        last: Box<FetchError>,
    },
}

impl FetchError {
    /// Whether the same request may do better in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            FetchError::Status { code, .. } => matches!(code, 408 | 425 | 429 | 500..=599),
            FetchError::Connection { source, .. } => !is_certificate(source) && !self.is_plain(),
            FetchError::BrokenOff { .. } | FetchError::Stalled { .. } | FetchError::Inconsistent { .. } => {
                true
            }
            FetchError::Client { .. }
            | FetchError::Authority { .. }
            | FetchError::Login { .. }
            | FetchError::Redirect { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Deadline { .. }
            | FetchError::Exhausted { .. } => false,
        }
    }

    /// Returns the status that the server answered with, if that was the failure.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            FetchError::Status { code, .. } => Some(*code),
            FetchError::Exhausted { last, .. } => last.status(),
            FetchError::Client { .. }
            | FetchError::Authority { .. }
            | FetchError::Login { .. }
            | FetchError::Connection { .. }
            | FetchError::Redirect { .. }
            | FetchError::BrokenOff { .. }
            | FetchError::Stalled { .. }
            | FetchError::Inconsistent { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Deadline { .. } => None,
        }
    }

    /// Whether no connection came about, for another reason than a certificate: perhaps nobody speaks TLS there.
    pub(super) fn is_unconnected(&self) -> bool {
        matches!(self, FetchError::Connection { source, .. } if source.is_connect() && !is_certificate(source))
    }

    /// Whether the other side answered in plain text.
    fn is_plain(&self) -> bool {
        let FetchError::Connection { source, .. } = self else { return false };
        causes(source).any(|cause| cause.to_string().contains("InvalidContentType"))
    }

    /// Returns what the user can do, where something can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            FetchError::Authority { .. } => Some("name a file of certificates that begin with -----BEGIN CERTIFICATE-----".to_owned()),
            FetchError::Client { .. } => Some("install the package ca-certificates".to_owned()),
            FetchError::Connection { source, .. } if is_certificate(source) => Some(
                "the server's certificate is not trusted by this machine: add its authority to the system's certificates, or name it with --ca-file"
                    .to_owned(),
            ),
            FetchError::Connection { .. } if self.is_plain() => Some(
                "the server does not speak TLS; `insecure: true` for it in the configuration file allows plain http"
                    .to_owned(),
            ),
            FetchError::Connection { .. } => {
                Some("check the host name, the network and the proxy variables".to_owned())
            }
            FetchError::Status { code: 401 | 403 | 407, .. } => {
                Some("the server wants credentials, or a signed URL has run out".to_owned())
            }
            FetchError::Status { code: 404 | 410, .. } => Some("check the URL: the file is not there".to_owned()),
            FetchError::Redirect { .. } => Some("give the URL that the redirects lead to".to_owned()),
            FetchError::Exhausted { last, .. } => last.hint(),
            FetchError::Status { code: 429, .. } => Some(
                "the server limits how often it is asked: log in to it, or name a mirror".to_owned(),
            ),
            FetchError::Status { .. }
            | FetchError::Login { .. }
            | FetchError::BrokenOff { .. }
            | FetchError::Stalled { .. }
            | FetchError::Inconsistent { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Deadline { .. } => None,
        }
    }
}

/// Whether TLS failed for a reason that stays.
fn is_certificate(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        cause.to_string().contains("certificate") || cause.downcast_ref::<rustls::Error>().is_some()
    })
}

/// Returns the innermost words, which name the cause; the outer ones only say "error sending request".
fn chain(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

pub(super) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn total_text(total: Option<u64>) -> String {
    total.map_or_else(|| "an unknown number of".to_owned(), |total| total.to_string())
}
