//! Modes, owners and times of directories, kept until everything inside them is in place.
//!
//! Creating a file changes the time of its directory, and a directory without write permission could not be
//! filled; so both are set at the end, the deepest and latest first.

use std::collections::HashSet;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::error::{UnpackError, limit, system};
use super::owner::Owner;
use super::pax::Moment;
use super::place::Places;
use crate::tree::Known;

/// What a directory gets at the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Moment,
    /// No entry named it.
    pub(super) implied: bool,
}

/// One remembered directory; its path is found by undoing the steps after it.
struct Remembered {
    attributes: Attributes,
    /// Bytes that its path shares with the one before it.
    shared: u32,
    /// Bytes of the path before it beyond `shared`, at the end of `tails`.
    tail: u32,
}

/// Memory of one directory: what is remembered, and at the end its identity in a hash table that is half empty.
const REMEMBERED_BYTES: usize = size_of::<Remembered>() + 2 * (size_of::<(u64, u64)>() + 1);

/// All directories of an archive. Paths share their beginnings, so a deep tree costs no more than a flat one.
#[derive(Default)]
pub(super) struct Directories {
    list: Vec<Remembered>,
    tails: Vec<u8>,
    path: Vec<u8>,
}

impl Directories {
    /// Remembers a directory; of two entries for one directory the later wins.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        bytes_max: u64,
    ) -> Result<(), UnpackError> {
        let shared = match path.starts_with(&self.path) {
            true => self.path.len(),
            false => self.path.iter().zip(path).take_while(|(old, new)| old == new).count(),
        };
        let tail = self.path.len() - shared;
        self.tails.extend_from_slice(&self.path[shared..]);
        self.path.truncate(shared);
        self.path.extend_from_slice(&path[shared..]);
        // Names are limited to far less than 4 GiB before they come here.
        self.list.push(Remembered { attributes, shared: shared as u32, tail: tail as u32 });
        if self.bytes() > bytes_max {
            return Err(limit("bytes of memory for the directories of the archive", bytes_max));
        }
        Ok(())
    }

    /// Returns the memory of all of them.
    pub(super) fn bytes(&self) -> u64 {
        (self.tails.len() + self.list.len() * REMEMBERED_BYTES) as u64
    }

    /// Sets everything, in reverse.
    pub(super) fn apply(
        mut self,
        places: &mut Places<'_>,
        owner: &mut Owner,
        known: &mut Known,
    ) -> Result<(), UnpackError> {
        let mut done = HashSet::new();
        while let Some(Remembered { attributes, shared, tail }) = self.list.pop() {
            apply_one(&self.path, &attributes, places, owner, known, &mut done)
                .map_err(|error| error.at(&self.path))?;
            self.path.truncate(shared as usize);
            let start = self.tails.len() - tail as usize;
            self.path.extend_from_slice(&self.tails[start..]);
            self.tails.truncate(start);
        }
        Ok(())
    }
}

fn apply_one(
    path: &[u8],
    attributes: &Attributes,
    places: &mut Places<'_>,
    owner: &mut Owner,
    known: &mut Known,
    done: &mut HashSet<(u64, u64)>,
) -> Result<(), UnpackError> {
    let handle = match places.readable(path) {
        // A later entry put something else in its place.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        result => result.map_err(system("open the directory again"))?,
    };
    let stat = fstat(&handle).map_err(system("read the attributes of the directory"))?;
    if !done.insert((stat.st_dev, stat.st_ino)) {
        return Ok(());
    }
    if attributes.implied {
        known.add_implied(stat.st_ino);
    }
    owner.attributes(&handle, &stat, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_in_reverse() {
        let paths: [&[u8]; 8] = [b"", b"a", b"a/b", b"a/b/c", b"ab", b"a/b", b"z", b"a/bb/c"];
        let mut directories = Directories::default();
        for (mode, path) in (0..).zip(paths) {
            let attributes = Attributes { mode, uid: 0, gid: 0, mtime: Moment::default(), implied: false };
            directories.add(path, attributes, 1 << 20).unwrap();
        }
        for (mode, path) in (0..8).zip(paths).rev() {
            assert_eq!(directories.path, path);
            let last = directories.list.pop().unwrap();
            assert_eq!(last.attributes.mode, mode);
            directories.path.truncate(last.shared as usize);
            let start = directories.tails.len() - last.tail as usize;
            directories.path.extend_from_slice(&directories.tails[start..]);
            directories.tails.truncate(start);
        }
        assert!(directories.path.is_empty() && directories.tails.is_empty());
    }
}
