//! Images with layers from the command line to a step's root, for root, with subordinate ids and with one id.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[expect(dead_code, reason = "these job files bring their own header")]
mod lab;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fixtures::http::{Fault, Resource, Server};
use fixtures::image::{Image, blob_path};
use fixtures::tarballs::{Header, Tarball};
use fixtures::{Compression, Leftovers, User, busybox, require, wait_for};
use lab::Lab;
use serde_json::Value;

fn base() -> Vec<u8> {
    fs::read(busybox::tarball(Compression::None)).unwrap()
}

/// A busybox with layers that delete, hide, replace and imply.
fn image(config: &str) -> Image {
    let first = Tarball::new()
        .directory("d")
        .file("d/gone", "x")
        .file("d/kept", "kept")
        .directory("hidden")
        .file("hidden/old", "x")
        .directory("dir-then-file")
        .file("file-then-dir", "x")
        .finish();
    let second = Tarball::new()
        .file("d/.wh.gone", "")
        .file("d/new", "new")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/fresh", "fresh")
        .file(".wh.dir-then-file", "")
        .file("dir-then-file", "file")
        .file(".wh.file-then-dir", "")
        .directory("file-then-dir")
        .file("file-then-dir/in", "in")
        .finish();
    Image::with_config(&[base(), first, second], config)
}

/// Shell that fails unless the layers of [`image`] lie over one another as they should.
const LOOK: &str = "set -x; test ! -e /d/gone; test \"$(cat /d/kept /d/new)\" = keptnew; test \"$(ls /hidden)\" = fresh; \
    test \"$(cat /dir-then-file)\" = file; test \"$(cat /file-then-dir/in)\" = in; test ! -e /d/.wh.gone";

fn layers(user: User) {
    let before = Leftovers::now();
    let lab = Lab::new(user);
    let image = image("{\"Env\":[\"FROM_IMAGE=yes\",\"HOME=/from-image\"]}");
    image.write_layout(&lab.context.work().join("layout"));
    let job = format!(
        "image: oci:./layout\nnetwork: none\nsteps:\n  - '{LOOK}'\n  - rm -r /hidden; mkdir /hidden; test -z \"$(ls -A /hidden)\"\n  \
         - '{LOOK}; echo $FROM_IMAGE $HOME'\n"
    );
    lab.context.write("job.yml", job);
    let run = lab.finished(lab.context.run(&["exec", "job.yml"]).expect_code(0));
    assert!(run.text(2).lines().any(|line| line == "yes /from-image"), "{}", run.text(2));
    let image_record = &run.record["jobs"][0]["image"];
    assert_eq!(image_record["digest"], image.digest());
    assert!(image_record["platform"].as_str().unwrap().starts_with("linux/"), "{image_record}");
    lab.context.run(&["exec", "--offline", "job.yml"]).expect_code(0);
    let verified = lab.context.run(&["image", "verify"]).expect_code(0).stdout_text();
    assert!(verified.contains("as they were put there") && !verified.contains("not read"), "{verified}");
    lab.context.run(&["image", "export", &image.digest(), "out.tar"]).expect_code(0);
    lab.context.run(&["image", "prune", "--older", "1s", "--dry-run"]).expect_code(0);
    lab.context.run(&["image", "remove", &image.digest()]).expect_code(0);
    let list = lab.context.run(&["image", "list", "--json"]).expect_code(0).stdout_text();
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap(), serde_json::json!([]));
    for folder in ["layers/sha256", "tmp"] {
        assert_eq!(
            fs::read_dir(lab.context.home().join("store").join(folder)).unwrap().count(),
            0,
            "{folder}"
        );
    }
    // What was exported is the same image.
    lab.context.write("job.yml", format!("image: archive:./out.tar\nnetwork: none\nsteps:\n  - '{LOOK}'\n"));
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
    before.assert_nothing_new();
}

#[test]
fn root_sees_the_layers_as_one() {
    require!(Root, Cgroups, Busybox);
    layers(User::Current);
}

#[test]
fn with_subids_a_user_sees_the_layers_as_one() {
    require!(UserNamespaces, Newuidmap, Busybox);
    layers(User::WithSubids);
}

