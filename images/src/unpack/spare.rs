//! What a layer made, and deletion that spares it: the half of whiteouts that looks at the disk.
//!
//! A layer may hold a million entries and as many whiteouts over the same directory, so no directory is ever looked
//! through twice: once it is cleared, it holds nothing but what this layer made. The walk keeps one handle however deep
//! it goes, and no names but those of directories still to be looked at.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::error::{UnpackError, refused, system};
use crate::remove::{self, remove_tree};

/// The identity of a directory.
type Inode = (u64, u64);

/// What this layer made.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// Fingerprints of names with the directory they are in, under a key nobody knows: a million names in 19 MB.
    /// That two share one, and a deleted file stays therefore, has a chance below 1 in 10^7 for a million of each.
    made: HashSet<u64>,
    key: RandomState,
    /// Directories in which nothing of the layers below is left.
    cleared: HashSet<Inode>,
}

/// A directory on the way down.
struct Level {
    inode: Inode,
    /// Its own name in the level above.
    name: Vec<u8>,
    /// Directories in it that are still to be looked at.
    left: Vec<Vec<u8>>,
}

impl Layer {
    /// Remembers that this layer made `leaf`.
    pub(super) fn mark(&mut self, parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<(), UnpackError> {
        self.made.insert(self.key.hash_one((inode(parent)?, leaf)));
        Ok(())
    }

    fn made(&self, parent: Inode, leaf: &[u8]) -> bool {
        self.made.contains(&self.key.hash_one((parent, leaf)))
    }

    /// Removes `leaf` and what lies below it, except what this layer made and the directories that hold such.
    pub(super) fn delete(&mut self, parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<(), UnpackError> {
        if self.made.is_empty() {
            return remove_tree(parent, OsStr::from_bytes(leaf))
                .map_err(|error| system("delete what the whiteout names")(error.errno));
        }
        let above = inode(parent)?;
        if self.cleared.contains(&above) {
            return Ok(());
        }
        let made = self.made(above, leaf);
        if !made && unlink(parent, leaf)? {
            return Ok(());
        }
        match open(parent, leaf) {
            Ok(directory) => self.clear(directory)?,
            // What this layer made is no directory.
            Err(Errno::NOTDIR | Errno::LOOP) if made => return Ok(()),
            Err(errno) => return Err(system("open a directory of the layers below")(errno)),
        }
        if made { Ok(()) } else { remove_if_empty(parent, leaf) }
    }

    /// The same for everything in `directory`, which keeps its mode.
    pub(super) fn delete_all(&mut self, directory: BorrowedFd<'_>) -> Result<(), UnpackError> {
        let failed = || system("open a directory of the layers below");
        let mode = Mode::from_raw_mode(fstat(directory).map_err(failed())?.st_mode);
        let opened = open(directory, b".").map_err(failed())?;
        let same = opened.try_clone().map_err(|_| failed()(Errno::MFILE))?;
        self.clear(opened)?;
        if mode.contains(Mode::RWXU) {
            return Ok(());
        }
        fchmod(same, mode).map_err(system("give a directory its mode back"))
    }

    /// Empties `here` but for what this layer made, level by level.
    fn clear(&mut self, mut here: OwnedFd) -> Result<(), UnpackError> {
        let top = inode(&here)?;
        if self.cleared.contains(&top) {
            return Ok(());
        }
        let left = self.clear_files(&here, top)?;
        let mut levels = vec![Level { inode: top, name: Vec::new(), left }];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.left.pop() {
                let below =
                    open(here.as_fd(), &name).map_err(system("open a directory of the layers below"))?;
                let inode = inode(&below)?;
                // What is cleared already stays for its own sake.
                if !self.cleared.contains(&inode) {
                    let left = self.clear_files(&below, inode)?;
                    levels.push(Level { inode, name, left });
                    here = below;
                }
                continue;
            }
            let done = levels.pop();
            if let (Some(done), Some(above)) = (done, levels.last()) {
                here = parent_of(&here, above.inode)?;
                if !self.made(above.inode, &done.name) {
                    remove_if_empty(here.as_fd(), &done.name)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what is no directory and was not made by this layer; returns the directories.
    fn clear_files(&mut self, directory: &OwnedFd, inode: Inode) -> Result<Vec<Vec<u8>>, UnpackError> {
        let mut directories = Vec::new();
        for entry in Dir::read_from(directory).map_err(system("read a directory"))? {
            let entry = entry.map_err(system("read a directory"))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let is_directory = match self.made(inode, name) {
                true => is_directory(directory, name, entry.file_type())?,
                false => !unlink(directory.as_fd(), name)?,
            };
            if is_directory {
                directories.push(name.to_vec());
            }
        }
        self.cleared.insert(inode);
        Ok(directories)
    }
}

/// Unlinks a name; returns false for a directory.
fn unlink(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, UnpackError> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(errno) => Err(system("delete a file")(errno)),
    }
}

/// Removes a directory unless something is in it, which is then of this layer.
fn remove_if_empty(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), UnpackError> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(errno) => Err(system("delete a directory")(errno)),
    }
}

/// Goes back up: no link was followed on the way down, so `..` is where it came from.
fn parent_of(directory: &OwnedFd, expected: Inode) -> Result<OwnedFd, UnpackError> {
    let parent =
        openat(directory, c"..", READABLE, Mode::empty()).map_err(system("go back to a directory above"))?;
    match inode(&parent)? == expected {
        true => Ok(parent),
        false => Err(refused("a directory of the layers below was moved while it was looked through")),
    }
}

/// Whether `name` is a directory; some filesystems do not tell while they are read.
fn is_directory(parent: &OwnedFd, name: &[u8], told: FileType) -> Result<bool, UnpackError> {
    if told != FileType::Unknown {
        return Ok(told == FileType::Directory);
    }
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(system("look at an entry"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn inode(directory: impl AsFd) -> Result<Inode, UnpackError> {
    let stat = fstat(directory).map_err(system("identify a directory"))?;
    Ok((stat.st_dev, stat.st_ino))
}

const READABLE: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory; its owner gets the rights that emptying it takes. Where this layer made something in it, its
/// owner had them before.
fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    remove::open(parent, name).map_err(|(_, errno)| errno)
}
