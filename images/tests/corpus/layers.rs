//! Layers: names that delete, and what they never touch.

use fixtures::tarballs::Header;

use crate::case::Kind::{Malformed, Refused};
use crate::case::{Case, Rule, bad, good, rule};
use crate::{Tarball, header, tar};

pub fn rules() -> Vec<Rule> {
    vec![
        without_layers(),
        whiteouts(),
        opaque(),
        own_entries(),
        forms(),
        links_to_below(),
        closed(),
        replaced(),
        stacked(),
    ]
}

/// The layer below, and what is left of it when nothing happens.
fn lower() -> Vec<u8> {
    tar()
        .directory("d")
        .file("d/old", "old")
        .directory("d/sub")
        .file("d/sub/old", "old")
        .file("e/old", "old")
        .file("f", "old")
        .symlink("out", "../outside")
        .finish()
}

const D: &[&str] = &["d/", "d/old = old", "d/sub/", "d/sub/old = old"];
const E: &[&str] = &["e/", "e/old = old"];
const F: &[&str] = &["f = old"];
const OUT: &[&str] = &["out -> ../outside"];

fn kept(name: &'static str, archive: Tarball, parts: &[&[&str]]) -> Case {
    good(name, archive.finish(), &parts.concat()).over(lower())
}

fn refused(name: &'static str, archive: Tarball, words: &[&'static str]) -> Case {
    bad(name, archive.finish(), Refused, words).over(lower())
}

fn without_layers() -> Rule {
    rule(
        "in a root filesystem `.wh.` is a name like others",
        vec![
            good("a file", tar().file(".wh.a", "x").finish(), &[".wh.a = x"]),
            good(
                "an opaque mark",
                tar().file("a", "x").file(".wh..wh..opq", "").finish(),
                &[".wh..wh..opq = ", "a = x"],
            ),
            refused(
                "in a layer a strange one is refused",
                tar().file(".wh.", ""),
                &["whiteout that names nothing"],
            ),
        ],
    )
}

fn whiteouts() -> Rule {
    rule(
        "a whiteout deletes one name of the layers below",
        vec![
            kept("a file", tar().file(".wh.f", ""), &[D, E, OUT]),
            kept("a tree", tar().file(".wh.d", ""), &[E, F, OUT]),
            kept(
                "deeper, beside something new",
                tar().file("d/.wh.sub", "").file("d/new", "1"),
                &[&["d/", "d/new = 1", "d/old = old"], E, F, OUT],
            ),
            kept("a link, not what it leads to", tar().file(".wh.out", ""), &[D, E, F]),
            kept(
                "nothing, if nothing is there",
                tar().file(".wh.missing", "").file("no/where/.wh.x", ""),
                &[D, E, F, OUT],
            ),
            kept("nothing below a file", tar().file("f/.wh.x", ""), &[D, E, F, OUT]),
            kept("nothing through a link to outside", tar().file("out/.wh.secret", ""), &[D, E, F, OUT]),
            kept("with content, which means nothing", tar().file(".wh.f", "text"), &[D, E, OUT]),
            kept(
                "what was made through a link inside",
                tar().symlink("l", "d").file("l/.wh.old", ""),
                &[&["d/", "d/sub/", "d/sub/old = old"], E, F, &["l -> d"], OUT],
            ),
            refused("climbing", tar().file("../.wh.secret", ""), &["\"..\""]),
            refused("climbing behind the prefix", tar().file(".wh...", ""), &["whiteout that names nothing"]),
            refused("as a directory", tar().directory(".wh.f"), &["not a regular file"]),
            refused("as a link", tar().symlink(".wh.f", "x"), &["not a regular file"]),
            refused("as a hard link", tar().hard_link(".wh.f", "f"), &["not a regular file"]),
            refused("as a device", tar().entry(Header::new(b'3', ".wh.f"), b""), &["not a regular file"]),
        ],
    )
}

fn opaque() -> Rule {
    rule(
        "an opaque mark deletes everything of the layers below in its directory",
        vec![
            kept("a directory", tar().file("d/.wh..wh..opq", ""), &[&["d/"], E, F, OUT]),
            kept("the root", tar().file("x", "1").file(".wh..wh..opq", ""), &[&["x = 1"]]),
            kept(
                "a directory that is new",
                tar().directory("g").file("g/.wh..wh..opq", ""),
                &[D, E, F, &["g/"], OUT],
            ),
            kept("nothing outside", tar().file("out/.wh..wh..opq", ""), &[D, E, F, OUT]),
            refused("as a link", tar().symlink("d/.wh..wh..opq", "x"), &["not a regular file"]),
        ],
    )
}

