//! Links: where they lead an entry, and where a hard link may lead.

use crate::case::Kind::{Limit, Malformed, Refused, System};
use crate::case::{Case, Rule, bad, good, rule};
use crate::{header, tar};

/// From the root to a file that must stay as it is.
const OUTSIDE: &str = "../outside/secret";

pub fn rules() -> Vec<Rule> {
    vec![texts(), parents(), beyond_path_max(), leaves(), hard_links(), hard_link_targets(), counts()]
}

fn texts() -> Rule {
    rule(
        "the text of a symbolic link is kept as it is",
        vec![
            good("absolute", tar().symlink("l", "/etc/passwd").finish(), &["l -> /etc/passwd"]),
            good("climbing", tar().symlink("l", OUTSIDE).finish(), &["l -> ../outside/secret"]),
            good("odd", tar().symlink("l", ".//a/../ b\n").finish(), &["l -> .//a/../ b\n"]),
            bad("empty", tar().symlink("l", "").finish(), Malformed, &["without a target"]),
            bad(
                "beyond what a link can hold",
                tar().long_link("t".repeat(4096)).symlink("l", "").finish(),
                System,
                &["create the symbolic link"],
            ),
        ],
    )
}

fn parents() -> Rule {
    let chain = |links: usize| {
        let start = tar().directory("d0");
        let tar = (1..=links).fold(start, |tar, n| tar.symlink(format!("d{n}"), format!("d{}", n - 1)));
        tar.file(format!("d{links}/x"), "x").finish()
    };
    let mut chained: Vec<String> = (1..=40).map(|n| format!("d{n} -> d{}", n - 1)).collect();
    chained.extend(["d0/".to_owned(), "d0/x = x".to_owned()]);
    let chained: Vec<&str> = chained.iter().map(String::as_str).collect();
    rule(
        "a link in the way is followed inside the root only",
        vec![
            good(
                "absolute",
                tar().directory("etc").symlink("l", "/etc").file("l/x", "x").finish(),
                &["etc/", "etc/x = x", "l -> /etc"],
            ),
            good(
                "climbing",
                tar().directory("etc").symlink("l", "../../../../etc").file("l/x", "x").finish(),
                &["etc/", "etc/x = x", "l -> ../../../../etc"],
            ),
            good(
                "merged usr",
                tar().symlink("bin", "usr/bin").directory("usr/bin").file("bin/sh", "x").finish(),
                &["bin -> usr/bin", "usr/", "usr/bin/", "usr/bin/sh = x"],
            ),
            good(
                "to the root's parent, which is the root",
                tar().symlink("l", "..").file("l/x", "x").finish(),
                &["l -> ..", "x = x"],
            ),
            good(
                "that changes while it is in use",
                tar()
                    .directory("a")
                    .directory("b")
                    .symlink("l", "a")
                    .file("l/1", "x")
                    .symlink("l", "b")
                    .file("l/2", "x")
                    .finish(),
                &["a/", "a/1 = x", "b/", "b/2 = x", "l -> b"],
            ),
            good("chain of 40", chain(40), &chained),
            bad("chain of 41", chain(41), Refused, &["d41/x", "parent \"d41\""]),
            bad(
                "loop",
                tar().symlink("a", "b").symlink("b", "a").file("a/x", "x").finish(),
                Refused,
                &["a/x", "parent \"a\""],
            ),
            bad(
                "to outside",
                tar().symlink("l", "../outside").file("l/secret", "gone").finish(),
                Refused,
                &["l/secret", "\"l\" is a symbolic link to nothing"],
            ),
            bad(
                "to outside, by a directory",
                tar().symlink("l", "../outside").directory("l/new").finish(),
                Refused,
                &["symbolic link to nothing"],
            ),
            bad(
                "to outside, by a link",
                tar().symlink("l", "../outside").symlink("l/new", "x").finish(),
                Refused,
                &["symbolic link to nothing"],
            ),
            bad(
                "to a file",
                tar().file("f", "x").symlink("l", "f").file("l/x", "x").finish(),
                Refused,
                &["parent \"l\" is not a directory"],
            ),
            bad(
                "a file instead of one",
                tar().file("a", "x").file("a/b", "x").finish(),
                Refused,
                &["a/b", "not a directory"],
            ),
        ],
    )
}

