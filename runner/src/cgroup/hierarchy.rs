//! Where this process may make cgroups, and with which controllers.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::Serialize;

use super::directory::Directory;
use super::error::CgroupError;
use super::limits::Limit;
use super::mounts::{self, Mounted, Version};
use super::run::{self, RunCgroup};
use super::sweep;

/// The leaf that v2 needs for the processes of the runner's own cgroup: a cgroup that hands controllers on must
/// be empty itself.
pub(super) const KEEPER: &str = "keeper";
/// What every run's cgroup begins with; nothing else is ever swept.
pub(super) const PREFIX: &str = "runner-";

/// A kernel controller that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// CPU quota and throttling.
    Cpu,
    /// CPU time; part of every v2 cgroup.
    Cpuacct,
    /// Memory and swap.
    Memory,
    /// Processes and threads.
    Pids,
    /// Block devices: v1 calls it blkio.
    Io,
    /// v1 only, and used only where no v2 cgroup can kill.
    Freezer,
}

impl Controller {
    /// Those that limits and usage come from.
    const WANTED: [Self; 5] = [Self::Cpu, Self::Cpuacct, Self::Memory, Self::Pids, Self::Io];

    /// Returns the kernel's name for it, in v1 or in v2.
    pub(super) const fn kernel_name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Cpu, _) => "cpu",
            (Self::Cpuacct, _) => "cpuacct",
            (Self::Memory, _) => "memory",
            (Self::Pids, _) => "pids",
            (Self::Io, Version::V1) => "blkio",
            (Self::Io, Version::V2) => "io",
            (Self::Freezer, _) => "freezer",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kernel_name(Version::V2))
    }
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only v1 hierarchies.
    V1,
    /// v1 hierarchies and a v2 one.
    Hybrid,
    /// One v2 hierarchy.
    V2,
    /// No cgroups.
    None,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
            Self::V2 => "v2",
            Self::None => "none",
        })
    }
}

/// What `run.json` and `runner doctor` tell about cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CgroupFacts {
    /// What is mounted.
    pub kind: Kind,
    /// Controllers in which this process may make cgroups.
    pub controllers: Vec<Controller>,
    /// Whether the kernel kills a whole cgroup at one word (`cgroup.kill`).
    pub kill: bool,
    /// Why a controller is missing, one sentence each.
    pub missing: Vec<String>,
    /// The directories below which cgroups are made.
    pub bases: Vec<PathBuf>,
}

/// One hierarchy with a cgroup of ours to work below.
#[derive(Debug)]
pub(super) struct Tree {
    pub version: Version,
    /// Those that limits, usage and kill take from this tree.
    pub controllers: Vec<Controller>,
    /// The directory in which run cgroups are made.
    pub base: PathBuf,
    /// v2: `cgroup.kill` is there (Linux 5.14).
    pub kill: bool,
    /// v2: the base is the root of the whole hierarchy, which may hold processes beside children.
    pub is_root: bool,
}

/// Where this process may make cgroups. Found once per run; holds no descriptors.
#[derive(Debug)]
pub struct Hierarchy {
    kind: Kind,
    pub(super) trees: Vec<Tree>,
    /// Why a controller is in no tree.
    missing: Vec<(Controller, String)>,
}

impl Hierarchy {
    /// Finds the caller's own cgroup in every hierarchy and keeps those below which it may make cgroups: opened for
    /// writing, for modes alone do not know of read-only mounts. About 60 us.
    ///
    /// # Errors
    /// `Read` when /proc does not say where the caller is. No cgroups at all is not an error.
    pub fn discover() -> Result<Self, CgroupError> {
        let read = |path: &str| {
            std::fs::read_to_string(path).map_err(|error| CgroupError::Read {
                path: path.into(),
                source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
            })
        };
        Ok(Self::among(&mounts::mounted(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)))
    }

