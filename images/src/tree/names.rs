//! The names in a directory, sorted, a bounded number of them at a time.
//!
//! A directory may have a million names of 255 bytes. They are taken in portions: the smallest ones that are greater than all
//! that came before, found by reading the directory once more.

use std::cmp::Reverse;
use std::os::fd::AsFd;

use rustix::fs::Dir;
use rustix::io::Errno;

/// Bytes that a portion is cut to when it has grown to twice as much: 250,000 short names.
const PORTION_BYTES: usize = 4 << 20;

/// Where a name lies in the text.
type Place = (u32, u16);

/// The names of one directory that are still to come.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Vec<u8>,
    /// The next one last.
    places: Vec<Place>,
    /// The name that was taken last.
    last: Vec<u8>,
    /// The directory has further names, greater than those in here.
    more: bool,
}

impl Names {
    /// Reads the first portion.
    pub(super) fn read(directory: impl AsFd) -> Result<Names, Errno> {
        let mut names = Names::default();
        names.fill(directory, PORTION_BYTES)?;
        Ok(names)
    }

    /// Takes the next name of the portion.
    pub(super) fn take(&mut self) -> Option<&[u8]> {
        let place = self.places.pop()?;
        self.last.clear();
        self.last.extend_from_slice(name(&self.text, place));
        Some(&self.last)
    }

    /// Whether the portion is used up and another one must be read.
    pub(super) fn wants_more(&self) -> bool {
        self.places.is_empty() && self.more
    }

    /// Reads the next portion.
    pub(super) fn read_more(&mut self, directory: impl AsFd) -> Result<(), Errno> {
        self.fill(directory, PORTION_BYTES)
    }

    /// Frees the memory of the portion; what is left of it is read again.
    pub(super) fn release(&mut self) {
        self.more |= !self.places.is_empty();
        (self.text, self.places) = (Vec::new(), Vec::new());
    }

    /// Memory of the portion.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.places.len() * size_of::<Place>()
    }

    fn fill(&mut self, directory: impl AsFd, portion_bytes: usize) -> Result<(), Errno> {
        self.text.clear();
        self.places.clear();
        self.more = false;
        // The least name that was cut off: it and those above it are not for this portion.
        let mut end: Option<Vec<u8>> = None;
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            // No name is empty, so all are greater than the `last` of the beginning.
            if matches!(name, b"." | b"..") || name <= &self.last[..] {
                continue;
            }
            if end.as_ref().is_some_and(|end| name >= &end[..]) {
                continue;
            }
            // A name has at most 255 bytes, and the text twice those of a portion.
            self.places.push((self.text.len() as u32, name.len() as u16));
            self.text.extend_from_slice(name);
            if self.bytes() > 2 * portion_bytes {
                self.sort();
                end = self.cut(portion_bytes).or(end);
            }
        }
        self.sort();
        self.more = end.is_some();
        Ok(())
    }

    fn sort(&mut self) {
        let text = &self.text;
        self.places.sort_unstable_by_key(|place| Reverse(name(text, *place)));
    }

    /// Keeps the least names; returns the least of those that were cut off.
    fn cut(&mut self, portion_bytes: usize) -> Option<Vec<u8>> {
        let mut bytes = 0;
        let fits = |(_, length): &&Place| {
            bytes += usize::from(*length) + size_of::<Place>();
            bytes <= portion_bytes
        };
        let kept = self.places.iter().rev().take_while(fits).count().max(1);
        let first = self.places.len().checked_sub(kept + 1)?;
        let end = name(&self.text, self.places[first]).to_vec();
        self.places.drain(..=first);
        let mut text = Vec::with_capacity(portion_bytes);
        for place in &mut self.places {
            let kept = name(&self.text, *place);
            place.0 = text.len() as u32;
            text.extend_from_slice(kept);
        }
        self.text = text;
        Some(end)
    }
}

fn name(text: &[u8], (start, length): Place) -> &[u8] {
    &text[start as usize..start as usize + usize::from(length)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: usize) -> (tempfile::TempDir, std::fs::File, Vec<String>) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut all: Vec<String> = (0..names).map(|n| format!("{}", n * 7919 % 10_007)).collect();
        for name in &all {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        all.sort();
        let handle = std::fs::File::open(directory.path()).unwrap();
        (directory, handle, all)
    }

    /// Takes everything by portions of this size; every so many names the portion is released.
    fn taken(handle: &std::fs::File, portion_bytes: usize, release_each: usize) -> (Vec<String>, usize) {
        let (mut names, mut all, mut largest) = (Names::default(), Vec::new(), 0);
        names.fill(handle, portion_bytes).unwrap();
        loop {
            largest = largest.max(names.bytes());
            if names.wants_more() {
                names.fill(handle, portion_bytes).unwrap();
            }
            let Some(name) = names.take() else { return (all, largest) };
            all.push(String::from_utf8(name.to_vec()).unwrap());
            if all.len() % release_each == 0 {
                names.release();
            }
        }
    }

    #[test]
    fn portions_of_any_size_give_all_names_once_and_in_order() {
        let (_directory, handle, all) = directory(1000);
        for (portion_bytes, release_each) in
            [(1, 5000), (100, 5000), (1000, 7), (1 << 20, 5000), (1 << 20, 300)]
        {
            let (found, largest) = taken(&handle, portion_bytes, release_each);
            assert_eq!(found, all, "{portion_bytes} {release_each}");
            assert!(largest <= 2 * portion_bytes + 255 + size_of::<Place>(), "{largest} of {portion_bytes}");
        }
        let (_directory, handle, _) = directory(0);
        assert_eq!(taken(&handle, 100, 1).0, Vec::<String>::new());
    }
}
