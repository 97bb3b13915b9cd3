//! Whiteouts: names that begin with `.wh.` delete what earlier layers put into the directory.
//!
//! They never touch what the same layer brings, in whatever order the archive has them
//! (OCI image specification, "Image Layer Filesystem Changeset").

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;

use super::archive::Entry;
use super::create::Tree;
use super::error::{UnpackError, refused, shown, system};
use super::header::Kind;
use super::name::CleanName;
use crate::remove::remove_tree;

const PREFIX: &[u8] = b".wh.";
/// Names of AUFS's own bookkeeping; only the opaque mark means something elsewhere.
const BOOKKEEPING: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The identity of a directory.
type Inode = (u64, u64);

/// What this layer made: names by the directory they are in.
#[derive(Debug, Default)]
pub(super) struct Layer {
    made: HashSet<(Inode, Vec<u8>)>,
}

/// What the name of an entry asks for.
enum Whiteout<'a> {
    /// An ordinary entry.
    No,
    /// AUFS's files, which mean nothing here.
    Ignored,
    /// Delete everything in the directory.
    Opaque,
    /// Delete this name in the directory.
    Delete(&'a [u8]),
}

impl Layer {
    pub(super) fn mark(&mut self, parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<(), UnpackError> {
        self.made.insert((inode(parent)?, leaf.to_vec()));
        Ok(())
    }

    fn made(&self, parent: Inode, leaf: &[u8]) -> bool {
        // One key type for the set; the copy is a name of at most 255 bytes.
        self.made.contains(&(parent, leaf.to_vec()))
    }
}

/// Carries out a whiteout; returns false for an ordinary entry, which is then created.
pub(super) fn apply(tree: &mut Tree<'_>, entry: &Entry, name: &CleanName) -> Result<bool, UnpackError> {
    if tree.layer.is_none() && tree.marks.is_none() {
        return Ok(false);
    }
    let wanted = read(name)?;
    let ordinary = matches!(wanted, Whiteout::No);
    if !ordinary && !matches!(wanted, Whiteout::Ignored) && entry.kind != Kind::File {
        return Err(refused("a whiteout that is not a regular file"));
    }
    if tree.marks.is_some() && !matches!(wanted, Whiteout::Ignored) {
        return remember(tree, name, &wanted);
    }
    let Some(layer) = &tree.layer else {
        tree.notes.add(|| format!("{}: left out", shown(&entry.name)));
        return Ok(true);
    };
    let parent = match (&wanted, tree.places.directory(name.parent())) {
        (Whiteout::No, _) => return Ok(false),
        (Whiteout::Ignored, _) => {
            tree.notes.add(|| format!("{}: left out", shown(&entry.name)));
            return Ok(true);
        }
        // There is nothing to delete.
        (_, Err(Errno::NOENT | Errno::NOTDIR)) => return Ok(true),
        (_, result) => result.map_err(system("open its directory"))?,
    };
    match wanted {
        Whiteout::Delete(leaf) => remove_except(parent, leaf, layer)?,
        Whiteout::Opaque => {
            let directory = open(parent, b".")?;
            for leaf in children(&directory)? {
                remove_except(directory.as_fd(), &leaf, layer)?;
            }
        }
        Whiteout::No | Whiteout::Ignored => {}
    }
    // The kept handle may be of a directory that is gone now.
    tree.places.forget();
    Ok(true)
}

/// Keeps a whiteout of a stacked layer for the end.
fn remember(tree: &mut Tree<'_>, name: &CleanName, wanted: &Whiteout<'_>) -> Result<bool, UnpackError> {
    let max = tree.waiting_bytes_max();
    let Some(marks) = &mut tree.marks else { return Ok(false) };
    match wanted {
        Whiteout::No | Whiteout::Ignored => return Ok(false),
        Whiteout::Opaque => marks.opaque(name.parent(), max)?,
        Whiteout::Delete(leaf) => marks.delete(name.parent(), leaf, max)?,
    }
    Ok(true)
}

fn read(name: &CleanName) -> Result<Whiteout<'_>, UnpackError> {
    let mut above = name.parent().split(|byte| *byte == b'/');
    if let Some(part) = above.find(|part| part.starts_with(PREFIX)) {
        return match part.starts_with(BOOKKEEPING) {
            true => Ok(Whiteout::Ignored),
            false => Err(refused("a whiteout as a directory")),
        };
    }
    let leaf = name.leaf();
    Ok(match leaf.strip_prefix(PREFIX) {
        None => Whiteout::No,
        Some(_) if leaf == OPAQUE => Whiteout::Opaque,
        Some(b"" | b"." | b"..") => return Err(refused("a whiteout that names nothing")),
        Some(_) if leaf.starts_with(BOOKKEEPING) => Whiteout::Ignored,
        Some(target) => Whiteout::Delete(target),
    })
}

/// A directory on the way down, with the names in it that are still to be looked at.
struct Level {
    directory: OwnedFd,
    inode: Inode,
    names: Vec<Vec<u8>>,
    /// Its own name in the level above.
    name: Vec<u8>,
}

/// Removes `leaf` and what lies below it, except what this layer made and the directories that hold such.
fn remove_except(parent: BorrowedFd<'_>, leaf: &[u8], layer: &Layer) -> Result<(), UnpackError> {
    if layer.made.is_empty() {
        return remove_tree(parent, OsStr::from_bytes(leaf))
            .map_err(|error| system("delete what the whiteout names")(error.errno));
    }
    let top = parent.try_clone_to_owned().map_err(|_| system("keep a handle")(Errno::MFILE))?;
    let mut levels =
        vec![Level { inode: inode(&top)?, directory: top, names: vec![leaf.to_vec()], name: Vec::new() }];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            let done = levels.pop();
            if let (Some(done), Some(above)) = (done, levels.last())
                && !layer.made(above.inode, &done.name)
            {
                // Not empty: something of this layer is in it, and so it stays.
                match unlinkat(&above.directory, &done.name[..], AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                    Err(errno) => return Err(system("delete a directory")(errno)),
                }
            }
            continue;
        };
        let made = layer.made(level.inode, &name);
        if !made {
            match unlinkat(&level.directory, &name[..], AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(system("delete a file")(errno)),
            }
        }
        match open(level.directory.as_fd(), &name) {
            Ok(directory) => {
                let names = children(&directory)?;
                levels.push(Level { inode: inode(&directory)?, directory, names, name });
            }
            // What this layer made is no directory.
            Err(_) if made => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn inode(directory: impl AsFd) -> Result<Inode, UnpackError> {
    let stat = fstat(directory).map_err(system("identify a directory"))?;
    Ok((stat.st_dev, stat.st_ino))
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(system("open a directory of the layers below"))
}

fn children(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, UnpackError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(system("read a directory"))? {
        let entry = entry.map_err(system("read a directory"))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
