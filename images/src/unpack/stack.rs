//! Layers that are stacked by overlayfs and not merged: whiteouts become the marks that overlayfs reads.
//!
//! A deleted name becomes a character device 0:0, which anybody may make since Linux 5.8, in a user namespace too; a
//! directory that hides what lies below it gets `user.overlay.opaque`, which overlayfs heeds when mounted with `userxattr`.
//! They are made when all entries are in place: a whiteout never touches what its own layer brings, wherever it stands.

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags, fsetxattr, mknodat, statat, utimensat};
use rustix::io::Errno;

use super::create::Tree;
use super::error::{UnpackError, limit, shown, system};
use super::owner::timestamps;
use super::pax::Moment;

/// The mark of a directory that hides the layers below it (Documentation/filesystems/overlayfs, "userxattr").
pub(crate) const OPAQUE_XATTR: &str = "user.overlay.opaque";

/// Whiteouts that wait for the end.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Their paths, one behind the other.
    text: Vec<u8>,
    list: Vec<Mark>,
}

/// A whiteout, by its path in the text.
#[derive(Debug, Clone, Copy)]
struct Mark {
    start: u32,
    /// Of the whole path.
    bytes: u32,
    /// Of the directory that it is in; the whole path for a directory that hides what is below it.
    directory_bytes: u32,
}

impl Marks {
    pub(super) fn opaque(&mut self, directory: &[u8], bytes_max: u64) -> Result<(), UnpackError> {
        self.add(directory, b"", bytes_max)
    }

    pub(super) fn delete(
        &mut self,
        directory: &[u8],
        leaf: &[u8],
        bytes_max: u64,
    ) -> Result<(), UnpackError> {
        self.add(directory, leaf, bytes_max)
    }

    /// Returns the memory of all of them.
    pub(super) fn bytes(&self) -> u64 {
        (self.text.len() + self.list.len() * size_of::<Mark>()) as u64
    }

    fn add(&mut self, directory: &[u8], leaf: &[u8], bytes_max: u64) -> Result<(), UnpackError> {
        let start = self.text.len();
        self.text.extend_from_slice(directory);
        if !directory.is_empty() && !leaf.is_empty() {
            self.text.push(b'/');
        }
        self.text.extend_from_slice(leaf);
        let all_bytes = self.text.len();
        let small = |number: usize| u32::try_from(number).ok();
        let mark = small(start).zip(small(all_bytes - start)).zip(small(directory.len()));
        let mark = mark.map(|((start, bytes), directory_bytes)| Mark { start, bytes, directory_bytes });
        self.list.extend(mark);
        if mark.is_none() || self.bytes() > bytes_max {
            return Err(limit("bytes of memory for directories and whiteouts of the layer", bytes_max));
        }
        Ok(())
    }
}

impl Mark {
    /// The path that it is about; a deletion sorts before what is said about the same path in another way.
    fn key<'t>(&self, text: &'t [u8]) -> (&'t [u8], bool) {
        let path = &text[self.start as usize..self.start as usize + self.bytes as usize];
        (path, self.directory_bytes == self.bytes)
    }
}

/// Makes every mark, parents before what is in them: what lies below a deleted name is deleted with it. Directories do not
/// have their final modes yet.
pub(super) fn apply(tree: &mut Tree<'_>, marks: Marks) -> Result<(), UnpackError> {
    let Marks { text, mut list } = marks;
    list.sort_unstable_by_key(|mark| mark.key(&text));
    for mark in list {
        let (path, is_opaque) = mark.key(&text);
        let (directory, leaf) = path.split_at(mark.directory_bytes as usize);
        let made = match is_opaque {
            true => make_opaque(tree, directory),
            false => delete(tree, directory, leaf.strip_prefix(b"/").unwrap_or(leaf)),
        };
        made.map_err(|error| error.at(path))?;
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
            made.map_err(|errno| system(&format!("make the whiteout of \"{}\"", shown(leaf)))(errno))?;
            // No time of its own, so that two unpackings are equal.
            utimensat(parent, leaf, &timestamps(Moment::default()), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(system("set the modification time of a whiteout"))
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
