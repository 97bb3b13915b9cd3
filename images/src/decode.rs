//! Compressed streams: the format by its magic bytes, members one after the other, every check verified.
//!
//! A stream is one or more members (gzip members, zstd frames, xz streams) and then, at most, zeros. The decoder
//! reads to the end of its input, so that every checksum is seen and a digest over the input covers all of it.
//! Nothing here knows what the bytes mean, and no program is ever started.

mod codec;

use std::io::{self, Read};

use codec::Codec;

/// Bytes of one read of the source: large enough that the calls cost nothing beside the decoding.
const INPUT_BYTES: usize = 256 << 10;

/// Bytes that tell the formats apart; xz has the longest magic.
const MAGIC_BYTES: usize = 6;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz file format.
    Xz,
    /// Not at all.
    Plain,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
            Compression::Plain => "uncompressed",
        })
    }
}

/// Memory bounds of the decoders; a stream that needs more is an error.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Base-2 logarithm of the largest zstd window.
    pub zstd_window_log_max: u32,
    /// Memory of the xz decoder, in bytes.
    pub xz_memory_bytes_max: u64,
}

/// Why a stream could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The source failed.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The compressed bytes are damaged, or ask for more memory than allowed.
    #[error("broken {compression} data near byte {at} of the compressed stream: {what}")]
    Broken {
        /// The format.
        compression: Compression,
        /// Offset in the compressed stream; the damage is at or before it.
        at: u64,
        /// The decoder's words.
        what: String,
    },
    /// The source ended inside a member.
    #[error("truncated {compression} data: it ends after {at} bytes, before its own end mark")]
    Truncated {
        /// The format.
        compression: Compression,
        /// Bytes of the source.
        at: u64,
    },
    /// Something other than zeros or a further member follows the last one.
    #[error("byte {at} of the compressed stream: neither zeros nor more {compression} data after the end")]
    Trailing {
        /// The format.
        compression: Compression,
        /// Offset in the compressed stream.
        at: u64,
    },
    /// A compression that is known by name only.
    #[error("{name} compression is not supported: expected gzip, zstd, xz or an uncompressed tar")]
    Unsupported {
        /// The format's name.
        name: &'static str,
    },
}

/// A decompressing reader.
pub struct Decoder<R> {
    input: Input<R>,
    compression: Compression,
    limits: DecodeLimits,
    place: Place,
}

/// Where the decoder stands.
enum Place {
    Inside(Box<dyn Codec>),
    Between,
    Zeros,
    Plain,
}

/// What one step of a codec did.
struct Step {
    consumed: usize,
    produced: usize,
    ended: bool,
}

impl<R: Read> Decoder<R> {
    /// Reads the magic bytes and chooses the decoder.
    pub fn new(source: R, limits: DecodeLimits) -> Result<Decoder<R>, DecodeError> {
        let mut input = Input::new(source);
        let compression = recognise(input.at_least(MAGIC_BYTES)?)?;
        let place = if compression == Compression::Plain { Place::Plain } else { Place::Between };
        Ok(Decoder { input, compression, limits, place })
    }

    /// Returns what the magic bytes said.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Returns how many bytes were taken from the source.
    pub fn input_bytes(&self) -> u64 {
        self.input.taken
    }

    /// Fills `output`; returns less than its length only at the verified end of the stream.
    pub fn fill(&mut self, output: &mut [u8]) -> Result<usize, DecodeError> {
        let mut filled = 0;
        while filled < output.len() {
            match &mut self.place {
                Place::Plain => match self.input.read_into(&mut output[filled..])? {
                    0 => break,
                    count => filled += count,
                },
                Place::Between => {
                    if !self.begin_member()? {
                        break;
                    }
                }
                Place::Zeros => {
                    self.skip_zeros()?;
                    break;
                }
                Place::Inside(codec) => {
                    let step =
                        step(codec.as_mut(), &mut self.input, &mut output[filled..], self.compression)?;
                    filled += step.produced;
                    if step.ended {
                        self.place = Place::Between;
                    }
                }
            }
        }
        Ok(filled)
    }

    /// Enters the next member; returns false at the end of the source.
    fn begin_member(&mut self) -> Result<bool, DecodeError> {
        let Some(&first) = self.input.at_least(1)?.first() else { return Ok(false) };
        if first == 0 {
            self.place = Place::Zeros;
            return Ok(true);
        }
        if recognise(self.input.at_least(MAGIC_BYTES)?).ok() != Some(self.compression) {
            return Err(DecodeError::Trailing { compression: self.compression, at: self.input.taken });
        }
        self.place = Place::Inside(codec::open(self.compression, &self.limits)?);
        Ok(true)
    }

    fn skip_zeros(&mut self) -> Result<(), DecodeError> {
        loop {
            let bytes = self.input.at_least(1)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let foreign = zeros < bytes.len();
            self.input.consume(zeros);
            if foreign {
                return Err(DecodeError::Trailing { compression: self.compression, at: self.input.taken });
            }
        }
    }
}

/// Runs the codec until it did something, ended, or proved the source truncated.
fn step<R: Read>(
    codec: &mut dyn Codec,
    input: &mut Input<R>,
    output: &mut [u8],
    compression: Compression,
) -> Result<Step, DecodeError> {
    let bytes = input.at_least(1)?;
    let at_end = bytes.is_empty();
    let result = codec.step(bytes, output);
    let at = input.taken;
    let step = result.map_err(|what| DecodeError::Broken { compression, at, what })?;
    input.consume(step.consumed);
    if at_end && step.produced == 0 && !step.ended {
        return Err(DecodeError::Truncated { compression, at });
    }
    if !at_end && step.produced == 0 && step.consumed == 0 && !step.ended {
        let what = "the decoder makes no progress".to_owned();
        return Err(DecodeError::Broken { compression, at, what });
    }
    Ok(step)
}

/// Tells the compression from the first bytes; what is not known is taken for an uncompressed stream.
fn recognise(magic: &[u8]) -> Result<Compression, DecodeError> {
    Ok(match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame: some writers put an index or a version before the first data frame.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(DecodeError::Unsupported { name: "bzip2" }),
        [0x04, 0x22, 0x4d, 0x18, ..] => return Err(DecodeError::Unsupported { name: "lz4" }),
        [0x1f, 0x9d, ..] => return Err(DecodeError::Unsupported { name: "compress (.Z)" }),
        [b'P', b'K', 3, 4, ..] => return Err(DecodeError::Unsupported { name: "zip" }),
        [0x5d, 0, 0, _, _, ..] => return Err(DecodeError::Unsupported { name: "lzma (without xz)" }),
        _ => Compression::Plain,
    })
}

/// The source behind one buffer that is never regrown.
struct Input<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    taken: u64,
}

impl<R: Read> Input<R> {
    fn new(source: R) -> Input<R> {
        Input { source, buffer: vec![0; INPUT_BYTES].into(), start: 0, end: 0, taken: 0 }
    }

    /// Returns what is buffered, at least `wanted` bytes unless the source has ended.
    fn at_least(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.end - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < wanted {
                match read(&mut self.source, &mut self.buffer[self.end..])? {
                    0 => break,
                    count => self.end += count,
                }
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.taken += count as u64;
    }

    /// Copies what is buffered, else reads straight into `output`; zero at the end of the source.
    fn read_into(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let buffered = self.end - self.start;
        let count = if buffered > 0 {
            let count = buffered.min(output.len());
            output[..count].copy_from_slice(&self.buffer[self.start..][..count]);
            self.start += count;
            count
        } else {
            read(&mut self.source, output)?
        };
        self.taken += count as u64;
        Ok(count)
    }
}

fn read(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
