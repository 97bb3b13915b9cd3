//! The cgroup of one step.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Uid};
use rustix::io::Errno;

use super::error::CgroupError;
use super::hierarchy::Controller;
use super::limits::{CgroupEvents, CgroupLimits, CgroupUsage, IoLimits, Limit, cpu_shares, keyed};
use super::mounts::Version;
use super::oom::{self, KmsgCursor, OomWatch};
use super::processes::{self, CgroupProcess};
use super::run::{Run, RunTree};
use super::{sweep, v1, v2};
use crate::outcome::Victim;

/// How a new process gets into a cgroup.
#[derive(Debug)]
pub struct Entry {
    /// The directory for `CLONE_INTO_CGROUP`: the v2 cgroup, on a hybrid host the one that is there to kill.
    pub into: Option<OwnedFd>,
    /// v1's `tasks` files. The new process itself writes `0` to each, while it has a single thread: 45 us for all,
    /// where its pid in `cgroup.procs` costs 11 ms after an idle time.
    pub tasks: Vec<OwnedFd>,
}

/// The cgroup of one step, in every hierarchy. Dropping it kills what lives in it and removes it without waiting;
/// [`Cgroup::remove`] waits and says what stayed.
#[derive(Debug)]
pub struct Cgroup {
    run: Arc<Run>,
    name: String,
    removed: bool,
}

impl Cgroup {
    pub(super) fn create(run: Arc<Run>, name: &str, limits: &CgroupLimits) -> Result<Self, CgroupError> {
        limits.check()?;
        for (made, tree) in run.trees.iter().enumerate() {
            if let Err(source) = tree.directory.make(name) {
                for tree in &run.trees[..made] {
                    let _ = tree.directory.remove(name);
                }
                return Err(CgroupError::Make { path: tree.directory.at(name), source });
            }
        }
        let cgroup = Self { run, name: name.to_owned(), removed: false };
        if let Some(cpus) = limits.cpus {
            cgroup.limit_cpus(Some(cpus), true)?;
        }
        if let Some(weight) = limits.cpu_weight {
            cgroup.weigh_cpus(weight)?;
        }
        if let Some(io) = &limits.io {
            cgroup.limit_io(io)?;
        }
        if let Some(bytes) = limits.memory_bytes {
            cgroup.limit_memory(Some((bytes, limits.swap_bytes)))?;
        }
        if let Some(pids) = limits.pids {
            cgroup.limit_pids(Some(pids))?;
        }
        Ok(cgroup)
    }

    /// Writes other limits on CPUs, memory and processes and reads them back; `None` lifts one. Cheaper by far than a new
    /// cgroup.
    ///
    /// # Errors
    /// `Range`, `Unsupported`, `Write` (EBUSY: more memory is in use than the new limit), `NotKept`.
    pub fn set_limits(&self, limits: &CgroupLimits) -> Result<(), CgroupError> {
        limits.check()?;
        let known = |controller| self.run.tree_of(controller).is_some();
        if limits.cpus.is_some() || known(Controller::Cpu) {
            self.limit_cpus(limits.cpus, false)?;
        }
        if limits.memory_bytes.is_some() || known(Controller::Memory) {
            self.limit_memory(limits.memory_bytes.map(|bytes| (bytes, limits.swap_bytes)))?;
        }
        if limits.pids.is_some() || known(Controller::Pids) {
            self.limit_pids(limits.pids)?;
        }
        Ok(())
    }

    fn limit_cpus(&self, cpus: Option<f64>, fresh: bool) -> Result<(), CgroupError> {
        let tree = self.tree_for(Limit::Cpus, Controller::Cpu)?;
        match tree.version {
            Version::V1 => v1::limit_cpus(tree, &self.name, cpus, fresh),
            Version::V2 => v2::limit_cpus(tree, &self.name, cpus),
        }
    }

    fn weigh_cpus(&self, weight: u64) -> Result<(), CgroupError> {
        let tree = self.tree_for(Limit::CpuWeight, Controller::Cpu)?;
        let (file, value) = match tree.version {
            Version::V1 => ("cpu.shares", cpu_shares(weight)),
            Version::V2 => ("cpu.weight", weight),
        };
        let (file, text) = (format!("{}/{file}", self.name), value.to_string());
        tree.directory
            .write(&file, &text)
            .map_err(|source| v1::write_error(&tree.directory, &file, &text, source))?;
        v1::kept(tree, Limit::CpuWeight, &file, value)
    }

    fn limit_io(&self, limit: &IoLimits) -> Result<(), CgroupError> {
        let tree = self.tree_for(Limit::Io, Controller::Io)?;
        match tree.version {
            Version::V1 => v1::limit_io(tree, &self.name, limit),
            Version::V2 => v2::limit_io(tree, &self.name, limit),
        }
    }

