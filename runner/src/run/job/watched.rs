//! The disk watch of a step whose writes are limited.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::Job;
use super::steps::OneStep;
use crate::run::command::WORKSPACE;
use crate::run::disk::{DiskError, DiskWatch};
use crate::run::error::RunError;
use crate::run::room::Prepared;
use crate::run::step::Ended;

impl Job<'_> {
    /// Starts it, where there is a limit.
    pub(super) async fn disk_watch(
        &self,
        one: &OneStep<'_>,
        prepared: &Prepared,
    ) -> Result<Option<DiskWatch>, RunError> {
        let Some(limit) = self.plan.limits.disk_bytes else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut mounts: Vec<(String, OwnedFd)> = Vec::new();
        // The first tree is the workspace, whose handle is open.
        let written = self.plan.mounts.iter().filter(|mount| !mount.read_only);
        for (mount, tree) in written.zip(one.used.trees.iter().skip(1)) {
            let handle = openat(CWD, &tree.path, flags, Mode::empty());
            mounts.push((mount.path.clone(), handle.map_err(|errno: Errno| DiskError::from(errno))?));
        }
        let mut trees: Vec<(String, BorrowedFd<'_>)> =
            vec![(WORKSPACE.to_owned(), one.workspace.handle.as_fd())];
        trees.extend(mounts.iter().map(|(path, handle)| (path.clone(), handle.as_fd())));
        Ok(Some(DiskWatch::start(self.zygote, &prepared.upper, &trees, limit).await?))
    }

    /// Measures once more: what a step wrote between two walks counts, too. Returns the bytes.
    pub(super) async fn end_disk_watch(
        &self,
        watch: Option<DiskWatch>,
        ended: &mut Ended,
    ) -> Result<Option<u64>, RunError> {
        let Some(watch) = watch else { return Ok(None) };
        if let Some(seen) = &ended.disk {
            return Ok(Some(seen.bytes));
        }
        let limit = watch.limit;
        let used = watch.finish().await?;
        let bytes = used.bytes;
        if used.exceeds(limit) {
            ended.disk = Some(used);
        }
        Ok(Some(bytes))
    }
}
