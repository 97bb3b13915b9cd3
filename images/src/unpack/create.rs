//! Entries become files: one function per kind, all through the handle of the parent directory.
//!
//! Every leaf is made anew (`O_EXCL`, `mkdirat`, `linkat`): what has the name already is unlinked first, never
//! opened, so neither a symbolic link nor a hard link can carry a write elsewhere.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fstat, ftruncate, linkat, mkdirat, mknodat, openat, statat,
    symlinkat, unlinkat,
};
use rustix::io::{Errno, pwrite, write};

use super::archive::{Archive, Entry};
use super::directories::{Attributes, Directories};
use super::error::{UnpackError, limit, malformed, refused, shown, system};
use super::header::Kind;
use super::name::CleanName;
use super::options::{Notes, UnpackOptions};
use super::owner::{Owner, set_xattrs};
use super::pax::Moment;
use super::place::{Places, split};
use super::spare::Layer;
use super::stack::{self, Marks};
use crate::remove::remove_tree;
use crate::tree::{Known, SumHasher};

/// A directory that entries imply without naming it: no owner, no time, so that two unpackings are equal.
const IMPLIED: Attributes =
    Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Moment { seconds: 0, nanoseconds: 0 }, implied: true };

/// Rights while the archive is being unpacked; the true ones come last.
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
const PRIVATE_FIFO: Mode = Mode::RUSR.union(Mode::WUSR);

const FRESH_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is left when a tree is made.
pub(super) struct Finished {
    pub(super) notes: Notes,
    pub(super) known: Known,
    pub(super) foreign_links: u64,
}

/// A directory tree in the making.
pub(super) struct Tree<'root> {
    pub(super) places: Places<'root>,
    pub(super) owner: Owner,
    pub(super) directories: Directories,
    pub(super) notes: Notes,
    pub(super) layer: Option<Layer>,
    pub(super) marks: Option<Marks>,
    /// What a list of the tree need not read again; `None` when no list is wanted.
    known: Option<Known>,
    foreign_links: u64,
    options: UnpackOptions,
}

impl<'root> Tree<'root> {
    pub(super) fn new(root: BorrowedFd<'root>, options: &UnpackOptions, recorded: bool) -> Tree<'root> {
        Tree {
            places: Places::new(root),
            owner: Owner::new(options.ownership, !options.layer && is_empty(root)),
            directories: Directories::default(),
            notes: Notes::default(),
            layer: options.layer.then(Layer::default),
            marks: options.stack.then(Marks::default),
            // What was there before is not known.
            known: recorded.then(|| if options.layer { Known::default() } else { Known::of_fresh_tree() }),
            foreign_links: 0,
            options: options.clone(),
        }
    }

    /// Creates one entry and reads its content.
    pub(super) fn create(
        &mut self,
        entry: &Entry,
        name: &CleanName,
        archive: &mut Archive<'_>,
    ) -> Result<(), UnpackError> {
        if name.is_root() {
            return self.root(entry);
        }
        match entry.kind {
            Kind::File => self.file(entry, name, archive),
            Kind::Directory => self.directory(entry, name),
            Kind::Symlink => self.symlink(entry, name),
            Kind::HardLink => self.hard_link(entry, name),
            Kind::Fifo => self.fifo(entry, name),
            Kind::CharacterDevice | Kind::BlockDevice => {
                self.notes.add(|| format!("{}: device left out", shown(&entry.name)));
                Ok(())
            }
            Kind::Label => Ok(()),
        }
    }

    /// Sets what waits for the end.
    pub(super) fn finish(mut self) -> Result<Finished, UnpackError> {
        if let Some(marks) = self.marks.take() {
            stack::apply(&mut self, marks)?;
        }
        let mut known = self.known.take().unwrap_or_default();
        self.directories.apply(&mut self.places, &mut self.owner, &mut known)?;
        known.sort();
        Ok(Finished { notes: self.notes, known, foreign_links: self.foreign_links })
    }

    /// The largest memory for whiteouts that wait for the end: what directories leave of it.
    pub(super) fn marks_bytes_max(&self) -> u64 {
        self.options.limits.directory_bytes_max.saturating_sub(self.directories.bytes())
    }

    /// The same for directories.
    fn directories_bytes_max(&self) -> u64 {
        let marks = self.marks.as_ref().map_or(0, Marks::bytes);
        self.options.limits.directory_bytes_max.saturating_sub(marks)
    }

    /// Remembers what a directory gets if no entry names it.
    pub(super) fn imply(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let bytes_max = self.directories_bytes_max();
        self.directories.add(path, IMPLIED, bytes_max)
    }

    /// Sets what the root directory of a new tree gets if no entry names it: as any other, so that two unpackings are equal.
    pub(super) fn settle_root(&mut self) -> Result<(), UnpackError> {
        // Not marked as implied: nothing has to be found out about it in the layers below.
        let attributes = Attributes { implied: false, ..IMPLIED };
        self.directories.add(b"", attributes, self.options.limits.directory_bytes_max)
    }

    fn root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        match entry.kind {
            Kind::Directory => {
                let root = self.places.root();
                if set_xattrs(root, &entry.name, &entry.xattrs, &mut self.notes)? {
                    remember_attributed(&mut self.known, root)?;
                }
                let bytes_max = self.directories_bytes_max();
                self.directories.add(b"", attributes(entry), bytes_max)
            }
            Kind::Label => Ok(()),
            _ => Err(refused("it would replace the root directory by something else")),
        }
    }

