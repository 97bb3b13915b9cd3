//! What the archive is wrapped in.

use fixtures::tarballs::{gzip, zstd};

use crate::case::Kind::{Limit, Malformed};
use crate::case::{Rule, bad, good, rule};
use crate::tar;

pub fn rules() -> Vec<Rule> {
    vec![formats(), checks(), members(), memory(), bombs()]
}

const A: &[&str] = &["a = x"];

fn one() -> Vec<u8> {
    tar().file("a", "x").finish()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn damaged(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    bytes
}

fn cut(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - from_end);
    bytes
}

fn formats() -> Rule {
    let as_name = |magic: &[u8]| [magic, &[0; 600]].concat();
    rule(
        "the first bytes tell the compression",
        vec![
            good("none", one(), A),
            good("gzip", gzip(&one()), A),
            good("zstd", zstd(&one()), A),
            good("xz", xz(&one()), A),
            bad("bzip2", as_name(b"BZh91AY&SY"), Malformed, &["bzip2 compression is not supported"]),
            bad("lz4", as_name(b"\x04\x22\x4d\x18"), Malformed, &["lz4 compression is not supported"]),
            bad("zip", as_name(b"PK\x03\x04"), Malformed, &["zip compression is not supported"]),
            bad(
                "compress",
                as_name(b"\x1f\x9d\x90"),
                Malformed,
                &["compress (.Z) compression is not supported"],
            ),
            bad("gzip in gzip", gzip(&gzip(&one())), Malformed, &["truncated"]),
        ],
    )
}

fn checks() -> Rule {
    rule(
        "every check of the compression is verified, to the last byte",
        vec![
            good("zstd with its checksum", zstd(&one()), A),
            bad("gzip's checksum", damaged(gzip(&one()), 6), Malformed, &["broken gzip data", "check"]),
            bad("gzip's length", damaged(gzip(&one()), 2), Malformed, &["broken gzip data"]),
            bad("zstd's checksum", damaged(zstd(&one()), 2), Malformed, &["broken zstd data"]),
            bad("xz's index", damaged(xz(&one()), 16), Malformed, &["broken xz data"]),
            bad("gzip's flags", damaged_at(gzip(&one()), 3, 0xe0), Malformed, &["broken gzip data"]),
            bad("gzip's method", damaged_at(gzip(&one()), 2, 0x0f), Malformed, &["broken gzip data"]),
            bad("gzip cut off", cut(gzip(&one()), 9), Malformed, &["truncated gzip"]),
            bad("gzip cut in its trailer", cut(gzip(&one()), 1), Malformed, &["truncated gzip"]),
            bad("zstd cut off", cut(zstd(&one()), 9), Malformed, &["truncated zstd"]),
            bad("zstd cut in its checksum", cut(zstd(&one()), 1), Malformed, &["truncated zstd"]),
            bad("xz cut off", cut(xz(&one()), 1), Malformed, &["truncated xz"]),
            bad("gzip's magic alone", gzip(&one())[..6].to_vec(), Malformed, &["truncated gzip"]),
        ],
    )
}

fn damaged_at(mut bytes: Vec<u8>, at: usize, bits: u8) -> Vec<u8> {
    bytes[at] ^= bits;
    bytes
}

fn members() -> Rule {
    let halves = |encode: fn(&[u8]) -> Vec<u8>| {
        let archive = one();
        [encode(&archive[..700]), encode(&archive[700..])].concat()
    };
    let after = |bytes: &[u8]| [&gzip(&one())[..], bytes].concat();
    let skippable = [b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstd(&one())].concat();
    rule(
        "members follow one another, zeros may follow them, and nothing else",
        vec![
            good("two of gzip", halves(gzip), A),
            good("two of zstd", halves(zstd), A),
            good("two of xz", halves(xz), A),
            good("an empty one at the end", after(&gzip(b"")), A),
            good("a frame to skip before zstd", skippable, A),
            good("zeros", after(&[0; 700]), A),
            bad("text", after(b"more"), Malformed, &["neither zeros nor more gzip data"]),
            bad("text after zeros", after(b"\0\0\0more"), Malformed, &["neither zeros nor"]),
            bad("zstd after gzip", after(&zstd(b"more")), Malformed, &["neither zeros nor"]),
            bad("half of another", after(&gzip(b"more")[..12]), Malformed, &["truncated gzip"]),
            bad(
                "a second archive is not read, but checked",
                after(&damaged(gzip(&one()), 6)),
                Malformed,
                &["broken gzip data"],
            ),
        ],
    )
}

