//! A tar stream becomes a directory tree, through directory handles and under strict rules.
//!
//! One synchronous function over a reader and a handle, so that it can run in a thread of ours or in a process
//! inside a user namespace. What it creates before an error is worthless; the caller throws it away.
//!
//! Not here: where the tree lies, where the bytes come from, what they are called.

mod archive;
mod create;
mod directories;
mod error;
mod feed;
mod header;
mod name;
mod number;
mod options;
mod owner;
mod pax;
mod place;
mod pool;
mod spare;
mod sparse;
mod stack;
mod whiteout;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

pub(crate) use error::shown as shown_name;
pub use error::{UnpackError, UnpackFault};
pub(crate) use owner::is_kept_attribute;
pub(crate) use pax::Moment;
pub(crate) use stack::OPAQUE_XATTR;

pub use options::{NOTES_MAX, Ownership, UnpackLimits, UnpackOptions, UnpackSummary};

use archive::{Archive, Entry};
use create::{Finished, Tree};
use error::system;
use feed::Feed;
use name::CleanName;

use crate::digest::Digest;
use crate::pack::pack_tree;
use crate::remove::{RemoveError, remove_tree};
use crate::tree::{TreeError, record_known, record_tree};

/// Who runs [`unpack`]: this process, or one inside a user namespace.
pub trait Unpacker: Send + Sync {
    /// Unpacks `source` into the directory `target`; blocks until all of `source` was read or an error is found.
    ///
    /// `record` is a file for the list of what the directory then consists of.
    fn unpack(
        &self,
        source: Box<dyn Read + Send>,
        target: OwnedFd,
        record: Option<File>,
        options: &UnpackOptions,
    ) -> Result<UnpackSummary, UnpackError>;

    /// Writes the list of what a tree that this unpacker made consists of now; returns its digest.
    fn record(&self, tree: OwnedFd, out: File) -> Result<Digest, TreeError> {
        record_tree(tree.as_fd(), out)
    }

    /// Writes a tree that this unpacker made as a layer.
    fn pack(&self, tree: OwnedFd, out: File) -> std::io::Result<()> {
        pack_tree(tree.as_fd(), out)
    }

    /// Part of a layer's directory name in the store, so that layers of different ownership never mix:
    /// lower-case letters, digits and hyphens.
    fn flavour(&self) -> &str;

    /// The ownership that the store asks of this unpacker.
    fn ownership(&self) -> Ownership;

    /// Removes a tree that this unpacker made, whoever owns its files.
    fn remove(&self, parent: BorrowedFd<'_>, name: &str) -> Result<(), RemoveError> {
        remove_tree(parent, name)
    }
}

/// Unpacks in this process.
#[derive(Debug, Clone, Copy)]
pub struct InProcess {
    ownership: Ownership,
}

impl InProcess {
    /// For root: files get the ids of the archive.
    pub const KEEP: InProcess = InProcess { ownership: Ownership::Keep };
    /// For anyone: files belong to the caller.
    pub const CALLER: InProcess = InProcess { ownership: Ownership::Caller };

    /// Unpacks with any ownership; what is not permitted fails when the first file is made.
    pub fn new(ownership: Ownership) -> InProcess {
        InProcess { ownership }
    }
}

impl Unpacker for InProcess {
    fn unpack(
        &self,
        source: Box<dyn Read + Send>,
        target: OwnedFd,
        record: Option<File>,
        options: &UnpackOptions,
    ) -> Result<UnpackSummary, UnpackError> {
        unpack_recorded(source, target.as_fd(), record, options)
    }

    fn flavour(&self) -> &str {
        match self.ownership {
            Ownership::Keep => "plain",
            Ownership::Mapped => "mapped",
            Ownership::Caller => "caller",
        }
    }

    fn ownership(&self) -> Ownership {
        self.ownership
    }
}

/// Decompresses `source` and creates its entries below `target`.
///
/// Reads `source` to its end, so that every checksum is verified. Starts two threads and ends them before it
/// returns. `target` is a directory opened for reading; nothing outside of it is touched.
pub fn unpack(
    source: impl Read + Send,
    target: BorrowedFd<'_>,
    options: &UnpackOptions,
) -> Result<UnpackSummary, UnpackError> {
    unpack_recorded(source, target, None, options)
}

/// The same; `record` gets the list of what `target` then consists of.
pub fn unpack_recorded(
    source: impl Read + Send,
    target: BorrowedFd<'_>,
    record: Option<File>,
    options: &UnpackOptions,
) -> Result<UnpackSummary, UnpackError> {
    std::thread::scope(|scope| {
        let feed = Feed::start(scope, source, &options.limits)?;
        let mut archive = Archive::new(feed, options.limits.clone());
        let mut tree = Tree::new(target, options, record.is_some());
        if record.is_some() && !options.layer {
            tree.settle_root()?;
        }
        let mut entry = Entry::default();
        let mut name = CleanName::default();
        while archive.next(&mut entry)? {
            create(&mut tree, &entry, &mut name, &mut archive, options)
                .map_err(|error| error.at(&entry.name))?;
        }
        let totals = archive.finish()?;
        let Finished { notes, known, foreign_links } = tree.finish()?;
        let tree_sha256 = record.map(|file| record_known(target, &known, file)).transpose();
        let tree_sha256 = tree_sha256.map_err(|error| system("list what was unpacked")(error.errno))?;
        Ok(UnpackSummary {
            tar_sha256: totals.tar_sha256,
            entries: totals.entries,
            bytes: totals.bytes,
            notes: notes.list,
            notes_dropped: notes.dropped,
            tree_sha256,
            implied: known.implied(),
            foreign_links,
        })
    })
}

fn create(
    tree: &mut Tree<'_>,
    entry: &Entry,
    name: &mut CleanName,
    archive: &mut Archive<'_>,
    options: &UnpackOptions,
) -> Result<(), UnpackError> {
    name.set(&entry.name, &options.limits)?;
    if !whiteout::apply(tree, entry, name)? {
        tree.create(entry, name, archive)?;
    }
    Ok(())
}
