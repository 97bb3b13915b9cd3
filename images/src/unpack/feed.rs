//! The decompressed archive as blocks: decoded on one thread, digested on a second, read by the caller.
//!
//! Buffers go round (decode, digest, read, decode), so the memory is fixed however large the archive is, and the
//! thread that creates files never waits for a checksum.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::error::{UnpackError, UnpackFault, limit, malformed};
use super::options::UnpackLimits;
use super::pool::Pool;
use crate::decode::{Compression, DecodeError, DecodeLimits, Decoder};
use crate::digest::{Digest, Hasher};

/// The unit of a tar archive, in bytes.
pub(super) const BLOCK: usize = 512;

/// Bytes of one buffer; a multiple of [`BLOCK`], so that no header is ever split.
const BUFFER_BYTES: usize = 256 << 10;

/// Buffers in circulation at least: with one of the decoder, one of the digest and one of the reader nobody need wait.
const BUFFERS_MIN: usize = 3;

/// Decompressed bytes on their way, with what the decoder had taken from its source by then.
struct Filled {
    buffer: Vec<u8>,
    compressed_bytes: u64,
}

type Delivery = Result<Filled, UnpackError>;

/// The reading end.
pub(super) struct Feed<'scope> {
    filled: Receiver<Delivery>,
    pool: Pool,
    current: Vec<u8>,
    position: usize,
    received_bytes: u64,
    limits: UnpackLimits,
    digest: Option<ScopedJoinHandle<'scope, Digest>>,
    compression: Compression,
}

impl<'scope> Feed<'scope> {
    /// Starts both threads in `scope`; they end when the source does or when the feed is dropped.
    pub(super) fn start<'env, R: Read + Send + 'env>(
        scope: &'scope Scope<'scope, 'env>,
        source: R,
        limits: &UnpackLimits,
    ) -> Result<Feed<'scope>, UnpackError> {
        let decode_limits = DecodeLimits {
            zstd_window_log_max: limits.zstd_window_log_max,
            xz_memory_bytes_max: limits.xz_memory_bytes_max,
        };
        let decoder = Decoder::new(source, decode_limits).map_err(decode_error)?;
        let compression = decoder.compression();
        let buffers = usize::try_from(limits.buffer_bytes_max).unwrap_or(usize::MAX) / BUFFER_BYTES;
        let buffers = buffers.max(BUFFERS_MIN);
        let pool = Pool::new(buffers, BUFFER_BYTES);
        let spares = pool.clone();
        let (decoded, to_digest) = sync_channel(buffers);
        let (digested, filled) = sync_channel(buffers);
        Builder::new()
            .name("decode".to_owned())
            .spawn_scoped(scope, move || decode(decoder, &spares, &decoded))
            .map_err(thread_error)?;
        let digest = Builder::new()
            .name("digest".to_owned())
            .spawn_scoped(scope, move || digest(&to_digest, &digested))
            .map_err(thread_error)?;
        Ok(Feed {
            filled,
            pool,
            current: Vec::new(),
            position: 0,
            received_bytes: 0,
            limits: limits.clone(),
            digest: Some(digest),
            compression,
        })
    }

    /// Returns how the archive is compressed.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Returns the next header block, or none when the archive ends right here.
    pub(super) fn block(&mut self) -> Result<Option<&[u8; BLOCK]>, UnpackError> {
        if self.position == self.current.len() && !self.refill()? {
            return Ok(None);
        }
        let rest = &self.current[self.position..];
        let Some(block) = rest.first_chunk::<BLOCK>() else {
            let found = rest.len();
            return Err(malformed(format!("truncated: {found} bytes where a block of {BLOCK} was expected")));
        };
        self.position += BLOCK;
        Ok(Some(block))
    }

    /// Returns the next bytes of content, at least one and at most `wanted`.
    pub(super) fn chunk(&mut self, wanted: u64) -> Result<&[u8], UnpackError> {
        if self.position == self.current.len() && !self.refill()? {
            return Err(malformed(format!(
                "truncated: the archive ends {wanted} bytes before its entry does"
            )));
        }
        let available = self.current.len() - self.position;
        let count = available.min(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.position += count;
        Ok(&self.current[self.position - count..self.position])
    }

    /// Reads over `count` bytes.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), UnpackError> {
        while count > 0 {
            count -= self.chunk(count)?.len() as u64;
        }
        Ok(())
    }

    /// Appends `count` bytes to `buffer`.
    pub(super) fn append(&mut self, mut count: u64, buffer: &mut Vec<u8>) -> Result<(), UnpackError> {
        while count > 0 {
            let chunk = self.chunk(count)?;
            buffer.extend_from_slice(chunk);
            count -= chunk.len() as u64;
        }
        Ok(())
    }

    /// Reads everything after the end marker, so that all checks are done; returns the digest and the length.
    pub(super) fn drain(mut self) -> Result<(Digest, u64), UnpackError> {
        let max = self.limits.trailing_bytes_max;
        let mut trailing = (self.current.len() - self.position) as u64;
        loop {
            if trailing > max {
                return Err(limit("bytes after the end mark of the archive", max));
            }
            if !self.refill()? {
                break;
            }
            trailing += self.current.len() as u64;
        }
        let digest = self.digest.take().and_then(|thread| thread.join().ok());
        let digest =
            digest.ok_or_else(|| UnpackFault::Source { what: "the digest thread failed".to_owned() })?;
        Ok((digest, self.received_bytes))
    }

    /// Takes the next buffer; returns false at the end.
    fn refill(&mut self) -> Result<bool, UnpackError> {
        let Ok(delivery) = self.filled.recv() else { return Ok(false) };
        let filled = delivery?;
        let empty = std::mem::replace(&mut self.current, filled.buffer);
        self.position = 0;
        self.received_bytes += self.current.len() as u64;
        if empty.capacity() > 0 {
            self.pool.give(empty);
        }
        let UnpackLimits { bytes_max, ratio_max, ratio_free_bytes, .. } = self.limits;
        if self.received_bytes > bytes_max {
            return Err(limit("bytes of the decompressed archive", bytes_max));
        }
        if self.received_bytes > ratio_free_bytes
            && self.received_bytes / filled.compressed_bytes.max(1) > ratio_max
        {
            return Err(limit("decompressed bytes per compressed byte (a decompression bomb?)", ratio_max));
        }
        Ok(true)
    }
}