    fn file(
        &mut self,
        entry: &Entry,
        name: &CleanName,
        archive: &mut Archive<'_>,
    ) -> Result<(), UnpackError> {
        let mode = self.owner.creation_mode(entry);
        let handle =
            self.fresh(name, "create the file", |parent, leaf| openat(parent, leaf, FRESH_FILE, mode))?;
        let mut hasher = self.known.is_some().then(SumHasher::default);
        match &entry.sparse {
            None => write_all(&handle, archive, &mut hasher)?,
            Some(map) => {
                let mut end = 0;
                for segment in &map.segments {
                    hole(&mut hasher, segment.offset.saturating_sub(end));
                    write_segment(&handle, segment.offset, segment.bytes, archive, &mut hasher)?;
                    end = segment.offset + segment.bytes;
                }
                hole(&mut hasher, map.real_bytes.saturating_sub(end));
                ftruncate(&handle, map.real_bytes).map_err(|errno| {
                    system(&format!("extend the file to {} bytes", map.real_bytes))(errno)
                })?;
            }
        }
        let attributed = set_xattrs(&handle, &entry.name, &entry.xattrs, &mut self.notes)?;
        if let (Some(known), Some(hasher)) = (&mut self.known, hasher) {
            let stat = fstat(&handle).map_err(system("look at the file"))?;
            known.add_sum(stat.st_ino, hasher.finish());
        }
        if attributed {
            remember_attributed(&mut self.known, &handle)?;
        }
        self.owner.fresh_attributes(&handle, mode, &attributes(entry))
    }

