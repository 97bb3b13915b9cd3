//! The configuration file: what is known of registries. YAML, every key checked.
//!
//! Named by `--config` or `RUNNER_CONFIG`, else the first that exists of the user's and the machine's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use images::{ImageUrl, Reference, RegistrySettings};
use serde::Deserialize;

/// Bytes of a configuration file; a larger one is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Registries in it.
const REGISTRIES_MAX: usize = 1000;
/// Mirrors of one registry.
const MIRRORS_MAX: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Registry {
    #[serde(default)]
    mirrors: Vec<String>,
    insecure: Option<bool>,
    ca_file: Option<PathBuf>,
}

/// Reads the file that is named, else the first default that exists; none is fine.
///
/// # Errors
/// What is wrong with the file, fit to stand after `error: `.
pub(super) fn registries(
    named: Option<&Path>,
    defaults: &[PathBuf],
) -> Result<BTreeMap<String, RegistrySettings>, String> {
    if let Some(path) = named {
        let text = read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        return parse(path, &text);
    }
    for path in defaults {
        match read(path) {
            Ok(text) => return parse(path, &text),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        }
    }
    Ok(BTreeMap::new())
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    fs::read_to_string(path)
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, RegistrySettings>, String> {
    let shown = path.display();
    let file: File = if text.trim().is_empty() {
        File::default()
    } else {
        serde_saphyr::from_str(text).map_err(|error| format!("{shown}: {error}"))?
    };
    if file.registries.len() > REGISTRIES_MAX {
        return Err(format!("{shown}: more than {REGISTRIES_MAX} registries"));
    }
    let base = path.parent().unwrap_or(Path::new("/"));
    let mut known = BTreeMap::new();
    for (host, registry) in file.registries {
        if !is_registry(&host) {
            return Err(format!(
                "{shown}: `{host}` is no registry: expected a host with or without a port, as in image names"
            ));
        }
        if registry.mirrors.len() > MIRRORS_MAX {
            return Err(format!("{shown}: more than {MIRRORS_MAX} mirrors of {host}"));
        }
        let mirrors = registry
            .mirrors
            .iter()
            .map(|url| ImageUrl::parse(url).map_err(|error| format!("{shown}: mirror of {host}: {error}")));
        let settings = RegistrySettings {
            mirrors: mirrors.collect::<Result<_, _>>()?,
            insecure: registry.insecure,
            authority: registry.ca_file.map(|file| base.join(file)),
        };
        known.insert(host, settings);
    }
    Ok(known)
}

/// Whether references can name it: `docker.io`, a host with a dot, a port or the name of this machine.
fn is_registry(host: &str) -> bool {
    match Reference::parse(&format!("{host}/a/b"), Path::new("/")) {
        Ok(Reference::Registry(name)) => name.registry() == host,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<BTreeMap<String, RegistrySettings>, String> {
        parse(Path::new("/etc/runner/config.yml"), text)
    }

    #[test]
    fn registries_are_read() {
        let known = parse_text(
            "registries:\n  docker.io: {mirrors: [\"https://m.example\", \"http://127.0.0.1:5000\"]}\n  \
             r.example:5000:\n    insecure: true\n    ca-file: ca.pem\n",
        )
        .unwrap();
        assert_eq!(known["docker.io"].mirrors.len(), 2);
        assert_eq!(known["r.example:5000"].insecure, Some(true));
        assert_eq!(known["r.example:5000"].authority, Some(PathBuf::from("/etc/runner/ca.pem")));
        assert!(parse_text("").unwrap().is_empty());
    }

    #[test]
    fn errors_name_file_and_fault() {
        for (text, words) in [
            ("registry: {}", "unknown field"),
            ("registries: {r.example: {insecur: true}}", "unknown field"),
            ("registries: {\"https://r.example\": {}}", "is no registry"),
            ("registries: {alpine: {}}", "is no registry"),
            ("registries: {r.example: {mirrors: [ftp://x]}}", "mirror of r.example"),
            ("registries: [", "config.yml"),
        ] {
            let error = parse_text(text).unwrap_err();
            assert!(error.contains(words) && error.contains("/etc/runner/config.yml"), "{text}: {error}");
        }
    }
}
