//! Logins to registries, as docker, podman and skopeo keep them: their files and their credential helpers.

mod helper;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use images::{Credential, Credentials};
use serde::Deserialize;

/// Bytes of a file of logins; a larger one is another file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Names under which Docker Hub is kept, in docker's own file the first.
const DOCKER_HUB: [&str; 4] =
    ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"];

/// Looks for logins in these files, in this order. A file that does not exist is passed over.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// `~/.docker/config.json` and its like.
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Login>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    /// Base64 of `user:password`.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(..)")
    }
}

impl Credentials for Logins {
    fn find(&self, registry: &str) -> Result<Option<Credential>, String> {
        for path in &self.files {
            let wrong = |what: String| format!("{}: {what}", path.display());
            let text = match read(path) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    continue;
                }
                result => result.map_err(|error| wrong(error.to_string()))?,
            };
            // The parser's words may repeat a value, and the values are secrets: line and column must do.
            let file: File = serde_json::from_slice(&text).map_err(|error| {
                wrong(format!("line {}, column {} is not as docker writes it", error.line(), error.column()))
            })?;
            if let Some(found) = of_file(&file, registry).map_err(wrong)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    fs::read(path)
}

/// A helper for the registry comes first, then the helper for all, then what stands in the file: docker's order.
fn of_file(file: &File, registry: &str) -> Result<Option<Credential>, String> {
    let hub = DOCKER_HUB.contains(&registry);
    let asked = if hub { DOCKER_HUB[0] } else { registry };
    let of_registry = file.helpers.iter().find(|(key, _)| is_of(key, registry)).map(|(_, helper)| helper);
    if let Some(helper) = of_registry {
        return helper::get(helper, asked);
    }
    if let Some(helper) = file.store.as_ref().filter(|helper| !helper.is_empty())
        && let Some(found) = helper::get(helper, asked)?
    {
        return Ok(Some(found));
    }
    let login = file.auths.iter().find(|(key, _)| is_of(key, registry)).map(|(_, login)| login);
    login.map_or(Ok(None), credential)
}

/// Whether a key of the file stands for the registry: a host, perhaps with a scheme before it and a path behind.
fn is_of(key: &str, registry: &str) -> bool {
    if DOCKER_HUB.contains(&registry) && DOCKER_HUB.contains(&key) {
        return true;
    }
    let host = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = host.split_once('/').unwrap_or((host, ""));
    // docker once wrote `https://host/v1/`; podman's keys with a path are of one repository only.
    host == registry && matches!(path, "" | "v1/" | "v1" | "v2/" | "v2")
}

fn credential(login: &Login) -> Result<Option<Credential>, String> {
    if let Some(token) = login.identity_token.clone().filter(|token| !token.is_empty()) {
        return Ok(Some(Credential::IdentityToken(token)));
    }
    if let (Some(user), Some(password)) = (&login.username, &login.password) {
        return Ok(Some(Credential::Password { user: user.clone(), password: password.clone() }));
    }
    let Some(auth) = login.auth.as_deref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let malformed = || "an `auth` is not base64 of `user:password`".to_owned();
    let text = base64(auth).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(malformed)?;
    let (user, password) = text.split_once(':').ok_or_else(malformed)?;
    // docker pads with NUL.
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Some(Credential::Password { user: user.to_owned(), password }))
}

/// Reads base64 (RFC 4648, section 4), with or without its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim().trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            bits = bits << 6 | u32::try_from(ALPHABET.iter().position(|known| known == digit)?).ok()?;
        }
        let whole = group.len() * 6 / 8;
        bits <<= 6 * (4 - group.len());
        if whole == 0 {
            return None;
        }
        bytes.extend(bits.to_be_bytes().iter().skip(1).take(whole));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, registry: &str) -> Result<Option<Credential>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, text).unwrap();
        Logins { files: vec![directory.path().join("missing"), path] }.find(registry)
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg", "foob"),
            ("dTpwOng=", "u:p:x"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64("Z"), None);
        assert_eq!(base64("Zm9*"), None);
    }

    #[test]
    fn logins_are_found_under_the_names_that_tools_use() {
        let text = "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpwOng=\"},\"r.example:5000\":{\"username\":\"a\",\
                    \"password\":\"b\"},\"https://old.example/v1/\":{\"auth\":\"dTpw\"},\"t.example\":{\"identitytoken\":\"tok\"},\
                    \"empty.example\":{},\"q.example/one\":{\"auth\":\"dTpw\"}}}";
        assert_eq!(find(text, "docker.io"), Ok(password("u", "p:x")));
        assert_eq!(find(text, "r.example:5000"), Ok(password("a", "b")));
        assert_eq!(find(text, "old.example"), Ok(password("u", "p")));
        assert_eq!(find(text, "t.example"), Ok(Some(Credential::IdentityToken("tok".to_owned()))));
        for registry in ["r.example", "empty.example", "q.example", "other.example"] {
            assert_eq!(find(text, registry), Ok(None), "{registry}");
        }
        assert_eq!(find("{}", "docker.io"), Ok(None));
    }

    #[test]
    fn errors_do_not_show_secrets() {
        for text in [
            "{\"auths\":{\"r.example\":{\"auth\":\"c2VjcmV0\"}}}",
            "{\"auths\":{\"r.example\":\"secret\"}}",
            "secret",
        ] {
            let error = find(text, "r.example").unwrap_err();
            assert!(
                error.contains("config.json") && !error.contains("secret") && !error.contains("c2Vj"),
                "{error}"
            );
        }
    }
}
