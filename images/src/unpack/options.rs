//! What the unpacking is asked to do, and what it reports. All of it can cross a socket.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// How the unpacking treats owners, layers and sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackOptions {
    /// Who owns what is created.
    pub ownership: Ownership,
    /// Every bound.
    pub limits: UnpackLimits,
    /// The archive is a layer over what the directory holds already: `.wh.` names delete.
    pub layer: bool,
    /// The archive is a layer that overlayfs stacks over others: `.wh.` names become overlayfs's own marks.
    #[serde(default)]
    pub stack: bool,
}

/// Who owns what is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// The numeric ids of the archive. Needs CAP_CHOWN.
    Keep,
    /// The ids of the archive inside a user namespace; ids its map does not have become 65534.
    Mapped,
    /// The ids of the process that unpacks: nothing is chowned.
    #[default]
    Caller,
}

/// The bounds of one archive. Passing one is an error that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackLimits {
    /// Bytes of the decompressed archive plus the holes of its sparse files.
    pub bytes_max: u64,
    /// Entries, directories and links included.
    pub entries_max: u64,
    /// Path components of one name.
    pub depth_max: u32,
    /// Bytes of one name or link target.
    pub name_bytes_max: u64,
    /// Bytes of one block of pax records.
    pub pax_bytes_max: u64,
    /// Segments of one sparse file.
    pub sparse_segments_max: u64,
    /// Bytes of one extended attribute's value.
    pub xattr_bytes_max: u64,
    /// Hard links to one file.
    pub hard_links_max: u64,
    /// Decompressed bytes per compressed byte, once `ratio_free_bytes` have come out.
    pub ratio_max: u64,
    /// Decompressed bytes during which `ratio_max` does not count: small archives may be all zeros.
    pub ratio_free_bytes: u64,
    /// Bytes after the end marker; they are read for the digest, never parsed.
    pub trailing_bytes_max: u64,
    /// Memory for decompressed bytes on their way from the decoder to the disk.
    pub buffer_bytes_max: u64,
    /// Memory for the names of directories whose modes and times are set at the end, and of whiteouts, in bytes.
    pub directory_bytes_max: u64,
    /// Base-2 logarithm of the largest zstd window.
    pub zstd_window_log_max: u32,
    /// Memory of the xz decoder, in bytes.
    pub xz_memory_bytes_max: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Default for UnpackLimits {
    fn default() -> UnpackLimits {
        UnpackLimits {
            // The largest public images are near 30 GiB.
            bytes_max: 64 * GIB,
            entries_max: 1_000_000,
            // A path of one-letter names fills PATH_MAX at 2048; real trees stay below 60.
            depth_max: 1024,
            name_bytes_max: 64 * KIB,
            pax_bytes_max: MIB,
            sparse_segments_max: 64 * KIB,
            // XATTR_SIZE_MAX of the kernel.
            xattr_bytes_max: 64 * KIB,
            // LINK_MAX of ext4.
            hard_links_max: 65_000,
            // Deflate ends at 1032, real root filesystems at 10.
            ratio_max: 256,
            ratio_free_bytes: 256 * MIB,
            // GNU tar pads to 10 KiB; tapes to a few MiB.
            trailing_bytes_max: 64 * MIB,
            // Lets the decoder run ahead while a thousand small files are made, so that it need not wait there and be
            // waited for at the next large one.
            buffer_bytes_max: 8 * MIB,
            // 340,000 directories. With a million names of a layer beside them it stays below 64 MiB.
            directory_bytes_max: 24 * MIB,
            // 128 MiB, what `zstd --long` (27) makes and its decoder takes without a flag.
            zstd_window_log_max: 27,
            // `xz -9` needs 65 MiB.
            xz_memory_bytes_max: 128 * MIB,
        }
    }
}

/// What came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackSummary {
    /// The diff id: the digest of the decompressed archive, all of it.
    pub tar_sha256: Digest,
    /// Entries, whether created or skipped.
    pub entries: u64,
    /// Bytes of the decompressed archive plus holes.
    pub bytes: u64,
    /// What was left out and why, one sentence each; at most [`NOTES_MAX`].
    pub notes: Vec<String>,
    /// How many further notes were not kept.
    pub notes_dropped: u64,
    /// The digest of the list of what is there now, if one was asked for.
    pub tree_sha256: Option<Digest>,
    /// Directories that no entry named, when a list was asked for.
    pub implied: u64,
    /// Hard links of a stacked layer to files of the layers below, which were not made.
    pub foreign_links: u64,
}

/// Notes kept for one archive: enough to see the pattern.
pub const NOTES_MAX: usize = 100;

/// The notes of one archive, capped.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) list: Vec<String>,
    pub(crate) dropped: u64,
}

impl Notes {
    /// Keeps a note, or counts it once the list is full.
    pub(crate) fn add(&mut self, note: impl FnOnce() -> String) {
        if self.list.len() < NOTES_MAX {
            self.list.push(note());
        } else {
            self.dropped += 1;
        }
    }
}
