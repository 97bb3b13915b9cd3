//! Shared by the tests: unpacking into a directory inside a guard directory that must stay untouched.
#![allow(dead_code, clippy::allow_attributes, reason = "every test file uses a part of this")]

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use images::{UnpackError, UnpackOptions, UnpackSummary, unpack};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, flistxattr, openat, readlinkat, statat};

/// A root to unpack into, with files around it that an escape would change.
pub struct Playground {
    outer: tempfile::TempDir,
    around: Vec<Outside>,
}

const SECRET: &str = "untouched";

/// Everything about a file that must not change.
#[derive(Debug, PartialEq)]
struct Outside {
    path: &'static str,
    /// Inode, mode, links, owner, group.
    identity: (u64, u32, u64, u32, u32),
    /// Modification and change, with nanoseconds.
    times: [i64; 4],
    /// Text of a file, names in a directory.
    content: Vec<String>,
}

impl Outside {
    fn look(outer: &Path, path: &'static str) -> Outside {
        let here = outer.join(path);
        let stat = here.symlink_metadata().unwrap();
        let mut content = match stat.is_dir() {
            true => std::fs::read_dir(&here)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect(),
            false => vec![std::fs::read_to_string(&here).unwrap()],
        };
        content.sort();
        let identity = (stat.ino(), stat.mode(), stat.nlink(), stat.uid(), stat.gid());
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        Outside { path, identity, times, content }
    }

    fn all(outer: &Path) -> Vec<Outside> {
        [".", "outside", "secret", "outside/secret"].map(|path| Outside::look(outer, path)).into()
    }
}

impl Playground {
    /// In memory where that is possible: a disk makes deep trees slow.
    pub fn new() -> Playground {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let outer = tempfile::tempdir_in(directory).unwrap();
        std::fs::create_dir(outer.path().join("root")).unwrap();
        std::fs::create_dir(outer.path().join("outside")).unwrap();
        std::fs::write(outer.path().join("secret"), SECRET).unwrap();
        std::fs::write(outer.path().join("outside/secret"), SECRET).unwrap();
        let around = Outside::all(outer.path());
        Playground { outer, around }
    }

    pub fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    pub fn unpack(&self, archive: &[u8]) -> Result<UnpackSummary, UnpackError> {
        self.unpack_with(archive, &UnpackOptions::default())
    }

    pub fn unpack_with(&self, archive: &[u8], options: &UnpackOptions) -> Result<UnpackSummary, UnpackError> {
        let root = std::fs::File::open(self.root()).unwrap();
        let result = unpack(archive, root.as_fd(), options);
        self.assert_nothing_outside();
        result
    }

    /// Nothing around the root was made, changed, linked to, or even touched.
    pub fn assert_nothing_outside(&self) {
        assert_eq!(self.around, Outside::all(self.outer.path()), "outside the root");
    }

    /// Every path below the root, sorted. Through handles: archives make paths that are too long for a path.
    pub fn tree(&self) -> Vec<Found> {
        let mut found = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let root: OwnedFd = std::fs::File::open(self.root()).unwrap().into();
        // A directory is opened when its turn comes, so that no more handles are open than branches.
        let mut left = vec![(Rc::new(root), String::new(), b".".to_vec())];
        while let Some((parent, above, name)) = left.pop() {
            let directory = Rc::new(openat(&parent, &name[..], flags, Mode::empty()).unwrap());
            let path = if name == b"." { String::new() } else { format!("{above}{}/", shown(&name)) };
            for entry in Dir::read_from(&directory).unwrap() {
                let name = entry.unwrap().file_name().to_bytes().to_vec();
                if matches!(&name[..], b"." | b"..") {
                    continue;
                }
                let here = Found::look(&directory, &name, format!("{path}{}", shown(&name)));
                if here.kind == FileType::Directory {
                    left.push((directory.clone(), path.clone(), name));
                }
                found.push(here);
            }
        }
        found.sort_by_key(Found::line);
        found
    }

    /// The root directory itself.
    pub fn root_found(&self) -> Found {
        let outer: OwnedFd = std::fs::File::open(self.outer.path()).unwrap().into();
        Found::look(&outer, b"root", ".".to_owned())
    }

    /// Every path below the root with its kind and content, links not followed.
    pub fn listing(&self) -> BTreeMap<String, String> {
        let text = |found: &Found| match found.kind {
            FileType::Directory => "directory".to_owned(),
            FileType::Symlink => format!("-> {}", found.text()),
            FileType::RegularFile => found.text(),
            kind => format!("{kind:?}"),
        };
        self.tree().iter().map(|found| (found.path.clone(), text(found))).collect()
    }
}

impl Drop for Playground {
    /// An archive may close its directories to their owner, and `tempfile` could not open them.
    fn drop(&mut self) {
        if let Ok(outer) = std::fs::File::open(self.outer.path()) {
            let _shown_by_the_directory_that_stays = images::remove_tree(&outer, "root");
        }
    }
}

/// What lies at a path below the root.
pub struct Found {
    pub path: String,
    pub kind: FileType,
    pub stat: Stat,
    /// Content of a file, target of a link.
    pub content: Vec<u8>,
    /// Names of a file's extended attributes, or `none`.
    pub xattrs: String,
}

impl Found {
    fn look(directory: &OwnedFd, name: &[u8], path: String) -> Found {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let (mut content, mut xattrs) = (Vec::new(), "none".to_owned());
        match kind {
            FileType::RegularFile | FileType::Directory => {
                let file = openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).unwrap();
                let mut names = [0; 4096];
                let count = flistxattr(&file, &mut names).unwrap_or(0);
                if count > 0 {
                    xattrs = String::from_utf8_lossy(&names[..count]).replace('\0', " ").trim().to_owned();
                }
                if kind == FileType::RegularFile {
                    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut content).unwrap();
                }
            }
            FileType::Symlink => content = readlinkat(directory, name, Vec::new()).unwrap().into_bytes(),
            _ => {}
        }
        Found { path, kind, stat, content, xattrs }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    /// One line about it: `d/`, `a = text`, `l -> target`, `f |`.
    pub fn line(&self) -> String {
        match self.kind {
            FileType::Directory => format!("{}/", self.path),
            FileType::RegularFile => format!("{} = {}", self.path, self.text()),
            FileType::Symlink => format!("{} -> {}", self.path, self.text()),
            FileType::Fifo => format!("{} |", self.path),
            kind => format!("{} is a {kind:?}", self.path),
        }
    }

    /// Whether the content is `text` at `at` and zeros everywhere else.
    pub fn holds_only(&self, text: &str, at: usize) -> bool {
        let end = at + text.len();
        self.content.get(at..end) == Some(text.as_bytes())
            && self.content.iter().enumerate().all(|(n, byte)| (at..end).contains(&n) || *byte == 0)
    }
}

/// A name as text; one that is none, as an archive's damage may leave it, with its bytes escaped.
fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_owned(),
        Err(_) => name.escape_ascii().to_string(),
    }
}