/// Checks by path strings give up beyond PATH_MAX, and then believe (CVE-2025-4517).
fn beyond_path_max() -> Rule {
    let part = "d".repeat(247);
    let steps: Vec<String> = ('a'..='p').map(String::from).collect();
    let mut archive = tar();
    let mut path = String::new();
    for step in &steps {
        archive = archive.long_name(format!("{path}{part}")).directory("");
        archive = archive.long_name(format!("{path}{step}")).long_link(&part).symlink("", "");
        path = format!("{path}{step}/");
    }
    // Sixteen short links: 16 * 248 bytes once they are resolved, and from there as many levels up and more.
    let link = format!("{path}{}", "l".repeat(254));
    let archive = archive.long_name(&link).long_link("../".repeat(16)).symlink("", "");
    let climbing = archive.clone().symlink("escape", format!("{link}/../../outside"));
    let mut tree = Vec::new();
    let mut resolved = String::new();
    for step in &steps {
        tree.push(format!("{resolved}{step} -> {part}"));
        resolved = format!("{resolved}{part}/");
        tree.push(resolved.clone());
    }
    tree.push(format!("{resolved}{} -> {}", "l".repeat(254), "../".repeat(16)));
    tree.push("x = x".to_owned());
    let tree: Vec<&str> = tree.iter().map(String::as_str).collect();
    rule(
        "a path that grows beyond PATH_MAX by its links is not believed",
        vec![
            good(
                "up to the root and not further",
                archive.long_name(format!("{link}/x")).file("", "x").finish(),
                &tree,
            ),
            bad(
                "a link through it",
                climbing.file("escape/secret", "gone").finish(),
                Refused,
                &["escape/secret"],
            ),
        ],
    )
}

fn leaves() -> Rule {
    let over = |name: &'static str, archive: crate::Tarball, tree: &[&str]| -> Case {
        good(name, archive.finish(), tree)
    };
    rule(
        "what has an entry's name is taken away, never written through",
        vec![
            over("file over a link to outside", tar().symlink("l", OUTSIDE).file("l", "mine"), &["l = mine"]),
            over(
                "file over a link to a file",
                tar().file("f", "1").symlink("l", "f").file("l", "2"),
                &["f = 1", "l = 2"],
            ),
            over(
                "directory over a link to outside",
                tar().symlink("l", "../outside").directory("l").file("l/secret", "mine"),
                &["l/", "l/secret = mine"],
            ),
            over(
                "directory over a link to a directory",
                tar().directory("d").symlink("l", "d").directory("l"),
                &["d/", "l/"],
            ),
            over("link over a file", tar().file("l", "x").symlink("l", "t"), &["l -> t"]),
            over("link over an empty directory", tar().directory("l").symlink("l", "t"), &["l -> t"]),
            over("file twice", tar().file("a", "long first").file("a", "2"), &["a = 2"]),
            over("file over an empty directory", tar().directory("d").file("d", "x"), &["d = x"]),
            over("directory over a file", tar().file("d", "x").directory("d"), &["d/"]),
            over("directory twice", tar().directory("d").file("d/a", "x").directory("d"), &["d/", "d/a = x"]),
            over(
                "fifo over a link",
                tar().symlink("l", OUTSIDE).entry(header(b'6', "l", |_| {}), b""),
                &["l |"],
            ),
            over(
                "one of two hard links",
                tar().file("a", "x").hard_link("b", "a").file("b", "new"),
                &["a = x {links 1}", "b = new {links 1}"],
            ),
            over(
                "the mode of a directory whose name became a link",
                tar().entry(header(b'5', "d", |h| h.mode = 0o700), b"").symlink("d", "../outside"),
                &["d -> ../outside"],
            ),
            bad(
                "file over a full directory",
                tar().file("d/a", "x").file("d", "x").finish(),
                Refused,
                &["entry \"d\"", "not empty"],
            ),
            bad(
                "link over a full directory",
                tar().file("d/a", "x").symlink("d", "e").finish(),
                Refused,
                &["not empty"],
            ),
            bad(
                "hard link over a full directory",
                tar().file("d/a", "x").file("f", "x").hard_link("d", "f").finish(),
                Refused,
                &["not empty"],
            ),
        ],
    )
}

