//! Our unpacking against GNU tar's, byte for byte and attribute for attribute.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::require;
use images::{Digest, Ownership, UnpackOptions, unpack};

/// What both must agree on: mode with type, owner, size, time, links, content or target.
type Attributes = (u32, u32, u32, u64, i64, i64, u64, String);

fn tree(root: &Path) -> BTreeMap<PathBuf, Attributes> {
    let mut list = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().unwrap();
        let kind = stat.file_type();
        let (mut size, mut links, mut content) = (stat.len(), stat.nlink(), String::new());
        if kind.is_dir() {
            // These two are the filesystem's own business.
            (size, links) = (0, 0);
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_file() {
            content = Digest::of(&std::fs::read(&path).unwrap()).to_string();
        } else if kind.is_symlink() {
            content = std::fs::read_link(&path).unwrap().display().to_string();
        }
        let name = path.strip_prefix(root).unwrap().to_owned();
        let owner = (stat.uid(), stat.gid());
        list.insert(
            name,
            (stat.mode(), owner.0, owner.1, size, stat.mtime(), stat.mtime_nsec(), links, content),
        );
    }
    list
}

fn tar(arguments: &[&str], directory: &Path, archive: &Path) {
    let output = Command::new("tar")
        .args(arguments)
        .arg("-f")
        .arg(archive)
        .arg("-C")
        .arg(directory)
        .arg(".")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Unpacks with both and compares.
fn compare(archive: &Path, what: &str) {
    let home = tempfile::tempdir().unwrap();
    let (ours, theirs) = (home.path().join("ours"), home.path().join("theirs"));
    for directory in [&ours, &theirs] {
        std::fs::create_dir(directory).unwrap();
    }
    let root = rustix::process::geteuid().is_root();
    let ownership = if root { Ownership::Keep } else { Ownership::Caller };
    let options = UnpackOptions { ownership, ..UnpackOptions::default() };
    let summary = {
        let directory = std::fs::File::open(&ours).unwrap();
        unpack(std::fs::File::open(archive).unwrap(), directory.as_fd(), &options).unwrap()
    };
    let left_out = |note: &String| note.contains("device left out");
    assert!(summary.notes.iter().all(left_out), "{what}: {:?}", summary.notes);
    tar(&["-x", "-p", "--numeric-owner", "--delay-directory-restore"], &theirs, archive);
    let (ours, mut theirs) = (tree(&ours), tree(&theirs));
    // Devices are never made.
    let device = |mode: u32| matches!(mode & 0o170_000, 0o020_000 | 0o060_000);
    theirs.retain(|_, attributes| !device(attributes.0));
    for name in ours.keys().chain(theirs.keys()) {
        assert_eq!(ours.get(name), theirs.get(name), "{what}: {}", name.display());
    }
}

/// A tree with one of everything that a tar format can hold.
fn sample(root: &Path) {
    let write = |name: &str, content: &[u8]| std::fs::write(root.join(name), content).unwrap();
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    std::fs::create_dir_all(root.join("tmp")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("../nowhere/\u{fc}", root.join("usr/dangling")).unwrap();
    write("usr/bin/tool", &[7; 100_000]);
    write("usr/bin/empty", b"");
    write("usr/bin/block", &[1; 512]);
    std::fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/other")).unwrap();
    std::fs::hard_link(root.join("usr/dangling"), root.join("usr/twice")).unwrap();
    mode("usr/bin/tool", 0o4755);
    mode("tmp", 0o1777);
    write("name with \u{e4}\u{f6}\n\\ and spaces", b"x");
    std::fs::create_dir(root.join("closed")).unwrap();
    write("closed/file", b"x");
    mode("closed", 0o555);
    let deep = "d/".repeat(30);
    std::fs::create_dir_all(root.join(&deep)).unwrap();
    write(&format!("{deep}file"), b"deep");
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for offset in [0, 1 << 20, (1 << 20) + 300_000, 5 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", offset).unwrap();
    }
    sparse.set_len(6 << 20).unwrap();
    std::fs::File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();
    if rustix::process::geteuid().is_root() {
        // An ordinary user's tar could not read it.
        mode("name with \u{e4}\u{f6}\n\\ and spaces", 0o000);
        for (name, id) in [("usr/bin/empty", 1000), ("tmp", 65_534), ("usr/bin/block", 3_000_000)] {
            std::os::unix::fs::lchown(root.join(name), Some(id), Some(id + 1)).unwrap();
        }
    }
}

#[test]
fn every_format_that_gnu_tar_writes() {
    require!(Program("tar"));
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    std::fs::create_dir(&root).unwrap();
    sample(&root);
    let name = "n".repeat(150);
    std::fs::write(root.join(format!("d/{name}")), "long name").unwrap();
    symlink("t".repeat(300), root.join("long-target")).unwrap();
    let archive = home.path().join("archive.tar");
    let forms: [&[&str]; 8] = [
        &["--format=gnu"],
        &["--format=oldgnu", "--sparse"],
        &["--format=gnu", "--sparse"],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
        &["--format=pax", "--xattrs", "--acls"],
    ];
    for form in forms {
        tar(&[&["-c"], form].concat(), &root, &archive);
        compare(&archive, &form.join(" "));
    }
    // These cannot hold long names.
    std::fs::remove_file(root.join(format!("d/{name}"))).unwrap();
    std::fs::remove_file(root.join("long-target")).unwrap();
    for form in ["--format=ustar", "--format=v7"] {
        if form == "--format=v7" {
            // Nor large ids.
            std::fs::remove_file(root.join("usr/bin/block")).unwrap();
        }
        tar(&["-c", form, "--owner=7", "--group=8", "--numeric-owner"], &root, &archive);
        compare(&archive, form);
    }
    // Closed directories could not be removed by an ordinary user.
    std::fs::set_permissions(root.join("closed"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_real_debian() {
    require!(Root, Debian, Program("tar"));
    compare(&fixtures::debian::tarball(&[], fixtures::Compression::Gzip), "Debian");
}
