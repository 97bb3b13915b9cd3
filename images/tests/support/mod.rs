//! Shared by the tests: unpacking into a directory inside a guard directory that must stay untouched.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use images::{UnpackError, UnpackOptions, UnpackSummary, unpack};

/// A root to unpack into, with files around it that an escape would change.
pub struct Playground {
    outer: tempfile::TempDir,
}

const SECRET: &str = "untouched";

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
        Playground { outer }
    }

    pub fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    pub fn outside(&self) -> PathBuf {
        self.outer.path().join("outside")
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

    pub fn assert_nothing_outside(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.outer.path()), ["outside", "root", "secret"], "around the root");
        assert_eq!(names(&self.outside()), ["secret"], "outside the root");
        for path in ["secret", "outside/secret"] {
            let path = self.outer.path().join(path);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), SECRET);
            assert_eq!(path.metadata().unwrap().nlink(), 1, "a hard link to a file outside");
        }
    }

    /// Every path below the root with its kind and content, links not followed.
    pub fn listing(&self) -> BTreeMap<String, String> {
        let mut list = BTreeMap::new();
        let mut left = vec![self.root()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                let name = String::from_utf8_lossy(
                    entry.path().strip_prefix(self.root()).unwrap().as_os_str().as_bytes(),
                )
                .into_owned();
                let kind = entry.file_type().unwrap();
                let what = if kind.is_dir() {
                    left.push(entry.path());
                    "directory".to_owned()
                } else if kind.is_symlink() {
                    format!("-> {}", std::fs::read_link(entry.path()).unwrap().display())
                } else if kind.is_file() {
                    String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned()
                } else {
                    format!("{kind:?}")
                };
                list.insert(name, what);
            }
        }
        list
    }
}
