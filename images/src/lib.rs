//! Root filesystems: references, downloads, unpacking, the store. No mounts, no processes, no printing.
//!
//! * [`Reference`] tells what the user named; [`Digest`] is a sha256;
//! * [`obtain()`] turns it into a [`Rootfs`]: out of the [`Store`], or by a download, digest, decompression and unpacking
//!   in one pass; [`unpack_to_directory`] does the same into a plain directory;
//! * [`unpack()`] is the pass from a reader to a tree, for processes that do nothing else; [`Unpacker`] chooses one;
//! * [`remove_tree`] takes any tree away again.
//!
//! * [`manifest`] reads what registries say about images, whoever needs to know.
//!
//! Rooms: `fetch` alone opens connections, `decode` knows compression, `unpack` knows tar and places files by handles,
//! `store` knows where things lie.

pub mod decode;
mod digest;
mod export;
mod fetch;
mod layout;
pub mod manifest;
mod obtain;
mod pack;
mod progress;
mod random;
mod reference;
mod remove;
mod rootfs;
mod store;
mod stream;
mod tree;
pub mod unpack;

pub use digest::{Digest, DigestError, Hasher};
pub use export::{ExportError, ExportForm, export};
pub use fetch::{
    Anonymous, Credential, Credentials, FetchError, FetchSettings, Refresh, RegistrySettings, Resolved,
    fetch_document,
};
pub use layout::LayoutError;
pub use manifest::{ManifestError, Platform};
pub use obtain::{ImageError, ImageErrorKind, ImportSource, copy_image, import, obtain, unpack_to_directory};
pub use pack::pack_tree;
pub use progress::{Progress, PullEvent, Silent};
pub use reference::{
    DEFAULT_REGISTRY, ImageUrl, LocalName, NameError, Reference, ReferenceError, RegistryName,
};
pub use remove::{RemoveError, remove_children, remove_tree};
pub use rootfs::{Healthcheck, ImageConfig, Rootfs, RootfsKind};
pub use store::{Lease, LifeError, PruneLimits, Pruned, Store, StoreError, StoredImage, Swept, Verified};
pub use tree::{TreeError, record_tree};
pub use unpack::{
    InProcess, NOTES_MAX, Ownership, UnpackError, UnpackFault, UnpackLimits, UnpackOptions, UnpackSummary,
    Unpacker, unpack, unpack_recorded,
};
