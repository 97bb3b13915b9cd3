//! Members, zeros, truncation and damage, for every format.

use std::io::Write as _;

use liblzma::stream::Stream;

use super::*;

const LIMITS: DecodeLimits = DecodeLimits { zstd_window_log_max: 27, xz_memory_bytes_max: 128 << 20 };

/// Hands out a few bytes at a time, as a slow network does.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(buffer.len()).min(7);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn decode(bytes: &[u8], output_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(Dribble(bytes), LIMITS)?;
    let mut all = Vec::new();
    let mut buffer = vec![0; output_bytes];
    loop {
        let count = decoder.fill(&mut buffer)?;
        all.extend_from_slice(&buffer[..count]);
        if count < buffer.len() {
            return Ok(all);
        }
    }
}

fn text() -> Vec<u8> {
    (0..20_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Encode = fn(&[u8]) -> Vec<u8>;
const FORMATS: [(&str, Encode); 3] = [("gzip", gzip), ("zstd", zstd), ("xz", xz)];

#[test]
fn whole_streams_come_back_whatever_the_buffer() {
    for (name, encode) in FORMATS {
        for output_bytes in [1, 511, 64 << 10, 1 << 20] {
            assert_eq!(decode(&encode(&text()), output_bytes).unwrap(), text(), "{name} {output_bytes}");
        }
        assert_eq!(decode(&encode(b""), 10).unwrap(), b"", "{name} empty");
    }
    assert_eq!(decode(&text(), 999).unwrap(), text(), "plain");
    assert_eq!(decode(b"", 10).unwrap(), b"", "nothing");
}

#[test]
fn members_follow_one_another_and_zeros_end_them() {
    for (name, encode) in FORMATS {
        let two = [encode(b"one "), encode(b"two")].concat();
        assert_eq!(decode(&two, 3).unwrap(), b"one two", "{name}");
        assert_eq!(decode(&[&two[..], &[0; 1000]].concat(), 3).unwrap(), b"one two", "{name} zeros");
        let foreign = decode(&[&two[..], b"junk"].concat(), 3);
        assert!(matches!(foreign, Err(DecodeError::Trailing { .. })), "{name} {foreign:?}");
        let late = decode(&[&two[..], &[0; 1000], b"junk"].concat(), 3);
        assert!(matches!(late, Err(DecodeError::Trailing { .. })), "{name} {late:?}");
    }
}

#[test]
fn a_skippable_frame_is_zstd() {
    let frame = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc", &zstd(b"data")].concat();
    assert_eq!(decode(&frame, 10).unwrap(), b"data");
}

#[test]
fn every_truncation_is_seen() {
    for (name, encode) in FORMATS {
        let whole = encode(&text()[..3000]);
        for cut in 7..whole.len() {
            let result = decode(&whole[..cut], 1 << 16);
            assert!(matches!(result, Err(DecodeError::Truncated { .. })), "{name} at {cut}: {result:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_content_is_seen() {
    for (name, encode) in FORMATS {
        let whole = encode(&text()[..3000]);
        for at in (24..whole.len()).step_by(11) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged, 1 << 16).is_err(), "{name} bit in byte {at}");
        }
    }
}

#[test]
fn memory_is_bounded_before_it_is_taken() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&text()).unwrap();
    let error = decode(&encoder.finish().unwrap(), 100).unwrap_err();
    assert!(error.to_string().contains("too much memory"), "{error}");

    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(256 << 20);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(b"text").unwrap();
    let error = decode(&encoder.finish().unwrap(), 100).unwrap_err();
    assert!(error.to_string().contains("more memory than allowed"), "{error}");
}

#[test]
fn other_compressions_are_named() {
    let error = decode(b"BZh91AY&SY", 10).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bzip2 compression is not supported: expected gzip, zstd, xz or an uncompressed tar"
    );
}
