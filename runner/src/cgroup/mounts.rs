//! Which cgroup hierarchies are mounted where, and where in them this process is. Text in, values out.
//!
//! From `/proc/self/cgroup` (cgroups(7)) and `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::path::{Path, PathBuf};

/// The two kinds of hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A mounted hierarchy and the caller's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Which kind.
    pub version: Version,
    /// v1: the controllers that are bound to it. v2: empty, its files say.
    pub controllers: Vec<String>,
    /// Directory of the caller's own cgroup; `None` when no mount of the hierarchy shows it.
    pub own: Option<PathBuf>,
    /// The caller's cgroup as the kernel names it in `/proc/self/cgroup`.
    pub name: String,
}

/// One line of mountinfo that is a cgroup mount.
struct Mount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
    options: Vec<String>,
}

/// Returns the hierarchies that the caller is in and that are mounted, named v1 hierarchies without a controller
/// (`name=systemd`) left out.
pub(super) fn mounted(cgroup: &str, mountinfo: &str) -> Vec<Mounted> {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(mount).collect();
    cgroup.lines().filter_map(|line| place(line, &mounts)).collect()
}

/// Finds one line of `/proc/self/cgroup`, `ID:CONTROLLERS:PATH`, among the mounts.
fn place(line: &str, mounts: &[Mount]) -> Option<Mounted> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, name) = (fields.next()?, fields.next()?, fields.next()?);
    let version = if id == "0" && controllers.is_empty() { Version::V2 } else { Version::V1 };
    let controllers: Vec<String> = match version {
        Version::V2 => Vec::new(),
        Version::V1 => controllers.split(',').filter(|c| !c.starts_with("name=")).map(String::from).collect(),
    };
    if version == Version::V1 && controllers.iter().all(String::is_empty) {
        return None;
    }
    let same = |mount: &&Mount| {
        mount.version == version && controllers.iter().all(|controller| mount.options.contains(controller))
    };
    let mut mounts = mounts.iter().filter(same).peekable();
    mounts.peek()?;
    let own = mounts.find_map(|mount| directory(mount, name));
    Some(Mounted { version, controllers, own, name: name.to_owned() })
}

/// Returns where a mount shows the cgroup `name`, if it does: a mount may show only a part of its hierarchy.
fn directory(mount: &Mount, name: &str) -> Option<PathBuf> {
    // Outside of the caller's cgroup namespace: `/../..`.
    if name.split('/').any(|part| part == "..") {
        return None;
    }
    let below = Path::new(name).strip_prefix(&mount.root).ok()?;
    Some(if below.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(below) })
}

/// Reads one line: `ID PARENT DEV ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER_OPTIONS`.
fn mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let version = match back.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = back.nth(1)?.split(',').map(String::from).collect();
    let mut front = front.split(' ').skip(3);
    Some(Mount { version, root: unescaped(front.next()?), point: unescaped(front.next()?), options })
}

/// Undoes the kernel's `\ooo` for blanks, tabs, newlines and backslashes.
fn unescaped(field: &str) -> PathBuf {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn owns(cgroup: &str, mountinfo: &str) -> Vec<(Version, Option<String>)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        mounted(cgroup, mountinfo).into_iter().map(|m| (m.version, m.own.map(text))).collect()
    }

    #[test]
    fn a_hybrid_host_has_both() {
        let found = mounted("9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/\n0::/x\n", HYBRID);
        let own: Vec<_> =
            found.iter().map(|m| m.own.as_deref().expect("shown").display().to_string()).collect();
        assert_eq!(
            own,
            ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified/x"]
        );
        assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[2].version, Version::V2);
        assert_eq!(found[2].name, "/x");
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let container = "50 49 0:32 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(
            owns("4:memory:/docker/c1/x\n", container),
            [(Version::V1, Some("/sys/fs/cgroup/memory/x".into()))]
        );
        assert_eq!(owns("4:memory:/docker/c2\n", container), [(Version::V1, None)]);
        assert_eq!(owns("4:memory:/docker/c10\n", container), [(Version::V1, None)]);
        let namespace = "50 49 0:32 /../.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(owns("0::/\n", namespace), [(Version::V2, None)]);
        assert_eq!(owns("0::/../x\n", "50 49 0:32 / /c rw - cgroup2 cgroup rw\n"), [(Version::V2, None)]);
    }

    #[test]
    fn what_is_not_mounted_is_not_there() {
        assert_eq!(owns("4:memory:/\n3:pids:/\n0::/\n", "1 2 0:3 / / rw - ext4 /dev/x rw\n"), []);
        assert_eq!(owns("", HYBRID), []);
        assert_eq!(owns("rubbish\n::\n", HYBRID), []);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescaped("/a\\040b\\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescaped("/a\\9"), PathBuf::from("/a\\9"));
    }
}
