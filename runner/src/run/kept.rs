//! What is kept of a job of which a step failed: its root filesystem as the step left it, for a look at it afterwards.
//!
//! Nothing is copied and no process is held: the job's private directory just stays, and a file in the home's `kept` says what
//! it is. The newest few stay; each further one removes the oldest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jobs::Workspace;
use serde::{Deserialize, Serialize};

use super::errands::Servants;
use super::record::{Durability, RecordError, make_directory, read_json, write_file_atomic};
use super::traces::remove_scratch;
use crate::sandbox::ids::Identity;
use crate::sandbox::zygote::Zygote;

/// How many jobs are kept.
const KEPT_MAX: usize = 5;

/// A job that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The run.
    pub run: String,
    /// The job, with its cell.
    pub job: String,
    /// Its private directory below the home's `scratch`; names the file too.
    pub scratch: String,
    /// Whose ids its files have.
    pub identity: Identity,
    /// The steps' user inside.
    pub user: (u32, u32),
    /// The directory of the job file.
    pub base: PathBuf,
    /// The workspace was made for the job, and is kept with it.
    pub workspace: bool,
    /// The upper directories in the private one, by the step's id, in the order of the steps.
    pub steps: Vec<(String, String)>,
}

/// The directory of the files that say what is kept.
fn directory(home: &Path) -> PathBuf {
    home.join("kept")
}

impl Kept {
    /// Whether a job's workspace is its own.
    pub fn own_workspace(workspace: Workspace) -> bool {
        match workspace {
            Workspace::InPlace => false,
            Workspace::Copy | Workspace::Git | Workspace::Empty => true,
        }
    }

    /// The job's private directory.
    pub fn directory(&self, home: &Path) -> PathBuf {
        home.join("scratch").join(&self.scratch)
    }

    /// The step's root filesystem, as far as the step changed it: an upper directory of an overlay.
    pub fn upper(&self, home: &Path, step: &str) -> Option<PathBuf> {
        let (_, name) = self.steps.iter().find(|(id, _)| id == step)?;
        Some(self.directory(home).join(name).join("u"))
    }

    /// The workspace, if it is kept.
    pub fn workspace(&self, home: &Path) -> Option<PathBuf> {
        self.workspace.then(|| self.directory(home).join("workspace"))
    }

    /// Notes that it is kept, and lets go of the oldest others. Returns what could not be removed, in words.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep(&self, home: &Path, zygote: &Zygote) -> Result<Vec<String>, RecordError> {
        let directory = directory(home);
        make_directory(&directory)?;
        let path = directory.join(format!("{}.json", self.scratch));
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| RecordError::io("write", &path, io::Error::other(error)))?;
        write_file_atomic(&path, &bytes, Durability::Cheap)?;
        let all = all(home)?;
        let too_many = all.len().saturating_sub(KEPT_MAX);
        Ok(all.iter().take(too_many).filter_map(|kept| kept.release(home, zygote).err()).collect())
    }

    /// Removes it. `zygote`: in the user namespace of an ordinary user, if that is what we are.
    ///
    /// # Errors
    /// What could not be removed, in words.
    pub fn release(&self, home: &Path, zygote: &Zygote) -> Result<(), String> {
        remove_scratch(home, &Servants { zygote, identity: self.identity, user: self.user }, &self.scratch)?;
        let path = directory(home).join(format!("{}.json", self.scratch));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Everything that is kept, the oldest run first.
///
/// # Errors
/// A directory that cannot be read. A file that is not understood is passed over: another version wrote it.
pub fn all(home: &Path) -> Result<Vec<Kept>, RecordError> {
    let directory = directory(home);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| RecordError::io("read", &directory, error))?,
    };
    let mut all: Vec<Kept> = entries.flatten().filter_map(|entry| read_json(&entry.path()).ok()).collect();
    all.sort_by(|one, other| (&one.run, &one.scratch).cmp(&(&other.run, &other.scratch)));
    Ok(all)
}
