//! A job's room: its stage, cgroup, scratch directory and users; and the sandboxes that it has ready.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use images::{Rootfs, RootfsKind};
use jobs::{JobPlan, Network as PlanNetwork, StepPlan, User};

use super::caches::Use;
use super::caps::{Warning, limits};
use super::egress::{self, Egress, Outlook};
use super::errands::Servants;
use super::error::RunError;
use super::identity;
use super::layer::{self, NESTED_HOME, Wishes};
use super::machine::{self, Processors};
use super::rights::{JobRights, StepRights};
use super::secret_files;
use super::secrets::Secrets;
use super::services::Service;
use super::skeleton::{self, Skeleton};
use super::users::{Accounts, StepUser};
use super::workspace::Workspace;
use crate::cgroup::{Cgroup, CgroupLimits, Hierarchy, RunCgroup};
use crate::sandbox::ids::{Identity, layer_map, step_map, workspace_map};
use crate::sandbox::ops::{self, SYS_MASKS};
use crate::sandbox::spawn::{Sandbox, SandboxError, Stage};
use crate::sandbox::spec::{Bind, Network, SandboxSpec, SharedMaps, StageOpening, StageSpec, Upper};
use crate::sandbox::sweep::{self, Rule, Since, Sweep};
use crate::sandbox::zygote::Zygote;

mod mounts;
mod quarters;

use mounts::Mounts;
use quarters::Quarters;
pub use quarters::unit_of_service;

/// Device nodes of a step: name, major, minor (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// The device of user-mode networks, character device 10:200 (Documentation/networking/tuntap.rst).
const TUN_INSIDE: &str = "/dev/net/tun";
/// Its place in the stage.
const TUN: &str = "tun";
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
    /// The home directory.
    pub home: &'p Path,
    /// A directory of the run's own, for upper directories.
    pub scratch: &'p Path,
    /// Where ids come from.
    pub identity: Identity,
    /// Name of the job's cgroup.
    pub unit: &'p str,
    /// Its number among the run's jobs, from 0.
    pub number: usize,
    /// When the job began.
    pub since: Since,
    /// What steps may be shown.
    pub secrets: &'p Secrets,
    /// A layer over all others.
    pub above: Option<&'p Path>,
    /// What runs beside the steps.
    pub services: &'p [Service<'p>],
    /// Directories that outlive the job.
    pub caches: &'p [Use],
}