#[test]
fn with_one_id_a_user_sees_the_layers_as_one() {
    require!(Root, UserNamespaces, Busybox);
    layers(User::OneId);
}

/// The image's own user is who runs the steps, by name and with a group's name.
fn image_user(user: User) {
    let lab = Lab::new(user);
    image("{\"User\":\"user:staff\"}").write_layout(&lab.context.work().join("layout"));
    let job = "image: oci:./layout\nnetwork: none\nsteps:\n  - id; test \"$(id -u):$(id -g)\" = 1000:50; test $(stat -c %u /bin/busybox) = 0\n  \
               - {run: 'touch in-workspace'}\n";
    lab.context.write("job.yml", job);
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
}

/// With subordinate ids the trees of an image differ from user to user; the registry is none the wiser.
#[test]
fn with_subids_an_image_with_a_user_is_transferred_once() {
    require!(UserNamespaces, Newuidmap, Busybox);
    let lab = Lab::new(User::WithSubids);
    let server = Server::start();
    // With everything that is told of a tree: marks, hard links, attributes, owners, a directory that no entry names.
    let other = Header { uid: 7, gid: 8, mode: 0o640, ..Header::new(b'0', "d/other") };
    let lower = Tarball::new().directory("d").file("d/old", "x").directory("o").file("o/old", "x").finish();
    let upper = Tarball::new()
        .directory("d")
        .file("d/new", "new")
        .hard_link("d/linked", "d/new")
        .symlink("d/way", "new")
        .file("d/.wh.old", "")
        .file("o/.wh..wh..opq", "")
        .entry(other, b"")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("made/up/file", "x")
        .finish();
    let image = Image::with_config(&[base(), lower, upper], "{\"User\":\"user:staff\"}");
    image.serve(&server, "a/b", "t");
    let name = format!("{}/a/b:t", server.address());
    let look = "test $(id -u):$(id -g) = 1000:50; test $(cat /d/linked /d/way) = newnew; test ! -e /d/old; test -z $(ls /o); \
                test $(stat -c %u:%g:%a:%h /d/other) = 7:8:640:1; test $(stat -c %h /d/new) = 2; test $(stat -c %u /made/up) = 0";
    lab.context.write("job.yml", format!("image: {name}\nnetwork: none\nsteps:\n  - 'set -e; {look}'\n"));
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
    for blob in image.layers.iter().chain([&image.config]) {
        let path = blob_path("a/b", blob);
        assert_eq!(server.requests().iter().filter(|request| request.path == path).count(), 1, "{path}");
    }
    // Both sets of trees are there, and need nobody.
    drop(server);
    lab.context.run(&["exec", "--offline", "job.yml"]).expect_code(0);
    lab.context.run(&["image", "verify"]).expect_code(0);
}

#[test]
fn as_root_the_images_user_runs_the_steps() {
    require!(Root, Cgroups, Busybox);
    image_user(User::Current);
}

#[test]
fn with_subids_the_images_user_runs_the_steps() {
    require!(UserNamespaces, Newuidmap, Busybox);
    image_user(User::WithSubids);
}

/// More layers than docker makes; each deletes what the one below it has brought.
fn many_layers(user: User) {
    const LAYERS: usize = 150;
    let lab = Lab::new(user);
    let mut archives = vec![base()];
    archives.extend((1..LAYERS).map(|number| {
        let below = format!("l/.wh.{}", number - 1);
        Tarball::new().directory("l").file(below, "").file(format!("l/{number}"), number.to_string()).finish()
    }));
    Image::new(&archives).write_layout(&lab.context.work().join("layout"));
    lab.context.write("job.yml", "image: oci:./layout\nnetwork: none\nsteps:\n  - test \"$(ls /l)\" = 149; test \"$(cat /l/149)\" = 149\n  - rm /l/149\n  - test -e /l/149\n");
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
}

#[test]
fn as_root_a_hundred_and_fifty_layers_are_one_root() {
    require!(Root, Cgroups, Busybox);
    many_layers(User::Current);
}

#[test]
fn with_subids_a_hundred_and_fifty_layers_are_one_root() {
    require!(UserNamespaces, Newuidmap, Busybox);
    many_layers(User::WithSubids);
}

