//! The store: warm answers, two runs at once, killed pulls, full disks. Some tests run this program again as a child.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/pull.rs"]
mod pull;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fixtures::http::{Fault, Resource, Server};
use fixtures::tarballs::{Tarball, gzip, zstd};
use fixtures::{require, wait_for};
use images::{
    Digest, ImageErrorKind, InProcess, Ownership, Progress, PullEvent, Reference, RootfsKind, Silent, Store,
    UnpackOptions, obtain, unpack_to_directory,
};
use pull::{Puller, archive, assert_is_archive, entries, quick};

/// Writes a tarball whose last change lies far enough back to be trusted.
fn old_file(puller: &Puller, name: &str, bytes: &[u8]) -> PathBuf {
    let path = puller.home.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    path
}

/// The change time cannot be set; the store trusts a file once that lies two seconds back.
fn let_it_age(path: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let changed = path.metadata().unwrap().ctime();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!(wait_for(|| now() > changed + 3));
}

#[test]
fn a_file_is_unpacked_once_and_recognised_by_its_attributes() {
    let puller = Puller::new();
    let path = old_file(&puller, "a.tar.gz", &archive());
    assert_is_archive(&puller.pull("./a.tar.gz", None).unwrap());
    assert!(!puller.was_cached());
    // Too young to be trusted: digested again, but not unpacked again.
    assert_is_archive(&puller.pull("./a.tar.gz", None).unwrap());
    assert!(puller.was_cached());
    let_it_age(&path);
    puller.pull("./a.tar.gz", None).unwrap();
    // From here on not a byte of it is read.
    let before = path.metadata().unwrap().accessed().unwrap();
    let rootfs = puller.pull("./a.tar.gz", Some(Digest::of(&archive()))).unwrap();
    assert_is_archive(&rootfs);
    assert!(puller.was_cached());
    assert_eq!(path.metadata().unwrap().accessed().unwrap(), before);
    assert_eq!(rootfs.kind, RootfsKind::Layers);
    let error = puller.pull("./a.tar.gz", Some(Digest::of(b"x"))).unwrap_err();
    assert!(error.to_string().contains("wrong digest"), "{error}");
}

#[test]
fn a_changed_file_is_another_image() {
    let puller = Puller::new();
    old_file(&puller, "a.tar", &Tarball::new().file("a", "1").finish());
    let one = puller.pull("./a.tar", None).unwrap();
    // The same size and the same times, as far as anybody can set them.
    old_file(&puller, "a.tar", &Tarball::new().file("a", "2").finish());
    let two = puller.pull("./a.tar", None).unwrap();
    assert_ne!(one.layers, two.layers);
    assert_eq!(std::fs::read_to_string(two.layers[0].join("a")).unwrap(), "2");
    assert_eq!(std::fs::read_to_string(one.layers[0].join("a")).unwrap(), "1", "in use, hence unchanged");
}

#[test]
fn one_content_is_one_layer_however_it_is_compressed() {
    let puller = Puller::new();
    let tar = Tarball::new().file("a", "1").finish();
    old_file(&puller, "a.tar.gz", &gzip(&tar));
    old_file(&puller, "a.tar.zst", &zstd(&tar));
    let (one, two) = (puller.pull("./a.tar.gz", None).unwrap(), puller.pull("./a.tar.zst", None).unwrap());
    assert_eq!(one.layers, two.layers);
    assert_ne!(one.digest, two.digest);
    assert_eq!(entries(&puller.store.path().join("layers/sha256")).len(), 1);
}

#[test]
fn ownerships_never_share_a_layer() {
    require!(Root);
    let puller = Puller::new();
    let path = old_file(&puller, "a.tar", &Tarball::new().file("a", "1").finish());
    let reference = Reference::Tarball(path);
    let layer = |unpacker| {
        let rootfs = obtain(
            &reference,
            None,
            &puller.store,
            Arc::new(unpacker),
            &puller.settings,
            puller.heard.clone(),
        );
        pull::run(rootfs).unwrap().layers
    };
    assert_ne!(layer(InProcess::KEEP), layer(InProcess::CALLER));
    assert_eq!(layer(InProcess::KEEP), layer(InProcess::KEEP));
}