    fn directory(&mut self, entry: &Entry, name: &CleanName) -> Result<(), UnpackError> {
        let parent = self.parent(name.parent())?;
        let leaf = name.leaf();
        match mkdirat(parent, leaf, PRIVATE_DIRECTORY) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_directory(parent, leaf)? => self.open_up(name)?,
            Err(Errno::EXIST) => {
                self.displace(name)?;
                let parent = self.parent(name.parent())?;
                mkdirat(parent, leaf, PRIVATE_DIRECTORY).map_err(system("create the directory"))?;
            }
            Err(errno) => return Err(system("create the directory")(errno)),
        }
        self.mark(name)?;
        if !entry.xattrs.is_empty() {
            let handle = self.places.readable(name.path()).map_err(system("open the directory"))?;
            if set_xattrs(&handle, &entry.name, &entry.xattrs, &mut self.notes)? {
                remember_attributed(&mut self.known, &handle)?;
            }
        }
        let bytes_max = self.directories_bytes_max();
        self.directories.add(name.path(), attributes(entry), bytes_max)
    }

    /// Gives the owner all rights to a directory of an earlier layer, so that it can be filled.
    fn open_up(&mut self, name: &CleanName) -> Result<(), UnpackError> {
        if self.layer.is_none() {
            return Ok(());
        }
        let handle = self.places.readable(name.path()).map_err(system("open the directory"))?;
        let stat = fstat(&handle).map_err(system("read the mode of the directory"))?;
        if stat.st_mode & 0o700 == 0o700 {
            return Ok(());
        }
        rustix::fs::fchmod(&handle, PRIVATE_DIRECTORY).map_err(system("make the directory writable"))
    }

    fn symlink(&mut self, entry: &Entry, name: &CleanName) -> Result<(), UnpackError> {
        if entry.link.is_empty() {
            return Err(malformed("a symbolic link without a target"));
        }
        self.fresh(name, "create the symbolic link", |parent, leaf| {
            symlinkat(&entry.link[..], parent, leaf)
        })?;
        for (key, _) in &entry.xattrs {
            self.notes.add(|| format!("{}: extended attribute {} left out", shown(&entry.name), shown(key)));
        }
        let parent = self.places.directory(name.parent()).map_err(system("open its directory"))?;
        self.owner.link_attributes(parent, name.leaf(), &attributes(entry))
    }

    fn hard_link(&mut self, entry: &Entry, name: &CleanName) -> Result<(), UnpackError> {
        let mut target = CleanName::default();
        if entry.link.starts_with(b"/") {
            return Err(refused(format!("the target \"{}\" of a hard link is absolute", shown(&entry.link))));
        }
        target.set(&entry.link, &self.options.limits).map_err(|error| {
            refused(format!("the target \"{}\" of a hard link: {}", shown(&entry.link), error.fault))
        })?;
        if target.is_root() {
            return Err(refused("a hard link to the root directory"));
        }
        let found = self.link_source(&target).and_then(|source| {
            let stat = statat(&source, target.leaf(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((source, stat))
        });
        let (source, stat) = match found {
            // The target lies in a layer below; whoever stacks this one has to know.
            Err(Errno::NOENT | Errno::NOTDIR) if self.options.stack => {
                self.foreign_links += 1;
                return Ok(());
            }
            found => found.map_err(|errno| {
                system(&format!("find the target \"{}\" of the hard link", shown(target.path())))(errno)
            })?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(refused(format!("a hard link to the directory \"{}\"", shown(target.path()))));
        }
        let max = self.options.limits.hard_links_max;
        if u64::from(stat.st_nlink as u32) >= max {
            return Err(limit(format!("hard links to \"{}\"", shown(target.path())), max));
        }
        let parent = self.parent(name.parent())?;
        if let Ok(there) = statat(parent, name.leaf(), AtFlags::SYMLINK_NOFOLLOW)
            && (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return self.mark(name);
        }
        // Without AT_SYMLINK_FOLLOW a symbolic link itself gets the second name.
        self.fresh(name, "create the hard link", |parent, leaf| {
            linkat(&source, target.leaf(), parent, leaf, AtFlags::empty())
        })
    }

    /// Returns a handle of the directory that holds the target of a link.
    fn link_source(&mut self, target: &CleanName) -> Result<OwnedFd, Errno> {
        let handle = self.places.directory(target.parent())?;
        handle.try_clone_to_owned().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
    }

    fn fifo(&mut self, entry: &Entry, name: &CleanName) -> Result<(), UnpackError> {
        self.fresh(name, "create the fifo", |parent, leaf| {
            mknodat(parent, leaf, FileType::Fifo, PRIVATE_FIFO, 0)
        })?;
        let parent = self.places.directory(name.parent()).map_err(system("open its directory"))?;
        // With O_NONBLOCK the open does not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(parent, name.leaf(), flags, Mode::empty()).map_err(system("open the fifo"))?;
        let stat = fstat(&handle).map_err(system("look at the fifo"))?;
        self.owner.attributes(&handle, &stat, &attributes(entry))
    }

    /// Makes a leaf that must not exist; what has its name is taken away first.
    fn fresh<T>(
        &mut self,
        name: &CleanName,
        action: &str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let parent = self.parent(name.parent())?;
        let made = match make(parent, name.leaf()) {
            Err(Errno::EXIST) => {
                self.displace(name)?;
                make(self.parent(name.parent())?, name.leaf())
            }
            result => result,
        };
        let made = made.map_err(system(action))?;
        self.mark(name)?;
        Ok(made)
    }

    /// Takes away what has the name of an entry.
    fn displace(&mut self, name: &CleanName) -> Result<(), UnpackError> {
        let is_layer = self.layer.is_some();
        let parent = self.parent(name.parent())?;
        match unlinkat(parent, name.leaf(), AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) if is_layer => {
                remove_tree(parent, OsStr::from_bytes(name.leaf()))
                    .map_err(|error| system("remove the directory that it replaces")(error.errno))?;
            }
            Err(Errno::ISDIR | Errno::PERM) => match unlinkat(parent, name.leaf(), AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    return Err(refused("it would replace a directory that is not empty"));
                }
                result => result.map_err(system("remove the directory that it replaces"))?,
            },
            Err(errno) => return Err(system("remove what has its name")(errno)),
        }
        self.places.forget();
        Ok(())
    }

    /// Remembers, for whiteouts, that this layer made the entry.
    fn mark(&mut self, name: &CleanName) -> Result<(), UnpackError> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        let parent = self.places.directory(name.parent()).map_err(system("open its directory"))?;
        layer.mark(parent, name.leaf())
    }

    /// Returns the handle of a parent directory, creating what is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, UnpackError> {
        match self.places.directory(path) {
            Ok(_) => {}
            Err(Errno::NOENT) => self.imply_all(path)?,
            Err(errno) => return Err(parent_error(path, errno)),
        }
        self.places.directory(path).map_err(|errno| parent_error(path, errno))
    }

    /// Creates the missing directories of `path`, the topmost first.
    fn imply_all(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let known = self.places.known_bytes(path);
        let slashes = path.iter().enumerate().skip(known + 1).filter(|(_, byte)| **byte == b'/');
        for end in slashes.map(|(at, _)| at).chain([path.len()]) {
            let this = &path[..end];
            if self.places.directory(this).is_ok() {
                continue;
            }
            let (above, leaf) = split(this);
            let parent = self.places.directory(above).map_err(|errno| parent_error(above, errno))?;
            match mkdirat(parent, leaf, PRIVATE_DIRECTORY) {
                Ok(()) => {
                    self.imply(this)?;
                    // Open it now: from here the next level is one step.
                    self.places.directory(this).map_err(|errno| parent_error(this, errno))?;
                }
                Err(Errno::EXIST) => {
                    let what = format!("\"{}\" is a symbolic link to nothing, not a directory", shown(this));
                    return Err(refused(what));
                }
                Err(errno) => return Err(parent_error(this, errno)),
            }
        }
        Ok(())
    }
}

