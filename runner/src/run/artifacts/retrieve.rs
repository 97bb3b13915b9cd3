//! From `artifacts/` to the user: checking digests, and giving files out.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::ArtifactError;
use super::copy::{CopyError, copy, hash};
use super::handles;
use super::manifest::{EntryKind, Manifest, ManifestEntry};
use crate::run::record::RecordError;

/// How a stored file differs from its line in the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is gone.
    Missing,
    /// It is something else: a directory, a link instead of a file.
    Kind,
    /// It has another length.
    Size {
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// It has other bytes.
    Digest {
        /// In the manifest, in hex.
        expected: String,
        /// On disk, in hex.
        found: String,
    },
    /// It has other permissions.
    Mode {
        /// In the manifest, as far as it is kept: the owner can always read and write.
        expected: u32,
        /// On disk.
        found: u32,
    },
    /// The link leads elsewhere.
    Target {
        /// On disk.
        found: String,
    },
    /// It is not in the manifest.
    Extra,
    /// It cannot be read.
    Unreadable(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("missing"),
            Self::Kind => formatter.write_str("not the kind of file that was collected"),
            Self::Size { expected, found } => write!(formatter, "{found} bytes, expected {expected}"),
            Self::Digest { expected, found } => write!(formatter, "sha256 {found}, expected {expected}"),
            Self::Mode { expected, found } => write!(formatter, "mode {found:04o}, expected {expected:04o}"),
            Self::Target { found } => write!(formatter, "the link leads to {found}"),
            Self::Extra => formatter.write_str("not in the manifest"),
            Self::Unreadable(why) => write!(formatter, "cannot be read: {why}"),
        }
    }
}

/// What a check of all artifacts found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Files and links that were looked at.
    pub files: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// `artifact/path` and how it differs.
    pub problems: Vec<(String, Problem)>,
}

/// Hashes all collected files again and compares names, kinds, sizes, digests, modes and links with the
/// manifest. `directory` is the run's `artifacts`.
pub fn verify(directory: &Path) -> Result<Verification, ArtifactError> {
    let manifest = Manifest::load(directory)?;
    let mut verification = Verification::default();
    if manifest.files.is_empty() && !directory.exists() {
        return Ok(verification);
    }
    let root = open(directory)?;
    let mut expected = BTreeSet::new();
    for entry in &manifest.files {
        let path = stored_path(entry);
        verification.files += 1;
        match check(&root, &path, entry) {
            Ok(bytes) => verification.bytes += bytes,
            Err(problem) => verification.problems.push((handles::show(&path), problem)),
        }
        expected.insert(path);
    }
    expected.insert(b"manifest.json".to_vec());
    let mut extra = Vec::new();
    find_extra(&root, b"", &expected, &mut extra)
        .map_err(|source| RecordError::io("read", directory, source))?;
    verification.problems.extend(extra.into_iter().map(|path| (handles::show(&path), Problem::Extra)));
    Ok(verification)
}

fn open(directory: &Path) -> Result<OwnedFd, RecordError> {
    handles::open_root(directory).map_err(|source| RecordError::io("open", directory, source))
}

fn stored_path(entry: &ManifestEntry) -> Vec<u8> {
    [entry.artifact.as_bytes(), b"/", &entry.path_bytes()].concat()
}

fn unreadable(error: impl Into<io::Error>) -> Problem {
    let error: io::Error = error.into();
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Problem::Missing,
        Some(Errno::LOOP | Errno::NOTDIR) => Problem::Kind,
        _ => Problem::Unreadable(error.to_string()),
    }
}

