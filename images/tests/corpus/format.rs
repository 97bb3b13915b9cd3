//! The stream of blocks: extensions, ends, and the bounds of the whole.

use fixtures::tarballs::{BLOCK, Header, gzip};

use crate::case::Kind::{Limit, Malformed};
use crate::case::{Rule, bad, good, rule};
use crate::{header, tar};

pub fn rules() -> Vec<Rule> {
    vec![records(), pax_sizes(), places(), globals(), ends(), truncation(), bounds()]
}

fn records() -> Rule {
    let body = |body: &[u8]| tar().entry(Header::new(b'x', "p"), body).file("c", "x").finish();
    rule(
        "pax records are exactly as long as they say",
        vec![
            good("several", body(b"12 path=a/b\n13 comment=x\n"), &["a/", "a/b = x"]),
            good("none", body(b""), &["c = x"]),
            good(
                "keys that mean nothing here",
                tar().pax(&[("VENDOR.x", b"y"), ("atime", b"now")]).file("a", "x").finish(),
                &["a = x"],
            ),
            good(
                "value with newlines, signs and NULs",
                tar().pax(&[("comment", b"a=b\n\0\n9 x=y")]).file("a", "x").finish(),
                &["a = x"],
            ),
            bad("too long", body(b"99 path=a\n"), Malformed, &["length is wrong"]),
            bad("too short", body(b"4 path=a\n"), Malformed, &["bad pax record"]),
            bad("of nothing", body(b"0 path=a\n"), Malformed, &["length is wrong"]),
            bad(
                "beyond numbers",
                body(b"99999999999999999999 path=a\n"),
                Malformed,
                &["length is no number"],
            ),
            bad("no number", body(b"x path=a\n"), Malformed, &["length is no number"]),
            bad("negative", body(b"-9 path=a\n"), Malformed, &["length is no number"]),
            bad("without a newline", body(b"9 path=ab"), Malformed, &["no newline"]),
            bad("without a space", body(b"9path=ab\n"), Malformed, &["bad pax record"]),
            bad("without an equals sign", body(b"8 path\n\n"), Malformed, &["no equals sign"]),
            bad("without a key", body(b"5 =a\n"), Malformed, &["key is empty"]),
            bad("with a NUL in the key", body(b"9 pa\0h=a\n"), Malformed, &["NUL"]),
            bad("with NULs after the last", body(b"10 path=a\n\0\0"), Malformed, &["bad pax record"]),
        ],
    )
}

fn pax_sizes() -> Rule {
    let sized = |size: u64| header(b'0', "a", |h| h.size = size);
    rule(
        "a size in pax records is that of the next entry, and of nothing else",
        vec![
            good(
                "wins over the header",
                tar().pax(&[("size", b"3")]).raw(&sized(0), b"abc").finish(),
                &["a = abc"],
            ),
            good(
                "wins when it is smaller",
                tar().pax(&[("size", b"1")]).raw(&sized(3), b"abc").finish(),
                &["a = a"],
            ),
            good(
                "is gone after it",
                tar().pax(&[("size", b"1")]).file("a", "x").file("b", "yy").finish(),
                &["a = x", "b = yy"],
            ),
            good(
                "said twice alike",
                tar().pax(&[("size", b"1"), ("size", b"1")]).file("a", "x").finish(),
                &["a = x"],
            ),
            bad(
                "before a long name",
                tar().pax(&[("size", b"700")]).long_name("long").raw(&sized(700), &[b'y'; 700]).finish(),
                Malformed,
                &["after another"],
            ),
            bad(
                "before another pax header",
                tar().pax(&[("size", b"700")]).pax(&[("path", b"p")]).raw(&sized(700), &[b'y'; 700]).finish(),
                Malformed,
                &["pax header after another"],
            ),
            bad(
                "said twice",
                tar().pax(&[("size", b"1"), ("size", b"2")]).file("a", "x").finish(),
                Malformed,
                &["differ", "size"],
            ),
            bad(
                "negative",
                tar().pax(&[("size", b"-1")]).file("a", "x").finish(),
                Malformed,
                &["size", "no number"],
            ),
            bad(
                "beyond numbers",
                tar().pax(&[("size", b"18446744073709551616")]).file("a", "x").finish(),
                Malformed,
                &["size", "no number"],
            ),
            bad(
                "beyond the limit",
                tar().pax(&[("size", b"18446744073709551615")]).file("a", "x").finish(),
                Limit(64 << 30),
                &["bytes of content"],
            ),
        ],
    )
}

