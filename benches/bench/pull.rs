//! Pulling and unpacking a real image of five layers from a registry on this machine, and looking up one that is there.

use crate::compare::{Contender, Measured, compare};
use crate::lab::{Lab, finish};
use crate::table::Table;
use crate::targets::{Place, Targets};
use fixtures::Compression;
use fixtures::image::Image;
use images::{FetchSettings, InProcess, Reference, Resolved, Silent, Store, obtain};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// What the chapters take besides a Debian.
const WHAT_IT_TAKES: &str = "an image of a registry takes docker-registry and skopeo";
/// What is in each layer, the lowest first: directories on the way without what is in them, and then whole ones.
const LAYERS: [(&[&str], &[&str]); 5] = [
    (&[".", "./usr"], &["./bin", "./sbin", "./lib", "./etc", "./root", "./home", "./tmp", "./usr/bin"]),
    (&[".", "./usr", "./usr/lib"], &["./usr/lib/x86_64-linux-gnu", "./usr/lib/aarch64-linux-gnu"]),
    (&[".", "./usr", "./usr/share"], &["./usr/share/zoneinfo", "./usr/share/doc", "./usr/share/locale"]),
    (
        &[".", "./usr", "./usr/lib", "./usr/share"],
        &["./usr/sbin", "./usr/lib/apt", "./usr/lib/os-release", "./usr/share/perl5", "./usr/libexec"],
    ),
    (&["."], &["./var", "./opt", "./srv"]),
];
/// A file of the first layer and one of the last.
const FILES: [&str; 2] = ["etc/passwd", "var/lib/dpkg/status"];
/// Lookups of one turn: each takes some 100 microseconds.
const LOOKUPS: usize = 50;

/// Who has the image's root filesystem ready first, starting with nothing.
pub fn table(lab: &Lab, place: Place) -> Table {
    let registry = match Registry::with_image(lab) {
        Ok(registry) => registry,
        Err(reason) => return Table::left_out("ms", reason),
    };
    let name = registry.image.as_str();
    let targets = Targets::new(lab, place);
    let targets = &targets;
    let contenders = vec![
        Contender::new("runner image pull", "digests, layers unpacked side by side, synced", move || {
            let home = targets.fresh()?;
            let mut command = Command::new(&lab.runner);
            command.args(["image", "pull", name]).env("RUNNER_HOME", &home).current_dir(&home);
            timed(&mut command, || holds(&home.join("store/layers/sha256")))
        }),
        Contender::new("skopeo copy, umoci unpack", "to a layout, then one tree", move || {
            let home = targets.fresh()?;
            let (from, layout) = (format!("docker://{name}"), format!("{}:t", home.join("l").display()));
            let mut script = Command::new("sh");
            script
                .args(["-ec", "skopeo copy -q --src-tls-verify=false \"$0\" \"oci:$1\"; umoci unpack --image \"$1\" \"$2\""])
                .args([&from, &layout, &home.join("bundle").display().to_string()]);
            timed(&mut script, || holds(&home.join("bundle")))
        }),
        Contender::new("podman pull", "layers one after the other, in its store", move || {
            let home = targets.fresh()?;
            // It refuses paths of more than 50 characters here.
            let state = lab.in_memory("p");
            let mut command = Command::new("podman");
            command.arg("--root").arg(home.join("root")).arg("--runroot").arg(&state);
            command.args(["--storage-driver", "overlay", "pull", "-q", "--tls-verify=false", name]);
            let measured = timed(&mut command, || holds(&home.join("root/overlay")));
            // Its store is a mount of its own.
            let _not_mounted = Command::new("umount").arg(home.join("root/overlay")).output();
            let _gone = Command::new("rm").arg("-rf").arg(&state).status();
            measured
        }),
    ];
    let rows = compare(contenders, lab.rounds(if place == Place::Memory { 5 } else { 3 }));
    targets.remove();
    Table::new("ms", Some("runner image pull"), rows)
}

/// What it costs to find an image that was pulled before.
pub fn lookup(lab: &Lab) -> Table {
    let registry = match Registry::with_image(lab) {
        Ok(registry) => registry,
        Err(reason) => return Table::left_out("ms", reason),
    };
    let home = lab.in_memory("lookup");
    let name = registry.image.as_str();
    let run = |more: &[&str]| {
        let mut command = Command::new(&lab.runner);
        command.args(["image", "pull"]).args(more).arg(name).env("RUNNER_HOME", &home);
        command
    };
    if let Err(reason) = finish(&mut run(&[])) {
        table_note(&reason);
        return Table::left_out("ms", "the image could not be pulled");
    }
    let store = home.join("store");
    let contenders = vec![
        Contender::new("in the library", "reference, record, leases on five layers", || {
            looked_up(&store, name)
        }),
        Contender::new(
            "runner image pull --offline",
            "the same, from the start of the program to its exit",
            || timed(&mut run(&["--offline"]), || true),
        ),
    ];
    let rows = compare(contenders, lab.rounds(9));
    let _gone = fs::remove_dir_all(&home);
    Table::new("ms", None, rows)
}

