//! What an entry is and what its header's fields say.

use fixtures::tarballs::Header;

use crate::case::Kind::{Limit, Malformed, Refused};
use crate::case::{Rule, bad, good, rule};
use crate::{header, patched, tar};

pub fn rules() -> Vec<Rule> {
    vec![kinds(), devices(), content(), checksums(), numbers(), sizes(), owners(), modes(), times(), xattrs()]
}

fn kinds() -> Rule {
    let only = |kind| tar().entry(Header::new(kind, "a"), b"").finish();
    rule(
        "an entry of unknown kind is an error",
        vec![
            good("file", tar().file("a", "x").finish(), &["a = x"]),
            good("file of the oldest writers", tar().entry(Header::new(0, "a"), b"x").finish(), &["a = x"]),
            good("contiguous file", tar().entry(Header::new(b'7', "a"), b"x").finish(), &["a = x"]),
            good(
                "directory of the oldest writers",
                tar().entry(header(0, "d/", |h| h.mode = 0o755), b"").finish(),
                &["d/"],
            ),
            good(
                "fifo",
                tar().entry(header(b'6', "f", |h| h.mode = 0o620), b"").finish(),
                &["f | {mode 620}"],
            ),
            good(
                "volume label",
                tar().entry(Header::new(b'V', "label"), b"").file("a", "x").finish(),
                &["a = x"],
            ),
            good("label that climbs is no place", tar().entry(Header::new(b'V', "label"), b"").finish(), &[]),
            bad("letter nobody knows", only(b'Q'), Malformed, &["unknown entry type 'Q'"]),
            bad("part of a multi-volume file", only(b'M'), Malformed, &["unknown entry type 'M'"]),
            bad("directory dump", only(b'D'), Malformed, &["unknown entry type 'D'"]),
            bad("byte that is no letter", only(0xff), Malformed, &["unknown entry type '\\xff'"]),
        ],
    )
}

fn devices() -> Rule {
    let device = |kind, name: &str| patched(kind, name, &[(329, b"0000001\0"), (337, b"0000003\0")]);
    rule(
        "devices are left out, with a note",
        vec![
            good("character", tar().entry(device(b'3', "null"), b"").file("a", "x").finish(), &["a = x"])
                .noting(&["null: device left out"]),
            good("block", tar().entry(device(b'4', "disk"), b"").finish(), &[])
                .noting(&["disk: device left out"]),
            good("over a file", tar().file("a", "x").entry(device(b'3', "a"), b"").finish(), &["a = x"])
                .noting(&["a: device left out"]),
            bad(
                "with content",
                tar().entry(device(b'3', "null"), b"evil").finish(),
                Refused,
                &["4 bytes of content"],
            ),
        ],
    )
}

fn content() -> Rule {
    let with = |kind, link: &str| {
        tar().entry(header(kind, "a", |h| h.link = link.as_bytes().to_vec()), b"xyz").file("b", "x").finish()
    };
    rule(
        "only files have content",
        vec![
            good("file of whole blocks", tar().file("a", [b'x'; 1024]).finish(), &["a = * {size 1024}"]),
            good("empty file", tar().file("a", "").finish(), &["a = "]),
            bad("directory", with(b'5', ""), Refused, &["3 bytes of content"]),
            bad("link", with(b'2', "b"), Refused, &["3 bytes of content"]),
            bad("fifo", with(b'6', ""), Refused, &["3 bytes of content"]),
            bad("label", with(b'V', ""), Refused, &["3 bytes of content"]),
            bad(
                "old directory",
                tar().entry(Header::new(b'0', "d/"), b"xyz").finish(),
                Refused,
                &["3 bytes of content"],
            ),
        ],
    )
}

fn checksums() -> Rule {
    let wrong = |error| tar().entry(header(b'0', "a", |h| h.checksum_error = error), b"").finish();
    rule(
        "the checksum of a header is right",
        vec![
            good("of unsigned bytes", tar().file("\u{fc}", "x").finish(), &["\u{fc} = x"]),
            good(
                "of signed bytes",
                tar().entry(header(b'0', "\u{fc}", |h| h.checksum_error = -512), b"x").finish(),
                &["\u{fc} = x"],
            ),
            bad("one more", wrong(1), Malformed, &["checksum field says", "sum to"]),
            bad("one less", wrong(-1), Malformed, &["checksum"]),
            bad(
                "in an extension",
                tar().entry(header(b'x', "a", |h| h.checksum_error = 1), b"").finish(),
                Malformed,
                &["checksum"],
            ),
            bad(
                "in the second header",
                tar().file("b", "").entry(header(b'0', "a", |h| h.checksum_error = 9), b"").finish(),
                Malformed,
                &["checksum"],
            ),
            bad("text instead of a header", b"<html>".repeat(100), Malformed, &["not a tar header"]),
        ],
    )
}

