//! A job's room: its stage, cgroup, scratch directory and users; and the sandboxes that it has ready.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use images::{Rootfs, RootfsKind};
use jobs::{JobPlan, Network as PlanNetwork, User};

use super::egress::{self, Egress, Outlook};
use super::errands::Servants;
use super::error::RunError;
use super::identity;
use super::layer::{self, Layer};
use super::users::{Accounts, StepUser};
use super::workspace::Workspace;
use crate::cgroup::{Cgroup, CgroupLimits, Hierarchy, Limit, RunCgroup};
use crate::sandbox::ids::{Identity, layer_map, step_map, workspace_map};
use crate::sandbox::ops::{self, SYS_MASKS};
use crate::sandbox::seccomp;
use crate::sandbox::spawn::{Opened, Sandbox, Stage};
use crate::sandbox::spec::{Bind, Idmap, Kind, Network, SandboxSpec, Source, StageSpec, Upper};
use crate::sandbox::sweep::{self, Rule};
use crate::sandbox::zygote::Zygote;

/// `limits.pids` when the job file has none; where no cgroup can count, only this one may be missing.
pub const PIDS_DEFAULT: u64 = 4096;
/// Device nodes of a step: name, major, minor (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// /dev/shm without a memory limit; with one, half of it. tmpfs is charged to the step either way.
const SHM_BYTES: u64 = 1 << 30;

/// What a room is made from.
#[derive(Debug)]
pub struct Plans<'p> {
    /// The plan.
    pub job: &'p JobPlan,
    /// Its root filesystem.
    pub rootfs: &'p Rootfs,
    /// The workspace.
    pub workspace: &'p Workspace,
    /// Relative mount sources start here.
    pub base: &'p Path,
    /// An empty directory of the run's own, with `upper` and `root` to come.
    pub scratch: &'p Path,
    /// Where ids come from.
    pub identity: Identity,
    /// Name of the run's cgroup.
    pub run_id: &'p str,
}

/// The room.
#[derive(Debug)]
pub struct Room {
    stage: Stage,
    cgroup: RunCgroup,
    limits: CgroupLimits,
    /// The way to the world, if the job has one.
    pub egress: Option<Egress>,
    /// Whoever each step runs as.
    pub users: Vec<StepUser>,
    identity: Identity,
    hostname: String,
    layers: usize,
    binds: Vec<Bind>,
    upper: PathBuf,
    affinity: Vec<u32>,
    /// The workspace's filesystem takes no id map: its files were given to the steps, and must be taken back.
    pub workspace_was_given: bool,
    /// What the user should know.
    pub warnings: Vec<(String, Option<String>)>,
}

/// A sandbox that waits for its go, or builds itself up to there.
#[derive(Debug)]
pub struct Prepared {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its upper directory, for removal.
    pub upper: PathBuf,
}

impl Room {
    /// Makes the room. `hierarchy`: where cgroups go.
    ///
    /// # Errors
    /// Any of [`RunError`]; what was made is undone by drop or by the traces.
    pub fn open(zygote: &Zygote, hierarchy: &Hierarchy, plans: &Plans<'_>) -> Result<Self, RunError> {
        let users = users(plans)?;
        let outlook = Outlook::of(plans.job)?;
        let (limits, mut warnings) = limits(plans.job, hierarchy)?;
        let host = plans.rootfs.kind == RootfsKind::Host;
        let mut mounts = Mounts { sources: Vec::new(), binds: Vec::new(), points: Vec::new() };
        mounts.of_the_plan(plans, users.first().map_or((0, 0), |user| (user.uid, user.gid)))?;
        let (root, upper) = (plans.scratch.join("root"), plans.scratch.join("upper"));
        for directory in [&root, &upper] {
            make_directory(directory).map_err(RunError::io("create", directory))?;
        }
        let scripts = super::command::scripts(plans.job);
        let parts = layer::make(
            &root,
            &Layer {
                hostname: &plans.job.hostname,
                mount_points: std::mem::take(&mut mounts.points),
                scripts,
                resolv_conf: resolv_conf(&plans.job.network, outlook.as_ref()),
                host,
            },
        )
        .map_err(RunError::io("write the job's layer", &root))?;
        own_layer(zygote, plans, &users, &root)?;
        let layers = mounts.of_the_root(plans, &root, &upper, &parts)?;
        let workspaces = mounts.of_the_workspace(plans, &users)?;
        let spec = StageSpec {
            identity: plans.identity,
            network: match (&plans.job.network, &outlook) {
                (_, Some(outlook)) => Network::Gated(outlook.addresses),
                (PlanNetwork::Host, None) => Network::Host,
                (PlanNetwork::None | PlanNetwork::Full | PlanNetwork::Rules(_), None) => Network::Private,
            },
            sources: mounts.sources,
            filters: seccomp::filters()?,
            sys_masks: sys_masks(),
        };
        let Opened { stage, unmapped, gate } = Stage::open(zygote, spec)?;
        let workspace_was_given = unmapped.iter().any(|index| workspaces.contains(index));
        if workspace_was_given {
            give_workspace(plans, &users);
            let text = format!("the filesystem of {} takes no id maps", plans.workspace.path.display());
            let hint = "its files change owner while steps run; `workspace: copy` avoids that".to_owned();
            warnings.push((text, Some(hint)));
        }
        let cgroup = hierarchy.open_run(plans.run_id)?;
        let egress = match &outlook {
            Some(outlook) => {
                let own = egress::cgroup(&cgroup, hierarchy, limits.cpus)?;
                Some(Egress::start(zygote, plans.job, outlook, plans.identity, gate, own)?)
            }
            None => None,
        };
        Ok(Self {
            stage,
            cgroup,
            egress,
            affinity: affinity(limits.cpus),
            limits,
            users,
            identity: plans.identity,
            hostname: plans.job.hostname.clone(),
            layers,
            binds: mounts.binds,
            upper,
            workspace_was_given,
            warnings,
        })
    }

