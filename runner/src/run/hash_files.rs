//! `hashFiles`: one digest of all files of the workspace that globs name.
//!
//! The workspace is hostile: it is read by directory handles, never following a link. The digest is SHA-256 over a line for
//! each file, in the order of their paths: its kind, the length of its path, the path, the SHA-256 of its content, or of
//! the text of a link. Modes and times do not count: they differ between two checkouts of one commit.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};

use images::Hasher;
use jobs::glob::{BadPattern, GlobSet};
use rustix::fs::FileType;
use thiserror::Error;

use super::artifacts::{Patterns, handles};

/// Files and links that one call reads.
const FILES_MAX: u64 = 1_000_000;
/// Directories within one another; a handle is open for each.
const DEPTH_MAX: usize = 128;
/// How much is read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// Why there is no digest.
#[derive(Debug, Error)]
pub enum HashError {
    /// A glob that is none.
    #[error(transparent)]
    Glob(#[from] BadPattern),
    /// Something of the workspace cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// Relative to the workspace.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// More than anybody wants to wait for.
    #[error("more than {0} match")]
    Files(u64),
    /// Directories within one another.
    #[error("`{0}` lies deeper than {DEPTH_MAX} directories")]
    Deep(String),
}

/// Returns the digest of the files that the globs name, 64 hexadecimal digits; empty text where they name none.
///
/// # Errors
/// A bad glob, what cannot be read, more than is read.
pub fn hash_files(workspace: &OwnedFd, globs: &[String]) -> Result<String, HashError> {
    GlobSet::new(globs)?;
    let mut walk = Walk { patterns: Patterns::new(globs), all: Hasher::default(), files: 0 };
    let root = workspace.try_clone().map_err(|source| unreadable(b"", source))?;
    walk.run(root)?;
    Ok(if walk.files == 0 { String::new() } else { walk.all.finish().hex() })
}

struct Walk {
    patterns: Patterns,
    all: Hasher,
    files: u64,
}

/// A directory that is being read: its handle, its path with a slash behind it, the names that are left, last first.
struct Level {
    directory: OwnedFd,
    path: Vec<u8>,
    names: Vec<std::ffi::CString>,
}

impl Walk {
    fn run(&mut self, root: OwnedFd) -> Result<(), HashError> {
        let mut stack = vec![level(root, Vec::new())?];
        loop {
            let depth = stack.len();
            let Some(top) = stack.last_mut() else { return Ok(()) };
            let Some(name) = top.names.pop() else {
                stack.pop();
                continue;
            };
            let path = [top.path.as_slice(), name.as_bytes()].concat();
            let text = String::from_utf8_lossy(&path);
            let (matches, below) = (self.patterns.matches(&text), self.patterns.could_match_below(&text));
            if !matches && !below {
                continue;
            }
            let failed = |source| unreadable(&path, source);
            let (kind, _) = handles::describe(&top.directory, name.as_bytes()).map_err(failed)?;
            match kind {
                FileType::Directory if depth >= DEPTH_MAX => {
                    return Err(HashError::Deep(handles::show(&path)));
                }
                FileType::Directory => {
                    let directory =
                        handles::open_directory(&top.directory, name.as_bytes()).map_err(failed)?;
                    let below = level(directory, [path.as_slice(), b"/"].concat())?;
                    stack.push(below);
                }
                FileType::RegularFile if matches => {
                    let file = handles::open_file(&top.directory, name.as_bytes()).map_err(failed)?;
                    let content = content(file).map_err(failed)?;
                    self.add(b"file", &path, content)?;
                }
                FileType::Symlink if matches => {
                    let target = rustix::fs::readlinkat(&top.directory, &name, Vec::new());
                    let target = target.map_err(|errno| failed(errno.into()))?;
                    let mut content = Hasher::default();
                    content.update(target.as_bytes());
                    self.add(b"link", &path, content)?;
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, kind: &[u8], path: &[u8], content: Hasher) -> Result<(), HashError> {
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(HashError::Files(FILES_MAX));
        }
        let length = path.len().to_string();
        let digest = content.finish().hex();
        for part in [kind, b" ", length.as_bytes(), b" ", path, b" ", digest.as_bytes(), b"\n"] {
            self.all.update(part);
        }
        Ok(())
    }
}

fn level(directory: OwnedFd, path: Vec<u8>) -> Result<Level, HashError> {
    let mut names = handles::names(directory.as_fd()).map_err(|source| unreadable(&path, source))?;
    names.reverse();
    Ok(Level { directory, path, names })
}

/// A name that was a regular file a moment ago: what it is now is asked of the handle.
fn content(mut file: File) -> io::Result<Hasher> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file any more"));
    }
    let mut digest = Hasher::default();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(digest),
            count => digest.update(&block[..count]),
        }
    }
}

fn unreadable(path: &[u8], source: io::Error) -> HashError {
    let path = if path.is_empty() { ".".to_owned() } else { handles::show(path) };
    HashError::Read { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn hash(root: &Path, globs: &[&str]) -> Result<String, String> {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        hash_files(&File::open(root).unwrap().into(), &globs).map_err(|error| error.to_string())
    }

    #[test]
    fn the_digest_is_of_paths_and_contents_and_of_nothing_else() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [one.path(), two.path()] {
            fs::create_dir_all(root.join("a/b")).unwrap();
            fs::write(root.join("a/b/x.lock"), "x").unwrap();
            fs::write(root.join("y.lock"), "y").unwrap();
            fs::write(root.join("other"), root.to_str().unwrap()).unwrap();
            symlink("/etc/passwd", root.join("z.lock")).unwrap();
        }
        let first = hash(one.path(), &["**/*.lock"]).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(hash(two.path(), &["**/*.lock"]).unwrap(), first);
        assert_ne!(hash(two.path(), &["**/*.lock", "!y.lock"]).unwrap(), first);
        assert_eq!(hash(one.path(), &["*.json"]).unwrap(), "", "nothing matches");
        // The same bytes under another name, and other bytes under the same one.
        fs::rename(two.path().join("y.lock"), two.path().join("w.lock")).unwrap();
        let renamed = hash(two.path(), &["**/*.lock"]).unwrap();
        fs::write(one.path().join("y.lock"), "Y").unwrap();
        let changed = hash(one.path(), &["**/*.lock"]).unwrap();
        assert!(renamed != first && changed != first && renamed != changed);
    }

    #[test]
    fn what_cannot_be_hashed_is_told() {
        let root = tempfile::tempdir().unwrap();
        assert!(hash(root.path(), &["../x"]).unwrap_err().ends_with(" in `../x`"));
        let deep = (0..=DEPTH_MAX).fold(root.path().to_path_buf(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        assert!(hash(root.path(), &["**/x"]).unwrap_err().ends_with("lies deeper than 128 directories"));
        assert_eq!(hash(root.path(), &["d/x"]).unwrap(), "");
    }
}
