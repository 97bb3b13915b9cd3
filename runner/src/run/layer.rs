//! The job's own topmost layer: mount points, name files and the steps' scripts, so that a step's root needs no
//! directory made and nothing mounted for them. For `image: host` it also holds the skeleton around /usr.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::run::identity;

/// Where scripts lie inside.
pub const SCRIPTS: &str = "/run/runner";

/// Parts of the host that `image: host` shows read-only besides /usr: what programs in /usr need to find their
/// libraries, alternatives and certificates.
const HOST_PARTS: [&str; 8] = [
    "/usr",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/pki",
    "/etc/ssl",
];
/// Links or directories of a host's root that belong to /usr.
const HOST_LINKS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What the layer is made for.
#[derive(Debug)]
pub struct Layer<'l> {
    /// Host name inside.
    pub hostname: &'l str,
    /// Mount points besides the fixed ones, absolute; true for directories.
    pub mount_points: Vec<(String, bool)>,
    /// File name and text.
    pub scripts: Vec<(String, &'l str)>,
    /// What resolv.conf says; nothing without a network.
    pub resolv_conf: String,
    /// The skeleton of `image: host`.
    pub host: bool,
}

/// Makes the layer in an empty directory. Returns the host's paths that are to be bound read-only.
///
/// # Errors
/// Those of the file system.
pub fn make(directory: &Path, layer: &Layer<'_>) -> io::Result<Vec<PathBuf>> {
    for (path, mode) in [
        ("", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("run", 0o755),
        ("run/runner", 0o755),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("workspace", 0o755),
    ] {
        make_directory(&directory.join(path), mode)?;
    }
    let name = layer.hostname;
    let hosts = format!("127.0.0.1 localhost {name}\n::1 localhost ip6-localhost ip6-loopback\n");
    write(directory, "etc/hosts", &hosts, 0o644)?;
    write(directory, "etc/hostname", &format!("{name}\n"), 0o644)?;
    write(directory, "etc/resolv.conf", &layer.resolv_conf, 0o644)?;
    for (script, text) in &layer.scripts {
        write(directory, &format!("run/runner/{script}"), text, 0o755)?;
    }
    let parts = if layer.host { skeleton(directory)? } else { Vec::new() };
    for (path, is_directory) in &layer.mount_points {
        // The skeleton's links lead into a part of the host, where nothing can be made.
        if !leads_through_link(directory, path) {
            mount_point(directory, path, *is_directory)?;
        }
    }
    Ok(parts)
}

/// Whether a directory above `path`, absolute inside, is a symbolic link in this tree.
pub fn leads_through_link(tree: &Path, path: &str) -> bool {
    let path = Path::new(path.trim_start_matches('/'));
    let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    above.map(|above| tree.join(above)).any(|above| above.is_symlink())
}

/// Makes a mount point and the directories above it, for every user inside whatever the caller's umask is.
fn mount_point(directory: &Path, path: &str, is_directory: bool) -> io::Result<()> {
    let path = Path::new(path.trim_start_matches('/'));
    let mut at = directory.to_path_buf();
    for name in path.parent().unwrap_or(path) {
        at.push(name);
        make_missing_directory(&at)?;
    }
    at = directory.join(path);
    if is_directory { make_missing_directory(&at) } else { fs::write(at, b"") }
}

fn make_missing_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() { Ok(()) } else { make_directory(path, 0o755) }
}

/// A root around the host's /usr: links, a home, an /etc that names nobody of the host but the caller.
fn skeleton(directory: &Path) -> io::Result<Vec<PathBuf>> {
    for (path, mode) in [
        ("home", 0o755),
        ("mnt", 0o755),
        ("opt", 0o755),
        ("root", 0o700),
        ("srv", 0o755),
        ("var", 0o755),
        ("var/tmp", 0o1777),
    ] {
        make_directory(&directory.join(path), mode)?;
    }
    let mut parts: Vec<PathBuf> = HOST_PARTS.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
    for name in HOST_LINKS {
        let on_host = Path::new("/").join(name);
        match fs::read_link(&on_host) {
            Ok(target) => symlink(target, directory.join(name))?,
            // A host whose /bin is not merged into /usr.
            Err(_) if on_host.is_dir() => parts.push(on_host),
            Err(_) => {}
        }
    }
    for part in &parts {
        let at = directory.join(part.strip_prefix("/").unwrap_or(part));
        if part.is_dir() {
            fs::create_dir_all(at)?;
        } else {
            fs::write(at, b"")?;
        }
    }
    let (name, uid, gid, group) = identity::caller();
    let mut passwd =
        String::from("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n");
    let mut groups = String::from("root:x:0:\nnogroup:x:65534:\n");
    if uid != 0 {
        passwd.push_str(&format!("{name}:x:{uid}:{gid}:{name}:/home/{name}:/bin/sh\n"));
        groups.push_str(&format!("{group}:x:{gid}:\n"));
    }
    write(directory, "etc/passwd", &passwd, 0o644)?;
    write(directory, "etc/group", &groups, 0o644)?;
    write(directory, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)?;
    Ok(parts)
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn write(directory: &Path, path: &str, text: &str, mode: u32) -> io::Result<()> {
    let at = directory.join(path);
    fs::write(&at, text)?;
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}