#[test]
fn a_pinned_url_needs_no_network_once_it_is_here() {
    let server = Server::start();
    server.serve("/a", Resource::new(archive()));
    let url = server.url("/a");
    let mut puller = Puller::new();
    let digest = Some(Digest::of(&archive()));
    assert_is_archive(&puller.pull(&url, digest).unwrap());
    drop(server);
    assert_is_archive(&puller.pull(&url, digest).unwrap());
    assert!(puller.was_cached());
    puller.settings.offline = true;
    assert_is_archive(&puller.pull(&url, digest).unwrap());
    assert_is_archive(&puller.pull(&url, None).unwrap());
    let error = puller.pull("http://127.0.0.1:1/other", None).unwrap_err();
    assert!(error.to_string().contains("offline"), "{error}");
}

#[test]
fn an_unpinned_url_is_asked_whether_it_changed() {
    let server = Server::start();
    server.serve("/a", Resource::new(archive()));
    let modified = || Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
    server
        .serve("/b", Resource { last_modified: modified(), ..Resource::new(archive()).without_validators() });
    let puller = Puller::new();
    for path in ["/a", "/b"] {
        let url = server.url(path);
        puller.pull(&url, None).unwrap();
        let bytes = server.body_bytes();
        assert_is_archive(&puller.pull(&url, None).unwrap());
        assert!(puller.was_cached(), "{path}");
        assert_eq!(server.body_bytes(), bytes, "{path}");
    }
    server.serve("/a", Resource::new(gzip(&Tarball::new().file("new", "1").finish())));
    let rootfs = puller.pull(&server.url("/a"), None).unwrap();
    assert!(rootfs.layers[0].join("new").exists() && !puller.was_cached());
}

#[test]
fn two_threads_transfer_once() {
    for (path, sha256) in [("/pinned", Some(Digest::of(&archive()))), ("/unpinned", None)] {
        // A gate stays open: each round has its own.
        let server = Server::start();
        server.serve(path, Resource::new(archive()).without_validators().fault(Fault::Gate));
        let url = server.url(path);
        let mut puller = Puller::new();
        // Behind a closed gate the first must not give up before the second has come.
        puller.settings.headers_timeout = Duration::from_secs(60);
        std::thread::scope(|scope| {
            let one = scope.spawn(|| puller.pull(&url, sha256).map(|rootfs| assert_is_archive(&rootfs)));
            assert!(wait_for(|| server.requests().len() == 1));
            let two = scope.spawn(|| puller.pull(&url, sha256).map(|rootfs| assert_is_archive(&rootfs)));
            let waiting = |event: &PullEvent| matches!(event, PullEvent::Waiting { .. });
            assert!(wait_for(|| puller.heard.0.lock().unwrap().iter().any(waiting)));
            server.open_gate();
            one.join().unwrap().unwrap();
            two.join().unwrap().unwrap();
        });
        assert_eq!(server.requests().len(), 1, "{path}");
    }
}

/// Starts this program again to run the test `child`, with its work in the environment.
fn again(work: &str, store: &Path, url: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("STORE_CHILD", work).env("STORE_DIR", store).env("STORE_URL", url);
    command
}

/// A file beside the store by which a child says that it waits for another.
const WAITING: &str = "waiting";

/// Makes that file.
struct Mark(PathBuf);

impl Progress for Mark {
    fn event(&self, event: PullEvent) {
        if matches!(event, PullEvent::Waiting { .. }) {
            std::fs::write(&self.0, "").unwrap();
        }
    }
}

