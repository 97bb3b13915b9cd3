//! What the tables of `corpus` cannot say: several attributes of one tree at once, notes, digests.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use fixtures::tarballs::{BLOCK, Header, Tarball, gzip, pax_record, zstd};
use support::Playground;

fn header(kind: u8, name: &str, change: impl FnOnce(&mut Header)) -> Header {
    let mut header = Header::new(kind, name);
    change(&mut header);
    header
}

fn tar() -> Tarball {
    Tarball::new()
}

#[test]
fn notes_are_capped() {
    let many = (0..150).fold(tar(), |tar, n| tar.entry(Header::new(b'4', format!("d{n}")), b"")).finish();
    let summary = Playground::new().unpack(&many).unwrap();
    assert_eq!((summary.notes.len(), summary.notes_dropped), (100, 50));
}

#[test]
fn modes_times_and_fifos() {
    let playground = Playground::new();
    let archive = tar()
        .entry(header(b'5', "./", |h| (h.mode, h.mtime) = (0o751, 5)), b"")
        .entry(header(b'5', "closed", |h| (h.mode, h.mtime) = (0o500, 7)), b"")
        .entry(header(b'0', "closed/suid", |h| (h.mode, h.mtime) = (0o104755, -86_400)), b"x")
        .entry(header(b'6', "closed/fifo", |h| h.mode = 0o620), b"")
        .pax(&[("mtime", b"12345.25")])
        .symlink("link", "target")
        .entry(header(b'0', "late", |h| h.mtime = i64::MAX), b"")
        .entry(header(b'5', "twice", |h| h.mode = 0o700), b"")
        .entry(header(b'5', "twice", |h| h.mode = 0o711), b"")
        .file("implied/a", "x")
        .finish();
    playground.unpack(&archive).unwrap();
    let stat = |name: &str| std::fs::symlink_metadata(playground.root().join(name)).unwrap();
    assert_eq!((stat("").mode() & 0o7777, stat("").mtime()), (0o751, 5));
    assert_eq!((stat("closed").mode() & 0o7777, stat("closed").mtime()), (0o500, 7));
    assert_eq!((stat("closed/suid").mode() & 0o7777, stat("closed/suid").mtime()), (0o4755, -86_400));
    assert!(stat("closed/fifo").file_type().is_fifo());
    assert_eq!(stat("closed/fifo").permissions().mode() & 0o7777, 0o620);
    assert_eq!((stat("link").mtime(), stat("link").mtime_nsec()), (12_345, 250_000_000));
    // 2^34 - 1, or less where the filesystem ends sooner.
    assert!(stat("late").mtime() > 1 << 31);
    assert_eq!(stat("twice").mode() & 0o7777, 0o711);
    assert_eq!((stat("implied").mode() & 0o7777, stat("implied").mtime()), (0o755, 0));
}

#[test]
fn extended_attributes_by_policy() {
    let playground = Playground::new();
    let archive = tar()
        .pax(&[
            ("SCHILY.xattr.user.kept", b"value\0\n"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.capability", b"\x01"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .file("a", "x")
        .finish();
    let summary = playground.unpack(&archive).unwrap();
    let mut names = vec![0; 1000];
    let count = rustix::fs::listxattr(playground.root().join("a"), &mut names).unwrap();
    let names = String::from_utf8_lossy(&names[..count]).into_owned();
    for forbidden in ["overlay", "capability", "trusted"] {
        assert!(!names.contains(forbidden), "{names}");
        assert!(summary.notes.iter().any(|note| note.contains(forbidden)), "{:?}", summary.notes);
    }
    // A filesystem without user attributes leaves a note instead.
    let noted = summary.notes.iter().any(|note| note.contains("user.kept"));
    assert!(names.contains("user.kept") != noted);
}

#[test]
fn pax_records_have_exact_lengths() {
    assert_eq!(pax_record("path", b"a/b"), b"12 path=a/b\n");
    assert_eq!(pax_record("p", &[b'x'; 93]).len(), 99);
}

#[test]
fn the_digest_covers_every_byte() {
    let archive = tar().file("a", "x").bytes(&[0; 20 * BLOCK]).finish();
    let digest = images::Digest::of(&archive);
    for bytes in [archive.clone(), gzip(&archive), zstd(&archive)] {
        assert_eq!(Playground::new().unpack(&bytes).unwrap().tar_sha256, digest);
    }
}
