//! The step's user: a number, or a name looked up in the root filesystem's own passwd and group, by handle.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Bytes of a passwd or group file that are read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Who a step is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// For `USER`.
    pub name: String,
    /// For `HOME`.
    pub home: String,
}

/// One line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// The accounts of a root filesystem.
#[derive(Debug, Default)]
pub struct Accounts {
    users: Vec<Entry>,
    /// Names and ids of groups.
    groups: Vec<(String, u32)>,
}

impl Accounts {
    /// Reads `etc/passwd` and `etc/group` of the topmost layers that have them; `layers` from the lowest up. None is fine:
    /// numbers work.
    pub fn read(layers: &[PathBuf]) -> Self {
        let text = |path| topmost(layers, path).unwrap_or_default();
        Self {
            users: text("etc/passwd").lines().filter_map(entry).collect(),
            groups: text("etc/group").lines().filter_map(group).collect(),
        }
    }

    /// The user of an image's `USER`: a name or number, with a group's name or number after a colon. As docker has it, a
    /// number that the image does not know belongs to the group 0. `None` for a name that is not in the image.
    pub fn by_config(&self, text: &str) -> Option<StepUser> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let named = |group: &str| {
            group
                .parse()
                .ok()
                .or_else(|| self.groups.iter().find(|(name, _)| name == group).map(|(_, gid)| *gid))
        };
        let gid = match group {
            Some(group) => Some(named(group)?),
            None => None,
        };
        match user.parse::<u32>() {
            Ok(uid) => {
                let known = self.users.iter().any(|user| user.uid == uid);
                Some(self.by_id(uid, gid.or((!known).then_some(0))))
            }
            Err(_) => {
                let found = self.by_name(user)?;
                Some(StepUser { gid: gid.unwrap_or(found.gid), ..found })
            }
        }
    }

    /// The user of this number; unknown numbers get a home of `/` and no name but the number.
    pub fn by_id(&self, uid: u32, gid: Option<u32>) -> StepUser {
        let known = self.users.iter().find(|user| user.uid == uid);
        StepUser {
            uid,
            gid: gid.or(known.map(|user| user.gid)).unwrap_or(uid),
            name: known.map_or_else(
                || if uid == 0 { "root".into() } else { uid.to_string() },
                |user| user.name.clone(),
            ),
            home: known
                .map_or_else(|| if uid == 0 { "/root".into() } else { "/".into() }, |user| user.home.clone()),
        }
    }

    /// The user of this name.
    pub fn by_name(&self, name: &str) -> Option<StepUser> {
        let user = self.users.iter().find(|user| user.name == name)?;
        Some(StepUser { uid: user.uid, gid: user.gid, name: user.name.clone(), home: user.home.clone() })
    }

    /// All names, for an error message.
    pub fn names(&self) -> Vec<&str> {
        self.users.iter().map(|user| user.name.as_str()).collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    let fields: Vec<&str> = line.split(':').collect();
    let &[name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
    Some(Entry { name: name.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
}

/// One line of group(5).
fn group(line: &str) -> Option<(String, u32)> {
    let mut fields = line.split(':');
    let (name, gid) = (fields.next()?, fields.nth(1)?);
    Some((name.into(), gid.parse().ok()?))
}

/// Reads a file of the topmost layer that has it, or has deleted it.
fn topmost(layers: &[PathBuf], path: &str) -> Option<String> {
    for layer in layers.iter().rev() {
        if let Some(text) = read_inside(layer, path) {
            return Some(text);
        }
        let deleted = std::fs::symlink_metadata(layer.join(path));
        if deleted.is_ok_and(|found| found.file_type().is_char_device()) {
            return None;
        }
    }
    None
}

/// Reads a file of a layer; its symbolic links stay inside.
fn read_inside(layer: &PathBuf, path: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let root = openat(CWD, layer, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file: OwnedFd = openat2(&root, path, flags, Mode::empty(), resolve).ok()?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_from_the_topmost_passwd() {
        let dir = tempfile::tempdir().unwrap();
        let (low, high) = (dir.path().join("0"), dir.path().join("1"));
        for (layer, text) in
            [(&low, "root:x:0:0::/root:/bin/sh\n"), (&high, "app:x:7:8::/srv/app:/bin/sh\nbroken\n")]
        {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
            std::fs::write(layer.join("etc/passwd"), text).unwrap();
        }
        let accounts = Accounts::read(&[low, high]);
        let app = StepUser { uid: 7, gid: 8, name: "app".into(), home: "/srv/app".into() };
        assert_eq!(accounts.by_name("app"), Some(app.clone()));
        assert_eq!(accounts.by_id(7, None), app);
        assert_eq!(accounts.by_name("root"), None);
        assert_eq!(accounts.by_id(0, None).home, "/root");
        assert_eq!(accounts.by_id(5, None).gid, 5);
    }

    #[test]
    fn the_users_of_images_are_read_as_docker_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:7:8::/srv:/bin/sh\n")
            .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nwheel:x:10:app\n").unwrap();
        let accounts = Accounts::read(&[dir.path().to_path_buf()]);
        let ids = |text: &str| accounts.by_config(text).map(|user| (user.uid, user.gid));
        assert_eq!(ids("app"), Some((7, 8)));
        assert_eq!(ids("7"), Some((7, 8)));
        assert_eq!(ids("app:wheel"), Some((7, 10)));
        assert_eq!(ids("1000"), Some((1000, 0)));
        assert_eq!(ids("1000:1001"), Some((1000, 1001)));
        assert_eq!(ids("1000:wheel"), Some((1000, 10)));
        assert_eq!(ids("nobody-here"), None);
        assert_eq!(ids("app:no-such-group"), None);
    }
}
