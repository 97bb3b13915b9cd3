//! Where an entry may lie: its name, and the headers' ways to say it.

use fixtures::tarballs::{Header, Tarball};

use crate::case::Kind::{Limit, Malformed, Refused};
use crate::case::{Rule, bad, good, rule};
use crate::{header, tar};

/// Returns a path of `count` times `part`, and the facts of a tree that holds a file there.
fn chain(part: &str, count: usize) -> (String, Vec<String>) {
    let path = vec![part; count].join("/");
    let above = (1..count).map(|parts| format!("{}/", vec![part; parts].join("/")));
    let facts = above.chain([format!("{path} = x")]).collect();
    (path, facts)
}

fn at(path: &str) -> Vec<u8> {
    tar().long_name(path).file("short", "x").finish()
}

fn lines(facts: &[String]) -> Vec<&str> {
    facts.iter().map(String::as_str).collect()
}

pub fn rules() -> Vec<Rule> {
    vec![climbing(), slashes(), the_root(), lengths(), prefixes(), long_names(), pax_names()]
}

fn climbing() -> Rule {
    rule(
        "a name never climbs",
        vec![
            good("three dots are a name", tar().file("...", "x").finish(), &["... = x"]),
            good("dots inside a name", tar().file("..a/b..", "x").finish(), &["..a/", "..a/b.. = x"]),
            good("backslashes mean nothing", tar().file("..\\x", "x").finish(), &["..\\x = x"]),
            bad(
                "parent in the middle",
                tar().file("a/../../x", "x").finish(),
                Refused,
                &["a/../../x", "\"..\""],
            ),
            bad("parent that would stay inside", tar().file("a/../x", "x").finish(), Refused, &["\"..\""]),
            bad("only the parent", tar().directory("..").finish(), Refused, &["\"..\""]),
            bad("parent at the end", tar().directory("a/..").finish(), Refused, &["\"..\""]),
            bad("parent of a link", tar().symlink("../l", "x").finish(), Refused, &["\"..\""]),
            bad(
                "parent of a device",
                tar().entry(Header::new(b'3', "../d"), b"").finish(),
                Refused,
                &["\"..\""],
            ),
        ],
    )
}

fn slashes() -> Rule {
    rule(
        "slashes at the start, the end and in a row mean nothing",
        vec![
            good("absolute", tar().file("/etc/x", "x").finish(), &["etc/", "etc/x = x"]),
            good("many", tar().file(".//a//./b", "x").finish(), &["a/", "a/b = x"]),
            good("directory with many", tar().directory("//d//").finish(), &["d/"]),
            good("dot at the end", tar().directory("d/.").finish(), &["d/"]),
            bad("absolute parent", tar().file("/../x", "x").finish(), Refused, &["\"..\""]),
            bad("parent after many", tar().file("//a//..//..//x", "x").finish(), Refused, &["\"..\""]),
        ],
    )
}

fn the_root() -> Rule {
    let open = |name: &str| header(b'5', name, |h| (h.mode, h.mtime) = (0o711, 5));
    rule(
        "the root stays a directory",
        vec![
            good("as a dot", tar().entry(open("."), b"").finish(), &["./ {mode 711, mtime 5}"]),
            good("as a slash", tar().entry(open("/"), b"").finish(), &["./ {mode 711, mtime 5}"]),
            good(
                "last",
                tar().file("a", "x").entry(open("./"), b"").finish(),
                &["./ {mode 711, mtime 5}", "a = x"],
            ),
            good(
                "file with a slash at its end",
                tar().entry(header(b'0', "./", |h| h.mode = 0o700), b"").finish(),
                &["./ {mode 700}"],
            ),
            bad("as a file", tar().file(".", "x").finish(), Refused, &["root directory"]),
            bad("as a link", tar().symlink(".", "/etc").finish(), Refused, &["root directory"]),
            bad("as a link at /", tar().symlink("/", "..").finish(), Refused, &["root directory"]),
            bad(
                "as a hard link",
                tar().file("a", "x").hard_link(".", "a").finish(),
                Refused,
                &["root directory"],
            ),
            bad("as a fifo", tar().entry(Header::new(b'6', "."), b"").finish(), Refused, &["root directory"]),
        ],
    )
}

fn lengths() -> Rule {
    let (component, fits) = ("n".repeat(255), format!("{} = x", "n".repeat(255)));
    let (deep, deep_facts) = chain("d", 1024);
    // 256 times 255 letters with slashes between: one less than 64 KiB.
    let (long, long_facts) = chain(&component, 256);
    rule(
        "names, their parts and their depth are bounded",
        vec![
            good("part of 255 bytes", at(&component), &[&fits]),
            bad("part of 256 bytes", at(&(component.clone() + "n")), Limit(255), &["256 bytes"]),
            good("1024 levels", at(&deep), &lines(&deep_facts)),
            bad("1025 levels", at(&(deep + "/d")), Limit(1024), &["directories in one path"]),
            good("64 KiB", at(&long), &lines(&long_facts)),
            bad("64 KiB and two bytes", at(&(long + "/nn")), Limit(65_537), &["65539 bytes of long name"]),
            bad(
                "64 KiB and more, of slashes",
                tar().pax(&[("path", "/".repeat(65_537).as_bytes())]).file("a", "x").finish(),
                Limit(65_536),
                &["65537 bytes in the pax record \"path\""],
            ),
        ],
    )
}

