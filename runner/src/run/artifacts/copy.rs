//! One file from one handle to another, hashed on the way.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};

/// How much is read at once.
const BLOCK_BYTES: usize = 256 * 1024;
/// Runs of zeros from this length on become holes; smaller ones are not worth a seek.
const HOLE_BYTES: usize = 64 * 1024;

/// A copied file.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) bytes: u64,
    /// In hex.
    pub(super) sha256: String,
}

/// Why a file was not copied.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
    /// Its size or time is another one than at the start.
    Changed,
    /// It has more bytes than are allowed.
    TooLarge,
}

/// Copies a regular file. Shares the bytes with the source where the file system can, and keeps holes.
pub(super) fn copy(source: &mut File, target: &mut File, bytes_max: u64) -> Result<Copied, CopyError> {
    let before = source.metadata().map_err(CopyError::Read)?;
    if before.len() > bytes_max {
        return Err(CopyError::TooLarge);
    }
    let copied = if rustix::fs::ioctl_ficlone(&*target, &*source).is_ok() {
        // The clone cannot change any more: what is hashed is what is kept.
        hash(target).map_err(CopyError::Write)?
    } else {
        copy_bytes(source, target, before.len())?
    };
    let after = source.metadata().map_err(CopyError::Read)?;
    let same_time = (before.mtime(), before.mtime_nsec()) == (after.mtime(), after.mtime_nsec());
    if copied.bytes != before.len() || after.len() != before.len() || !same_time {
        return Err(CopyError::Changed);
    }
    Ok(copied)
}

fn copy_bytes(source: &mut File, target: &mut File, length: u64) -> Result<Copied, CopyError> {
    let mut block = vec![0_u8; BLOCK_BYTES];
    let mut digest = Sha256::new();
    let mut bytes = 0_u64;
    loop {
        let count = read_block(source, &mut block).map_err(CopyError::Read)?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        if bytes > length {
            return Err(CopyError::Changed);
        }
        digest.update(&block[..count]);
        for piece in block[..count].chunks(HOLE_BYTES) {
            let is_hole = piece.len() == HOLE_BYTES && piece.iter().all(|&byte| byte == 0);
            let written = if is_hole {
                target.seek(SeekFrom::Current(HOLE_BYTES as i64)).map(drop)
            } else {
                target.write_all(piece)
            };
            written.map_err(CopyError::Write)?;
        }
    }
    // A hole at the end needs its length.
    target.set_len(bytes).map_err(CopyError::Write)?;
    Ok(Copied { bytes, sha256: hex(&digest.finalize()) })
}

/// Hashes a file from its start.
pub(super) fn hash(file: &mut File) -> io::Result<Copied> {
    file.rewind()?;
    let mut block = vec![0_u8; BLOCK_BYTES];
    let mut digest = Sha256::new();
    let mut bytes = 0;
    loop {
        let count = read_block(file, &mut block)?;
        if count == 0 {
            return Ok(Copied { bytes, sha256: hex(&digest.finalize()) });
        }
        bytes += count as u64;
        digest.update(&block[..count]);
    }
}

fn read_block(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the digest of bytes in memory, in hex.
#[cfg(test)]
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