    /// Gives it to whoever has these ids on the host, to make cgroups below; its own limits stay out of reach (cgroups(7),
    /// "Cgroup delegation"). cgroup v2 only: elsewhere nothing happens.
    ///
    /// # Errors
    /// `Write` when a file cannot change hands.
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<(), CgroupError> {
        const FILES: [&str; 4] = ["", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"];
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        for tree in self.run.trees.iter().filter(|tree| tree.version == Version::V2) {
            for file in FILES {
                let file = format!("{}{file}", self.name);
                match rustix::fs::chownat(&tree.directory, &file, owner, group, AtFlags::SYMLINK_NOFOLLOW) {
                    // `cgroup.threads` since Linux 4.14.
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(source) => {
                        let value = format!("owner {uid}:{gid}");
                        return Err(v1::write_error(&tree.directory, &file, &value, source));
                    }
                }
            }
        }
        Ok(())
    }

    fn limit_memory(&self, limit: Option<(u64, u64)>) -> Result<(), CgroupError> {
        let tree = self.tree_for(Limit::Memory, Controller::Memory)?;
        match tree.version {
            Version::V1 => v1::limit_memory(tree, &self.name, limit),
            Version::V2 => v2::limit_memory(tree, &self.name, limit),
        }
    }

    fn limit_pids(&self, limit: Option<u64>) -> Result<(), CgroupError> {
        let tree = self.tree_for(Limit::Pids, Controller::Pids)?;
        match tree.version {
            Version::V1 => v1::limit_pids(tree, &self.name, limit),
            Version::V2 => v2::limit_pids(tree, &self.name, limit),
        }
    }

    fn tree_for(&self, limit: Limit, controller: Controller) -> Result<&RunTree, CgroupError> {
        self.run.tree_of(controller).ok_or_else(|| CgroupError::Unsupported {
            limit,
            reason: format!("the `{controller}` controller is not available to this process"),
            remedy: Some("`runner doctor` says why".to_owned()),
        })
    }

    /// Opens what a new process needs to get in. The descriptors are close-on-exec and can serve many processes.
    ///
    /// # Errors
    /// `Read` when a directory or file cannot be opened: EMFILE, or somebody has removed the cgroup.
    pub fn entry(&self) -> Result<Entry, CgroupError> {
        let mut entry = Entry { into: None, tasks: Vec::with_capacity(self.run.trees.len()) };
        for tree in &self.run.trees {
            let failed = |source| CgroupError::Read { path: tree.directory.at(&self.name), source };
            match tree.version {
                Version::V1 => {
                    let file = format!("{}/tasks", self.name);
                    entry.tasks.push(tree.directory.open_to_write(&file).map_err(failed)?);
                }
                Version::V2 => {
                    let directory = tree.directory.below(&self.name).map_err(failed)?;
                    entry.into =
                        Some(directory.as_fd().try_clone_to_owned().map_err(|_| failed(Errno::MFILE))?);
                }
            }
        }
        Ok(entry)
    }

    /// Moves a process in by its pid. Slow after an idle time: for kernels without `CLONE_INTO_CGROUP`.
    ///
    /// # Errors
    /// `Write`: ESRCH when it is gone, EACCES when it is another's.
    pub fn admit(&self, pid: u32) -> Result<(), CgroupError> {
        let (file, value) = (format!("{}/cgroup.procs", self.name), pid.to_string());
        self.run.trees.iter().try_for_each(|tree| {
            tree.directory
                .write(&file, &value)
                .map_err(|source| v1::write_error(&tree.directory, &file, &value, source))
        })
    }

    /// Reads what it has used so far.
    pub fn usage(&self) -> CgroupUsage {
        let seconds = |value: u64, per_second: f64| value as f64 / per_second;
        let mut usage = CgroupUsage::default();
        if let Some(tree) = self.run.tree_of(Controller::Cpuacct) {
            match tree.version {
                Version::V1 => usage.cpu_s = self.number(tree, "cpuacct.usage").map(|ns| seconds(ns, 1e9)),
                Version::V2 => {
                    let stat = self.text(tree, "cpu.stat").unwrap_or_default();
                    usage.cpu_s = keyed(&stat, "usage_usec").map(|us| seconds(us, 1e6));
                    usage.throttled_s = keyed(&stat, "throttled_usec").map(|us| seconds(us, 1e6));
                }
            }
        }
        if let Some(tree) = self.run.tree_of(Controller::Cpu).filter(|tree| tree.version == Version::V1) {
            let stat = self.text(tree, "cpu.stat").unwrap_or_default();
            usage.throttled_s = keyed(&stat, "throttled_time").map(|ns| seconds(ns, 1e9));
        }
        if let Some(tree) = self.run.tree_of(Controller::Memory) {
            usage.mem_peak = match tree.version {
                Version::V1 => self.number(tree, "memory.max_usage_in_bytes"),
                Version::V2 => self.number(tree, "memory.peak"),
            };
        }
        if let Some(tree) = self.run.tree_of(Controller::Io) {
            let bytes = match tree.version {
                Version::V1 => {
                    self.text(tree, "blkio.throttle.io_service_bytes").and_then(|text| v1::io_bytes(&text))
                }
                Version::V2 => self.text(tree, "io.stat").map(|text| v2::io_bytes(&text)),
            };
            (usage.io_r, usage.io_w) = bytes.unzip();
        }
        usage.pids_peak = self.run.tree_of(Controller::Pids).and_then(|tree| self.number(tree, "pids.peak"));
        usage
    }

    /// Reads how often its limits were met.
    pub fn events(&self) -> CgroupEvents {
        let mut events = CgroupEvents::default();
        if let Some(tree) = self.run.tree_of(Controller::Memory) {
            match tree.version {
                Version::V1 => {
                    events.oom_kills =
                        v1::oom_kills(&self.text(tree, "memory.oom_control").unwrap_or_default());
                }
                Version::V2 => {
                    let text = self.text(tree, "memory.events").unwrap_or_default();
                    events.oom_group_kills = keyed(&text, "oom_group_kill").unwrap_or(0);
                    // The kernel counts the victim once for itself and once more as one of the group.
                    let kills = keyed(&text, "oom_kill").unwrap_or(0);
                    events.oom_kills = kills.saturating_sub(events.oom_group_kills).max(kills.min(1));
                }
            }
        }
        if let Some(tree) = self.run.tree_of(Controller::Pids) {
            events.pids_hits = keyed(&self.text(tree, "pids.events").unwrap_or_default(), "max").unwrap_or(0);
        }
        events
    }

    fn text(&self, tree: &RunTree, file: &str) -> Option<String> {
        tree.directory.read(&format!("{}/{file}", self.name)).ok()
    }

    fn number(&self, tree: &RunTree, file: &str) -> Option<u64> {
        tree.directory.read_number(&format!("{}/{file}", self.name)).ok().flatten()
    }

    /// Returns a descriptor that becomes readable when the memory limit is met, to be asked for [`Cgroup::events`].
    ///
    /// # Errors
    /// `Unsupported` without a memory controller; `Watch`: EMFILE when the user's inotify instances are used up.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        let tree = self.tree_for(Limit::Memory, Controller::Memory)?;
        OomWatch::new(tree, &self.name)
    }

