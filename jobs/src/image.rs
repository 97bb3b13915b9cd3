//! Where a root filesystem comes from: the forms that this version accepts. Nothing is looked up.
//!
//! The crate `images` has the same grammar; a table that both test keeps the two equal.

mod name;

use serde::Serialize;

/// Endings that make a bare word the path of a tarball.
pub const TARBALL_ENDINGS: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz"];

/// The accepted forms, for hints.
pub(crate) const FORMS: &str = "accepted are the name of an image (alpine:3.20), the path of a tarball \
    (./rootfs.tar.zst), an http(s) URL of one, `dir:PATH`, `oci:PATH[:TAG]`, `archive:PATH`, `local:NAME` and `host`";

/// An image as the job names it. Built by `parse` and its companions, or from a checked file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSpec {
    /// One of the accepted forms, as written.
    pub reference: String,
    /// SHA-256 of the tarball's bytes, or of the image's manifest: 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// When the source is asked; `None` leaves it to the form's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
}

/// When the source of an image is asked although the store may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// Only when the store does not have it.
    Missing,
    /// Each time: a tag may have moved.
    Always,
    /// Never: the store has it, or the job fails.
    Never,
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
    /// An image in a registry.
    Registry,
    /// An OCI layout, after `oci:`.
    Layout,
    /// What `docker save` writes, after `archive:`.
    Archive,
    /// An imported image, after `local:`.
    Local,
}

/// Why a reference is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Empty, or with spaces or control characters.
    #[error("the image's name is empty or has spaces in it")]
    Malformed,
    /// It can only be the name of an image, and is malformed.
    #[error("{0}")]
    Name(&'static str),
    /// `file://`, `~/x.tar` and the like.
    #[error("the image has none of the accepted forms")]
    Form,
    /// `docker://...`.
    #[error("the name of an image stands alone, without `docker://`")]
    Scheme,
    /// `dir:` and the like without a path.
    #[error("`{0}:` is not followed by a path")]
    NoPath(&'static str),
    /// `local:` without a name.
    #[error("`local:` is followed by a lower-case name, with or without a tag")]
    LocalName,
    /// An URL without a host.
    #[error("the URL has no host")]
    NoHost,
    /// An URL with a user name or password, which would end up in records.
    #[error("it contains a user name or password, which would end up in records")]
    Password,
    /// Not a digest.
    #[error("`sha256` must be 64 hexadecimal digits")]
    Checksum,
    /// A digest of something that has none.
    #[error("`sha256` is of a tarball or of an image's manifest, and this has neither")]
    ChecksumUnused,
    /// Another digest than the one in the reference.
    #[error("`sha256` is not the digest that the image's name ends with")]
    ChecksumOther,
}

impl ImageSpec {
    /// Reads a reference. Errors name what is wrong, not where.
    pub fn parse(reference: &str) -> Result<ImageSpec, ImageError> {
        form(reference).map(|_| ImageSpec { reference: reference.to_owned(), sha256: None, pull: None })
    }

    /// Adds the digest that the tarball or the manifest must have; upper case and a leading `sha256:` are accepted.
    pub fn with_sha256(mut self, digest: &str) -> Result<ImageSpec, ImageError> {
        match self.form() {
            ImageForm::Tarball | ImageForm::Url | ImageForm::Registry | ImageForm::Layout => {}
            ImageForm::Host | ImageForm::Directory | ImageForm::Archive | ImageForm::Local => {
                return Err(ImageError::ChecksumUnused);
            }
        }
        let digits = sha256_digits(digest).ok_or(ImageError::Checksum)?;
        if self.form() == ImageForm::Registry
            && let Some((_, named)) = self.reference.split_once("@sha256:")
            && named != digits
        {
            return Err(ImageError::ChecksumOther);
        }
        self.sha256 = Some(digits);
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
    if let Some((scheme, rest)) = reference.split_once("://") {
        return url(&scheme.to_ascii_lowercase(), rest);
    }
    if ["./", "../", "/"].iter().any(|start| reference.starts_with(start)) {
        return Ok(ImageForm::Tarball);
    }
    if let Some((scheme, rest)) = reference.split_once(':')
        && let Some(form) = with_scheme(scheme, rest)
    {
        return form;
    }
    if reference.starts_with('~') {
        return Err(ImageError::Form);
    }
    // With a colon it may as well be a registry's port; `./a:b.tar` is plain.
    if !reference.contains(':') && TARBALL_ENDINGS.iter().any(|end| reference.ends_with(end)) {
        return Ok(ImageForm::Tarball);
    }
    if reference.contains(' ') {
        return Err(ImageError::Malformed);
    }
    name::check(reference).map(|()| ImageForm::Registry).map_err(ImageError::Name)
}

/// Reads the forms that begin with a word and a colon; `None` means that the word is none of ours.
fn with_scheme(scheme: &str, rest: &str) -> Option<Result<ImageForm, ImageError>> {
    let path = |form, word| if rest.is_empty() { Err(ImageError::NoPath(word)) } else { Ok(form) };
    Some(match scheme {
        "dir" => path(ImageForm::Directory, "dir"),
        "archive" => path(ImageForm::Archive, "archive"),
        "oci" => layout(rest),
        "local" if name::is_local(rest) => Ok(ImageForm::Local),
        "local" => Err(ImageError::LocalName),
        // Other tools' spellings, not names with a tag.
        "docker-archive" | "oci-archive" | "containers-storage" | "docker-daemon" | "file" => {
            Err(ImageError::Form)
        }
        _ => return None,
    })
}

/// Reads `PATH[:TAG]`; what follows the last colon is a tag if it can be one.
fn layout(text: &str) -> Result<ImageForm, ImageError> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    };
    match tag {
        _ if path.is_empty() => Err(ImageError::NoPath("oci")),
        Some(tag) if !name::is_tag(tag) => Err(ImageError::Name(name::TAG)),
        _ => Ok(ImageForm::Layout),
    }
}

