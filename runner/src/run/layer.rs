//! The job's own topmost layer: mount points and name files, so that a step's root needs no directory made and nothing
//! mounted for them. For `image: host` it also holds the skeleton around /usr. Here it is data; `skeleton` keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::run::identity;
use crate::run::step_files::FILES;

/// Where scripts lie inside.
pub const SCRIPTS: &str = "/run/runner/scripts";

/// Where a step finds the secrets that it names.
pub const SECRETS: &str = "/run/secrets";

/// Where the files lie by which a step hands values on; anybody inside may write there.
pub const HANDED: &str = "/run/runner/handed";

/// Where runners inside a step keep what they have: on the disk, for an overlay's upper directory cannot lie on an overlay.
pub const NESTED_HOME: &str = "/var/lib/runner";

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

/// Directories of every root.
const ALWAYS: [(&str, u32); 6] =
    [("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("run", 0o755), ("sys", 0o755), ("tmp", 0o1777)];
/// Those of steps besides.
const OF_STEPS: &[(&str, u32)] =
    &[("run/runner", 0o755), (HANDED, 0o1777), (SCRIPTS, 0o755), ("workspace", 0o755)];

/// What the layer is made for.
#[derive(Debug)]
pub struct Wishes<'l> {
    /// Host name inside.
    pub hostname: &'l str,
    /// Mount points besides the fixed ones, absolute; true for directories.
    pub mount_points: Vec<(String, bool)>,
    /// What resolv.conf says; nothing without a network.
    pub resolv_conf: String,
    /// The skeleton of `image: host`.
    pub host: bool,
    /// Names of services: all are on the loopback interface.
    pub names: Vec<String>,
    /// For steps, which have a workspace, scripts and files to hand values on by.
    pub of_step: bool,
}

/// One thing in the layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Entry {
    /// A directory with this mode.
    Directory(u32),
    /// A file of everyone's to read.
    File(String),
    /// An empty file of everyone's to write.
    Form,
    /// A symbolic link.
    Link(PathBuf),
}

/// The layer: paths relative to its root, each after the directory it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// By path. A directory's path is a prefix of what is in it, so it comes first.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// Plans the layer. Also returns the host's paths that are to be bound read-only.
pub fn plan(wishes: &Wishes<'_>) -> (Layer, Vec<PathBuf>) {
    let mut layer = Layer::default();
    for (path, mode) in ALWAYS.into_iter().chain(if wishes.of_step { OF_STEPS } else { &[] }.iter().copied())
    {
        layer.add(path, Entry::Directory(mode));
    }
    let name = wishes.hostname;
    // Services by IPv4 alone: most listen there, and not every program tries the second address of a name.
    let names: Vec<&str> = std::iter::once(name).chain(wishes.names.iter().map(String::as_str)).collect();
    let names = names.join(" ");
    layer.file(
        "etc/hosts",
        format!("127.0.0.1 localhost {names}\n::1 localhost ip6-localhost ip6-loopback\n"),
    );
    layer.file("etc/hostname", format!("{name}\n"));
    layer.file("etc/resolv.conf", wishes.resolv_conf.clone());
    for (file, _) in FILES.iter().filter(|_| wishes.of_step) {
        layer.add(format!("{HANDED}/{file}"), Entry::Form);
    }
    let parts = if wishes.host { layer.add_skeleton() } else { Vec::new() };
    for (path, is_directory) in &wishes.mount_points {
        // The skeleton's links lead into a part of the host, where nothing can be made.
        if !layer.leads_through_link(path) {
            layer.add_mount_point(path, *is_directory);
        }
    }
    (layer, parts)
}

impl Layer {
    fn add(&mut self, path: impl AsRef<Path>, entry: Entry) {
        let path = path.as_ref();
        self.entries.insert(path.strip_prefix("/").unwrap_or(path).to_path_buf(), entry);
    }

    fn file(&mut self, path: &str, text: String) {
        self.add(path, Entry::File(text));
    }

