//! Shared by the tests with a real registry: it runs on loopback, other tools fill it.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fixtures::wait_for;

/// A registry of Debian's, storing below a temporary directory.
pub struct Registry {
    pub directory: tempfile::TempDir,
    pub address: String,
    process: Child,
}

impl Registry {
    pub fn start() -> Registry {
        Registry::with("", "")
    }

    /// `auth` and `tls` are parts of its configuration, with `DIR` for its directory.
    pub fn with(auth: &str, tls: &str) -> Registry {
        let directory = tempfile::tempdir().unwrap();
        Registry::in_directory(directory, auth, tls)
    }

    pub fn in_directory(directory: tempfile::TempDir, auth: &str, tls: &str) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let path = directory.path().display().to_string();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {path}/data}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}'{tls}}}\n{auth}\n"
        );
        let config = directory.path().join("config.yml");
        std::fs::write(&config, text.replace("DIR", &path)).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Registry { directory, address, process };
        assert!(wait_for(|| TcpStream::connect(&registry.address).is_ok()), "{}", registry.log());
        registry
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Copies an image of a layout into the registry, as `skopeo copy` does.
    pub fn push(&self, layout: &Path, tag: &str, name: &str, more: &[&str]) {
        let from = format!("oci:{}:{tag}", layout.display());
        let to = format!("docker://{}/{name}", self.address);
        let mut arguments = vec!["copy", "--quiet", "--dest-tls-verify=false"];
        arguments.extend(more);
        arguments.extend([from.as_str(), to.as_str()]);
        tool("skopeo", &arguments);
    }

    /// What `skopeo inspect` says of an image: its digest.
    pub fn digest(&self, name: &str) -> String {
        let name = format!("docker://{}/{name}", self.address);
        tool("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]).trim().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a tool and returns what it prints.
pub fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes an image by umoci: each text is a shell script that changes the root filesystem and becomes a layer.
pub fn umoci_image(directory: &Path, layers: &[&str]) -> PathBuf {
    let layout = directory.join("layout");
    let image = format!("{}:t", layout.display());
    let bundle = directory.join("bundle");
    tool("umoci", &["init", "--layout", &layout.display().to_string()]);
    tool("umoci", &["new", "--image", &image]);
    for script in layers {
        umoci_unpack(&image, &bundle);
        let mut shell = Command::new("sh");
        let status = shell.args(["-euc", script]).current_dir(bundle.join("rootfs")).status().unwrap();
        assert!(status.success(), "{script}");
        tool("umoci", &["repack", "--image", &image, &bundle.display().to_string()]);
    }
    layout
}

/// Unpacks an image by umoci into `bundle`, which is removed before; the tree is in `rootfs`.
pub fn umoci_unpack(image: &str, bundle: &Path) {
    if bundle.exists() {
        std::fs::remove_dir_all(bundle).unwrap();
    }
    let mut arguments = vec!["unpack", "--image", image];
    if !rustix::process::geteuid().is_root() {
        arguments.push("--rootless");
    }
    let bundle = bundle.display().to_string();
    arguments.push(&bundle);
    tool("umoci", &arguments);
}

/// The list of a tree, without the line of its root.
pub fn listing(root: &Path) -> Vec<String> {
    use std::os::fd::AsFd as _;
    let mut list = Vec::new();
    images::record_tree(std::fs::File::open(root).unwrap().as_fd(), &mut list).unwrap();
    let mut text = String::new();
    zstd::Decoder::new(&list[..]).unwrap().read_to_string(&mut text).unwrap();
    text.lines().skip(1).map(ToOwned::to_owned).collect()
}

/// Both lists are equal, or the first differences are shown.
pub fn assert_same(ours: &[String], theirs: &[String]) {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).take(10).cloned().collect()
    };
    let (ours, theirs) = (only(ours, theirs), only(theirs, ours));
    assert!(
        ours.is_empty() && theirs.is_empty(),
        "only ours:\n{}\nonly theirs:\n{}",
        ours.join("\n"),
        theirs.join("\n")
    );
}

/// The layers of an image as one tree, mounted by overlayfs as a step's root is.
pub struct Mounted {
    pub at: tempfile::TempDir,
}

impl Mounted {
    pub fn new(layers: &[PathBuf]) -> Mounted {
        let at = tempfile::tempdir().unwrap();
        // An overlay has two lower directories at least.
        let empty = at.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        std::fs::create_dir(at.path().join("root")).unwrap();
        let lower: Vec<String> =
            layers.iter().rev().chain([&empty]).map(|path| path.display().to_string()).collect();
        let options = format!("ro,userxattr,lowerdir={}", lower.join(":"));
        let root = at.path().join("root").display().to_string();
        tool("mount", &["-t", "overlay", "-o", &options, "overlay", &root]);
        Mounted { at }
    }

    pub fn listing(&self) -> Vec<String> {
        listing(&self.at.path().join("root"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at.path().join("root")).status();
    }
}