/// The room.
#[derive(Debug)]
pub struct Room {
    stage: Stage,
    cgroup: RunCgroup,
    /// The way to the world, if the job has one.
    pub egress: Option<Egress>,
    _skeleton: Skeleton,
    limits: CgroupLimits,
    /// Whoever each step runs as.
    pub users: Vec<StepUser>,
    rights: Vec<StepRights>,
    /// The stage has a tun device for steps with sandboxes of their own.
    tun: bool,
    identity: Identity,
    hostname: String,
    layers: usize,
    binds: Vec<Bind>,
    /// Binds whose source exists once per user.
    per_user: Vec<Bind>,
    /// What lies over all others.
    topmost: Vec<Bind>,
    hand_back: Vec<String>,
    since: Since,
    scratch: PathBuf,
    affinity: Vec<u32>,
    /// The workspace's filesystem takes no id map: its files were given to the steps, and must be taken back.
    pub workspace_was_given: bool,
    /// What the user should know.
    pub warnings: Vec<(String, Option<String>)>,
    /// The directories of secrets that there are: each is a step's or a service's.
    with_secrets: HashSet<String>,
    /// What services have for themselves, in their order.
    quarters: Vec<Quarters>,
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
    /// Makes the room. `stage`: opened for the job; `hierarchy`: where cgroups go.
    ///
    /// # Errors
    /// Any of [`RunError`]; what was made is undone by drop or by the traces.
    pub fn open(
        zygote: &Zygote,
        OpenStage { stage, outlook }: OpenStage,
        hierarchy: &Hierarchy,
        plans: &Plans<'_>,
    ) -> Result<Self, RunError> {
        let users = users(plans)?;
        let user = users.first().map_or((0, 0), |user| (user.uid, user.gid));
        let (limits, mut warnings) = limits(plans, hierarchy)?;
        let of_services: Vec<u32> = plans.services.iter().map(|service| service.user.uid).collect();
        let rights = JobRights::settle(plans.job, &users, &of_services, plans.workspace, plans.base)?;
        let nested = rights.any_nested();
        warnings.extend(rights.warnings);
        let mut mounts = Mounts::default();
        mounts.of_the_plan(plans, &users)?;
        let secrets = mounts.of_the_secrets(plans, &users);
        let resolv_conf = resolv_conf(&plans.job.network, outlook.as_ref());
        let tun = nested && mounts.of_sandboxes_inside();
        let shared = mounts.of_the_caches(plans)?;
        let (layer, parts) = layer::plan(&Wishes {
            hostname: &plans.job.hostname,
            mount_points: std::mem::take(&mut mounts.points),
            resolv_conf: resolv_conf.clone(),
            host: plans.rootfs.kind == RootfsKind::Host,
            names: names(plans),
            of_step: true,
        });
        let servants = Servants { zygote, identity: plans.identity, user };
        let skeleton = skeleton::obtain(plans.home, &layer, &servants)?;
        let layers = mounts.of_the_root(plans, &skeleton.path, &parts)?;
        let workspaces = mounts.of_the_workspace(plans, &users)?;
        let scripts = mounts.of_the_scripts(plans);
        let make = |(index, service): (usize, &Service<'_>)| {
            let place = quarters::Place { plans, hierarchy, zygote, resolv_conf: &resolv_conf, index };
            place.furnish(service, rights.services[index], &mut mounts, &mut warnings)
        };
        let quarters = plans.services.iter().enumerate().map(make).collect::<Result<_, _>>()?;
        let processors = Processors::choose(limits.cpus, plans.number);
        let (facts, told) = machine::facts(&processors, &limits);
        mounts.binds.extend(told);
        stage.furnish(&StageSpec {
            sources: mounts.sources,
            scripts,
            scripts_owner: root_outside(plans.identity, user.0),
            facts,
            secrets,
            filters: rights.filters,
            sys_masks: sys_masks(),
            nested,
            shared,
            shared_maps: shared_maps(plans.identity, user),
        })?;
        // Meanwhile the stage works.
        let cgroup = hierarchy.open_run(plans.unit)?;
        let (unmapped, gate) = stage.furnished()?;
        let own = || egress::cgroup(&cgroup, hierarchy, limits.cpus);
        let egress =
            outlook.as_ref().map(|outlook| way_out(zygote, plans, outlook, gate, own()?)).transpose()?;
        let workspace_was_given = unmapped.iter().any(|index| workspaces.contains(index));
        warnings.extend(workspace_was_given.then(|| give_workspace(plans, &users)));
        Ok(Self {
            stage,
            cgroup,
            egress,
            _skeleton: skeleton,
            affinity: processors.affinity(),
            limits,
            users,
            rights: rights.steps,
            tun,
            identity: plans.identity,
            hostname: plans.job.hostname.clone(),
            layers,
            binds: mounts.binds,
            per_user: mounts.per_user,
            topmost: mounts.topmost,
            hand_back: mounts.hand_back,
            since: plans.since,
            scratch: plans.scratch.to_path_buf(),
            workspace_was_given,
            warnings,
            with_secrets: mounts.with_secrets,
            quarters,
        })
    }

    /// Starts to build the sandbox of the step with this index, from 0, for this attempt, from 1. It waits for its go when it
    /// is ready.
    ///
    /// # Errors
    /// The cgroup's or the clone's.
    pub fn prepare(&self, index: usize, attempt: u32) -> Result<Prepared, RunError> {
        let user = self.users.get(index).map_or((0, 0), |user| (user.uid, user.gid));
        let name = match attempt {
            1 => format!("step-{}", index + 1),
            // What is left of the attempt before may still be there.
            _ => format!("step-{}-{attempt}", index + 1),
        };
        let upper = self.scratch.join(&name);
        make_directory(&upper).map_err(RunError::io("create", &upper))?;
        let cgroup = self.cgroup.create(&name, &self.limits)?;
        let rights = self.rights(index);
        let home = rights.nested.then(|| self.nested_home(&upper, user)).transpose()?;
        if let (true, Identity::Root { base }) = (rights.nested, self.identity) {
            cgroup.delegate(base + user.0, base + user.1)?;
        }
        let own = |bind: &Bind| Bind { from: place_for(&bind.from, user), ..bind.clone() };
        // Files of /proc that lie over the kernel's would keep a sandbox inside from having its own.
        let shown = |bind: &&Bind| !rights.nested || !bind.to.starts_with("/proc/");
        let binds = self.binds.iter().filter(shown).cloned();
        let tun = (rights.nested && self.tun).then(|| Bind {
            from: TUN.into(),
            to: TUN_INSIDE.into(),
            directory: false,
        });
        let secrets = secret_files::bind(&self.with_secrets, index);
        let binds = binds
            .chain(self.per_user.iter().map(own))
            .chain(self.topmost.iter().cloned())
            .chain(home)
            .chain(tun)
            .chain(secrets)
            .collect();
        let spec = SandboxSpec {
            hostname: self.hostname.clone(),
            root: "l".to_owned(),
            layers: self.layers,
            upper: Upper::Disk(name),
            binds,
            shm_bytes: self.limits.memory_bytes.map_or(SHM_BYTES, |bytes| bytes / 2),
            affinity: self.affinity.clone(),
            user,
            hand_back: self.hand_back.clone(),
            since: self.since,
            filters: rights.filters,
            nested: rights.nested,
        };
        self.build(&spec, cgroup, upper)
    }