/// Compares one stored file with its line; returns the bytes that were hashed.
fn check(root: &OwnedFd, path: &[u8], entry: &ManifestEntry) -> Result<u64, Problem> {
    let (parent, name) = handles::open_parent(root, path, false).map_err(unreadable)?;
    let (kind, stat) = handles::describe(&parent, name).map_err(unreadable)?;
    match (entry.kind, kind) {
        (EntryKind::Symlink, FileType::Symlink) => {
            let text = rustix::fs::readlinkat(&parent, name, Vec::new()).map_err(unreadable)?;
            if entry.target.as_deref().map(str::as_bytes) == Some(text.as_bytes()) {
                return Ok(0);
            }
            Err(Problem::Target { found: handles::show(text.as_bytes()) })
        }
        (EntryKind::File, FileType::RegularFile) => {
            let mut file = handles::open_file(&parent, name).map_err(unreadable)?;
            let found = hash(&mut file).map_err(unreadable)?;
            if found.bytes != entry.size {
                return Err(Problem::Size { expected: entry.size, found: found.bytes });
            }
            if entry.sha256.as_deref() != Some(found.sha256.as_str()) {
                let expected = entry.sha256.clone().unwrap_or_default();
                return Err(Problem::Digest { expected, found: found.sha256 });
            }
            let (expected, mode) = (entry.mode_bits() | 0o600, stat.st_mode & 0o7777);
            if expected != mode {
                return Err(Problem::Mode { expected, found: mode });
            }
            Ok(found.bytes)
        }
        (EntryKind::File | EntryKind::Symlink, _) => Err(Problem::Kind),
    }
}

/// Finds files that no line of the manifest names. Only directories that were collected can be this deep.
fn find_extra(
    directory: impl AsFd,
    path: &[u8],
    expected: &BTreeSet<Vec<u8>>,
    extra: &mut Vec<Vec<u8>>,
) -> io::Result<()> {
    for name in handles::names(&directory)? {
        let below =
            if path.is_empty() { name.as_bytes().to_vec() } else { [path, b"/", name.as_bytes()].concat() };
        if expected.contains(&below) {
            continue;
        }
        let prefix = [below.as_slice(), b"/"].concat();
        let leads_on = expected.range(prefix.clone()..).next().is_some_and(|next| next.starts_with(&prefix));
        if leads_on && handles::describe(&directory, name.as_bytes())?.0 == FileType::Directory {
            find_extra(handles::open_directory(&directory, name.as_bytes())?, &below, expected, extra)?;
        } else {
            extra.push(below);
        }
    }
    Ok(())
}

/// What was given out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Files and links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Copies artifacts to `into/<artifact>/<path>`: those named, or all. `directory` is the run's `artifacts`.
///
/// Digests are checked on the way. What exists is refused, or with `force` replaced; links that stand in
/// the way are never followed.
pub fn extract(
    directory: &Path,
    names: &[String],
    into: &Path,
    force: bool,
) -> Result<Extracted, ArtifactError> {
    let manifest = Manifest::load(directory)?;
    let known = manifest.names();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let names = known.iter().map(|name| (*name).to_owned()).collect();
        return Err(ArtifactError::Unknown { name: name.clone(), names });
    }
    let mut extracted = Extracted::default();
    if manifest.files.is_empty() {
        return Ok(extracted);
    }
    let source = open(directory)?;
    std::fs::create_dir_all(into).map_err(|source| RecordError::io("create the directory", into, source))?;
    let target = open(into)?;
    for entry in manifest.files.iter().filter(|entry| names.is_empty() || names.contains(&entry.artifact)) {
        let give = Give { source: &source, target: &target, into, at: stored_path(entry), entry, force };
        extracted.bytes += give.run()?;
        extracted.files += 1;
    }
    Ok(extracted)
}

/// Copies what these jobs have collected, by their ids and one after the other, to where each file came from, in the workspace
/// of another. What stands there is replaced, and links are never followed. `directory` is the run's `artifacts`.
pub fn hand_on(
    directory: &Path,
    jobs: &[String],
    (workspace, into): (&OwnedFd, &Path),
) -> Result<Extracted, ArtifactError> {
    let manifest = Manifest::load(directory)?;
    let mut extracted = Extracted::default();
    if manifest.files.is_empty() {
        return Ok(extracted);
    }
    let source = open(directory)?;
    // Which of them ended first is luck, and must not decide what there is in the end.
    let of =
        |job: &'_ String| manifest.files.iter().filter(|entry| entry.job == *job && !entry.report).collect();
    for entry in jobs.iter().flat_map::<Vec<&ManifestEntry>, _>(of) {
        let (at, force) = (entry.path_bytes(), true);
        let give = Give { source: &source, target: workspace, into, at, entry, force };
        extracted.bytes += give.run()?;
        extracted.files += 1;
    }
    Ok(extracted)
}

