//! Limits, attributes and special entries of archives.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use fixtures::tarballs::{BLOCK, Header, Tarball, gzip, pax_record, zstd};
use images::{UnpackLimits, UnpackOptions};
use support::Playground;

fn header(kind: u8, name: &str, change: impl FnOnce(&mut Header)) -> Header {
    let mut header = Header::new(kind, name);
    change(&mut header);
    header
}

fn tar() -> Tarball {
    Tarball::new()
}

fn options(change: impl FnOnce(&mut UnpackLimits)) -> UnpackOptions {
    let mut options = UnpackOptions::default();
    change(&mut options.limits);
    options
}

fn refusal(archive: &[u8], options: &UnpackOptions) -> String {
    Playground::new().unpack_with(archive, options).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn every_limit_has_a_name_and_a_good_twin() {
    let files =
        |count: usize| (0..count).fold(tar(), |tar, number| tar.file(number.to_string(), "x")).finish();
    let bounded = options(|limits| limits.entries_max = 10);
    assert!(Playground::new().unpack_with(&files(10), &bounded).is_ok());
    assert!(refusal(&files(11), &bounded).contains("entries of the archive: more than the limit of 10"));

    let bounded = options(|limits| limits.bytes_max = 4096);
    assert!(Playground::new().unpack_with(&tar().file("a", [b'x'; 2000]).finish(), &bounded).is_ok());
    assert!(refusal(&tar().file("a", [b'x'; 5000]).finish(), &bounded).contains("limit of 4096"));
    assert!(refusal(&files(5), &bounded).contains("bytes of the decompressed archive"));

    let deep = |levels: usize| tar().long_name("a/".repeat(levels) + "b").file("x", "x").finish();
    assert!(Playground::new().unpack(&deep(1023)).is_ok());
    assert!(
        refusal(&deep(1024), &UnpackOptions::default())
            .contains("directories in one path: more than the limit of 1024")
    );

    let links = |count: usize| {
        (0..count).fold(tar().file("a", "x"), |tar, n| tar.hard_link(format!("l{n}"), "a")).finish()
    };
    let bounded = options(|limits| limits.hard_links_max = 5);
    assert!(Playground::new().unpack_with(&links(4), &bounded).is_ok());
    assert!(refusal(&links(5), &bounded).contains("hard links to \"a\""));

    let xattr = tar().pax(&[("SCHILY.xattr.user.k", &[b'v'; 100])]).file("a", "x").finish();
    assert!(refusal(&xattr, &options(|limits| limits.xattr_bytes_max = 99)).contains("user.k"));

    let padded = tar().file("a", "x").bytes(&[0; 100 * BLOCK]).finish();
    assert!(Playground::new().unpack(&padded).is_ok());
    let bounded = options(|limits| limits.trailing_bytes_max = 10 * BLOCK as u64);
    assert!(refusal(&padded, &bounded).contains("after the end mark of the archive"));

    let directories = (0..100).fold(tar(), |tar, n| tar.directory(format!("d{n}"))).finish();
    let bounded = options(|limits| limits.directory_bytes_max = 2000);
    assert!(refusal(&directories, &bounded).contains("memory for the directories"));
}

#[test]
fn a_gzip_bomb_is_stopped_by_its_ratio_and_by_its_size() {
    let zeros = vec![0; 8 << 20];
    let bomb = gzip(&tar().file("zeros", &zeros).finish());
    assert!(Playground::new().unpack(&bomb).is_ok(), "small ones are just files");
    let alarmed = options(|limits| (limits.ratio_free_bytes, limits.ratio_max) = (1 << 20, 100));
    assert!(refusal(&bomb, &alarmed).contains("bomb"));
    assert!(refusal(&bomb, &options(|limits| limits.bytes_max = 4 << 20)).contains("limit of 4194304"));
    // Behind the end mark, where nothing is parsed.
    let hidden = gzip(&tar().file("a", "x").bytes(&zeros).finish());
    assert!(
        refusal(&hidden, &options(|limits| limits.trailing_bytes_max = 1 << 20))
            .contains("after the end mark of the archive")
    );
}

#[test]
fn twenty_thousand_levels_are_refused_or_unpacked_in_linear_time() {
    // Every level has an entry of its own, its name the long way; 1 in 100, so that the archive stays small.
    let levels = 20_000;
    let archive = (100..=levels)
        .step_by(100)
        .fold(tar(), |tar, level| tar.pax(&[("path", "d/".repeat(level).as_bytes())]).directory("d"))
        .finish();
    assert!(refusal(&archive, &UnpackOptions::default()).contains("directories in one path"));

    let playground = Playground::new();
    let wide = options(|limits| limits.depth_max = levels as u32);
    playground.unpack_with(&archive, &wide).unwrap();
    let mut directory = std::fs::File::open(playground.root()).unwrap();
    for level in 0..levels {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let next = rustix::fs::openat(&directory, "d", flags, rustix::fs::Mode::empty());
        directory = std::fs::File::from(next.unwrap_or_else(|errno| panic!("level {level}: {errno}")));
    }
    let parent = std::fs::File::open(playground.root().parent().unwrap()).unwrap();
    images::remove_tree(&parent, "root").unwrap();
    assert!(!playground.root().exists());
}

#[test]
fn devices_are_left_out_with_a_note() {
    let playground = Playground::new();
    let mut null = Header::new(b'3', "dev/null");
    null.patches = vec![(329, b"0000001\0".to_vec()), (337, b"0000003\0".to_vec())];
    let summary = playground.unpack(&tar().entry(null, b"").file("a", "x").finish()).unwrap();
    assert_eq!(summary.notes, ["dev/null: device left out"]);
    assert_eq!(playground.listing().len(), 1);
    assert_eq!(summary.entries, 2);
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
fn sparse_files_of_every_form() {
    let forms: [(&str, Vec<u8>); 4] = [
        (
            "0.0",
            tar()
                .pax(&[
                    ("GNU.sparse.size", b"3000"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.offset", b"1000"),
                    ("GNU.sparse.numbytes", b"3"),
                    ("GNU.sparse.offset", b"3000"),
                    ("GNU.sparse.numbytes", b"0"),
                ])
                .file("s", "abc")
                .finish(),
        ),
        (
            "0.1",
            tar()
                .pax(&[
                    ("GNU.sparse.size", b"3000"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.map", b"1000,3,3000,0"),
                ])
                .file("GNUSparseFile.1/s", "abc")
                .finish(),
        ),
        ("1.0", {
            let mut content = b"2\n1000\n3\n3000\n0\n".to_vec();
            content.resize(BLOCK, 0);
            content.extend_from_slice(b"abc");
            tar()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.realsize", b"3000"),
                ])
                .file("GNUSparseFile.1/s", content)
                .finish()
        }),
        ("old", {
            let mut old = Header::new(b'S', "s");
            old.magic = *b"ustar  \0";
            old.patches = vec![
                (386, b"00000001750\0".to_vec()),
                (398, b"00000000003\0".to_vec()),
                (483, b"00000005670\0".to_vec()),
            ];
            tar().entry(old, b"abc").finish()
        }),
    ];
    let mut expected = vec![0; 3000];
    expected[1000..1003].copy_from_slice(b"abc");
    for (form, archive) in forms {
        let playground = Playground::new();
        let summary = playground.unpack(&archive).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(std::fs::read(playground.root().join("s")).unwrap(), expected, "{form}");
        assert_eq!(playground.listing().len(), 1, "{form}");
        assert!(summary.bytes >= archive.len() as u64 + 2000, "{form}: holes count");
    }
    let map = |map: &[u8], size: &[u8]| {
        let records = [("GNU.sparse.size", size), ("GNU.sparse.map", map)];
        Playground::new()
            .unpack(&tar().pax(&records).file("s", "abc").finish())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(map(b"10,3", b"12").contains("leaves the file"));
    assert!(map(b"10,2,11,1", b"20").contains("overlaps"));
    assert!(map(b"10,2", b"20").contains("covers 2 bytes"));
    assert!(map(b"10,2,5", b"20").contains("odd number"));
    assert!(map(b"10,18446744073709551615", b"20").contains("overlaps"));
    assert!(map(b"0,3", b"99999999999999").contains("limit"), "a hole beyond the limit");
    let segments = "0,0,".repeat(70_000) + "0,3";
    assert!(map(segments.as_bytes(), b"3").contains("segments of a sparse file"));
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