fn places() -> Rule {
    let big = |kind, size| tar().raw(&header(kind, "p", |h| h.size = size), b"");
    rule(
        "extensions stand once, and right before their entry",
        vec![
            good(
                "a long link and a long name",
                tar().long_link("t").long_name("n").symlink("x", "").finish(),
                &["n -> t"],
            ),
            good(
                "pax between others' entries",
                tar().file("a", "1").pax(&[("path", b"b")]).file("x", "2").file("c", "3").finish(),
                &["a = 1", "b = 2", "c = 3"],
            ),
            bad(
                "pax twice",
                tar().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", "x").finish(),
                Malformed,
                &["pax header after"],
            ),
            bad(
                "pax after a long name",
                tar().long_name("a").pax(&[("path", b"b")]).file("c", "x").finish(),
                Malformed,
                &["pax header after"],
            ),
            bad(
                "long link after pax",
                tar().pax(&[("path", b"b")]).long_link("a").symlink("c", "").finish(),
                Malformed,
                &["long link after"],
            ),
            bad(
                "pax before the end mark",
                tar().pax(&[("path", b"a")]).finish(),
                Malformed,
                &["end mark follows an extension"],
            ),
            bad(
                "pax at the end",
                tar().pax(&[("path", b"a")]).unfinished(),
                Malformed,
                &["ends after an extension"],
            ),
            bad(
                "pax of 2 MiB",
                big(b'x', 2 << 20).finish(),
                Limit(1 << 20),
                &["2097152 bytes of pax records"],
            ),
            bad(
                "pax as large as a number can be",
                big(b'x', i64::MAX as u64).finish(),
                Limit(1 << 20),
                &["bytes of pax records"],
            ),
            bad(
                "global pax of 2 MiB",
                big(b'g', 2 << 20).finish(),
                Limit(1 << 20),
                &["bytes of pax records"],
            ),
        ],
    )
}

fn globals() -> Rule {
    let global = |key: &str, value: &[u8]| tar().global_pax(&[(key, value)]).file("a", "x").finish();
    let sets =
        |name: &'static str, key: &'static str| bad(name, global(key, b"1"), Malformed, &["global", key]);
    let refused = |name, key| {
        let mut case = sets(name, key);
        case.want = crate::case::Want::Error(crate::case::Kind::Refused, vec!["global", key]);
        case
    };
    rule(
        "a global header comments and says nothing about entries",
        vec![
            good("comment", global("comment", b"0123"), &["a = x"]),
            good(
                "twice",
                tar()
                    .global_pax(&[("comment", b"1")])
                    .file("a", "x")
                    .global_pax(&[("comment", b"2")])
                    .file("b", "y")
                    .finish(),
                &["a = x", "b = y"],
            ),
            good("last", tar().file("a", "x").global_pax(&[("comment", b"1")]).finish(), &["a = x"]),
            refused("path", "path"),
            refused("linkpath", "linkpath"),
            refused("size", "size"),
            refused("uid", "uid"),
            refused("mtime", "mtime"),
            refused("attributes", "SCHILY.xattr.user.k"),
            refused("sparseness", "GNU.sparse.size"),
            bad(
                "broken",
                tar().entry(Header::new(b'g', "g"), b"99 comment=x\n").finish(),
                Malformed,
                &["length is wrong"],
            ),
        ],
    )
}