#[test]
fn a_registry_is_asked_as_the_flags_and_the_job_file_say() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let (server, image) = (Server::start(), image("{}"));
    image.serve(&server, "a/b", "t");
    let name = format!("{}/a/b:t", server.address());
    let job = |more: &str| {
        lab.context
            .write("job.yml", format!("image: {{ref: \"{name}\"{more}}}\nnetwork: none\nsteps: ['true']\n"));
    };
    job("");
    let ran = lab.context.run(&["exec", "--offline", "job.yml"]).expect_code(3);
    assert!(ran.stderr_text().contains("hint:"), "{}", ran.stderr_text());
    job(", pull: never");
    lab.context.run(&["exec", "job.yml"]).expect_code(3);
    assert_eq!(server.requests().len(), 0);
    job("");
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
    let asked = server.requests().len();
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
    assert_eq!(server.requests().len(), asked, "missing: what is here is not asked for");
    job(", pull: always");
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
    assert!(server.requests().len() > asked);
    let asked = server.requests().len();
    lab.context.run(&["exec", "--offline", "job.yml"]).expect_code(0);
    assert_eq!(server.requests().len(), asked, "the command line wins");
    job("");
    lab.context.run(&["exec", "--refresh", "job.yml"]).expect_code(0);
    assert!(server.requests().len() > asked);
    let ran = lab.context.run(&["run", "--network", "none", &name, "--", "cat", "/d/new"]).expect_code(0);
    assert_eq!(ran.stdout_text(), "new");
}

#[test]
fn the_configuration_file_and_the_logins_are_used() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let (server, image) = (Server::start(), image("{}"));
    image.serve(&server, "a/b", "t");
    let wants = Fault::Status(401, vec![("WWW-Authenticate".to_owned(), "Basic realm=\"x\"".to_owned())]);
    server.serve("/v2/a/b/manifests/t", Resource::new(image.manifest.clone()).fault(wants));
    let mirrors = format!("registries:\n  registry.example: {{mirrors: [\"{}\"]}}\n", server.url(""));
    lab.context.write("config.yml", mirrors);
    let login = format!("{{\"credHelpers\":{{\"{}\":\"test\"}}}}", server.address());
    lab.context.write(".docker/config.json", login);
    let helper = lab.context.write(
        "bin/docker-credential-test",
        "#!/bin/sh\ntest \"$1\" = get && read registry; echo \"{\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"$registry\\\"}\"\n",
    );
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command =
        lab.context.command(&["image", "pull", "--config", "config.yml", "registry.example/a/b:t"]);
    let path = format!("{}:{}", helper.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let ran = lab.context.finish(command.env("PATH", path)).expect_code(0);
    assert_eq!(ran.stdout_text(), format!("{} registry.example/a/b:t\n", image.digest()));
    let shown = server.requests().iter().find_map(|request| request.headers.get("authorization").cloned());
    // u:ADDRESS, as the helper answers.
    assert!(shown.is_some_and(|value| value.starts_with("Basic dTox")), "{:?}", server.requests());
    let listed = lab.context.run(&["image", "list"]).expect_code(0).stdout_text();
    assert!(listed.contains("registry.example/a/b:t"), "{listed}");
    let shown = lab.context.run(&["image", "inspect", "registry.example/a/b:t"]).expect_code(0).stdout_text();
    assert!(shown.contains("platform   linux/"), "{shown}");
    let layers =
        shown.lines().filter(|line| line.starts_with("layer ") && line.ends_with(".layer.v1.tar+gzip"));
    assert_eq!(layers.count(), 3, "{shown}");
    let shown = lab.context.run(&["image", "inspect", "--json", "registry.example/a/b:t"]).expect_code(0);
    let shown: Value = serde_json::from_str(&shown.stdout_text()).unwrap();
    assert_eq!(shown["blobs"][2]["bytes"], image.layers[2].len());
    assert_eq!(shown["blobs"][2]["digest"], fixtures::image::digest(&image.layers[2]));
    lab.context.write("config.yml", "registry: {}\n");
    let ran = lab.context.run(&["image", "pull", "--config", "config.yml", "a"]).expect_code(2);
    assert!(ran.stderr_text().contains("unknown field"), "{}", ran.stderr_text());
}

