//! Every number of a download, with its reason.

use std::time::Duration;

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
    /// Never connect: what the store has must do.
    pub offline: bool,
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
            offline: false,
            lock_wait_max: Duration::from_secs(6 * 3600),
        }
    }
}