fn numbers() -> Rule {
    let size = |bytes: &'static [u8]| tar().raw(&patched(b'0', "a", &[(124, bytes)]), b"x").finish();
    rule(
        "numbers are octal or base 256, and fit",
        vec![
            good("spaces before and after", size(b"       1 \0\0\0"), &["a = x"]),
            good("without an end", size(b"000000000001"), &["a = x"]),
            good("base 256", size(b"\x80\0\0\0\0\0\0\0\0\0\0\x01"), &["a = x"]),
            bad("letters", size(b"12x45678901\0"), Malformed, &["size", "no octal number"]),
            bad("decimal digits", size(b"00000000009\0"), Malformed, &["size", "no octal number"]),
            bad("text after the number", size(b"1\0garbage\0\0\0"), Malformed, &["size", "no octal number"]),
            bad("sign", size(b"-0000000001\0"), Malformed, &["size", "no octal number"]),
            bad("base 256, negative", size(&[0xff; 12]), Malformed, &["size is negative"]),
            bad(
                "base 256, too large",
                size(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"),
                Malformed,
                &["size", "64 bits"],
            ),
        ],
    )
}

fn sizes() -> Rule {
    let claims = |size| tar().raw(&header(b'0', "a", |h| h.size = size), b"").finish();
    rule(
        "an entry's size is bounded before anything is written",
        vec![
            good("at the limit", tar().file("a", [b'x'; 100]).finish(), &["a = * {size 100}"])
                .bounded(|limits| limits.bytes_max = 2048),
            bad("beyond the limit", claims(1 << 40), Limit(64 << 30), &["1099511627776 bytes of content"]),
            bad(
                "as large as a number can be",
                claims(i64::MAX as u64),
                Limit(64 << 30),
                &["bytes of content"],
            ),
            bad("one more than a small limit", claims(2049), Limit(2048), &["2049"])
                .bounded(|limits| limits.bytes_max = 2048),
        ],
    )
}

fn owners() -> Rule {
    let owned = |uid, gid| tar().entry(header(b'0', "a", |h| (h.uid, h.gid) = (uid, gid)), b"x").finish();
    let named = patched(b'0', "a", &[(265, b"nosuchuser"), (297, b"nosuchgroup")]);
    rule(
        "owners are numbers, and names of users mean nothing",
        vec![
            good("numbers", owned(1000, 1001), &["a = x {owner 1000:1001}"]),
            good("as large as 16 bits", owned(65_534, 65_534), &["a = x {owner 65534:65534}"]),
            good("beyond a user namespace", owned(200_000, 0), &["a = x {owner 200000:0}"]),
            good("names", tar().entry(named, b"x").finish(), &["a = x {owner 0:0}"]),
            good(
                "of a directory",
                tar().entry(header(b'5', "d", |h| h.uid = 7), b"").file("d/a", "x").finish(),
                &["d/ {owner 7:0}", "d/a = x {owner 0:0}"],
            ),
            good(
                "of a link",
                tar()
                    .pax(&[("gid", b"8")])
                    .entry(header(b'2', "l", |h| (h.uid, h.link) = (7, b"t".to_vec())), b"")
                    .finish(),
                &["l -> t {owner 7:8}"],
            ),
            good("pax wins", tar().pax(&[("uid", b"7")]).file("a", "x").finish(), &["a = x {owner 7:0}"]),
            good(
                "of nobody named",
                tar().file("d/a", "x").finish(),
                &["d/ {owner 0:0, mode 755, mtime 0}", "d/a = x"],
            ),
            bad(
                "the number that means \"leave it\"",
                owned(u64::from(u32::MAX), 0),
                Malformed,
                &["user id 4294967295"],
            ),
            bad("a group beyond 32 bits", owned(0, 1 << 32), Malformed, &["group id 4294967296"]),
            bad(
                "negative",
                tar().entry(patched(b'0', "a", &[(108, &[0xff; 8])]), b"").finish(),
                Malformed,
                &["user id is negative"],
            ),
            bad(
                "pax, no number",
                tar().pax(&[("uid", b"root")]).file("a", "x").finish(),
                Malformed,
                &["uid", "no number"],
            ),
        ],
    )
}

fn modes() -> Rule {
    let with = |kind, mode| header(kind, "a", |h| h.mode = mode);
    rule(
        "modes are kept, set-id bits too, and what stands above them is not",
        vec![
            good(
                "set-uid with the file type above",
                tar().entry(with(b'0', 0o104_755), b"x").finish(),
                &["a = x {mode 4755}"],
            ),
            good(
                "set-gid of another owner",
                tar().entry(header(b'0', "a", |h| (h.mode, h.gid) = (0o2755, 8)), b"x").finish(),
                &["a = x {mode 2755, owner 0:8}"],
            ),
            good("sticky directory", tar().entry(with(b'5', 0o1777), b"").finish(), &["a/ {mode 1777}"]),
            good(
                "nobody may write",
                tar().entry(with(b'5', 0o555), b"").file("a/b", "x").finish(),
                &["a/ {mode 555}", "a/b = x"],
            ),
            good("everybody may write", tar().entry(with(b'0', 0o666), b"x").finish(), &["a = x {mode 666}"]),
            good(
                "several of each",
                tar()
                    .file("a", "1")
                    .file("b", "2")
                    .entry(header(b'0', "c", |h| h.mode = 0o600), b"3")
                    .entry(header(b'0', "d", |h| h.mode = 0o600), b"4")
                    .finish(),
                &["a = 1 {mode 644}", "b = 2 {mode 644}", "c = 3 {mode 600}", "d = 4 {mode 600}"],
            ),
            good(
                "of a file over another",
                tar().entry(with(b'0', 0o755), b"1").entry(with(b'0', 0o640), b"2").finish(),
                &["a = 2 {mode 640}"],
            ),
            good(
                "the last of two for a directory",
                tar().entry(with(b'5', 0o700), b"").entry(with(b'5', 0o711), b"").finish(),
                &["a/ {mode 711}"],
            ),
            bad(
                "no number",
                tar().entry(patched(b'0', "a", &[(100, b"rw-r--r-")]), b"").finish(),
                Malformed,
                &["mode", "no octal number"],
            ),
            bad(
                "negative",
                tar().entry(patched(b'0', "a", &[(100, &[0xff; 8])]), b"").finish(),
                Malformed,
                &["mode is negative"],
            ),
        ],
    )
}

fn times() -> Rule {
    let at = |mtime| tar().entry(header(b'0', "a", |h| h.mtime = mtime), b"x").finish();
    let pax = |mtime: &'static [u8]| tar().pax(&[("mtime", mtime)]).file("a", "x").finish();
    let words: &[&str] = &["mtime", "no time"];
    rule(
        "times are kept as far as a filesystem can, and directories' are set last",
        vec![
            good("before 1970", at(-86_400), &["a = x {mtime -86400}"]),
            good("long before any filesystem", at(i64::MIN), &["a = x {mtime -2147483648}"]),
            good("pax with a fraction", pax(b"12345.25"), &["a = x {mtime 12345.250000000}"]),
            good("pax before 1970 with a fraction", pax(b"-1.5"), &["a = x {mtime -2.500000000}"]),
            good(
                "pax with more digits than nanoseconds",
                pax(b"1.0000000019"),
                &["a = x {mtime 1.000000001}"],
            ),
            good(
                "of a link",
                tar().pax(&[("mtime", b"5")]).symlink("l", "t").finish(),
                &["l -> t {mtime 5}"],
            ),
            good(
                "of a directory filled later",
                tar().entry(header(b'5', "d", |h| h.mtime = 5), b"").file("d/a", "x").finish(),
                &["d/ {mtime 5}", "d/a = x"],
            ),
            bad("pax, no number", pax(b"yesterday"), Malformed, words),
            bad("pax, an exponent", pax(b"1e9"), Malformed, words),
            bad("pax, two points", pax(b"1.2.3"), Malformed, words),
            bad("pax, too large", pax(b"9223372036854775808"), Malformed, words),
            bad(
                "base 256, too large",
                tar().entry(patched(b'0', "a", &[(136, b"\x80\0\0\x01\0\0\0\0\0\0\0\0")]), b"").finish(),
                Malformed,
                &["modification time", "64 bits"],
            ),
        ],
    )
}

fn xattrs() -> Rule {
    let with = |key: &str, value: &[u8]| tar().pax(&[(key, value)]).file("a", "x").finish();
    let left_out = |name: &'static str, key: &str, note: &'static str| {
        good(name, with(key, b"\x01"), &["a = x {xattrs none}"]).noting(&[note])
    };
    rule(
        "only attributes of users are set, and none that overlayfs reads",
        vec![
            left_out(
                "capabilities",
                "SCHILY.xattr.security.capability",
                "a: extended attribute security.capability left out",
            ),
            left_out(
                "overlayfs's, of root",
                "SCHILY.xattr.trusted.overlay.opaque",
                "a: extended attribute trusted.overlay.opaque left out",
            ),
            left_out(
                "overlayfs's, of users",
                "SCHILY.xattr.user.overlay.opaque",
                "a: extended attribute user.overlay.opaque left out",
            ),
            left_out(
                "access lists",
                "SCHILY.xattr.system.posix_acl_access",
                "a: extended attribute system.posix_acl_access left out",
            ),
            left_out(
                "a namespace nobody knows",
                "SCHILY.xattr.userx",
                "a: extended attribute userx left out",
            ),
            good(
                "of a link",
                tar().pax(&[("SCHILY.xattr.user.k", b"v")]).symlink("l", "t").finish(),
                &["l -> t"],
            )
            .noting(&["l: extended attribute user.k left out"]),
            good("of 64 KiB", with("SCHILY.xattr.trusted.k", &[b'v'; 65_536]), &["a = x"])
                .noting(&["a: extended attribute trusted.k left out"]),
            bad(
                "of more",
                with("SCHILY.xattr.trusted.k", &[b'v'; 65_537]),
                Limit(65_536),
                &["65537 bytes", "trusted.k"],
            ),
            bad("without a name", with("SCHILY.xattr.", b"v"), Malformed, &["names no extended attribute"]),
        ],
    )
}