fn own_entries() -> Rule {
    let new: &[&str] = &["d/", "d/new = 1", "d/sub/", "d/sub/deep/", "d/sub/deep/new = 2"];
    let entries = |tar: Tarball| tar.file("d/new", "1").file("d/sub/deep/new", "2");
    rule(
        "whiteouts never touch what their own layer brings, in whatever order",
        vec![
            kept("opaque last", entries(tar()).file("d/.wh..wh..opq", ""), &[new, E, F, OUT]),
            kept("opaque first", entries(tar().file("d/.wh..wh..opq", "")), &[new, E, F, OUT]),
            kept("whiteout last", entries(tar()).file(".wh.d", ""), &[new, E, F, OUT]),
            kept("whiteout first", entries(tar().file(".wh.d", "")), &[new, E, F, OUT]),
            kept("both", entries(tar().file(".wh.d", "")).file("d/.wh..wh..opq", ""), &[new, E, F, OUT]),
            kept(
                "a file of both layers",
                tar().file("f", "new").file(".wh.f", ""),
                &[D, E, &["f = new"], OUT],
            ),
            kept("a directory of both layers", tar().directory("d").file(".wh.d", ""), &[&["d/"], E, F, OUT]),
            kept(
                "the second name of an old file",
                tar().hard_link("g", "f").file(".wh.f", ""),
                &[D, E, &["g = old {links 1}"], OUT],
            ),
            kept("a link", tar().symlink("f", "d").file(".wh.f", ""), &[D, E, &["f -> d"], OUT]),
            refused("not even a broken one", entries(tar()).file("d/.wh.", ""), &["names nothing"]),
        ],
    )
}

fn forms() -> Rule {
    rule(
        "whiteouts that name nothing are refused, AUFS's own files left out",
        vec![
            kept(
                "bookkeeping",
                tar().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", ""),
                &[D, E, F, OUT],
            )
            .noting(&[".wh..wh.plnk: left out", ".wh..wh.plnk/1.2: left out"]),
            kept(
                "a name that only looks like one",
                tar().file("a.wh.b", "x"),
                &[&["a.wh.b = x"], D, E, F, OUT],
            ),
            refused("nothing", tar().file(".wh.", ""), &["whiteout that names nothing"]),
            refused("a dot", tar().file(".wh..", ""), &["whiteout that names nothing"]),
            refused("two dots", tar().file(".wh...", ""), &["whiteout that names nothing"]),
            refused("nothing, deeper", tar().file("d/.wh.", ""), &["whiteout that names nothing"]),
            refused("as a parent", tar().file(".wh.d/x", ""), &["whiteout as a directory"]),
            refused("as a parent's parent", tar().file("a/.wh.d/b/x", ""), &["whiteout as a directory"]),
        ],
    )
}

fn links_to_below() -> Rule {
    rule(
        "a hard link may have its target in a layer below",
        vec![
            kept(
                "a file",
                tar().hard_link("g", "d/old"),
                &[&["d/", "d/old = old {links 2}", "d/sub/", "d/sub/old = old"], E, F, &["g = old"], OUT],
            ),
            kept(
                "replaced afterwards",
                tar().hard_link("g", "f").file("f", "new"),
                &[D, E, &["f = new {links 1}", "g = old {links 1}"], OUT],
            ),
            kept("a link", tar().hard_link("g", "out"), &[D, E, F, &["g -> ../outside"], OUT]),
            bad(
                "deleted before",
                tar().file(".wh.f", "").hard_link("g", "f").finish(),
                crate::case::Kind::System,
                &["target \"f\""],
            )
            .over(lower()),
            bad(
                "outside",
                tar().hard_link("g", "out/secret").finish(),
                crate::case::Kind::System,
                &["target \"out/secret\""],
            )
            .over(lower()),
        ],
    )
}

