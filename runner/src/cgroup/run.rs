//! The cgroup of one run: an empty parent in every hierarchy, below which each step gets its own.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::directory::Directory;
use super::error::CgroupError;
use super::hierarchy::{Controller, Hierarchy, Tree, check_name};
use super::leaf::Cgroup;
use super::limits::CgroupLimits;
use super::mounts::Version;
use super::{sweep, v1, v2};

/// A run's directory in one hierarchy.
#[derive(Debug)]
pub(super) struct RunTree {
    pub version: Version,
    pub controllers: Vec<Controller>,
    /// `cgroup.kill` is there.
    pub kill: bool,
    /// The run's directory: steps' cgroups are made in it.
    pub directory: Directory,
    /// The directory that it lies in.
    base: Directory,
}

/// All directories of a run; the run and each of its steps' cgroups share them.
#[derive(Debug)]
pub(super) struct Run {
    pub name: String,
    /// In the order of [`Hierarchy`]: v2 first.
    pub trees: Vec<RunTree>,
}

impl Run {
    /// Returns the tree that a controller is used in.
    pub(super) fn tree_of(&self, controller: Controller) -> Option<&RunTree> {
        self.trees.iter().find(|tree| tree.controllers.contains(&controller))
    }
}

/// The cgroup of a run. Dropping it removes what is empty; [`RunCgroup::remove`] also says what is not.
#[derive(Debug)]
pub struct RunCgroup {
    run: Arc<Run>,
    removed: bool,
}

impl RunCgroup {
    /// Makes a cgroup for one step, writes its limits and reads them back. Cheap enough for every step:
    /// docs/limits.md has the figures. Where nothing is delegated and no limit asked, it is a cgroup without any
    /// directory: it cannot kill and knows no usage.
    ///
    /// # Errors
    /// `Name`, `Range`, `Unsupported`, `Make`, `Write`, `NotKept`; nothing is left behind.
    pub fn create(&self, name: &str, limits: &CgroupLimits) -> Result<Cgroup, CgroupError> {
        check_name(name)?;
        Cgroup::create(Arc::clone(&self.run), name, limits)
    }

    /// Returns the run's directories, one in each hierarchy.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.run.trees.iter().map(|tree| tree.directory.path().to_owned()).collect()
    }

    /// Removes the run's cgroup and whatever is still below it; what lives there is killed. May wait.
    ///
    /// # Errors
    /// `Remove`, the first of several; the others are removed all the same.
    pub fn remove(mut self) -> Result<(), CgroupError> {
        self.removed = true;
        let gone = self.run.trees.iter().map(|tree| tree.base.remove(&self.run.name));
        // The fast path: every step's cgroup is gone already.
        if gone.filter(|result| !matches!(result, Ok(()) | Err(Errno::NOENT))).count() == 0 {
            return Ok(());
        }
        sweep::sweep(&self.paths()).left.into_iter().next().map_or(Ok(()), Err)
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        if !self.removed {
            for tree in &self.run.trees {
                // The first error is the one that led here; the next call sweeps what stays.
                let _ = tree.base.remove(&self.run.name);
            }
        }
    }
}

/// Makes the run's directories.
pub(super) fn open(hierarchy: &Hierarchy, name: String) -> Result<RunCgroup, CgroupError> {
    let mut run = RunCgroup { run: Arc::new(Run { name, trees: Vec::new() }), removed: false };
    for tree in &hierarchy.trees {
        // The run drops what was made so far when one of them fails.
        let shared = Arc::get_mut(&mut run.run).expect("no step has a share yet");
        let made = make(tree, &shared.name)?;
        shared.trees.push(made);
        prepare(shared.trees.last().expect("just pushed"))?;
    }
    Ok(run)
}

/// Makes one directory, after v2's own cgroup has been readied for children with controllers.
fn make(tree: &Tree, name: &str) -> Result<RunTree, CgroupError> {
    let read = |source| CgroupError::Read { path: tree.base.clone(), source };
    let base = Directory::open(&tree.base).map_err(read)?;
    if tree.version == Version::V2 {
        v2::hand_on(&base, &tree.controllers, tree.is_root)?;
    }
    let path = tree.base.join(name);
    base.make(name).map_err(|source| CgroupError::Make { path: path.clone(), source })?;
    let directory = base.below(name).map_err(|source| {
        let _ = base.remove(name);
        CgroupError::Read { path, source }
    })?;
    let controllers = tree.controllers.clone();
    Ok(RunTree { version: tree.version, controllers, kill: tree.kill, directory, base })
}

/// Readies the run's directory for the steps' cgroups.
fn prepare(tree: &RunTree) -> Result<(), CgroupError> {
    match tree.version {
        Version::V1 => v1::account_below(&tree.directory, &tree.controllers),
        Version::V2 => v2::hand_on(&tree.directory, &tree.controllers, false),
    }
}
