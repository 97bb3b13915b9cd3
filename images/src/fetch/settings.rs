//! Every number of a download, with its reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::digest::Digest;

const GIB: u64 = 1 << 30;

/// How downloads behave. The defaults are for real networks; tests set smaller ones.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// To connect, TLS included.
    pub connect_timeout: Duration,
    /// From the request to the end of the response's headers.
    pub headers_timeout: Duration,
    /// The span over which the rate is measured; only time spent waiting for the network counts.
    pub stall_window: Duration,
    /// The least rate over that span, in bytes per second.
    pub rate_bytes_per_second_min: u64,
    /// For one download with all its tries.
    pub total_timeout: Duration,
    /// Requests for one download, redirects not counted.
    pub tries_max: u32,
    /// The pause after the first failure; it doubles with each.
    pub backoff_first: Duration,
    /// The longest pause of our own choosing.
    pub backoff_max: Duration,
    /// The longest pause that a server may ask for with `Retry-After`.
    pub retry_after_max: Duration,
    /// Redirects of one request.
    pub redirects_max: usize,
    /// Compressed bytes of one download.
    pub bytes_max: u64,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count.
    pub proxy_from_environment: bool,
    /// When a source is asked although the store has what it was last time.
    pub refresh: Refresh,
    /// What names in registries have meant since these settings were made: clones share it, so that a run asks once.
    pub resolved: Resolved,
    /// Never connect: what the store has must do.
    pub offline: bool,
    /// Files with certificates to trust besides the system's.
    pub authorities: Vec<PathBuf>,
    /// What is known of single registries, by host and port as references name them.
    pub registries: BTreeMap<String, RegistrySettings>,
    /// Who knows user names and passwords.
    pub credentials: Arc<dyn Credentials>,
    /// Layers of one image that are pulled at once.
    pub layers_at_once: usize,
    /// How long to wait for another run that pulls the same.
    pub lock_wait_max: Duration,
}

impl Default for FetchSettings {
    fn default() -> FetchSettings {
        FetchSettings {
            connect_timeout: Duration::from_secs(10),
            headers_timeout: Duration::from_secs(30),
            stall_window: Duration::from_secs(30),
            rate_bytes_per_second_min: 1024,
            total_timeout: Duration::from_secs(6 * 3600),
            tries_max: 5,
            backoff_first: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(120),
            redirects_max: 10,
            bytes_max: 64 * GIB,
            proxy_from_environment: true,
            refresh: Refresh::Default,
            resolved: Resolved::default(),
            offline: false,
            authorities: Vec::new(),
            registries: BTreeMap::new(),
            credentials: Arc::new(Anonymous),
            // Docker's number. More than a few share one line anyway.
            layers_at_once: 3,
            lock_wait_max: Duration::from_secs(6 * 3600),
        }
    }
}

/// When a source is asked although the store has what it was last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refresh {
    /// URLs each time, which costs one small request when nothing has changed; names in registries never.
    #[default]
    Default,
    /// Never: only what is missing is fetched.
    Missing,
    /// Each time.
    Always,
}

/// Names in registries with the manifests that they were found to mean.
#[derive(Debug, Clone, Default)]
pub struct Resolved(Arc<Mutex<BTreeMap<String, Digest>>>);

impl Resolved {
    pub(crate) fn get(&self, key: &str) -> Option<Digest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    pub(crate) fn put(&self, key: &str, digest: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), digest);
    }
}

/// What is known of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Base URLs that are asked first, in this order.
    pub mirrors: Vec<crate::reference::ImageUrl>,
    /// Plain http instead of https: `Some(false)` refuses it even on this machine.
    pub insecure: Option<bool>,
    /// A file with certificates to trust for this registry.
    pub authority: Option<PathBuf>,
}

/// Who a registry takes us for.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that stands for a login and is exchanged for short-lived ones.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Knows user names and passwords. Asked only when a registry wants some; may block.
pub trait Credentials: fmt::Debug + Send + Sync {
    /// Returns what is to be shown to this registry; `None` stays anonymous. Errors are shown to the user and must not
    /// contain secrets.
    fn find(&self, registry: &str) -> Result<Option<Credential>, String>;
}

/// Knows none.
#[derive(Debug, Clone, Copy)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn find(&self, _: &str) -> Result<Option<Credential>, String> {
        Ok(None)
    }
}
