//! The HTTP client: made only when something is downloaded, because loading certificates takes milliseconds.

use std::path::{Path, PathBuf};

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Url};

use super::error::{FetchError, causes};
use super::settings::FetchSettings;
use crate::reference::ImageUrl;

/// Bytes of a file of certificates; a whole system's bundle has some 250 KB.
const CERTIFICATES_BYTES_MAX: u64 = 4 << 20;

/// A redirect that breaks a rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefusedRedirect {
    #[error("more than {max} redirects")]
    TooMany { max: usize },
    #[error("a redirect to {scheme}, which is neither http nor https")]
    Scheme { scheme: String },
    #[error("a redirect from https to {scheme}, which would give up the encryption")]
    Downgrade { scheme: String },
}

/// Builds the client for one download.
///
/// `authority` is a file with certificates to trust besides the system's.
pub(super) fn client(
    url: &ImageUrl,
    settings: &FetchSettings,
    authority: Option<&Path>,
) -> Result<Client, FetchError> {
    // Once for the process; that another part of it was first is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut trusted = Vec::new();
    for path in settings.authorities.iter().map(PathBuf::as_path).chain(authority) {
        trusted.extend(certificates(path)?);
    }
    let built = builder(settings).tls_certs_merge(trusted.clone()).build();
    match built {
        // Without any certificate on this machine only http is possible, or what the given ones vouch for.
        Err(_) if url.url().scheme() == "http" || !trusted.is_empty() => {
            builder(settings).tls_certs_only(trusted).build()
        }
        built => built,
    }
    .map_err(|source| FetchError::Client { url: url.to_string(), source: source.without_url() })
}

/// Reads the certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate>, FetchError> {
    let failed = |what: String| FetchError::Authority { path: path.to_owned(), what };
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > CERTIFICATES_BYTES_MAX {
        return Err(failed(format!("it has more than {CERTIFICATES_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let list = Certificate::from_pem_bundle(&bytes).map_err(|error| failed(error.to_string()))?;
    if list.is_empty() {
        return Err(failed("it holds no certificate in PEM form".to_owned()));
    }
    Ok(list)
}

fn builder(settings: &FetchSettings) -> ClientBuilder {
    let max = settings.redirects_max;
    let builder = Client::builder()
        .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .referer(false)
        .redirect(Policy::custom(move |attempt| redirect(attempt, max)));
    if settings.proxy_from_environment { builder } else { builder.no_proxy() }
}

fn redirect(attempt: Attempt<'_>, max: usize) -> reqwest::redirect::Action {
    match refusal(attempt.previous(), attempt.url(), max) {
        Some(refused) => attempt.error(refused),
        None => attempt.follow(),
    }
}

/// Judges a redirect to `next` after the requests to `previous`, the oldest first.
fn refusal(previous: &[Url], next: &Url, max: usize) -> Option<RefusedRedirect> {
    if previous.len() > max {
        return Some(RefusedRedirect::TooMany { max });
    }
    if !matches!(next.scheme(), "http" | "https") {
        return Some(RefusedRedirect::Scheme { scheme: next.scheme().to_owned() });
    }
    let was_https = previous.last().is_some_and(|url| url.scheme() == "https");
    let downgrade = was_https && next.scheme() != "https";
    downgrade.then(|| RefusedRedirect::Downgrade { scheme: next.scheme().to_owned() })
}

/// Words an error of the client, its URL taken out.
pub(super) fn connection_error(url: &ImageUrl, error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let refused =
        causes(&error).find_map(|cause| cause.downcast_ref::<RefusedRedirect>().map(ToString::to_string));
    match refused {
        Some(what) => FetchError::Redirect { url: url.to_string(), what },
        None if error.is_redirect() => {
            FetchError::Redirect { url: url.to_string(), what: "a redirect that leads nowhere".to_owned() }
        }
        None => FetchError::Connection { url: url.to_string(), source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_few_and_never_leave_https() {
        let urls = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Url>>();
        let judge = |previous: &[&str], next: &str| {
            refusal(&urls(previous), &next.parse().unwrap(), 2).map(|refused| refused.to_string())
        };
        assert_eq!(judge(&["http://a/"], "http://b/"), None);
        assert_eq!(judge(&["http://a/"], "https://b/"), None);
        assert_eq!(judge(&["https://a/", "https://b/"], "https://c/"), None);
        assert!(judge(&["http://a/"], "ftp://a/").unwrap().contains("neither"));
        assert!(judge(&["https://a/"], "http://a/").unwrap().contains("from https to http"));
        assert!(judge(&["http://a/", "https://b/"], "http://c/").unwrap().contains("give up the encryption"));
        assert!(
            judge(&["http://a/", "http://b/", "http://c/"], "http://d/").unwrap().contains("more than 2")
        );
    }
}
