//! The settings of `runner cache`.

use std::path::PathBuf;
use std::time::Duration;

use jobs::units::{parse_duration, parse_size};

use super::flags::cache as flags;
use super::settings::{Command, invalid};

/// What to do with caches.
#[derive(Debug)]
pub enum CacheVerb {
    /// List them.
    List {
        /// Whether JSON is printed.
        json: bool,
    },
    /// Remove what is kept under these keys.
    Remove(Vec<String>),
    /// Remove those that were not used for long.
    Prune {
        /// For so long.
        older: Option<Duration>,
        /// Until all together take at most so many bytes.
        bytes_max: Option<u64>,
        /// Only say which.
        dry_run: bool,
        /// Whether JSON is printed.
        json: bool,
    },
}

/// `runner cache`
#[derive(Debug)]
pub struct CacheSettings {
    /// Where they are.
    pub home: PathBuf,
    /// What to do.
    pub verb: CacheVerb,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

pub(super) fn command(flags: flags::Cache, home: PathBuf, stderr_color: bool) -> Result<Command, String> {
    let verb = match flags.verb {
        flags::CacheVerb::List { json } => CacheVerb::List { json },
        flags::CacheVerb::Remove { keys } => CacheVerb::Remove(keys),
        flags::CacheVerb::Prune(flags::Prune { older, max_size, dry_run, json }) => {
            let older = older.as_deref();
            let older =
                older.map(|text| parse_duration(text).map_err(|error| invalid("--older", text, error)));
            let bytes = max_size.as_deref();
            let bytes =
                bytes.map(|text| parse_size(text).map_err(|error| invalid("--max-size", text, error)));
            CacheVerb::Prune { older: older.transpose()?, bytes_max: bytes.transpose()?, dry_run, json }
        }
    };
    Ok(Command::Cache(CacheSettings { home, verb, stderr_color }))
}
