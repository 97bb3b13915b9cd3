//! The sandbox as data: what a job's stage holds ready, and what one step may see, do and use.
//!
//! Plain values, decided by the keeper. `ops` turns them into a script; nothing here touches the system.

use serde::{Deserialize, Serialize};

use super::ids::IdMap;
use super::sweep::Since;
use crate::network::Addresses;

/// Which network the job's steps see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A namespace of its own with nothing but `lo`.
    Private,
    /// The same, with an interface behind which a gate is: its descriptors come with the stage's answer.
    Gated(Addresses),
    /// The host's.
    Host,
}

/// What a source is, checked on the handle before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory with this identity.
    Directory {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// A regular file, socket or the like with this identity.
    File {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// A character device with these numbers.
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// What happens when the source's filesystem takes no id map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Idmap {
    /// None is wanted.
    None,
    /// Without it the stage fails.
    Required(IdMap, IdMap),
    /// Without it the source is used as it is, and the stage's answer says so.
    Wished(IdMap, IdMap),
}

/// One tree or file of the host that the stage clones and keeps for its sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Canonical path on the host.
    pub path: String,
    /// Where it stands in the stage, without a leading slash: `l/0`, `ws`, `up`, `b/3`, `dev/null`.
    pub at: String,
    /// What the keeper saw there; anything else is refused.
    pub kind: Kind,
    /// Nothing below can be written through this mount.
    pub read_only: bool,
    /// With the mounts below it.
    pub recursive: bool,
    /// Its owners as seen by the steps.
    pub idmap: Idmap,
}

/// What a stage can begin with while the job's image and workspace are still looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageOpening {
    /// Which network.
    pub network: Network,
    /// Id maps, for users and groups, that its sources will most likely have.
    pub maps: Vec<(IdMap, IdMap)>,
}

/// A text that steps find as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// File name.
    pub name: String,
    /// Content.
    pub text: String,
}

/// A secret that the steps of one place find as a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFile {
    /// The directory in the stage's `secrets`.
    pub directory: String,
    /// File name.
    pub name: String,
    /// Content.
    pub value: Vec<u8>,
    /// Whose it is, as the stage sees it: nobody else can read it.
    pub owner: (u32, u32),
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { directory, name, .. } = self;
        f.debug_struct("SecretFile").field("directory", directory).field("name", name).finish_non_exhaustive()
    }
}

/// A text that lies over a file of the kernel's that would be wrong inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// File name in the stage's `facts`.
    pub name: String,
    /// Content.
    pub text: String,
    /// The file of the job's sysfs that it covers, if it belongs there.
    pub over_sys: Option<String>,
}

/// The filters of a step's system calls, as `sock_filter` bytes, to be loaded in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    /// While the step still waits: that takes time, and none of what follows is refused by them.
    pub early: Vec<Vec<u8>>,
    /// As the last thing before its command: they may refuse anything.
    pub late: Vec<Vec<u8>>,
}

/// An overlay that all sandboxes of a job share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedOverlay {
    /// Where it stands in the stage.
    pub at: String,
    /// Places in the stage of its lower directories, the highest first; an empty one if there are none.
    pub lower: Vec<String>,
    /// The place in the stage of a directory with `u` and `w`, both the keeper's.
    pub upper: String,
}

/// The id maps that shared overlays are mounted with: the steps'.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedMaps {
    /// Content of uid_map.
    pub uid_map: String,
    /// Content of gid_map.
    pub gid_map: String,
    /// `setgroups` is denied: the maps hold one id.
    pub single_id: bool,
    /// Whom the mounting process becomes: root inside, or the only id.
    pub inside: (u32, u32),
}

/// Everything else that the sandboxes of one job share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSpec {
    /// Layers `l/N` (highest first), `ws`, `up`, `usr`, `b/N`, `dev/*`.
    pub sources: Vec<Source>,
    /// Executable files in the stage's `scripts`, read-only.
    pub scripts: Vec<Script>,
    /// Who owns them: root inside, as the stage sees it.
    pub scripts_owner: u32,
    /// Readable files in the stage's `facts`, read-only.
    pub facts: Vec<Fact>,
    /// Files in the stage's `secrets`, read-only.
    pub secrets: Vec<SecretFile>,
    /// What steps' system calls pass: each step has one of these.
    pub filters: Vec<Filters>,
    /// Paths below /sys to cover: resolved once, missing ones skipped.
    pub sys_masks: Vec<String>,
    /// Some step may make sandboxes of its own: it gets a /sys without covers.
    pub nested: bool,
    /// Overlays besides the steps' own roots.
    pub shared: Vec<SharedOverlay>,
    /// How those are mounted.
    pub shared_maps: SharedMaps,
}

/// Where the step's writes to its root go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// The directory of this name in the stage's `up`; the keeper made it, empty.
    Disk(String),
    /// A tmpfs of at most this many bytes, charged to the step.
    Memory {
        /// Size limit in bytes.
        bytes: u64,
        /// Inode limit.
        inodes: u64,
    },
}

/// A source put into the step's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Its place in the stage: `ws`, `b/3`, `usr`.
    pub from: String,
    /// Absolute path inside.
    pub to: String,
    /// Whether it is a directory; decides what is made when nothing is there.
    pub directory: bool,
}

/// One sandbox, up to the point where its payload waits for go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Host name inside.
    pub hostname: String,
    /// Where its layers stand in the stage: `l` for `l/0`, the highest, and so on.
    pub root: String,
    /// How many layers stand there.
    pub layers: usize,
    /// Where writes go.
    pub upper: Upper,
    /// Mounts besides the fixed ones.
    pub binds: Vec<Bind>,
    /// Size of /dev/shm in bytes.
    pub shm_bytes: u64,
    /// CPUs that the step may run on; empty leaves what the keeper has.
    pub affinity: Vec<u32>,
    /// The step's user and group inside.
    pub user: (u32, u32),
    /// Absolute paths of the trees that go back to their owner when the keeper dies: what the step can write to of the host.
    pub hand_back: Vec<String>,
    /// When the job began: what has not changed since is left alone.
    pub since: Since,
    /// Which of [`StageSpec::filters`] it has.
    pub filters: usize,
    /// It may make sandboxes of its own.
    pub nested: bool,
}

/// One resource limit (getrlimit(2)), already clamped to what the keeper may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// What the waiting payload still needs to know: it may depend on earlier steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// Paths to try in order: one if the command has a slash, else one per directory of PATH.
    pub candidates: Vec<Vec<u8>>,
    /// Arguments, the first being the command's name.
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value` each.
    pub env: Vec<Vec<u8>>,
    /// Working directory, absolute inside; made when missing.
    pub cwd: Vec<u8>,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups; `None` where `setgroups` is denied to the user namespace.
    pub groups: Option<Vec<u32>>,
    /// Bounding, permitted and effective set, a bit per capability.
    pub capabilities: u64,
    /// Those of them that another user than root keeps through execve (capabilities(7): inheritable and ambient).
    pub ambient: u64,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Standard input is a terminal, which becomes the session's.
    pub terminal: bool,
}
