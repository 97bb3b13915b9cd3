//! The stage: one per job. It holds what all its steps share (a small tree of mounts, the job's network namespace)
//! and clones their sandboxes. PROCESS: children copy its twenty mounts, not the host's.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    CWD, FileType, Gid, Mode, OFlags, RawDir, Uid, fchown, fstat, major, minor, mkdirat, open, openat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{chdir, fchdir, pivot_root, umask};
use rustix::thread::{UnshareFlags, set_name};
use serde::{Deserialize, Serialize};

use super::ids::IdMap;
use super::ops::{STAGE_SYS_BARE, Script};
use super::spec::{Idmap, Kind, Network, Source, StageOpening, StageSpec};
use super::{child, servant, shared, wire};
use crate::network::link::{self, LinkTrouble};
use crate::sys::clone::{self, Holder, Side};
use crate::sys::{mount, process, socket};

/// What a furnished stage is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// A sandbox.
    Sandbox(Build),
    /// A stream socket of the job's network.
    Socket {
        /// Of IPv6.
        v6: bool,
    },
    /// A handle on the directory at this place.
    Directory(String),
}

/// Asks the stage for one sandbox. Descriptors along: control, go, the cgroup directory if `cgroup`, `tasks` files.
#[derive(Debug, Serialize, Deserialize)]
pub struct Build {
    /// What init does.
    pub script: Script,
    /// The third descriptor is the v2 cgroup to be born in.
    pub cgroup: bool,
}

/// What the stage says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The job's mounts and network are there; these sources take no id map.
    ///
    /// With a gate, its descriptors come along: the job's interface, the gate's, the listeners.
    Ready {
        /// Indices into [`StageSpec::sources`].
        unmapped: Vec<usize>,
    },
    /// An init has been cloned; its pidfd comes along.
    Cloned,
    /// What was asked for comes along.
    Made,
    /// This machine has no tun device for the job's interface.
    NoTun {
        /// Fits after "cannot".
        what: String,
        /// Why.
        errno: i32,
    },
    /// It could not be done; a pidfd that comes along is to be reaped.
    Failed {
        /// Fits after "cannot".
        what: String,
        /// Why.
        errno: i32,
    },
}

/// A failure of the stage: what it tried, and why not.
type Trouble = (String, Errno);

/// Shorthand for naming what was tried.
fn tried<T>(what: impl Into<String>, result: Result<T, Errno>) -> Result<T, Trouble> {
    result.map_err(|errno| (what.into(), errno))
}

/// Room for the steps' scripts and for mount points in the job's root. The first are bounded by the job file's size, the
/// second are empty.
const ROOT_BYTES: &str = "32m";
/// Mount points, and one file per script.
const ROOT_INODES: &str = "8192";

/// The stage's life. Returns when the keeper is gone or has dropped the job.
pub fn run(opening: &StageOpening, socket: &OwnedFd) {
    let _cosmetic = set_name(c"runner-stage");
    // Inits, which are other users, walk the directories made here, whatever the caller's umask is.
    umask(Mode::from_raw_mode(0o022));
    let foundation = Foundation::lay(opening);
    let Ok(Some((mut spec, _))) = wire::receive_value::<StageSpec>(socket.as_fd()) else { return };
    let mut foundation = match foundation {
        Ok(foundation) => foundation,
        Err(LinkTrouble { what, errno, no_tun }) => {
            let (what, errno) = (what.into_owned(), errno.raw_os_error());
            let answer = if no_tun { Answer::NoTun { what, errno } } else { Answer::Failed { what, errno } };
            return reply(socket, &answer, &[]);
        }
    };
    match furnish(&mut foundation, &spec) {
        Ok(unmapped) => reply(socket, &Answer::Ready { unmapped }, &foundation.gate),
        Err((what, errno)) => {
            return reply(socket, &Answer::Failed { what, errno: errno.raw_os_error() }, &[]);
        }
    }
    // Each init is a copy of this process. None can be looked into, and none needs to hold them.
    for secret in &mut spec.secrets {
        secret.value.fill(0);
    }
    spec.secrets.clear();
    // The gate's descriptors too: a copy here would keep a dead worker's interfaces alive.
    drop(foundation);
    while let Ok(Some((ask, fds))) = wire::receive_value::<Ask>(socket.as_fd()) {
        let build = match ask {
            Ask::Sandbox(build) => build,
            Ask::Socket { v6 } => {
                hand_over(socket, make_socket(v6));
                continue;
            }
            Ask::Directory(at) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                hand_over(socket, tried(format!("open {at}"), openat(CWD, &at, flags, Mode::empty())));
                continue;
            }
        };
        match clone_init(&spec, &build, &fds) {
            (Some(pidfd), Ok(())) => reply(socket, &Answer::Cloned, &[pidfd]),
            (pidfd, Err((what, errno))) => {
                let pidfd: Vec<OwnedFd> = pidfd.into_iter().collect();
                reply(socket, &Answer::Failed { what, errno: errno.raw_os_error() }, &pidfd);
            }
            (None, Ok(())) => {}
        }
    }
}