    fn among(mounted: &[Mounted]) -> Self {
        let has = |version| mounted.iter().any(|m| m.version == version);
        let kind = match (has(Version::V1), has(Version::V2)) {
            (true, true) => Kind::Hybrid,
            (true, false) => Kind::V1,
            (false, true) => Kind::V2,
            (false, false) => Kind::None,
        };
        let mut hierarchy = Self { kind, trees: Vec::new(), missing: Vec::new() };
        // v2 first: where it can kill, no v1 freezer is needed.
        for version in [Version::V2, Version::V1] {
            for one in mounted.iter().filter(|m| m.version == version) {
                hierarchy.add(one);
            }
        }
        let unexplained = Controller::WANTED.into_iter().filter(|c| !hierarchy.explains(*c));
        let unexplained: Vec<_> = unexplained.collect();
        for controller in unexplained {
            let reason = match kind {
                Kind::None => "no cgroup filesystem is mounted".to_owned(),
                Kind::V2 => {
                    format!("the `{controller}` controller is not delegated to this process's cgroup")
                }
                Kind::V1 | Kind::Hybrid => {
                    let name = controller.kernel_name(Version::V1);
                    format!("the `{name}` controller is not mounted")
                }
            };
            hierarchy.missing.push((controller, reason));
        }
        hierarchy
    }

    fn explains(&self, controller: Controller) -> bool {
        self.tree_of(controller).is_some() || self.missing.iter().any(|(missing, _)| *missing == controller)
    }

    /// Adds a hierarchy if cgroups can be made there and it has anything that is still wanted.
    fn add(&mut self, mounted: &Mounted) {
        let wanted: Vec<Controller> = match mounted.version {
            Version::V1 => {
                let freezer = (!self.trees.iter().any(|tree| tree.kill)).then_some(Controller::Freezer);
                // A v2 cgroup counts CPU time by itself: on a hybrid host that saves the v1 one, 20 us a step.
                let bound = |c: &Controller| {
                    self.tree_of(*c).is_none()
                        && mounted.controllers.iter().any(|name| name == c.kernel_name(Version::V1))
                };
                Controller::WANTED.into_iter().chain(freezer).filter(bound).collect()
            }
            // Which ones it has is known only in its files; for a refusal all of a pure v2 host count.
            Version::V2 if self.kind == Kind::V2 => Controller::WANTED.to_vec(),
            Version::V2 => Vec::new(),
        };
        if mounted.version == Version::V1 && wanted.is_empty() {
            return;
        }
        let found = match &mounted.own {
            None => Err(format!("no mount shows this process's cgroup {}", mounted.name)),
            Some(own) => match mounted.version {
                Version::V1 => writable(own).map(|_| Tree {
                    version: Version::V1,
                    controllers: wanted.clone(),
                    base: own.clone(),
                    kill: false,
                    is_root: false,
                }),
                Version::V2 => unified(own),
            },
        };
        match found {
            Ok(tree) => self.trees.push(tree),
            Err(reason) => self.missing.extend(
                wanted.into_iter().filter(|c| *c != Controller::Freezer).map(|c| (c, reason.clone())),
            ),
        }
    }

    /// Returns the tree that a controller is used in.
    pub(super) fn tree_of(&self, controller: Controller) -> Option<usize> {
        self.trees.iter().position(|tree| tree.controllers.contains(&controller))
    }

    /// Returns what a run's record and `runner doctor` tell.
    pub fn describe(&self) -> CgroupFacts {
        let mut controllers: Vec<Controller> =
            self.trees.iter().flat_map(|tree| tree.controllers.iter().copied()).collect();
        controllers.sort_unstable();
        controllers.dedup();
        CgroupFacts {
            kind: self.kind,
            controllers,
            kill: self.trees.iter().any(|tree| tree.kill),
            missing: self
                .missing
                .iter()
                .map(|(controller, reason)| format!("{controller}: {reason}"))
                .collect(),
            bases: self.trees.iter().map(|tree| tree.base.clone()).collect(),
        }
    }

    /// Checks that a cap can be applied.
    ///
    /// # Errors
    /// `Unsupported`, with what is missing and what the user can do. Whether to go on without is the caller's.
    pub fn supports(&self, limit: Limit) -> Result<(), CgroupError> {
        let controller = match limit {
            Limit::Cpus | Limit::CpuWeight => Controller::Cpu,
            Limit::Memory | Limit::Swap => Controller::Memory,
            Limit::Pids => Controller::Pids,
            Limit::Io => Controller::Io,
        };
        if self.tree_of(controller).is_some() {
            return Ok(());
        }
        let reason = self.missing.iter().find(|(missing, _)| *missing == controller);
        let reason =
            reason.map_or_else(|| format!("no `{controller}` controller"), |(_, reason)| reason.clone());
        Err(CgroupError::Unsupported { limit, reason, remedy: Some(self.remedy().to_owned()) })
    }