    /// Starts to build the sandbox of the step with this index, from 0. It waits for its go when it is ready.
    ///
    /// # Errors
    /// The cgroup's or the clone's.
    pub fn prepare(&self, index: usize) -> Result<Prepared, RunError> {
        let user = self.users.get(index).map_or((0, 0), |user| (user.uid, user.gid));
        let name = format!("step-{}", index + 1);
        let upper = self.upper.join(&name);
        make_directory(&upper).map_err(RunError::io("create", &upper))?;
        let cgroup = self.cgroup.create(&name, &self.limits)?;
        let mut binds = self.binds.clone();
        binds.push(Bind { from: workspace_name(user), to: "/workspace".into(), directory: true });
        let spec = SandboxSpec {
            hostname: self.hostname.clone(),
            layers: self.layers,
            upper: Upper::Disk(name),
            binds,
            shm_bytes: self.limits.memory_bytes.map_or(SHM_BYTES, |bytes| bytes / 2),
            affinity: self.affinity.clone(),
            user,
            sweep: true,
        };
        let map = |id| step_map(self.identity, id).to_string();
        let single = self.identity == Identity::Single;
        let script = ops::script(&spec, map(user.0), map(user.1), single);
        let entry = cgroup.entry()?;
        let into = entry.into.as_ref().map(AsFd::as_fd);
        let sandbox = self.stage.build(script, into, &entry.tasks)?;
        Ok(Prepared { sandbox, cgroup, upper })
    }

    /// The limits as they are applied.
    pub fn limits(&self) -> &CgroupLimits {
        &self.limits
    }

    /// Ends the stage and the network, and removes the run's cgroup.
    ///
    /// # Errors
    /// When something still lives in it.
    pub async fn close(self) -> Result<(), RunError> {
        drop(self.stage);
        if let Some(egress) = self.egress {
            egress.close().await?;
        }
        self.cgroup.remove().map_err(RunError::from)
    }
}

/// With subids, the keeper is the step's user inside: the layer it wrote must be root's there, or the step could
/// change /etc.
fn own_layer(zygote: &Zygote, plans: &Plans<'_>, users: &[StepUser], root: &Path) -> Result<(), RunError> {
    let user = users.first().map_or((0, 0), |user| (user.uid, user.gid));
    if plans.identity == Identity::Subids && user.0 != 0 {
        let handle = fs::File::open(root).map_err(RunError::io("open", root))?;
        Servants { zygote, identity: plans.identity, user }.hand_over(handle.as_fd(), (0, 0))?;
    }
    Ok(())
}

/// What a job with this network finds in resolv.conf.
fn resolv_conf(network: &PlanNetwork, outlook: Option<&Outlook>) -> String {
    match (outlook, network) {
        (Some(outlook), _) => outlook.resolv_conf.clone(),
        (None, PlanNetwork::Host) => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        (None, PlanNetwork::None | PlanNetwork::Full | PlanNetwork::Rules(_)) => String::new(),
    }
}

/// One name per user that steps run as: each sees the workspace's owner as itself.
fn workspace_name(user: (u32, u32)) -> String {
    format!("ws/{}-{}", user.0, user.1)
}

