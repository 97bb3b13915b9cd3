//! `SandboxSpec -> Script`: what init does, in order, as data. Pure; `child` interprets it.

use std::ffi::CString;

use super::spec::{Bind, SandboxSpec, Upper};
use super::sweep::Since;
use serde::{Deserialize, Serialize};

/// One operation of init. Paths are relative to the stage's root or to the new root; `child` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Writes `0` to each `tasks` file received (cgroup v1).
    EnterCgroups,
    /// A cgroup namespace whose root is the step's cgroup: only after entering it.
    UnshareCgroup,
    /// Waits until the stage has written the id maps.
    AwaitMaps,
    /// Takes ids 0 inside; a single id takes the step's own.
    TakeIds(u32, u32),
    /// `PR_SET_DUMPABLE=0`: from here on nobody inside can read or trace init.
    Hide,
    /// `setsid` and an anonymous session keyring.
    NewSession,
    /// Keeps the process and its children to these CPUs.
    Affinity(Vec<u32>),
    /// No mount event leaves or enters.
    PrivateMounts,
    /// Makes `u` and `w` below this directory of the stage.
    DiskUpper(CString),
    /// Mounts a tmpfs with these options on the stage's `up`, and makes `u` and `w` there.
    MemoryUpper(CString),
    /// Mounts the overlay with these options on the stage's `m`, and checks that it is writable.
    Root(CString),
    /// Mounts a new proc on `proc`.
    Proc,
    /// Makes a path below the new root read-only, by a clone over itself; missing is fine.
    ReadOnly(CString),
    /// Covers a file or directory below the new root; missing is fine.
    Mask(CString),
    /// Attaches the stage's sysfs, from this place in it, on `sys`.
    Sys(CString),
    /// Mounts the step's own cgroup on `sys/fs/cgroup` (cgroup v2; missing is fine).
    Cgroup,
    /// Mounts `dev` with its nodes, pts, shm (bytes) and mqueue.
    Dev(u64),
    /// Attaches a stage's source at a path below the new root, made if missing.
    Bind {
        /// In the stage.
        from: CString,
        /// Below the new root, relative.
        to: CString,
        /// Kind of mount point to make.
        directory: bool,
    },
    /// `pivot_root(".", ".")` into the new root, and the old one detached.
    PivotRoot,
    /// Sets the host name.
    Hostname(String),
}

/// All that init needs. Made by the keeper, carried by the stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// In order.
    pub ops: Vec<Op>,
    /// Content of uid_map.
    pub uid_map: String,
    /// Content of gid_map.
    pub gid_map: String,
    /// `setgroups` is denied: the maps hold one id.
    pub single_id: bool,
    /// What to hand back when the keeper is gone.
    pub sweep: HandBack,
    /// Which of the stage's filters the payload loads.
    pub filters: usize,
}

/// Trees that init hands to their owner, the step's user, if nobody else can do it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandBack {
    /// Absolute paths inside: the workspace and other writable mounts.
    pub paths: Vec<CString>,
    /// The step's user and group inside.
    pub user: (u32, u32),
    /// When the job began.
    pub since: Since,
}

/// Read-only below /proc: they are not namespaced, and root inside could write some.
const PROC_READ_ONLY: [&str; 6] =
    ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", "proc/mtrr"];

/// Hidden below /proc: the host's boot options (some hold secrets), hardware, memory layout, timers, locks and keys.
const PROC_MASKS: [&str; 19] = [
    "proc/acpi",
    "proc/asound",
    "proc/cmdline",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/kmsg",
    "proc/kpagecgroup",
    "proc/kpagecount",
    "proc/kpageflags",
    "proc/latency_stats",
    "proc/locks",
    "proc/sched_debug",
    "proc/scsi",
    "proc/slabinfo",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/vmallocinfo",
    "proc/vmcore",
];

