//! The three decompressors behind one step function; each handles exactly one member.

use flate2::{Decompress, FlushDecompress, Status};
use liblzma::stream::{Action, Status as XzStatus, Stream, TELL_UNSUPPORTED_CHECK};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};
use zstd::zstd_safe::get_frame_content_size;

use super::{Compression, DecodeError, DecodeLimits, Step};

/// Base-2 logarithm of deflate's window; the format knows no larger one.
const DEFLATE_WINDOW_LOG: u8 = 15;

/// Longest header of a zstd frame, its magic included (RFC 8878, 3.1.1).
const ZSTD_HEADER_BYTES_MAX: usize = 18;

/// A decompressor inside one member.
pub(super) trait Codec: Send {
    /// Decodes from `input` to `output`. An empty `input` means that the source has ended.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String>;
}

/// Opens the decompressor of `compression` for one member.
pub(super) fn open(compression: Compression, limits: &DecodeLimits) -> Result<Box<dyn Codec>, DecodeError> {
    let broken = |what: String| DecodeError::Broken { compression, at: 0, what };
    Ok(match compression {
        Compression::Gzip | Compression::Plain => Box::new(Gzip(Decompress::new_gzip(DEFLATE_WINDOW_LOG))),
        Compression::Zstd => {
            let mut decoder = ZstdDecoder::new().map_err(|error| broken(error.to_string()))?;
            decoder
                .set_parameter(DParameter::WindowLogMax(limits.zstd_window_log_max))
                .map_err(|error| broken(error.to_string()))?;
            Box::new(Zstd { decoder, header: Vec::with_capacity(ZSTD_HEADER_BYTES_MAX), produced: 0 })
        }
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(limits.xz_memory_bytes_max, TELL_UNSUPPORTED_CHECK)
                .map_err(|error| broken(error.to_string()))?;
            Box::new(Xz(stream))
        }
    })
}

struct Gzip(Decompress);

impl Codec for Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        let (consumed, produced) = (self.0.total_in(), self.0.total_out());
        let status = self
            .0
            .decompress(input, output, FlushDecompress::None)
            .map_err(|error| error.message().unwrap_or("damaged, or its checksum is wrong").to_owned())?;
        Ok(Step {
            consumed: (self.0.total_in() - consumed) as usize,
            produced: (self.0.total_out() - produced) as usize,
            ended: status == Status::StreamEnd,
        })
    }
}

struct Zstd {
    decoder: ZstdDecoder<'static>,
    /// The frame's first bytes, as many as can be its header.
    header: Vec<u8>,
    produced: u64,
}

impl Codec for Zstd {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        let status = self.decoder.run_on_buffers(input, output).map_err(|error| error.to_string())?;
        let room = ZSTD_HEADER_BYTES_MAX - self.header.len();
        self.header.extend_from_slice(input.get(..status.bytes_read.min(room)).unwrap_or_default());
        self.produced += status.bytes_written as u64;
        // Zero is also the answer before the first byte of a frame.
        let ended = status.remaining == 0 && status.bytes_read + status.bytes_written > 0;
        // The library holds a frame to its size only where it decodes it in one go, or its last block is not empty.
        if let (true, Ok(Some(promised))) = (ended, get_frame_content_size(&self.header))
            && promised != self.produced
        {
            return Err(format!("a frame of {promised} bytes has {}", self.produced));
        }
        Ok(Step { consumed: status.bytes_read, produced: status.bytes_written, ended })
    }
}

struct Xz(Stream);

impl Codec for Xz {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        let (consumed, produced) = (self.0.total_in(), self.0.total_out());
        let action = if input.is_empty() { Action::Finish } else { Action::Run };
        let status = self.0.process(input, output, action).map_err(|error| match error {
            liblzma::stream::Error::MemLimit => "it needs more memory than allowed".to_owned(),
            other => other.to_string(),
        })?;
        Ok(Step {
            consumed: (self.0.total_in() - consumed) as usize,
            produced: (self.0.total_out() - produced) as usize,
            ended: status == XzStatus::StreamEnd,
        })
    }
}
