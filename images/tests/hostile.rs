//! Archives of random hostile entries: whatever they ask for, nothing outside the root is touched, nothing panics,
//! memory stays bounded, and the same archive makes the same tree.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/memory.rs"]
mod memory;
mod support;

use fixtures::tarballs::{Header, Tarball, gzip, zstd};
use images::UnpackOptions;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use support::Playground;

/// What any archive may take; none of these asks for a window.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Parts of names: few, so that entries meet one another.
const PARTS: &[&str] =
    &["a", "b", "c", "..", ".", "", "a", "b", "...", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", "\u{e4} \n"];

/// Where links lead: inside, to one another, and as far outside as a link can.
const TARGETS: &[&str] = &[
    "a",
    "b",
    "a/b",
    "../a",
    "/",
    "..",
    ".",
    "/a",
    "../outside",
    "../../outside/secret",
    "../secret",
    "/../outside",
    "a/../../outside",
    "b/secret",
    "/proc/self/root",
    "/proc/self/cwd",
    "",
];

/// One entry, or what stands before one.
#[derive(Debug, Clone)]
enum Piece {
    Entry { kind: u8, name: String, link: String, content: Vec<u8>, mode: u32, uid: u64 },
    LongName(String),
    LongLink(String),
    Pax(&'static str, Vec<u8>),
    Noise(Vec<u8>),
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(select(PARTS), 1..5).prop_map(|parts| parts.join("/"))
}

fn piece() -> impl Strategy<Value = Piece> {
    let kind = select(&b"00005522211163VSg"[..]);
    let mode = select(&[0o644u32, 0o755, 0o000, 0o4755, 0o700, 0o7777][..]);
    let content = prop::collection::vec(any::<u8>(), 0..40);
    let entry = (kind, name(), select(TARGETS), content.clone(), mode, select(&[0u64, 1000, 1 << 33][..]));
    let entry = entry.prop_map(|(kind, name, link, content, mode, uid)| Piece::Entry {
        kind,
        name,
        link: link.to_owned(),
        // Only files have content; others with some are a separate case of the tables.
        content: if matches!(kind, b'0' | b'S') { content } else { Vec::new() },
        mode,
        uid,
    });
    let keys = &[
        "path",
        "linkpath",
        "size",
        "mtime",
        "uid",
        "GNU.sparse.map",
        "GNU.sparse.size",
        "SCHILY.xattr.user.k",
    ];
    let value = prop_oneof![
        name().prop_map(String::into_bytes),
        "[0-9]{1,5}".prop_map(String::into_bytes),
        content.clone()
    ];
    prop_oneof![
        12 => entry,
        1 => name().prop_map(Piece::LongName),
        1 => select(TARGETS).prop_map(|target| Piece::LongLink(target.to_owned())),
        2 => (select(&keys[..]), value).prop_map(|(key, value)| Piece::Pax(key, value)),
        1 => prop::collection::vec(any::<u8>(), 512..=512).prop_map(Piece::Noise),
    ]
}

fn add(tar: Tarball, piece: &Piece) -> Tarball {
    match piece {
        Piece::Entry { kind, name, link, content, mode, uid } => {
            let mut header = Header::new(*kind, name);
            // An ordinary user could not look at what is closed to its owner.
            let visible = if rustix::process::geteuid().is_root() { 0 } else { 0o700 };
            (header.link, header.mode, header.uid) = (link.clone().into_bytes(), *mode | visible, *uid);
            tar.entry(header, content)
        }
        Piece::LongName(name) => tar.long_name(name),
        Piece::LongLink(link) => tar.long_link(link),
        Piece::Pax(key, value) => tar.pax(&[(key, value)]),
        Piece::Noise(block) => tar.bytes(block),
    }
}

fn archive(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().fold(Tarball::new(), add).finish()
}

/// The tree that an archive makes, or the error's text.
fn outcome(lower: &[u8], upper: &[u8]) -> Result<Vec<String>, String> {
    let playground = Playground::new();
    let peak = memory::Peak::start();
    let below = playground.unpack(lower);
    let above = playground.unpack_with(upper, &UnpackOptions { layer: true, ..UnpackOptions::default() });
    let grown = peak.bytes();
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes");
    below.and(above).map_err(|error| error.to_string())?;
    Ok(playground.tree().iter().map(|found| format!("{} {:o}", found.line(), found.stat.st_mode)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_entries_stay_inside(
        lower in prop::collection::vec(piece(), 0..12),
        upper in prop::collection::vec(piece(), 0..12),
    ) {
        let (lower, upper) = (archive(&lower), archive(&upper));
        let first = outcome(&lower, &upper);
        prop_assert_eq!(first, outcome(&gzip(&lower), &zstd(&upper)));
    }

    #[test]
    fn any_damage_is_an_error_or_harmless(
        pieces in prop::collection::vec(piece(), 1..8),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        end in any::<Index>(),
        cut in any::<bool>(),
        encode in 0..3,
    ) {
        let plain = archive(&pieces);
        let mut bytes = match encode { 0 => plain, 1 => gzip(&plain), _ => zstd(&plain) };
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let empty = archive(&[]);
        let _either_is_right = outcome(&bytes, &empty);
        let _either_is_right = outcome(&empty, &bytes);
    }
}
