//! Several layers made one, as an overlay would show them: files are shared by hard links, since no layer is ever written.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, fgetxattr, fstat,
    futimens, linkat, mkdirat, openat, statat,
};
use rustix::io::Errno;

/// Deepest directory: each costs three descriptors.
const DEPTH_MAX: usize = 128;
/// Marks a directory that hides what is below it (Documentation/filesystems/overlayfs.rst).
const OPAQUE: &CStr = c"user.overlay.opaque";

/// Lays the layers, the lowest first, over one another into an empty directory.
///
/// # Errors
/// ELOOP for directories that are too deep; those of reading one and writing the other.
pub fn flatten(layers: &[BorrowedFd<'_>], target: BorrowedFd<'_>) -> Result<(), Errno> {
    layers.iter().try_for_each(|layer| lay(*layer, target, 0))
}

fn lay(source: BorrowedFd<'_>, target: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if stat.st_rdev == 0 => clear(target, name)?,
            FileType::Directory => directory(source, target, name, depth)?,
            _ => {
                clear(target, name)?;
                linkat(source, name, target, name, AtFlags::empty())?;
            }
        }
    }
    // As the last: what is put into a directory changes its times.
    let stat = fstat(source)?;
    fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime as i64, stat.st_atime_nsec as u64),
        last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
    };
    futimens(target, &times)
}

fn directory(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = openat(source, name, flags, Mode::empty())?;
    let is_directory = statat(target, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if is_opaque(&below) || !is_directory {
        clear(target, name)?;
    }
    match mkdirat(target, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let made = openat(target, name, flags, Mode::empty())?;
    lay(below.as_fd(), made.as_fd(), depth + 1)
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    matches!(fgetxattr(directory, OPAQUE, &mut value), Ok(length @ 1..) if value[..length.min(1)] == *b"y")
}

/// Removes whatever has this name.
fn clear(target: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    if statat(target, name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
        return Ok(());
    }
    use std::os::unix::ffi::OsStrExt as _;
    images::remove_tree(target, std::ffi::OsStr::from_bytes(name.to_bytes())).map_err(|error| error.errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    fn flat(layers: &[&Path], target: &Path) {
        fs::create_dir(target).unwrap();
        let open = |path: &Path| File::open(path).unwrap();
        let sources: Vec<File> = layers.iter().map(|path| open(path)).collect();
        let fds: Vec<_> = sources.iter().map(|file| file.as_fd()).collect();
        flatten(&fds, open(target).as_fd()).unwrap();
    }

    #[test]
    fn later_layers_win_and_files_are_shared() {
        let home = tempfile::tempdir().unwrap();
        let (low, high, target) =
            (home.path().join("low"), home.path().join("high"), home.path().join("flat"));
        fs::create_dir_all(low.join("a/b")).unwrap();
        fs::create_dir_all(high.join("a")).unwrap();
        for (path, text) in
            [(low.join("a/kept"), "low"), (low.join("a/b/deep"), "low"), (low.join("other"), "low")]
        {
            fs::write(path, text).unwrap();
        }
        fs::write(high.join("a/new"), "high").unwrap();
        fs::create_dir(high.join("other")).unwrap();
        fs::write(high.join("a/kept"), "high").unwrap();
        flat(&[&low, &high], &target);
        let text = |name: &str| fs::read_to_string(target.join(name)).unwrap();
        assert_eq!(
            (text("a/kept"), text("a/b/deep"), text("a/new")),
            ("high".into(), "low".into(), "high".into())
        );
        assert!(target.join("other").is_dir(), "a directory takes a file's place");
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&target.join("a/b/deep")), inode(&low.join("a/b/deep")));
    }

    #[test]
    fn what_was_deleted_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let (low, high, target) =
            (home.path().join("low"), home.path().join("high"), home.path().join("flat"));
        fs::create_dir_all(low.join("opaque")).unwrap();
        fs::create_dir_all(high.join("opaque")).unwrap();
        fs::write(low.join("opaque/old"), "").unwrap();
        fs::write(low.join("gone"), "").unwrap();
        fs::write(high.join("opaque/new"), "").unwrap();
        let marked = rustix::fs::setxattr(high.join("opaque"), OPAQUE, b"y", rustix::fs::XattrFlags::empty());
        let device = rustix::fs::mknodat(
            rustix::fs::CWD,
            high.join("gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        );
        if marked.is_err() || device.is_err() {
            // A filesystem without extended attributes has no overlays either.
            return;
        }
        flat(&[&low, &high], &target);
        let names: Vec<_> =
            fs::read_dir(target.join("opaque")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!((names, target.join("gone").exists()), (vec!["new".into()], false));
    }
}