    /// Returns who was killed for memory: by the kernel's log where it may be read, else the largest process that
    /// the watch saw when the limit was met.
    pub fn victim(&self, kmsg: Option<&mut KmsgCursor>, watch: Option<&OomWatch>) -> Option<Victim> {
        let from_log = kmsg.and_then(|kmsg| kmsg.killed_in(&format!("/{}/{}", self.run.name, self.name)));
        from_log.or_else(|| watch.and_then(OomWatch::largest))
    }

    /// Returns the processes that live in it. Empty where there is no cgroup at all.
    pub fn processes(&self) -> Vec<CgroupProcess> {
        self.members_tree().map_or_else(Vec::new, |tree| processes::list(&tree.directory, &self.name))
    }

    /// Returns the largest of the first processes that live in it, as a victim.
    pub(super) fn largest(&self) -> Option<Victim> {
        oom::largest(self.processes())
    }

    /// The tree to ask who lives here: each of them knows.
    fn members_tree(&self) -> Option<&RunTree> {
        self.run.trees.first()
    }

    /// Kills everything that lives in it, with SIGKILL. It does not wait until they are gone.
    ///
    /// # Errors
    /// `Write` when `cgroup.kill` or the freezer refuses.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let mut killed = false;
        for tree in self.run.trees.iter().filter(|tree| tree.kill) {
            let file = format!("{}/cgroup.kill", self.name);
            tree.directory
                .write(&file, "1")
                .map_err(|source| v1::write_error(&tree.directory, &file, "1", source))?;
            killed = true;
        }
        let frozen = |tree: &&RunTree| tree.controllers.contains(&Controller::Freezer);
        match self.run.trees.iter().find(frozen).or_else(|| self.run.trees.last()) {
            // Whoever is in no v2 cgroup, because this kernel could not start it there.
            Some(tree) if killed && tree.version == Version::V1 => {
                processes::kill_once(&tree.directory, &self.name);
                Ok(())
            }
            Some(tree) if !killed => processes::kill_frozen(tree, &self.name),
            _ => Ok(()),
        }
    }

    /// Removes it from every hierarchy, with what was made below it. Waits while the last processes go, until
    /// [`sweep::REMOVE_DEADLINE`]; does not kill.
    ///
    /// # Errors
    /// `Remove`, the first of several; it names who lives there.
    pub fn remove(mut self) -> Result<(), CgroupError> {
        self.removed = true;
        self.remove_within(sweep::REMOVE_DEADLINE)
    }

    fn remove_within(&self, deadline: std::time::Duration) -> Result<(), CgroupError> {
        let removed = self.run.trees.iter().map(|tree| sweep::remove(&tree.directory, &self.name, deadline));
        removed.collect::<Vec<_>>().into_iter().collect()
    }

    /// Whether no directory of it was made, because this process may make none.
    pub fn is_nowhere(&self) -> bool {
        self.run.trees.is_empty()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.removed {
            // The first error is the one that led here; the next call sweeps what stays.
            let _ = self.kill();
            let _ = self.remove_within(sweep::DROP_DEADLINE);
        }
    }
}
