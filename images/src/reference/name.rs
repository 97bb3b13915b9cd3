//! Names of images in registries: `alpine:3.20`, `ghcr.io/o/i:tag@sha256:...`, as docker reads them.
//!
//! The grammar is that of the "distribution" project's reference package; short names belong to Docker Hub and nothing else
//! is searched.

use std::fmt;

use crate::digest::Digest;

/// The registry of names that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Where official images lie in it.
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// Bytes of a repository's name, as registries limit it.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Bytes of a registry's host name, as DNS limits it, and of its port.
const HOST_BYTES_MAX: usize = 253 + 6;
/// Characters of a tag.
const TAG_BYTES_MAX: usize = 128;

/// An image in a registry. It cannot be built malformed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or nothing but a tag.
    #[error("the repository's name is missing")]
    Empty,
    /// A host name that cannot be one.
    #[error("the registry's host name is malformed")]
    Host,
    /// Upper-case letters.
    #[error("the repository's name must be lower-case")]
    UpperCase,
    /// Anything else about the repository.
    #[error(
        "the repository's name may have lower-case letters, digits and single separators (. _ __ -) between them"
    )]
    Repository,
    /// Longer than registries take.
    #[error("the name is longer than {REPOSITORY_BYTES_MAX} bytes")]
    TooLong,
    /// A tag that cannot be one.
    #[error(
        "a tag has at most {TAG_BYTES_MAX} letters, digits, `_`, `.` and `-`, and begins with none of the last two"
    )]
    Tag,
    /// A digest that cannot be one.
    #[error("a digest is `sha256:` and 64 lower-case hexadecimal digits")]
    Digest,
    /// 64 hexadecimal digits, which docker takes for an id.
    #[error("64 hexadecimal digits are an id, not a name")]
    Id,
}

impl RegistryName {
    /// Reads a name. Nothing is looked up.
    pub fn parse(text: &str) -> Result<RegistryName, NameError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (registry, path) = split_registry(name);
        let registry = match registry {
            None | Some("index.docker.io") => DEFAULT_REGISTRY,
            Some(host) => check_host(host)?,
        };
        check_repository(path)?;
        if is_id(text) {
            return Err(NameError::Id);
        }
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("{DEFAULT_NAMESPACE}{path}") } else { path.to_owned() };
        // What stands before a short name counts as well.
        if repository.len() > REPOSITORY_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        Ok(RegistryName { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }

    /// Returns host and port of the registry, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository below the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag to ask for, `latest` if none is named; `None` when the digest alone decides.
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some(DEFAULT_TAG),
            (None, Some(_)) => None,
        }
    }

    /// Returns the digest of the manifest that is asked for, if one was named.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the name without tag and digest: `docker.io/library/alpine`.
    pub fn without_tag(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// Splits a tag off; a colon before a slash belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// Splits the registry off: the first part, if it looks like a host and more follows.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn check_host(host: &str) -> Result<&str, NameError> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']').ok_or(NameError::Host)?;
            let is_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
            let port =
                if behind.is_empty() { None } else { Some(behind.strip_prefix(':').ok_or(NameError::Host)?) };
            return if is_v6 && port.is_none_or(is_port) { Ok(host) } else { Err(NameError::Host) };
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    let fits = host.len() <= HOST_BYTES_MAX && name.split('.').all(is_label) && port.is_none_or(is_port);
    if fits { Ok(host) } else { Err(NameError::Host) }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

pub(super) fn check_repository(path: &str) -> Result<(), NameError> {
    if path.is_empty() {
        return Err(NameError::Empty);
    }
    if path.len() > REPOSITORY_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(NameError::UpperCase);
    }
    if path.split('/').all(is_component) { Ok(()) } else { Err(NameError::Repository) }
}

/// Letters and digits with single separators between them: `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let mut separators = text.split(is_word).filter(|separator| !separator.is_empty());
    let fits =
        |separator: &str| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
    text.starts_with(is_word) && text.ends_with(is_word) && separators.all(fits)
}

pub(super) fn check_tag(tag: &str) -> Result<(), NameError> {
    let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && tag.len() <= TAG_BYTES_MAX { Ok(()) } else { Err(NameError::Tag) }
}

fn parse_digest(text: &str) -> Result<Digest, NameError> {
    if !text.starts_with("sha256:") {
        return Err(NameError::Digest);
    }
    text.parse().map_err(|_| NameError::Digest)
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("alpine:3.20", "docker.io/library/alpine:3.20".to_owned()),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            (&format!("ghcr.io/o/i:t@{digest}"), format!("ghcr.io/o/i:t@{digest}")),
            (&format!("ghcr.io/o/i@{digest}"), format!("ghcr.io/o/i@{digest}")),
        ] {
            assert_eq!(RegistryName::parse(text).unwrap().to_string(), whole, "{text}");
        }
        assert_eq!(RegistryName::parse(&format!("a@{digest}")).unwrap().tag(), None);
        // `library/` counts as well: what is shown is read again.
        let longest = REPOSITORY_BYTES_MAX - DEFAULT_NAMESPACE.len();
        let shown = RegistryName::parse(&"a".repeat(longest)).unwrap().to_string();
        assert_eq!(RegistryName::parse(&shown).unwrap().to_string(), shown);
        assert_eq!(RegistryName::parse(&"a".repeat(longest + 1)), Err(NameError::TooLong));
    }
}
