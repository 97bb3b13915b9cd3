//! Hostile archives and their good twins: refused with a clear message, or unpacked safely.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use fixtures::tarballs::{BLOCK, Header, Tarball, gzip, zstd};
use support::Playground;

/// What an archive of the table must lead to.
enum Want {
    /// Unpacked; these paths hold these contents.
    Good(&'static [(&'static str, &'static str)]),
    /// Refused with an error that holds all these words.
    Refused(&'static [&'static str]),
}

use Want::{Good, Refused};

fn header(kind: u8, name: &str, change: impl FnOnce(&mut Header)) -> Header {
    let mut header = Header::new(kind, name);
    change(&mut header);
    header
}

fn tar() -> Tarball {
    Tarball::new()
}

#[test]
fn table() {
    let outside = "../outside/secret";
    let cases: Vec<(&str, Vec<u8>, Want)> = vec![
        // Names.
        ("plain file", tar().file("a", "x").finish(), Good(&[("a", "x")])),
        ("parent in a name", tar().file("a/../../x", "x").finish(), Refused(&["a/../../x", "holds \"..\""])),
        ("only parent", tar().directory("..").finish(), Refused(&["\"..\""])),
        ("dots are a name", tar().file("...", "x").finish(), Good(&[("...", "x")])),
        ("absolute name", tar().file("/etc/x", "x").finish(), Good(&[("etc/x", "x")])),
        ("many slashes", tar().file(".//a//./b", "x").finish(), Good(&[("a/b", "x")])),
        ("root as a file", tar().file("./", "").finish(), Good(&[])),
        ("root as a link", tar().symlink(".", "/etc").finish(), Refused(&["root directory"])),
        (
            "long component",
            tar().long_name([b'a'; 256]).file("x", "").finish(),
            Refused(&["256 bytes", "255"]),
        ),
        (
            "v7 directory",
            tar().entry(header(0, "d/", |h| h.magic = [0; 8]), b"").finish(),
            Good(&[("d", "directory")]),
        ),
        (
            "ustar prefix",
            tar()
                .entry(header(b'0', "leaf", |h| h.patches.push((345, b"some/prefix".to_vec()))), b"x")
                .finish(),
            Good(&[("some/prefix/leaf", "x")]),
        ),
        (
            "gnu has no prefix",
            tar()
                .entry(
                    header(b'0', "leaf", |h| {
                        h.magic = *b"ustar  \0";
                        h.patches.push((345, b"00000000000".to_vec()));
                    }),
                    b"x",
                )
                .finish(),
            Good(&[("leaf", "x")]),
        ),
        (
            "star prefix ends early",
            tar()
                .entry(
                    header(b'0', "leaf", |h| {
                        h.patches.push((345, b"p".to_vec()));
                        h.patches.push((476, b"17777777777 17777777777 ".to_vec()));
                        h.patches.push((508, b"tar\0".to_vec()));
                    }),
                    b"x",
                )
                .finish(),
            Good(&[("p/leaf", "x")]),
        ),
        // Links.
        (
            "write through a link to outside",
            tar().symlink("l", "../outside").file("l/secret", "gone").finish(),
            Refused(&["l/secret", "\"l\" is a symbolic link to nothing"]),
        ),
        (
            "write through an absolute link stays inside",
            tar().directory("etc").symlink("l", "/etc").file("l/x", "x").finish(),
            Good(&[("etc/x", "x"), ("l", "-> /etc")]),
        ),
        (
            "write through a climbing link stays inside",
            tar().directory("etc").symlink("l", "../../../../etc").file("l/x", "x").finish(),
            Good(&[("etc/x", "x")]),
        ),
        (
            "merged usr",
            tar().symlink("bin", "usr/bin").directory("usr/bin").file("bin/sh", "x").finish(),
            Good(&[("usr/bin/sh", "x"), ("bin", "-> usr/bin")]),
        ),
        (
            "file over a link to outside",
            tar().symlink("l", outside).file("l", "mine").finish(),
            Good(&[("l", "mine")]),
        ),
        (
            "directory over a link to outside",
            tar().symlink("l", "../outside").directory("l").file("l/secret", "mine").finish(),
            Good(&[("l", "directory"), ("l/secret", "mine")]),
        ),
        (
            "link loop as parent",
            tar().symlink("a", "b").symlink("b", "a").file("a/x", "x").finish(),
            Refused(&["a/x", "parent \"a\""]),
        ),
        (
            "file as parent",
            tar().file("a", "x").file("a/b", "x").finish(),
            Refused(&["a/b", "not a directory"]),
        ),
        ("empty link target", tar().symlink("l", "").finish(), Refused(&["without a target"])),
        ("hard link", tar().file("a", "x").hard_link("b", "a").finish(), Good(&[("a", "x"), ("b", "x")])),
        ("hard link out by parent", tar().hard_link("b", outside).finish(), Refused(&["target", ".."])),
        ("hard link absolute", tar().hard_link("b", "/etc/passwd").finish(), Refused(&["absolute"])),
        (
            "hard link through a link to outside",
            tar().symlink("l", "../outside").hard_link("b", "l/secret").finish(),
            Refused(&["target \"l/secret\""]),
        ),
        (
            "hard link to a link is the link",
            tar().symlink("l", outside).hard_link("b", "l").finish(),
            Good(&[("b", "-> ../outside/secret")]),
        ),
        (
            "hard link to a link, then a write over it",
            tar().symlink("l", outside).hard_link("b", "l").file("b", "mine").finish(),
            Good(&[("b", "mine"), ("l", "-> ../outside/secret")]),
        ),
        (
            "hard link to a directory",
            tar().directory("d").hard_link("b", "d").finish(),
            Refused(&["directory \"d\""]),
        ),
        (
            "hard link to nothing",
            tar().hard_link("b", "a").finish(),
            Refused(&["target \"a\"", "No such file"]),
        ),
        ("hard link to itself", tar().file("a", "x").hard_link("a", "a").finish(), Good(&[("a", "x")])),
        ("hard link to the root", tar().hard_link("a", "./").finish(), Refused(&["root directory"])),
        (
            "hard link with content",
            tar().file("a", "x").entry(header(b'1', "b", |h| h.link = b"a".to_vec()), b"evil").finish(),
            Refused(&["4 bytes of content"]),
        ),
        (
            "file over one of two hard links leaves the other",
            tar().file("a", "x").hard_link("b", "a").file("b", "new").finish(),
            Good(&[("a", "x"), ("b", "new")]),
        ),
        // The same name twice.
        ("file twice", tar().file("a", "long first").file("a", "2").finish(), Good(&[("a", "2")])),
        (
            "directory twice",
            tar().directory("d").file("d/a", "x").directory("d").finish(),
            Good(&[("d/a", "x")]),
        ),
        ("file over an empty directory", tar().directory("d").file("d", "x").finish(), Good(&[("d", "x")])),
        (
            "file over a full directory",
            tar().file("d/a", "x").file("d", "x").finish(),
            Refused(&["entry \"d\"", "not empty"]),
        ),
        (
            "directory over a file",
            tar().file("d", "x").file("d2", "").directory("d").finish(),
            Good(&[("d", "directory")]),
        ),
        // Kinds.
        ("contiguous file", tar().entry(Header::new(b'7', "a"), b"x").finish(), Good(&[("a", "x")])),
        (
            "volume label",
            tar().entry(Header::new(b'V', "label"), b"").file("a", "x").finish(),
            Good(&[("a", "x")]),
        ),
        (
            "unknown kind",
            tar().entry(Header::new(b'Q', "a"), b"").finish(),
            Refused(&["unknown entry type 'Q'"]),
        ),
        (
            "multi-volume",
            tar().entry(Header::new(b'M', "a"), b"").finish(),
            Refused(&["unknown entry type 'M'"]),
        ),
        (
            "directory with content",
            tar().entry(Header::new(b'5', "d"), b"xyz").finish(),
            Refused(&["3 bytes of content"]),
        ),
        (
            "whiteout names are ordinary in a rootfs",
            tar().file(".wh.a", "x").finish(),
            Good(&[(".wh.a", "x")]),
        ),
        // Headers.
        (
            "bad checksum",
            tar().entry(header(b'0', "a", |h| h.checksum_error = 1), b"").finish(),
            Refused(&["checksum"]),
        ),
        (
            "signed checksum",
            tar().entry(header(b'0', "\u{fc}", |h| h.checksum_error = -512), b"x").finish(),
            Good(&[("\u{fc}", "x")]),
        ),
        (
            "unknown dialect",
            tar().entry(header(b'0', "a", |h| h.magic = *b"tarus\x0000"), b"").finish(),
            Refused(&["dialect"]),
        ),
        ("text instead of tar", b"<html>".repeat(100), Refused(&["not a tar header"])),
        ("short text instead of tar", b"<html>".to_vec(), Refused(&["truncated", "6 bytes"])),
        (
            "negative size",
            tar().raw(&header(b'0', "a", |h| h.patches.push((124, vec![0xff; 12]))), b"").finish(),
            Refused(&["size is negative"]),
        ),
        (
            "size in base 256",
            tar()
                .raw(
                    &header(b'0', "a", |h| h.patches.push((124, b"\x80\0\0\0\0\0\0\0\0\0\0\x01".to_vec()))),
                    b"x",
                )
                .finish(),
            Good(&[("a", "x")]),
        ),
        (
            "overflowing size",
            tar()
                .raw(
                    &header(b'0', "a", |h| h.patches.push((124, b"\x80\0\0\x01\0\0\0\0\0\0\0\0".to_vec()))),
                    b"",
                )
                .finish(),
            Refused(&["size", "64 bits"]),
        ),
        (
            "size beyond the limit",
            tar().raw(&header(b'0', "a", |h| h.size = 1 << 40), b"").finish(),
            Refused(&["1099511627776", "limit"]),
        ),
        (
            "size that is no number",
            tar().raw(&header(b'0', "a", |h| h.patches.push((124, b"12x45678901\0".to_vec()))), b"").finish(),
            Refused(&["size", "no octal number"]),
        ),
        (
            "id too large",
            tar().entry(header(b'0', "a", |h| h.uid = u64::from(u32::MAX)), b"").finish(),
            Refused(&["user id 4294967295"]),
        ),
        // Ends.
        (
            "truncated header",
            tar().file("a", "x").bytes(&[1; 100]).unfinished(),
            Refused(&["truncated", "100 bytes"]),
        ),
        (
            "truncated content",
            tar().raw(&header(b'0', "a", |h| h.size = 2000), b"x").unfinished(),
            Refused(&["entry \"a\"", "truncated"]),
        ),
        ("no end mark", tar().file("a", "x").unfinished(), Refused(&["no end mark"])),
        ("no end mark, but a checked end", gzip(&tar().file("a", "x").unfinished()), Good(&[("a", "x")])),
        ("half an end mark", tar().file("a", "x").bytes(&[0; BLOCK]).unfinished(), Good(&[("a", "x")])),
        (
            "zeros in the middle",
            tar().file("a", "x").bytes(&[0; BLOCK]).file("b", "x").finish(),
            Refused(&["lone block"]),
        ),
        (
            "nothing after the end is read",
            tar().file("a", "x").bytes(&[0; 2 * BLOCK]).file("../evil", "x").finish(),
            Good(&[("a", "x")]),
        ),
        ("empty", Vec::new(), Refused(&["empty"])),
        ("only an end mark", tar().finish(), Good(&[])),
        ("gzip of nothing", gzip(b""), Good(&[])),
        (
            "truncated gzip",
            {
                let mut z = gzip(&tar().file("a", "x").finish());
                z.truncate(60);
                z
            },
            Refused(&["truncated gzip"]),
        ),
        (
            "truncated zstd",
            {
                let mut z = zstd(&tar().file("a", "x").finish());
                z.truncate(40);
                z
            },
            Refused(&["truncated zstd"]),
        ),
        (
            "flipped bit in gzip's checksum",
            {
                let mut z = gzip(&tar().file("a", "x").finish());
                let at = z.len() - 6;
                z[at] ^= 1;
                z
            },
            Refused(&["broken gzip data", "check"]),
        ),
        (
            "gzip with more after it",
            [gzip(&tar().file("a", "x").finish()), b"more".to_vec()].concat(),
            Refused(&["neither zeros nor"]),
        ),
        (
            "gzip with zeros after it",
            [gzip(&tar().file("a", "x").finish()), vec![0; 700]].concat(),
            Good(&[("a", "x")]),
        ),
        (
            "two gzip members",
            {
                let t = tar().file("a", "x").finish();
                [gzip(&t[..700]), gzip(&t[700..])].concat()
            },
            Good(&[("a", "x")]),
        ),
        // Extended headers.
        (
            "pax path",
            tar().pax(&[("path", b"long/name")]).file("short", "x").finish(),
            Good(&[("long/name", "x")]),
        ),
        (
            "pax path with parent",
            tar().pax(&[("path", b"../x")]).file("short", "x").finish(),
            Refused(&["\"..\""]),
        ),
        (
            "pax linkpath",
            tar().pax(&[("linkpath", b"there")]).symlink("l", "here").finish(),
            Good(&[("l", "-> there")]),
        ),
        (
            "pax size wins",
            tar().pax(&[("size", b"3")]).raw(&header(b'0', "a", |h| h.size = 0), b"abc").finish(),
            Good(&[("a", "abc")]),
        ),
        (
            "pax size is for the entry, not for a long name before it",
            tar()
                .pax(&[("size", b"700")])
                .long_name("long")
                .raw(&header(b'0', "a", |h| h.size = 700), &[b'y'; 700])
                .finish(),
            Refused(&["after another"]),
        ),
        (
            "pax size does not stay",
            tar().pax(&[("size", b"1")]).file("a", "x").file("b", "yy").finish(),
            Good(&[("b", "yy")]),
        ),
        (
            "pax sizes differ",
            tar().pax(&[("size", b"1"), ("size", b"2")]).file("a", "x").finish(),
            Refused(&["differ", "size"]),
        ),
        (
            "pax size negative",
            tar().pax(&[("size", b"-1")]).file("a", "x").finish(),
            Refused(&["size", "no number"]),
        ),
        (
            "pax without entry",
            tar().pax(&[("path", b"a")]).finish(),
            Refused(&["end mark follows an extension"]),
        ),
        ("pax at the end", tar().pax(&[("path", b"a")]).unfinished(), Refused(&["ends after an extension"])),
        (
            "pax twice",
            tar().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", "x").finish(),
            Refused(&["pax header after"]),
        ),
        (
            "pax record too long",
            tar().entry(Header::new(b'x', "p"), b"99 path=a\n").file("c", "x").finish(),
            Refused(&["length is wrong"]),
        ),
        (
            "pax block too large",
            tar().raw(&header(b'x', "p", |h| h.size = 2 << 20), b"").finish(),
            Refused(&["2097152 bytes of pax records", "1048576"]),
        ),
        (
            "pax with NUL in the path",
            tar().pax(&[("path", b"a\0b")]).file("c", "x").finish(),
            Refused(&["NUL"]),
        ),
        (
            "global comment",
            tar().global_pax(&[("comment", b"0123")]).file("a", "x").finish(),
            Good(&[("a", "x")]),
        ),
        (
            "global path",
            tar().global_pax(&[("path", b"b")]).file("a", "x").finish(),
            Refused(&["global", "path"]),
        ),
        (
            "global size",
            tar().global_pax(&[("size", b"0")]).file("a", "x").finish(),
            Refused(&["global", "size"]),
        ),
        (
            "unknown pax keys are nothing",
            tar().pax(&[("VENDOR.x", b"y")]).file("a", "x").finish(),
            Good(&[("a", "x")]),
        ),
        ("gnu long name", tar().long_name("d/".repeat(80) + "leaf").file("short", "x").finish(), Good(&[])),
        ("gnu long link", tar().long_link("t".repeat(300)).symlink("l", "").finish(), Good(&[])),
        (
            "gnu long name twice",
            tar().long_name("a").long_name("b").file("c", "x").finish(),
            Refused(&["long name after another"]),
        ),
        (
            "gnu long name empty",
            tar().long_name("").file("c", "x").finish(),
            Refused(&["long name that is empty"]),
        ),
        ("gnu long name with NUL", tar().long_name("a\0b").file("c", "x").finish(), Refused(&["NUL"])),
        (
            "gnu long name too long",
            tar().raw(&header(b'L', "l", |h| h.size = 1 << 20), b"").finish(),
            Refused(&["bytes of long name"]),
        ),
    ];
    for (what, archive, want) in cases {
        let playground = Playground::new();
        let result = playground.unpack(&archive);
        match want {
            Good(paths) => {
                result.unwrap_or_else(|error| panic!("{what}: {error}"));
                let listing = playground.listing();
                for (path, content) in paths {
                    assert_eq!(
                        listing.get(*path).map(String::as_str),
                        Some(*content),
                        "{what}: {path} in {listing:?}"
                    );
                }
            }
            Refused(words) => {
                let error = result.map(|_| ()).expect_err(what).to_string();
                for word in words {
                    assert!(error.contains(word), "{what}: {word:?} not in {error:?}");
                }
            }
        }
    }
}