/// A zstd frame that asks for a window of 2^`log` bytes and holds `bytes` uncompressed.
fn zstd_window(log: u8, bytes: &[u8]) -> Vec<u8> {
    // Magic; no checksum, no content size; the window as an exponent above 2^10; then one raw block, the last.
    let mut frame = b"\x28\xb5\x2f\xfd\x00".to_vec();
    frame.push((log - 10) << 3);
    frame.extend_from_slice(&((bytes.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(bytes);
    frame
}

/// An xz stream whose header asks for a dictionary of the size that `code` stands for: two or three, shifted.
fn xz_dictionary(code: u8) -> Vec<u8> {
    // The block header: size, flags, filter LZMA2, one byte of properties, the code, padding, a CRC32 over all.
    const BLOCK_AT: usize = 12;
    let mut bytes = xz(&one());
    let length = (usize::from(bytes[BLOCK_AT]) + 1) * 4;
    let crc_at = BLOCK_AT + length - 4;
    assert_eq!(&bytes[BLOCK_AT + 2..BLOCK_AT + 4], b"\x21\x01", "LZMA2 is where it is expected");
    bytes[BLOCK_AT + 4] = code;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[BLOCK_AT..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.sum().to_le_bytes());
    bytes
}

fn memory() -> Rule {
    const MIB: u64 = 1 << 20;
    rule(
        "the memory of a decoder is bounded before it is taken",
        vec![
            good("zstd window of 128 MiB", zstd_window(27, &one()), A).window(128 * MIB),
            good("zstd window of 1 KiB", zstd_window(10, b""), &[]),
            good("xz dictionary of 96 MiB", xz_dictionary(29), A).window(96 * MIB),
            bad(
                "zstd window of 256 MiB",
                zstd_window(28, &one()),
                Malformed,
                &["broken zstd data", "too much memory"],
            ),
            bad(
                "zstd window of 2 TiB",
                zstd_window(41, &one()),
                Malformed,
                &["broken zstd data", "too much memory"],
            ),
            bad("xz dictionary of 128 MiB", xz_dictionary(30), Malformed, &["more memory than allowed"]),
            bad("xz dictionary of 4 GiB", xz_dictionary(40), Malformed, &["more memory than allowed"]),
        ],
    )
}

fn bombs() -> Rule {
    let zeros = || tar().file("zeros", vec![0; 8 << 20]);
    let alarmed =
        |limits: &mut images::UnpackLimits| (limits.ratio_free_bytes, limits.ratio_max) = (1 << 20, 100);
    rule(
        "a decompression bomb is stopped by its ratio or its size",
        vec![
            good("a small one is just a file", gzip(&zeros().finish()), &["zeros = * {size 8388608}"]),
            bad("gzip, by its ratio", gzip(&zeros().finish()), Limit(100), &["bomb"]).bounded(alarmed),
            bad("zstd, by its ratio", zstd(&zeros().finish()), Limit(100), &["bomb"]).bounded(alarmed),
            bad("xz, by its ratio", xz(&zeros().finish()), Limit(100), &["bomb"]).bounded(alarmed),
            bad("by its size", gzip(&zeros().finish()), Limit(4 << 20), &["8388608 bytes"])
                .bounded(|limits| limits.bytes_max = 4 << 20),
        ],
    )
}
