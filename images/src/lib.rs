//! Root filesystems: references, downloads, unpacking, the store. No mounts, no processes, no printing.
//!
//! * [`Reference`] tells what the user named; [`Digest`] is a sha256;
//! * [`obtain()`] turns it into a [`Rootfs`]: out of the [`Store`], or by a download, digest, decompression and unpacking
//!   in one pass; [`unpack_to_directory`] does the same into a plain directory;
//! * [`unpack()`] is the pass from a reader to a tree, for processes that do nothing else; [`Unpacker`] chooses one;
//! * [`remove_tree`] takes any tree away again.
//!
//! Rooms: `fetch` alone opens connections, `decode` knows compression, `unpack` knows tar and places files by handles,
//! `store` knows where things lie.

pub mod decode;
mod digest;
mod fetch;
mod obtain;
mod progress;
mod random;
mod reference;
mod remove;
mod rootfs;
mod store;
mod stream;
pub mod unpack;

pub use digest::{Digest, DigestError, Hasher};
pub use fetch::{FetchError, FetchSettings};
pub use obtain::{ImageError, ImageErrorKind, obtain, unpack_to_directory};
pub use progress::{Progress, PullEvent, Silent};
pub use reference::{ImageUrl, Reference, ReferenceError};
pub use remove::{RemoveError, remove_children, remove_tree};
pub use rootfs::{ImageConfig, Rootfs, RootfsKind};
pub use store::{Lease, Store, StoreError, Swept};
pub use unpack::{
    InProcess, NOTES_MAX, Ownership, UnpackError, UnpackFault, UnpackLimits, UnpackOptions, UnpackSummary,
    Unpacker, unpack,
};
