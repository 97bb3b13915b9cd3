//! Places to unpack to.

use crate::lab::Lab;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where it is unpacked to.
#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    /// A tmpfs.
    Memory,
    /// Where the build directory is.
    Disk,
}

/// Fresh directories. On disk they are deleted only at the end: what is deleted makes what follows slow.
pub struct Targets<'l> {
    lab: &'l Lab,
    place: Place,
    count: AtomicUsize,
}

impl<'l> Targets<'l> {
    /// None yet.
    pub fn new(lab: &'l Lab, place: Place) -> Self {
        Self { lab, place, count: AtomicUsize::new(0) }
    }

    fn base(&self) -> PathBuf {
        match self.place {
            Place::Memory => self.lab.in_memory("unpacked"),
            Place::Disk => self.lab.on_disk("unpacked"),
        }
    }

    /// One more, empty.
    pub fn fresh(&self) -> Result<PathBuf, String> {
        if self.place == Place::Memory {
            self.remove();
        }
        let target = self.base().join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&target).map_err(|error| error.to_string())?;
        Ok(target)
    }

    /// Takes them all away.
    pub fn remove(&self) {
        // `rm` and not the library: trees of many owners and modes, and no need for another opinion on them.
        let _gone = Command::new("rm").arg("-rf").arg(self.base()).status();
    }
}