fn prefixes() -> Rule {
    let prefixed = |magic: [u8; 8], prefix: &'static [u8], rest: &'static [(usize, &'static [u8])]| {
        let change = |h: &mut Header| {
            h.magic = magic;
            h.patches.push((345, prefix.to_vec()));
            h.patches.extend(rest.iter().map(|(at, bytes)| (*at, bytes.to_vec())));
        };
        tar().entry(header(b'0', "leaf", change), b"x").finish()
    };
    let star: &[(usize, &[u8])] = &[(476, b"17777777777 17777777777 "), (508, b"tar\0")];
    let ustar = *b"ustar\x0000";
    rule(
        "each dialect has its own prefix, and an unknown dialect none",
        vec![
            good("ustar", prefixed(ustar, b"some/dir", &[]), &["some/", "some/dir/", "some/dir/leaf = x"]),
            good("gnu keeps times there", prefixed(*b"ustar  \0", b"00000000000", &[]), &["leaf = x"]),
            good("star's ends early", prefixed(ustar, b"p", star), &["p/", "p/leaf = x"]),
            good("v7 has none", prefixed([0; 8], b"some/dir", &[]), &["leaf = x"]),
            bad("climbing", prefixed(ustar, b"..", &[]), Refused, &["../leaf", "\"..\""]),
            bad("unknown magic", prefixed(*b"tarus\x0000", b"p", &[]), Malformed, &["dialect", "tarus"]),
            bad("half a magic", prefixed(*b"ustar 00", b"p", &[]), Malformed, &["dialect"]),
        ],
    )
}

fn long_names() -> Rule {
    let raw = |kind, size, body: &[u8]| Tarball::new().raw(&header(kind, "l", |h| h.size = size), body);
    let target = "t".repeat(300);
    let linked = format!("l -> {target}");
    rule(
        "GNU's long names and links come once, before their entry, as text",
        vec![
            good("name", tar().long_name("d/leaf").file("short", "x").finish(), &["d/", "d/leaf = x"]),
            good("link", tar().long_link(&target).symlink("l", "").finish(), &[&linked]),
            good("both", tar().long_link("t").long_name("n").symlink("", "").finish(), &["n -> t"]),
            good(
                "does not stay",
                tar().long_name("n").file("a", "1").file("b", "2").finish(),
                &["b = 2", "n = 1"],
            ),
            good("without a NUL", raw(b'L', 3, b"a/b").file("s", "x").finish(), &["a/", "a/b = x"]),
            good("with many", raw(b'L', 9, b"n\0\0\0\0\0\0\0\0").file("s", "x").finish(), &["n = x"]),
            bad(
                "name twice",
                tar().long_name("a").long_name("b").file("c", "x").finish(),
                Malformed,
                &["long name after another"],
            ),
            bad(
                "link twice",
                tar().long_link("a").long_link("b").symlink("c", "").finish(),
                Malformed,
                &["long link after another"],
            ),
            bad(
                "empty",
                tar().long_name("").file("c", "x").finish(),
                Malformed,
                &["long name that is empty"],
            ),
            bad("NUL inside", tar().long_name("a\0b").file("c", "x").finish(), Malformed, &["NUL"]),
            bad("parent inside", tar().long_name("a/../../b").file("c", "x").finish(), Refused, &["\"..\""]),
            bad(
                "without entry",
                tar().long_name("a").finish(),
                Malformed,
                &["end mark follows an extension"],
            ),
            bad("at the end", tar().long_name("a").unfinished(), Malformed, &["ends after an extension"]),
            bad("too long", raw(b'L', 1 << 20, b"").finish(), Limit(65_537), &["1048576 bytes of long name"]),
            bad("link too long", raw(b'K', 1 << 40, b"").finish(), Limit(65_537), &["bytes of long link"]),
            bad("cut off", raw(b'L', 600, b"abc").unfinished(), Malformed, &["truncated"]),
        ],
    )
}

fn pax_names() -> Rule {
    rule(
        "pax names replace the header's, once, and are text",
        vec![
            good("path", tar().pax(&[("path", b"long/n")]).file("s", "x").finish(), &["long/", "long/n = x"]),
            good(
                "linkpath",
                tar().pax(&[("linkpath", b"there")]).symlink("l", "here").finish(),
                &["l -> there"],
            ),
            good(
                "bytes that are no UTF-8",
                tar().pax(&[("linkpath", b"\xff")]).symlink("l", "").finish(),
                &["l -> \u{fffd}"],
            ),
            good(
                "the same twice",
                tar().pax(&[("path", b"p"), ("path", b"p")]).file("s", "x").finish(),
                &["p = x"],
            ),
            good(
                "does not stay",
                tar().pax(&[("path", b"p")]).file("s", "1").file("b", "2").finish(),
                &["b = 2", "p = 1"],
            ),
            bad(
                "two that differ",
                tar().pax(&[("path", b"p"), ("path", b"q")]).file("s", "x").finish(),
                Malformed,
                &["differ", "path"],
            ),
            bad("parent", tar().pax(&[("path", b"../x")]).file("s", "x").finish(), Refused, &["\"..\""]),
            bad(
                "hard link's parent",
                tar().file("a", "x").pax(&[("linkpath", b"../a")]).hard_link("b", "a").finish(),
                Refused,
                &["\"../a\""],
            ),
            bad("NUL", tar().pax(&[("path", b"a\0b")]).file("s", "x").finish(), Malformed, &["NUL"]),
            bad(
                "NUL in a link",
                tar().pax(&[("linkpath", b"a\0b")]).symlink("s", "x").finish(),
                Malformed,
                &["NUL"],
            ),
            bad("empty", tar().pax(&[("path", b"")]).file("s", "x").finish(), Malformed, &["empty"]),
        ],
    )
}