/// Not a test of its own: what the children of other tests do.
#[test]
fn child() {
    let Ok(work) = std::env::var("STORE_CHILD") else { return };
    let dir = PathBuf::from(std::env::var_os("STORE_DIR").unwrap());
    let url = std::env::var("STORE_URL").unwrap();
    let reference = Reference::parse(&url, Path::new("/")).unwrap();
    let settings = quick();
    match work.as_str() {
        "pull" => {
            let store = Store::open(&dir).unwrap();
            let tell = Arc::new(Mark(dir.with_file_name(WAITING)));
            let pull = obtain(&reference, None, &store, Arc::new(InProcess::CALLER), &settings, tell);
            assert_is_archive(&pull::run(pull).unwrap());
        }
        "full" => {
            let store = Store::open(&dir).unwrap();
            let pull =
                || obtain(&reference, None, &store, Arc::new(InProcess::CALLER), &settings, Arc::new(Silent));
            let small = Reference::Tarball(dir.parent().unwrap().join("../small.tar"));
            let unpacker = Arc::new(InProcess::CALLER);
            let kept = pull::run(obtain(&small, None, &store, unpacker.clone(), &settings, Arc::new(Silent)))
                .unwrap();
            for _ in 0..2 {
                let error = pull::run(pull()).map(|_| ()).unwrap_err();
                assert_eq!(error.kind(), ImageErrorKind::Full, "{error}");
                let text = error.to_string();
                assert!(text.contains("archive entry \"noise\": cannot write "), "{text}");
                assert!(text.contains(&format!("{}", dir.join("tmp").display())), "{text}");
                assert!(error.hint().unwrap().contains("space"));
                assert_eq!(entries(&dir.join("tmp")), Vec::<String>::new());
            }
            assert_eq!(
                std::fs::read_to_string(kept.layers[0].join("a")).unwrap(),
                "1",
                "the store is intact"
            );
            pull::run(obtain(&small, None, &store, unpacker, &settings, Arc::new(Silent))).unwrap();
        }
        "mapped" => {
            use std::os::unix::fs::MetadataExt as _;
            let target = dir.join("mapped");
            std::fs::create_dir(&target).unwrap();
            let root = std::fs::File::open(&target).unwrap();
            let options = UnpackOptions { ownership: Ownership::Mapped, ..UnpackOptions::default() };
            let Reference::Tarball(path) = reference else { panic!("a file") };
            images::unpack(std::fs::File::open(path).unwrap(), std::os::fd::AsFd::as_fd(&root), &options)
                .unwrap();
            let owner = |name: &str| {
                let stat = target.join(name).symlink_metadata().unwrap();
                (stat.uid(), stat.gid(), stat.mode() & 0o7777)
            };
            assert_eq!(owner("inside"), (1000, 1001, 0o6755));
            assert_eq!(owner("user"), (65534, 7, 0o644));
            assert_eq!(owner("group"), (7, 65534, 0o644));
            assert_eq!(owner("both"), (65534, 65534, 0o644));
            assert_eq!(owner("link"), (65534, 5, 0o777));
            assert_eq!(owner("directory"), (65534, 65534, 0o755));
        }
        other => panic!("no such work: {other}"),
    }
}

