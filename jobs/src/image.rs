//! Where a root filesystem comes from: the forms that this version accepts. Nothing is looked up.

use serde::Serialize;

/// Endings of rootfs tarballs.
pub const TARBALL_ENDINGS: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz"];

/// The accepted forms, for hints.
pub(crate) const FORMS: &str = "accepted are `host`, `dir:PATH`, the path of a tarball (./rootfs.tar.zst) \
    and an http(s) URL of one";

/// An image as the job names it. Built by `parse` and `with_sha256`, or from a checked file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSpec {
    /// `host`, `dir:PATH`, a tarball's path or an http(s) URL, as written.
    pub reference: String,
    /// SHA-256 of the tarball's bytes: 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
}

/// What a reference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageForm {
    /// The machine's own `/usr`.
    Host,
    /// A directory, after `dir:`.
    Directory,
    /// A tarball on this machine.
    Tarball,
    /// A tarball to download.
    Url,
}

/// Why a reference is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Empty, or with spaces or control characters.
    #[error("the image's name is empty or has spaces in it")]
    Malformed,
    /// `alpine:3.20`, `docker://...`.
    #[error("registry images are not supported by this version")]
    Registry,
    /// `oci:`, `file://`, `~/x.tar` and the like.
    #[error("the image has none of the accepted forms")]
    Form,
    /// `dir:` without a path.
    #[error("`dir:` is not followed by a path")]
    NoDirectory,
    /// An URL without a host.
    #[error("the URL has no host")]
    NoHost,
    /// An URL with a user name or password, which would end up in records.
    #[error("it contains a user name or password, which would end up in records")]
    Password,
    /// Not a digest.
    #[error("`sha256` must be 64 hexadecimal digits")]
    Checksum,
    /// A digest of something that is not one file.
    #[error("`sha256` is of a tarball, and the image is not one")]
    ChecksumUnused,
}

impl ImageSpec {
    /// Reads a reference. Errors name what is wrong, not where.
    pub fn parse(reference: &str) -> Result<ImageSpec, ImageError> {
        form(reference).map(|_| ImageSpec { reference: reference.to_owned(), sha256: None })
    }

    /// Adds the digest that the tarball must have; upper case and a leading `sha256:` are accepted.
    pub fn with_sha256(mut self, digest: &str) -> Result<ImageSpec, ImageError> {
        if matches!(self.form(), ImageForm::Host | ImageForm::Directory) {
            return Err(ImageError::ChecksumUnused);
        }
        let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ImageError::Checksum);
        }
        self.sha256 = Some(digits.to_ascii_lowercase());
        Ok(self)
    }

    /// Returns which of the accepted forms the reference has.
    pub fn form(&self) -> ImageForm {
        // The fields are public, so a reference may be anybody's text; a path is what remains.
        form(&self.reference).unwrap_or(ImageForm::Tarball)
    }
}

fn form(reference: &str) -> Result<ImageForm, ImageError> {
    if reference.is_empty() || reference.trim() != reference || reference.chars().any(char::is_control) {
        return Err(ImageError::Malformed);
    }
    if reference == "host" {
        return Ok(ImageForm::Host);
    }
    if let Some(path) = reference.strip_prefix("dir:") {
        return if path.is_empty() { Err(ImageError::NoDirectory) } else { Ok(ImageForm::Directory) };
    }
    if let Some((scheme, rest)) = reference.split_once("://") {
        return url(&scheme.to_ascii_lowercase(), rest);
    }
    let is_path = ["./", "../", "/"].iter().any(|start| reference.starts_with(start));
    // With a colon it may as well be a registry's port; `./a:b.tar` is plain.
    let is_tarball = !reference.contains(':') && TARBALL_ENDINGS.iter().any(|end| reference.ends_with(end));
    let other_form =
        ["oci:", "archive:", "docker-archive:", "local:", "~"].iter().any(|s| reference.starts_with(s));
    let registry = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    match () {
        () if is_path => Ok(ImageForm::Tarball),
        () if other_form => Err(ImageError::Form),
        () if is_tarball => Ok(ImageForm::Tarball),
        () if reference.contains(' ') => Err(ImageError::Malformed),
        () if reference.chars().all(registry) => Err(ImageError::Registry),
        () => Err(ImageError::Form),
    }
}

fn url(scheme: &str, rest: &str) -> Result<ImageForm, ImageError> {
    match scheme {
        "http" | "https" => {}
        "docker" | "oci" => return Err(ImageError::Registry),
        _ => return Err(ImageError::Form),
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(ImageError::Password);
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err(ImageError::NoHost);
    }
    if rest.contains(' ') {
        return Err(ImageError::Malformed);
    }
    Ok(ImageForm::Url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let table = [
            ("host", Ok(ImageForm::Host)),
            ("dir:/srv/rootfs", Ok(ImageForm::Directory)),
            ("dir:", Err(ImageError::NoDirectory)),
            ("./rootfs", Ok(ImageForm::Tarball)),
            ("../a b", Ok(ImageForm::Tarball)),
            ("/x", Ok(ImageForm::Tarball)),
            ("rootfs.tar.zst", Ok(ImageForm::Tarball)),
            ("images/root.tgz", Ok(ImageForm::Tarball)),
            ("./a:b.tar", Ok(ImageForm::Tarball)),
            ("host.example:5000/a.tar", Err(ImageError::Registry)),
            ("https://h/x.tar", Ok(ImageForm::Url)),
            ("HTTP://h:8080", Ok(ImageForm::Url)),
            ("https:///x", Err(ImageError::NoHost)),
            ("https://u:p@h/x", Err(ImageError::Password)),
            ("https://h/a@b", Ok(ImageForm::Url)),
            ("https://h/a b", Err(ImageError::Malformed)),
            ("ftp://h/x.tar", Err(ImageError::Form)),
            ("docker://alpine", Err(ImageError::Registry)),
            ("alpine:3.20", Err(ImageError::Registry)),
            ("ghcr.io/o/i@sha256:00", Err(ImageError::Registry)),
            ("debian", Err(ImageError::Registry)),
            ("oci:./d", Err(ImageError::Form)),
            ("~/x.tar", Err(ImageError::Form)),
            ("", Err(ImageError::Malformed)),
            (" host", Err(ImageError::Malformed)),
            ("a b", Err(ImageError::Malformed)),
        ];
        for (reference, expected) in table {
            assert_eq!(form(reference), expected, "{reference}");
        }
    }

    #[test]
    fn checksums() {
        let tarball = ImageSpec::parse("./x.tar").unwrap();
        let digest = "AB".repeat(32);
        let with = tarball.clone().with_sha256(&format!("sha256:{digest}")).unwrap();
        assert_eq!(with.sha256, Some("ab".repeat(32)));
        assert_eq!(tarball.clone().with_sha256("abc"), Err(ImageError::Checksum));
        assert_eq!(tarball.with_sha256(&"g".repeat(64)), Err(ImageError::Checksum));
        let host = ImageSpec::parse("host").unwrap();
        assert_eq!(host.with_sha256(&digest), Err(ImageError::ChecksumUnused));
    }
}
