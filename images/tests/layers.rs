//! Layers over a directory: whiteouts, opaque directories, changed kinds.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use fixtures::tarballs::{Header, Tarball};
use images::UnpackOptions;
use support::Playground;

fn layer() -> UnpackOptions {
    UnpackOptions { layer: true, ..UnpackOptions::default() }
}

/// A playground with a lower layer: `d/old`, `d/sub/old`, `e/old`, `f`, and a link out of the root.
fn lower() -> Playground {
    let playground = Playground::new();
    let archive = Tarball::new()
        .file("d/old", "old")
        .file("d/sub/old", "old")
        .file("e/old", "old")
        .file("f", "old")
        .symlink("out", "../outside")
        .finish();
    playground.unpack(&archive).unwrap();
    playground
}

/// What is left of `lower` and what `archive` brought, directories left out.
fn after(archive: Tarball) -> Vec<String> {
    let playground = lower();
    playground.unpack_with(&archive.finish(), &layer()).unwrap();
    let listing = playground.listing();
    listing
        .into_iter()
        .filter(|(_, what)| what != "directory")
        .map(|(name, what)| format!("{name}={what}"))
        .collect()
}

const D_OLD: &str = "d/old=old";
const SUB_OLD: &str = "d/sub/old=old";
const E_OLD: &str = "e/old=old";
const F_OLD: &str = "f=old";
const OUT: &str = "out=-> ../outside";

#[test]
fn a_whiteout_deletes_one_name() {
    assert_eq!(after(Tarball::new().file(".wh.f", "")), [D_OLD, SUB_OLD, E_OLD, OUT]);
    assert_eq!(after(Tarball::new().file(".wh.d", "")), [E_OLD, F_OLD, OUT]);
    assert_eq!(
        after(Tarball::new().file("d/.wh.sub", "").file("d/new", "1")),
        ["d/new=1", D_OLD, E_OLD, F_OLD, OUT]
    );
    assert_eq!(after(Tarball::new().file(".wh.out", "")), [D_OLD, SUB_OLD, E_OLD, F_OLD]);
    assert_eq!(after(Tarball::new().file(".wh.missing", "").file("no/where/.wh.x", "")).len(), 5);
}

#[test]
fn a_whiteout_never_follows_a_link() {
    // `out` leads out of the root, where a file `secret` lies; the playground checks that it stays.
    assert_eq!(after(Tarball::new().file("out/.wh.secret", "")).len(), 5);
}

#[test]
fn whiteouts_spare_their_own_layer_in_any_order() {
    let expected = ["d/new=1", "d/sub/deep/new=2", E_OLD, F_OLD, OUT];
    let entries = |tar: Tarball| tar.file("d/new", "1").file("d/sub/deep/new", "2");
    assert_eq!(after(entries(Tarball::new()).file("d/.wh..wh..opq", "")), expected);
    assert_eq!(after(entries(Tarball::new().file("d/.wh..wh..opq", ""))), expected);
    assert_eq!(after(entries(Tarball::new()).file(".wh.d", "")), expected);
    assert_eq!(after(entries(Tarball::new().file(".wh.d", ""))), expected);
    assert_eq!(
        after(Tarball::new().file("f", "new").file(".wh.f", "")),
        [D_OLD, SUB_OLD, E_OLD, "f=new", OUT]
    );
}

#[test]
fn an_opaque_root_leaves_only_the_layer() {
    assert_eq!(after(Tarball::new().file("x", "1").file(".wh..wh..opq", "")), ["x=1"]);
}

#[test]
fn kinds_change() {
    assert_eq!(after(Tarball::new().file("d", "now a file")), ["d=now a file", E_OLD, F_OLD, OUT]);
    assert_eq!(after(Tarball::new().symlink("d", "e")), ["d=-> e", E_OLD, F_OLD, OUT]);
}

#[test]
fn a_file_is_no_parent_even_in_a_layer() {
    let playground = lower();
    let error = playground.unpack_with(&Tarball::new().file("f/x", "").finish(), &layer()).unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
    playground.unpack_with(&Tarball::new().directory("f").file("f/x", "1").finish(), &layer()).unwrap();
    assert_eq!(playground.listing()["f/x"], "1");
}

#[test]
fn directories_of_lower_layers_are_kept_and_changed() {
    use std::os::unix::fs::PermissionsExt;
    let playground = lower();
    let mode = |mode| {
        std::fs::set_permissions(playground.root().join("d"), PermissionsExt::from_mode(mode)).unwrap()
    };
    mode(0o500);
    let mut directory = Header::new(b'5', "d");
    directory.mode = 0o555;
    let archive = Tarball::new().entry(directory, b"").file("d/new", "1").finish();
    playground.unpack_with(&archive, &layer()).unwrap();
    assert_eq!(playground.root().join("d").metadata().unwrap().permissions().mode() & 0o7777, 0o555);
    assert_eq!(
        (playground.listing()["d/new"].as_str(), playground.listing()["d/old"].as_str()),
        ("1", "old")
    );
    mode(0o755);
}

#[test]
fn names_that_whiteouts_do_not_have() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", ".wh.d/x"] {
        let error = lower().unpack_with(&Tarball::new().file(name, "").finish(), &layer()).unwrap_err();
        assert!(error.to_string().contains("whiteout"), "{name}: {error}");
    }
    let link = Tarball::new().symlink(".wh.f", "x").finish();
    assert!(lower().unpack_with(&link, &layer()).unwrap_err().to_string().contains("not a regular file"));
    let playground = lower();
    let bookkeeping = Tarball::new().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "").finish();
    let summary = playground.unpack_with(&bookkeeping, &layer()).unwrap();
    assert_eq!(summary.notes.len(), 2);
    assert!(!playground.root().join(".wh..wh.plnk").exists());
}
