//! What the user wrote after `image:`, told apart by its form alone. No file and no network is asked.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `host`: the machine's own files.
    Host,
    /// `dir:PATH`: a directory, used as it is.
    Directory(PathBuf),
    /// A tarball in a file.
    Tarball(PathBuf),
    /// A tarball behind `http://` or `https://`.
    Url(ImageUrl),
}

/// A URL that never shows its password or its query when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageUrl(url::Url);

/// A text that names no root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// None of the known forms.
    #[error("{text:?} names no image that can be used: expected {FORMS}")]
    Unknown {
        /// The text as given.
        text: String,
    },
    /// It begins like a URL and is none.
    #[error("bad image URL: {what}")]
    Url {
        /// The parser's words; the URL itself may hold a password.
        what: String,
    },
}

const FORMS: &str =
    "\"host\", \"dir:PATH\", the path of a tarball (./rootfs.tar.zst) or its http or https URL";

/// Endings that make a bare word the path of a tarball.
const TAR_ENDINGS: [&str; 7] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz"];

impl Reference {
    /// Reads a reference; relative paths are taken from `base_dir`.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Reference, ReferenceError> {
        if text == "host" {
            return Ok(Reference::Host);
        }
        if let Some(path) = text.strip_prefix("dir:").filter(|path| !path.is_empty()) {
            return Ok(Reference::Directory(base_dir.join(path)));
        }
        if is_url(text) {
            return ImageUrl::parse(text).map(Reference::Url);
        }
        let is_path = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
        let is_tarball = !text.contains(':') && TAR_ENDINGS.iter().any(|ending| text.ends_with(ending));
        if is_path || is_tarball {
            return Ok(Reference::Tarball(base_dir.join(text)));
        }
        Err(ReferenceError::Unknown { text: text.to_owned() })
    }

    /// Reads what can only be a tarball: a URL, else a path of whatever name.
    pub fn parse_tarball(text: &str, base_dir: &Path) -> Result<Reference, ReferenceError> {
        match text {
            "" => Err(ReferenceError::Unknown { text: String::new() }),
            _ if is_url(text) => ImageUrl::parse(text).map(Reference::Url),
            _ => Ok(Reference::Tarball(base_dir.join(text))),
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Host => f.write_str("host"),
            Reference::Directory(path) => write!(f, "dir:{}", path.display()),
            Reference::Tarball(path) => write!(f, "{}", path.display()),
            Reference::Url(url) => url.fmt(f),
        }
    }
}

impl ImageUrl {
    /// Reads an absolute http or https URL.
    pub fn parse(text: &str) -> Result<ImageUrl, ReferenceError> {
        let mut url =
            url::Url::parse(text).map_err(|error| ReferenceError::Url { what: error.to_string() })?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text, Path::new("/base"))
    }

    #[test]
    fn forms() {
        let tarball = |path: &str| Ok(Reference::Tarball(path.into()));
        assert_eq!(parse("host"), Ok(Reference::Host));
        assert_eq!(parse("dir:rootfs"), Ok(Reference::Directory("/base/rootfs".into())));
        assert_eq!(parse("dir:/srv/rootfs"), Ok(Reference::Directory("/srv/rootfs".into())));
        assert_eq!(parse("./a"), tarball("/base/./a"));
        assert_eq!(parse("/a/b:c"), tarball("/a/b:c"));
        assert_eq!(parse("rootfs.tar.zst"), tarball("/base/rootfs.tar.zst"));
        assert_eq!(parse("sub/rootfs.tgz"), tarball("/base/sub/rootfs.tgz"));
        for text in [
            "",
            "dir:",
            "alpine:3.20",
            "alpine",
            "oci:./x",
            "local:x.tar",
            "ftp://h/x.tar",
            "registry.example/a.tar:1",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains("http or https URL"), "{text}: {error}");
        }
        assert!(parse("http://").is_err());
        assert_eq!(Reference::parse_tarball("host", Path::new("/base")), tarball("/base/host"));
        assert!(matches!(Reference::parse_tarball("http://h/x", Path::new("/")), Ok(Reference::Url(_))));
    }

    #[test]
    fn secrets_are_not_shown() {
        let Ok(Reference::Url(url)) = parse("https://user:secret@host.example:8443/a/b.tar?sig=secret#part")
        else {
            unreachable!("it is a URL");
        };
        assert_eq!(url.to_string(), "https://host.example:8443/a/b.tar?...");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(url.identity(), "https://host.example:8443/a/b.tar?sig=secret");
    }
}