    /// Asks the stage for a sandbox in this cgroup.
    fn build(&self, spec: &SandboxSpec, cgroup: Cgroup, upper: PathBuf) -> Result<Prepared, RunError> {
        let map = |id| step_map(self.identity, id).to_string();
        let single = self.identity == Identity::Single;
        let script = ops::script(spec, map(spec.user.0), map(spec.user.1), single);
        let entry = cgroup.entry()?;
        let into = entry.into.as_ref().map(AsFd::as_fd);
        let sandbox = self.stage.build(script, into, &entry.tasks)?;
        Ok(Prepared { sandbox, cgroup, upper })
    }

    /// The caches below a directory, by their paths relative to it.
    ///
    /// # Errors
    /// When the stage is gone.
    pub fn caches_below(&self, directory: &str) -> Result<Vec<(String, OwnedFd)>, SandboxError> {
        let below = |bind: &Bind| {
            let path = bind.to.strip_prefix(directory)?.strip_prefix('/')?.to_owned();
            Some(self.stage.directory(&bind.from).map(|handle| (path, handle)))
        };
        self.topmost.iter().filter_map(below).collect()
    }

    /// A stream socket of the job's network, not connected; `v6`: of IPv6.
    ///
    /// # Errors
    /// When the kernel has none, or the stage is gone.
    pub fn socket(&self, v6: bool) -> io::Result<OwnedFd> {
        self.stage.socket(v6).map_err(io::Error::other)
    }

    /// What a step may ask of the kernel.
    pub fn rights(&self, index: usize) -> StepRights {
        self.rights.get(index).copied().unwrap_or_default()
    }

    /// A directory of the step's user's own beside its upper directory, for what runners inside keep.
    fn nested_home(&self, upper: &Path, user: (u32, u32)) -> Result<Bind, RunError> {
        let home = upper.join("home");
        make_directory(&home).map_err(RunError::io("create", &home))?;
        if let Identity::Root { .. } = self.identity {
            // Plain ids: the stage maps them.
            std::os::unix::fs::chown(&home, Some(user.0), Some(user.1))
                .map_err(RunError::io("own", &home))?;
        }
        let name = upper.file_name().unwrap_or_default().to_string_lossy();
        Ok(Bind { from: format!("up/{name}/home"), to: NESTED_HOME.into(), directory: true })
    }

    /// The limits as they are applied.
    pub fn limits(&self) -> &CgroupLimits {
        &self.limits
    }

    /// Ends the stage without waiting for its end: nothing more will be prepared.
    pub fn dismiss(&self) {
        self.stage.dismiss();
    }

    /// Waits for the stage's end and the network's, and removes the run's cgroup.
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

/// The job's way to the world. `cgroup`: what its worker may use.
fn way_out(
    zygote: &Zygote,
    plans: &Plans<'_>,
    outlook: &Outlook,
    gate: Vec<OwnedFd>,
    cgroup: Cgroup,
) -> Result<Egress, RunError> {
    Ok(Egress::start(zygote, plans.job, outlook, plans.identity, gate, cgroup)?)
}

/// A stage that makes its namespaces, and what was seen of this machine's network for it.
#[derive(Debug)]
pub struct OpenStage {
    stage: Stage,
    outlook: Option<Outlook>,
}

/// Opens a job's stage before anything but its network is known. Of the rest it guesses what most jobs have: steps that
/// run as root inside, in the directory of the job file.
///
/// # Errors
/// When it cannot be cloned.
pub fn open_stage(
    zygote: &Zygote,
    job: &JobPlan,
    root: &Path,
    identity: Identity,
) -> Result<OpenStage, RunError> {
    let outlook = Outlook::of(job)?;
    let network = match (&job.network, &outlook) {
        (_, Some(outlook)) => Network::Gated(outlook.addresses),
        (PlanNetwork::Host, None) => Network::Host,
        (PlanNetwork::None | PlanNetwork::Services | PlanNetwork::Full | PlanNetwork::Rules(_), None) => {
            Network::Private
        }
    };
    let owner = fs::metadata(root).map_or((0, 0), |found| (found.uid(), found.gid()));
    let layers = layer_map(identity).map(|map| (map.clone(), map));
    let workspace = workspace_map(identity, owner.0, 0).zip(workspace_map(identity, owner.1, 0));
    let opening = StageOpening { network, maps: layers.into_iter().chain(workspace).collect() };
    Ok(OpenStage { stage: Stage::open(zygote, opening)?, outlook })
}

/// What a job with this network finds in resolv.conf.
fn resolv_conf(network: &PlanNetwork, outlook: Option<&Outlook>) -> String {
    match (outlook, network) {
        (Some(outlook), _) => outlook.resolv_conf.clone(),
        (None, PlanNetwork::Host) => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        (None, PlanNetwork::None | PlanNetwork::Services | PlanNetwork::Full | PlanNetwork::Rules(_)) => {
            String::new()
        }
    }
}

/// How the overlays of a job's caches are mounted: as its steps see ids.
fn shared_maps(identity: Identity, user: (u32, u32)) -> SharedMaps {
    let map = |id| step_map(identity, id).to_string();
    let single_id = identity == Identity::Single;
    let inside = if single_id { user } else { (0, 0) };
    SharedMaps { uid_map: map(user.0), gid_map: map(user.1), single_id, inside }
}

/// The names of all services, which everybody in the job's network knows.
fn names(plans: &Plans<'_>) -> Vec<String> {
    plans.services.iter().map(|service| service.plan.name.clone()).collect()
}

/// The stage's name for root inside.
fn root_outside(identity: Identity, user: u32) -> u32 {
    match identity {
        Identity::Root { base } => base,
        // 0 is the caller, who is the step's user; every other id i is i + 1.
        Identity::Subids { .. } if user != 0 => 1,
        Identity::Subids { .. } | Identity::Single => 0,
    }
}

/// A source's place in the stage for one of the users that steps run as: each sees the owner's files as its own.
fn place_for(source: &str, user: (u32, u32)) -> String {
    format!("{source}/{}-{}", user.0, user.1)
}

/// The users that steps run as, each once.
fn distinct(users: &[StepUser]) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    for user in users.iter().map(|user| (user.uid, user.gid)) {
        if !seen.contains(&user) {
            seen.push(user);
        }
    }
    seen
}