/// Gives out one file.
struct Give<'a> {
    source: &'a OwnedFd,
    target: &'a OwnedFd,
    into: &'a Path,
    /// Where it goes, in there.
    at: Vec<u8>,
    entry: &'a ManifestEntry,
    force: bool,
}

impl Give<'_> {
    fn run(&self) -> Result<u64, ArtifactError> {
        let path = &self.at;
        let opened = handles::open_parent(self.target, path, true);
        let (parent, name) = opened.map_err(|source| self.write_error(source))?;
        // Made under another name and renamed: what stood there before is there until the new one is whole.
        let temporary = [b".", name, b".partial"].concat();
        if !self.force && handles::describe(&parent, name).is_ok() {
            return Err(ArtifactError::Occupied { path: self.place() });
        }
        let _ = rustix::fs::unlinkat(&parent, temporary.as_slice(), AtFlags::empty());
        let made = match self.entry.kind {
            EntryKind::File => self.file(&parent, &temporary),
            EntryKind::Symlink => self.link(&parent, &temporary),
        };
        let made = made.and_then(|bytes| {
            rustix::fs::renameat(&parent, temporary.as_slice(), &parent, name)
                .map_err(|errno| self.write_error(errno.into()))?;
            Ok(bytes)
        });
        if made.is_err() {
            let _ = rustix::fs::unlinkat(&parent, temporary.as_slice(), AtFlags::empty());
        }
        made
    }

    fn place(&self) -> std::path::PathBuf {
        self.into.join(handles::show(&self.at))
    }

    fn write_error(&self, source: io::Error) -> ArtifactError {
        RecordError::io("write", self.place(), source).into()
    }

    fn mismatch(&self, problem: Problem) -> ArtifactError {
        let Self { entry, .. } = self;
        ArtifactError::Mismatch { name: entry.artifact.clone(), path: entry.path.clone(), problem }
    }

    fn open_source(&self) -> io::Result<File> {
        let path = stored_path(self.entry);
        let (parent, name) = handles::open_parent(self.source, &path, false)?;
        handles::open_file(parent, name)
    }

    fn file(&self, parent: &OwnedFd, temporary: &[u8]) -> Result<u64, ArtifactError> {
        let mut source = self.open_source().map_err(|error| self.mismatch(unreadable(error)))?;
        let created = handles::create_file(parent, temporary);
        let mut target = created.map_err(|source| self.write_error(source))?;
        let size = self.entry.size;
        let copied = copy(&mut source, &mut target, u64::MAX).map_err(|error| match error {
            CopyError::Read(source) => self.mismatch(unreadable(source)),
            CopyError::Write(source) => self.write_error(source),
            CopyError::Changed | CopyError::TooLarge => {
                self.mismatch(Problem::Size { expected: size, found: 0 })
            }
        })?;
        if self.entry.sha256.as_deref() != Some(copied.sha256.as_str()) {
            let expected = self.entry.sha256.clone().unwrap_or_default();
            return Err(self.mismatch(Problem::Digest { expected, found: copied.sha256 }));
        }
        let mode = Permissions::from_mode(self.entry.mode_bits());
        target.set_permissions(mode).map_err(|source| self.write_error(source))?;
        Ok(copied.bytes)
    }

    fn link(&self, parent: &OwnedFd, temporary: &[u8]) -> Result<u64, ArtifactError> {
        let target = self.entry.target.as_deref().unwrap_or_default();
        // The manifest could have been changed: the rule of collection is applied again. The artifact's own
        // directory is not part of the depth.
        let path = self.entry.path_bytes();
        let depth = path.iter().filter(|&&byte| byte == b'/').count();
        if !handles::stays_inside(target.as_bytes(), depth) {
            return Err(self.mismatch(Problem::Target { found: target.to_owned() }));
        }
        rustix::fs::symlinkat(target, parent, temporary).map_err(|errno| self.write_error(errno.into()))?;
        Ok(0)
    }
}
