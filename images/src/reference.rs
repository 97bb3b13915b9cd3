//! What the user wrote after `image:`, told apart by its form alone. No file and no network is asked.
//!
//! The job language has the same grammar in the crate `jobs`; a table that both test keeps the two equal.

mod name;
mod url;

use std::fmt;
use std::path::{Path, PathBuf};

pub use name::{DEFAULT_REGISTRY, NameError, RegistryName};
pub use url::ImageUrl;

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
    /// An image in a registry.
    Registry(RegistryName),
    /// `oci:PATH[:TAG]`: an image in an OCI layout, a directory or a tar of one.
    Layout {
        /// The directory or the tar.
        path: PathBuf,
        /// Its name in the layout's index; needed only where there are several.
        tag: Option<String>,
    },
    /// `archive:PATH`: what `docker save` writes.
    Archive(PathBuf),
    /// `local:NAME`: an image that was imported under this name.
    Local(LocalName),
}

/// The name of an imported image, with its tag. It cannot be built malformed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalName(String);

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
    /// It can only be the name of an image, and is malformed.
    #[error("{text:?} is no name of an image: {source}")]
    Name {
        /// The text as given.
        text: String,
        /// What is wrong.
        source: NameError,
    },
}

const FORMS: &str = "the name of an image (alpine:3.20), the path of a tarball (./rootfs.tar.zst) or its http or https URL, \
    \"dir:PATH\", \"oci:PATH[:TAG]\", \"archive:PATH\", \"local:NAME\" or \"host\"";

/// Endings that make a bare word the path of a tarball.
const TAR_ENDINGS: [&str; 7] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz"];

impl Reference {
    /// Reads a reference; relative paths are taken from `base_dir`.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Reference, ReferenceError> {
        let unknown = || ReferenceError::Unknown { text: text.to_owned() };
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err(unknown());
        }
        if text == "host" {
            return Ok(Reference::Host);
        }
        if is_url(text) {
            return ImageUrl::parse(text).map(Reference::Url);
        }
        if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            return Ok(Reference::Tarball(placed(base_dir, text)));
        }
        if let Some((scheme, rest)) = text.split_once(':')
            && let Some(reference) = with_scheme(scheme, rest, base_dir)
        {
            return reference.ok_or_else(unknown);
        }
        if text.starts_with('~') {
            return Err(unknown());
        }
        if !text.contains(':') && TAR_ENDINGS.iter().any(|ending| text.ends_with(ending)) {
            return Ok(Reference::Tarball(placed(base_dir, text)));
        }
        if text.is_empty() || text.contains("://") || text.contains(' ') {
            return Err(unknown());
        }
        let named = RegistryName::parse(text).map(Reference::Registry);
        named.map_err(|source| ReferenceError::Name { text: text.to_owned(), source })
    }

    /// Reads what can only be a tarball: a URL, else a path of whatever name.
    pub fn parse_tarball(text: &str, base_dir: &Path) -> Result<Reference, ReferenceError> {
        match text {
            "" => Err(ReferenceError::Unknown { text: String::new() }),
            _ if is_url(text) => ImageUrl::parse(text).map(Reference::Url),
            _ => Ok(Reference::Tarball(placed(base_dir, text))),
        }
    }
}

/// Places a path below the base. `.` and doubled slashes go, since errors show it; `..` stays, for what is before it may be
/// a symbolic link.
fn placed(base_dir: &Path, text: &str) -> PathBuf {
    base_dir.join(text).components().collect()
}

/// Reads the forms that begin with a word and a colon; the outer `None` means that the word is none of ours.
fn with_scheme(scheme: &str, rest: &str, base_dir: &Path) -> Option<Option<Reference>> {
    let path = |text: &str| (!text.is_empty()).then(|| placed(base_dir, text));
    match scheme {
        "dir" => Some(path(rest).map(Reference::Directory)),
        "archive" => Some(path(rest).map(Reference::Archive)),
        "oci" => Some(layout(rest, base_dir)),
        "local" => Some(LocalName::parse(rest).map(Reference::Local)),
        // Other tools' spellings, not names with a tag.
        "docker-archive" | "oci-archive" | "containers-storage" | "docker-daemon" | "file" => Some(None),
        _ => None,
    }
}

/// Reads `PATH[:TAG]`; what follows the last colon is a tag if it can be one.
fn layout(text: &str, base_dir: &Path) -> Option<Reference> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    };
    if path.is_empty() || tag.is_some_and(|tag| name::check_tag(tag).is_err()) {
        return None;
    }
    Some(Reference::Layout { path: placed(base_dir, path), tag: tag.map(str::to_owned) })
}