/// Hidden below /sys, once per job, by the stage.
pub const SYS_MASKS: [&str; 8] = [
    "devices/virtual/powercap",
    "firmware",
    "fs/bpf",
    "fs/cgroup",
    "kernel/debug",
    "kernel/security",
    "kernel/tracing",
    "module",
];

/// Where the stage keeps its sysfs without covers, if a step needs it.
pub const STAGE_SYS_BARE: &str = "bare-sys";

/// Turns a sandbox's description into init's script. The id maps are the caller's.
pub fn script(spec: &SandboxSpec, uid_map: String, gid_map: String, single_id: bool) -> Script {
    let inside = if single_id { spec.user } else { (0, 0) };
    let mut ops = vec![
        Op::EnterCgroups,
        Op::UnshareCgroup,
        Op::AwaitMaps,
        Op::TakeIds(inside.0, inside.1),
        Op::Hide,
        Op::NewSession,
    ];
    if !spec.affinity.is_empty() {
        ops.push(Op::Affinity(spec.affinity.clone()));
    }
    ops.push(Op::PrivateMounts);
    ops.extend(root(spec));
    ops.push(Op::Proc);
    if spec.nested {
        // The kernel grants a new proc or sysfs only to who sees one without covers. Both show a user namespace's root no more
        // than any user of the machine.
        ops.extend([Op::Sys(c_string(STAGE_SYS_BARE)), Op::Cgroup]);
    } else {
        ops.extend(PROC_READ_ONLY.iter().map(|path| Op::ReadOnly(c_string(path))));
        ops.extend(PROC_MASKS.iter().map(|path| Op::Mask(c_string(path))));
        ops.push(Op::Sys(c_string("sys")));
    }
    ops.push(Op::Dev(spec.shm_bytes));
    ops.extend(spec.binds.iter().map(bind));
    ops.push(Op::PivotRoot);
    ops.push(Op::Hostname(spec.hostname.clone()));
    let paths = spec.hand_back.iter().map(|path| c_string(path)).collect();
    let sweep = HandBack { paths, user: spec.user, since: spec.since };
    Script { ops, uid_map, gid_map, single_id, sweep, filters: spec.filters }
}

/// The overlay. `volatile`: its writes are thrown away, so nothing is synced at umount. `userxattr`: the only
/// form of overlay xattrs that a user namespace may write.
fn root(spec: &SandboxSpec) -> [Op; 2] {
    let layers: Vec<String> = (0..spec.layers).map(|n| format!("/{}/{n}", spec.root)).collect();
    let (upper, place) = match &spec.upper {
        Upper::Disk(name) => (Op::DiskUpper(c_string(&format!("up/{name}"))), format!("/up/{name}")),
        Upper::Memory { bytes, inodes } => (
            Op::MemoryUpper(c_string(&format!("size={bytes},nr_inodes={inodes},mode=700"))),
            "/up".to_owned(),
        ),
    };
    let options = format!(
        "lowerdir={},upperdir={place}/u,workdir={place}/w,userxattr,volatile,index=off,xino=off",
        layers.join(":")
    );
    [upper, Op::Root(c_string(&options))]
}

fn bind(bind: &Bind) -> Op {
    Op::Bind {
        from: c_string(&bind.from),
        to: c_string(bind.to.trim_start_matches('/')),
        directory: bind.directory,
    }
}

/// A path as the kernel takes it. Paths come from the parser and the keeper, which refuse NUL.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

