//! Images in files: OCI layouts, as a directory or in a tar, and what `docker save` writes.
//!
//! Members are found by name below one directory handle or in the list of one tar; nothing is unpacked to find them.

mod docker;
mod members;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use serde::Deserialize;

pub(crate) use docker::docker_image;
use members::Members;

use crate::digest::Digest;
use crate::manifest::{Descriptor, MANIFEST_BYTES_MAX, ManifestError};

/// A layout or an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("cannot read {member} of {}: {source}", path.display())]
    Read {
        /// The layout.
        path: PathBuf,
        /// What in it.
        member: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no {expected}: {what}", path.display())]
    Wrong {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// Why it is not.
        what: String,
    },
    /// It holds several images, or none of this name.
    #[error("{} holds {found}", path.display())]
    Which {
        /// The path.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// What it says about its images is wrong.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
}

/// A directory or a tar with the parts of images in it.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Directory(std::os::fd::OwnedFd),
    Tar { file: File, members: Members },
}

/// Where the bytes of one part are.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) file: File,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl Layout {
    /// Opens the layout at `path` without reading more than a tar's headers.
    pub(crate) fn open(path: &Path) -> Result<Layout, LayoutError> {
        let failed = |source: io::Error| LayoutError::Read {
            path: path.to_owned(),
            member: "the whole".to_owned(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let handle = openat(CWD, path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let file = File::from(handle);
        let metadata = file.metadata().map_err(failed)?;
        let parts = if metadata.is_dir() {
            Parts::Directory(file.into())
        } else if metadata.is_file() {
            let members = members::read(&file, path)?;
            Parts::Tar { file, members }
        } else {
            let what = "it is neither a directory nor a regular file".to_owned();
            return Err(LayoutError::Wrong { path: path.to_owned(), expected: "image layout", what });
        };
        Ok(Layout { path: path.to_owned(), parts })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a part by its name inside.
    pub(crate) fn part(&self, name: &str) -> Result<Part, LayoutError> {
        match &self.parts {
            Parts::Directory(handle) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let opened = openat2(handle, name, flags, Mode::empty(), resolve);
                let file = File::from(opened.map_err(|errno| self.failed(name, errno.into()))?);
                let metadata = file.metadata().map_err(|error| self.failed(name, error))?;
                if !metadata.is_file() {
                    return Err(self.failed(name, io::Error::other("it is not a regular file")));
                }
                Ok(Part { start: 0, bytes: metadata.len(), file })
            }
            Parts::Tar { file, members } => {
                let (start, bytes) =
                    members.find(name).ok_or_else(|| self.failed(name, io::ErrorKind::NotFound.into()))?;
                let file = file.try_clone().map_err(|error| self.failed(name, error))?;
                Ok(Part { file, start, bytes })
            }
        }
    }

    /// Reads a small part as a whole.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, LayoutError> {
        let part = self.part(name)?;
        if part.bytes > bytes_max {
            let source =
                io::Error::other(format!("it has {} bytes, more than the limit of {bytes_max}", part.bytes));
            return Err(self.failed(name, source));
        }
        let mut bytes = vec![0; part.bytes as usize];
        part.file.read_exact_at(&mut bytes, part.start).map_err(|error| self.failed(name, error))?;
        Ok(bytes)
    }

    /// Returns the name of a blob inside.
    pub(crate) fn blob_name(digest: Digest) -> String {
        format!("blobs/sha256/{}", digest.hex())
    }

    /// Returns what the index of an OCI layout lists under `tag`, or everything without one.
    pub(crate) fn index(&self, tag: Option<&str>) -> Result<Vec<Descriptor>, LayoutError> {
        let wrong =
            |what: String| LayoutError::Wrong { path: self.path.clone(), expected: "OCI image layout", what };
        let marker = self.read("oci-layout", MANIFEST_BYTES_MAX).map_err(|error| wrong(error.to_string()))?;
        let marker: Marker = serde_json::from_slice(&marker)
            .map_err(|error| wrong(format!("its file oci-layout: {error}")))?;
        if marker.image_layout_version != "1.0.0" {
            return Err(wrong(format!("its version is {:?}, expected 1.0.0", marker.image_layout_version)));
        }
        let bytes = self.read("index.json", MANIFEST_BYTES_MAX)?;
        let manifest = |source| LayoutError::Manifest { path: self.path.clone(), source };
        let list = match crate::manifest::read(&bytes, None).map_err(manifest)? {
            crate::manifest::Document::Index(list) => list,
            crate::manifest::Document::Manifest(_) => {
                return Err(wrong("its index.json is no index".to_owned()));
            }
        };
        let Some(tag) = tag else { return Ok(list) };
        let mut names: Vec<&str> = list.iter().filter_map(Descriptor::ref_name).collect();
        names.sort_unstable();
        let found: Vec<Descriptor> =
            list.iter().filter(|entry| entry.ref_name() == Some(tag)).cloned().collect();
        if found.is_empty() {
            let found = if names.is_empty() {
                "no image that has a name".to_owned()
            } else {
                format!("{}, but no {tag}", names.join(", "))
            };
            return Err(LayoutError::Which { path: self.path.clone(), found });
        }
        Ok(found)
    }

    /// Whether several images of different names are listed: then one must be named.
    pub(crate) fn ambiguous(&self, list: &[Descriptor]) -> Option<LayoutError> {
        let mut names: Vec<&str> = list.iter().filter_map(Descriptor::ref_name).collect();
        names.sort_unstable();
        names.dedup();
        (names.len() > 1).then(|| LayoutError::Which {
            path: self.path.clone(),
            found: format!("several images: {}; name one behind a colon", names.join(", ")),
        })
    }

    fn failed(&self, member: &str, source: io::Error) -> LayoutError {
        LayoutError::Read { path: self.path.clone(), member: member.to_owned(), source }
    }
}

/// Reads the first bytes of a file.
fn magic(file: &File) -> io::Result<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut taken = Vec::new();
    file.try_clone()?.take(bytes.len() as u64).read_to_end(&mut taken)?;
    bytes[..taken.len()].copy_from_slice(&taken);
    Ok(bytes)
}