#[test]
fn a_changed_store_is_a_mismatch() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    image("{}").write_layout(&lab.context.work().join("layout"));
    lab.context.run(&["image", "pull", "oci:layout"]).expect_code(0);
    let layers = lab.context.home().join("store/layers/sha256");
    let tree = fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().path().join("rootfs/d/kept"));
    let file = tree.into_iter().find(|path| path.exists()).unwrap();
    fs::write(&file, "KEPT").unwrap();
    let ran = lab.context.run(&["image", "verify"]).expect_code(6);
    assert!(ran.stdout_text().contains("d/kept"), "{}", ran.stdout_text());
    let ran = lab.context.run(&["image", "remove", "no-such-image"]).expect_code(2);
    assert!(ran.stderr_text().contains("no image"), "{}", ran.stderr_text());
    lab.context.run(&["image", "import", "oci:layout", "mine"]).expect_code(0);
    lab.context.write("job.yml", "image: local:mine\nnetwork: none\nsteps: ['true']\n");
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
}

/// Bytes that do not compress.
fn noise(seed: u32, bytes: u32) -> Vec<u8> {
    (0..bytes / 4).flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ seed << 13 ^ n << 7).to_le_bytes()).collect()
}

/// Five layers that do not compress, served slowly enough to have a middle.
fn slow_image(server: &Server) -> Image {
    let layer =
        |seed: u32| Tarball::new().directory("d").file(format!("d/{seed}"), noise(seed, 100_000)).finish();
    let image = Image::new(&[layer(1), layer(2), layer(3), layer(4), layer(5)]);
    image.serve(server, "a/b", "t");
    for blob in &image.layers {
        let slow = Resource::new(blob.clone()).always(Fault::Slow(5_000, Duration::from_millis(1)));
        server.serve(&blob_path("a/b", blob), slow);
    }
    image
}

fn tmp_is_empty(home: &Path) -> bool {
    fs::read_dir(home.join("store/tmp")).unwrap().count() == 0
}

/// When a pull is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Started,
    /// So many requests have come.
    Asked(usize),
    /// So many bytes have gone out.
    Sent(u64),
    /// So many layers lie in the store.
    Published(usize),
    /// The image is written down.
    Recorded,
}

/// A hundred moments from before the first request to after the last byte, the same each time and without a pattern.
fn moments(bytes: u64) -> Vec<Moment> {
    const SENT: usize = 80;
    // Knuth's multiplier: the upper bits are as good as random.
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut below = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % bound
    };
    let mut moments: Vec<Moment> = (0..SENT).map(|_| Moment::Sent(below(bytes + 1))).collect();
    moments.extend([Moment::Started; 5]);
    moments.extend((1..=7).map(Moment::Asked));
    moments.extend((1..=5).map(Moment::Published));
    moments.extend([Moment::Sent(bytes), Moment::Recorded, Moment::Recorded]);
    assert_eq!(moments.len(), 100);
    moments
}

impl Moment {
    fn has_come(self, server: &Server, before: (usize, u64), store: &Path) -> bool {
        let files = |folder: &str| fs::read_dir(store.join(folder)).map_or(0, Iterator::count);
        match self {
            Moment::Started => true,
            Moment::Asked(requests) => server.requests().len() >= before.0 + requests,
            Moment::Sent(bytes) => server.body_bytes() >= before.1 + bytes,
            Moment::Published(layers) => files("layers/sha256") >= layers,
            Moment::Recorded => files("images") > 0,
        }
    }
}

#[test]
fn a_pull_that_is_killed_anywhere_needs_no_repair() {
    require!(Root, Cgroups);
    /// Pulls at once, each with a server and a store of its own.
    const WORKERS: usize = 4;
    let bytes: u64 = slow_image(&Server::start()).layers.iter().map(|layer| layer.len() as u64).sum();
    let moments = moments(bytes);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let own = moments.iter().skip(worker).step_by(WORKERS);
            scope.spawn(move || {
                let server = Server::start();
                let image = slow_image(&server);
                own.for_each(|moment| killed_pull(&server, &image, *moment));
            });
        }
    });
}

