//! What unpacking has seen, so that the list of a tree is written without reading the tree again. It only spares work: what
//! is not in here is looked at, and so its memory can have a bound.

use super::line::Sum;
use crate::digest::Hasher;

/// Files whose sums are kept: 8 MiB of them. A large root filesystem has 200,000; what lies beyond is read once more.
const SUMS_MAX: usize = (8 << 20) / size_of::<(u64, Sum)>();
/// Inodes with extended attributes that are kept, 1 MiB of them. With more, each file is asked.
const ATTRIBUTED_MAX: usize = (1 << 20) / size_of::<u64>();

/// What unpacking has seen, by inode. The default knows nothing.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Sorted before use.
    sums: Vec<(u64, Sum)>,
    /// No further sum fits; those that are in here are sorted.
    full: bool,
    /// Sorted before use. As many as there are directories at most, whose number is bounded by their memory.
    implied: Vec<u64>,
    /// `None` if any file may have some.
    attributed: Option<Vec<u64>>,
}

impl Known {
    /// Of a tree that is being made: no file has attributes but those that will be named.
    pub(crate) fn of_fresh_tree() -> Known {
        Known { attributed: Some(Vec::new()), ..Known::default() }
    }

    /// Remembers a file's content. A number that was in use before belongs to a file that is gone.
    pub(crate) fn add_sum(&mut self, inode: u64, sum: Sum) {
        if self.full {
            // A sum of the gone file must not be taken for that of the new one.
            if let Ok(at) = self.sums.binary_search_by_key(&inode, |(known, _)| *known) {
                self.sums[at].1 = sum;
            }
            return;
        }
        self.sums.push((inode, sum));
        if self.sums.len() == SUMS_MAX {
            self.settle_sums();
            self.full = true;
        }
    }

    pub(crate) fn add_implied(&mut self, inode: u64) {
        self.implied.push(inode);
    }

    /// Remembers that a file or a directory has extended attributes.
    pub(crate) fn add_attributed(&mut self, inode: u64) {
        if let Some(list) = &mut self.attributed {
            list.push(inode);
            if list.len() > ATTRIBUTED_MAX {
                self.attributed = None;
            }
        }
    }

    /// Makes it ready to be asked.
    pub(crate) fn sort(&mut self) {
        if !self.full {
            self.settle_sums();
        }
        self.implied.sort_unstable();
        self.implied.dedup();
        if let Some(list) = &mut self.attributed {
            list.sort_unstable();
        }
    }

    /// Sorts; of two sums of one inode the later counts.
    fn settle_sums(&mut self) {
        self.sums.sort_by_key(|(inode, _)| *inode);
        self.sums.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
    }

    /// Directories that no entry named.
    pub(crate) fn implied(&self) -> u64 {
        self.implied.len() as u64
    }

    pub(super) fn is_implied(&self, inode: u64) -> bool {
        self.implied.binary_search(&inode).is_ok()
    }

    pub(super) fn sum(&self, inode: u64) -> Option<Sum> {
        let at = self.sums.binary_search_by_key(&inode, |(known, _)| *known).ok()?;
        Some(self.sums[at].1)
    }

    /// Whether a file may have extended attributes.
    pub(super) fn may_have_attributes(&self, inode: u64) -> bool {
        self.attributed.as_ref().is_none_or(|list| list.binary_search(&inode).is_ok())
    }
}

/// Digests content into a [`Sum`].
#[derive(Debug, Default)]
pub(crate) struct SumHasher(Hasher);

impl SumHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds as many zero bytes: the hole of a sparse file.
    pub(crate) fn update_zeros(&mut self, mut count: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let now = count.min(ZEROS.len() as u64);
            self.0.update(&ZEROS[..now as usize]);
            count -= now;
        }
    }

    pub(crate) fn finish(self) -> Sum {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0.finish().bytes()[..16]);
        Sum(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(byte: u8) -> Sum {
        Sum([byte; 16])
    }

    #[test]
    fn of_two_files_with_one_number_the_later_counts() {
        let mut known = Known::default();
        for (inode, byte) in [(7, 1), (5, 2), (7, 3), (9, 4), (7, 5)] {
            known.add_sum(inode, sum(byte));
        }
        known.sort();
        assert_eq!(
            [4, 5, 7, 9].map(|inode| known.sum(inode)),
            [None, Some(sum(2)), Some(sum(5)), Some(sum(4))]
        );
    }

    #[test]
    fn a_full_memory_never_tells_of_a_file_that_is_gone() {
        let mut known = Known::default();
        for inode in 0..SUMS_MAX as u64 + 10 {
            known.add_sum(inode, sum(1));
        }
        known.add_sum(3, sum(2));
        known.sort();
        assert_eq!(known.sum(3), Some(sum(2)));
        assert_eq!(known.sum(SUMS_MAX as u64 + 5), None);
        assert_eq!(known.sums.len(), SUMS_MAX);
    }
}