    /// Adds a mount point and the directories above it.
    fn add_mount_point(&mut self, path: &str, is_directory: bool) {
        let path = Path::new(path.trim_start_matches('/'));
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            self.entries.entry(above.to_path_buf()).or_insert(Entry::Directory(0o755));
        }
        let kind = if is_directory { Entry::Directory(0o755) } else { Entry::File(String::new()) };
        self.entries.entry(path.to_path_buf()).or_insert(kind);
    }

    fn leads_through_link(&self, path: &str) -> bool {
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors().skip(1).any(|above| matches!(self.entries.get(above), Some(Entry::Link(_))))
    }

    /// A root around the host's /usr: links, a home, an /etc that names nobody of the host but the caller.
    fn add_skeleton(&mut self) -> Vec<PathBuf> {
        for (path, mode) in [
            ("home", 0o755),
            ("mnt", 0o755),
            ("opt", 0o755),
            ("root", 0o700),
            ("srv", 0o755),
            ("var", 0o755),
            ("var/tmp", 0o1777),
        ] {
            self.add(path, Entry::Directory(mode));
        }
        let mut parts: Vec<PathBuf> =
            HOST_PARTS.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
        for name in HOST_LINKS {
            let on_host = Path::new("/").join(name);
            match fs::read_link(&on_host) {
                Ok(target) => self.add(name, Entry::Link(target)),
                // A host whose /bin is not merged into /usr.
                Err(_) if on_host.is_dir() => parts.push(on_host),
                Err(_) => {}
            }
        }
        for part in &parts {
            self.add_mount_point(&part.to_string_lossy(), part.is_dir());
        }
        let mut passwd =
            String::from("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n");
        let mut groups = String::from("root:x:0:\nnogroup:x:65534:\n");
        if !identity::caller_is_root() {
            let (name, uid, gid, group) = identity::caller();
            passwd.push_str(&format!("{name}:x:{uid}:{gid}:{name}:/home/{name}:/bin/sh\n"));
            groups.push_str(&format!("{group}:x:{gid}:\n"));
        }
        self.file("etc/passwd", passwd);
        self.file("etc/group", groups);
        self.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".into());
        parts
    }
}

/// Whether a directory above `path`, absolute inside, is a symbolic link in this tree.
pub fn leads_through_link(tree: &Path, path: &str) -> bool {
    let path = Path::new(path.trim_start_matches('/'));
    let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    above.map(|above| tree.join(above)).any(|above| above.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(mount_points: Vec<(String, bool)>, host: bool) -> Wishes<'static> {
        let (resolv_conf, names) = (String::new(), vec!["db".to_owned()]);
        Wishes { hostname: "runner", mount_points, resolv_conf, host, names, of_step: true }
    }

    #[test]
    fn everything_stands_after_the_directory_it_is_in() {
        let points = vec![("/opt/tool/bin".into(), true), ("/srv/file".into(), false)];
        let (layer, _) = plan(&wishes(points, true));
        let mut seen = vec![PathBuf::new()];
        for (path, entry) in &layer.entries {
            assert!(seen.contains(&path.parent().unwrap().to_path_buf()), "{}", path.display());
            if matches!(entry, Entry::Directory(_)) {
                seen.push(path.clone());
            }
        }
        assert_eq!(layer.entries[Path::new("opt/tool/bin")], Entry::Directory(0o755));
        assert_eq!(layer.entries[Path::new("srv/file")], Entry::File(String::new()));
    }

    #[test]
    fn services_are_known_by_name_and_have_nothing_of_steps() {
        let mut wishes = wishes(Vec::new(), false);
        let hosts = |layer: &Layer| match &layer.entries[Path::new("etc/hosts")] {
            Entry::File(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        let (layer, _) = plan(&wishes);
        assert!(hosts(&layer).starts_with("127.0.0.1 localhost runner db\n"), "{}", hosts(&layer));
        assert!(layer.entries.contains_key(Path::new("workspace")));
        wishes.of_step = false;
        let (layer, _) = plan(&wishes);
        assert!(
            !layer.entries.keys().any(|path| path.starts_with("workspace") || path.starts_with("run/runner"))
        );
    }

    #[test]
    fn a_mount_point_never_replaces_what_is_there() {
        let (layer, _) = plan(&wishes(vec![("/etc/hosts".into(), true), ("/tmp".into(), true)], false));
        assert!(matches!(&layer.entries[Path::new("etc/hosts")], Entry::File(text) if !text.is_empty()));
        assert_eq!(layer.entries[Path::new("tmp")], Entry::Directory(0o1777));
    }
}