impl Drop for Feed<'_> {
    /// A reader that stops early leaves a decoder that waits for a buffer.
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// Decodes until the end, an error, or nobody listening.
fn decode<R: Read>(mut decoder: Decoder<R>, spares: &Pool, decoded: &SyncSender<Delivery>) {
    while let Some(mut buffer) = spares.take() {
        let result = decoder.fill(&mut buffer);
        let last = !matches!(&result, Ok(count) if *count == BUFFER_BYTES);
        let delivery = match result {
            Ok(0) => return,
            Ok(count) => {
                buffer.truncate(count);
                Ok(Filled { buffer, compressed_bytes: decoder.input_bytes() })
            }
            Err(error) => Err(decode_error(error)),
        };
        if decoded.send(delivery).is_err() || last {
            return;
        }
    }
}

fn digest(decoded: &Receiver<Delivery>, digested: &SyncSender<Delivery>) -> Digest {
    let mut hasher = Hasher::default();
    while let Ok(delivery) = decoded.recv() {
        if let Ok(filled) = &delivery {
            hasher.update(&filled.buffer);
        }
        if digested.send(delivery).is_err() {
            break;
        }
    }
    hasher.finish()
}

fn decode_error(error: DecodeError) -> UnpackError {
    match error {
        DecodeError::Read(error) => UnpackFault::Source { what: error.to_string() }.into(),
        broken @ (DecodeError::Broken { .. }
        | DecodeError::Truncated { .. }
        | DecodeError::Trailing { .. }
        | DecodeError::Unsupported { .. }) => malformed(broken.to_string()),
    }
}

fn thread_error(error: std::io::Error) -> UnpackError {
    let errno = error.raw_os_error().unwrap_or_default();
    UnpackFault::System { action: "start a thread".to_owned(), errno }.into()
}