/// Whether nothing is in a directory; if it cannot be told, something may be.
fn is_empty(directory: BorrowedFd<'_>) -> bool {
    let is_itself = |name: &[u8]| matches!(name, b"." | b"..");
    Dir::read_from(directory).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| is_itself(entry.file_name().to_bytes())))
    })
}

/// Tells the list of the tree to look at the extended attributes of a file.
fn remember_attributed(known: &mut Option<Known>, file: impl AsFd) -> Result<(), UnpackError> {
    if let Some(known) = known {
        let stat = fstat(file).map_err(system("look at the file"))?;
        known.add_attributed(stat.st_ino);
    }
    Ok(())
}

fn attributes(entry: &Entry) -> Attributes {
    Attributes { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, implied: false }
}

fn parent_error(path: &[u8], errno: Errno) -> UnpackError {
    match errno {
        Errno::NOTDIR | Errno::LOOP => {
            refused(format!("its parent \"{}\" is not a directory inside the archive", shown(path)))
        }
        other => system(&format!("open its parent directory \"{}\"", shown(path)))(other),
    }
}

/// Whether the leaf itself is a directory, links not followed.
fn is_directory(parent: impl AsFd, leaf: &[u8]) -> Result<bool, UnpackError> {
    let stat =
        statat(parent, leaf, AtFlags::SYMLINK_NOFOLLOW).map_err(system("look at what has its name"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn hole(hasher: &mut Option<SumHasher>, bytes: u64) {
    if let Some(hasher) = hasher {
        hasher.update_zeros(bytes);
    }
}

fn write_all(
    handle: &OwnedFd,
    archive: &mut Archive<'_>,
    hasher: &mut Option<SumHasher>,
) -> Result<(), UnpackError> {
    while let Some(mut chunk) = archive.content(u64::MAX)? {
        if let Some(hasher) = hasher {
            hasher.update(chunk);
        }
        while !chunk.is_empty() {
            match write(handle, chunk) {
                Ok(count) => chunk = &chunk[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(system(&format!("write {} bytes", chunk.len()))(errno)),
            }
        }
    }
    Ok(())
}

fn write_segment(
    handle: &OwnedFd,
    mut offset: u64,
    mut bytes: u64,
    archive: &mut Archive<'_>,
    hasher: &mut Option<SumHasher>,
) -> Result<(), UnpackError> {
    while bytes > 0 {
        let Some(mut chunk) = archive.content(bytes)? else {
            return Err(malformed("its sparse map is longer than its content"));
        };
        bytes -= chunk.len() as u64;
        if let Some(hasher) = hasher {
            hasher.update(chunk);
        }
        while !chunk.is_empty() {
            match pwrite(handle, chunk, offset) {
                Ok(count) => {
                    chunk = &chunk[count..];
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(system(&format!("write {} bytes", chunk.len()))(errno)),
            }
        }
    }
    Ok(())
}