fn ends() -> Rule {
    let one = || tar().file("a", "x");
    rule(
        "the end is marked, or proven by the compression",
        vec![
            good("two blocks of zeros", one().finish(), &["a = x"]),
            good("only an end mark", tar().finish(), &[]),
            good("one block of zeros", one().bytes(&[0; BLOCK]).unfinished(), &["a = x"]),
            good("no mark, but a checked end", gzip(&one().unfinished()), &["a = x"]),
            good("gzip of nothing", gzip(b""), &[]),
            good(
                "nothing after it is read",
                one().bytes(&[0; 2 * BLOCK]).file("../evil", "x").finish(),
                &["a = x"],
            ),
            good("padding to a tape's record", one().bytes(&[0; 20 * BLOCK]).unfinished(), &["a = x"]),
            bad("no mark", one().unfinished(), Malformed, &["no end mark"]),
            bad("nothing at all", Vec::new(), Malformed, &["empty"]),
            bad(
                "a block of zeros in the middle",
                one().bytes(&[0; BLOCK]).file("b", "x").finish(),
                Malformed,
                &["lone block"],
            ),
            bad(
                "more after it than allowed",
                one().bytes(&[0; 30 * BLOCK]).finish(),
                Limit(10 * BLOCK as u64),
                &["after the end mark"],
            )
            .bounded(|limits| limits.trailing_bytes_max = 10 * BLOCK as u64),
            bad(
                "more after it than allowed, compressed",
                gzip(&one().bytes(&vec![0; 8 << 20]).finish()),
                Limit(1 << 20),
                &["after the end mark"],
            )
            .bounded(|limits| limits.trailing_bytes_max = 1 << 20),
        ],
    )
}

fn truncation() -> Rule {
    let claims = |size| header(b'0', "a", move |h| h.size = size);
    rule(
        "an archive that ends too early is an error",
        vec![
            good("whole", tar().raw(&claims(600), &[b'x'; 600]).finish(), &["a = * {size 600}"]),
            bad(
                "in a header",
                tar().file("a", "x").bytes(&[1; 100]).unfinished(),
                Malformed,
                &["truncated", "100 bytes"],
            ),
            bad(
                "in content",
                tar().raw(&claims(2000), b"x").unfinished(),
                Malformed,
                &["entry \"a\"", "truncated"],
            ),
            bad(
                "in padding",
                [tar().raw(&claims(513), &[b'x'; 513]).unfinished()[..BLOCK * 2 + 1].to_vec()].concat(),
                Malformed,
                &["truncated"],
            ),
            bad(
                "in pax records",
                tar().raw(&header(b'x', "p", |h| h.size = 2000), b"x").unfinished(),
                Malformed,
                &["truncated"],
            ),
            bad(
                "in a sparse map",
                tar()
                    .pax(&[
                        ("GNU.sparse.major", b"1"),
                        ("GNU.sparse.minor", b"0"),
                        ("GNU.sparse.realsize", b"9"),
                    ])
                    .raw(&claims(600), b"")
                    .unfinished(),
                Malformed,
                &["sparse map"],
            ),
            bad("at once", b"<html>".to_vec(), Malformed, &["truncated", "6 bytes"]),
        ],
    )
}

fn bounds() -> Rule {
    let files = |count: usize| (0..count).fold(tar(), |tar, n| tar.file(format!("{n}"), "x")).finish();
    let directories = (0..100).fold(tar(), |tar, n| tar.directory(format!("d{n}"))).finish();
    rule(
        "the whole is bounded",
        vec![
            good("as many entries as allowed", files(3), &["0 = x", "1 = x", "2 = x"])
                .bounded(|limits| limits.entries_max = 3),
            bad("one entry more", files(4), Limit(3), &["entries of the archive"])
                .bounded(|limits| limits.entries_max = 3),
            good("as many bytes as allowed", files(1), &["0 = x"])
                .bounded(|limits| limits.bytes_max = 4 * BLOCK as u64),
            bad("more bytes", files(2), Limit(4 * BLOCK as u64), &["bytes of the decompressed archive"])
                .bounded(|limits| limits.bytes_max = 4 * BLOCK as u64),
            bad("more directories than memory", directories, Limit(2000), &["memory for the directories"])
                .bounded(|limits| limits.directory_bytes_max = 2000),
        ],
    )
}