/// Settles whom each step runs as.
fn users(plans: &Plans<'_>) -> Result<Vec<StepUser>, RunError> {
    let accounts = Accounts::read(&plans.rootfs.layers);
    let default = plans.rootfs.config.user.as_deref();
    let mut users = Vec::with_capacity(plans.job.steps.len());
    for step in &plans.job.steps {
        users.push(match (&step.user, default) {
            (Some(user), _) => settle(user, &accounts)?,
            (None, Some(name)) if !name.is_empty() => from_config(name, &accounts)?,
            (None, _) => accounts.by_id(0, None),
        });
    }
    let mut ids = users.iter().map(|user| user.uid);
    if let (Identity::Subids | Identity::Single, Some(first)) = (plans.identity, ids.next())
        && let Some(other) = ids.find(|uid| *uid != first)
    {
        return Err(RunError::Users { first, other });
    }
    Ok(users)
}

fn settle(user: &User, accounts: &Accounts) -> Result<StepUser, RunError> {
    match user {
        User::Root => Ok(accounts.by_id(0, None)),
        User::Id { uid, gid } => Ok(accounts.by_id(*uid, *gid)),
        User::Name(name) => named(name, accounts),
        User::Caller => {
            let (name, uid, gid, _) = identity::caller();
            let home = if uid == 0 { "/root".into() } else { format!("/home/{name}") };
            Ok(StepUser { uid, gid, name, home })
        }
    }
}

/// `USER` of an image: a name or number, with a group after a colon.
fn from_config(text: &str, accounts: &Accounts) -> Result<StepUser, RunError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let gid = group.and_then(|group| group.parse().ok());
    match user.parse() {
        Ok(uid) => Ok(accounts.by_id(uid, gid)),
        Err(_) => named(user, accounts),
    }
}

fn named(name: &str, accounts: &Accounts) -> Result<StepUser, RunError> {
    accounts
        .by_name(name)
        .ok_or_else(|| RunError::User { name: name.into(), known: accounts.names().join(", ") })
}

/// A limit's warning and its hint.
type Warning = (String, Option<String>);

/// The plan's limits as far as this machine can keep them. One that was asked for and cannot be kept is an error.
fn limits(job: &JobPlan, hierarchy: &Hierarchy) -> Result<(CgroupLimits, Vec<Warning>), RunError> {
    let mut limits = CgroupLimits {
        cpus: job.limits.cpus,
        memory_bytes: job.limits.memory_bytes,
        swap_bytes: job.limits.swap_bytes,
        pids: Some(job.limits.pids),
    };
    let mut warnings = Vec::new();
    for limit in limits.asked() {
        match hierarchy.supports(limit) {
            Err(error) if limit == Limit::Pids && job.limits.pids == PIDS_DEFAULT => {
                limits.pids = None;
                warnings.push((format!("no process limit: {error}"), error.hint()));
            }
            other => other?,
        }
    }
    Ok((limits, warnings))
}

/// As many CPUs as the cap needs, so that `nproc` tells the truth; which ones goes round with the process id.
fn affinity(cpus: Option<f64>) -> Vec<u32> {
    let Some(cpus) = cpus else { return Vec::new() };
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    let usable: Vec<u32> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect();
    let wanted = (cpus.ceil() as usize).max(1);
    if wanted >= usable.len() {
        return Vec::new();
    }
    usable.iter().copied().cycle().skip(std::process::id() as usize % usable.len()).take(wanted).collect()
}

/// Fixed masks of /sys, and one per CPU.
fn sys_masks() -> Vec<String> {
    let mut masks: Vec<String> = SYS_MASKS.iter().map(|path| (*path).to_owned()).collect();
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    for name in cpus.filter_map(|entry| entry.file_name().into_string().ok()) {
        let path = format!("devices/system/cpu/{name}/thermal_throttle");
        if Path::new("/sys").join(&path).is_dir() {
            masks.push(path);
        }
    }
    masks
}

/// Gives the owner's files to the steps' user: the workspace's filesystem takes no id map.
fn give_workspace(plans: &Plans<'_>, users: &[StepUser]) {
    if let (Identity::Root { base }, Some(user)) = (plans.identity, users.first()) {
        let rule = Rule::Range(plans.workspace.owner.0, 1);
        sweep::to_owner(plans.workspace.handle.as_fd(), &rule, base + user.uid, base + user.gid);
    }
}

/// Sources for the stage and binds for the steps, as they come together.
struct Mounts {
    sources: Vec<Source>,
    binds: Vec<Bind>,
    /// Mount points for the layer.
    points: Vec<(String, bool)>,
}

