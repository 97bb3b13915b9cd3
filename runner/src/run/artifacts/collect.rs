//! From a workspace to `artifacts/<name>/`.

use std::ffi::CString;
use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Timespec, Timestamps};
use rustix::io::Errno;

use super::copy::{CopyError, copy};
use super::handles;
use super::leaks;
use super::manifest::{EntryKind, Manifest, ManifestEntry, path_text};
use super::patterns::Patterns;
use super::{ArtifactError, ArtifactLimits};
use crate::run::record::{RecordError, make_directory};
use crate::run::secrets::Secrets;

/// Names that are shown of what was left out.
const SKIPPED_SHOWN_MAX: usize = 10;

/// What to collect, and where to.
#[derive(Debug, Clone, Copy)]
pub struct CollectRequest<'a> {
    /// The directory of the workspace.
    pub workspace: BorrowedFd<'a>,
    /// Directories that stand in place of others in it, by their paths: the steps saw them there.
    pub over: &'a [(String, OwnedFd)],
    /// The artifact's name.
    pub name: &'a str,
    /// What belongs to it.
    pub patterns: &'a Patterns,
    /// Whether it may have no files.
    pub optional: bool,
    /// The run's `artifacts` directory.
    pub destination: &'a Path,
    /// The job it comes from.
    pub job: &'a str,
    /// The step that named it, or none when the job did.
    pub step: Option<&'a str>,
    /// Whom the copies belong to (uid, gid), when not to the caller.
    pub owner: Option<(u32, u32)>,
    /// How much it may be.
    pub limits: ArtifactLimits,
    /// It is a report.
    pub report: bool,
    /// What must not be in it.
    pub secrets: Option<&'a Secrets>,
}

/// What was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files and links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Each of them, by path.
    pub entries: Vec<ManifestEntry>,
    /// Names that matched and were left out, with the reason: "run/socket (socket)"; the first few of them.
    pub skipped: Vec<String>,
    /// How many were left out.
    pub skipped_count: u64,
}

/// Collects an artifact. Call it when all processes that could write to the workspace are dead.
///
/// It appears whole, with its lines in the manifest, or not at all.
pub fn collect(request: &CollectRequest<'_>) -> Result<Collected, ArtifactError> {
    let name = request.name;
    if name.is_empty() || name.starts_with('.') || name.contains('/') || name == "manifest.json" {
        return Err(ArtifactError::BadName { name: name.to_owned() });
    }
    make_directory(request.destination)?;
    let place = request.destination.join(name);
    if place.exists() {
        return Err(ArtifactError::Exists { name: name.to_owned() });
    }
    let partial = request.destination.join(format!(".{name}.partial"));
    remove_partial(&partial)?;
    make_directory(&partial)?;
    let collected = Collection::run(request, &partial)
        .and_then(|collected| leaks::none(request, &partial, &collected).map(|()| collected))
        .and_then(|collected| publish(request, collected, &partial, &place));
    if !matches!(&collected, Ok(collected) if collected.files > 0) {
        // Of a failure, the first error is the one to tell; of nothing, nothing is to be kept.
        let _ = fs::remove_dir_all(&partial);
    }
    collected
}

fn remove_partial(partial: &Path) -> Result<(), ArtifactError> {
    match fs::remove_dir_all(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RecordError::io("remove", partial, error).into())
        }
        _ => Ok(()),
    }
}

fn publish(
    request: &CollectRequest<'_>,
    collected: Collected,
    partial: &Path,
    place: &Path,
) -> Result<Collected, ArtifactError> {
    if collected.files == 0 {
        if request.optional {
            return Ok(collected);
        }
        return Err(ArtifactError::NoMatch {
            name: request.name.to_owned(),
            globs: request.patterns.show(),
            there: what_is_there(request, &collected),
        });
    }
    fs::rename(partial, place).map_err(|source| RecordError::io("rename", partial, source))?;
    let mut manifest = Manifest::load(request.destination)?;
    manifest.files.extend(collected.entries.iter().cloned());
    manifest.store(request.destination)?;
    Ok(collected)
}

fn what_is_there(request: &CollectRequest<'_>, collected: &Collected) -> String {
    if collected.skipped_count > 0 {
        return format!("what matches is no file: {}", collected.skipped.join(", "));
    }
    request.patterns.nearest(request.workspace)
}

/// One directory on the way down.
struct Level {
    source: OwnedFd,
    /// Its copy, made when the first file needs it.
    target: Option<OwnedFd>,
    name: CString,
}

struct Collection<'a> {
    request: &'a CollectRequest<'a>,
    partial: PathBuf,
    /// From the workspace to the directory that is being read.
    levels: Vec<Level>,
    collected: Collected,
}