/// Hands over what was made, or says why it could not be.
fn hand_over(socket: &OwnedFd, made: Result<OwnedFd, Trouble>) {
    match made {
        Ok(made) => reply(socket, &Answer::Made, &[made]),
        Err((what, errno)) => {
            let errno = errno.raw_os_error();
            reply(socket, &Answer::Failed { what, errno }, &[]);
        }
    }
}

/// A socket belongs to the network namespace in which it was made, whoever uses it.
fn make_socket(v6: bool) -> Result<OwnedFd, Trouble> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    tried("make a socket in the job's network", socket_with(family, SocketType::STREAM, flags, None))
}

fn reply(socket: &OwnedFd, answer: &Answer, fds: &[OwnedFd]) {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let _gone = wire::send_value(socket.as_fd(), answer, &fds);
}

/// What needs neither image nor workspace: the job's namespaces, and mounts that are not attached yet.
struct Foundation {
    root: OwnedFd,
    sys: OwnedFd,
    proc: OwnedFd,
    namespaces: IdNamespaces,
    /// The job's interface, the gate's, the listeners; empty without a gate.
    gate: Vec<OwnedFd>,
}

impl Foundation {
    fn lay(opening: &StageOpening) -> Result<Self, LinkTrouble> {
        let gate = enter_network(opening.network)?;
        Self::lay_mounts(opening, gate).map_err(|(what, errno)| LinkTrouble {
            what: what.into(),
            errno,
            no_tun: false,
        })
    }

    fn lay_mounts(opening: &StageOpening, gate: Vec<OwnedFd>) -> Result<Self, Trouble> {
        let private = opening.network != Network::Host;
        tried("create the job's mount namespace", clone::unshare(UnshareFlags::NEWNS))?;
        let quiet = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        tried("make the job's mount namespace private", mount_change("/", quiet))?;
        if private {
            tried("bring up the loopback interface", socket::loopback_up())?;
            open_ports();
        }
        let mut namespaces = IdNamespaces::default();
        for (uids, gids) in &opening.maps {
            namespaces.get(uids, gids)?;
        }
        let sys = sysfs(private)?;
        // Steps may mount a proc of their own only while one without masks is visible to them.
        let all = tree_flags() | OpenTreeFlags::AT_RECURSIVE;
        let proc = tried("clone /proc", open_tree(CWD, "/proc", all))?;
        Ok(Self { root: new_root()?, sys, proc, namespaces, gate })
    }
}

/// Makes the job's network namespace and moves into it; before it the gate's, which then lives by its descriptors.
fn enter_network(network: Network) -> Result<Vec<OwnedFd>, LinkTrouble> {
    let enter = |what: &'static str| {
        let entered = clone::unshare(UnshareFlags::NEWNET);
        entered.map_err(|errno| LinkTrouble { what: what.into(), errno, no_tun: false })
    };
    match network {
        Network::Host => Ok(Vec::new()),
        Network::Private => enter("create the job's network namespace").map(|()| Vec::new()),
        Network::Gated(addresses) => {
            enter("create the gate's network namespace")?;
            let mut fds = link::make_gate(&addresses)?;
            enter("create the job's network namespace")?;
            fds.insert(0, link::make_way_out(&addresses)?);
            Ok(fds)
        }
    }
}