    /// Returns the one command, or the one change, that brings missing controllers.
    pub fn remedy(&self) -> &'static str {
        let root = rustix::process::geteuid().is_root();
        match self.kind {
            Kind::V2 if root => {
                "start it in a scope of its own: systemd-run --scope -p Delegate=yes runner exec"
            }
            Kind::V2 if self.trees.is_empty() => {
                "start it in a scope of your own: systemd-run --user --scope -p Delegate=yes runner exec"
            }
            Kind::V2 => {
                "delegate all controllers to users: printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
                 sudo install -D /dev/stdin /etc/systemd/system/user@.service.d/delegate.conf, then log in anew"
            }
            Kind::V1 | Kind::Hybrid if root => {
                "mount the cgroup hierarchies writable, or run it outside of the container"
            }
            Kind::V1 | Kind::Hybrid => {
                "v1 cgroups are root's: run it as root, or boot with systemd.unified_cgroup_hierarchy=1"
            }
            Kind::None => "mount the cgroup filesystem: sudo mount -t cgroup2 none /sys/fs/cgroup",
        }
    }

    /// Returns the directories that a run will make, for its record: written down before they are made, a later
    /// call finds and sweeps them.
    ///
    /// # Errors
    /// `Name` for an id that cannot name a cgroup.
    pub fn paths(&self, run_id: &str) -> Result<Vec<PathBuf>, CgroupError> {
        let name = run_name(run_id)?;
        Ok(self.trees.iter().map(|tree| tree.base.join(&name)).collect())
    }

    /// Makes a run's cgroup in every hierarchy. On v2 this first moves every process of the runner's own cgroup to a
    /// leaf `keeper` beside it and enables the controllers; several runners in one delegated cgroup find that done.
    ///
    /// # Errors
    /// `Name`, `Make`, `Read`, `Write`, `Enable`; nothing is left behind.
    pub fn open_run(&self, run_id: &str) -> Result<RunCgroup, CgroupError> {
        run::open(self, run_name(run_id)?)
    }

    /// Returns the cgroups of runs that lie below this process's own, alive or orphaned.
    pub fn runs(&self) -> Vec<PathBuf> {
        let below = |tree: &Tree| std::fs::read_dir(&tree.base).into_iter().flatten().flatten();
        let names = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX);
        self.trees.iter().flat_map(below).filter(names).map(|entry| entry.path()).collect()
    }

    /// Kills whatever lives in these cgroups and removes them, inner ones first. Only directories named `runner-*` on
    /// a cgroup filesystem are touched; what is gone already counts as swept.
    pub fn sweep(paths: &[PathBuf]) -> sweep::SweepSummary {
        sweep::sweep(paths)
    }

    /// Makes and removes a cgroup in every tree, to see what modes and mounts do not say. For `runner doctor`.
    ///
    /// # Errors
    /// `Make`, `Remove`.
    pub fn try_out(&self) -> Result<(), CgroupError> {
        let name = format!("{PREFIX}probe-{}", std::process::id());
        for tree in &self.trees {
            let path = tree.base.join(&name);
            let base = Directory::open(&tree.base)
                .map_err(|source| CgroupError::Read { path: tree.base.clone(), source })?;
            base.make(&name).map_err(|source| CgroupError::Make { path: path.clone(), source })?;
            base.remove(&name).map_err(|source| CgroupError::Remove {
                path,
                source,
                holders: String::new(),
            })?;
        }
        Ok(())
    }
}

/// Opens a cgroup in which children can be made, or says why none can.
fn writable(path: &Path) -> Result<Directory, String> {
    let refused = |what: PathBuf, errno: Errno| format!("{} is not writable: {errno}", what.display());
    let directory = Directory::open(path).map_err(|errno| refused(path.to_owned(), errno))?;
    directory.is_writable().map_err(|errno| refused(path.to_owned(), errno))?;
    directory.open_to_write("cgroup.procs").map_err(|errno| refused(path.join("cgroup.procs"), errno))?;
    Ok(directory)
}

/// Looks at a v2 cgroup: its controllers, and whether the caller already stands in the leaf of a runner before it.
fn unified(own: &Path) -> Result<Tree, String> {
    let above = own.parent().filter(|_| own.file_name() == Some(OsStr::new(KEEPER)));
    let base = match above.and_then(|above| writable(above).ok()) {
        Some(base) => base,
        None => writable(own)?,
    };
    let read = |file: &str| {
        base.read(file).map_err(|errno| format!("cannot read {}: {errno}", base.at(file).display()))
    };
    // Only the root of the hierarchy has no type, and only it may have both processes and children with controllers.
    let is_root = base.open_to_read("cgroup.type").is_err();
    if !is_root {
        let kind = read("cgroup.type")?;
        if kind.trim() != "domain" {
            return Err(format!("{} is of type `{}`, not `domain`", base.path().display(), kind.trim()));
        }
    }
    let available = read("cgroup.controllers")?;
    let available = |c: &Controller| {
        *c == Controller::Cpuacct
            || available.split_whitespace().any(|name| name == c.kernel_name(Version::V2))
    };
    Ok(Tree {
        version: Version::V2,
        controllers: Controller::WANTED.into_iter().filter(available).collect(),
        kill: can_kill(),
        is_root,
        base: base.path().to_owned(),
    })
}

