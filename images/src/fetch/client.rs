//! The HTTP client: made only when something is downloaded, because loading certificates takes milliseconds.

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Url};

use super::error::{FetchError, causes};
use super::settings::FetchSettings;
use crate::reference::ImageUrl;

/// A redirect that breaks a rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefusedRedirect {
    #[error("more than {max} redirects")]
    TooMany { max: usize },
    #[error("a redirect from https to {scheme}, which would give up the encryption")]
    Downgrade { scheme: String },
}

/// Builds the client for one download.
pub(super) fn client(url: &ImageUrl, settings: &FetchSettings) -> Result<Client, FetchError> {
    // Once for the process; that another part of it was first is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let built = builder(settings).build();
    match built {
        // Without any certificate on this machine https is impossible, http is not.
        Err(_) if url.url().scheme() == "http" => builder(settings).tls_certs_only([]).build(),
        built => built,
    }
    .map_err(|source| FetchError::Client { url: url.to_string(), source: source.without_url() })
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
        assert!(judge(&["https://a/"], "http://a/").unwrap().contains("from https to http"));
        assert!(judge(&["http://a/", "https://b/"], "http://c/").unwrap().contains("give up the encryption"));
        assert!(
            judge(&["http://a/", "http://b/", "http://c/"], "http://d/").unwrap().contains("more than 2")
        );
    }
}
