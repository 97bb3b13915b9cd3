//! The disk below the state directory and the workspace: room, rights, overlays, id maps.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::check::Check;
use super::trials;

/// Free space below which images hardly fit.
const FREE_BYTES_LOW: u64 = 2 << 30;
/// Free space below which not even records do.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Free inodes below which an image of a distribution does not fit.
const FREE_INODES_LOW: u64 = 50_000;

/// A directory for a trial, in the state directory or in the nearest one above it that is there. Its drop removes it.
#[derive(Debug)]
pub(super) struct TrialDirectory {
    path: PathBuf,
}

impl TrialDirectory {
    /// Makes it, for the owner only.
    pub(super) fn below(state: &Path) -> Result<Self, (PathBuf, Errno)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = nearest(state);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!(".runner-probe-{}-{number}", std::process::id()));
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
                Ok(()) => return Ok(Self { path }),
                // Left by one that was killed.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err((base, errno)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TrialDirectory {
    fn drop(&mut self) {
        // In an overlay's work directory the kernel leaves one of mode 0, with a whiteout in it.
        let _none = rustix::fs::chmod(self.path.join("work/work"), Mode::from_raw_mode(0o700));
        let _left = std::fs::remove_dir_all(&self.path);
    }
}

/// The path itself, or the nearest one above it that is a directory.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// Room and rights in the state directory.
pub(super) fn state(state: &Path) -> Check {
    const NAME: &str = "state directory";
    let shown = state.display();
    if let Err((base, errno)) = TrialDirectory::below(state) {
        let found = format!("{shown}: cannot write in {}: {errno}", base.display());
        return Check::fail(NAME, found, "images, records and artifacts have nowhere to go")
            .fixed_by("export RUNNER_HOME=DIRECTORY with one that you may write to");
    }
    let base = nearest(state);
    let room = match rustix::fs::statvfs(&base) {
        Ok(room) => room,
        Err(errno) => {
            return Check::warn(NAME, format!("{shown}: statvfs: {errno}"), "its free space is not known");
        }
    };
    let free = room.f_bavail * room.f_frsize;
    // Filesystems that make inodes as they go report none at all.
    let inodes = (room.f_files > 0).then_some(room.f_favail);
    let inodes_shown = inodes.map_or_else(String::new, |count| format!(" and {count} inodes"));
    let yet = if state.is_dir() { "" } else { " (made at the first run)" };
    let found = format!("{shown}{yet}, {}{inodes_shown} free", size(free));
    let fix = "export RUNNER_HOME=DIRECTORY on a larger disk, or delete old runs below runs/";
    if free < FREE_BYTES_MIN {
        return Check::fail(NAME, found, "there is no room even for a run's records").fixed_by(fix);
    }
    if free < FREE_BYTES_LOW || inodes.is_some_and(|count| count < FREE_INODES_LOW) {
        return Check::warn(NAME, found, "images of distributions may not fit").fixed_by(fix);
    }
    Check::pass(NAME, found)
}

/// `69.4 GiB`, `12 MiB`
fn size(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib >= 1.0 { format!("{gib:.1} GiB") } else { format!("{} MiB", bytes >> 20) }
}

/// Overlays in a user namespace, with their upper directory on the state directory's disk. `None` where nothing can be
/// made there: the check of the directory itself says so.
pub(super) fn overlay(state: &Path) -> Option<Check> {
    const NAME: &str = "overlayfs";
    let directory = TrialDirectory::below(state).ok()?;
    let on_disk = trials::fill_overlay_base(directory.path())
        .map_err(|errno| trials::Refusal { what: "making its directories", errno })
        .and_then(|()| trials::overlay(directory.path(), false));
    let Err(on_disk) = on_disk else {
        return Some(Check::pass(NAME, "in a user namespace, with upper directories on disk"));
    };
    Some(match trials::overlay(directory.path(), true) {
        Ok(()) => Check::warn(
            NAME,
            format!("with upper directories in memory only; on disk: {on_disk}"),
            "what steps write outside of the workspace counts as their memory",
        )
        .fixed_by("export RUNNER_HOME=DIRECTORY on ext4, xfs, btrfs or tmpfs"),
        Err(refusal) => Check::fail(NAME, refusal.to_string(), "steps cannot get a root of their own")
            .fixed_by("sudo modprobe overlay"),
    })
}

/// Id-mapped mounts, which only root can make: of layers in the state directory, and of the workspace.
pub(super) fn idmapped(state: &Path, workspace: &Path) -> Check {
    const NAME: &str = "id-mapped mounts";
    if !rustix::process::geteuid().is_root() || super::own_ids().is_some() {
        return Check::pass(NAME, "not needed: files are your own");
    }
    let state = nearest(state);
    if let Err(refusal) = trials::idmapped_mount(&state) {
        let found = format!("not on the disk of {}: {refusal}", state.display());
        return Check::fail(NAME, found, "steps cannot see the files of images as their own")
            .fixed_by("export RUNNER_HOME=DIRECTORY on ext4, xfs or btrfs");
    }
    match trials::idmapped_mount(workspace) {
        Ok(()) => Check::pass(NAME, "on the disks of the state directory and of the workspace"),
        Err(refusal) => Check::warn(
            NAME,
            format!("on the disk of the state directory; not on that of {}: {refusal}", workspace.display()),
            "files of the workspace change owner while steps run, and back at the end",
        )
        .fixed_by("set `workspace: copy` in the job file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_no_directory() {
        let base = tempfile::tempdir().unwrap();
        let check = overlay(&base.path().join("not/yet/there"));
        assert!(check.is_some_and(|check| check.name == "overlayfs"));
        let state = state(&base.path().join("not/yet/there"));
        assert!(state.found.contains("(made at the first run)"), "{state:?}");
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_no_place_is_a_failure() {
        let check = state(Path::new("/proc/self/nowhere"));
        assert_eq!(check.status, crate::host::Status::Fail, "{check:?}");
        assert!(check.fix.is_some());
    }
}
