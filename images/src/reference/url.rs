//! URLs of images, which never show a password or a query when printed.

use std::fmt;

use super::ReferenceError;

/// A URL that never shows its password or its query when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageUrl(url::Url);

impl ImageUrl {
    /// Reads an absolute http or https URL.
    pub fn parse(text: &str) -> Result<ImageUrl, ReferenceError> {
        let mut url =
            url::Url::parse(text).map_err(|error| ReferenceError::Url { what: error.to_string() })?;
        // The parser skips further slashes and takes what follows for the host.
        let empty = text.split_once("://").is_none_or(|(_, rest)| rest.starts_with(['/', ':', '?', '#']));
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || empty {
            return Err(ReferenceError::Url { what: "expected http or https and a host".to_owned() });
        }
        url.set_fragment(None);
        Ok(ImageUrl(url))
    }

    pub(crate) fn url(&self) -> &url::Url {
        &self.0
    }

    /// Returns the URL without credentials, but with its query: what tells two downloads apart.
    pub(crate) fn identity(&self) -> String {
        let mut url = self.0.clone();
        // Both fail only for URLs without a host, and this one has one.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }
}

impl fmt::Display for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_url(&self.0, f)
    }
}

impl fmt::Debug for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_url(&self.0, f)
    }
}

/// Writes scheme, host, port and path; a query often carries a signature and is only hinted at.
fn show_url(url: &url::Url, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
    if let Some(port) = url.port() {
        write!(f, ":{port}")?;
    }
    f.write_str(url.path())?;
    if url.query().is_some() { f.write_str("?...") } else { Ok(()) }
}