/// Kills a pull; what is left is whole, and the next pull goes through and leaves nothing else.
fn killed_pull(server: &Server, image: &Image, moment: Moment) {
    let lab = fixtures::TestContext::new(env!("CARGO_BIN_EXE_runner"));
    let name = format!("{}/a/b:t", server.address());
    let before = (server.requests().len(), server.body_bytes());
    let mut command = lab.command(&["image", "pull", &name]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let store = lab.home().join("store");
    let come = || moment.has_come(server, before, &store) || child.try_wait().unwrap().is_some();
    assert!(wait_for(come), "{moment:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    lab.run(&["image", "verify"]).expect_code(0);
    let pulled = lab.run(&["image", "pull", &name]).expect_code(0).stdout_text();
    assert!(pulled.starts_with(&image.digest()), "{moment:?}: {pulled}");
    assert!(tmp_is_empty(&lab.home()), "{moment:?}");
    lab.run(&["image", "verify"]).expect_code(0);
}

/// The peak of a process's resident memory while it lives, in bytes, and its exit code.
fn peak_of(child: &mut std::process::Child) -> (u64, Option<i32>) {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let mut code = None;
    let ended = wait_for(|| {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or_default() * 1024);
        code = child.try_wait().unwrap();
        code.is_some()
    });
    assert!(ended);
    (peak, code.and_then(|code| code.code()))
}

/// Five layers at once, most of each compressed a thousandfold: the buffers of all of them fill.
#[test]
fn a_pull_of_many_layers_keeps_its_memory() {
    require!(Root, Cgroups);
    /// What issue 3 promises.
    const BYTES_MAX: u64 = 64 << 20;
    const LAYER_BYTES: usize = 8 << 20;
    let server = Server::start();
    let layer = |seed: u8| {
        let (random, same) = (noise(u32::from(seed), 2 << 20), vec![seed; LAYER_BYTES]);
        let small =
            (0..2000).fold(Tarball::new().directory("d"), |tar, number| tar.file(format!("d/{number}"), "x"));
        small.file(format!("random{seed}"), random).file(format!("same{seed}"), same).finish()
    };
    let image = Image::new(&[layer(1), layer(2), layer(3), layer(4), layer(5)]);
    image.serve(&server, "a/b", "t");
    let name = format!("{}/a/b:t", server.address());
    let lab = fixtures::TestContext::new(env!("CARGO_BIN_EXE_runner"));
    let mut command = lab.command(&["image", "pull", &name]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (peak, code) = peak_of(&mut child);
    assert_eq!(code, Some(0));
    assert!(peak < BYTES_MAX, "{} KiB", peak >> 10);
    // A small peak is no merit where nothing was done.
    assert!(peak > 4 << 20, "{} KiB", peak >> 10);
    lab.run(&["image", "verify"]).expect_code(0);
}

#[test]
fn a_full_disk_is_told_wherever_it_fills_and_leaves_the_store_whole() {
    require!(Root, Cgroups, Program("unshare"), Program("mount"));
    let server = Server::start();
    slow_image(&server);
    let name = format!("{}/a/b:t", server.address());
    let mut full = 0;
    for kilobytes in [40, 80, 120, 200, 300, 400, 500, 600, 1000] {
        let lab = fixtures::TestContext::new(env!("CARGO_BIN_EXE_runner"));
        // A private mount namespace: the small disk is nowhere else and goes with its last process.
        let script = format!(
            "mount -t tmpfs -o size={kilobytes}k tmpfs \"$RUNNER_HOME\"; \"$0\" image pull {name}; code=$?; \
             \"$0\" image verify >&2 || exit 99; test -z \"$(ls $RUNNER_HOME/store/tmp)\" || exit 98; exit $code"
        );
        let plain = lab.command(&[]);
        let mut command = std::process::Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &script])
            .arg(plain.get_program())
            .current_dir(lab.work())
            .env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = lab.finish(&mut command);
        match ran.code() {
            Some(0) => {}
            Some(3) => {
                full += 1;
                assert!(ran.stderr_text().contains("free some space"), "{}", ran.stderr_text());
            }
            other => assert_eq!(other, Some(0), "{kilobytes} KiB: {}", ran.stderr_text()),
        }
    }
    assert!((4..9).contains(&full), "{full} of 9 disks were too small");
}