fn table_note(reason: &str) {
    crate::table::say(&format!("  {reason}\n"));
}

fn looked_up(store: &Path, name: &str) -> Measured {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| words(&error))?;
    let store = Store::open(store).map_err(|error| words(&error))?;
    let reference = Reference::parse(name, Path::new("/")).map_err(|error| words(&error))?;
    let mut figures = Vec::new();
    for _ in 0..LOOKUPS {
        // Each is a run of its own: what an earlier one found out is not remembered.
        let settings =
            FetchSettings { offline: true, resolved: Resolved::default(), ..FetchSettings::default() };
        let started = Instant::now();
        let found = obtain(&reference, None, &store, Arc::new(InProcess::KEEP), &settings, Arc::new(Silent));
        let rootfs = runtime.block_on(found).map_err(|error| words(&error))?;
        figures.push(started.elapsed().as_secs_f64() * 1000.0);
        if rootfs.layers.len() < LAYERS.len() {
            return Err(format!("{} layers", rootfs.layers.len()));
        }
    }
    Ok(figures)
}

fn timed(command: &mut Command, is_there: impl Fn() -> bool) -> Measured {
    let started = Instant::now();
    finish(command)?;
    let measured = vec![started.elapsed().as_secs_f64() * 1000.0];
    is_there().then_some(measured).ok_or_else(|| "it ended well and unpacked nothing".to_owned())
}

/// Whether the files of the first and the last layer lie in some tree at most two levels below.
fn holds(directory: &Path) -> bool {
    let below = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let trees: Vec<PathBuf> =
        below(directory).iter().flat_map(|path| below(path).into_iter().chain([path.clone()])).collect();
    FILES.iter().all(|file| trees.iter().any(|tree| tree.join(file).is_file()))
}

/// A registry of Debian's with one image.
struct Registry {
    process: Child,
    image: String,
}

impl Registry {
    fn with_image(lab: &Lab) -> Result<Registry, &'static str> {
        if !fixtures::debian::available(&[]) {
            return Err(fixtures::debian::WHAT_IT_TAKES);
        }
        if !["docker-registry", "skopeo"].into_iter().all(fixtures::require::on_path) {
            return Err(WHAT_IT_TAKES);
        }
        let directory = lab.on_disk("registry");
        if !directory.join("layout").exists() {
            fs::create_dir_all(&directory).expect("the place is ours");
            Image::new(&layers(&directory)).write_layout(&directory.join("layout"));
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback").port();
        let address = format!("127.0.0.1:{port}");
        let config = directory.join("config.yml");
        let data = directory.join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            data.display()
        );
        fs::write(&config, text).expect("the place is ours");
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = serve.spawn().expect("docker-registry starts");
        let registry = Registry { process, image: format!("{address}/debian/five:t") };
        assert!(fixtures::wait_for(|| TcpStream::connect(&address).is_ok()), "the registry does not answer");
        let (from, to) =
            (format!("oci:{}:t", directory.join("layout").display()), format!("docker://{}", registry.image));
        let copied =
            finish(Command::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", &from, &to]));
        copied.map_err(|_| "skopeo could not fill the registry")?;
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// The Debian's files as five archives.
fn layers(directory: &Path) -> Vec<Vec<u8>> {
    let root = directory.join("root");
    fs::create_dir(&root).expect("the place is ours");
    let tarball = fixtures::debian::tarball(&[], Compression::None);
    finish(Command::new("tar").arg("-xf").arg(tarball).arg("-C").arg(&root))
        .expect("GNU tar unpacks a Debian");
    let layer = |(on_the_way, whole): &(&[&str], &[&str])| {
        let there = whole.iter().filter(|path| root.join(path).symlink_metadata().is_ok());
        let mut tar = Command::new("tar");
        tar.args(["--format=posix", "--numeric-owner", "-cf", "-", "-C"]).arg(&root);
        tar.arg("--no-recursion").args(*on_the_way).arg("--recursion").args(there);
        let packed = tar.output().expect("GNU tar starts");
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        packed.stdout
    };
    let layers = LAYERS.iter().map(layer).collect();
    let _gone = Command::new("rm").arg("-rf").arg(root).status();
    layers
}
