//! The files that a job file names, read for it: from the project, or by digest from the network.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use images::{Digest, FetchSettings, ImageUrl, fetch_document};
use jobs::bounds::FILE_BYTES_MAX;
use jobs::{Files, Wanted, WorkTree};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

use crate::run::git;
use crate::run::record::IncludedFile;

/// Reads files, and keeps them: what was run is recorded.
pub(super) struct NamedFiles {
    /// How those of the network are come by.
    fetch: FetchSettings,
    /// All of them lie in the project: nobody vouches for the job file, and what it reads it can show.
    confined: bool,
    /// The project.
    root: PathBuf,
    /// What was read, in this order.
    pub read: Vec<IncludedFile>,
}

impl NamedFiles {
    /// For a job file in this project; `confined`: they must not leave it.
    pub fn new(fetch: FetchSettings, root: PathBuf, confined: bool) -> Self {
        Self { fetch, confined, root, read: Vec::new() }
    }

    fn fetched(&self, name: &str) -> Result<Vec<u8>, String> {
        if self.fetch.offline {
            return Err("it comes from the network, and `--offline` says not to go there".to_owned());
        }
        let url = ImageUrl::parse(name).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let fetched = runtime.block_on(fetch_document(&url, FILE_BYTES_MAX as u64, &self.fetch));
        fetched.map_err(|error| error.to_string())
    }

    fn opened(&self, name: &str) -> Result<Vec<u8>, String> {
        let file = match self.confined {
            true => beneath(&self.root, Path::new(name))?,
            false => open(name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
                .map(File::from)
                .map_err(|errno| words(&errno.into()))?,
        };
        let metadata = file.metadata().map_err(|error| words(&error))?;
        if !metadata.is_file() {
            return Err("it is no file".to_owned());
        }
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| words(&error))?;
        Ok(bytes)
    }
}

impl Files for NamedFiles {
    fn read(&mut self, wanted: &Wanted<'_>) -> Result<Vec<u8>, String> {
        let remote = wanted.name.starts_with("https://");
        let bytes = if remote { self.fetched(wanted.name)? } else { self.opened(wanted.name)? };
        let digest = Digest::of(&bytes).hex();
        if let Some(expected) = wanted.sha256.filter(|expected| *expected != digest) {
            return Err(format!("its SHA-256 is {digest}, not {expected}"));
        }
        let name = wanted.name.to_owned();
        self.read.push(IncludedFile { name, sha256: digest, text: bytes.clone() });
        Ok(bytes)
    }

    fn work_tree(&mut self) -> Result<WorkTree, String> {
        git::work_tree(&self.root).map_err(|error| error.to_string())
    }
}

/// Opens a file below a directory; links lead nowhere else.
fn beneath(root: &Path, path: &Path) -> Result<File, String> {
    let outside =
        || "it lies outside of the project, which the file of an untrusted job must not leave".to_owned();
    let absolute = lexical(&std::path::absolute(path).map_err(|error| words(&error))?);
    let root = lexical(root);
    let below = absolute.strip_prefix(&root).map_err(|_| outside())?;
    let directory = open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let directory = directory.map_err(|errno| words(&errno.into()))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(&directory, below, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(File::from(file)),
        Err(rustix::io::Errno::XDEV) => Err(outside()),
        Err(errno) => Err(words(&errno.into())),
    }
}

/// Returns an absolute path without `..`, by its text.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_untrusted_file_names_none_outside_of_its_project() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("project");
        std::fs::create_dir_all(root.join("ci")).unwrap();
        std::fs::write(root.join("ci/x.yml"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        symlink(dir.path().join("secret"), root.join("link")).unwrap();
        symlink("ci/x.yml", root.join("inner")).unwrap();
        let path = |name: &str| root.join(name).display().to_string();
        let mut confined = NamedFiles::new(FetchSettings::default(), root.clone(), true);
        let mut read = |name: &str| confined.read(&Wanted { name: &path(name), sha256: None });
        assert_eq!(read("ci/x.yml").unwrap(), b"x");
        assert_eq!(read("ci/../inner").unwrap(), b"x");
        for name in ["../secret", "link", "/etc/passwd", "ci/../../secret"] {
            let error = read(name).unwrap_err();
            assert!(error.contains("outside of the project"), "{name}: {error}");
        }
        assert_eq!(read("ci").unwrap_err(), "it is no file");
        assert_eq!(read("missing").unwrap_err(), "it is not there");
        let mut free = NamedFiles::new(FetchSettings::default(), root.clone(), false);
        assert_eq!(free.read(&Wanted { name: &path("link"), sha256: None }).unwrap(), b"s");
        let wrong = free.read(&Wanted { name: &path("link"), sha256: Some("00") }).unwrap_err();
        assert!(wrong.starts_with("its SHA-256 is ") && wrong.ends_with(", not 00"), "{wrong}");
        assert_eq!(free.read.len(), 1, "what is refused is not kept");
    }
}