/// Deleted names become devices 0:0, which hide what overlayfs finds below; directories that hide all get an attribute.
fn stacked() -> Rule {
    const OPAQUE: &str = "d/ {xattrs user.overlay.opaque}";
    let kept = |name, archive: Tarball, tree: &[&str]| good(name, archive.finish(), tree).stacked();
    rule(
        "a stacked layer keeps its whiteouts as overlayfs reads them",
        vec![
            kept("a name", tar().file("d/.wh.f", ""), &["d/", "d/f is a CharacterDevice"]),
            kept("all of a directory", tar().directory("d").file("d/.wh..wh..opq", ""), &[OPAQUE]),
            kept("a file of its own", tar().file("f", "new").file(".wh.f", ""), &["f = new"]),
            kept(
                "a directory of its own, last",
                tar().file("d/new", "x").file(".wh.d", ""),
                &[OPAQUE, "d/new = x"],
            ),
            kept(
                "a directory of its own, first",
                tar().file(".wh.d", "").file("d/new", "x"),
                &[OPAQUE, "d/new = x"],
            ),
            kept("a hard link to a layer below is left to whoever stacks", tar().hard_link("g", "f"), &[]),
            bad("a mark that is brought along", tar().file(".wh.", "").finish(), Refused, &["names nothing"])
                .stacked(),
            bad(
                "a link to outside",
                tar().symlink("l", "../outside").file("l/.wh.secret", "").finish(),
                Refused,
                &["symbolic link to nothing"],
            )
            .stacked(),
        ],
    )
}

/// A layer below whose directories are closed even to their owner.
fn closed_lower() -> Vec<u8> {
    let closed = |name: &str| header(b'5', name, |h| h.mode = 0o500);
    tar()
        .entry(closed("c"), b"")
        .entry(closed("c/sub"), b"")
        .file("c/sub/old", "old")
        .file("c/old", "old")
        .finish()
}

fn closed() -> Rule {
    let open = header(b'5', "c", |h| h.mode = 0o501);
    let over = |case: Case| case.over(closed_lower());
    rule(
        "what is closed to its owner is deleted all the same",
        vec![
            over(good("a tree", tar().file(".wh.c", "").finish(), &[])),
            over(good(
                "a tree, beside something new",
                tar().file("a", "x").file(".wh.c", "").finish(),
                &["a = x"],
            )),
            over(good(
                "all of it but the directory",
                tar().file("a", "x").file("c/.wh..wh..opq", "").finish(),
                &["a = x", "c/ {mode 500}"],
            )),
            over(good(
                "all but what is new",
                tar().entry(open, b"").file("c/new", "x").file(".wh.c", "").finish(),
                &["c/ {mode 501}", "c/new = x"],
            )),
            over(bad(
                "not through a link",
                tar().symlink("l", "../outside").file("l/x", "").finish(),
                Refused,
                &["symbolic link to nothing"],
            )),
        ],
    )
}

fn replaced() -> Rule {
    let closed = header(b'5', "d", |h| (h.mode, h.mtime) = (0o555, 7));
    rule(
        "kinds change from layer to layer, and directories are joined",
        vec![
            kept(
                "file for a full directory",
                tar().file("d", "now a file"),
                &[&["d = now a file"], E, F, OUT],
            ),
            kept("link for a full directory", tar().symlink("d", "e"), &[&["d -> e"], E, F, OUT]),
            kept(
                "directory for a file",
                tar().directory("f").file("f/x", "1"),
                &[D, E, &["f/", "f/x = 1"], OUT],
            ),
            kept(
                "directory for a link to outside",
                tar().directory("out").file("out/secret", "mine"),
                &[D, E, F, &["out/", "out/secret = mine"]],
            ),
            kept(
                "directory for a directory",
                tar().entry(closed, b"").file("d/new", "1"),
                &[
                    &["d/ {mode 555, mtime 7}", "d/new = 1", "d/old = old", "d/sub/", "d/sub/old = old"],
                    E,
                    F,
                    OUT,
                ],
            ),
            kept("file for a file", tar().file("f", "new"), &[D, E, &["f = new"], OUT]),
            refused("file as a parent", tar().file("f/x", "1"), &["not a directory"]),
            refused("parent of a name that climbs", tar().file("d/../../x", "1"), &["\"..\""]),
            bad(
                "with a broken header",
                tar().entry(header(b'0', "f", |h| h.checksum_error = 1), b"").finish(),
                Malformed,
                &["checksum"],
            )
            .over(lower()),
        ],
    )
}