fn assert_success(child: Child) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn two_processes_transfer_once() {
    let server = Server::start();
    server.serve("/a", Resource::new(archive()).fault(Fault::Gate));
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let start = || again("pull", &store, &server.url("/a")).spawn().unwrap();
    let one = start();
    assert!(wait_for(|| server.requests().len() == 1));
    let two = start();
    assert!(wait_for(|| home.path().join(WAITING).exists()));
    server.open_gate();
    assert_success(one);
    assert_success(two);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_killed_pull_leaves_nothing_visible_and_the_next_sweeps() {
    let server = Server::start();
    let bytes = archive();
    // In the middle of the transfer; then between the transfer's start and its first byte.
    for fault in [Fault::Slow(2000, Duration::from_millis(10)), Fault::HangAfterHeaders] {
        let home = tempfile::tempdir().unwrap();
        let store = home.path().join("store");
        server.serve("/a", Resource::new(bytes.clone()).fault(fault));
        let mut killed = again("pull", &store, &server.url("/a")).spawn().unwrap();
        let rootfs = || {
            entries_if_any(&store.join("tmp"))
                .into_iter()
                .find(|name| store.join("tmp").join(name).join("rootfs").is_dir())
        };
        assert!(wait_for(|| rootfs().is_some()));
        killed.kill().unwrap();
        killed.wait().unwrap();
        for folder in ["layers/sha256", "images", "refs"] {
            assert_eq!(entries(&store.join(folder)), Vec::<String>::new(), "{folder}");
        }
        assert_eq!(entries(&store.join("tmp")).len(), 2, "a work directory and its lock");
        assert_success(again("pull", &store, &server.url("/a")).spawn().unwrap());
        assert_eq!(entries(&store.join("tmp")), Vec::<String>::new());
    }
}

fn entries_if_any(path: &Path) -> Vec<String> {
    if path.exists() { entries(path) } else { Vec::new() }
}

#[test]
fn a_sweep_spares_the_living() {
    let server = Server::start();
    server.serve("/a", Resource::new(archive()).fault(Fault::Slow(20_000, Duration::from_millis(20))));
    let (puller, url) = (Puller::new(), server.url("/a"));
    std::thread::scope(|scope| {
        let pulling = scope.spawn(|| puller.pull(&url, None).map(|rootfs| assert_is_archive(&rootfs)));
        assert!(wait_for(|| entries(&puller.store.path().join("tmp")).len() == 2));
        let swept = puller.store.sweep();
        assert_eq!(swept.removed, 0);
        pulling.join().unwrap().unwrap();
    });
}

#[test]
fn a_full_disk_is_told_and_leaves_the_store_intact() {
    require!(Root, Program("unshare"), Program("mount"));
    let home = tempfile::tempdir().unwrap();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    std::fs::write(home.path().join("small.tar"), Tarball::new().file("a", "1").finish()).unwrap();
    let server = Server::start();
    server.serve("/a", Resource::new(archive()));
    let plain = again("full", &disk.join("store"), &server.url("/a"));
    // A private mount namespace: the small disk is nowhere else and goes with the child.
    let mut unshared = Command::new("unshare");
    unshared.args(["-m", "sh", "-c", "mount -t tmpfs -o size=120k tmpfs \"$0\" && exec \"$@\""]).arg(&disk);
    unshared.arg(plain.get_program()).args(plain.get_args());
    unshared.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_success(unshared.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
}

#[test]
fn ids_that_a_user_namespace_lacks_become_nobody() {
    require!(Root, Program("unshare"));
    use fixtures::tarballs::Header;
    let home = tempfile::tempdir().unwrap();
    let owned = |kind: u8, name: &str, uid: u64, gid: u64, mode: u32| {
        let mut header = Header::new(kind, name);
        (header.uid, header.gid, header.mode) = (uid, gid, mode);
        if kind == b'2' {
            header.link = b"x".to_vec();
        }
        header
    };
    let archive = Tarball::new()
        .entry(owned(b'0', "inside", 1000, 1001, 0o6755), b"")
        .entry(owned(b'0', "user", 70_000, 7, 0o644), b"")
        .entry(owned(b'0', "group", 7, 70_000, 0o644), b"")
        .entry(owned(b'0', "both", 70_000, 80_000, 0o644), b"")
        .entry(owned(b'2', "link", 70_000, 5, 0o777), b"")
        .entry(owned(b'5', "directory", 90_000, 90_000, 0o755), b"")
        .finish();
    let tarball = home.path().join("a.tar");
    std::fs::write(&tarball, archive).unwrap();
    let plain = again("mapped", home.path(), tarball.to_str().unwrap());
    // A user namespace without a map, waiting for one.
    let unshared = Command::new("unshare")
        .args(["--user", "sh", "-c", "read go; exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .args(plain.get_args())
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut unshared = unshared.unwrap();
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).unwrap();
    let process = unshared.id().to_string();
    assert!(wait_for(|| namespace(&process) != namespace("self")));
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{process}/{map}"), "0 0 1\n1 100001 65535").unwrap();
    }
    unshared.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_success(unshared);
}

#[test]
fn directories_and_the_host_are_used_as_they_are() {
    let puller = Puller::new();
    let directory = puller.home.path().join("rootfs");
    std::fs::create_dir(&directory).unwrap();
    let rootfs = puller.pull("dir:rootfs", None).unwrap();
    assert_eq!(
        (rootfs.kind, &rootfs.layers[..]),
        (RootfsKind::Directory, &[directory.canonicalize().unwrap()][..])
    );
    let rootfs = puller.pull("host", None).unwrap();
    assert_eq!((rootfs.kind, rootfs.layers.len(), rootfs.digest), (RootfsKind::Host, 0, None));
    assert_eq!(puller.pull("host", Some(Digest::of(b""))).unwrap_err().kind(), ImageErrorKind::Usage);
    std::fs::write(puller.home.path().join("file"), "").unwrap();
    for (reference, words) in [
        ("dir:missing", "No such file"),
        ("dir:file", "is not a directory"),
        ("./missing.tar", "No such file"),
        ("./rootfs", "is not a regular file"),
    ] {
        let error = puller.pull(reference, None).unwrap_err();
        assert!(error.to_string().contains(words), "{reference}: {error}");
        assert!(error.hint().is_some(), "{reference}");
        assert_eq!(error.kind(), ImageErrorKind::Image);
    }
}

#[test]
fn unpacking_into_a_directory() {
    let puller = Puller::new();
    let directory = puller.home.path().join("new/directory");
    let unpack = |bytes: &[u8], layer: bool| {
        let path = old_file(&puller, "a.tar", bytes);
        let options = UnpackOptions { layer, ..UnpackOptions::default() };
        let reference = Reference::Tarball(path);
        pull::run(unpack_to_directory(&reference, None, &directory, &options, &quick(), Arc::new(Silent)))
    };
    let error = unpack(&Tarball::new().file("a", "1").file("../x", "").finish(), false).unwrap_err();
    assert!(error.to_string().contains("../x"), "{error}");
    assert_eq!(entries(&directory), Vec::<String>::new(), "a failure leaves it empty");
    assert_eq!(unpack(&Tarball::new().file("a", "1").finish(), false).unwrap().entries, 1);
    let error = unpack(&Tarball::new().file("b", "1").finish(), false).unwrap_err();
    assert_eq!(error.kind(), ImageErrorKind::Usage);
    assert!(error.to_string().contains("not empty"), "{error}");
    unpack(&Tarball::new().file(".wh.a", "").file("b", "2").finish(), true).unwrap();
    assert_eq!(entries(&directory), ["b"]);
    assert!(!puller.store.path().join("layers/sha256").read_dir().unwrap().any(|_| true));
}

#[test]
fn the_store_is_private_and_damage_to_records_is_no_error() {
    use std::os::unix::fs::PermissionsExt as _;
    let puller = Puller::new();
    old_file(&puller, "a.tar.gz", &archive());
    puller.pull("./a.tar.gz", None).unwrap();
    assert_eq!(puller.store.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for folder in ["images", "refs"] {
        for name in entries(&puller.store.path().join(folder)) {
            std::fs::write(puller.store.path().join(folder).join(name), "{").unwrap();
        }
    }
    assert_is_archive(&puller.pull("./a.tar.gz", None).unwrap());
    assert_eq!(entries(&puller.store.path().join("tmp")), Vec::<String>::new());
}