/// Makes the job's tree of mounts, and moves into it. Returns the sources without an id map.
fn furnish(foundation: &mut Foundation, spec: &StageSpec) -> Result<Vec<usize>, Trouble> {
    let mut unmapped = Vec::new();
    let mut trees = Vec::with_capacity(spec.sources.len());
    for (index, source) in spec.sources.iter().enumerate() {
        let (tree, mapped) = clone_source(source, &mut foundation.namespaces)?;
        if !mapped {
            unmapped.push(index);
        }
        trees.push(tree);
    }
    enter(&foundation.root)?;
    for (source, tree) in spec.sources.iter().zip(&trees) {
        attach(tree, &source.at, matches!(source.kind, Kind::Directory { .. }))?;
    }
    for directory in ["m", "up", "empty"] {
        make_directory(directory)?;
    }
    let empty = tried("clone the empty directory", open_tree(CWD, "empty", tree_flags()))?;
    tried("seal the empty directory", mount::set_attributes(empty.as_fd(), sealed(), false, None))?;
    attach(&empty, "empty", true)?;
    attach(&foundation.proc, "proc", true)?;
    attach(&foundation.sys, "sys", true)?;
    if spec.nested {
        let bare = tried("clone /sys", open_tree(CWD, "sys", tree_flags() | OpenTreeFlags::AT_RECURSIVE))?;
        attach(&bare, STAGE_SYS_BARE, true)?;
    }
    for path in &spec.sys_masks {
        mask(&format!("sys/{path}"))?;
    }
    if !spec.scripts.is_empty() {
        scripts(spec)?;
    }
    if !spec.facts.is_empty() {
        facts(spec)?;
    }
    if !spec.secrets.is_empty() {
        secrets(spec)?;
    }
    tried("change to the job's root", pivot_root(".", "."))?;
    tried("let go of the host's mounts", unmount(".", UnmountFlags::DETACH))?;
    tried("enter the job's root", chdir("/"))?;
    if !spec.shared.is_empty() {
        let mounts = shared::mount_all(&spec.shared, &spec.shared_maps)?;
        for (overlay, tree) in spec.shared.iter().zip(&mounts) {
            attach(tree, &overlay.at, true)?;
        }
    }
    Ok(unmapped)
}

/// Writes the steps' scripts and makes them a read-only mount.
fn scripts(spec: &StageSpec) -> Result<(), Trouble> {
    make_directory("scripts")?;
    let owner = (Uid::from_raw(spec.scripts_owner), Gid::from_raw(spec.scripts_owner));
    for script in &spec.scripts {
        let at = format!("scripts/{}", script.name);
        let file = write_file(&at, script.text.as_bytes(), Mode::from_raw_mode(0o755))?;
        tried(format!("own {at}"), fchown(&file, Some(owner.0), Some(owner.1)))?;
    }
    let executable = sealed() - MountAttrFlags::MOUNT_ATTR_NOEXEC;
    seal_directory("scripts", executable)
}

/// Writes what steps are told of the machine, makes it a read-only mount, and covers what belongs to /sys.
fn facts(spec: &StageSpec) -> Result<(), Trouble> {
    make_directory("facts")?;
    for fact in &spec.facts {
        write_file(&format!("facts/{}", fact.name), fact.text.as_bytes(), Mode::from_raw_mode(0o444))?;
    }
    seal_directory("facts", sealed())?;
    for fact in &spec.facts {
        let Some(path) = &fact.over_sys else { continue };
        let tree = tried("clone a fact", open_tree(CWD, format!("facts/{}", fact.name), tree_flags()))?;
        let moved =
            move_mount(&tree, "", CWD, format!("sys/{path}"), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        tried(format!("cover /sys/{path}"), moved)?;
    }
    Ok(())
}

/// Writes the steps' secrets, each for its step's user alone, and makes them a read-only mount.
fn secrets(spec: &StageSpec) -> Result<(), Trouble> {
    make_directory("secrets")?;
    let mut made: Vec<&str> = Vec::new();
    for secret in &spec.secrets {
        let directory = format!("secrets/{}", secret.directory);
        if !made.contains(&secret.directory.as_str()) {
            made.push(&secret.directory);
            make_directory(&directory)?;
        }
        let at = format!("{directory}/{}", secret.name);
        let file = write_file(&at, &secret.value, Mode::from_raw_mode(0o400))?;
        let (uid, gid) = secret.owner;
        tried(format!("own {at}"), fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))?;
    }
    seal_directory("secrets", sealed())
}