impl<'a> Collection<'a> {
    fn run(request: &'a CollectRequest<'a>, partial: &Path) -> Result<Collected, ArtifactError> {
        let target =
            handles::open_root(partial).map_err(|source| RecordError::io("open", partial, source))?;
        let root = request.workspace.try_clone_to_owned();
        let source = root.map_err(|source| RecordError::io("open the workspace for", partial, source))?;
        let mut collection = Self {
            request,
            partial: partial.to_path_buf(),
            levels: vec![Level { source, target: Some(target), name: CString::default() }],
            collected: Collected::default(),
        };
        collection.directory(b"")?;
        Ok(collection.collected)
    }

    fn read_error(&self, action: &'static str, path: &[u8], source: io::Error) -> ArtifactError {
        ArtifactError::Read { name: self.request.name.to_owned(), action, path: handles::show(path), source }
    }

    fn limit(&self, what: &'static str, max: u64, path: &[u8]) -> ArtifactError {
        ArtifactError::Limit { name: self.request.name.to_owned(), what, max, path: handles::show(path) }
    }

    fn write_error(&self, action: &'static str, path: &[u8], source: io::Error) -> ArtifactError {
        RecordError::io(action, self.partial.join(handles::show(path)), source).into()
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.request.workspace, |level| level.source.as_fd())
    }

    /// Reads the directory at the end of `levels`, which is `path`.
    fn directory(&mut self, path: &[u8]) -> Result<(), ArtifactError> {
        let names = handles::names(self.here()).map_err(|source| self.read_error("read", path, source))?;
        for name in names {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            self.entry(name, &below)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: CString, path: &[u8]) -> Result<(), ArtifactError> {
        let text = String::from_utf8_lossy(path);
        let matches = self.request.patterns.matches(&text);
        let below = self.request.patterns.could_match_below(&text);
        if !matches && !below {
            return Ok(());
        }
        let kind = match handles::describe(self.here(), name.as_bytes()) {
            Ok((kind, _)) => kind,
            Err(source) => return Err(self.read_error("look at", path, source)),
        };
        match kind {
            FileType::Directory if below => self.descend(name, path),
            FileType::Directory => Ok(()),
            _ if !matches => Ok(()),
            FileType::RegularFile => self.file(&name, path),
            FileType::Symlink => self.link(&name, path),
            FileType::Fifo => self.skip(path, "fifo"),
            FileType::Socket => self.skip(path, "socket"),
            FileType::CharacterDevice | FileType::BlockDevice => self.skip(path, "device"),
            FileType::Unknown => self.skip(path, "of unknown kind"),
        }
    }

    fn skip(&mut self, path: &[u8], kind: &str) -> Result<(), ArtifactError> {
        self.collected.skipped_count += 1;
        if self.collected.skipped.len() < SKIPPED_SHOWN_MAX {
            self.collected.skipped.push(format!("{} ({kind})", handles::show(path)));
        }
        Ok(())
    }

    fn descend(&mut self, name: CString, path: &[u8]) -> Result<(), ArtifactError> {
        // The workspace itself is a level.
        let depth_max = self.request.limits.depth_max;
        if self.levels.len() > depth_max {
            return Err(self.limit("directories within one another", depth_max as u64, path));
        }
        let over = self.request.over.iter().find(|(place, _)| place.as_bytes() == path);
        let opened = match over {
            Some((_, directory)) => directory.try_clone(),
            None => handles::open_directory(self.here(), name.as_bytes()),
        };
        let source = opened.map_err(|source| self.opening_error(path, source))?;
        self.levels.push(Level { source, target: None, name });
        let read = self.directory(path);
        self.levels.pop();
        read
    }

    /// What was a directory or a file a moment ago, and is a link or nothing now, has changed.
    fn opening_error(&self, path: &[u8], source: io::Error) -> ArtifactError {
        match Errno::from_io_error(&source) {
            Some(Errno::LOOP | Errno::NOTDIR | Errno::NOENT | Errno::NXIO) => self.changed(path),
            _ => self.read_error("open", path, source),
        }
    }

    fn changed(&self, path: &[u8]) -> ArtifactError {
        ArtifactError::Changed { name: self.request.name.to_owned(), path: handles::show(path) }
    }

    /// Returns the copy of the directory that is being read, making what is missing of it.
    fn target(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, ArtifactError> {
        let made = make_targets(&mut self.levels, self.request.owner);
        made.map_err(|source| self.write_error("create the directory of", path, source))?;
        match self.levels.last().and_then(|level| level.target.as_ref()) {
            Some(target) => Ok(target.as_fd()),
            None => Err(self.write_error("create the directory of", path, Errno::NOENT.into())),
        }
    }

    fn count_file(&mut self, path: &[u8]) -> Result<(), ArtifactError> {
        if self.collected.files >= self.request.limits.files_max {
            return Err(self.limit("files", self.request.limits.files_max, path));
        }
        self.collected.files += 1;
        Ok(())
    }

    fn file(&mut self, name: &CString, path: &[u8]) -> Result<(), ArtifactError> {
        self.count_file(path)?;
        let mut source = handles::open_file(self.here(), name.as_bytes())
            .map_err(|source| self.opening_error(path, source))?;
        let metadata = source.metadata().map_err(|source| self.read_error("look at", path, source))?;
        if !metadata.is_file() {
            return Err(self.changed(path));
        }
        let created = handles::create_file(self.target(path)?, name.as_bytes());
        let mut target = created.map_err(|source| self.write_error("create", path, source))?;
        let bytes_max = self.request.limits.bytes_max;
        let copied =
            copy(&mut source, &mut target, bytes_max - self.collected.bytes).map_err(
                |error| match error {
                    CopyError::Read(source) => self.read_error("read", path, source),
                    CopyError::Write(source) => self.write_error("write", path, source),
                    CopyError::Changed => self.changed(path),
                    CopyError::TooLarge => self.limit("bytes", bytes_max, path),
                },
            )?;
        let mode = metadata.mode() & 0o777;
        dress(&target, mode, &metadata, self.request.owner)
            .map_err(|source| self.write_error("set the mode of", path, source))?;
        self.collected.bytes += copied.bytes;
        let entry = ManifestEntry {
            sha256: Some(copied.sha256),
            mode: Some(format!("{mode:04o}")),
            ..self.new_entry(path, EntryKind::File, copied.bytes)
        };
        self.collected.entries.push(entry);
        Ok(())
    }

    fn new_entry(&self, path: &[u8], kind: EntryKind, size: u64) -> ManifestEntry {
        let (path, path_hex) = path_text(path);
        ManifestEntry {
            artifact: self.request.name.to_owned(),
            path,
            path_hex,
            kind,
            size,
            sha256: None,
            mode: None,
            target: None,
            job: self.request.job.to_owned(),
            step: self.request.step.map(str::to_owned),
            report: self.request.report,
        }
    }

    fn link(&mut self, name: &CString, path: &[u8]) -> Result<(), ArtifactError> {
        self.count_file(path)?;
        let read = rustix::fs::readlinkat(self.here(), name.as_c_str(), Vec::new());
        let text = match read {
            Ok(text) => text,
            Err(errno) => return Err(self.opening_error(path, errno.into())),
        };
        // A text that is not UTF-8 could not be told in the manifest.
        let target =
            text.to_str().ok().filter(|_| handles::stays_inside(text.as_bytes(), self.levels.len() - 1));
        let Some(target) = target else {
            return Err(ArtifactError::LinkOut {
                name: self.request.name.to_owned(),
                path: handles::show(path),
                target: handles::show(text.as_bytes()),
            });
        };
        let linked = rustix::fs::symlinkat(target, self.target(path)?, name.as_c_str());
        linked.map_err(|errno| self.write_error("create the link", path, errno.into()))?;
        let entry = ManifestEntry {
            target: Some(target.to_owned()),
            ..self.new_entry(path, EntryKind::Symlink, target.len() as u64)
        };
        self.collected.entries.push(entry);
        Ok(())
    }
}

fn make_targets(levels: &mut [Level], owner: Option<(u32, u32)>) -> io::Result<()> {
    for index in 1..levels.len() {
        let (above, here) = levels.split_at_mut(index);
        let (Some(Level { target: Some(parent), .. }), Some(level)) = (above.last(), here.first_mut()) else {
            return Err(Errno::NOENT.into());
        };
        if level.target.is_none() {
            let made = handles::make_directory(parent, level.name.as_bytes())?;
            give_to(&made, owner)?;
            level.target = Some(made);
        }
    }
    Ok(())
}

fn give_to(file: impl AsFd, owner: Option<(u32, u32)>) -> io::Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

/// Gives a copy its owner, mode and time. The copy can always be read and removed by its owner, whatever the
/// manifest says of the original.
fn dress(target: &fs::File, mode: u32, metadata: &fs::Metadata, owner: Option<(u32, u32)>) -> io::Result<()> {
    give_to(target, owner)?;
    target.set_permissions(Permissions::from_mode(mode | 0o600))?;
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    Ok(rustix::fs::futimens(target, &Timestamps { last_access: time, last_modification: time })?)
}
