//! Root filesystems: references, downloads, unpacking, the store. No mounts, no processes, no printing.

pub mod decode;
pub mod digest;
mod random;
pub mod remove;
pub mod unpack;

pub use digest::{Digest, DigestError};
pub use remove::{RemoveError, remove_children, remove_tree};
pub use unpack::{
    InProcess, Ownership, UnpackError, UnpackLimits, UnpackOptions, UnpackSummary, Unpacker, unpack,
};
