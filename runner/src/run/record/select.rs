//! How the user names a run, and which runs there are.

use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use super::RecordError;

/// Names of directories that are being made begin with this.
pub(super) const UNPUBLISHED_PREFIX: &str = ".new-";
/// Names of directories that are being removed begin with this.
pub(super) const REMOVED_PREFIX: &str = ".gone-";
/// Making a run's directory takes milliseconds; one that still has its first name after this is a remnant.
const REMNANT_AGE: Duration = Duration::from_secs(600);

/// A run as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one that was started last.
    Latest,
    /// The one that ended last without success.
    LatestFailed,
    /// An id, or the beginning of one.
    Prefix(String),
}

impl FromStr for Selector {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "latest" => Self::Latest,
            "latest-failed" => Self::LatestFailed,
            _ => Self::Prefix(text.to_owned()),
        })
    }
}

impl Selector {
    /// Returns the id of the run that is meant.
    pub(super) fn resolve(&self, runs: &Path) -> Result<String, RecordError> {
        match self {
            Self::Latest => follow(runs, "latest"),
            Self::LatestFailed => follow(runs, "latest-failed"),
            Self::Prefix(prefix) => complete(runs, prefix),
        }
    }
}

fn unknown(runs: &Path, selector: &str) -> RecordError {
    RecordError::Unknown { selector: selector.to_owned(), runs: runs.to_path_buf() }
}

fn follow(runs: &Path, link: &str) -> Result<String, RecordError> {
    let target = fs::read_link(runs.join(link)).map_err(|_| unknown(runs, link))?;
    let id = target.to_str().filter(|id| !id.contains('/')).ok_or_else(|| unknown(runs, link))?;
    // A run that was removed leaves its link dangling.
    if runs.join(id).is_dir() { Ok(id.to_owned()) } else { Err(unknown(runs, link)) }
}

fn complete(runs: &Path, prefix: &str) -> Result<String, RecordError> {
    if prefix.is_empty() {
        return Err(unknown(runs, prefix));
    }
    let mut found: Vec<String> = ids(runs)?.into_iter().filter(|id| id.starts_with(prefix)).collect();
    found.sort_unstable();
    // An id that is also the beginning of another one is still an id.
    if let Some(exact) = found.iter().position(|id| id == prefix) {
        return Ok(found.swap_remove(exact));
    }
    match found.as_slice() {
        [] => Err(unknown(runs, prefix)),
        [one] => Ok(one.clone()),
        [first, .., last] => Err(RecordError::Ambiguous {
            prefix: prefix.to_owned(),
            count: found.len(),
            first: first.clone(),
            last: last.clone(),
        }),
    }
}

/// Lists the directories of runs, links and hidden names left out, in no order.
pub(super) fn ids(runs: &Path) -> Result<Vec<String>, RecordError> {
    list(runs, |name, _| !name.starts_with('.'))
}

/// Lists directories that never got their run's name because their maker died, and those whose remover did.
pub(super) fn remnants(runs: &Path) -> Result<Vec<String>, RecordError> {
    // The name first: thousands of finished runs must not cost the next one a look at each.
    list(runs, |name, entry| {
        (name.starts_with(UNPUBLISHED_PREFIX) || name.starts_with(REMOVED_PREFIX)) && {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|made| made.elapsed());
            matches!(age, Ok(Ok(age)) if age > REMNANT_AGE)
        }
    })
}

fn list(runs: &Path, keep: impl Fn(&str, &fs::DirEntry) -> bool) -> Result<Vec<String>, RecordError> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(RecordError::io("read", runs, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| RecordError::io("read", runs, source))?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Some(name) = entry.file_name().to_str().filter(|name| is_directory && keep(name, &entry)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
