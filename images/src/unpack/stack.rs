//! Layers that are stacked by overlayfs and not merged: whiteouts become the marks that overlayfs reads.
//!
//! A deleted name becomes a character device 0:0, which anybody may make since Linux 5.8, in a user namespace too; a
//! directory that hides what lies below it gets `user.overlay.opaque`, which overlayfs heeds when mounted with `userxattr`.
//! They are made when all entries are in place: a whiteout never touches what its own layer brings, wherever it stands.

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags, fsetxattr, mknodat, statat};
use rustix::io::Errno;

use super::create::Tree;
use super::error::{UnpackError, limit, shown, system};

/// The mark of a directory that hides the layers below it (Documentation/filesystems/overlayfs, "userxattr").
pub(crate) const OPAQUE_XATTR: &str = "user.overlay.opaque";

/// Whiteouts that wait for the end.
#[derive(Debug, Default)]
pub(super) struct Marks {
    list: Vec<Mark>,
    bytes: u64,
}

#[derive(Debug)]
enum Mark {
    /// The directory of this path hides what is below it.
    Opaque(Vec<u8>),
    /// This name in the directory of this path is deleted.
    Delete(Vec<u8>, Vec<u8>),
}

impl Marks {
    pub(super) fn opaque(&mut self, directory: &[u8], bytes_max: u64) -> Result<(), UnpackError> {
        self.add(Mark::Opaque(directory.to_vec()), bytes_max)
    }

    pub(super) fn delete(
        &mut self,
        directory: &[u8],
        leaf: &[u8],
        bytes_max: u64,
    ) -> Result<(), UnpackError> {
        self.add(Mark::Delete(directory.to_vec(), leaf.to_vec()), bytes_max)
    }

    fn add(&mut self, mark: Mark, bytes_max: u64) -> Result<(), UnpackError> {
        let names = match &mark {
            Mark::Opaque(directory) => directory.len(),
            Mark::Delete(directory, leaf) => directory.len() + leaf.len(),
        };
        self.bytes += (names + size_of::<Mark>()) as u64;
        self.list.push(mark);
        if self.bytes > bytes_max {
            return Err(limit("bytes of memory for the whiteouts of the layer", bytes_max));
        }
        Ok(())
    }
}

impl Mark {
    /// The path that it is about; a deletion sorts before what is said about the same path in another way.
    fn key(&self) -> (Vec<u8>, bool) {
        match self {
            Mark::Opaque(directory) => (directory.clone(), true),
            Mark::Delete(directory, leaf) => (join(directory, leaf), false),
        }
    }
}

/// Makes every mark, parents before what is in them: what lies below a deleted name is deleted with it. Directories do not
/// have their final modes yet.
pub(super) fn apply(tree: &mut Tree<'_>, mut marks: Marks) -> Result<(), UnpackError> {
    marks.list.sort_by_cached_key(Mark::key);
    for mark in marks.list {
        let made = match &mark {
            Mark::Opaque(directory) => make_opaque(tree, directory),
            Mark::Delete(directory, leaf) => delete(tree, directory, leaf),
        };
        made.map_err(|error| error.at(&mark.key().0))?;
    }
    Ok(())
}

fn delete(tree: &mut Tree<'_>, directory: &[u8], leaf: &[u8]) -> Result<(), UnpackError> {
    if is_gone(tree, directory)? {
        return Ok(());
    }
    let parent = tree.parent(directory)?;
    match statat(parent, leaf, AtFlags::SYMLINK_NOFOLLOW) {
        // The layer replaces a directory by another: nothing of the old one shows through.
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            make_opaque(tree, &join(directory, leaf))
        }
        // What the layer brings hides what was there.
        Ok(_) => Ok(()),
        Err(Errno::NOENT) => {
            let made = mknodat(parent, leaf, FileType::CharacterDevice, Mode::empty(), 0);
            made.map_err(|errno| system(&format!("make the whiteout of \"{}\"", shown(leaf)))(errno))
        }
        Err(errno) => Err(system("look at what a whiteout names")(errno)),
    }
}

/// Whether the layer itself has something else than a directory on the way: then there is nothing left to hide.
fn is_gone(tree: &mut Tree<'_>, directory: &[u8]) -> Result<bool, UnpackError> {
    match tree.places.directory(directory) {
        Ok(_) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(true),
        Err(errno) => Err(system("open the directory of a whiteout")(errno)),
    }
}

fn join(directory: &[u8], leaf: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    [directory, slash, leaf].concat()
}

fn make_opaque(tree: &mut Tree<'_>, path: &[u8]) -> Result<(), UnpackError> {
    if is_gone(tree, path)? {
        return Ok(());
    }
    tree.parent(path)?;
    let handle = tree.places.readable(path).map_err(system("open the directory of a whiteout"))?;
    fsetxattr(&handle, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(|errno| match errno {
        Errno::OPNOTSUPP => system(
            "mark a directory as opaque: the filesystem of the store has no user extended attributes",
        )(errno),
        errno => system("mark a directory as opaque")(errno),
    })
}
