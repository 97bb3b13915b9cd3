//! The values of secrets: from our environment and from files, never from the command line, which every user of the machine
//! can read.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::environment::Environment;
use super::settings::invalid;

/// Bytes of a file of secrets, or of one: a larger one is another file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Permission bits of anybody but the owner.
const OTHERS: u32 = 0o077;

/// Reads all values; a later one of a name wins, and `--secret` over files.
pub(super) fn read(
    flags: &[String],
    files: &[impl AsRef<Path>],
    environment: &Environment,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut secrets: Vec<(String, Vec<u8>)> = Vec::new();
    let mut give = |name: String, value: Vec<u8>| {
        secrets.retain(|(known, _)| *known != name);
        secrets.push((name, value));
    };
    for file in files {
        for (name, value) in file_of_secrets(file.as_ref())? {
            give(name, value);
        }
    }
    for flag in flags {
        let (name, value) = one(flag, environment)?;
        give(name, value);
    }
    Ok(secrets)
}

fn one(flag: &str, environment: &Environment) -> Result<(String, Vec<u8>), String> {
    let Some((name, from)) = flag.split_once('=') else {
        return match environment.variables.get(flag) {
            Some(value) => Ok((flag.to_owned(), value.clone().into_bytes())),
            None => Err(format!("the secret {flag} is not set here; {flag}=@FILE takes it from a file")),
        };
    };
    let Some(path) = from.strip_prefix('@') else {
        let shown = format!("{name}=...");
        return Err(invalid(
            "--secret",
            &shown,
            "every user of this machine sees a command line; NAME takes it from the environment, NAME=@FILE from a file",
        ));
    };
    let bytes = bytes_of(Path::new(path))
        .map_err(|error| format!("cannot read the secret {name}: {path}: {error}"))?;
    Ok((name.to_owned(), bytes))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    content(&mut file)
}

fn content(file: &mut File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// Reads lines `NAME=VALUE`; empty ones and those that begin with `#` are skipped, values are taken as they are.
fn file_of_secrets(path: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let mut file = File::open(path).map_err(|error| wrong(&error))?;
    let mode = file.metadata().map_err(|error| wrong(&error))?.mode();
    if mode & OTHERS != 0 {
        let text = format!("error[E304]: others may read or write it (mode {:04o})", mode & 0o7777);
        return Err(format!("{}; `chmod 600 {}` mends it", wrong(&text), path.display()));
    }
    let bytes = content(&mut file).map_err(|error| wrong(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"it is not UTF-8 text"))?;
    let mut secrets = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line is not repeated: it may be nothing but a secret.
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("{}:{}: the line is not NAME=VALUE", path.display(), number + 1));
        };
        secrets.push((name.trim_end().to_owned(), value.as_bytes().to_vec()));
    }
    Ok(secrets)
}