fn url(scheme: &str, rest: &str) -> Result<ImageForm, ImageError> {
    match scheme {
        "http" | "https" => {}
        "docker" => return Err(ImageError::Scheme),
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

/// Reads a SHA-256: 64 hexadecimal digits, with `sha256:` before them or without; in lower case.
pub(crate) fn sha256_digits(text: &str) -> Option<String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let good = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form that a line of the table names.
    fn word(form: &Result<ImageForm, ImageError>) -> &'static str {
        match form {
            Ok(ImageForm::Host) => "host",
            Ok(ImageForm::Directory) => "directory",
            Ok(ImageForm::Tarball) => "tarball",
            Ok(ImageForm::Url) => "url",
            Ok(ImageForm::Registry) => "registry",
            Ok(ImageForm::Layout) => "layout",
            Ok(ImageForm::Archive) => "archive",
            Ok(ImageForm::Local) => "local",
            Err(_) => "refused",
        }
    }

    #[test]
    fn forms_are_those_of_the_table() {
        let table = include_str!("../../fixtures/references.txt");
        let mut lines = 0;
        for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (expected, text) = line.split_once('|').unwrap();
            let found = form(text);
            assert_eq!(word(&found), expected, "{text}: {found:?}");
            lines += 1;
        }
        assert!(lines > 60, "{lines}");
    }

    #[test]
    fn refusals_say_why() {
        for (reference, expected) in [
            ("dir:", ImageError::NoPath("dir")),
            ("oci:", ImageError::NoPath("oci")),
            ("https:///x", ImageError::NoHost),
            ("https://u:p@h/x", ImageError::Password),
            ("https://h/a b", ImageError::Malformed),
            ("docker://alpine", ImageError::Scheme),
            ("ftp://h/x.tar", ImageError::Form),
            ("alpine ", ImageError::Malformed),
            ("Alpine", ImageError::Name(name::UPPER_CASE)),
            ("local:A", ImageError::LocalName),
        ] {
            assert_eq!(form(reference), Err(expected), "{reference}");
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
        for reference in ["host", "dir:/x", "archive:x.tar", "local:x"] {
            let spec = ImageSpec::parse(reference).unwrap();
            assert_eq!(spec.with_sha256(&digest), Err(ImageError::ChecksumUnused), "{reference}");
        }
        let pinned = ImageSpec::parse(&format!("alpine@sha256:{}", "ab".repeat(32))).unwrap();
        assert!(pinned.clone().with_sha256(&digest).is_ok());
        assert_eq!(pinned.with_sha256(&"0".repeat(64)), Err(ImageError::ChecksumOther));
    }
}