/// Whether v2 cgroups have `cgroup.kill`: Linux 5.14. The root of the hierarchy has none even then.
fn can_kill() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(14))
}

/// Returns the name of a run's cgroup.
fn run_name(run_id: &str) -> Result<String, CgroupError> {
    check_name(run_id)?;
    Ok(format!("{PREFIX}{run_id}"))
}

/// Checks that a name can be a directory in every hierarchy and is no path.
pub(super) fn check_name(name: &str) -> Result<(), CgroupError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(good) {
        return Ok(());
    }
    Err(CgroupError::Name { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::cgroup::CgroupLimits;

    fn mounted(text: &str, mountinfo: &str) -> Hierarchy {
        Hierarchy::among(&mounts::mounted(text, mountinfo))
    }

    #[test]
    fn what_is_missing_has_a_reason_and_a_remedy() {
        let nowhere = mounted("0::/\n", "1 2 0:3 / / rw - ext4 /dev/x rw\n");
        assert_eq!(nowhere.describe().kind, Kind::None);
        let error = nowhere.supports(Limit::Memory).expect_err("nothing is mounted");
        assert_eq!(
            error.to_string(),
            "limit `memory` cannot be applied here: no cgroup filesystem is mounted"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("mount -t cgroup2")));
        let line = "35 31 0:32 / /nowhere/memory rw - cgroup cgroup rw,memory\n";
        let v1 = mounted("4:memory:/a\n", line);
        assert_eq!((v1.describe().kind, v1.trees.len()), (Kind::V1, 0));
        let reason = |limit| v1.supports(limit).expect_err("nothing is writable").to_string();
        assert!(reason(Limit::Swap).contains("/nowhere/memory/a is not writable"), "{}", reason(Limit::Swap));
        assert!(
            reason(Limit::Pids).ends_with("the `pids` controller is not mounted"),
            "{}",
            reason(Limit::Pids)
        );
    }

    #[test]
    fn without_any_cgroup_a_run_has_none_and_no_caps() {
        let run = mounted("", "").open_run("nowhere").expect("nothing to make");
        let cgroup = run.create("step", &CgroupLimits::default()).expect("nothing to make");
        assert!(cgroup.is_nowhere() && cgroup.processes().is_empty());
        assert_eq!(cgroup.usage(), Default::default());
        assert!(cgroup.entry().is_ok_and(|entry| entry.into.is_none() && entry.tasks.is_empty()));
        assert!(cgroup.kill().is_ok() && cgroup.watch_oom().is_err());
        let limits = CgroupLimits { pids: Some(9), ..CgroupLimits::default() };
        assert!(matches!(
            run.create("capped", &limits),
            Err(CgroupError::Unsupported { limit: Limit::Pids, .. })
        ));
        assert!(cgroup.remove().is_ok() && run.remove().is_ok());
    }

    #[test]
    fn v1_alone_kills_through_the_freezer() {
        let read = |path| std::fs::read_to_string(path).expect("proc is mounted");
        let found = mounts::mounted(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let v1: Vec<Mounted> = found.into_iter().filter(|mounted| mounted.version == Version::V1).collect();
        let hierarchy = Hierarchy::among(&v1);
        if hierarchy.tree_of(Controller::Freezer).is_none() {
            eprintln!("skipped: no v1 freezer below which cgroups can be made");
            return;
        }
        let run = hierarchy.open_run(&format!("freezer-{}", std::process::id())).expect("writable");
        let cgroup = run.create("frozen", &CgroupLimits::default()).expect("writable");
        let script = "read -r go; sleep 600 & sleep 600 & wait";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        cgroup.admit(child.id()).expect("a child of ours");
        drop(child.stdin.take());
        cgroup.kill().expect("thawed again");
        let status = child.wait().expect("our child");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        cgroup.remove().expect("empty");
        run.remove().expect("empty");
    }
}
