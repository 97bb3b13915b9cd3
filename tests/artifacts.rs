//! Artifacts out of workspaces that mean harm.

#![expect(clippy::unwrap_used, reason = "a test whose ground cannot be laid must stop")]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use runner::run::artifacts::{
    ArtifactError, ArtifactLimits, CollectRequest, Collected, EntryKind, Manifest, Patterns, Problem,
    collect, extract, verify,
};

struct Place {
    _directory: tempfile::TempDir,
    workspace: PathBuf,
    artifacts: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new() -> Self {
        // In memory where there is some: ten thousand files take a disk a minute.
        let memory = Path::new("/dev/shm");
        let directory =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let path = |name: &str| directory.path().join(name);
        let (workspace, artifacts, outside) = (path("workspace"), path("artifacts"), path("outside"));
        fs::create_dir(&workspace).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        Self { _directory: directory, workspace, artifacts, outside }
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.workspace.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn collect_with(
        &self,
        globs: &[&str],
        limits: ArtifactLimits,
        optional: bool,
    ) -> Result<Collected, ArtifactError> {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        let workspace = File::open(&self.workspace).unwrap();
        collect(&CollectRequest {
            workspace: workspace.as_fd(),
            over: &[],
            name: "app",
            patterns: &Patterns::new(&globs),
            optional,
            destination: &self.artifacts,
            job: "build",
            step: Some("make"),
            owner: None,
            limits,
            report: false,
            secrets: None,
        })
    }

    fn collect(&self, globs: &[&str]) -> Result<Collected, ArtifactError> {
        self.collect_with(globs, ArtifactLimits::default(), false)
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.artifacts.join("app").join(path)
    }

    /// Names below `artifacts`, remnants included.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.artifacts)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn paths(collected: &Collected) -> Vec<&str> {
    collected.entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn files_come_with_digests_that_sha256sum_confirms() {
    let place = Place::new();
    place.write("target/app", vec![7_u8; 300_000]);
    place.write("target/debug/x.map", "map");
    place.write("target/empty", "");
    place.write("src/main.c", "int main;");
    fs::set_permissions(place.workspace.join("target/app"), fs::Permissions::from_mode(0o6755)).unwrap();
    let collected = place.collect(&["target", "!target/**/*.map"]).unwrap();
    assert_eq!(paths(&collected), ["target/app", "target/empty"]);
    assert_eq!((collected.files, collected.bytes), (2, 300_000));
    assert_eq!(place.names(), ["app", "manifest.json"]);
    let kept = fs::metadata(place.kept("target/app")).unwrap();
    assert_eq!(kept.mode() & 0o7777, 0o755, "setuid and setgid are gone");

    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(place.artifacts.join("manifest.json")).unwrap()).unwrap();
    let mut sums = String::new();
    for file in manifest["files"].as_array().unwrap() {
        assert_eq!((file["step"].as_str(), file["artifact"].as_str()), (Some("make"), Some("app")));
        sums.push_str(&format!("{}  {}\n", file["sha256"].as_str().unwrap(), file["path"].as_str().unwrap()));
    }
    assert_eq!(manifest["files"][0]["mode"], "0755");
    fs::write(place.outside.join("sums"), sums).unwrap();
    let check = Command::new("sha256sum")
        .args(["--check", "--strict"])
        .arg(place.outside.join("sums"))
        .current_dir(place.artifacts.join("app"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    assert_eq!(verify(&place.artifacts).unwrap().problems, []);
}

#[test]
fn links_that_stay_are_kept_as_links() {
    let place = Place::new();
    place.write("dist/lib/real.so.1", "elf");
    symlink("real.so.1", place.workspace.join("dist/lib/real.so")).unwrap();
    symlink("../lib", place.workspace.join("dist/lib/up")).unwrap();
    symlink("nowhere", place.workspace.join("dist/dangling")).unwrap();
    let collected = place.collect(&["dist/**"]).unwrap();
    assert_eq!(paths(&collected), ["dist/dangling", "dist/lib/real.so", "dist/lib/real.so.1", "dist/lib/up"]);
    assert_eq!(collected.entries[1].kind, EntryKind::Symlink);
    assert_eq!(collected.entries[1].target.as_deref(), Some("real.so.1"));
    assert_eq!(fs::read_link(place.kept("dist/lib/real.so")).unwrap(), Path::new("real.so.1"));
    assert_eq!(fs::read(place.kept("dist/lib/real.so")).unwrap(), b"elf");
}

#[test]
fn links_that_lead_out_are_errors_and_nothing_is_kept() {
    for target in ["/etc/passwd", "../outside/secret", "../../x", "here/../../outside/secret", "a/../b"] {
        let place = Place::new();
        place.write("good", "good");
        symlink(".", place.workspace.join("here")).unwrap();
        symlink(target, place.workspace.join("link")).unwrap();
        let error = place.collect(&["*"]).unwrap_err();
        assert!(matches!(&error, ArtifactError::LinkOut { path, .. } if path == "link"), "{target}: {error}");
        assert_eq!(error.code(), Some("E210"));
        assert_eq!(place.names(), Vec::<String>::new(), "{target}");
    }
}

#[test]
fn a_linked_directory_is_a_link_and_never_entered() {
    let place = Place::new();
    symlink(&place.outside, place.workspace.join("dist")).unwrap();
    let error = place.collect(&["dist/**", "dist/secret"]).unwrap_err();
    assert!(matches!(error, ArtifactError::NoMatch { .. } | ArtifactError::LinkOut { .. }), "{error}");
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn a_directory_swapped_for_a_link_never_gives_its_target() {
    let place = Place::new();
    for number in 0..200 {
        place.write(&format!("d/{number}/secret"), "workspace");
    }
    let (stop, swaps) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, aside) = (place.workspace.join("d/100"), place.workspace.join("aside"));
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&real, &aside).unwrap();
                symlink(&place.outside, &real).unwrap();
                fs::remove_file(&real).unwrap();
                fs::rename(&aside, &real).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..50 {
            let enough = swaps.load(Ordering::Relaxed) + 5;
            while swaps.load(Ordering::Relaxed) < enough {
                std::thread::yield_now();
            }
            match place.collect(&["d"]) {
                Ok(collected) => {
                    assert!(
                        collected.entries.iter().all(|entry| entry.size == 9),
                        "only files of the workspace"
                    );
                    fs::remove_dir_all(&place.artifacts).unwrap();
                }
                Err(
                    ArtifactError::Changed { .. }
                    | ArtifactError::Read { .. }
                    | ArtifactError::LinkOut { .. },
                ) => {}
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn special_files_are_left_out_without_touching_them() {
    let place = Place::new();
    place.write("out/file", "x");
    let status = Command::new("mkfifo").arg(place.workspace.join("out/fifo")).status().unwrap();
    assert!(status.success());
    let _socket = std::os::unix::net::UnixListener::bind(place.workspace.join("out/socket")).unwrap();
    // Without the right to make devices the other kinds still tell.
    let device =
        Command::new("mknod").arg(place.workspace.join("out/null")).args(["c", "1", "3"]).status().unwrap();
    let collected = place.collect(&["out"]).unwrap();
    assert_eq!(paths(&collected), ["out/file"]);
    assert_eq!(collected.skipped_count, if device.success() { 3 } else { 2 });
    assert!(collected.skipped.contains(&"out/fifo (fifo)".to_owned()), "{:?}", collected.skipped);

    let only = Place::new();
    Command::new("mkfifo").arg(only.workspace.join("fifo")).status().unwrap();
    let error = only.collect(&["fifo"]).unwrap_err();
    assert!(error.hint().unwrap().contains("fifo (fifo)"), "{:?}", error.hint());
}

#[test]
fn hard_links_become_files_of_their_own() {
    let place = Place::new();
    let first = place.write("a", "same");
    fs::hard_link(&first, place.workspace.join("b")).unwrap();
    place.collect(&["*"]).unwrap();
    let inode = |name: &str| fs::metadata(place.kept(name)).unwrap();
    assert_ne!(inode("a").ino(), inode("b").ino());
    assert_ne!(
        inode("a").ino(),
        fs::metadata(&first).unwrap().ino(),
        "writing to the workspace changes nothing"
    );
}

#[test]
fn ten_thousand_files_and_the_limit_on_them() {
    let place = Place::new();
    for number in 0..10_000 {
        let path = place.workspace.join(format!("d{:02}", number % 100));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("f{number}")), number.to_string()).unwrap();
    }
    let limits = ArtifactLimits { files_max: 9_999, ..ArtifactLimits::default() };
    let error = place.collect_with(&["**"], limits, false).unwrap_err();
    assert!(matches!(error, ArtifactError::Limit { what: "files", max: 9_999, .. }), "{error}");
    assert_eq!(place.names(), Vec::<String>::new());
    assert_eq!(place.collect(&["**"]).unwrap().files, 10_000);
    let verification = verify(&place.artifacts).unwrap();
    assert_eq!((verification.files, verification.problems.len()), (10_000, 0));
}

#[test]
fn bytes_and_depth_have_limits() {
    let place = Place::new();
    place.write("a", "123456");
    place.write("b", "123456");
    let limits = ArtifactLimits { bytes_max: 11, ..ArtifactLimits::default() };
    let error = place.collect_with(&["*"], limits, false).unwrap_err();
    assert!(matches!(&error, ArtifactError::Limit { what: "bytes", path, .. } if path == "b"), "{error}");

    // Deeper than any path can be named: made and removed from within.
    let script = "import os,sys\nos.chdir(sys.argv[1])\nfor i in range(3000):\n os.mkdir('d'); os.chdir('d')\nopen('f','w').close()";
    let made = Command::new("python3").args(["-c", script]).arg(&place.workspace).status();
    if !made.is_ok_and(|status| status.success()) {
        let deep = vec!["d"; 300].join("/");
        place.write(&format!("{deep}/f"), "");
    }
    let error = place.collect(&["**/f"]).unwrap_err();
    assert!(matches!(error, ArtifactError::Limit { max: 128, .. }), "{error}");
    assert_eq!(place.collect(&["a"]).unwrap().files, 1, "what is not asked for is not entered");
    let removed = Command::new("rm").arg("-rf").arg(place.workspace.join("d")).status().unwrap();
    assert!(removed.success());
}

#[test]
fn nothing_found_says_what_is_there() {
    let place = Place::new();
    place.write("target/release/other", "x");
    place.write("target/debug/app", "x");
    let error = place.collect(&["target/release/app"]).unwrap_err();
    assert_eq!(error.code(), Some("E261"));
    assert_eq!(error.to_string(), "artifact `app`: nothing in the workspace matches `target/release/app`");
    assert_eq!(
        error.hint().unwrap(),
        "`target/release/` has other; `optional: true` accepts an artifact without files"
    );
    let optional = place.collect_with(&["nothing/*"], ArtifactLimits::default(), true).unwrap();
    assert_eq!(optional, Collected::default());
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn unreadable_files_and_foreign_names() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(place.workspace.join(name), "latin").unwrap();
    let locked = place.write("locked", "x");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let collected = place.collect(&["caf*", "locked"]);
    if nix::unistd::geteuid().is_root() {
        let collected = collected.unwrap();
        assert_eq!(collected.entries[0].path_hex.as_deref(), Some("636166e9"));
        assert_eq!(collected.entries[1].mode.as_deref(), Some("0000"));
        assert_eq!(verify(&place.artifacts).unwrap().problems, []);
        let out = place.outside.join("out");
        extract(&place.artifacts, &[], &out, false).unwrap();
        assert_eq!(fs::read(out.join("app").join(name)).unwrap(), b"latin");
    } else {
        let error = collected.unwrap_err();
        assert!(matches!(&error, ArtifactError::Read { path, .. } if path == "locked"), "{error}");
    }
}

#[test]
fn holes_stay_holes() {
    let place = Place::new();
    let path = place.write("sparse", "start");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all(b"end").unwrap();
    place.collect(&["sparse"]).unwrap();
    let kept = fs::metadata(place.kept("sparse")).unwrap();
    assert_eq!(kept.len(), (64 << 20) + 3);
    assert!(kept.blocks() * 512 < 2 << 20, "{} bytes on disk", kept.blocks() * 512);
    assert_eq!(verify(&place.artifacts).unwrap().problems, []);
}

#[test]
fn a_second_artifact_of_the_name_is_refused() {
    let place = Place::new();
    place.write("a", "1");
    place.collect(&["a"]).unwrap();
    assert!(matches!(place.collect(&["a"]), Err(ArtifactError::Exists { .. })));
    assert_eq!(Manifest::load(&place.artifacts).unwrap().names(), ["app"]);
}

#[test]
fn every_change_is_found() {
    let place = Place::new();
    for name in ["same", "gone", "longer", "flipped", "mode", "kind", "sub/file"] {
        place.write(name, "content");
    }
    symlink("same", place.workspace.join("link")).unwrap();
    place.collect(&["**"]).unwrap();
    fs::remove_file(place.kept("gone")).unwrap();
    fs::write(place.kept("longer"), "content+").unwrap();
    fs::write(place.kept("flipped"), "cOntent").unwrap();
    fs::set_permissions(place.kept("mode"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(place.kept("kind")).unwrap();
    symlink("/etc/passwd", place.kept("kind")).unwrap();
    fs::remove_file(place.kept("link")).unwrap();
    symlink("/etc/passwd", place.kept("link")).unwrap();
    fs::write(place.kept("sub/extra"), "").unwrap();
    let found = verify(&place.artifacts).unwrap();
    assert_eq!(found.files, 8);
    let words: Vec<String> = found
        .problems
        .iter()
        .map(|(path, problem)| {
            let word = match problem {
                Problem::Missing => "missing",
                Problem::Kind => "kind",
                Problem::Size { expected: 7, found: 8 } => "size",
                Problem::Digest { .. } => "digest",
                Problem::Mode { found: 0o755, .. } => "mode",
                Problem::Target { .. } => "target",
                Problem::Extra => "extra",
                other => panic!("{path}: {other}"),
            };
            format!("{path} {word}")
        })
        .collect();
    assert_eq!(
        words,
        [
            "app/flipped digest",
            "app/gone missing",
            "app/kind kind",
            "app/link target",
            "app/longer size",
            "app/mode mode",
            "app/sub/extra extra"
        ]
    );
}

#[test]
fn giving_out_checks_refuses_and_follows_nothing() {
    let place = Place::new();
    place.write("dir/file", "content");
    symlink("file", place.workspace.join("dir/link")).unwrap();
    place.collect(&["dir"]).unwrap();
    let out = place.outside.join("out");
    let extracted = extract(&place.artifacts, &["app".to_owned()], &out, false).unwrap();
    assert_eq!((extracted.files, extracted.bytes), (2, 7));
    assert_eq!(fs::read(out.join("app/dir/link")).unwrap(), b"content");
    let again = extract(&place.artifacts, &[], &out, false).unwrap_err();
    assert!(matches!(again, ArtifactError::Occupied { .. }), "{again}");
    fs::write(out.join("app/dir/file"), "mine").unwrap();
    extract(&place.artifacts, &[], &out, true).unwrap();
    assert_eq!(fs::read(out.join("app/dir/file")).unwrap(), b"content");
    let unknown = extract(&place.artifacts, &["lib".to_owned()], &out, false).unwrap_err();
    assert_eq!(unknown.hint().unwrap(), "it has app");

    // A directory of the way swapped for a link, and a file for a link out.
    fs::remove_dir_all(out.join("app")).unwrap();
    symlink(&place.outside, out.join("app")).unwrap();
    assert!(extract(&place.artifacts, &[], &out, true).is_err());
    assert!(!place.outside.join("dir").exists());
    fs::remove_file(out.join("app")).unwrap();
    fs::create_dir_all(out.join("app/dir")).unwrap();
    symlink(place.outside.join("secret"), out.join("app/dir/file")).unwrap();
    extract(&place.artifacts, &[], &out, true).unwrap();
    assert_eq!(
        fs::read(place.outside.join("secret")).unwrap(),
        b"secret",
        "the link was replaced, not followed"
    );

    fs::write(place.kept("dir/file"), "forged!").unwrap();
    let forged = extract(&place.artifacts, &[], &place.outside.join("out2"), false).unwrap_err();
    assert!(matches!(forged, ArtifactError::Mismatch { problem: Problem::Digest { .. }, .. }), "{forged}");
    assert_eq!(fs::read_dir(place.outside.join("out2/app/dir")).unwrap().count(), 0, "no half of a file");
}