/// A new file of the stage's with this content.
fn write_file(at: &str, text: &[u8], mode: Mode) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = tried(format!("make {at}"), openat(CWD, at, flags, mode))?;
    let mut rest = text;
    while !rest.is_empty() {
        let written = tried(format!("write {at}"), rustix::io::write(&file, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(file)
}

/// Covers a directory with itself as a mount with these attributes.
fn seal_directory(at: &str, attributes: MountAttrFlags) -> Result<(), Trouble> {
    let tree = tried(format!("clone {at}"), open_tree(CWD, at, tree_flags()))?;
    tried(format!("seal {at}"), mount::set_attributes(tree.as_fd(), attributes, false, None))?;
    attach(&tree, at, true)
}

/// No step has a capability over this network namespace, so two sysctls stand in: any port may be bound, and ping
/// works by datagram sockets. A kernel without them changes nothing else.
fn open_ports() {
    let _old_kernel = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    // The range must lie within the group map of the namespace's owner: all, subids, one id.
    let _any = ["0 2147483647", "0 65535", "0 0"]
        .iter()
        .any(|range| std::fs::write("/proc/sys/net/ipv4/ping_group_range", range).is_ok());
}

fn tree_flags() -> OpenTreeFlags {
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC
}

fn sealed() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// Clones a source of the host as a detached mount with its flags and owners; says whether it has the id map.
fn clone_source(source: &Source, namespaces: &mut IdNamespaces) -> Result<(OwnedFd, bool), Trouble> {
    let path = &source.path;
    let mut flags = tree_flags();
    flags.set(OpenTreeFlags::AT_RECURSIVE, source.recursive);
    let tree = tried(format!("clone the mount of {path}"), open_tree(CWD, path.as_str(), flags))?;
    check(source, &tree)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, source.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !matches!(source.kind, Kind::Device { .. }));
    let set = mount::set_attributes(tree.as_fd(), attributes, source.recursive, None);
    tried(format!("set the mount flags of {path}"), set)?;
    let (Idmap::Required(uids, gids) | Idmap::Wished(uids, gids)) = &source.idmap else {
        return Ok((tree, true));
    };
    let namespace = namespaces.get(uids, gids)?;
    let none = MountAttrFlags::empty();
    match (mount::set_attributes(tree.as_fd(), none, source.recursive, Some(namespace)), &source.idmap) {
        (Ok(()), _) => Ok((tree, true)),
        (Err(_), Idmap::Wished(..)) => Ok((tree, false)),
        (Err(errno), Idmap::Required(..) | Idmap::None) => Err((format!("map the owners of {path}"), errno)),
    }
}

/// The path may have changed since the keeper looked: what was cloned must be what it saw.
fn check(source: &Source, tree: &OwnedFd) -> Result<(), Trouble> {
    let path = &source.path;
    let stat = tried(format!("stat {path}"), fstat(tree))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let same = match source.kind {
        Kind::Directory { device, inode } => {
            kind == FileType::Directory && (stat.st_dev, stat.st_ino) == (device, inode)
        }
        Kind::File { device, inode } => {
            kind != FileType::Directory && (stat.st_dev, stat.st_ino) == (device, inode)
        }
        Kind::Device { major: wanted_major, minor: wanted_minor } => {
            kind == FileType::CharacterDevice
                && (major(stat.st_rdev), minor(stat.st_rdev)) == (wanted_major, wanted_minor)
        }
    };
    if same { Ok(()) } else { Err((format!("use {path}: it is not what it was a moment ago"), Errno::STALE)) }
}

/// User namespaces with id maps, as descriptors for idmapped mounts; one per pair of maps.
#[derive(Default)]
struct IdNamespaces {
    made: Vec<(String, OwnedFd)>,
    /// Who held them until they were open; waited for when there is time for it.
    holders: Vec<Holder>,
}

impl IdNamespaces {
    fn get(&mut self, uids: &IdMap, gids: &IdMap) -> Result<BorrowedFd<'_>, Trouble> {
        let (uid_map, gid_map) = (uids.to_string(), gids.to_string());
        let key = format!("{uid_map}|{gid_map}");
        if let Some(found) = self.made.iter().position(|(have, _)| *have == key) {
            return Ok(self.made[found].1.as_fd());
        }
        let (hears, tells) = tried("make a pipe", pipe_with(PipeFlags::CLOEXEC))?;
        let holder = tried("clone a holder of id maps", Holder::start(hears.as_fd(), tells.as_fd()))?;
        let held = std::fs::File::open(format!("/proc/{}/ns/user", holder.pid)).map(OwnedFd::from);
        tried(
            "write the id maps of a mount",
            servant::write_maps(holder.pid, &uid_map, &gid_map, false, tells),
        )?;
        let held = held.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        holder.dismiss();
        self.holders.push(holder);
        self.made.push((key, tried("open a user namespace", held)?));
        Ok(self.made[self.made.len() - 1].1.as_fd())
    }
}

/// sysfs of the job's network namespace; it may be mounted only with rights over that namespace's owner. With the
/// host's network, an ordinary user gets the host's, read-only.
fn sysfs(private: bool) -> Result<OwnedFd, Trouble> {
    let fresh = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, sealed())
    });
    match fresh {
        Err(Errno::PERM) if !private => {
            let flags = tree_flags() | OpenTreeFlags::AT_RECURSIVE;
            let tree = tried("clone /sys", open_tree(CWD, "/sys", flags))?;
            tried("make /sys read-only", mount::set_attributes(tree.as_fd(), sealed(), true, None))?;
            Ok(tree)
        }
        other => tried("mount sysfs", other),
    }
}