/// Settles whom each step runs as.
fn users(plans: &Plans<'_>) -> Result<Vec<StepUser>, RunError> {
    let accounts = Accounts::read(&plans.rootfs.layers);
    let default = plans.rootfs.config.user.as_deref();
    let of_step = |step: &StepPlan| user_of(step.user.as_ref(), default, &accounts);
    let users = plans.job.steps.iter().map(of_step).collect::<Result<Vec<_>, _>>()?;
    let mut ids = users.iter().map(|user| user.uid);
    if let (Identity::Subids { .. } | Identity::Single, Some(first)) = (plans.identity, ids.next())
        && let Some(other) = ids.find(|uid| *uid != first)
    {
        return Err(RunError::Users { first, other });
    }
    Ok(users)
}

/// Whoever was asked for, else the image's user, else root.
pub fn user_of(
    asked: Option<&User>,
    default: Option<&str>,
    accounts: &Accounts,
) -> Result<StepUser, RunError> {
    match (asked, default) {
        (Some(user), _) => settle(user, accounts),
        (None, Some(name)) if !name.is_empty() => from_config(name, accounts),
        (None, _) => Ok(accounts.by_id(0, None)),
    }
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

/// `USER` of an image.
fn from_config(text: &str, accounts: &Accounts) -> Result<StepUser, RunError> {
    let known = || accounts.names().join(", ");
    accounts.by_config(text).ok_or_else(|| RunError::User { name: text.into(), known: known() })
}

fn named(name: &str, accounts: &Accounts) -> Result<StepUser, RunError> {
    accounts
        .by_name(name)
        .ok_or_else(|| RunError::User { name: name.into(), known: accounts.names().join(", ") })
}

/// Fixed masks of /sys, and one per CPU.
fn sys_masks() -> Vec<String> {
    let mut masks: Vec<String> = SYS_MASKS.iter().map(|path| (*path).to_owned()).collect();
    let entries = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_cpu = |name: &String| name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok());
    for name in names.filter(is_cpu) {
        let path = format!("devices/system/cpu/{name}/thermal_throttle");
        if Path::new("/sys").join(&path).is_dir() {
            masks.push(path);
        }
    }
    masks
}

/// Gives the owner's files to the steps' user: the workspace's filesystem takes no id map. Returns what the user should know.
fn give_workspace(plans: &Plans<'_>, users: &[StepUser]) -> Warning {
    if let (Identity::Root { base }, Some(user)) = (plans.identity, users.first()) {
        let rule = Rule::Range(plans.workspace.owner.0, 1);
        let (uid, gid) = (base + user.uid, base + user.gid);
        sweep::to_owner(plans.workspace.handle.as_fd(), &Sweep { rule, since: plans.since, uid, gid });
    }
    let text = format!("the filesystem of {} takes no id maps", plans.workspace.path.display());
    let hint = "its files change owner while steps run; `workspace: copy` avoids that".to_owned();
    (text, Some(hint))
}

/// A directory that only the keeper enters; the stage reaches it by a clone. The caller's umask must not count: init,
/// another user, has to get in.
pub fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
