//! The list of a tar's members: where each begins. Headers are read, contents skipped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;

use super::{LayoutError, magic};

/// Members of an archive of images; each layer has up to three.
const MEMBERS_MAX: usize = 10_000;
/// Links that lead from one name to another.
const LINKS_MAX: usize = 8;

/// Names and what they stand for.
#[derive(Debug, Default)]
pub(super) struct Members {
    files: BTreeMap<String, (u64, u64)>,
    /// `docker save` links layers that occur twice.
    links: BTreeMap<String, String>,
}

impl Members {
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = clean(name)?;
        for _ in 0..LINKS_MAX {
            if let Some(place) = self.files.get(&name) {
                return Some(*place);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }
}

/// Reads all headers.
pub(super) fn read(file: &File, path: &Path) -> Result<Members, LayoutError> {
    let wrong = |what: String| LayoutError::Wrong { path: path.to_owned(), expected: "tar of images", what };
    let failed = |source: io::Error| LayoutError::Read {
        path: path.to_owned(),
        member: "the headers".to_owned(),
        source,
    };
    match magic(file).map_err(failed)? {
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', b'X', b'Z', _] => {
            return Err(wrong(
                "it is compressed as a whole; decompress it, its layers may stay compressed".to_owned(),
            ));
        }
        _ => {}
    }
    let mut own = file.try_clone().map_err(failed)?;
    own.rewind().map_err(failed)?;
    let length = own.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(own);
    let mut members = Members::default();
    let entries = archive.entries_with_seek().map_err(|error| wrong(error.to_string()))?;
    for (count, entry) in entries.enumerate() {
        if count >= MEMBERS_MAX {
            return Err(wrong(format!("it has more than {MEMBERS_MAX} members")));
        }
        let entry = entry.map_err(|error| wrong(error.to_string()))?;
        let bytes = entry.path_bytes();
        let Some(name) = std::str::from_utf8(&bytes).ok().and_then(clean) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let place = (entry.raw_file_position(), entry.size());
            if place.0.checked_add(place.1).is_none_or(|end| end > length) {
                return Err(wrong(format!("it ends within {name}")));
            }
            members.files.insert(name, place);
        } else if (kind.is_symlink() || kind.is_hard_link())
            && let Some(target) = entry.link_name_bytes()
            && let Ok(target) = std::str::from_utf8(&target)
        {
            let base =
                if kind.is_symlink() { name.rsplit_once('/').map_or("", |(base, _)| base) } else { "" };
            members.links.extend(clean(&format!("{base}/{target}")).map(|target| (name, target)));
        }
    }
    if members.files.is_empty() {
        return Err(wrong("it has no members".to_owned()));
    }
    Ok(members)
}

/// Returns the name without `.` and `..`; `None` if it leaves the archive.
fn clean(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        assert_eq!(clean("./a//b/../c"), Some("a/c".to_owned()));
        assert_eq!(clean("../a"), None);
        assert_eq!(clean("a/.."), None);
    }
}