/// The tmpfs that becomes the job's root, not attached yet.
fn new_root() -> Result<OwnedFd, Trouble> {
    let context = tried("open a tmpfs", fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC))?;
    for (key, value) in [("mode", "0755"), ("size", ROOT_BYTES), ("nr_inodes", ROOT_INODES)] {
        tried("configure the job's root", fsconfig_set_string(&context, key, value))?;
    }
    tried("create the job's root", fsconfig_create(&context))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    tried("mount the job's root", fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes))
}

/// The root becomes the working directory; `furnish` pivots into it when it is furnished.
fn enter(root: &OwnedFd) -> Result<(), Trouble> {
    // Any directory serves as mount point in this private namespace; /proc has been cloned already.
    let moved = move_mount(root, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    tried("attach the job's root", moved)?;
    tried("enter the job's root", fchdir(root))
}

/// Attaches a detached mount at a path of the new root, whose mount point is made.
fn attach(tree: &OwnedFd, at: &str, directory: bool) -> Result<(), Trouble> {
    for (end, _) in at.match_indices('/') {
        make_directory(&at[..end])?;
    }
    if directory {
        make_directory(at)?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        tried(format!("make a mount point {at}"), openat(CWD, at, flags, Mode::from_raw_mode(0o644)))?;
    }
    let moved = move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    tried(format!("attach {at}"), moved)
}

fn make_directory(at: &str) -> Result<(), Trouble> {
    match mkdirat(CWD, at, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err((format!("make a mount point {at}"), errno)),
    }
}

/// Covers a directory with the empty one, unless it is known to have nothing to hide.
fn mask(at: &str) -> Result<(), Trouble> {
    match open(at, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Ok(directory) if is_empty(&directory) => return Ok(()),
        // A rootless stage may not look into the host's: covered all the same.
        Ok(_) | Err(_) => {}
    }
    let empty = tried("clone the empty directory", open_tree(CWD, "empty", tree_flags()))?;
    let moved = move_mount(&empty, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    tried(format!("hide /{at}"), moved)
}

fn is_empty(directory: &OwnedFd) -> bool {
    let mut buffer = Vec::with_capacity(1024);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = 0;
    while let Some(entry) = entries.next() {
        if entry.is_err() {
            return false;
        }
        names += 1;
    }
    // Every directory lists itself and the one above.
    names <= 2
}

/// Clones an init into all its namespaces but the network's, which it inherits, and writes its maps. The pidfd
/// comes back even when the maps failed: the keeper must reap it.
fn clone_init(spec: &StageSpec, build: &Build, fds: &[OwnedFd]) -> (Option<OwnedFd>, Result<(), Trouble>) {
    let (control, go, cgroup, tasks) = match (build.cgroup, fds) {
        (true, [control, go, cgroup, tasks @ ..]) => (control, go, Some(cgroup.as_fd()), tasks),
        (false, [control, go, tasks @ ..]) => (control, go, None, tasks),
        _ => return (None, Err(("read the request".into(), Errno::BADMSG))),
    };
    let (hears, tells) = match pipe_with(PipeFlags::CLOEXEC) {
        Ok(pipe) => pipe,
        Err(errno) => return (None, Err(("make a pipe".into(), errno))),
    };
    let flags =
        clone::PARENT | clone::NEW_USER | clone::NEW_PID | clone::NEW_MOUNT | clone::NEW_IPC | clone::NEW_UTS;
    match clone::clone(flags, cgroup) {
        Err(errno) => (None, Err(("clone a process into new namespaces".into(), errno))),
        Ok(Side::Parent(pid, pidfd)) => {
            let script = &build.script;
            let maps = servant::write_maps(pid, &script.uid_map, &script.gid_map, script.single_id, tells);
            (Some(pidfd), tried("write the step's id maps", maps))
        }
        Ok(Side::Child) => {
            let mut keep = vec![0, 1, 2, control.as_raw_fd(), go.as_raw_fd(), hears.as_raw_fd()];
            keep.extend(tasks.iter().map(AsRawFd::as_raw_fd));
            keep.sort_unstable();
            let _kept = process::close_all_but(&keep);
            child::run(&child::Inheritance {
                script: &build.script,
                filters: spec.filters.get(build.script.filters),
                control,
                go,
                maps: &hears,
                tasks,
            })
        }
    }
}