fn hard_links() -> Rule {
    rule(
        "a hard link is a second name for what is there",
        vec![
            good(
                "plain",
                tar().file("a", "x").hard_link("b", "a").finish(),
                &["a = x {links 2}", "b = x {links 2}"],
            ),
            good(
                "with dots and slashes",
                tar().file("d/a", "x").hard_link("b", ".//d/./a").finish(),
                &["b = x", "d/", "d/a = x {links 2}"],
            ),
            good(
                "through a link inside",
                tar().file("d/a", "x").symlink("l", "/d").hard_link("b", "l/a").finish(),
                &["b = x {links 2}", "d/", "d/a = x", "l -> /d"],
            ),
            good(
                "to a link is the link",
                tar().symlink("l", OUTSIDE).hard_link("b", "l").finish(),
                &["b -> ../outside/secret", "l -> ../outside/secret"],
            ),
            good(
                "to a link, and a file over it",
                tar().symlink("l", OUTSIDE).hard_link("b", "l").file("b", "mine").finish(),
                &["b = mine", "l -> ../outside/secret"],
            ),
            good("to itself", tar().file("a", "x").hard_link("a", "a").finish(), &["a = x {links 1}"]),
            good(
                "over its other name",
                tar().file("a", "x").hard_link("b", "a").hard_link("b", "a").finish(),
                &["a = x {links 2}", "b = x"],
            ),
            good(
                "into a directory nobody named",
                tar().file("a", "x").hard_link("d/b", "a").finish(),
                &["a = x", "d/", "d/b = x"],
            ),
            good(
                "whose target goes away",
                tar().file("a", "x").hard_link("b", "a").directory("a").finish(),
                &["a/", "b = x {links 1}"],
            ),
            bad("to nothing", tar().hard_link("b", "a").finish(), System, &["target \"a\"", "No such file"]),
            bad(
                "to what comes later",
                tar().hard_link("b", "a").file("a", "x").finish(),
                System,
                &["target \"a\""],
            ),
            bad(
                "below a file",
                tar().file("a", "x").hard_link("b", "a/c").finish(),
                System,
                &["target \"a/c\""],
            ),
            bad("without a target", tar().hard_link("b", "").finish(), Refused, &["root directory"]),
            bad(
                "with content",
                tar().file("a", "x").entry(header(b'1', "b", |h| h.link = b"a".to_vec()), b"evil").finish(),
                Refused,
                &["4 bytes of content"],
            ),
        ],
    )
}

fn hard_link_targets() -> Rule {
    rule(
        "a hard link leads nowhere but into the root",
        vec![
            good(
                "to an absolute link's file",
                tar().file("etc/a", "x").symlink("l", "/etc").hard_link("b", "l/a").finish(),
                &["b = x", "etc/", "etc/a = x", "l -> /etc"],
            ),
            bad("by the parent", tar().hard_link("b", OUTSIDE).finish(), Refused, &["target", ".."]),
            bad(
                "by a parent that stays inside",
                tar().file("a", "x").hard_link("b", "d/../a").finish(),
                Refused,
                &["target", ".."],
            ),
            bad("absolute", tar().hard_link("b", "/etc/passwd").finish(), Refused, &["absolute"]),
            bad(
                "absolute to a file of the archive",
                tar().file("a", "x").hard_link("b", "/a").finish(),
                Refused,
                &["absolute"],
            ),
            bad(
                "through a link to outside",
                tar().symlink("l", "../outside").hard_link("b", "l/secret").finish(),
                System,
                &["target \"l/secret\""],
            ),
            bad(
                "to a directory",
                tar().directory("d").hard_link("b", "d").finish(),
                Refused,
                &["directory \"d\""],
            ),
            bad("to the root", tar().hard_link("a", "./").finish(), Refused, &["root directory"]),
        ],
    )
}

fn counts() -> Rule {
    let links = |count: usize| {
        (0..count).fold(tar().file("a", "x"), |tar, n| tar.hard_link(format!("l{n}"), "a")).finish()
    };
    rule(
        "names of one file are counted",
        vec![
            good("as many as allowed", links(2), &["a = x {links 3}", "l0 = x", "l1 = x"])
                .bounded(|limits| limits.hard_links_max = 3),
            bad("one more", links(3), Limit(3), &["hard links to \"a\""])
                .bounded(|limits| limits.hard_links_max = 3),
        ],
    )
}
