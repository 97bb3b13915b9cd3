//! Whether a text is the name of an image in a registry, as docker reads them: `ghcr.io/o/i:tag@sha256:...`.

/// Bytes of a repository's name, as registries limit it.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Bytes of a registry's host name, as DNS limits it, and of its port.
const HOST_BYTES_MAX: usize = 253 + 6;
/// Docker Hub, the registry of names that name none, as it is called.
const HUB: [&str; 2] = ["docker.io", "index.docker.io"];
/// Where its official images lie.
const NAMESPACE: &str = "library/";
/// Characters of a tag.
const TAG_BYTES_MAX: usize = 128;

pub(super) const TAG: &str =
    "a tag has at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two";
pub(super) const UPPER_CASE: &str = "the name of an image must be lower-case";
const EMPTY: &str = "the name of the repository is missing";
const HOST: &str = "the host name of the registry is malformed";
const REPOSITORY: &str = "the name of an image has lower-case letters, digits and single separators (`.` `_` `__` `-`) between them";
const TOO_LONG: &str = "the name of the image is longer than 255 bytes";
const DIGEST: &str = "a digest is `sha256:` and 64 lower-case hexadecimal digits";
const ID: &str = "64 hexadecimal digits are an id, not a name";

/// Says what is wrong with a name.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let rest = match text.split_once('@') {
        Some((_, digest)) if !digest.strip_prefix("sha256:").is_some_and(is_hex) => return Err(DIGEST),
        Some((rest, _)) => rest,
        None => text,
    };
    // A colon before a slash belongs to a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(TAG);
    }
    let (host, repository) = match name.split_once('/') {
        Some((host, rest)) if names_host(host) => {
            if !is_host(host) {
                return Err(HOST);
            }
            (host, rest)
        }
        _ => (HUB[0], name),
    };
    check_repository(repository)?;
    // What stands before a short name counts as well.
    let is_short = HUB.contains(&host) && !repository.contains('/');
    if is_short && NAMESPACE.len() + repository.len() > REPOSITORY_BYTES_MAX {
        return Err(TOO_LONG);
    }
    if is_hex(text) { Err(ID) } else { Ok(()) }
}

/// Whether the text is `NAME[:TAG]` without a registry.
pub(super) fn is_local(text: &str) -> bool {
    let (name, tag) = text.split_once(':').unwrap_or((text, "latest"));
    check_repository(name).is_ok() && is_tag(tag)
}

pub(super) fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    first && rest && tag.len() <= TAG_BYTES_MAX
}

/// Whether the first part of a name is a host: it has what no repository's part has, or is the one known by name.
fn names_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    if let Some((address, behind)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let is_v6 = address.parse::<core::net::Ipv6Addr>().is_ok();
        return is_v6 && (behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    host.len() <= HOST_BYTES_MAX && name.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn check_repository(path: &str) -> Result<(), &'static str> {
    match () {
        () if path.is_empty() => Err(EMPTY),
        () if path.len() > REPOSITORY_BYTES_MAX => Err(TOO_LONG),
        () if path.bytes().any(|byte| byte.is_ascii_uppercase()) => Err(UPPER_CASE),
        () if path.split('/').all(is_component) => Ok(()),
        () => Err(REPOSITORY),
    }
}

/// Letters and digits with single separators between them: `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let mut separators = text.split(is_word).filter(|separator| !separator.is_empty());
    let fits =
        |separator: &str| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
    text.starts_with(is_word) && text.ends_with(is_word) && separators.all(fits)
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
