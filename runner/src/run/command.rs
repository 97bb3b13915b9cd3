//! What a step's process is given: arguments, environment, limits. Values only.

use std::collections::BTreeMap;

use jobs::{Command, JobPlan, Privileges, StepPlan};

use super::layer::{NESTED_HOME, SCRIPTS};
use super::rights::StepRights;
use super::step_files;
use super::users::StepUser;
use super::values::Env;
use crate::sandbox::spec::{Go, Rlimit, Script};

/// Where commands are looked for when neither the image nor the job file says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the workspace is inside.
pub const WORKSPACE: &str = "/workspace";

/// Capabilities of root inside: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE
/// (linux/capability.h). Not SETFCAP: with it a step could store file capabilities in a workspace owned by uid 0 that
/// count on the host. Not MKNOD, NET_RAW, SYS_CHROOT, AUDIT_WRITE, which Docker gives.
pub const ROOT_CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10;

/// Open files, soft and hard, when the job file does not say.
const FILES: (u64, u64) = (1024, 65_536);
/// Locked memory: what io_uring-less databases and GnuPG ask for.
const LOCKED_BYTES: u64 = 8 << 20;
/// Bytes in POSIX message queues: the kernel's default, below which mq_open fails.
const QUEUE_BYTES: u64 = 819_200;

/// What the environment is made of.
#[derive(Debug)]
pub struct Surroundings<'s> {
    /// The run's id.
    pub run: &'s str,
    /// The job's id.
    pub job: &'s str,
    /// The image's own variables.
    pub image: &'s [(String, String)],
    /// CPUs that the step may use.
    pub cpus: u64,
    /// Commit and branch of the workspace.
    pub git: Option<&'s (String, Option<String>)>,
    /// How often it was begun, this time included.
    pub attempt: u32,
    /// The step's secrets that are variables.
    pub secrets: &'s [(String, String)],
}

/// The script files of a job.
pub fn scripts(job: &JobPlan) -> Vec<Script> {
    job.steps
        .iter()
        .filter_map(|step| match &step.command {
            Command::Script { text, suffix, .. } => {
                Some(Script { name: script_name(step, suffix), text: text.clone() })
            }
            Command::Argv(_) | Command::Wait(_) | Command::Cancel(_) | Command::Uses { .. } => None,
        })
        .collect()
}

fn script_name(step: &StepPlan, suffix: &str) -> String {
    format!("{:02}-{}{suffix}", step.index, step.id)
}

/// The arguments of a step.
pub fn argv(step: &StepPlan) -> Vec<String> {
    match &step.command {
        Command::Argv(argv) => argv.clone(),
        Command::Wait(_) | Command::Cancel(_) | Command::Uses { .. } => Vec::new(),
        Command::Script { argv, suffix, .. } => {
            let script = format!("{SCRIPTS}/{}", script_name(step, suffix));
            argv.iter().map(|word| word.replace("{0}", &script)).collect()
        }
    }
}

/// The environment of a step. Nothing of the host's; later layers win: ours, the image's, then `own`, the job file's.
/// `path`: directories for the front of PATH.
pub fn environment(
    step: &StepPlan,
    user: &StepUser,
    around: &Surroundings<'_>,
    own: &Env,
    path: &[String],
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };
    // What the image may know better.
    for (name, value) in
        [("PATH", PATH), ("HOME", &user.home), ("USER", &user.name), ("TZ", "UTC"), ("LANG", "C.UTF-8")]
    {
        set(name, value);
    }
    for (name, value) in around.image {
        set(name, value);
    }
    let (cpus, attempt) = (around.cpus.to_string(), around.attempt.to_string());
    for (name, value) in [
        ("CI", "true"),
        ("RUNNER", "1"),
        ("RUNNER_RUN_ID", around.run),
        ("RUNNER_JOB", around.job),
        ("RUNNER_STEP", &step.id),
        ("RUNNER_ATTEMPT", &attempt),
        ("RUNNER_WORKSPACE", WORKSPACE),
        ("RUNNER_CPUS", &cpus),
    ] {
        set(name, value);
    }
    if step.privileges == Privileges::Nested {
        set("RUNNER_HOME", NESTED_HOME);
    }
    if let Some((commit, branch)) = around.git {
        set("RUNNER_COMMIT", commit);
        set("RUNNER_BRANCH", branch.as_deref().unwrap_or_default());
    }
    for (file, variables) in step_files::FILES {
        for variable in variables {
            set(variable, &step_files::path_of(file));
        }
    }
    for (name, value) in own {
        match value {
            Some(value) => drop(all.insert(name.clone(), value.clone())),
            None => drop(all.remove(name)),
        }
    }
    all.extend(around.secrets.iter().cloned());
    if !path.is_empty() {
        let before = path.join(":");
        let after = all.get("PATH").map_or(String::new(), |after| format!(":{after}"));
        all.insert("PATH".to_owned(), before + &after);
    }
    all
}