impl Op {
    /// What the operation does, for an error message: fits after "cannot".
    pub fn describe(&self) -> String {
        let path = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Self::EnterCgroups => "enter the step's cgroups".into(),
            Self::UnshareCgroup => "create the cgroup namespace".into(),
            Self::AwaitMaps => "get the user namespace's id maps".into(),
            Self::TakeIds(uid, gid) => format!("become {uid}:{gid} inside the user namespace"),
            Self::Hide => "make init unreadable".into(),
            Self::NewSession => "start a new session".into(),
            Self::Affinity(cpus) => format!("keep to the CPUs {cpus:?}"),
            Self::PrivateMounts => "make the mount namespace private".into(),
            Self::DiskUpper(_) | Self::MemoryUpper(_) => "make the upper directory".into(),
            Self::Root(options) => format!("mount the overlay root ({})", path(options)),
            Self::Proc => "mount /proc".into(),
            Self::ReadOnly(at) => format!("make /{} read-only", path(at)),
            Self::Mask(at) => format!("hide /{}", path(at)),
            Self::Sys(_) => "attach /sys".into(),
            Self::Cgroup => "mount the step's cgroup".into(),
            Self::Dev(_) => "make /dev".into(),
            Self::Bind { to, .. } => format!("mount /{}", path(to)),
            Self::PivotRoot => "change to the new root".into(),
            Self::Hostname(name) => format!("set the host name `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            hostname: "runner".into(),
            root: "l".into(),
            layers: 2,
            upper: Upper::Disk("ab12".into()),
            binds: vec![Bind { from: "ws".into(), to: "/workspace".into(), directory: true }],
            shm_bytes: 64 << 20,
            affinity: vec![],
            user: (0, 0),
            hand_back: vec!["/workspace".into()],
            since: Since::EVER,
            filters: 0,
            nested: false,
        }
    }

    fn position(script: &Script, wanted: impl Fn(&Op) -> bool) -> usize {
        script.ops.iter().position(wanted).expect("the script has it")
    }

    #[test]
    fn the_cgroup_namespace_comes_after_the_cgroup_and_hiding_after_the_maps() {
        let script = script(&spec(), "0 1 1\n".into(), "0 1 1\n".into(), false);
        assert!(
            position(&script, |o| *o == Op::EnterCgroups) < position(&script, |o| *o == Op::UnshareCgroup)
        );
        assert!(position(&script, |o| *o == Op::AwaitMaps) < position(&script, |o| *o == Op::Hide));
        assert_eq!(script.sweep.paths, [c"/workspace".to_owned()]);
    }

    #[test]
    fn masks_come_after_proc_and_everything_before_pivot_root() {
        let script = script(&spec(), String::new(), String::new(), false);
        let proc = position(&script, |o| *o == Op::Proc);
        let pivot = position(&script, |o| *o == Op::PivotRoot);
        for (index, op) in script.ops.iter().enumerate() {
            if matches!(op, Op::Mask(_) | Op::ReadOnly(_) | Op::Bind { .. }) {
                assert!(proc < index && index < pivot, "{op:?}");
            }
        }
    }

    #[test]
    fn a_step_with_sandboxes_of_its_own_has_nothing_covered() {
        let nested = script(&SandboxSpec { nested: true, ..spec() }, String::new(), String::new(), false);
        let covers = |op: &&Op| matches!(op, Op::Mask(_) | Op::ReadOnly(_));
        assert_eq!(nested.ops.iter().filter(covers).count(), 0);
        assert!(nested.ops.contains(&Op::Cgroup) && nested.ops.contains(&Op::Sys(c"bare-sys".to_owned())));
        let plain = script(&spec(), String::new(), String::new(), false);
        assert!(plain.ops.contains(&Op::Sys(c"sys".to_owned())) && !plain.ops.contains(&Op::Cgroup));
    }

    #[test]
    fn the_overlay_names_every_layer_and_both_upper_directories() {
        let script = script(&spec(), String::new(), String::new(), false);
        let Op::Root(options) = &script.ops[position(&script, |o| matches!(o, Op::Root(_)))] else {
            panic!()
        };
        let expected =
            "lowerdir=/l/0:/l/1,upperdir=/up/ab12/u,workdir=/up/ab12/w,userxattr,volatile,index=off,xino=off";
        assert_eq!(options.to_str(), Ok(expected));
    }
}