impl Mounts {
    /// The `mounts` of the job file.
    fn of_the_plan(&mut self, plans: &Plans<'_>, user: (u32, u32)) -> Result<(), RunError> {
        for (index, mount) in plans.job.mounts.iter().enumerate() {
            let path = plans.base.join(&mount.host);
            let wrong = |source: io::Error| RunError::Mount { path: path.clone(), source };
            let canonical = fs::canonicalize(&path).map_err(wrong)?;
            let metadata = fs::metadata(&canonical).map_err(wrong)?;
            let at = format!("b/{index}");
            let owner = (metadata.uid(), metadata.gid());
            self.source(&canonical, &at, mount.read_only, true, wished(plans.identity, owner, user))
                .map_err(wrong)?;
            // Init makes the others: a directory of ours would cover the image's link, and all that is behind it.
            if !plans.rootfs.layers.iter().any(|layer| layer::leads_through_link(layer, &mount.path)) {
                self.points.push((mount.path.clone(), metadata.is_dir()));
            }
            self.binds.push(Bind { from: at, to: mount.path.clone(), directory: metadata.is_dir() });
        }
        Ok(())
    }

    /// Layers, upper directory, device nodes, the host's parts. Returns the number of layers.
    fn of_the_root(
        &mut self,
        plans: &Plans<'_>,
        root: &Path,
        upper: &Path,
        parts: &[PathBuf],
    ) -> Result<usize, RunError> {
        let map = || layer_map(plans.identity).map_or(Idmap::None, |map| Idmap::Required(map.clone(), map));
        let layers: Vec<&Path> =
            std::iter::once(root).chain(plans.rootfs.layers.iter().rev().map(PathBuf::as_path)).collect();
        for (index, layer) in layers.iter().enumerate() {
            let path = fs::canonicalize(layer).map_err(RunError::io("find the layer", layer))?;
            self.source(&path, &format!("l/{index}"), true, false, map())
                .map_err(RunError::io("use the layer", layer))?;
        }
        let path = fs::canonicalize(upper).map_err(RunError::io("find", upper))?;
        self.source(&path, "up", false, false, map()).map_err(RunError::io("use", upper))?;
        for (index, part) in parts.iter().enumerate() {
            let at = format!("h/{index}");
            let map = layer_map(plans.identity).map_or(Idmap::None, |map| Idmap::Wished(map.clone(), map));
            let path = fs::canonicalize(part).map_err(RunError::io("find", part))?;
            self.source(&path, &at, true, false, map).map_err(RunError::io("use", part))?;
            self.binds.push(Bind { from: at, to: part.display().to_string(), directory: part.is_dir() });
        }
        for (name, major, minor) in NODES {
            self.sources.push(Source {
                path: format!("/dev/{name}"),
                at: format!("dev/{name}"),
                kind: Kind::Device { major, minor },
                read_only: false,
                recursive: false,
                idmap: Idmap::None,
            });
        }
        Ok(layers.len())
    }

    /// The workspace, once per user. Returns the indices of these sources.
    fn of_the_workspace(&mut self, plans: &Plans<'_>, users: &[StepUser]) -> Result<Vec<usize>, RunError> {
        let workspace = plans.workspace;
        let mut seen: Vec<(u32, u32)> = Vec::new();
        let mut indices = Vec::new();
        for user in users.iter().map(|user| (user.uid, user.gid)) {
            if seen.contains(&user) {
                continue;
            }
            seen.push(user);
            indices.push(self.sources.len());
            let map = wished(plans.identity, workspace.owner, user);
            self.source(&workspace.path, &workspace_name(user), false, true, map)
                .map_err(RunError::io("use the workspace", &workspace.path))?;
        }
        Ok(indices)
    }

    fn source(
        &mut self,
        path: &Path,
        at: &str,
        read_only: bool,
        recursive: bool,
        idmap: Idmap,
    ) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if metadata.file_type().is_block_device() || metadata.file_type().is_char_device() {
            return Err(io::Error::other("it is a device"));
        }
        let (device, inode) = (metadata.dev(), metadata.ino());
        let kind =
            if metadata.is_dir() { Kind::Directory { device, inode } } else { Kind::File { device, inode } };
        let path = path.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?.to_owned();
        self.sources.push(Source { path, at: at.to_owned(), kind, read_only, recursive, idmap });
        Ok(())
    }
}

/// The map that makes `owner`'s files the step user's own, if the filesystem can.
fn wished(identity: Identity, owner: (u32, u32), user: (u32, u32)) -> Idmap {
    let maps = workspace_map(identity, owner.0, user.0).zip(workspace_map(identity, owner.1, user.1));
    maps.map_or(Idmap::None, |(uids, gids)| Idmap::Wished(uids, gids))
}

/// A directory that only the keeper enters; the stage reaches it by a clone. The caller's umask must not count: init,
/// another user, has to get in.
fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