impl LocalName {
    /// Reads `NAME[:TAG]`: lower-case parts as in a registry, without a host.
    pub fn parse(text: &str) -> Option<LocalName> {
        let (name, tag) = match text.split_once(':') {
            Some((name, tag)) => (name, tag),
            None => (text, "latest"),
        };
        let fits = name::check_repository(name).is_ok() && name::check_tag(tag).is_ok();
        fits.then(|| LocalName(format!("{name}:{tag}")))
    }

    /// Returns name and tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| ["http", "https"].iter().any(|ours| scheme.eq_ignore_ascii_case(ours)))
}

/// A path so that it is read again as the same one: a slash ends a last name that has one of `special`, or a space at its
/// end.
fn shown(path: &Path, special: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let slash = name.ends_with(char::is_whitespace) || name.contains(|c| special.contains(c));
    format!("{}{}", path.display(), if slash { "/" } else { "" })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Host => f.write_str("host"),
            Reference::Directory(path) => write!(f, "dir:{}", shown(path, "")),
            Reference::Tarball(path) => f.write_str(&shown(path, "")),
            Reference::Url(url) => url.fmt(f),
            Reference::Registry(name) => name.fmt(f),
            // What follows a colon in the last name would be read as a tag.
            Reference::Layout { path, tag: None } => write!(f, "oci:{}", shown(path, ":")),
            Reference::Layout { path, tag: Some(tag) } => write!(f, "oci:{}:{tag}", path.display()),
            Reference::Archive(path) => write!(f, "archive:{}", shown(path, "")),
            Reference::Local(name) => write!(f, "local:{}", name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form that a line of the table names.
    fn form(reference: &Result<Reference, ReferenceError>) -> &'static str {
        match reference {
            Ok(Reference::Host) => "host",
            Ok(Reference::Directory(_)) => "directory",
            Ok(Reference::Tarball(_)) => "tarball",
            Ok(Reference::Url(_)) => "url",
            Ok(Reference::Registry(_)) => "registry",
            Ok(Reference::Layout { .. }) => "layout",
            Ok(Reference::Archive(_)) => "archive",
            Ok(Reference::Local(_)) => "local",
            Err(_) => "refused",
        }
    }

    #[test]
    fn forms_are_those_of_the_table() {
        let table = include_str!("../../fixtures/references.txt");
        let mut lines = 0;
        for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (expected, text) = line.split_once('|').unwrap();
            let parsed = Reference::parse(text, Path::new("/base"));
            assert_eq!(form(&parsed), expected, "{text}: {parsed:?}");
            lines += 1;
        }
        assert!(lines > 60, "{lines}");
    }

    #[test]
    fn paths_start_at_the_base() {
        let parse = |text: &str| Reference::parse(text, Path::new("/base")).unwrap();
        assert_eq!(parse("dir:rootfs"), Reference::Directory("/base/rootfs".into()));
        assert_eq!(parse("sub/rootfs.tgz"), Reference::Tarball("/base/sub/rootfs.tgz".into()));
        for (text, shown) in [
            ("./rootfs.tgz", "/base/rootfs.tgz"),
            ("dir:./a//./b/", "dir:/base/a/b"),
            ("dir:.", "dir:/base"),
            ("../up.tgz", "/base/../up.tgz"),
            ("oci:./a/../b:c", "oci:/base/a/../b:c"),
            ("oci:./a:b/", "oci:/base/a:b/"),
            ("archive:./a.tar", "archive:/base/a.tar"),
        ] {
            assert_eq!(parse(text).to_string(), shown);
        }
        assert_eq!(parse("/a/b:c"), Reference::Tarball("/a/b:c".into()));
        let layout = |path: &str, tag: Option<&str>| Reference::Layout {
            path: path.into(),
            tag: tag.map(str::to_owned),
        };
        assert_eq!(parse("oci:a/b:c"), layout("/base/a/b", Some("c")));
        assert_eq!(parse("oci:/a:b/c"), layout("/a:b/c", None));
        assert_eq!(parse("archive:a.tar"), Reference::Archive("/base/a.tar".into()));
        assert_eq!(parse("local:a/b").to_string(), "local:a/b:latest");
        assert_eq!(
            Reference::parse_tarball("host", Path::new("/base")),
            Ok(Reference::Tarball("/base/host".into()))
        );
        assert!(matches!(Reference::parse_tarball("http://h/x", Path::new("/")), Ok(Reference::Url(_))));
    }

    #[test]
    fn secrets_are_not_shown() {
        let parsed =
            Reference::parse("https://user:secret@host.example:8443/a/b.tar?sig=secret#part", Path::new("/"));
        let Ok(Reference::Url(url)) = parsed else { unreachable!("it is a URL") };
        assert_eq!(url.to_string(), "https://host.example:8443/a/b.tar?...");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(url.identity(), "https://host.example:8443/a/b.tar?sig=secret");
    }
}