/// The environment of a service: what its image says, and over it `own`, the job file's. Nothing of the job's.
pub fn service_environment(
    user: &StepUser,
    image: &[(String, String)],
    own: &Env,
    secrets: &[(String, String)],
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, value) in [("PATH", PATH), ("HOME", &user.home), ("USER", &user.name)] {
        all.insert(name.to_owned(), value.to_owned());
    }
    all.extend(image.iter().cloned());
    for (name, value) in own {
        match value {
            Some(value) => drop(all.insert(name.clone(), value.clone())),
            None => drop(all.remove(name)),
        }
    }
    all.extend(secrets.iter().cloned());
    all
}

/// The go message of a step. `image_workdir`: where the image wants to start, if the workspace is no reason to start there.
/// `single_id`: supplementary groups cannot be set.
pub fn go(
    step: &StepPlan,
    user: &StepUser,
    rights: StepRights,
    environment: &BTreeMap<String, String>,
    image_workdir: Option<&str>,
    files: Option<u64>,
    single_id: bool,
) -> Go {
    let place = working_directory(step.workdir.as_deref().or(image_workdir));
    go_of(argv(step), user, rights, environment, place, files, single_id)
}

/// The go message of a command in this directory.
pub fn go_of(
    argv: Vec<String>,
    user: &StepUser,
    rights: StepRights,
    environment: &BTreeMap<String, String>,
    cwd: String,
    files: Option<u64>,
    single_id: bool,
) -> Go {
    Go {
        candidates: candidates(
            argv.first().map_or("", String::as_str),
            environment.get("PATH").map_or("", |path| path),
        ),
        argv: argv.into_iter().map(String::into_bytes).collect(),
        env: environment.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        cwd: cwd.into_bytes(),
        uid: user.uid,
        gid: user.gid,
        groups: (!single_id).then(Vec::new),
        capabilities: rights.capabilities,
        ambient: rights.ambient,
        rlimits: rlimits(files),
        terminal: false,
    }
}

/// A relative working directory is one of the workspace.
fn working_directory(workdir: Option<&str>) -> String {
    match workdir {
        None => WORKSPACE.to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("{WORKSPACE}/{path}"),
    }
}

/// As execvp(3): a name with a slash is a path; an empty directory of PATH is the working directory.
fn candidates(command: &str, path: &str) -> Vec<Vec<u8>> {
    if command.contains('/') {
        return vec![command.as_bytes().to_vec()];
    }
    path.split(':')
        .map(
            |directory| {
                if directory.is_empty() { command.to_owned() } else { format!("{directory}/{command}") }
            },
        )
        .map(String::into_bytes)
        .collect()
}

/// The limits of a step, none above what this process may set.
fn rlimits(files: Option<u64>) -> Vec<Rlimit> {
    let files = files.map_or(FILES, |files| (files, files));
    [
        // core_pattern is the host's.
        (libc::RLIMIT_CORE, 0, 0),
        (libc::RLIMIT_NOFILE, files.0, files.1),
        (libc::RLIMIT_MEMLOCK, LOCKED_BYTES, LOCKED_BYTES),
        (libc::RLIMIT_MSGQUEUE, QUEUE_BYTES, QUEUE_BYTES),
        (libc::RLIMIT_RTPRIO, 0, 0),
        (libc::RLIMIT_NICE, 0, 0),
    ]
    .into_iter()
    .map(|(resource, soft, hard)| {
        let most = inherited(resource);
        Rlimit { resource, soft: soft.min(most), hard: hard.min(most) }
    })
    .collect()
}

fn inherited(resource: u32) -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    let resource = match resource {
        libc::RLIMIT_CORE => Resource::RLIMIT_CORE,
        libc::RLIMIT_NOFILE => Resource::RLIMIT_NOFILE,
        libc::RLIMIT_MEMLOCK => Resource::RLIMIT_MEMLOCK,
        libc::RLIMIT_MSGQUEUE => Resource::RLIMIT_MSGQUEUE,
        libc::RLIMIT_RTPRIO => Resource::RLIMIT_RTPRIO,
        _ => Resource::RLIMIT_NICE,
    };
    getrlimit(resource).map_or(0, |(_, hard)| hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        let text = |found: Vec<Vec<u8>>| {
            found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(text(candidates("cc", "/a:/b")), ["/a/cc", "/b/cc"]);
        assert_eq!(text(candidates("./cc", "/a:/b")), ["./cc"]);
        assert_eq!(text(candidates("cc", "/a::")), ["/a/cc", "cc", "cc"]);
    }

    #[test]
    fn working_directories_start_at_the_workspace() {
        assert_eq!(working_directory(None), "/workspace");
        assert_eq!(working_directory(Some("sub/dir")), "/workspace/sub/dir");
        assert_eq!(working_directory(Some("/srv")), "/srv");
    }
}
